"""One field of a model: how its values travel between JSON, mongoengine and MongoDB.

A :class:`FieldSpec` is made once per field. For every class of mongoengine field a subclass is registered
with :func:`describes`; a user's own field class is described by the closest one in its MRO, and its own
``to_python``, ``to_mongo`` and ``validate`` stay in force (:class:`CustomSpec`).

Five forms of one value, all named the same everywhere in this room:

``json``    what a client sends and gets;
``typed``   what mongoengine wants on a document (``instance.field = typed``);
``stored``  what MongoDB keeps, as the driver returns it;
``loaded``  plain Python for diffs, see :mod:`bzz.model.diff`;
``text``    what forms, queries and URLs hold: strings only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pymongo.errors
from mongoengine.base import BaseField

from bzz.errors import BzzError, FieldError
from bzz.model.body import Number
from bzz.model.refusal import child, flatten, refuse
from bzz.model.storable import check_storable
from bzz.model.untyped import fresh, normalize

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source
    from bzz.model.schema import Schema

__all__ = ["CustomSpec", "FieldSpec", "describes", "known_class", "spec_for"]

_FROM_JSON = frozenset({str, int, float, Number, bool, list, dict})
_SPECS: dict[type, type[FieldSpec]] = {}


class FieldSpec:
    """How the values of one mongoengine field travel.

    ``encoder`` is what the compiled codec calls for a stored value that is not null; None means that the
    stored form is JSON already. ``pointer`` leads to the field from the document that it stands in.
    """

    ordered = True  # lt, lte, gt, gte have a meaning
    textual = False  # startswith has one
    comparable = True  # eq, ne, in, nin have one
    repeatable = False  # several texts make one value
    compound = False  # values have parts that travel as fields of their own
    query_suffix = ""  # what a filter appends to the database path
    plain: frozenset[type] = frozenset()  # values of exactly these types are stored as they are typed

    def __init__(self, field: Any, name: str | None = None) -> None:
        self.field = field
        self.name: str = name or field.name or ""
        self.db_name: str = field.db_field or self.name
        self.pointer = child("", self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {type(self.field).__name__}>"

    @property
    def embedded(self) -> Schema | None:
        """The schema of the embedded document that this field holds, None for any other field."""
        return None

    @property
    def item(self) -> FieldSpec | None:
        """How the items of a list or a map travel, None for any other field and for untyped items."""
        return None

    @property
    def candidates(self) -> Sequence[Schema]:
        """The schemas that a generic embedded field names in its choices."""
        return ()

    @property
    def target(self) -> Any:
        """The model that a reference points to, None for anything else."""
        return None

    @property
    def required(self) -> bool:
        """Whether the field must have a value."""
        return bool(self.field.required)

    @property
    def automatic(self) -> bool:
        """Whether the server makes the value up when there is none (a sequence)."""
        return bool(self.field._auto_gen)

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        """The function that the compiled codec calls; None where the stored form is JSON."""
        return self.encode

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        """Yield how compiled encoders write the stored value that a variable holds, by its exact type.

        Each expression gives what ``encoder`` does, in less time. Of types that belong to the field only.
        """
        yield from ()

    def decode(self, value: Any, pointer: str) -> Any:
        """Turn a client's JSON value (never null) into a typed one; raises ValidationError. No I/O."""
        raise NotImplementedError

    def take(self, value: Any, pointer: str) -> Any:
        """Decode a value of a body; null is None.

        What JSON cannot hold was put there by a receiver, not by a client, and is typed already.
        """
        if value is None or type(value) not in _FROM_JSON:
            return value
        return self.decode(value, pointer)

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        """Turn strings of a form or a query into a typed value; ``""`` is None unless it is a text field."""
        if len(texts) != 1:
            raise refuse(pointer, "expected one value, not several")
        if texts[0] == "" and not self.textual:
            return None
        return self.from_text(texts[0], pointer)

    def from_text(self, text: str, pointer: str) -> Any:
        """Turn one string into a typed value; raises ValidationError."""
        return self.decode(text, pointer)

    def store(self, value: Any) -> Any:
        """Turn a typed value (never None) into the stored one, in the form the driver gives back."""
        return normalize(self.field.to_mongo(value))

    def load(self, stored: Any) -> Any:
        """Turn a stored value (never None) into a fresh loaded one."""
        return self.field.to_python(stored)

    def revive(self, stored: Any) -> Any:
        """Turn a stored value (never None) into a typed one without any I/O."""
        return self.field.to_python(stored)

    def encode(self, stored: Any) -> Any:
        """Turn a stored value (never None) into JSON; what does not fit the field goes out as untyped."""
        raise NotImplementedError

    def encode_loaded(self, loaded: Any) -> Any:
        """Turn a loaded value (never None) into the JSON that :meth:`encode` gives for the stored one."""
        return self.encode(loaded)

    def validate(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        """Collect what the field's own validators and MongoDB have against a typed value (never None)."""
        try:
            self.field._validate(value)
        except (BzzError, pymongo.errors.PyMongoError):
            raise  # a veto, or a database out of reach, says nothing about the value
        except Exception as error:  # a user's validator may fail in any way; the value is what it refused
            errors.extend(flatten(error, pointer, value))
        else:
            self.check(value, pointer, errors)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        """Collect what MongoDB cannot keep of a typed value that the validators accept."""

    def query(self, value: Any) -> tuple[str, Any]:
        """Return what is appended to the database path in a filter, and the value to compare with."""
        return self.query_suffix, self.store(value)

    def default(self) -> Any:
        """Return what mongoengine sets instead of None, None if nothing; fresh at every call."""
        if self.field.null or self.field.default is None:
            return None
        default = self.field.default
        return default() if callable(default) else copy.deepcopy(default)


class CustomSpec(FieldSpec):
    """A user's field class: JSON as the class it derives from, everything else as written there.

    Of lists, embedded documents and references, the parts still travel as their own fields say.
    """

    def __init__(self, field: Any, origin: FieldSpec) -> None:
        super().__init__(field, origin.name)
        self.origin = origin
        known = known_class(field)
        self._reads = type(field).to_python is not known.to_python
        self._writes = type(field).to_mongo is not known.to_mongo
        self.ordered, self.textual = origin.ordered, origin.textual
        self.repeatable, self.query_suffix = origin.repeatable, origin.query_suffix
        # A class that knows only BaseField says itself what a text means.
        self.comparable = origin.comparable or known is BaseField

    @property
    def item(self) -> FieldSpec | None:
        return self.origin.item

    @property
    def target(self) -> Any:
        return self.origin.target

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return self.origin.encoder

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        return self.origin.written(source, name)

    def decode(self, value: Any, pointer: str) -> Any:
        return self._convert(self.origin.decode(value, pointer), pointer)

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        value = self.origin.decode_text(texts, pointer)
        return None if value is None else self._convert(value, pointer)

    def store(self, value: Any) -> Any:
        return super().store(value) if self._writes else self.origin.store(value)

    def load(self, stored: Any) -> Any:
        if self.origin.compound or not self._reads:
            return self.origin.load(stored)
        return self.field.to_python(fresh(stored))

    def revive(self, stored: Any) -> Any:
        if not self._reads:
            return self.origin.revive(stored)
        return self.field.to_python(self.origin.revive(stored) if self.origin.compound else fresh(stored))

    def encode(self, stored: Any) -> Any:
        return self.origin.encode(stored)

    def encode_loaded(self, loaded: Any) -> Any:
        if self.origin.compound:
            return self.origin.encode_loaded(loaded)
        return self.origin.encode(self.store(loaded))

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        try:
            stored = self.store(value)
        except Exception as error:  # a user's to_mongo may fail in any way
            errors.extend(flatten(error, pointer, value))
        else:
            check_storable(stored, pointer, errors)

    def query(self, value: Any) -> tuple[str, Any]:
        return self.origin.query(value) if self.query_suffix else super().query(value)

    def _convert(self, value: Any, pointer: str) -> Any:
        if not self._reads:
            return value
        try:
            return self.field.to_python(value)
        except Exception as error:  # a user's to_python may fail in any way; the value is what it refused
            first, *_ = flatten(error, pointer, value)
            raise refuse(first.pointer, first.detail) from None


def describes(*classes: Any) -> Callable[[type[FieldSpec]], type[FieldSpec]]:
    """Register the decorated spec class for these mongoengine field classes."""

    def register(spec: type[FieldSpec]) -> type[FieldSpec]:
        _SPECS.update(dict.fromkeys(classes, spec))
        return spec

    return register


def known_class(field: Any) -> Any:
    """Return the class, the field's own or the closest above it, that this room knows by heart."""
    return next(cls for cls in type(field).__mro__ if cls in _SPECS)


def spec_for(field: BaseField, name: str | None = None) -> FieldSpec:
    """Describe one mongoengine field."""
    cls = known_class(field)
    spec = _SPECS[cls](field, name)
    mine = type(field)
    if mine is cls:
        return spec
    changed = any(getattr(mine, method) is not getattr(cls, method) for method in ("to_python", "to_mongo"))
    return CustomSpec(field, spec) if changed else spec
