"""Who hears of what happens below a document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bzz
from bzz import signals
from bzz.testing import capture
from tests.nested_models import Address, Badge, Module, Note, Project, Team, User, serving_teams, stored
from tests.serving import Client, serving

NAMED = [each for each in signals.ALL if each.name.startswith(("pre_", "post_"))]


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving_teams() as client:
        yield client


async def test_the_signals_of_associating_and_taking_out(client: Client) -> None:
    with capture(*NAMED) as captured:
        await client.post("/team/t/members", json={"members": ["ann", "cy"]})
    told = [(each.signal.name, each.sender) for each in captured.events]
    assert told == [
        ("pre_get_instance", User),
        ("pre_get_instance", User),
        ("pre_update_instance", Team),
        ("pre_create_instance", User),
        ("pre_create_instance", User),
        ("post_create_instance", User),
        ("post_update_instance", Team),
    ]
    diff = {"members": {"from": ["ann", "bo"], "to": ["ann", "bo", "cy"]}}
    nested, whole = captured.events[-2].payload, captured.events[-1].payload
    assert nested["instance"].name == "cy" and nested["owner"].code == "t" and nested["path"] == ("members",)
    assert nested["updated_fields"] == whole["updated_fields"] == diff
    assert captured.events[2].payload["data"] == {"members": ["ann", "cy"]}
    assert captured.events[2].payload["path"] == ("members",)
    with capture(*NAMED) as captured:
        await client.post("/team/t/members", json={"id": "cy"})
    assert not any(each.signal.name.startswith("post_") for each in captured.events)
    with capture(*NAMED) as captured:
        await client.delete("/team/t/members/ann")
    told = [(each.signal.name, each.sender) for each in captured.events]
    assert told == [
        ("pre_update_instance", Team),
        ("pre_delete_instance", User),
        ("post_delete_instance", User),
        ("post_update_instance", Team),
    ]
    nested = captured.events[2].payload
    assert nested["instance"].name == "ann" and nested["path"] == ("members", "ann")
    assert [each.name for each in nested["owner"].members] == ["ann", "bo", "cy"]


@pytest.mark.parametrize(
    ("method", "path", "body", "event", "sender"),
    [
        ("POST", "/user/ann/address", {"city": "Rio"}, "create", Address),
        ("PUT", "/user/bo/address", {"city": "Oslo"}, "update", Address),
        ("DELETE", "/user/bo/address", None, "delete", Address),
        ("POST", "/team/t/projects", {"name": "x"}, "create", Project),
        ("PATCH", "/team/t/projects/bzz", {"stars": 2}, "update", Project),
        ("DELETE", "/team/t/projects/bzz", None, "delete", Project),
        ("POST", "/team/t/badges", {"title": "x"}, "create", Badge),
        ("POST", "/team/t/notes", {"text": "x"}, "create", Note),
        ("POST", "/team/t/projects/bzz/module", {"name": "x"}, "create", Module),
        ("PUT", "/team/t/owner", {"id": "bo"}, "create", User),
        ("DELETE", "/team/t/owner", None, "delete", User),
    ],
)
async def test_the_model_of_the_property_is_the_sender_and_the_owner_hears_too(
    client: Client, method: str, path: str, body: Any, event: str, sender: Any
) -> None:
    own = Team if path.startswith("/team") else User
    with capture(*NAMED) as captured:
        answer = await client.request(method, path, json=body)
    assert answer.status in {200, 201, 204}, answer
    told = [(each.signal.name, each.sender) for each in captured.events if "get" not in each.signal.name]
    assert told == [
        ("pre_update_instance", own),
        (f"pre_{event}_instance", sender),
        (f"post_{event}_instance", sender),
        ("post_update_instance", own),
    ]
    nested, whole = captured.events[-2].payload, captured.events[-1].payload
    assert nested["updated_fields"] == whole["updated_fields"] != {}
    assert isinstance(nested["owner"], own) and isinstance(nested["instance"], sender)
    assert nested["handler"].request.path == path


async def test_the_diff_is_the_one_that_a_put_of_the_owner_has(client: Client) -> None:
    async def diff_of(method: str, path: str, body: Any) -> Any:
        with capture(signals.post_update_instance) as captured:
            answer = await client.request(method, path, json=body)
            assert answer.status in {200, 201, 204}, answer
        return [each.payload["updated_fields"] for each in captured.events if each.sender in {User, Team}][0]

    nested = await diff_of("PUT", "/user/bo/address", {"city": "Oslo"})
    await client.put("/user/bo/address", json={"city": "Rio"})
    assert nested == await diff_of("PUT", "/user/bo", {"address": {"city": "Oslo"}})
    assert nested == {"address.city": {"from": "Rio", "to": "Oslo"}}
    nested = await diff_of("PATCH", "/team/t/projects/bzz", {"stars": 2})
    await client.put("/team/t/projects/bzz", json={"stars": 1})
    assert nested == await diff_of("PUT", "/team/t", {"projects": [{"name": "bzz", "stars": 2}]})


async def test_what_changes_nothing_is_not_told(client: Client) -> None:
    post = [each for each in NAMED if each.name.startswith("post_")]
    with capture(*post) as captured:
        assert (await client.put("/user/bo/address", json={"city": "Rio"})).status == 200
        assert (await client.put("/team/t/owner", json={"id": "ann"})).status == 200
    assert captured.events == []


async def test_reading_is_told_too(client: Client) -> None:
    with capture(*NAMED) as captured:
        await client.get("/team/t/projects")
        await client.get("/team/t/projects/bzz")
    told = [(each.signal.name, each.sender) for each in captured.events]
    assert told == [
        ("pre_get_instance", Team),
        ("pre_get_list", Project),
        ("post_get_list", Project),
        ("post_get_instance", Team),
        ("pre_get_instance", Team),
        ("pre_get_instance", Project),
        ("post_get_instance", Project),
        ("post_get_instance", Team),
    ]
    assert [each.name for each in captured.events[2].payload["items"]] == ["bzz"]
    assert captured.events[5].payload["key"] == "bzz"
    assert captured.events[6].payload["instance"].name == "bzz"
    with capture(*NAMED) as captured:
        await client.get("/team/t/members")
        await client.get("/user/bo/address")
    told = [(each.signal.name, each.sender) for each in captured.events]
    assert told == [
        ("pre_get_instance", Team),
        ("pre_get_list", User),
        ("post_get_list", User),
        ("pre_get_instance", User),
        ("pre_get_instance", Address),
        ("post_get_instance", Address),
        ("post_get_instance", User),
    ]


@pytest.mark.parametrize("sender", [Team, User, Project])
@pytest.mark.parametrize("action", ["create", "update", "delete"])
async def test_a_veto_of_either_keeps_everything_as_it_is(client: Client, sender: Any, action: str) -> None:
    before = stored()
    requests = [
        ("POST", "/team/t/members", {"id": "cy"}, {(Team, "update"), (User, "create")}),
        ("DELETE", "/team/t/members/ann", None, {(Team, "update"), (User, "delete")}),
        ("POST", "/team/t/projects", {"name": "x"}, {(Team, "update"), (Project, "create")}),
        ("PUT", "/team/t/projects/bzz", {"stars": 9}, {(Team, "update"), (Project, "update")}),
        ("DELETE", "/team/t/projects/bzz", None, {(Team, "update"), (Project, "delete")}),
    ]

    def refuse(**_payload: Any) -> None:
        raise bzz.Veto(409, "no")

    signal = next(each for each in NAMED if each.name == f"pre_{action}_instance")
    with signal.connected_to(refuse, sender=sender):
        for method, path, body, guards in requests:
            if (sender, action) in guards:
                assert (await client.request(method, path, json=body)).problem(409)["detail"] == "no"
    assert stored() == before


async def test_receivers_may_change_what_was_sent(client: Client) -> None:
    def capitalize(data: Any) -> None:
        data["city"] = data["city"].upper()

    def stamp(data: Any) -> None:
        data["motto"] = "changed"

    with signals.pre_create_instance.connected_to(capitalize, sender=Address):
        assert (await client.post("/user/ann/address", json={"city": "Rio"})).json["city"] == "RIO"
    with signals.pre_update_instance.connected_to(stamp, sender=Team):
        assert (await client.put("/team/t/projects/bzz", json={"stars": 8})).json["stars"] == 8
        assert (await client.post("/team/t/members", json={"id": "cy"})).status == 201
    assert stored()["motto"] == "changed"


async def test_a_failing_receiver_of_the_property_does_not_keep_it_from_the_owner(client: Client) -> None:
    heard: list[Any] = []

    def fail(instance: Any) -> None:
        raise RuntimeError("no")

    signals.post_create_instance.connect(fail, sender=Project, errors="raise")
    signals.post_update_instance.connect(lambda updated_fields: heard.append(updated_fields), sender=Team)
    assert (await client.post("/team/t/projects", json={"name": "x"})).status == 500
    assert len(heard) == 1 and len(stored()["p"]) == 2


async def test_circles_hear_the_operations_of_their_resource(database: str) -> None:
    User(name="ann").save()
    Team(code="t").save()
    api, heard = bzz.Api(), []
    users, teams = api.add(User), api.add(Team)
    users.on_prerun(lambda operation: heard.append(("users", operation.action)))
    teams.on_prerun(lambda operation: heard.append(("teams", operation.action, operation.key)))
    teams.on_post_update_instance(lambda updated_fields: heard.append([*updated_fields]))
    users.on_post_create_instance(lambda instance: heard.append("never: no user was created"))
    teams.on_failure(lambda exc_info: heard.append(exc_info[0].__name__))
    teams.on_postrun(lambda operation: heard.append("postrun"))
    async with serving(api) as client:
        await client.post("/team/t/members", json={"id": "ann"})
        await client.get("/team/t/members")
        await client.get("/team/t/members/ann")
        await client.get("/team/t/owner")
        await client.post("/team/t/projects", json={})
    assert heard == [
        ("teams", "update_instance", "t"),
        ["members"],
        "postrun",
        ("users", "get_list"),
        ("users", "get_instance"),
        ("users", "get_instance"),
        ("teams", "update_instance", "t"),
        "ValidationError",
        "postrun",
    ]


async def test_circles_hear_what_is_delegated_to_their_resource(database: str) -> None:
    User(name="ann").save()
    Team(code="t", members=["ann"]).save()
    api, heard = bzz.Api(), []
    users = api.add(User)
    api.add(Team)
    for event in ("prerun", "success", "postrun"):
        getattr(users, f"on_{event}")(lambda operation, event=event: heard.append((event, operation.key)))
    async with serving(api) as client:
        await client.put("/team/t/members/ann", json={"age": 3})
        await client.post("/team/t/projects", json={"name": "x"})
    assert heard == [("prerun", "ann"), ("success", "ann"), ("postrun", "ann")]
