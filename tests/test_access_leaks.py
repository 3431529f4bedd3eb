"""Nothing that a client can ask tells two databases apart that differ only in what it cannot see.

The same requests go to both, whatever they are; every answer is the same, but for tags.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bzz
from tests.serving import Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
WORDS = ["red", "blue", "green"]


class Part(me.EmbeddedDocument):
    open = me.StringField()
    shut = me.StringField()


class Thing(me.Document):
    key = me.StringField(primary_key=True)
    word = me.StringField()
    number = me.IntField()
    words = me.ListField(me.StringField())
    part = me.EmbeddedDocumentField(Part)
    parts = me.EmbeddedDocumentListField(Part)
    other = me.ReferenceField("self")
    meta = {"indexes": ["word", "part.shut", "number"]}


NAMES = ["word", "number", "words", "part", "parts", "other"]
DOTTED = [*NAMES, "part.open", "part.shut", "parts.open", "parts.shut"]
ALONE = [each for each in DOTTED if not each.startswith("parts.")]

words = st.none() | st.sampled_from(WORDS)
parts = st.fixed_dictionaries({}, optional={"open": words, "shut": words})
VALUES: dict[str, Any] = {
    "word": words,
    "number": st.none() | st.integers(1, 3),
    "words": st.lists(st.sampled_from(WORDS), max_size=2),
    "part": st.none() | parts,
    "parts": st.lists(parts, max_size=2),
    "other": st.none() | st.sampled_from(["a", "b"]),
}
bodies = st.fixed_dictionaries({}, optional=VALUES)


@st.composite
def accesses(draw: Any) -> dict[str, Any]:
    """What a resource may choose; what contradicts itself is left out."""
    chosen: dict[str, Any] = {}
    if draw(st.booleans()):
        chosen["readable"] = draw(st.sets(st.sampled_from(DOTTED), max_size=4))
    if draw(st.booleans()):
        chosen["writable"] = draw(st.sets(st.sampled_from(ALONE), max_size=5)) | {"key"}
    chosen["write_once"] = draw(st.sets(st.sampled_from(ALONE), max_size=2))
    hidden = draw(st.sets(st.sampled_from(DOTTED), max_size=3)) - chosen.get("readable", set())
    if "writable" in chosen and "parts" not in chosen["writable"]:
        hidden -= {"parts.open", "parts.shut"}
    chosen["write_only"] = hidden
    chosen["put"] = draw(st.sampled_from(["merge", "replace"]))
    return chosen


def is_seen(access: dict[str, Any], name: str) -> bool:
    """Tell whether a field is shown: a second, slow reading of what the options mean."""
    above = [name[: each.start()] for each in re.finditer(r"\.", name)] + [name]
    if access["write_only"] & set(above):
        return False
    return "readable" not in access or bool(access["readable"] & set(above))


def leaves(name: str) -> list[str]:
    return [each for each in DOTTED if each.startswith(f"{name}.")] or [name]


def twin_of(access: dict[str, Any], name: str, part: dict[str, Any]) -> Any:
    """Return an embedded document that looks like this one."""
    unseen = {each: words for each in ("open", "shut") if not is_seen(access, f"{name}.{each}")}
    return st.fixed_dictionaries(unseen).map(lambda drawn: {**part, **drawn})


@st.composite
def twins(draw: Any, access: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Two collections that a client cannot tell apart."""
    left, right = [], []
    for key in ("a", "b", "c"):
        one = {"_id": key, **draw(bodies)}
        replaced = {
            name for name in NAMES if not any(is_seen(access, each) for each in [name, *leaves(name)])
        }
        other = {**one, **{name: draw(VALUES[name]) for name in replaced}}
        if "part" not in replaced and isinstance(one.get("part"), dict):
            other["part"] = draw(twin_of(access, "part", one["part"]))
        if "parts" not in replaced and one.get("parts"):
            other["parts"] = [draw(twin_of(access, "parts", each)) for each in one["parts"]]
        left.append(one)
        right.append(other)
    return left, right


def stored(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


values = st.one_of(*VALUES.values())
pointers = st.sampled_from(
    ["", *(f"/{each.replace('.', '/')}" for each in DOTTED), "/parts/0/shut", "/words/-"]
)


def patches_of(paths: Any, new: Any) -> Any:
    """Return JSON Patches, of which most do not fit."""
    setting = st.sampled_from(["add", "replace", "test"])
    operation = st.one_of(
        st.fixed_dictionaries({"op": setting, "path": paths, "value": new}),
        st.fixed_dictionaries({"op": st.just("remove"), "path": paths}),
        st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "path": paths, "from": paths}),
    )
    return st.lists(operation, min_size=1, max_size=3)


patches = patches_of(pointers, values)
inner_patches = patches_of(st.sampled_from(["", "/open", "/shut", "/0", "/-"]), words | parts)
forms = st.dictionaries(
    st.sampled_from([each for each in DOTTED if not each.startswith("parts")]),
    st.sampled_from(["", "1", *WORDS]),
    max_size=3,
)
operators = st.sampled_from(["", "__ne", "__gt", "__lt", "__in", "__exists", "__startswith"])
queries = st.one_of(
    st.builds(
        "{}{}={}".format, st.sampled_from(DOTTED), operators, st.sampled_from([*WORDS, "2", "true", "b"])
    ),
    st.builds("sort={}{}&cursor=&per_page=1".format, st.sampled_from(["", "-"]), st.sampled_from(DOTTED)),
    st.builds("fields={},{}".format, st.sampled_from(DOTTED), st.sampled_from(["key", *NAMES])),
    st.sampled_from(["count=exact", "expand=other", "expand=other&fields=other"]),
)
wishes = st.sampled_from([{}, {}, {"Prefer": "dry-run"}, {"If-Match": '"none"'}, {"If-Match": "*"}])


KINDS = ["list", "get", "post", "put", "form", "merge", "patch", "delete", "batch", "many", "nested", "parts"]
NESTED = ["part", "parts", "parts/0", "parts/1", "other"]
NDJSON = {"Accept": "application/x-ndjson"}


@st.composite
def many(draw: Any) -> dict[str, Any]:
    """Ask something of, or for, several documents at once."""
    wish = {"Prefer": f"max-affected=9, handling={draw(st.sampled_from(['strict', 'lenient']))}"}
    filtered = f"/thing?{draw(queries)}"
    made = [{"key": key, **draw(bodies)} for key in "yz"]
    return draw(
        st.sampled_from(
            [
                {"method": "GET", "path": filtered, "headers": NDJSON},
                {"method": "POST", "path": "/thing", "json": made, "headers": wish},
                {"method": "PATCH", "path": filtered, "json": draw(bodies), "headers": wish},
                {"method": "DELETE", "path": filtered, "headers": wish},
            ]
        )
    )


@st.composite
def nested(draw: Any, at: str) -> dict[str, Any]:
    """Ask something of what stands in a document, or of what it refers to."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]))
    sent: dict[str, Any] = {"method": method, "path": f"{at}/{draw(st.sampled_from(NESTED))}"}
    sent["headers"] = draw(wishes)
    if method in {"GET", "DELETE"}:
        return sent
    if method == "PATCH" and draw(st.booleans()):
        return {**sent, "json": draw(inner_patches), "content_type": "application/json-patch+json"}
    return {**sent, "json": draw(parts | st.just({"id": "b"}) | bodies)}


@st.composite
def requests(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(KINDS))
    at = f"/thing/{draw(st.sampled_from(['a', 'b']))}"
    if kind == "list":
        return {"method": "GET", "path": f"/thing?{draw(queries)}"}
    if kind == "get":
        return {"method": "GET", "path": at}
    if kind == "many":
        return draw(many())
    if kind == "nested":
        return draw(nested(at))
    if kind == "parts":
        return {"method": "GET", "path": f"{at}?{draw(queries)}"}
    if kind == "post":
        return {"method": "POST", "path": "/thing", "json": {"key": "z", **draw(bodies)}}
    if kind == "batch":
        return {"method": "POST", "path": "/batch", "json": {"operations": draw(plans(at)), "atomic": False}}
    sent: dict[str, Any] = {"method": "PUT", "path": at, "headers": draw(wishes)}
    if kind == "delete":
        return {**sent, "method": "DELETE"}
    if kind == "put":
        return {**sent, "json": draw(bodies)}
    if kind == "form":
        return {**sent, "form": draw(forms)}
    if kind == "merge":
        return {**sent, "method": "PATCH", "json": draw(bodies)}
    patch = {"json": draw(patches), "content_type": "application/json-patch+json"}
    return {**sent, "method": "PATCH", **patch}


def plans(at: str) -> Any:
    put = st.fixed_dictionaries({"method": st.just("PUT"), "path": st.just(at), "body": bodies})
    patch = st.fixed_dictionaries({"method": st.just("PATCH"), "path": st.just(at), "body": bodies})
    return st.lists(put | patch, min_size=1, max_size=2)


def without_tags(body: Any) -> Any:
    if isinstance(body, dict):
        return {name: without_tags(value) for name, value in body.items() if name != "etag"}
    return [without_tags(each) for each in body] if isinstance(body, list) else body


async def ask(client: Client, request: dict[str, Any]) -> Any:
    answer = await client.request(
        request["method"],
        request["path"],
        **{name: value for name, value in request.items() if name not in {"method", "path"}},
    )
    assert answer.status < 500, (request, answer)
    body = [without_tags(json.loads(line)) for line in answer.body.splitlines()]
    links = re.sub(r"cursor=[\w%-]+", "cursor", answer.headers.get("Link", ""))
    return answer.status, body, links, answer.headers.get("X-Total-Count")


@pytest.fixture
async def connected(database: str) -> AsyncIterator[None]:
    Thing.ensure_indexes()
    yield


@settings(max_examples=80 * TORTURE, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
async def test_no_answer_tells_what_cannot_be_seen(connected: None, data: st.DataObject) -> None:
    access = data.draw(accesses())
    left, right = data.draw(twins(access))
    asked = data.draw(st.lists(requests(), min_size=1, max_size=12))
    seen = [each for each in ("other",) if is_seen(access, each)]
    api = bzz.Api()
    api.add(Thing, expandable=seen, bulk=["PATCH", "DELETE"], ndjson=True, **access)
    collection = Thing._get_collection()
    told = []
    async with serving(api) as client:
        for world in (left, right):
            collection.delete_many({})
            collection.insert_many([stored(each) for each in world])
            told.append([await ask(client, each) for each in asked])
    for request, one, other in zip(asked, *told, strict=True):
        assert one == other, request
