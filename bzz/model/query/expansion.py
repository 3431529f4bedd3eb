"""Which references are followed: ``expand=country,author.country``, and how the answer is put together.

Nothing is read here: who reads asks :meth:`Link.keys` what to look for, and gives the documents to
:meth:`Link.fill`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bzz.errors import QueryError
from bzz.model.field import FieldSpec
from bzz.model.generic import key_in
from bzz.model.query.parameters import Arguments, split_list
from bzz.model.query.paths import element_of
from bzz.model.refusal import shorten
from bzz.model.schema import Schema, Stored

if TYPE_CHECKING:
    from bzz.model.query.rules import QueryRules

__all__ = ["Link", "Links", "check_expandable", "compile_expansion", "encode_expanded"]

Links = Mapping[str, "Link"]
Encode = Callable[[Schema, Stored], Any]

_SCALARS = (str, int, float)


class Link:
    """A reference that is followed: where it stands in the documents before it, and what follows from there.

    ``names`` and ``path`` lead to it, in field names and in MongoDB's. ``schema`` is that of its target,
    ``documents`` what was found.
    """

    def __init__(self, names: Sequence[str], path: Sequence[str], spec: FieldSpec) -> None:
        self.names = tuple(names)
        self.path = tuple(path)
        self.spec = spec
        self.schema = Schema.of(spec.target)
        self.links: dict[str, Link] = {}
        self.documents: list[Stored] = []

    def keys(self, documents: Iterable[Stored]) -> list[Any]:
        """Return the stored keys that these documents refer to, with repetitions."""
        return [
            key
            for stored in documents
            for value in _values(stored, self.path)
            if (key := _key(value)) is not None
        ]

    def fill(self, encoded: Sequence[Any], encode: Encode) -> None:
        """Put the JSON of the documents in the place of their keys; a key that leads nowhere stays."""
        found = encode_expanded(self.schema, self.documents, self.links, encode)
        by_key = {
            key: shown
            for stored, shown in zip(self.documents, found, strict=True)
            if isinstance(key := self.spec.encode(stored["_id"]), _SCALARS)
        }
        for each in encoded:
            _replace(each, self.names, by_key)


def encode_expanded(schema: Schema, documents: Sequence[Stored], links: Links, encode: Encode) -> list[Any]:
    """Encode documents, with those that they refer to in their places."""
    encoded = [encode(schema, stored) for stored in documents]
    for link in links.values():
        link.fill(encoded, encode)
    return encoded


def compile_expansion(rules: QueryRules, arguments: Arguments) -> dict[str, Link]:
    """Compile ``expand`` into links, by the names of the references that they follow."""
    links: dict[str, Link] = {}
    for path in split_list(arguments, "expand", rules.schema):
        if not any(
            path == each or each.startswith(f"{path}.") for each in rules.expandable
        ) or check_expandable(rules.schema, path):
            raise QueryError("expand", f"This resource cannot expand {shorten(path)!r}.")
        _add(rules.schema, path, links)
    return links


def check_expandable(schema: Schema, path: str, depth: int | None = None) -> str | None:
    """Return what speaks against expanding a path, None if nothing does."""
    links = list(_links(schema, path))
    if not links or ".".join(name for link in links for name in link.names) != path:
        return "is not a path of references to one model each"
    if any("to_dict" in each.overrides for each in (schema, *(link.schema for link in links[:-1]))):
        return "leads through a model with a to_dict() of its own"
    if depth is not None and len(links) > depth:
        return f"is deeper than expand_depth={depth}"
    return None


def _add(schema: Schema, path: str, links: dict[str, Link]) -> None:
    for link in _links(schema, path):
        links = links.setdefault(".".join(link.names), link).links


def _links(schema: Schema, path: str) -> Iterator[Link]:
    """Yield a link for each reference on a path of field names, as far as they lead."""
    at: Schema | None = schema
    names: list[str] = []
    stored: list[str] = []
    for name in path.split("."):
        spec = at.fields.get(name) if at is not None else None
        if spec is None:
            return
        names.append(name)
        stored.append(spec.db_name)
        element = element_of(spec)
        if _is_followed(element):
            yield Link(names, stored, element)
            at, names, stored = Schema.of(element.target), [], []
        else:
            at = element.embedded


def _is_followed(spec: FieldSpec) -> bool:
    return spec.target is not None and not spec.target._meta.get("abstract")


def _values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _values(each, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        yield from _values(value.get(path[0]), path[1:])


def _key(value: Any) -> Any:
    return value.get("_id") if isinstance(value, dict) else key_in(value)


def _replace(encoded: Any, names: Sequence[str], by_key: Mapping[Any, Any]) -> None:
    if isinstance(encoded, list):
        for each in encoded:
            _replace(each, names, by_key)
    elif isinstance(encoded, dict) and names[0] in encoded:
        value = encoded[names[0]]
        if len(names) > 1:
            _replace(value, names[1:], by_key)
        else:
            encoded[names[0]] = _filled(value, by_key)


def _filled(value: Any, by_key: Mapping[Any, Any]) -> Any:
    if isinstance(value, list):
        return [_filled(each, by_key) for each in value]
    return by_key.get(value, value) if isinstance(value, _SCALARS) else value
