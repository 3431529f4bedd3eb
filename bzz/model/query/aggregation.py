"""Named aggregations: pipelines that a developer wrote, and typed values for them that a client gives."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from bson import ObjectId
from mongoengine import fields
from mongoengine.base import BaseField

from bzz.errors import FieldError, QueryError, ValidationError
from bzz.model.field import FieldSpec, spec_for
from bzz.model.query.parameters import Arguments, check_size
from bzz.model.storable import check_storable

__all__ = ["Aggregation"]

Stage = Mapping[str, Any]
Pipeline = Sequence[Stage]

_WRITING = frozenset({"$out", "$merge"})
# Stages that are only allowed as the first.
_FIRST = frozenset({"$geoNear", "$search", "$searchMeta", "$vectorSearch", "$collStats", "$indexStats"})
_FIELDS: dict[type, Callable[[], Any]] = {
    bool: fields.BooleanField,
    int: fields.LongField,
    float: fields.FloatField,
    Decimal: fields.Decimal128Field,
    str: fields.StringField,
    dt.datetime: fields.DateTimeField,
    dt.date: fields.DateField,
    uuid.UUID: fields.UUIDField,
    ObjectId: fields.ObjectIdField,
}


class Aggregation:
    """A pipeline with a name: ``GET /city?aggregate=by_country&min=5``.

    ``parameters`` are types (int, float, Decimal, bool, str, datetime, date, UUID, ObjectId, an Enum), which
    the client must give, or mongoengine fields, whose validators, ``default`` and ``required`` count.
    ``pipeline`` is a list of stages, or a function of the parameters that returns one. In both, an expression
    may write ``$$min`` for the parameter ``min``; a function also has the values themselves. No more than
    ``max_results`` rows are returned.

    Whatever a client sends is a value: a text that begins with ``$`` is no field and no variable, neither as
    ``$$min`` nor as a value that a function puts into its stages. A text that it puts into another text is
    its own affair. The filters of the resource apply before the first stage.

    Raises ValueError for a pipeline that writes.
    """

    def __init__(
        self,
        pipeline: Pipeline | Callable[..., Pipeline],
        parameters: Mapping[str, Any] | None = None,
        *,
        max_results: int = 1000,
    ) -> None:
        if max_results < 1:
            raise ValueError(f"max_results is at least 1, not {max_results}")
        self.pipeline = pipeline
        self.max_results = max_results
        self.parameters = {name: _spec(name, kind) for name, kind in (parameters or {}).items()}
        if not callable(pipeline):
            _check(pipeline)

    def values(self, arguments: Arguments) -> dict[str, Any]:
        """Return the stored values of all parameters; raises QueryError."""
        return {name: _value(spec, arguments.get(name) or ()) for name, spec in self.parameters.items()}

    def stages(self, values: Mapping[str, Any], matching: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the pipeline for the driver, over the documents that match."""
        if callable(self.pipeline):
            built = self.pipeline(**{name: _marked(value) for name, value in values.items()})
            _check(built)
        else:
            built = self.pipeline
        stages: list[dict[str, Any]] = [_unmarked(stage) for stage in built]
        if matching:
            first = bool(stages) and not _FIRST.isdisjoint(stages[0])
            stages.insert(1 if first else 0, {"$match": dict(matching)})
        return [*stages, {"$limit": self.max_results}]

    @staticmethod
    def variables(values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the pipeline finds as ``$$name``."""
        return {name: {"$literal": value} for name, value in values.items()}


class _Text(str):
    """A text that a client gave, so that it can be told from those that the developer wrote."""

    __slots__ = ()


def _spec(name: str, kind: Any) -> FieldSpec:
    if not (name.isascii() and name.isidentifier() and name[:1].islower()):
        # MongoDB's own rule for variables.
        raise ValueError(f"a parameter needs a name that begins with a lower case letter, not {name!r}")
    field = kind
    if isinstance(kind, type):
        field = fields.EnumField(kind) if issubclass(kind, enum.Enum) else _FIELDS.get(kind, lambda: None)()
        if field is not None:
            field.required = True
    if not isinstance(field, BaseField):
        raise TypeError(f"the parameter {name!r} needs a type or a mongoengine field, not {kind!r}")
    field.name = field.name or name
    return spec_for(field, name)


def _check(pipeline: Any) -> None:
    for stage in pipeline:
        if writing := _WRITING & stage.keys():
            raise ValueError(f"an aggregation that is read cannot have {', '.join(writing)}")


def _value(spec: FieldSpec, texts: Sequence[str]) -> Any:
    for text in texts:
        check_size(spec.name, text)
    try:
        typed = spec.decode_text(texts, "") if texts else spec.default()
        if typed is None:
            if spec.required:
                raise QueryError(spec.name, f"This aggregation needs {spec.name!r}.")
            return None
        errors: list[FieldError] = []
        spec.validate(typed, "", errors)
        stored = None if errors else spec.store(typed)
        check_storable(stored, "", errors)
    except ValidationError as error:
        errors = list(error.errors)
        stored = None
    if errors:
        raise QueryError(spec.name, f"{spec.name!r}: {errors[0].detail}.")
    return stored


def _marked(value: Any) -> Any:
    if isinstance(value, list):
        return [_marked(each) for each in value]
    return _Text(value) if isinstance(value, str) else value


def _unmarked(value: Any, *, as_expression: bool = True) -> Any:
    """Return stages without marks: a client's text where an expression may stand is made a literal."""
    if isinstance(value, _Text):
        text = str(value)
        return {"$literal": text} if as_expression and text.startswith("$") else text
    if isinstance(value, Mapping):
        if any(isinstance(name, _Text) for name in value):
            raise ValueError("a parameter of an aggregation cannot be a name")
        return {
            name: _unmarked(each, as_expression=_is_expression(name, as_expression))
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_unmarked(each, as_expression=as_expression) for each in value]
    return value


def _is_expression(name: str, as_expression: bool) -> bool:
    if name in {"$match", "$literal"}:
        return False
    return as_expression or name in {"$expr", "pipeline"}
