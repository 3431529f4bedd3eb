"""The OpenAPI document: valid, complete, and true of what the server really answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import mongoengine as me
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

import bzz
from bzz import signals
from bzz.cli import main
from bzz.http.problem_handler import STATUS
from bzz.model import Aggregation
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.testing import capture
from tests.model_documents import (
    Animal,
    CodedTarget,
    Dog,
    Everything,
    Free,
    Person,
    Puppy,
    bodies,
    person_bodies,
)
from tests.serving import Answer, Client, serving
from tests.test_json_schema import instances

EXAMPLES = 40 * int(os.environ.get("BZZ_TORTURE", "1"))

few = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class Note(me.Document):
    """Something written down.

    Not for everybody's eyes.
    """

    title = me.StringField(required=True, max_length=20, help_text="What it is about.")
    writer = me.StringField(primary_key=True, verbose_name="Writer")
    tags = me.ListField(me.StringField())
    place = me.PointField()
    meta = {"indexes": ["title", {"fields": ["$title"]}]}


class Shown(me.Document):
    name = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"NAME": self.name}


class Strict(me.Document):
    name = me.StringField(required=True)
    level = me.IntField(default=3)


class Mapped(me.Document):
    prices = me.MapField(me.IntField(), required=True)


class ReadOnlyHandler(MongoEngineRestHandler):
    def allowed_methods(self) -> tuple[str, ...]:
        return tuple(each for each in super().allowed_methods() if each in {"GET", "HEAD"})


def make_api() -> bzz.Api:
    api = bzz.Api(prefix="/api", title="Everything", version="7", description="All of it.")
    for model in (Everything, Person, Animal, Dog, Free, CodedTarget, Note, Shown, Mapped):
        api.add(model)
    api.add(Strict, put="replace", require_if_match=True)
    api.add(Strict, resource_name="calm/reading", handler=ReadOnlyHandler, rate_limit="100/minute")
    api.add(
        Person,
        resource_name="asked",
        filters=["name", "name__contains", "address.text"],
        sorts=["age"],
        expandable=["boss"],
        per_page=7,
        max_per_page=9,
    )
    totals = Aggregation([{"$count": "n"}], {"least": int, "title": str, "kind": me.StringField()})
    api.add(
        Note,
        resource_name="sought",
        filters=["*", "title__icontains", "place__near", "place__within_box"],
        search=True,
        aggregations={"totals": totals},
        bulk={"PATCH", "DELETE"},
        ndjson=True,
    )
    return api


API = make_api()
DOCUMENT: Any = json.loads(json.dumps(API.openapi()))


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def checks(schema: Any) -> Draft202012Validator:
    resolved = {**schema, "components": DOCUMENT["components"]}
    return Draft202012Validator(resolved, format_checker=FormatChecker())


def faults(schema: Any, value: Any) -> list[str]:
    return [f"{each.json_path}: {each.message[:300]}" for each in checks(schema).iter_errors(value)]


def conforms(method: str, template: str, answer: Answer) -> None:
    """Check that an answer is one of those that the document has for the operation, by name."""
    operation = DOCUMENT["paths"][template][method.lower()]
    described = operation["responses"].get(str(answer.status))
    assert described is not None, (method, template, answer)
    for name in described.get("headers", {}):
        if name == "Retry-After" and answer.status == 409:
            continue  # where somebody is at work with the same Idempotency-Key
        if name in {"ETag", "Location", "X-Created-Id", "Allow", "Retry-After"}:
            applied = answer.headers.get("Preference-Applied", "")
            tried = applied == "dry-run" or applied.startswith("handling=")  # or it is about many
            assert (name in answer.headers) is not tried, (name, answer)
    if "content" not in described or not answer.body:
        assert not answer.body, answer
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert faults(described["content"][kind]["schema"], answer.json) == [], answer


# The document -----------------------------------------------------------------------------------------------


def test_the_document_is_openapi_3_1() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"] == {"title": "Everything", "version": "7", "description": "All of it."}
    assert DOCUMENT["servers"] == [{"url": "/api"}]


def test_every_operation_has_a_name_of_its_own_and_a_known_tag() -> None:
    everywhere = [each for _path, _method, each in operations()]
    everywhere += [each["post"] for each in DOCUMENT["webhooks"].values()]
    names = [each["operationId"] for each in everywhere]
    assert len(names) == len(set(names))
    assert {tag for each in everywhere for tag in each["tags"]} == {each["name"] for each in DOCUMENT["tags"]}


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(DOCUMENT)))
    there = {(kind, name) for kind, each in DOCUMENT["components"].items() for name in each}
    assert used == there
    for name in (name for _kind, name in there):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


def test_links_lead_to_operations() -> None:
    names = {each["operationId"] for _path, _method, each in operations()}
    links = DOCUMENT["paths"]["/note"]["post"]["responses"]["201"]["links"]
    assert set(links) == {"get_note", "update_note", "patch_note", "delete_note"} <= names
    assert links["get_note"]["parameters"] == {"key": "$response.body#/writer"}
    assert "links" not in DOCUMENT["paths"]["/shown"]["post"]["responses"]["201"]


def _media(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if "schema" in value and ("example" in value or "examples" in value):
            yield value
        for each in value.values():
            yield from _media(each)
    elif isinstance(value, list):
        for each in value:
            yield from _media(each)


def test_every_example_fits_its_schema() -> None:
    found = list(_media({name: DOCUMENT[name] for name in ("paths", "webhooks")}))
    assert len(found) > 100
    for each in found:
        examples = [one["value"] for one in each.get("examples", {}).values()]
        for example in [each["example"]] if "example" in each else examples:
            assert faults(each["schema"], example) == []


@pytest.mark.parametrize("method", ["post", "put"])
def test_every_json_body_has_an_example(method: str) -> None:
    for path, verb, operation in operations():
        if verb == method:
            assert "example" in operation["requestBody"]["content"]["application/json"], path


def test_every_status_of_the_table_is_described_somewhere() -> None:
    kinds = set(re.findall(r"urn:bzz:problem:([a-z-]+)", json.dumps(DOCUMENT)))
    assert {kind for _error, _status, kind in STATUS} <= kinds
    described = {status for _path, _method, each in operations() for status in each["responses"]}
    assert {str(status) for _error, status, _kind in STATUS} <= described


def test_a_resource_that_demands_conditions_says_so() -> None:
    put, calm = DOCUMENT["paths"]["/strict/{key}"]["put"], DOCUMENT["paths"]["/person/{key}"]["put"]
    assert "428" in put["responses"]
    assert "428" not in calm["responses"]
    assert {"name": "If-Match", "required": True}.items() <= next(
        each for each in put["parameters"] if each["name"] == "If-Match"
    ).items()


def test_a_put_that_replaces_needs_what_a_new_document_needs() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["StrictReplace"]["required"] == ["name"]
    assert "default" in schemas["StrictReplace"]["properties"]["level"]
    assert "required" not in schemas["PersonUpdate"]


def test_only_the_methods_that_a_handler_has_are_described() -> None:
    paths = DOCUMENT["paths"]
    assert set(paths["/calm/reading"]) == {"get", "head"}
    assert set(paths["/calm/reading/{key}"]) == {"get", "head"}
    assert set(paths["/person"]) == {"get", "head", "post", "options"}
    assert set(paths["/person/{key}"]) == {"get", "head", "put", "patch", "delete", "options"}
    assert not [each for each in DOCUMENT["webhooks"] if each.startswith("calm")]


def test_words_of_the_model_are_there_but_no_more_than_its_first_paragraph() -> None:
    note = DOCUMENT["components"]["schemas"]["Note"]
    assert note["description"] == "Something written down."
    assert note["properties"]["title"]["description"] == "What it is about."
    assert note["properties"]["writer"]["title"] == "Writer"
    assert "everybody" not in json.dumps(DOCUMENT)


def test_a_form_is_offered_only_where_it_can_say_what_is_needed() -> None:
    kinds = DOCUMENT["paths"]["/mapped"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"application/json"}
    form = DOCUMENT["components"]["schemas"]["PersonCreateForm"]
    assert {"name", "address.text", "tags", "boss"} <= set(form["properties"])
    assert "extra" not in form["properties"]
    assert form["required"] == ["name"]


def test_what_is_listed_can_be_asked_for_and_nothing_else() -> None:
    shared = DOCUMENT["components"]["parameters"]
    asked = [each["$ref"].rpartition("/")[2] for each in DOCUMENT["paths"]["/asked"]["get"]["parameters"]]
    names = {shared[each]["name"]: shared[each] for each in asked}
    assert {"name", "name__contains", "name__startswith", "address.text", "sort", "expand"} <= set(names)
    assert not {"age", "age__lt", "status", "name__icontains", "search", "aggregate"} & set(names)
    assert names["sort"]["schema"]["items"]["enum"] == ["age", "-age", "id", "-id"]
    assert names["per_page"]["schema"]["default"] == 7


def test_what_a_resource_opted_into_is_listed() -> None:
    shared = DOCUMENT["components"]["parameters"]
    asked = [each["$ref"].rpartition("/")[2] for each in DOCUMENT["paths"]["/sought"]["get"]["parameters"]]
    names = {shared[each]["name"]: shared[each]["schema"] for each in asked}
    assert names["aggregate"]["enum"] == ["totals"]
    assert names["least"]["type"] == "integer"
    assert names["title"]["type"] == "string"  # of the aggregation too: one parameter for both
    assert {"kind", "search", "title__icontains"} <= set(names)
    assert (names["place__near"]["minItems"], names["place__near"]["maxItems"]) == (2, 3)
    assert not {"place", "place__within_polygon", "title__contains"} & set(names)


def test_a_document_is_the_same_every_time_and_made_once() -> None:
    assert make_api().openapi_bytes() == make_api().openapi_bytes()
    api = bzz.Api()
    api.add(Note)
    first = api.openapi_bytes()
    assert api.openapi_bytes() is first
    api.add(Strict)
    assert b"/strict" in api.openapi_bytes()


def test_a_class_that_comes_later_is_described() -> None:
    class Base(me.Document):
        meta = {"allow_inheritance": True}

    api = bzz.Api()
    api.add(Base)
    assert b"BaseLater" not in api.openapi_bytes()

    class BaseLater(Base):
        more = me.IntField()

    assert b"BaseLater" in api.openapi_bytes()


# What the server answers ------------------------------------------------------------------------------------


class Served:
    """The Api on a real port, to be asked from Hypothesis' plain functions."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.client: Client = self.run(self.stack.enter_async_context, serving(API))

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.runner.run(function(*arguments, **options))

    def ask(self, method: str, template: str, key: str | None = None, **options: Any) -> Answer:
        """Send a request, and check that the answer is described."""
        query = options.pop("query", "")
        path = "/api" + template.replace("{key}", key or "") + query
        answer: Answer = self.run(self.client.request, method, path, **options)
        conforms(method, template, answer)
        return answer

    def close(self) -> None:
        from bzz.storage.connection import close_clients  # noqa: PLC0415

        self.run(self.stack.aclose)
        self.run(close_clients)
        self.runner.close()


@pytest.fixture(scope="module")
def served(mongo_url: str) -> Iterator[Served]:
    name = f"bzz-{uuid.uuid4().hex}"
    connection = me.connect(name, host=mongo_url, uuidRepresentation="standard")
    for code in ("a", "b/c", "ü", "x"):
        CodedTarget(code=code, name="n").save()
    served = Served()
    yield served
    served.close()
    connection.drop_database(name)
    me.disconnect_all()


#: Where MongoDB has an index on the sphere it refuses what lies outside of it.
PLACES = {"line", "lines", "points", "polygons", "point", "polygon", "pair"}
documents = bodies.map(lambda body: {name: each for name, each in body.items() if name not in PLACES})


@few
@given(documents, documents)
def test_every_answer_about_any_document_is_as_described(
    served: Served, one: dict[str, Any], other: dict[str, Any]
) -> None:
    created = served.ask("POST", "/everything", json=one)
    if created.status != 201:
        return
    key = created.json["id"]
    item = "/everything/{key}"
    tag = served.ask("GET", item, key).headers["ETag"]
    assert served.ask("GET", item, key, headers={"If-None-Match": tag}).status == 304
    served.ask("HEAD", item, key)
    served.ask("GET", "/everything", query=f"?id={key}")
    served.ask("GET", "/everything", query=f"?id={key}&fields=leaf.text,count,shapes")
    trying = {"Prefer": "dry-run"}
    assert served.ask("POST", "/everything", json=other, headers=trying).status in {200, 400}
    tried = served.ask("PUT", item, key, json=other, headers=trying)
    done = served.ask("PUT", item, key, json=other)
    assert tried.status == done.status
    if done.status == 200:
        assert faults({"$ref": "#/components/schemas/EverythingUpdatePreview"}, tried.json) == []
    assert served.ask("DELETE", item, key, headers=trying).json["status"] == 204
    merged = {"content_type": "application/merge-patch+json"}
    served.ask("PATCH", item, key, json=one, **merged)
    assert served.ask("DELETE", item, key, headers={"If-Match": '"other"'}).status == 412
    assert served.ask("DELETE", item, key).status == 204
    assert served.ask("GET", item, key).status == 404


@few
@given(person_bodies, person_bodies)
def test_every_change_is_said_as_described(
    served: Served, one: dict[str, Any], other: dict[str, Any]
) -> None:
    with capture(signals.post_update_instance) as captured:
        key = served.ask("POST", "/person", json={"name": "x", **one}).json["id"]
        served.ask("PUT", "/person/{key}", key, json=other)
    batch = {"operations": [{"method": "PUT", "path": f"/api/person/{key}", "body": {"name": "x", **one}}]}
    answer = served.ask("POST", "/batch", json=batch)
    diff = {"$ref": "#/components/schemas/PersonDiff"}
    assert faults(diff, answer.json["operations"][0].get("diff", {})) == []
    assert len(captured.events) <= 1
    for event in captured.events:
        changed = bzz.model.encode_diff(bzz.model.Schema.of(Person), event.payload["updated_fields"])
        shown = {
            "signal": "post_update_instance",
            "sender": "Person",
            "instance": served.ask("GET", "/person/{key}", key).json,
            "updated_fields": changed,
        }
        hook = DOCUMENT["webhooks"]["person.post_update_instance"]["post"]
        assert faults(hook["requestBody"]["content"]["application/json"]["schema"], shown) == []


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ("/animal", {"name": "a"}),
        ("/dog", {"barks": True}),
        ("/free", {"title": "t", "colour": [1, {"$oid": "0" * 24}]}),
        ("/shown", {"name": "n"}),
        ("/strict", {"name": "n"}),
        ("/coded_target", {"code": "ä/b", "name": None}),
        ("/mapped", {"prices": {"one": 1}}),
    ],
)
def test_answers_of_every_kind_of_model(served: Served, template: str, body: dict[str, Any]) -> None:
    assert served.ask("POST", template, json=body).status == 201
    assert served.ask("GET", template).json
    assert served.ask("POST", template, json={"nothing": {"like": ["it"]}, "$x": 1}).status == 400
    assert served.ask("POST", template, body=b"<a/>", content_type="text/xml").status == 415
    assert served.ask("GET", template, query="?nothing__like=it").status == 400
    assert served.ask("OPTIONS", template).status == 204


def test_answers_about_many_are_as_described(served: Served) -> None:
    ask = served.ask
    assert (
        ask("POST", "/sought", json=[{"writer": "m1", "title": "t"}, {"writer": "m2", "title": "t"}]).status
        == 201
    )
    assert ask("POST", "/sought", json=[{"writer": "m1", "title": "t"}]).status == 409
    assert ask("POST", "/sought", json=[{"writer": "m3"}, 5]).status == 400
    assert ask("POST", "/sought", json=[]).status == 200
    assert ask("POST", "/sought", json=[{}] * 10_001).status == 413
    for prefer, status in (("dry-run", 400), ("handling=lenient", 207), ("handling=lenient, dry-run", 207)):
        bodies = [{"writer": "m4", "title": "t"}, {"writer": "m5"}]
        assert ask("POST", "/sought", json=bodies, headers={"Prefer": prefer}).status == status
    filtered = "?title=t"
    for method, body in (("PATCH", {"tags": ["x"]}), ("DELETE", None)):
        for prefer, status in (
            ("max-affected=1", 409),
            ("max-affected=9, dry-run", 200),
            ("max-affected=9, handling=lenient", 200),
            ("max-affected=x", 400),
        ):
            answer = ask(method, "/sought", query=filtered, json=body, headers={"Prefer": prefer})
            assert answer.status == status, answer
    answer = ask("PATCH", "/sought", query=filtered, json={"title": 5}, headers={"Prefer": "max-affected=9"})
    assert answer.status in {200, 400}
    assert ask("PATCH", "/sought", json={}, headers={"Prefer": "max-affected=9"}).status == 400


def test_streams_are_described() -> None:
    kind = "application/x-ndjson"
    listed = DOCUMENT["paths"]["/sought"]["get"]["responses"]
    assert kind in listed["200"]["content"]
    assert "426" in listed
    creating = DOCUMENT["paths"]["/sought"]["post"]
    assert kind in creating["requestBody"]["content"]
    assert kind in creating["responses"]["200"]["content"]
    assert kind not in DOCUMENT["paths"]["/note"]["post"]["requestBody"]["content"]


def test_what_is_changed_at_once_is_said_by_filters() -> None:
    described = DOCUMENT["paths"]["/sought"]
    names = {
        DOCUMENT["components"]["parameters"][each["$ref"].rpartition("/")[2]]["name"]
        for each in described["patch"]["parameters"]
        if "$ref" in each
    }
    assert {"title", "writer__in", "search"} <= names
    assert not names & {"page", "per_page", "sort", "fields", "cursor", "count", "aggregate", "place__near"}
    assert described["delete"]["parameters"][-1]["required"] is True
    assert set(DOCUMENT["paths"]["/note"]) == {"get", "head", "post", "options"}


def test_every_class_of_a_family_is_described(served: Served) -> None:
    Animal(name="any").save()
    Dog(name="rex", barks=True).save()
    young = Puppy(name="tim", weeks=3).save()
    assert {each["_cls"] for each in served.ask("GET", "/animal").json} >= {"Animal", "Animal.Dog.Puppy"}
    assert served.ask("PUT", "/animal/{key}", str(young.id), json={"weeks": 4}).json["weeks"] == 4
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Animal"]["discriminator"]["propertyName"] == "_cls"
    assert faults({"$ref": "#/components/schemas/AnimalUpdate"}, {"weeks": 4}) == []
    assert faults({"$ref": "#/components/schemas/AnimalCreate"}, {"weeks": 4}) != []


def test_refusals_are_as_described(served: Served) -> None:
    served.ask("POST", "/coded_target", json={"code": "twice"})
    assert served.ask("POST", "/coded_target", json={"code": "twice"}).status == 409
    assert served.ask("POST", "/person", body=b"{", content_type="application/json").status == 400
    key = served.ask("POST", "/strict", json={"name": "n"}).json["id"]
    assert served.ask("PUT", "/strict/{key}", key, json={"name": "o"}).status == 428
    assert (
        served.ask("PUT", "/strict/{key}", key, json={"name": "o"}, headers={"If-Match": "x"}).status == 400
    )
    patch = [{"op": "test", "path": "/name", "value": "else"}]
    kind = "application/json-patch+json"
    answer = served.ask(
        "PATCH", "/strict/{key}", key, json=patch, content_type=kind, headers={"If-Match": "*"}
    )
    assert answer.status == 409
    assert served.ask("GET", "/person/{key}", "no-key").status == 404
    minimal = {"Prefer": "return=minimal", "If-Match": "*"}
    assert served.ask("PUT", "/strict/{key}", key, json={"name": "o"}, headers=minimal).status == 204


def test_what_belongs_to_no_resource_is_as_described(served: Served) -> None:
    assert served.ask("GET", "/health").status == 200
    assert served.ask("HEAD", "/health").status == 200
    assert served.ask("HEAD", "/openapi.json").status == 200
    assert served.ask("OPTIONS", "/batch").status == 204
    assert served.ask("POST", "/batch", json={"operations": []}, headers={"Prefer": "dry-run"}).status == 200
    listing = {"operations": [{"method": "GET", "path": "/api/note"}]}
    for body, status in ((listing, 200), (listing, 200), ({"operations": listing["operations"] * 2}, 422)):
        assert served.ask("POST", "/batch", json=body, headers={"Idempotency-Key": '"k"'}).status == status
    assert served.ask("GET", "/ready").status == 200
    assert served.ask("GET", "/openapi.json").json["info"]["title"] == "Everything"
    assert served.ask("POST", "/batch", json={"operations": [], "what": 1}).status == 400
    assert served.ask("POST", "/batch", body=b"x", content_type="text/plain").status == 415
    batch = {"operations": [{"method": "GET", "path": "/nowhere"}]}
    assert served.ask("POST", "/batch", json=batch).status == 400
    batch = {
        "continue_on_error": True,
        "operations": [
            {"method": "POST", "path": "/person", "body": {"name": "in a batch"}},
            {"method": "GET", "path": "/person/" + "0" * 24},
        ],
    }
    entries = served.ask("POST", "/batch", json=batch).json["operations"]
    assert [each["status"] for each in entries] == [201, 404]
    body = DOCUMENT["paths"]["/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert faults(body, batch) == []


#: What a server refuses for reasons that JSON Schema has no words for.
UNSAYABLE = re.compile(
    "|".join(["more digits|34 digits", "does not exist", r"not a valid \$", "Another .* has", "NUL"])
)


@few
@given(st.data())
def test_what_fits_the_schema_of_a_body_is_taken(served: Served, data: st.DataObject) -> None:
    merge = "application/merge-patch+json"
    for template, method in (
        ("/person", "POST"),
        ("/note", "POST"),
        ("/person/{key}", "PUT"),
        ("/person/{key}", "PATCH"),
    ):
        kind = merge if method == "PATCH" else "application/json"
        schema = DOCUMENT["paths"][template][method.lower()]["requestBody"]["content"][kind]
        components = DOCUMENT["components"]["schemas"]
        body = data.draw(instances(schema["schema"], components))
        for item in body if isinstance(body, list) else [body]:
            if "id" in item:
                del item["id"]
            if isinstance(item.get("place"), (dict, list)):
                item["place"] = [1, 2]
        key = str(Person(name="x").save().id) if "{key}" in template else None
        answer = served.ask(method, template, key, json=body, content_type=kind)
        if answer.status == 400:
            for each in answer.json.get("errors", [answer.json]):
                assert UNSAYABLE.search(each["detail"]), (each, body)
        else:
            assert answer.status in {200, 201, 409}, (answer, body)


FILTERS = [
    (each["name"], each["schema"])
    for reference in DOCUMENT["paths"]["/person"]["get"]["parameters"]
    for each in [DOCUMENT["components"]["parameters"][reference["$ref"].rpartition("/")[2]]]
    if each["name"] not in {"cursor", "page"}
]


@few
@given(st.sampled_from(FILTERS).flatmap(lambda each: st.tuples(st.just(each[0]), instances(each[1], {}))))
def test_every_parameter_takes_what_it_says(served: Served, given: tuple[str, Any]) -> None:
    name, value = given
    values = value if isinstance(value, list) else [value]
    texts = [json.dumps(each) if isinstance(each, (bool, int, float)) else each for each in values]
    if isinstance(value, list) and any("," in text for text in texts):
        return
    answer = served.ask("GET", "/person", query=f"?{name}={quote(','.join(texts), safe='')}")
    if answer.status == 400:
        assert re.search(
            "34 digits|does not exist|cannot be searched|named twice|twice", answer.json["detail"]
        )


@few
@given(st.data())
def test_what_fits_the_schema_of_a_form_is_taken(served: Served, data: st.DataObject) -> None:
    components = DOCUMENT["components"]["schemas"]
    body = data.draw(instances(components["PersonCreateForm"], components))
    pairs = [
        (name, json.dumps(each) if isinstance(each, (bool, int, float)) else each)
        for name, value in body.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    answer = served.ask("POST", "/person", form=pairs)
    if answer.status == 400:
        for each in answer.json["errors"]:
            assert UNSAYABLE.search(each["detail"]), (each, body)


# How it is served -------------------------------------------------------------------------------------------


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    api = bzz.Api(prefix="/shop", title="<script>alert('x')</script> & \"more\"")
    api.add(Note)
    async with serving(api) as client:
        yield client


async def test_the_document_is_served_with_a_tag(client: Client) -> None:
    answer = await client.get("/shop/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "/note" in answer.json["paths"]
    again = await client.get("/shop/openapi.json", headers={"If-None-Match": answer.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")
    assert (await client.request("HEAD", "/shop/openapi.json")).status == 200
    refused = await client.post("/shop/openapi.json", json={})
    assert refused.problem(405)
    assert refused.headers["Allow"] == "GET, HEAD"


class Page(HTMLParser):
    """What a page loads, runs and shows."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline = ""
        self.title = ""
        self.handlers: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in = tag
        loads = given.get("src") or (given.get("href") if tag == "link" else None) or given.get("data-url")
        if loads:
            self.loaded.append(loads)
        self.handlers += [name for name in given if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.inline += data
        if self._in == "title":
            self.title += data


async def test_the_page_and_all_that_it_loads_come_from_this_server(client: Client) -> None:
    answer = await client.get("/shop/docs")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page()
    page.feed(answer.body.decode())
    assert page.title == "<script>alert('x')</script> & \"more\""
    assert page.inline == ""
    assert page.handlers == []
    own = [each for each in page.loaded if not each.startswith("data:")]
    assert len(own) == 4
    for each in own:
        assert each.startswith("/shop/"), each
        found = await client.get(each)
        assert (found.status, bool(found.body)) == (200, True), each
        assert found.headers["X-Content-Type-Options"] == "nosniff"
    script = next(each for each in own if each.endswith("bundle.js"))
    kept = await client.get(script)
    assert "immutable" in kept.headers["Cache-Control"]
    licence = await client.get(f"{script.rpartition('/')[0]}/LICENSE")
    assert b"Apache License" in licence.body
    assert (await client.get(f"{script.rpartition('/')[0]}/..%2fstart.js")).status == 404


async def test_a_browser_runs_nothing_else(client: Client) -> None:
    policy = (await client.get("/shop/docs")).headers["Content-Security-Policy"]
    rules = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"


def test_the_assets_are_what_their_note_says() -> None:
    folder = files("bzz.openapi").joinpath("assets", "swagger-ui")
    note = folder.joinpath("README.md").read_text()
    version = re.search(r"Swagger UI (\d+\.\d+\.\d+)", note)
    assert version
    assert f'"{version[1]}"' in folder.joinpath("swagger-ui-bundle.js").read_text()
    for name in ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"):
        assert folder.joinpath(name).read_text()


async def test_each_can_be_moved_or_turned_off() -> None:
    moved = bzz.Api(openapi="/about/api.json", docs="about")
    moved.add(Note)
    async with serving(moved) as client:
        assert (await client.get("/about/api.json")).json["paths"]["/about/api.json"]
        page = await client.get("/about")
        assert b'data-url="/about/api.json"' in page.body
        assert (await client.get("/openapi.json")).status == 404
    bare = bzz.Api(openapi=None, batch=None, health=None, ready=None)
    bare.add(Note)
    assert set(bare.openapi()["paths"]) == {"/note", "/note/{key}"}
    async with serving(bare) as client:
        assert (await client.get("/openapi.json")).status == 404
        assert (await client.get("/docs")).status == 404
    async with serving(bzz.Api(docs=None)) as client:
        assert (await client.get("/docs")).status == 404
        assert (await client.get("/openapi.json")).json["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("name", ["docs", "health", "ready", "batch"])
def test_a_resource_cannot_hide_what_the_api_has(name: str) -> None:
    with pytest.raises(ValueError, match=f"Api\\({name}='/other'\\)"):
        bzz.Api().add(Note, resource_name=name)
    bzz.Api(**{name: "/elsewhere"}).add(Note, resource_name=name)


# The command ------------------------------------------------------------------------------------------------

SHOP = """
import mongoengine
import bzz

class Sale(mongoengine.Document):
    amount = mongoengine.IntField()

api = bzz.Api(title="Shop")
api.add(Sale)
"""


def test_the_command_prints_the_document(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sales_shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(main, ["openapi", "sales_shop:api"])
    assert printed.exit_code == 0, printed.output
    document = json.loads(printed.stdout)
    validate(document)
    assert document["info"]["title"] == "Shop"
    written = CliRunner().invoke(main, ["openapi", "sales_shop:api", "-o", "out.json"])
    assert written.exit_code == 0
    assert written.stdout == ""
    assert json.loads((tmp_path / "out.json").read_text()) == document
    refused = CliRunner().invoke(main, ["openapi", "sales_shop:Sale"])
    assert refused.exit_code == 2
    assert "is not a bzz.Api" in refused.output
