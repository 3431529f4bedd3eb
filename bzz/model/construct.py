"""Instances of documents as mongoengine's constructor makes them, in a quarter of its time.

mongoengine sets every field through its descriptors, twice. Here the plan of a class is made once: most
fields go straight into ``_data``, those with a descriptor of their own through it. A class with a constructor
of its own, and anybody who listens to mongoengine's ``pre_init`` or ``post_init``, gets the real one.
"""

from __future__ import annotations

import datetime as dt
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bson import SON, ObjectId
from mongoengine import EmbeddedDocument, fields, signals
from mongoengine.base import BaseDocument, BaseField, ComplexBaseField

from bzz.model.field import FieldSpec
from bzz.model.schema import Schema

__all__ = ["construct", "filled", "is_plain", "reconstruct"]

_plans: dict[Schema, _Plan] = {}
_put = object.__setattr__


class _Plan:
    """How the instances of one class are made.

    ``direct`` has (name, field, has a default) for fields whose values go into ``_data`` as they are, and
    ``fill`` puts them there; ``descriptors`` has (name, field) for the others. ``refill`` does the same with
    what is stored. ``filled`` are the fields that may get a value although none was given.
    """

    def __init__(self, schema: Schema) -> None:
        model = schema.model
        self.embedded = issubclass(model, EmbeddedDocument)
        self.direct: list[tuple[str, Any, bool]] = []
        self.descriptors: list[tuple[str, Any]] = []
        for name, field in model._fields.items():
            if name != "_cls":
                if _is_direct(field):
                    self.direct.append((name, field, field.default is not None and not field.null))
                else:
                    self.descriptors.append((name, field))
        self.fill = _generate(model._class_name, self.direct)
        self.refill = _generate(model._class_name, self.direct, schema.fields)
        empty = {name for name, _, has_default in self.direct if not has_default}
        self.filled = [(name, spec) for name, spec in schema.fields.items() if name not in empty]
        self.displays = any(field.choices for field in model._fields.values())
        self.plain = (
            model.__init__ in (BaseDocument.__init__, EmbeddedDocument.__init__)
            and model.__new__ is object.__new__
            and model.__setattr__ is BaseDocument.__setattr__
            and not model.STRICT
            and not model._dynamic
            and all(inspect.getattr_static(model, name) is field for name, field in model._fields.items())
        )

    @property
    def constructs(self) -> bool:
        """Whether nobody would miss the constructor of the class."""
        return self.plain and not signals.pre_init.receivers and not signals.post_init.receivers

    @classmethod
    def of(cls, schema: Schema) -> _Plan:
        plan = _plans.get(schema)
        return plan if plan is not None else _plans.setdefault(schema, cls(schema))


# Values that no document can own, of which most consist.
_SCALARS = frozenset({str, int, float, bool, type(None), ObjectId, dt.datetime})


def _generate(
    class_name: str, direct: list[tuple[str, Any, bool]], specs: Mapping[str, FieldSpec] | None = None
) -> Callable[..., None]:
    """Write and compile the assignments to ``data`` of all direct fields: a third of the time of a loop.

    With ``specs`` the values are stored ones, which ``revived(spec, value)`` makes typed. The source holds
    names from the model (as literals) and nothing from anybody else.
    """
    lines = ["def fill(document, data, get, revived=None):"]
    namespace: dict[str, Any] = {"own": _own, "default_of": _default_of, "scalars": _SCALARS}
    for number, (name, field, has_default) in enumerate(direct):
        spec = specs[name] if specs else None
        if spec is None:
            lines.append(f"    v = get({name!r})")
        else:
            namespace[f"s{number}"], namespace[f"p{number}"] = spec, spec.plain
            lines.append(f"    v = get({spec.db_name!r})")
            lines.append(f"    if v is not None and v.__class__ not in p{number}: v = revived(s{number}, v)")
        if has_default:
            namespace[f"f{number}"] = field
            lines.append(f"    if v is None: v = default_of(f{number})")
        lines.append("    if v.__class__ not in scalars: own(document, v)")
        lines.append(f"    data[{name!r}] = v")
    lines.append("    return")
    exec(compile("\n".join(lines), f"<fields of {class_name}>", "exec"), namespace)  # noqa: S102 - see above
    fill: Callable[..., None] = namespace["fill"]
    return fill


def _default_of(field: Any) -> Any:
    return field.default() if callable(field.default) else field.default


def _is_direct(field: Any) -> bool:
    """Whether assigning does nothing but apply the default and tell embedded documents their owner."""
    cls = type(field)
    if cls.__set__ is ComplexBaseField.__set__:
        return not isinstance(field.field, fields.EnumField)
    return cls.__set__ in (BaseField.__set__, fields.SequenceField.__set__)


def construct(schema: Schema, values: Mapping[str, Any], *, created: bool) -> Any:
    """Make an instance of the class with these typed values of declared fields; defaults fill the rest."""
    plan = _Plan.of(schema)
    if not plan.constructs:
        return schema.model(**values, __auto_convert=False, _created=created)
    document, data = _begin(schema)
    plan.fill(document, data, values.get)
    for name, field in plan.descriptors:
        field.__set__(document, values[name] if name in values else field.__get__(document, schema.model))
    return _end(schema, plan, document, created)


def reconstruct(schema: Schema, stored: Mapping[str, Any], revived: Callable[[FieldSpec, Any], Any]) -> Any:
    """Make an instance from what is stored under the names of declared fields; None where it takes more.

    ``revived`` makes a stored value that is not null a typed one.
    """
    plan = _Plan.of(schema)
    if not plan.constructs or plan.descriptors:
        return None
    document, data = _begin(schema)
    plan.refill(document, data, stored.get, revived)
    document = _end(schema, plan, document, False)
    _put(document, "_changed_fields", [])
    return document


def _begin(schema: Schema) -> tuple[Any, dict[str, Any]]:
    model = schema.model
    document = model.__new__(model)
    data: dict[str, Any] = {}
    _put(document, "_initialised", False)
    _put(document, "_created", True)
    _put(document, "_data", data)
    _put(document, "_dynamic_fields", SON.__new__(SON))  # all of an empty one; its __init__ is half the time
    return document, data


def _end(schema: Schema, plan: _Plan, document: Any, created: bool) -> Any:
    _put(document, "_cls", schema.class_name)
    if plan.displays:
        document._BaseDocument__set_field_display()
    if plan.embedded:
        _put(document, "_instance", None)
        _put(document, "_changed_fields", [])
    _put(document, "_initialised", True)
    _put(document, "_created", created)
    return document


def filled(schema: Schema) -> Iterable[tuple[str, FieldSpec]]:
    """Return the fields, with their names, that have a value in a new instance although none was given."""
    plan = _Plan.of(schema)
    return plan.filled if plan.constructs else schema.fields.items()


def is_plain(schema: Schema) -> bool:
    """Tell whether nothing but mongoengine's own code makes the instances of this class."""
    return _Plan.of(schema).plain


def _own(document: Any, value: Any) -> None:
    if isinstance(value, EmbeddedDocument):
        value._instance = weakref.proxy(document)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, EmbeddedDocument):
                item._instance = weakref.proxy(document)
