"""Giving a document another JSON form, which is what a patch asks for.

Patches address the JSON form of a document: its fields by name, as :func:`bzz.model.codec.encode` shows them,
null for what is missing. Only what differs is decoded and assigned. Everything else stays exactly as it is
stored, whatever JSON could say of it: unknown fields, values of an older model, types that JSON lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from mongoengine import EmbeddedDocument

from bzz.errors import FieldError, ValidationError
from bzz.model.codec import Assignments
from bzz.model.containers import ContainerSpec, ListSpec, MapSpec
from bzz.model.dynamic import UntypedSpec
from bzz.model.embedding import EmbeddedSpec, EmbeddingSpec
from bzz.model.extended import check_key
from bzz.model.field import FieldSpec
from bzz.model.instances import set_field
from bzz.model.patch import same_json
from bzz.model.refusal import MAX_ERRORS, child, refuse
from bzz.model.schema import Path, Schema

__all__ = ["merge_assignments", "revise"]


def merge_assignments(schema: Schema, patch: Mapping[str, Any]) -> Assignments | None:
    """Turn a merge patch into assignments; None if its result depends on what is stored.

    It does where it reaches into anything but an embedded document of one class: a dict, a map, a place.
    Null for a field that the model does not have is nothing to do. Raises ValidationError.
    """
    assignments: Assignments = {}
    errors: list[FieldError] = []
    known = _gather(schema, patch, (), assignments, errors)
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])
    return assignments if known else None


def _gather(
    schema: Schema, patch: Mapping[str, Any], path: Path, assignments: Assignments, errors: list[FieldError]
) -> bool:
    known = bool(patch) or not path  # an empty object makes an embedded document where there is none
    pointer = "".join(child("", name) for name in path)
    for name, value in patch.items():
        if value is None and name not in schema.fields and not (schema.dynamic and schema.accepts(name)):
            continue
        place, at = child(pointer, name), (*path, name)
        try:
            spec = schema.field(name, place)
            if not isinstance(value, dict):
                assignments[at] = spec.take(value, place)
            elif isinstance(spec, EmbeddedSpec) and not Schema.of(spec.field.document_type).polymorphic:
                known &= _gather(Schema.of(spec.field.document_type), value, at, assignments, errors)
            else:
                known = False
        except ValidationError as error:
            errors.extend(error.errors)
    return known


def revise(document: Any, old: Mapping[str, Any], new: Any) -> None:
    """Change a document, whose JSON form is ``old``, so that it will be ``new``; nothing is validated.

    Raises one ValidationError for values that no field can read, unknown fields, and another key or class.
    """
    if not isinstance(new, dict):
        raise refuse("", "a document is an object")
    errors: list[FieldError] = []
    _revise_fields(document, old, new, "", errors)
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])


def _revise_fields(
    document: Any, old: Mapping[str, Any], new: Mapping[str, Any], pointer: str, errors: list[FieldError]
) -> None:
    schema = Schema.of(type(document))
    for name in {**old, **new}:
        was, to_be = old.get(name), new.get(name)
        if same_json(was, to_be):
            continue
        place = child(pointer, name)
        try:
            if name == "_cls":
                raise refuse(place, "the class of a document cannot be changed")
            spec = schema.field(name, place)
            present = document._data.get(name)
            if spec is schema.primary:
                _keep_key(spec, present, to_be, place)
            else:
                set_field(document, spec, _revised(spec, present, was, to_be, place))
        except ValidationError as error:
            errors.extend(error.errors)


def _keep_key(spec: FieldSpec, present: Any, to_be: Any, place: str) -> None:
    value = spec.take(to_be, place)
    if value is None or spec.store(value) != spec.store(present):
        raise refuse(place, "the key of a document cannot be changed")


def _revised(spec: FieldSpec, present: Any, was: Any, to_be: Any, place: str) -> Any:
    """Return the typed value with the JSON form ``to_be``, made from one with the form ``was``."""
    if isinstance(to_be, dict):
        if isinstance(spec, EmbeddingSpec):
            return _revised_embedded(spec, present, was, to_be, place)
        if isinstance(present, dict) and isinstance(was, dict) and isinstance(spec, (MapSpec, UntypedSpec)):
            return _revised_map(spec, dict(present), was, to_be, place)
    if isinstance(to_be, list) and isinstance(was, list) and isinstance(spec, (ListSpec, UntypedSpec)):
        return _revised_list(spec, list(present), was, to_be, place)
    return spec.take(to_be, place)


def _revised_embedded(spec: EmbeddingSpec, present: Any, was: Any, to_be: dict[str, Any], place: str) -> Any:
    if not isinstance(present, EmbeddedDocument) or not isinstance(was, dict) or _class(was) != _class(to_be):
        # A missing field is shown as null; the null of another class's field means nothing.
        return spec.take({name: value for name, value in to_be.items() if value is not None}, place)
    errors: list[FieldError] = []
    _revise_fields(present, was, to_be, place, errors)
    if errors:
        raise ValidationError(errors)
    return present


def _class(value: Mapping[str, Any]) -> Any:
    return value.get("_cls")


def _revised_map(
    spec: FieldSpec, present: dict[str, Any], was: dict[str, Any], to_be: dict[str, Any], place: str
) -> Any:
    if any(key.startswith("$") for key in to_be):
        return spec.take(to_be, place)  # one value in Extended JSON, or refused
    result: dict[str, Any] = {}
    errors: list[FieldError] = []
    for key, value in to_be.items():
        at = child(place, key)
        try:
            if key in was and key in present and same_json(was[key], value):
                result[key] = present[key]
                continue
            check_key(key, at)
            result[key] = _revised_item(spec, present.get(key), was.get(key), value, at)
        except ValidationError as error:
            errors.extend(error.errors)
    if errors:
        raise ValidationError(errors)
    return result


def _revised_list(spec: FieldSpec, present: list[Any], was: list[Any], to_be: list[Any], place: str) -> Any:
    """Keep the items that still are in the list, wherever they are now; where none came or went, change
    the others in place.
    """
    sources = _sources([_canonical(item) for item in was], [_canonical(item) for item in to_be])
    taken = set(sources)
    result: list[Any] = []
    errors: list[FieldError] = []
    for index, (value, source) in enumerate(zip(to_be, sources, strict=True)):
        at = child(place, index)
        try:
            if source is not None:
                result.append(present[source])
            elif len(was) == len(to_be) and index not in taken:
                result.append(_revised_item(spec, present[index], was[index], value, at))
            else:
                result.append(_revised_item(spec, None, None, value, at))
        except ValidationError as error:
            errors.extend(error.errors)
    if errors:
        raise ValidationError(errors)
    return result


def _sources(was: list[bytes], to_be: list[bytes]) -> list[int | None]:
    """Find for each new item an old one with the same form, at the same position if there is one there."""
    free: dict[bytes, list[int]] = {}
    for index, form in enumerate(was):
        if to_be[index : index + 1] != [form]:
            free.setdefault(form, []).append(index)
    sources: list[int | None] = []
    for index, form in enumerate(to_be):
        if was[index : index + 1] == [form]:
            sources.append(index)
        else:
            found = free.get(form)
            sources.append(found.pop(0) if found else None)
    return sources


def _canonical(form: Any) -> bytes:
    return orjson.dumps(form, default=repr, option=orjson.OPT_SORT_KEYS)


def _revised_item(spec: FieldSpec, present: Any, was: Any, to_be: Any, place: str) -> Any:
    if isinstance(spec, ContainerSpec):
        if to_be is None and spec.item is not None:
            raise refuse(place, "null is not allowed here")
        spec = spec.items
    return None if to_be is None else _revised(spec, present, was, to_be, place)
