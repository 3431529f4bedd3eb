"""Resources below a document, R8, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import bzz
from bzz import signals
from bzz.http.nested import Nested
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource.nested_reference import MAX_ASSOCIATED
from bzz.testing import capture
from tests.nested_models import Address, Box, Module, Note, Shelf, Team, User, serving_teams, stored
from tests.serving import Answer, Client, serving

NAMED = [each for each in signals.ALL if each.name.startswith(("pre_", "post_"))]


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving_teams() as client:
        yield client


def errors(answer: Answer, status: int = 400) -> dict[str, str]:
    return {each["pointer"]: each["detail"] for each in answer.problem(status)["errors"]}


def names(answer: Answer) -> list[str]:
    assert answer.status in {200, 201}, answer
    return [each["name"] for each in answer.json]


# Lists of references


async def test_a_list_of_references_shows_documents_in_its_order(client: Client) -> None:
    await client.put("/team/t", json={"members": ["cy", "ann", "bo"]})
    assert names(await client.get("/team/t/members")) == ["cy", "ann", "bo"]
    first = await client.get("/team/t/members?per_page=2")
    assert names(first) == ["cy", "ann"]
    assert 'rel="next"' in first.headers["Link"] and "/team/t/members?" in first.headers["Link"]
    last = await client.get("/team/t/members?per_page=2&page=2&fields=age&count=exact")
    assert last.json == [{"name": "bo", "age": 40}] and last.headers["X-Total-Count"] == "3"
    assert 'rel="next"' not in last.headers["Link"] and 'rel="prev"' in last.headers["Link"]
    assert names(await client.get("/team/t/members?per_page=2&page=9")) == []
    assert names(await client.get("/team/empty/members")) == []


async def test_a_list_of_references_can_be_asked_like_any_list(client: Client) -> None:
    assert names(await client.get("/team/t/members?sort=-name")) == ["bo", "ann"]
    assert names(await client.get("/team/t/members?age__gt=35")) == ["bo"]
    assert names(await client.get("/team/t/members?name=cy")) == []
    by_cursor = await client.get("/team/t/members?cursor=&per_page=1")
    assert names(by_cursor) == ["ann"] and "cursor=" in by_cursor.headers["Link"]
    assert (await client.get("/team/t/members?nothing=1")).problem(400)["parameter"] == "nothing"


async def test_references_to_nothing_are_not_shown_and_can_be_taken_out(client: Client) -> None:
    User.objects(name="ann").delete()
    assert names(await client.get("/team/t/members")) == ["bo"]
    (await client.get("/team/t/members/ann")).problem(404)
    (await client.get("/team/t/owner")).problem(404)
    with capture(*NAMED) as captured:
        assert (await client.delete("/team/t/members/ann")).status == 204
        assert (await client.delete("/team/t/owner")).status == 204
    assert stored()["m"] == ["bo"] and "o" not in stored()
    assert {each.sender for each in captured.of(signals.post_update_instance)} == {Team}
    assert not captured.of(signals.post_delete_instance)


@pytest.mark.parametrize(
    ("options", "several"),
    [
        ({"form": "members[]=cy"}, True),
        ({"form": "members=cy"}, True),
        ({"form": "members[]=cy&members[]=ann&members[]=cy"}, True),
        ({"json": {"members": ["cy"]}}, True),
        ({"json": {"id": "cy"}}, False),
        ({"form": "id=cy"}, False),
    ],
)
async def test_post_associates(client: Client, options: dict[str, Any], several: bool) -> None:
    answer = await client.post("/team/t/members", **options)
    assert answer.status == 201 and stored()["m"] == ["ann", "bo", "cy"]
    found = answer.json if several else [answer.json]
    assert found[0] == (await client.get("/user/cy")).json
    if not several:
        assert answer.headers["Location"] == "/team/t/members/cy"
        assert answer.headers["X-Created-Id"] == "cy"
        assert answer.headers["ETag"] == (await client.get("/team/t/members/cy")).headers["ETag"]
    again = await client.post("/team/t/members", **options)
    assert again.status == 200 and again.json == answer.json and stored()["m"] == ["ann", "bo", "cy"]


@pytest.mark.parametrize(
    ("options", "pointers"),
    [
        ({"json": {"members": ["cy", "none", "nobody"]}}, ["/members/1", "/members/2"]),
        ({"form": "members[]=none"}, ["/members/0"]),
        ({"json": {"id": "none"}}, ["/id"]),
        ({"json": {"id": None}}, ["/id"]),
        ({"json": {"id": ["cy"]}}, ["/id"]),
        ({"json": {"id": {"$ne": 1}}}, ["/id"]),
        ({"json": {"members": "cy"}}, ["/members"]),
        ({"json": {"members": []}}, ["/members"]),
        ({"json": {"members": [7]}}, ["/members/0"]),
        ({"json": {"members": ["cy"] * (MAX_ASSOCIATED + 1)}}, ["/members"]),
        ({"json": {"id": "cy", "members": ["cy"]}}, [""]),
        ({"json": {}}, [""]),
        ({"form": "id=cy&id=bo"}, ["/id"]),
        ({"json": {"name": "dee", "age": 3}}, ["/name", "/age"]),
    ],
)
async def test_what_cannot_be_associated_is_refused(
    client: Client, options: dict[str, Any], pointers: list[str]
) -> None:
    assert [*errors(await client.post("/team/t/members", **options))] == pointers
    assert stored()["m"] == ["ann", "bo"] and User.objects.count() == 3


async def test_an_array_is_no_association(client: Client) -> None:
    (await client.post("/team/t/members", json=["cy"])).problem(400)
    (await client.post("/team/t/projects", json=[{"name": "x"}])).problem(400)


async def test_an_item_of_a_list_of_references_is_the_document(client: Client) -> None:
    found = await client.get("/team/t/members/bo")
    assert found.json == (await client.get("/user/bo")).json
    tag = found.headers["ETag"]
    assert tag == (await client.get("/user/bo")).headers["ETag"]
    assert (await client.get("/team/t/members/bo", headers={"If-None-Match": tag})).status == 304
    with capture(*NAMED) as captured:
        changed = await client.put("/team/t/members/bo", json={"age": 41}, headers={"If-Match": tag})
    assert changed.status == 200 and User.objects.get(name="bo").age == 41
    event = captured.of(signals.post_update_instance)[0]
    assert event.sender is User and event.payload["updated_fields"] == {"age": {"from": 40, "to": 41}}
    stale = await client.request("PATCH", "/team/t/members/bo", json={"age": 1}, headers={"If-Match": tag})
    assert stale.problem(412)["conflicts"] == {"age": {"stored": 41, "requested": 1}}
    assert errors(await client.put("/team/t/members/bo", json={"age": -1})) != {}
    steps = [{"op": "replace", "path": "/age", "value": 42}]
    patched = await client.request(
        "PATCH", "/team/t/members/bo", json=steps, content_type="application/json-patch+json"
    )
    assert patched.json["age"] == 42


async def test_delete_takes_a_reference_out_and_leaves_the_document(client: Client) -> None:
    Team._get_collection().update_one({"_id": "t"}, {"$set": {"m": ["bo", "ann", "bo"]}})
    assert (await client.delete("/team/t/members/bo")).status == 204
    assert stored()["m"] == ["ann"] and User.objects(name="bo").count() == 1
    (await client.delete("/team/t/members/bo")).problem(404)


async def test_conditions_of_an_item_concern_the_document_that_it_shows(client: Client) -> None:
    tag = (await client.get("/team/t/members/bo")).headers["ETag"]
    refused = await client.delete("/team/t/members/bo", headers={"If-Match": '"other"'})
    assert refused.problem(412)["etag"] == tag == refused.headers["ETag"]
    (await client.delete("/team/t/members/bo", headers={"If-None-Match": tag})).problem(412)
    assert (await client.delete("/team/t/members/bo", headers={"If-Match": tag})).status == 204


async def test_conditions_of_a_list_concern_the_owner(client: Client) -> None:
    tag = (await client.get("/team/t")).headers["ETag"]
    body = {"id": "cy"}
    assert (await client.post("/team/t/members", json=body, headers={"If-Match": tag})).status == 201
    refused = await client.post("/team/t/members", json={"id": "bo"}, headers={"If-Match": tag})
    assert refused.problem(412)["etag"] == (await client.get("/team/t")).headers["ETag"]


# A single reference


async def test_a_single_reference(client: Client) -> None:
    found = await client.get("/team/t/owner")
    assert found.json["name"] == "ann"
    assert found.headers["ETag"] == (await client.get("/user/ann")).headers["ETag"]
    (await client.post("/team/t/owner", json={"id": "bo"})).problem(409)
    assert (await client.post("/team/t/owner", json={"id": "ann"})).status == 200
    changed = await client.put("/team/t/owner", json={"id": "bo"})
    assert changed.status == 200 and changed.json["name"] == "bo" and stored()["o"] == "bo"
    assert (await client.request("PATCH", "/team/t/owner", json={"age": 50})).json["age"] == 50
    assert (await client.delete("/team/t/owner")).status == 204
    assert "o" not in stored() and User.objects(name="bo").count() == 1
    made = await client.post("/team/t/owner", form="owner=cy")
    assert made.status == 201 and made.headers["Location"] == "/team/t/owner"
    assert "X-Created-Id" not in made.headers
    assert errors(await client.put("/team/t/owner", json={"id": "none"})) == {
        "/id": "no document has this key"
    }
    assert [*errors(await client.put("/team/t/owner", json={"owner": ["cy"]}))] == ["/owner"]
    assert [*errors(await client.put("/team/t/owner", form="owner[]=cy"))] == ["/owner[]"]


async def test_conditions_of_a_single_reference(client: Client) -> None:
    tag = (await client.get("/team/t/owner")).headers["ETag"]
    other = (await client.get("/user/bo")).headers["ETag"]
    body = {"id": "bo"}
    (await client.put("/team/t/owner", json=body, headers={"If-Match": other})).problem(412)
    (await client.put("/team/t/owner", json=body, headers={"If-None-Match": "*"})).problem(412)
    assert (await client.put("/team/t/owner", json=body, headers={"If-Match": tag})).status == 200
    assert (await client.delete("/team/t/owner", headers={"If-Match": other})).status == 204
    (await client.put("/team/t/owner", json=body, headers={"If-Match": "*"})).problem(404)
    assert (await client.put("/team/t/owner", json=body, headers={"If-None-Match": "*"})).status == 200


# Embedded documents


async def test_a_single_embedded_document(client: Client) -> None:
    (await client.get("/user/ann/address")).problem(404)
    made = await client.post("/user/ann/address", json={"city": "Rio"})
    assert made.status == 201 and made.json == {"city": "Rio", "zip_code": None}
    assert made.headers["Location"] == "/user/ann/address" and "X-Created-Id" not in made.headers
    assert (await client.post("/user/ann/address", json={"city": "X"})).problem(409)["fields"] == ["address"]
    changed = await client.put("/user/ann/address", form="zip_code=20000")
    assert changed.status == 200 and changed.json == {"city": "Rio", "zip_code": "20000"}
    patched = await client.request("PATCH", "/user/ann/address", json={"zip_code": None})
    assert patched.json == {"city": "Rio", "zip_code": None}
    assert (await client.get("/user/ann/address")).json == patched.json
    assert (await client.get("/user/ann")).json["address"] == patched.json
    assert (await client.delete("/user/ann/address")).status == 204
    (await client.delete("/user/ann/address")).problem(404)
    assert (await client.get("/user/ann")).json["address"] is None


async def test_the_tag_of_an_embedded_document_is_that_of_its_owner(client: Client) -> None:
    found = await client.get("/user/bo/address")
    tag = found.headers["ETag"]
    assert tag.partition(".")[0] == (await client.get("/user/bo")).headers["ETag"].partition(".")[0]
    assert (await client.get("/user/bo/address", headers={"If-None-Match": tag})).status == 304
    assert (await client.request("HEAD", "/user/bo/address")).headers["ETag"] == tag
    changed = await client.put("/user/bo/address", json={"city": "Oslo"}, headers={"If-Match": tag})
    assert changed.headers["ETag"] == (await client.get("/user/bo/address")).headers["ETag"] != tag
    refused = await client.put("/user/bo/address", json={"city": "Rom"}, headers={"If-Match": tag})
    assert refused.problem(412)["conflicts"] == {"address.city": {"stored": "Oslo", "requested": "Rom"}}
    (await client.delete("/user/bo/address", headers={"If-Match": tag})).problem(412)
    assert (await client.delete("/user/bo/address", headers={"If-Match": "*"})).status == 204


async def test_a_list_of_embedded_documents_with_keys(client: Client) -> None:
    made = await client.post("/team/t/projects", form="name=a%20b&module.name=core")
    assert made.status == 201 and made.headers["Location"] == "/team/t/projects/a%20b"
    assert made.headers["X-Created-Id"] == "a b"
    assert made.json == {"name": "a b", "stars": 1, "module": {"name": "core", "lines": None}}
    assert names(await client.get("/team/t/projects")) == ["bzz", "a b"]
    assert (await client.get("/team/t/projects/a%20b")).json == made.json
    page = await client.get("/team/t/projects?per_page=1")
    assert names(page) == ["bzz"] and 'rel="next"' in page.headers["Link"]
    assert names(await client.get("/team/t/projects?per_page=1&page=2")) == ["a b"]
    assert (await client.get("/team/t/projects?sort=name")).problem(400)["parameter"] == "sort"
    changed = await client.put("/team/t/projects/a%20b", json={"stars": 5})
    assert changed.json["stars"] == 5 and changed.json["module"]["name"] == "core"
    renamed = await client.request("PATCH", "/team/t/projects/a%20b", json={"name": "c"})
    assert renamed.status == 200
    (await client.get("/team/t/projects/a%20b")).problem(404)
    assert (await client.delete("/team/t/projects/c")).status == 204
    assert stored()["p"] == [{"name": "bzz", "s": 1}]


async def test_the_keys_of_embedded_documents_are_unique_in_their_list(client: Client) -> None:
    made = await client.post("/team/t/projects", json={"name": "bzz"})
    assert made.problem(409)["fields"] == ["projects.name"]
    await client.post("/team/t/projects", json={"name": "other"})
    (await client.put("/team/t/projects/other", json={"name": "bzz"})).problem(409)
    assert (await client.put("/team/t/projects/bzz", json={"name": "bzz", "stars": 2})).status == 200
    assert [*errors(await client.post("/team/t/projects", json={"stars": 1}))] == ["/name"]
    assert [*errors(await client.put("/team/t/projects/bzz", json={"name": None}))] == ["/name"]


async def test_a_key_that_the_server_makes_up(client: Client) -> None:
    made = await client.post("/team/t/badges", json={"title": "gold"})
    assert made.status == 201 and made.headers["Location"] == f"/team/t/badges/{made.json['id']}"
    found = await client.get(made.headers["Location"])
    assert found.json == made.json
    assert (await client.delete(made.headers["Location"])).status == 204


async def test_positions_need_the_state_that_they_are_of(client: Client) -> None:
    for number, text in enumerate(["a", "b", "c"]):
        made = await client.post("/team/t/notes", json={"text": text})
        assert made.headers["Location"] == f"/team/t/notes/{number}"
    found = await client.get("/team/t/notes/1")
    assert found.json == {"text": "b"}
    for headers in ({}, {"If-Match": "*"}):
        (await client.put("/team/t/notes/1", json={"text": "x"}, headers=headers)).problem(428)
        (await client.delete("/team/t/notes/1", headers=headers)).problem(428)
    state = {"If-Match": found.headers["ETag"]}
    assert (await client.delete("/team/t/notes/0", headers=state)).status == 204
    # What was at 1 is at 0 now, and who meant the old 1 hears of it.
    (await client.delete("/team/t/notes/1", headers=state)).problem(412)
    state = {"If-Match": (await client.get("/team/t/notes/0")).headers["ETag"]}
    steps = [{"op": "test", "path": "/text", "value": "b"}, {"op": "replace", "path": "/text", "value": "B"}]
    patched = await client.request(
        "PATCH",
        "/team/t/notes/0",
        json=steps,
        content_type="application/json-patch+json",
        headers=state,
    )
    assert patched.json == {"text": "B"}
    assert stored()["notes"] == [{"text": "B"}, {"text": "c"}]


async def test_what_is_below_a_position_needs_the_state_too(database: str) -> None:
    User(name="ann", age=1).save()
    Shelf(code="s", boxes=[Box(inner=Note(text="x")), Box(user="ann")]).save()
    api = bzz.Api()
    api.add(Shelf)
    api.add(User)
    async with serving(api) as client:
        whole = {"If-Match": (await client.get("/shelf/s")).headers["ETag"]}
        user = {"If-Match": (await client.get("/shelf/s/boxes/1/user")).headers["ETag"]}
        for method, path, body in (
            ("POST", "/shelf/s/boxes/1/inner", {"text": "y"}),
            ("PUT", "/shelf/s/boxes/0/inner", {"text": "y"}),
            ("DELETE", "/shelf/s/boxes/0/inner", None),
            ("PUT", "/shelf/s/boxes/0/user", {"id": "ann"}),
            ("DELETE", "/shelf/s/boxes/1/user", None),
            ("PATCH", "/shelf/s/boxes/1/user", {"age": 2}),
            ("POST", "/shelf/s/boxes/1/user/address", {"city": "Rio"}),
        ):
            (await client.request(method, path, json=body)).problem(428)
        assert (
            await client.request("PATCH", "/shelf/s/boxes/1/user", json={"age": 2}, headers=user)
        ).status == 200
        (await client.request("PATCH", "/shelf/s/boxes/1/user", json={"age": 3}, headers=user)).problem(412)
        # What changes the shelf itself is for who knows its state.
        user = {"If-Match": (await client.get("/user/ann")).headers["ETag"]}
        (await client.put("/shelf/s/boxes/0/user", json={"id": "ann"}, headers=user)).problem(412)
        assert (await client.put("/shelf/s/boxes/0/user", json={"id": "ann"}, headers=whole)).status == 200
        (await client.delete("/shelf/s/boxes/1/user", headers=whole)).problem(412)
        assert (await client.post("/shelf/s/boxes", json={"inner": {"text": "z"}})).status == 201


async def test_errors_point_into_what_was_sent(client: Client) -> None:
    assert errors(await client.post("/user/ann/address", json={"zip_code": "1"})) == {
        "/city": "this field is required"
    }
    assert [*errors(await client.post("/user/ann/address", json={"city": "x" * 21, "no": 1}))] == ["/no"]
    assert [*errors(await client.post("/user/ann/address", json={"city": "x" * 21}))] == ["/city"]
    assert [*errors(await client.put("/user/bo/address", json={"city": 7}))] == ["/city"]
    assert [*errors(await client.put("/user/bo/address", form="city=a&city=b"))] == ["/city"]
    assert [*errors(await client.post("/team/t/projects", json={"name": "x", "module": {"lines": -1}}))] == [
        "/module/lines"
    ]
    assert [*errors(await client.post("/team/t/projects", json={"name": "x", "module": 3}))] == ["/module"]
    assert [*errors(await client.post("/team/t/projects", json={"_cls": "Project", "name": "x"}))] != []
    (await client.post("/user/ann/address", body=b"[1", content_type="application/json")).problem(400)
    (await client.post("/user/ann/address", body=b"city", content_type="text/plain")).problem(415)
    refused = await client.request("PATCH", "/user/bo/address", body=b"x", content_type="text/plain")
    assert refused.problem(415) and "Accept-Patch" in refused.headers


async def test_the_owner_is_validated_as_well(client: Client) -> None:
    for number in range(4):
        assert (await client.post("/team/t/projects", json={"name": f"p{number}"})).status == 201
    refused = await client.post("/team/t/projects", json={"name": "one too many"})
    assert errors(refused) == {"": "team: a team has at most 5 projects"}
    assert len(stored()["p"]) == 5


async def test_what_the_model_does_not_know_stays_as_it_is(client: Client) -> None:
    projects = [{"name": "bzz", "s": 3, "old": 1}, {"name": "b", "s": 1, "older": [1]}]
    Team._get_collection().update_one({"_id": "t"}, {"$set": {"p": projects, "legacy": {"a": 1}}})
    assert (await client.put("/team/t/projects/bzz", json={"stars": 4})).status == 200
    assert (await client.post("/team/t/projects/b/module", json={"name": "m"})).status == 201
    assert stored()["p"] == [
        {"name": "bzz", "s": 4, "old": 1},
        {"name": "b", "s": 1, "older": [1], "module": {"name": "m"}},
    ]
    assert stored()["legacy"] == {"a": 1}


async def test_prefer(client: Client) -> None:
    before = stored()
    dry = {"Prefer": "dry-run"}
    told = (await client.post("/team/t/projects", json={"name": "x"}, headers=dry)).json
    assert told["status"] == 201 and told["document"]["name"] == "x"
    assert [each["name"] for each in told["diff"]["projects"]["to"]] == ["bzz", "x"]
    told = (await client.put("/team/t/projects/bzz", json={"stars": 9}, headers=dry)).json
    assert told["status"] == 200 and told["document"]["stars"] == 9
    assert told["diff"]["projects"]["to"][0]["stars"] == 9
    tag = (await client.get("/team/t")).headers["ETag"]
    assert told["etag"] == tag
    told = (await client.delete("/team/t/projects/bzz", headers=dry)).json
    assert told["status"] == 204 and told["diff"]["projects"]["to"] == [] and told["etag"] == tag
    told = (await client.post("/team/t/members", json={"members": ["cy", "bo"]}, headers=dry)).json
    assert told["status"] == 201 and [each["name"] for each in told["document"]] == ["cy", "bo"]
    assert told["diff"] == {"members": {"from": ["ann", "bo"], "to": ["ann", "bo", "cy"]}}
    told = (await client.post("/team/t/members", json={"id": "bo"}, headers=dry)).json
    assert told["status"] == 200 and "diff" not in told
    told = (await client.delete("/team/t/members/bo", headers=dry)).json
    assert told["document"]["name"] == "bo" and told["diff"]["members"]["to"] == ["ann"]
    told = (await client.put("/team/t/owner", json={"id": "bo"}, headers=dry)).json
    assert told["diff"] == {"owner": {"from": "ann", "to": "bo"}}
    assert stored() == before
    minimal = {"Prefer": "return=minimal"}
    answer = await client.post("/team/t/projects", json={"name": "x"}, headers=minimal)
    assert answer.status == 201 and answer.body == b"" and answer.headers["ETag"]
    answer = await client.put("/team/t/projects/x", json={"stars": 3}, headers=minimal)
    assert answer.status == 204
    assert (await client.post("/team/t/members", json={"id": "bo"}, headers=minimal)).status == 204


async def test_a_key_is_done_once(client: Client) -> None:
    headers = {"Idempotency-Key": '"once"'}
    first = await client.post("/team/t/notes", json={"text": "x"}, headers=headers)
    again = await client.post("/team/t/notes", json={"text": "x"}, headers=headers)
    assert (first.status, first.body) == (again.status, again.body) == (201, b'{"text":"x"}')
    assert again.headers["Location"] == "/team/t/notes/0" and len(stored()["notes"]) == 1


# Depth


async def test_paths_go_from_document_to_document(client: Client) -> None:
    assert (await client.get("/team/t/members/bo/address")).json["city"] == "Rio"
    assert (await client.post("/team/t/members/bo/friends", json={"id": "cy"})).status == 201
    path = "/team/t/members/bo/friends/cy/address"
    made = await client.post(path, json={"city": "Oslo"})
    assert made.status == 201 and made.headers["Location"] == path
    with capture(signals.post_update_instance) as captured:
        assert (await client.put(path, json={"zip_code": "1"})).status == 200
    assert [each.sender for each in captured.events] == [Address, User]
    assert captured.events[0].payload["owner"].name == "cy"
    assert captured.events[0].payload["path"] == ("address",)
    assert (await client.post("/team/t/projects/bzz/module", json={"name": "m"})).status == 201
    with capture(signals.post_update_instance) as captured:
        changed = await client.request("PATCH", "/team/t/projects/bzz/module", json={"lines": 7})
    assert changed.json == {"name": "m", "lines": 7}
    assert [each.sender for each in captured.events] == [Module, Team]
    assert captured.events[0].payload["path"] == ("projects", "bzz", "module")
    assert captured.events[0].payload["instance"].lines == 7
    # Who left the team is not found through it any more.
    await client.delete("/team/t/members/bo")
    (await client.get(path)).problem(404)
    assert (await client.get("/user/bo/friends/cy/address")).json["zip_code"] == "1"


# Choosing


async def test_nested_resources_can_be_chosen(database: str) -> None:
    User(name="ann", address=Address(city="Rio")).save()
    Team(code="t", owner="ann", members=["ann"]).save()
    api = bzz.Api()
    api.add(User, nested=())
    api.add(Team, nested=["members", "notes"])
    async with serving(api) as client:
        assert (await client.get("/team/t/members/ann")).status == 200
        assert (await client.get("/team/t/notes")).status == 200
        for path in ("/team/t/owner", "/team/t/projects", "/user/ann/address", "/team/t/members/ann/address"):
            assert (await client.get(path)).problem(404)


def test_what_is_chosen_must_be_there() -> None:
    for nested in (["motto"], ["nothing"]):
        with pytest.raises(ValueError, match=nested[0]):
            MongoEngineRestHandler.routes_for(Team, nested=nested)
    with pytest.raises(TypeError):
        MongoEngineRestHandler.routes_for(Team, nested="members")
    assert len(MongoEngineRestHandler.routes_for(Team, nested=())) == 1


async def test_routes_without_an_api(database: str) -> None:
    User(name="ann", address=Address(city="Rio")).save()
    Team(code="t", members=["ann"]).save()
    routes = MongoEngineRestHandler.routes_for(Team, prefix="/api")
    async with serving(list(routes)) as client:
        assert (await client.get("/api/team/t/members/ann")).json["name"] == "ann"
        assert (await client.put("/api/team/t/members/ann/address", json={"city": "Oslo"})).status == 200
        made = await client.post("/api/team/t/members/ann/friends/", json={"id": "ann"})
        assert made.headers["Location"] == "/api/team/t/members/ann/friends/ann"
        assert (await client.get(made.headers["Location"])).json["address"]["city"] == "Oslo"


async def test_a_handler_class_of_ones_own_serves_what_is_below_as_well(database: str) -> None:
    Team(code="t", notes=[Note(text="x")]).save()

    class Guarded(MongoEngineRestHandler):
        nested = ("notes",)

        async def prepare(self) -> None:
            if "Authorization" not in self.request.headers:
                raise bzz.Veto(401, "Who are you?")
            waiting = super().prepare()
            if waiting is not None:
                await waiting

        async def get(self, key: str | None = None) -> None:
            self.set_header("X-Mine", repr(key))
            await super().get(key)

    api = bzz.Api()
    api.add(Team, handler=Guarded)
    async with serving(api) as client:
        (await client.get("/team/t/notes")).problem(401)
        allowed = {"Authorization": "me"}
        assert (await client.get("/team/t/notes", headers=allowed)).headers["X-Mine"] == "None"
        assert (await client.get("/team/t/notes/0", headers=allowed)).headers["X-Mine"] == "'0'"
        (await client.get("/team/t/projects", headers=allowed)).problem(404)


async def test_a_resource_with_a_longer_name_is_not_hidden(database: str) -> None:
    Team(code="t").save()
    User(name="members").save()
    api = bzz.Api()
    api.add(Team)
    api.add(User, resource_name="team/old")
    async with serving(api) as client:
        assert (await client.get("/team/old/members")).json["name"] == "members"
    assert sum(issubclass(rule.handler_class, Nested) for rule in api.routes) == 2


# Batches


async def test_batches_reach_what_is_below_a_document(client: Client) -> None:
    operations = [
        {"method": "POST", "path": "/team/t/members", "body": {"members": ["cy", "bo"]}},
        {"method": "POST", "path": "/team/t/members", "body": {"id": "cy"}},
        {"method": "GET", "path": "/team/t/members?per_page=2"},
        {"method": "POST", "path": "/team/t/projects", "body": {"name": "a b"}},
        {"method": "PUT", "path": "/team/t/projects/a%20b", "body": {"stars": 3}},
        {"method": "POST", "path": "/user/ann/address", "body": {"city": "Rio"}},
        {"method": "GET", "path": "/team/t/members/ann/address/"},
        {"method": "PATCH", "path": "/team/t/members/bo", "body": {"age": 41}},
        {"method": "PUT", "path": "/team/t/owner", "body": {"id": "bo"}},
        {"method": "DELETE", "path": "/team/t/members/ann"},
        {"method": "GET", "path": "/team/t/projects/a%20b"},
    ]
    for atomic in (False, True):
        answer = await client.post("/batch", json={"operations": operations, "atomic": atomic})
        assert answer.status == 200, answer
        told = answer.json["operations"]
        assert [each["status"] for each in told] == [201, 200, 200, 201, 200, 201, 200, 200, 200, 204, 200]
        assert [each["name"] for each in told[0]["body"]] == ["cy", "bo"]
        assert told[1]["location"] == "/team/t/members/cy"
        assert [each["name"] for each in told[2]["body"]] == ["ann", "bo"]
        assert told[3]["location"] == "/team/t/projects/a%20b" and told[5]["location"] == "/user/ann/address"
        assert told[4]["diff"]["projects"]["to"][-1]["stars"] == 3
        assert told[4]["etag"] != told[3]["etag"] and told[7]["diff"] == {"age": {"from": 40, "to": 41}}
        assert told[8]["diff"] == {"owner": {"from": "ann", "to": "bo"}}
        assert told[10]["body"]["stars"] == 3 and stored()["m"] == ["bo", "cy"]
        undo = [
            {"method": "PUT", "path": "/team/t", "body": {"members": ["ann", "bo"], "owner": "ann"}},
            {"method": "DELETE", "path": "/team/t/projects/a%20b"},
            {"method": "DELETE", "path": "/user/ann/address"},
            {"method": "PUT", "path": "/user/bo", "body": {"age": 40}},
        ]
        assert (await client.post("/batch", json={"operations": undo, "atomic": atomic})).status == 200


async def test_an_atomic_batch_takes_back_what_is_below_a_document(client: Client) -> None:
    before = stored()
    operations = [
        {"method": "POST", "path": "/team/t/members", "body": {"id": "cy"}},
        {"method": "POST", "path": "/team/t/projects", "body": {"name": "bzz"}},
    ]
    with capture(*[each for each in NAMED if each.name.startswith("post_")]) as captured:
        refused = await client.post("/batch", json={"operations": operations, "atomic": True})
    assert refused.status == 409 and stored() == before and captured.events == []


@pytest.mark.parametrize(
    ("method", "path", "pointer"),
    [
        ("GET", "/team/t/motto", "/operations/0/path"),
        ("GET", "/team/t/members/ann/nothing", "/operations/0/path"),
        ("GET", "/team/t/members/%ff", "/operations/0/path"),
        ("PUT", "/team/t/members", "/operations/0/method"),
        ("POST", "/team/t/members/ann", "/operations/0/method"),
    ],
)
async def test_a_batch_says_what_is_not_below_a_document(
    client: Client, method: str, path: str, pointer: str
) -> None:
    answer = await client.post("/batch", json={"operations": [{"method": method, "path": path}]})
    assert [*errors(answer)] == [pointer]
