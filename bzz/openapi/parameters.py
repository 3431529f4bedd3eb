"""The parameters of a resource: its key, its headers, and everything that can be asked of its lists."""

from __future__ import annotations

from collections.abc import Iterator

from bzz.http.idempotency import KEY_PATTERN
from bzz.model import FieldSpec, QueryRules, Schema
from bzz.model.field import CustomSpec
from bzz.model.json_forms import Json, form, is_textual, or_empty
from bzz.model.json_schema import Catalog
from bzz.model.query.parameters import MAX_BYTES, RESERVED
from bzz.model.query.paths import find
from bzz.model.query.places import PLACE_OPERATORS, check_place
from bzz.model.query.predicates import MAX_VALUES
from bzz.resource import Resource
from bzz.resource.idempotency import Idempotency
from bzz.resource.operation import Options

__all__ = ["TAGS", "conditional_headers", "key_header", "key_parameter", "list_parameters", "prefer_header"]

_TAG = r'(W/)?"[!#-~]*"'
TAGS: Json = {"type": "string", "pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"}
_EXAMPLES = {"If-Match": "*", "If-None-Match": '"5d41402abc4b2a76b9719d911017c592"'}
_MEANINGS = {
    "eq": "equal to this",
    "ne": "not equal to this",
    "in": "one of these",
    "nin": "none of these",
    "lt": "less than this",
    "lte": "this or less",
    "gt": "more than this",
    "gte": "this or more",
    "exists": "whether it has a value",
    "startswith": "beginning with this",
    "contains": "with this in it",
    "icontains": "with this in it, whatever the case",
    "near": "LONGITUDE,LATITUDE or LONGITUDE,LATITUDE,METRES: not further from there, the nearest first",
    "within_polygon": "the corners LONGITUDE,LATITUDE,… of the polygon that it lies in",
    "within_box": "WEST,SOUTH,EAST,NORTH of the box that it lies in",
    "within_circle": "LONGITUDE,LATITUDE,METRES of the circle that it lies in",
}
_NUMBERS = {"near": (2, 3), "within_circle": (3, 3), "within_box": (4, 4), "within_polygon": (6, 200)}


def key_parameter(schema: Schema, catalog: Catalog, *, is_read: bool = True) -> Json:
    """Return the parameter of the path that says which document is meant; OPTIONS does not read it."""
    shown = form(schema.key, "text", catalog) if is_read else {"type": "string", "minLength": 1}
    if is_read and shown.get("type") == "string" and "pattern" not in shown:
        shown = {**shown, "minLength": 1, "maxLength": 1024}
    described = f"The {schema.key.name} of the {schema.name}."
    return {"name": "key", "in": "path", "required": True, "description": described, "schema": shown}


def conditional_headers(*, demands_if_match: bool) -> list[Json]:
    """Return the headers that say in which state of the document the operation is meant (RFC 9110, 13.1)."""
    words = {
        "If-Match": "Only if the document is in one of these states.",
        "If-None-Match": "Only if the document is in none of these states.",
    }
    return [
        {
            "name": name,
            "in": "header",
            "description": described,
            "schema": {**TAGS, "examples": [_EXAMPLES[name]]},
            **({"required": True} if demands_if_match and name == "If-Match" else {}),
        }
        for name, described in words.items()
    ]


def prefer_header(method: str, *, many: bool = False) -> Json:
    """Return the header in which a client asks for less of an answer, or for no more than one (RFC 7240).

    ``many``: the body may also be an array.
    """
    choices = ["dry-run"]
    if many:
        choices += ["handling=strict", "handling=lenient"]
    if method in {"PUT", "PATCH"}:
        choices += ["return=minimal", "return=representation"]
    words = f"One of {', '.join(f'`{each}`' for each in choices)} (RFC 7240); others are ignored."
    shown = {"type": "string", "examples": choices[1:]}
    return {"name": "Prefer", "in": "header", "description": words, "schema": shown}


def key_header(settings: Idempotency) -> Json:
    """Return the header under which a request is done once, however often it is sent."""
    words = (
        "A text that no other request has, in quotes. Whoever sends the request again with it gets the same "
        f"answer, and nothing is done twice. Answers are known for {settings.keep:g} seconds."
    )
    shown = {"type": "string", "pattern": KEY_PATTERN, "examples": ['"8e03978e-40d5-43e8-bc93-6894a57f9324"']}
    described = {"name": "Idempotency-Key", "in": "header", "description": words, "schema": shown}
    return {**described, "required": True} if settings.required else described


def list_parameters(resource: Resource, catalog: Catalog) -> list[Json]:
    """Return all the parameters of a list: pages, order, parts, filters, and what the resource opted into."""
    rules = resource.rules
    return [
        *_pages(rules, resource.options),
        *_choices(rules),
        *_filters(rules, catalog),
        *_aggregations(rules, catalog),
    ]


def _parameter(name: str, schema: Json, description: str) -> Json:
    shown: Json = {"name": name, "in": "query", "description": description, "schema": schema}
    if schema.get("type") == "array":
        shown |= {"style": "form", "explode": False}
    return shown


def _pages(rules: QueryRules, options: Options) -> Iterator[Json]:
    whole = {"type": "integer"}
    yield _parameter("page", {**whole, "default": 1}, "Counts from 1; what is less is the first.")
    most = f"At most {options.max_per_page}, and at least 1; what lies outside is moved there."
    yield _parameter("per_page", {**whole, "default": options.per_page}, most)
    counting: Json = {"type": "string", "enum": ["exact", "estimated"]}
    yield _parameter(
        "count", counting, "Count all documents, in X-Total-Count. Only a whole resource can be estimated."
    )
    yield _parameter(
        "cursor",
        {"type": "string"},
        "Where to go on: from a Link; empty to begin to page by cursor, without `page`.",
    )
    if "to_dict" not in rules.schema.overrides:
        declared = _declared(rules.schema)
        names = sorted(name for name, _spec in declared if rules.readable.touches(name))
        yield _parameter("fields", _names(names), "Show only these fields, and the key.")


def _choices(rules: QueryRules) -> Iterator[Json]:
    ways = [way for name in sorted(rules.sortable) for way in (name, f"-{name}")]
    yield _parameter(
        "sort", {**_names(ways), "maxItems": 8}, "Sort by these; with a minus, the largest first."
    )
    if rules.expandable:
        yield _parameter(
            "expand", _names(sorted(rules.expandable)), "Show these documents in place of their keys."
        )
    if rules.search:
        yield _parameter("search", {"type": "string", "maxLength": MAX_BYTES}, "Search for these words.")


def _names(names: list[str]) -> Json:
    return {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1, "uniqueItems": True}


def _filters(rules: QueryRules, catalog: Catalog) -> Iterator[Json]:
    for name, element in _declared(rules.schema):
        for operator, meaning in _MEANINGS.items():
            if not rules.allows(name, operator) or not _suits(element, operator):
                continue
            bare = operator == "eq" and name not in RESERVED
            parameter = name if bare else f"{name}__{operator}"
            yield _parameter(parameter, _value(element, operator, catalog), f"`{name}`: {meaning}.")


def _declared(schema: Schema) -> Iterator[tuple[str, FieldSpec]]:
    """Yield every dotted name that can be asked for, with how one value of it travels.

    A class within itself is not entered again: the server takes such names, but there is no end of them.
    """
    pending: list[tuple[str, Schema, tuple[Schema, ...]]] = [("", schema, ())]
    for prefix, at, above in pending:
        for name in at.fields:
            found = find(schema, prefix + name)
            if found is None:
                continue
            yield found.name, found.element
            below = found.spec.embedded or found.element.embedded
            if below is not None and below is not at and below not in above:
                pending.append((f"{prefix}{name}.", below, (*above, at)))


def _suits(element: FieldSpec, operator: str) -> bool:
    if operator == "exists":
        return True
    if operator in PLACE_OPERATORS:
        return check_place(element, operator) is None
    if not element.comparable or not is_textual(element):
        return False
    if operator in {"startswith", "contains", "icontains"}:
        return element.textual
    return element.ordered or operator in {"eq", "ne", "in", "nin"}


def _value(element: FieldSpec, operator: str, catalog: Catalog) -> Json:
    if operator == "exists":
        return {"type": "boolean"}
    if operator in PLACE_OPERATORS:
        least, most = _NUMBERS[operator]
        return {"type": "array", "items": {"type": "number"}, "minItems": least, "maxItems": most}
    shown = {name: each for name, each in form(element, "text", catalog).items() if name != "examples"}
    if shown.get("type") == "string" and "pattern" not in shown:
        shown = {"maxLength": MAX_BYTES, **shown}
        if operator in {"startswith", "contains", "icontains"}:
            shown["pattern"] = r"^[^\u0000]*$"
    if operator in {"eq", "ne", "in", "nin"} and not element.textual:
        shown = or_empty(shown)
    if operator not in {"in", "nin"}:
        return shown
    return {"type": "array", "items": shown, "minItems": 1, "maxItems": MAX_VALUES}


def _aggregations(rules: QueryRules, catalog: Catalog) -> Iterator[Json]:
    if not rules.aggregations:
        return
    names = {"type": "string", "enum": sorted(rules.aggregations)}
    yield _parameter("aggregate", names, "Answer with the rows of this aggregation instead of documents.")
    taken: set[str] = {name for name, _spec in _declared(rules.schema)}
    for aggregation_name, aggregation in sorted(rules.aggregations.items()):
        for name, spec in aggregation.parameters.items():
            if name not in taken:
                taken.add(name)
                shown = form(spec.origin if isinstance(spec, CustomSpec) else spec, "text", catalog)
                yield _parameter(name, shown, f"For the aggregation `{aggregation_name}`.")
