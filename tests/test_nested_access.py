"""What limits a resource limits what is below its documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bzz
from tests.nested_models import Address, Badge, Module, Project, Team, User
from tests.serving import Answer, Client, serving


@pytest.fixture
async def documents(database: str) -> AsyncIterator[None]:
    User(name="ann", age=30, address=Address(city="Rio", zip_code="1")).save()
    User(name="bo", age=40).save()
    projects = [Project(name="bzz", stars=3, module=Module(name="core", lines=7))]
    Team(code="t", owner="ann", members=["ann", "bo"], projects=projects, badges=[Badge(title="x")]).save()
    yield


def pointers(answer: Answer) -> list[str]:
    return [each["pointer"] for each in answer.problem(400)["errors"]]


async def allowed(client: Client, path: str) -> str:
    return str((await client.request("OPTIONS", path)).headers.get("Allow", ""))


async def test_methods_of_the_resources_that_do_it(documents: None) -> None:
    api = bzz.Api()
    api.add(User, methods=["GET"])
    api.add(Team, methods=["GET", "PATCH"])
    async with serving(api) as client:
        assert await allowed(client, "/user/ann/address") == "GET, HEAD, OPTIONS"
        assert await allowed(client, "/team/t/members") == "GET, HEAD, POST, OPTIONS"
        assert await allowed(client, "/team/t/members/ann") == "GET, HEAD, DELETE, OPTIONS"
        assert await allowed(client, "/team/t/projects/bzz") == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
        (await client.put("/team/t/members/ann", json={"age": 1})).problem(405)
        (await client.put("/team/t/members/ann/address", json={"city": "x"})).problem(405)
        plan = {"operations": [{"method": "PUT", "path": "/team/t/members/ann", "body": {"age": 1}}]}
        assert (await client.post("/batch", json=plan)).status == 400
    api = bzz.Api()
    api.add(User, methods=["PUT"])
    api.add(Team, methods=["POST"])
    async with serving(api) as client:
        assert (await client.request("OPTIONS", "/team/t/projects")).status == 404
        assert await allowed(client, "/team/t/members/ann") == "PUT, OPTIONS"
        assert await allowed(client, "/user/ann/address") == "POST, PUT, PATCH, DELETE, OPTIONS"
    assert User.objects.get(name="ann").age == 30


async def test_fields_that_cannot_be_seen_or_set(documents: None) -> None:
    api = bzz.Api()
    api.add(
        User, readable=["age", "address.city"], writable=["address.city", "friends"], write_only=["friends"]
    )
    api.add(Team, readable=["projects", "members"], writable=["owner", "projects"])
    async with serving(api) as client:
        assert (await client.get("/user/ann/address")).json == {"city": "Rio"}
        changed = await client.put("/user/ann/address", json={"city": "Oslo"})
        assert changed.json == {"city": "Oslo"}
        assert pointers(await client.put("/user/ann/address", json={"zip_code": "2"})) == ["/zip_code"]
        assert pointers(await client.put("/user/ann/address", form="zip_code=2")) == ["/zip_code"]
        steps: list[Any] = [{"op": "replace", "path": "/zip_code", "value": "2"}]
        kind = {"content_type": "application/json-patch+json"}
        assert pointers(await client.request("PATCH", "/user/ann/address", json=steps, **kind)) == [
            "/zip_code"
        ]
        steps = [{"op": "test", "path": "/zip_code", "value": "1"}]
        (await client.request("PATCH", "/user/ann/address", json=steps, **kind)).problem(409)
        assert (await client.request("PATCH", "/user/ann/address", json={"city": "Rom"})).json == {
            "city": "Rom"
        }
        (await client.delete("/user/ann/address")).problem(400)
        assert User.objects.get(name="ann").address.zip_code == "1"
        # Shown and never written.
        assert await allowed(client, "/team/t/members") == "GET, HEAD, OPTIONS"
        (await client.delete("/team/t/members/ann")).problem(405)
        # What cannot be seen is not there, set or not: a refusal would tell what is in it.
        for path in ("/user/ann/friends", "/team/t/owner", "/team/t/badges"):
            assert (await client.request("OPTIONS", path)).status == 404
            (await client.post(path, json={"id": "bo"})).problem(404)
            (await client.delete(path, headers={"Prefer": "dry-run"})).problem(404)
        assert (await client.put("/user/ann", json={"friends": ["bo"]})).status == 200


async def test_a_replacement_keeps_what_the_client_cannot_see(documents: None) -> None:
    api = bzz.Api()
    api.add(User, put="replace", readable=["address.city"])
    api.add(Team, put="replace")
    async with serving(api) as client:
        assert (await client.put("/user/ann/address", json={"city": "Oslo"})).status == 200
        assert User.objects.get(name="ann").address.zip_code == "1"
        # The key of an item stays as well; everything else is what it is by default.
        replaced = await client.put("/team/t/projects/bzz", json={"module": {"name": "new"}})
        assert replaced.json == {"name": "bzz", "stars": 1, "module": {"name": "new", "lines": None}}
        replaced = await client.put("/team/t/projects/bzz", json={})
        assert replaced.json == {"name": "bzz", "stars": 1, "module": None}


async def test_rows(documents: None) -> None:
    api = bzz.Api()
    api.add(User, rows={"age": 40})
    api.add(Team, rows={"code": ["t"]})
    Team(code="hidden", members=["bo"]).save()
    async with serving(api) as client:
        assert [each["name"] for each in (await client.get("/team/t/members")).json] == ["bo"]
        (await client.get("/team/t/members/ann")).problem(404)
        (await client.get("/team/t/members/ann/address")).problem(404)
        (await client.get("/team/t/owner")).problem(404)
        (await client.get("/team/hidden/members")).problem(404)
        (await client.post("/team/hidden/projects", json={"name": "x"})).problem(404)
        assert pointers(await client.post("/team/t/members", json={"members": ["bo", "ann"]})) == [
            "/members/1"
        ]
        told = (await client.delete("/team/t/members/ann", headers={"Prefer": "dry-run"})).json
        assert told["document"] == {"name": "ann", "age": None, "address": None, "friends": None}
        # Who may change the team may take out whom they cannot see.
        assert (await client.delete("/team/t/members/ann")).status == 204


async def test_who_is_asked(documents: None) -> None:
    asked: list[Any] = []

    def authorize(operation: Any) -> None:
        asked.append(
            (operation.resource.name if operation.resource else None, operation.action, operation.data)
        )

    api = bzz.Api(authorize=authorize)
    users, teams = api.add(User), api.add(Team)
    async with serving(api) as client:
        await client.put("/team/t/members/ann/address", json={"city": "Ur"})
        assert [each[1:] for each in asked] == [
            ("get_instance", None),
            ("update_instance", {"address": {"city": "Ur"}}),
        ]
        asked.clear()
        await client.post("/team/t/members", form="members[]=bo")
        assert [each[1:] for each in asked] == [
            ("get_instance", None),
            ("update_instance", {"members": ["bo"]}),
        ]
        asked.clear()
        await client.delete("/team/t/members/bo")
        assert [each[1:] for each in asked] == [("update_instance", {"members": []})]
    assert users.resource is not teams.resource


async def test_a_resource_that_demands_to_know_the_state(documents: None) -> None:
    api = bzz.Api()
    api.add(User)
    api.add(Team, require_if_match=True)
    async with serving(api) as client:
        tag = (await client.get("/team/t")).headers["ETag"]
        member = (await client.get("/team/t/members/bo")).headers["ETag"]
        for method, path, body in (
            ("POST", "/team/t/projects", {"name": "x"}),
            ("PUT", "/team/t/projects/bzz", {"stars": 1}),
            ("DELETE", "/team/t/projects/bzz", None),
            ("POST", "/team/t/members", {"id": "ann"}),
            ("DELETE", "/team/t/members/bo", None),
            ("PUT", "/team/t/owner", {"id": "bo"}),
        ):
            (await client.request(method, path, json=body)).problem(428)
        made = await client.post("/team/t/projects", json={"name": "x"}, headers={"If-Match": tag})
        assert made.status == 201
        (await client.post("/team/t/projects", json={"name": "y"}, headers={"If-Match": tag})).problem(412)
        assert (await client.delete("/team/t/members/bo", headers={"If-Match": member})).status == 204
        assert (await client.put("/team/t/members/ann", json={"age": 2})).status == 200
        tag = (await client.get("/team/t")).headers["ETag"]
        added = {"method": "POST", "path": "/team/t/projects", "body": {"name": "z"}, "if_match": tag}
        told = (
            await client.post("/batch", json={"operations": [added, added], "continue_on_error": True})
        ).json
        assert [each["status"] for each in told["operations"]] == [201, 412]
