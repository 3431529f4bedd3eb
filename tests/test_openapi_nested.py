"""The description of what is below a document, held against what the server does."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import bzz
from bzz import signals
from bzz.model import Schema, encode, encode_diff, to_stored
from bzz.testing import capture
from tests.nested_models import Address, Module, Project, Team, User, serving_teams
from tests.serving import Answer, Client, serving
from tests.test_nested_fields import Base, Everything, Person


def described(api: bzz.Api) -> Any:
    document = json.loads(json.dumps(api.openapi()))
    validate(document)
    return document


class Checking:
    """A client that holds every answer, and every body that was taken, against the description."""

    def __init__(self, client: Client, document: Any) -> None:
        self.client = client
        self.document = document
        self.seen: set[tuple[str, str, int]] = set()
        self._templates = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in document["paths"]
        ]

    def faults(self, schema: Any, value: Any) -> list[str]:
        whole = {**schema, "components": self.document["components"]}
        return [
            f"{each.json_path}: {each.message[:200]}"
            for each in Draft202012Validator(whole).iter_errors(value)
        ]

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        answer = await self.client.request(method, path, **options)
        template = next(name for form, name in self._templates if form.fullmatch(path.partition("?")[0]))
        operation = self.document["paths"][template][method.lower()]
        assert str(answer.status) in operation["responses"], (method, path, answer)
        response = operation["responses"][str(answer.status)]
        for name in {"ETag", "Location", "X-Created-Id", "Allow", "Link"} & {*answer.headers}:
            assert name in response.get("headers", {}), (name, answer)
        if answer.body:
            kind = answer.headers["Content-Type"]
            assert self.faults(response["content"][kind]["schema"], answer.json) == [], answer
        if "json" in options and answer.status < 400:
            kind = options.get("content_type", "application/json")
            schema = operation["requestBody"]["content"][kind]["schema"]
            assert self.faults(schema, options["json"]) == [], (method, path, options)
        if method in {"GET", "PUT", "DELETE"} and "?" not in path:
            names = {
                each["name"]
                for each in operation["parameters"]
                if "$ref" not in each and each["in"] == "path"
            }
            assert names == {*re.findall(r"\{(\w+)\}", template)}
        self.seen.add((method, template, answer.status))
        return answer


PATCH = {"content_type": "application/merge-patch+json"}
STEPS = {"content_type": "application/json-patch+json"}
DRY = {"headers": {"Prefer": "dry-run"}}
LEAST = {"headers": {"Prefer": "return=minimal"}}

SCENARIO: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/team/t/members", {}),
    ("HEAD", "/team/t/members", {}),
    ("OPTIONS", "/team/t/members", {}),
    ("GET", "/team/t/members?fields=age&sort=-name", {}),
    ("GET", "/team/t/members?wrong=1", {}),
    ("POST", "/team/t/members", {"json": {"members": ["cy"]}}),
    ("POST", "/team/t/members", {"json": {"members": ["cy"]}}),
    ("POST", "/team/t/members", {"json": {"id": "cy"}}),
    ("POST", "/team/t/members", {"json": {"id": "cy"}, **LEAST}),
    ("POST", "/team/t/members", {"json": {"id": "none"}}),
    ("POST", "/team/t/members", {"json": {"id": "ann"}, **DRY}),
    ("POST", "/team/t/members", {"body": b"x", "content_type": "text/plain"}),
    ("POST", "/team/none/members", {"json": {"id": "cy"}}),
    ("GET", "/team/t/members/cy", {}),
    ("GET", "/team/t/members/cy?fields=age", {}),
    ("HEAD", "/team/t/members/cy", {}),
    ("PUT", "/team/t/members/cy", {"json": {"age": 3}}),
    ("PUT", "/team/t/members/cy", {"json": {"age": 3}, **DRY}),
    ("PUT", "/team/t/members/cy", {"json": {"age": -3}}),
    ("PUT", "/team/t/members/cy", {"json": {"age": 3}, "headers": {"If-Match": '"x"'}}),
    ("PATCH", "/team/t/members/cy", {"json": {"age": 4}, **PATCH}),
    ("PATCH", "/team/t/members/cy", {"json": [{"op": "test", "path": "/age", "value": 9}], **STEPS}),
    ("DELETE", "/team/t/members/cy", DRY),
    ("DELETE", "/team/t/members/cy", {"headers": {"If-Match": '"x"'}}),
    ("DELETE", "/team/t/members/cy", {}),
    ("DELETE", "/team/t/members/cy", {}),
    ("OPTIONS", "/team/t/members/cy", {}),
    ("GET", "/team/t/owner", {}),
    ("PUT", "/team/t/owner", {"json": {"id": "bo"}}),
    ("PUT", "/team/t/owner", {"json": {"id": "ann"}, **DRY}),
    ("PUT", "/team/t/owner", {"json": {"owner": "ann"}, **LEAST}),
    ("POST", "/team/t/owner", {"json": {"id": "bo"}}),
    ("PATCH", "/team/t/owner", {"json": {"age": 9}, **PATCH}),
    ("DELETE", "/team/t/owner", {}),
    ("GET", "/team/t/owner", {}),
    ("POST", "/team/t/owner", {"json": {"id": "bo"}}),
    ("GET", "/team/t/projects", {}),
    ("GET", "/team/t/projects?sort=name", {}),
    ("POST", "/team/t/projects", {"json": {"name": "a", "module": {"name": "m"}}}),
    ("POST", "/team/t/projects", {"json": {"name": "a"}}),
    ("POST", "/team/t/projects", {"json": {"name": "b"}, **DRY}),
    ("POST", "/team/t/projects", {"json": {"name": "b"}, **LEAST}),
    ("POST", "/team/t/projects", {"json": {"stars": 1}}),
    ("POST", "/team/t/projects", {"json": {"name": "b"}, "headers": {"If-Match": '"x"'}}),
    ("GET", "/team/t/projects/a", {}),
    ("PUT", "/team/t/projects/a", {"json": {"stars": 2}}),
    ("PUT", "/team/t/projects/a", {"json": {"stars": 3}, **DRY}),
    ("PUT", "/team/t/projects/a", {"json": {"stars": 3}, **LEAST}),
    ("PATCH", "/team/t/projects/a", {"json": {"stars": None}, **PATCH}),
    ("PATCH", "/team/t/projects/a", {"json": [{"op": "remove", "path": "/nothing"}], **STEPS}),
    ("GET", "/team/t/projects/a/module", {}),
    ("DELETE", "/team/t/projects/a/module", {}),
    ("POST", "/team/t/projects/a/module", {"json": {"lines": 3}}),
    ("POST", "/team/t/projects/a/module", {"json": {"lines": 3}}),
    ("OPTIONS", "/team/t/projects/a/module", {}),
    ("DELETE", "/team/t/projects/a", DRY),
    ("DELETE", "/team/t/projects/a", {}),
    ("GET", "/team/t/projects/a", {}),
    ("POST", "/team/t/notes", {"json": {"text": "x"}}),
    ("GET", "/team/t/notes/0", {}),
    ("PUT", "/team/t/notes/0", {"json": {"text": "y"}}),
    ("DELETE", "/team/t/notes/0", {}),
    ("POST", "/team/t/badges", {"json": {"title": "x"}}),
    ("GET", "/user/bo/address", {}),
    ("GET", "/user/bo/address?fields=city", {}),
    ("PUT", "/user/bo/address", {"json": {"city": "Oslo"}}),
    ("DELETE", "/user/bo/address", {}),
    ("GET", "/user/bo/friends", {}),
]


@pytest.fixture
async def documents(database: str) -> AsyncIterator[None]:
    User(name="ann", age=30).save()
    User(name="bo", age=40, address=Address(city="Rio")).save()
    User(name="cy").save()
    projects = [Project(name="bzz", module=Module(name="m"))]
    Team(code="t", owner="ann", members=["ann", "bo"], projects=projects).save()
    yield


async def test_every_answer_is_as_described(documents: None) -> None:
    api = bzz.Api()
    api.add(User, filters=["*"])
    api.add(Team)
    document = described(api)
    async with serving(api) as client:
        checking = Checking(client, document)
        for method, path, options in SCENARIO:
            await checking.ask(method, path, **options)
    statuses = {status for _method, _path, status in checking.seen}
    assert statuses == {200, 201, 204, 400, 404, 409, 412, 415, 428}


async def test_what_is_limited_is_described_so(documents: None) -> None:
    api = bzz.Api(rate_limit="1000/minute")
    options = {"readable": ["age", "address.city"], "writable": ["address.city"], "methods": ["GET", "PUT"]}
    api.add(User, put="replace", **options)
    api.add(Team, methods=["GET"], nested=["projects", "members"])
    document = described(api)
    below = {path: {*item} for path, item in document["paths"].items() if "}/" in path}
    assert below == {
        "/user/{key}/address": {"get", "head", "post", "put", "patch", "delete", "options"},
        "/team/{key}/projects": {"get", "head", "options"},
        "/team/{key}/projects/{projects_key}": {"get", "head", "options"},
        "/team/{key}/projects/{projects_key}/module": {"get", "head", "options"},
        "/team/{key}/members": {"get", "head", "options"},
        "/team/{key}/members/{members_key}": {"get", "head", "put", "options"},
    }
    async with serving(api) as client:
        checking = Checking(client, document)
        assert (await checking.ask("GET", "/user/bo/address")).json == {"city": "Rio"}
        assert (await checking.ask("PUT", "/user/bo/address", json={"city": "Oslo"})).status == 200
        assert (await checking.ask("PATCH", "/user/bo/address", json={"city": "Rio"}, **PATCH)).status == 200
        assert (await checking.ask("GET", "/team/t/members/bo")).json["address"] == {"city": "Rio"}
        await checking.ask("GET", "/team/t/members")
    put = document["paths"]["/user/{key}/address"]["put"]
    assert "429" in put["responses"]
    schema = put["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    members = document["components"]["schemas"][schema]["properties"]
    assert [*members] == ["city"]


async def test_what_an_owner_demands_is_described(documents: None) -> None:
    api = bzz.Api()
    api.add(Team, require_if_match=True)
    document = described(api)

    def demands(path: str, method: str) -> bool:
        parameters = document["paths"][path][method]["parameters"]
        return any(each.get("name") == "If-Match" and each.get("required") for each in parameters)

    assert demands("/team/{key}/projects", "post") and demands("/team/{key}/owner", "put")
    assert not demands("/team/{key}/members/{members_key}", "put")
    assert not demands("/team/{key}/projects/{projects_key}", "get")
    assert demands("/team/{key}/notes/{notes_key}", "delete")
    parameters = document["paths"]["/team/{key}/notes/{notes_key}"]["put"]["parameters"]
    pattern = next(each["schema"]["pattern"] for each in parameters if each["name"] == "If-Match")
    assert re.search(pattern, '"x", W/"y"') and not re.search(pattern, "*")
    async with serving(api) as client:
        checking = Checking(client, document)
        assert (await checking.ask("POST", "/team/t/projects", json={"name": "x"})).status == 428
        assert (await checking.ask("GET", "/team/t/members?page=1")).status == 200


async def test_classes_and_keys_of_every_kind_are_described(database: str) -> None:
    Person(slug="ann").save()
    Everything(name="e").save()
    api = bzz.Api()
    for model in (Person, Base, Everything):
        api.add(model)
    document = described(api)
    names = {path for path in document["paths"] if path.startswith("/everything/{key}/")}
    assert "/everything/{key}/nowhere" not in names and "/everything/{key}/shape/inner" in names
    async with serving(api) as client:
        checking = Checking(client, document)
        await checking.ask("POST", "/everything/e/shapes", json={"_cls": "Circle", "title": "c", "radius": 1})
        await checking.ask("POST", "/everything/e/shapes", json={"title": "s"})
        await checking.ask("GET", "/everything/e/shapes")
        await checking.ask("GET", "/everything/e/shapes/c")
        await checking.ask("PUT", "/everything/e/shapes/c", json={"radius": 2})
        await checking.ask("GET", "/everything/e/shapes/c/inner")
        await checking.ask(
            "POST", "/everything/e/shape", json={"_cls": "Box", "title": "b", "inner": {"size": 1}}
        )
        await checking.ask("GET", "/everything/e/shape/inner")
        await checking.ask("POST", "/everything/e/scores", json={"points": 1})
        await checking.ask("GET", "/everything/e/scores/1")
        for name in ("lazies", "cacheds", "dbrefs", "customs"):
            assert (await checking.ask("POST", f"/everything/e/{name}", json={"id": "ann"})).status == 201
            await checking.ask("GET", f"/everything/e/{name}/ann")


TOLD: list[tuple[str, str, Any, str]] = [
    ("POST", "/user/ann/friends", {"id": "cy"}, "user.friends.post_create_instance"),
    ("DELETE", "/user/ann/friends/cy", None, "user.friends.post_delete_instance"),
    ("PUT", "/user/bo/address", {"city": "Oslo"}, "user.address.post_update_instance"),
    ("DELETE", "/user/bo/address", None, "user.address.post_delete_instance"),
    ("POST", "/user/bo/address", {"city": "Rio"}, "user.address.post_create_instance"),
    ("PUT", "/team/t/owner", {"id": "bo"}, "team.owner.post_create_instance"),
    ("DELETE", "/team/t/owner", None, "team.owner.post_delete_instance"),
    ("POST", "/team/t/projects", {"name": "x"}, "team.projects.post_create_instance"),
    ("PATCH", "/team/t/projects/x", {"stars": 3}, "team.projects.post_update_instance"),
    ("POST", "/team/t/projects/x/module", {"lines": 3}, "team.projects.module.post_create_instance"),
    ("PUT", "/team/t/projects/x/module", {"lines": 4}, "team.projects.module.post_update_instance"),
    ("DELETE", "/team/t/projects/x/module", None, "team.projects.module.post_delete_instance"),
    ("DELETE", "/team/t/projects/x", None, "team.projects.post_delete_instance"),
]


def shown(document: Any) -> Any:
    return encode(Schema.of(type(document)), to_stored(document))


async def test_what_is_told_below_a_document_is_described(database: str) -> None:
    api = bzz.Api()
    api.add(User)
    api.add(Team)
    document = described(api)
    async with serving_teams() as client:
        checking = Checking(client, document)
        for method, path, body, name in TOLD:
            with capture(*signals.ALL) as captured:
                assert (await client.request(method, path, json=body)).status < 300, (method, path)
            told = [each for each in captured.events if each.signal.name.startswith("post_")]
            (event,) = [each for each in told if "owner" in each.payload]
            payload = event.payload
            said = {
                "signal": event.signal.name,
                "sender": event.sender.__name__,
                "instance": shown(payload["instance"]),
                "owner": shown(payload["owner"]),
                "path": [*payload["path"]],
                "updated_fields": encode_diff(Schema.of(type(payload["owner"])), payload["updated_fields"]),
            }
            hook = document["webhooks"][name]["post"]
            assert name.endswith(event.signal.name)
            assert hook["operationId"].startswith(event.signal.name)
            schema = hook["requestBody"]["content"]["application/json"]["schema"]
            assert checking.faults(schema, said) == [], said
            resolved = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert resolved["required"] == [*said] == [*resolved["properties"]]


def test_what_cannot_happen_below_a_document_is_not_told() -> None:
    api = bzz.Api()
    api.add(Team, methods=["GET"])
    api.add(User, methods=["GET", "PUT"], writable=["age"])
    assert [*described(api)["webhooks"]] == ["user.post_update_instance"]
    api = bzz.Api()
    api.add(Team, methods=["GET", "PUT"], nested=["members", "owner"])
    hooks = [*described(api)["webhooks"]]
    # What is done to the members themselves is told as theirs.
    assert hooks == [
        "team.post_update_instance",
        "team.owner.post_create_instance",
        "team.owner.post_delete_instance",
        "team.members.post_create_instance",
        "team.members.post_delete_instance",
    ]


def test_every_operation_has_a_name_and_an_example() -> None:
    api = bzz.Api()
    api.add(User)
    api.add(Team)
    document = described(api)
    everything = [
        (path, method, each) for path, item in document["paths"].items() for method, each in item.items()
    ]
    names = [each["operationId"] for _path, _method, each in everything]
    names += [each["post"]["operationId"] for each in document["webhooks"].values()]
    assert len(names) == len({*names})
    assert {"list_team_members", "associate_team_members", "dissociate_team_members"} <= {*names}
    assert {"create_team_projects", "update_team_projects_module", "get_team_members"} <= {*names}
    for path, method, each in everything:
        if method in {"post", "put"} and "}/" in path:
            media = each["requestBody"]["content"]["application/json"]
            whole = {**media["schema"], "components": document["components"]}
            assert [*Draft202012Validator(whole).iter_errors(media["example"])] == []
    for name, each in document["webhooks"].items():
        media = each["post"]["requestBody"]["content"]["application/json"]
        whole = {**media["schema"], "components": document["components"]}
        assert [*Draft202012Validator(whole).iter_errors(media["example"])] == []
        changed = media["example"].get("updated_fields", {})
        assert [*changed] == [name.split(".")[1]] if "path" in media["example"] else len(changed) <= 1


def test_what_there_is_one_of_is_not_one_of_many() -> None:
    api = bzz.Api()
    api.add(Team)
    api.add(User)
    paths = described(api)["paths"]
    assert paths["/user/{key}/address"]["get"]["summary"] == "The address of one user"
    many = next(name for name in paths if name.startswith("/team/{key}/") and name.endswith("_key}"))
    assert paths[many]["get"]["summary"].startswith("One of the ")
