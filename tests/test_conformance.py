"""What the RFCs ask, against a running server; ``tests.conformance`` makes a page of these rows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest

import bzz
from bzz.http.problem import CONTENT_TYPE
from bzz.http.problem_handler import STATUS
from bzz.server import Server
from tests.conformance import PAGE, ROWS, conforms, held_by, page
from tests.program import ROOT
from tests.serving import Answer, Client, serving

NOWHERE = "/note/000000000000000000000000"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"


class Note(me.Document):
    name = me.StringField(required=True, unique=True, max_length=50)
    size = me.IntField(min_value=0)
    tags = me.ListField(me.StringField())


class Guarded(me.Document):
    name = me.StringField(primary_key=True)


def make_api() -> bzz.Api:
    api = bzz.Api(cors=bzz.Cors(origins=["https://app.example.com"]))
    api.add(Note)
    api.add(Guarded, require_if_match=True)
    api.add(Guarded, resource_name="rare", rate_limit="1/day")
    return api


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving(make_api()) as client:
        yield client


async def note(client: Client, **values: Any) -> tuple[str, Answer]:
    """Create a note; return its path and the answer."""
    answer = await client.post("/note", json={"name": "a", "size": 1, **values})
    assert answer.status == 201, answer
    return answer.headers["Location"], answer


async def patch(client: Client, path: str, body: Any, kind: str = MERGE, **headers: str) -> Answer:
    return await client.request("PATCH", path, json=body, content_type=kind, headers=headers)


# RFC 9110: messages -----------------------------------------------------------------------------------------


@conforms(
    "9110", "6.6.1", "An origin server with a clock sends Date.", "Every answer has it, errors and 304 too."
)
async def test_every_answer_is_dated(client: Client) -> None:
    path, made = await note(client)
    same = await client.get(path, headers={"If-None-Match": made.headers["ETag"]})
    for answer in (made, same, await client.get(NOWHERE)):
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["Date"])


@conforms(
    "9110",
    "8.3",
    "Content has a Content-Type.",
    "``application/json``, ``application/problem+json``, ``application/x-ndjson``; none without content.",
)
async def test_content_has_a_type(client: Client) -> None:
    path, made = await note(client)
    assert made.headers["Content-Type"] == "application/json"
    assert (await client.get(NOWHERE)).headers["Content-Type"] == CONTENT_TYPE
    for answer in (
        await client.get(path, headers={"If-None-Match": "*"}),
        await client.put(path, json={"size": 2}, headers={"Prefer": "return=minimal"}),
        await client.delete(path),
    ):
        assert answer.body == b""
        assert "Content-Type" not in answer.headers


@conforms(
    "9110",
    "8.4",
    "Content in a coding that is not acceptable is answered 415, with Accept-Encoding.",
    "So, with ``identity``, unless the application has Tornado decompress (``decompress_request``).",
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_compressed_content_is_refused(client: Client, method: str) -> None:
    path = (await note(client))[0] if method != "POST" else "/note"
    answer = await client.request(
        method, path, body=b"\x1f\x8b", content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    answer.problem(415)
    assert answer.headers["Accept-Encoding"] == "identity"
    plain = {"Content-Encoding": "Identity"}
    given = {"json": {"name": "b"}, "content_type": MERGE if method == "PATCH" else "application/json"}
    assert (await client.request(method, path, headers=plain, **given)).status in {200, 201}


@conforms(
    "9110",
    "8.8.2",
    "Last-Modified is sent where it can be determined.",
    "It cannot: nothing is added to documents. There is the ETag.",
)
async def test_there_is_no_date_of_change(client: Client) -> None:
    path, _ = await note(client)
    assert "Last-Modified" not in (await client.get(path)).headers


@conforms(
    "9110",
    "8.8.3",
    "A strong ETag differs for each state of each form of what is shown.",
    "All answers with one document; not lists, whose tags would be of one moment.",
)
async def test_documents_have_strong_tags(client: Client) -> None:
    path, made = await note(client)
    tags = [made.headers["ETag"], (await client.get(f"{path}?fields=size")).headers["ETag"]]
    tags.append((await client.put(path, json={"size": 2})).headers["ETag"])
    assert len(set(tags)) == 3
    assert all(re.fullmatch(r'"[!#-~]+"', each) for each in tags)
    assert "ETag" not in (await client.get("/note")).headers


# RFC 9110: methods ------------------------------------------------------------------------------------------


@conforms(
    "9110",
    "9.2.1",
    "Safe methods change nothing.",
    "GET, HEAD and OPTIONS write nothing, whatever they are sent.",
)
async def test_safe_methods_are_safe(client: Client) -> None:
    path, made = await note(client)
    for method in ("GET", "HEAD", "OPTIONS"):
        await client.request(method, path, json={"size": 9})
        await client.request(method, "/note", json={"name": "b"})
    assert (await client.get(path)).headers["ETag"] == made.headers["ETag"]
    assert len((await client.get("/note")).json) == 1


@conforms("9110", "9.2.2", "PUT and DELETE are idempotent.", "Twice is once; a second DELETE is 404.")
async def test_put_and_delete_are_idempotent(client: Client) -> None:
    path, _ = await note(client)
    once = await client.put(path, json={"size": 5})
    twice = await client.put(path, json={"size": 5})
    assert (once.status, once.headers["ETag"]) == (twice.status, twice.headers["ETag"])
    assert [(await client.delete(path)).status for _ in range(2)] == [204, 404]


@conforms("9110", "9.3.1", "Content of a GET has no meaning.", "It is not looked at.")
async def test_content_of_get_has_no_meaning(client: Client) -> None:
    path, _ = await note(client)
    answer = await client.request("GET", path, body=b"{{{", content_type="application/json")
    assert (answer.status, answer.json["name"]) == (200, "a")


@conforms(
    "9110",
    "9.3.2",
    "HEAD is answered as GET, without content.",
    "The same status and headers, Content-Length included.",
)
async def test_head_is_get_without_content(client: Client) -> None:
    path, _ = await note(client)
    for url in (
        path,
        "/note",
        "/note?count=exact",
        NOWHERE,
        "/note?x=1",
        "/openapi.json",
        "/health",
        "/docs",
    ):
        get, head = await client.get(url), await client.request("HEAD", url)
        assert head.body == b""
        unequal = {"Date"}
        assert {**head.headers} | dict.fromkeys(unequal) == {**get.headers} | dict.fromkeys(unequal), url
        assert head.status == get.status


@conforms(
    "9110",
    "9.3.3",
    "POST that created something is 201 with its Location.",
    "So; the URL is that under which GET finds it, percent-encoded.",
)
async def test_post_says_where_it_is(client: Client) -> None:
    path, made = await note(client)
    assert (await client.get(path)).json == made.json


@conforms(
    "9110",
    "9.3.4",
    "PUT replaces the state of its target, and may create it.",
    "It changes the fields that it is given; with the option ``put`` it replaces. It creates nothing: 404.",
)
async def test_put_changes(client: Client) -> None:
    path, _ = await note(client, tags=["x"])
    assert (await client.put(path, json={"size": 2})).json["tags"] == ["x"]
    (await client.put(NOWHERE, json={"name": "b"})).problem(404)


@conforms("9110", "9.3.4", "PUT with Content-Range is refused with 400.", "So.")
async def test_put_of_a_range_is_refused(client: Client) -> None:
    path, _ = await note(client)
    answer = await client.put(path, json={"size": 2}, headers={"Content-Range": "bytes 0-3/10"})
    assert answer.problem(400)["header"] == "Content-Range"


@conforms("9110", "9.3.5", "DELETE that was carried out is 204, 200 or 202.", "204.")
async def test_delete_is_done(client: Client) -> None:
    path, _ = await note(client)
    assert (await client.delete(path)).status == 204
    (await client.get(path)).problem(404)


@conforms(
    "9110",
    "9.3.7",
    "OPTIONS says what its target can do.",
    "204 with Allow, and with Accept-Patch where PATCH is.",
)
async def test_options_say_what_there_is(client: Client) -> None:
    path, _ = await note(client)
    answer = await client.request("OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
    assert "Accept-Patch" not in (await client.request("OPTIONS", "/note")).headers


@conforms(
    "9110",
    "15.5.6",
    "A method that the target does not have is 405, with Allow; one that nobody knows should be 501.",
    "405 with Allow for all of them, TRACE and CONNECT included.",
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_other_methods_are_not_allowed(client: Client, method: str) -> None:
    answer = await client.request(method, "/note", body=b"")
    answer.problem(405)
    assert answer.headers["Allow"] == "GET, HEAD, POST, OPTIONS"


# RFC 9110: negotiation and conditions -----------------------------------------------------------------------


@conforms(
    "9110",
    "12.5.1",
    "Where no acceptable form exists, a server answers 406 or disregards Accept.",
    "Disregarded: it is JSON. A list with ``ndjson=True`` has a second form, and then says ``Vary: Accept``.",
)
@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml;q=1, application/json;q=0", "*/*", "nonsense"]
)
async def test_accept_is_disregarded(client: Client, accept: str) -> None:
    path, _ = await note(client)
    answer = await client.get(path, headers={"Accept": accept})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")


held_by(
    "test_ndjson.py::test_who_asks_for_what",
    "9110",
    "12.5.5",
    "Vary names the headers that an answer depends on.",
    "``Accept`` where a list has two forms, ``Origin`` where origins are named.",
)


@conforms(
    "9110",
    "12.5.2",
    "Accept-Charset is deprecated, Accept-Language and Accept-Encoding are wishes.",
    "Disregarded: UTF-8, no translation; compression is Tornado's ``compress_response`` or a proxy's.",
)
async def test_other_wishes_are_disregarded(client: Client) -> None:
    wishes = {"Accept-Charset": "utf-16", "Accept-Language": "xx", "Accept-Encoding": "br"}
    answer = await client.get("/note", headers=wishes)
    assert answer.status == 200
    assert "Content-Encoding" not in answer.headers


held_by(
    "test_conditional.py::test_if_match",
    "9110",
    "13.1.1",
    "If-Match compares strongly; false is 412, and nothing is done.",
    "So, as part of the write itself; 412 has the present ETag and what differs.",
)
held_by(
    "test_conditional.py::test_if_none_match_when_reading",
    "9110",
    "13.1.2",
    "If-None-Match compares weakly; false is 304 for GET and HEAD …",
    "So.",
)
held_by(
    "test_conditional.py::test_if_none_match_when_writing",
    "9110",
    "13.1.2",
    "… and 412 for other methods.",
    "So.",
)


@conforms(
    "9110",
    "13.1.3",
    "If-Modified-Since and If-Unmodified-Since do not count where there is no date of change.",
    "They do not count.",
)
@pytest.mark.parametrize("header", ["If-Modified-Since", "If-Unmodified-Since"])
@pytest.mark.parametrize("date", ["Mon, 01 Jan 1990 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"])
async def test_conditions_by_date_do_not_count(client: Client, header: str, date: str) -> None:
    path, _ = await note(client)
    assert (await client.get(path, headers={header: date})).status == 200
    assert (await client.put(path, json={"size": 4}, headers={header: date})).status == 200


@conforms(
    "9110",
    "13.2.1",
    "A condition does not count where the answer without it would be neither 2xx nor 412.",
    "A missing document is 404 and a broken request 400, whatever the condition.",
)
async def test_conditions_come_after_what_is_wrong_anyway(client: Client) -> None:
    path, _ = await note(client)
    stale = {"If-Match": '"stale"'}
    for method in ("GET", "PUT", "DELETE"):
        (await client.request(method, NOWHERE, json={}, headers=stale)).problem(404)
    (await client.put(path, body=b"{", content_type="application/json", headers=stale)).problem(400)
    (await client.put(f"{path}?x=1", json={}, headers=stale)).problem(400)


@conforms("9110", "13.2.2", "If-Match is looked at before If-None-Match.", "So.")
async def test_order_of_conditions(client: Client) -> None:
    path, made = await note(client)
    tag = made.headers["ETag"]
    first = await client.get(path, headers={"If-Match": '"stale"', "If-None-Match": tag})
    first.problem(412)
    second = await client.get(path, headers={"If-Match": tag, "If-None-Match": tag})
    assert second.status == 304


@conforms(
    "9110", "14.2", "A server may disregard Range.", "Disregarded: 200 with all of it, and no Accept-Ranges."
)
async def test_ranges_are_disregarded(client: Client) -> None:
    path, made = await note(client)
    for more in ({}, {"If-Range": made.headers["ETag"]}):
        answer = await client.get(path, headers={"Range": "bytes=0-1", **more})
        assert (answer.status, answer.json) == (200, made.json)
        assert "Accept-Ranges" not in answer.headers


@conforms(
    "9110",
    "15.4.5",
    "304 has the ETag, Vary and Cache-Control that 200 would have.",
    "So, and no content.",
)
async def test_not_modified_has_what_caches_need(client: Client) -> None:
    path, made = await note(client)
    full = await client.get(path)
    same = await client.get(path, headers={"If-None-Match": made.headers["ETag"]})
    assert (same.status, same.body) == (304, b"")
    for name in ("ETag", "Vary", "Cache-Control", "Content-Location", "Expires"):
        assert same.headers.get(name) == full.headers.get(name)
    assert same.headers["ETag"] == made.headers["ETag"]
    assert same.headers["Vary"] == "Origin"


# RFC 9110: statuses -----------------------------------------------------------------------------------------


@conforms(
    "9110",
    "10.1.1",
    "Expect: 100-continue is answered 100, or with the final status.",
    "So, by ``bzz.serve``.",
)
async def test_expectations_are_met(database: str) -> None:
    head = b"POST /note HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n"
    async with Server(make_api(), port=0, address="127.0.0.1", access_log=None) as server:
        client = Client(int(server.url.rsplit(":", 1)[1]))
        sent = head + b'Connection: close\r\nExpect: 100-continue\r\n\r\n{"name":"x"}'
        answer = await client.raw(sent)
        client.close()
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"\r\n\r\nHTTP/1.1 201 " in answer


held_by(
    "test_server_limits.py::test_body_over_the_limit_is_413_for_a_client_that_sends_all_of_it_first",
    "9110",
    "15.5.14",
    "Content that is larger than a server takes is 413.",
    "So, and the client gets to read it.",
)


@conforms("9110", "15.5.2", "401 has WWW-Authenticate.", "A ``Veto(401)`` gets one if it brings none.")
async def test_unauthorized_says_how(database: str) -> None:
    api = make_api()

    @api.on_pre_get_list
    def refuse() -> None:
        raise bzz.Veto(401)

    async with serving(api) as client:
        answer = await client.get("/note")
    answer.problem(401)
    assert answer.headers["WWW-Authenticate"]


@conforms(
    "9110",
    "15.5.16",
    "Content of a type that the target does not take is 415.",
    "JSON and forms for POST and PUT, patches for PATCH; all else is 415.",
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_other_types_are_refused(client: Client, method: str) -> None:
    path = "/note" if method == "POST" else (await note(client))[0]
    answer = await client.request(method, path, body=b"<a/>", content_type="text/xml")
    answer.problem(415)


held_by(
    "test_server_health.py::test_ill",
    "9110",
    "15.6.4",
    "503 may have Retry-After.",
    "It has, wherever bzz answers 503.",
)

# RFC 9457 ---------------------------------------------------------------------------------------------------


@conforms(
    "9457",
    "3",
    "Problems are ``application/problem+json``.",
    "Every error is, with the status of the answer, whatever went wrong.",
)
async def test_every_error_is_a_problem(client: Client) -> None:
    path, _ = await note(client)
    errors = {
        400: await client.post("/note", json={"colour": 1}),
        404: await client.get(NOWHERE),
        405: await client.delete("/note"),
        409: await client.post("/note", json={"name": "a"}),
        412: await client.put(path, json={"size": 3}, headers={"If-Match": '"x"'}),
        415: await client.post("/note", body=b"x", content_type="text/plain"),
        428: await client.delete("/guarded/x"),
    }
    for status, answer in errors.items():
        answer.problem(status)
    (await client.get("/nothing")).problem(404)


@conforms(
    "9457",
    "3.1.1",
    "``type`` is a URI, ``about:blank`` when it says no more than the status …",
    "``urn:bzz:problem:KIND`` for what a client can act on, else ``about:blank``.",
)
async def test_types_are_uris(client: Client) -> None:
    assert (await client.get(NOWHERE)).problem(404)["type"] == "urn:bzz:problem:missing"
    assert (await client.delete("/note")).problem(405)["type"] == "about:blank"


@conforms("9457", "4.2.1", "… and then ``title`` is the phrase of the status.", "The phrase of RFC 9110.")
def test_titles_are_phrases() -> None:
    from bzz.http.problem import problem  # noqa: PLC0415 - the module is meant, the name is taken

    for status, phrase in {404: "Not Found", 413: "Content Too Large", 422: "Unprocessable Content"}.items():
        assert f'"title":"{phrase}"'.encode() in problem(status)


@conforms(
    "9457",
    "3.1.4",
    "``detail`` is for people, about this occurrence.",
    "One sentence; what programs need are members of their own: ``errors``, ``parameter``, ``fields`` …",
)
async def test_details_are_for_people(client: Client) -> None:
    problem = (await client.post("/note", json={"size": -1})).problem(400)
    assert problem["detail"] == "2 values are not valid."
    assert {each["pointer"] for each in problem["errors"]} == {"/name", "/size"}


@conforms(
    "9457",
    "5",
    "Problems tell nothing about the inside.",
    "A 500 has no detail; what went wrong is in the log.",
)
async def test_failures_tell_nothing(database: str) -> None:
    api = make_api()

    @api.on_pre_get_list
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    async with serving(api) as client:
        answer = await client.get("/note")
    assert answer.problem(500) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


# RFC 5789, 7396, 6902 ---------------------------------------------------------------------------------------


@conforms("5789", "2", "A patch is applied as a whole or not at all.", "One write, or none.")
async def test_patches_are_atomic(client: Client) -> None:
    path, made = await note(client)
    steps = [{"op": "replace", "path": "/size", "value": 7}, {"op": "test", "path": "/name", "value": "z"}]
    (await patch(client, path, steps, PATCH)).problem(409)
    (await patch(client, path, {"size": 7, "name": None})).problem(400)
    assert (await client.get(path)).headers["ETag"] == made.headers["ETag"]


@conforms("5789", "2", "PATCH may create what it does not find.", "It does not: 404.")
async def test_patch_creates_nothing(client: Client) -> None:
    (await patch(client, NOWHERE, {"name": "b"})).problem(404)


@conforms("5789", "2.2", "A malformed patch is 400, one that does not fit the state is 409 …", "So.")
async def test_patches_that_are_wrong(client: Client) -> None:
    path, _ = await note(client)
    (await patch(client, path, {"op": "add"}, PATCH)).problem(400)
    (await patch(client, path, [{"op": "remove", "path": "/nothing"}], PATCH)).problem(409)


held_by(
    "test_patch.py::test_another_type_is_refused_with_accept_patch",
    "5789",
    "2.2",
    "… and an unknown type is 415, with Accept-Patch.",
    "So.",
)
held_by(
    "test_patch.py::test_options_say_what_patch_takes",
    "5789",
    "3.1",
    "OPTIONS has Accept-Patch.",
    "``application/merge-patch+json``, ``application/json-patch+json``, ``application/json``.",
)
held_by(
    "test_patch.py::test_a_merge_patch_makes_what_the_rfc_says",
    "7396",
    "2",
    "The algorithm: null removes, objects are merged, everything else replaces.",
    "So, for any document and patch (Hypothesis); then the result is validated.",
)
held_by(
    "test_patch.py::test_appendix_a",
    "7396",
    "A",
    "The examples.",
    "All fifteen.",
)
held_by(
    "test_patch.py::test_null_for_no_field_is_nothing_to_do",
    "7396",
    "2",
    "Removing what is not there is nothing.",
    "So, also for names that no field has.",
)


@conforms(
    "7396",
    "4",
    "The type is ``application/merge-patch+json``.",
    "So; plain ``application/json`` is taken for it.",
)
@pytest.mark.parametrize("kind", [MERGE, "application/json", f"{MERGE}; charset=utf-8"])
async def test_merge_patches_by_type(client: Client, kind: str) -> None:
    path, _ = await note(client)
    assert (await patch(client, path, {"size": None}, kind)).json["size"] is None


held_by(
    "test_patch.py::test_a_json_patch_makes_what_the_library_says",
    "6902",
    "4",
    "add, remove, replace, move, copy, test.",
    "All, by a library (python-json-patch); then the result is validated.",
)
held_by(
    "test_patch.py::test_numbers_are_compared_by_value",
    "6902",
    "4.6",
    "test compares numbers by value, objects without order.",
    "So.",
)
held_by(
    "test_patch.py::test_what_is_no_patch_is_refused",
    "6902",
    "3",
    "A document that is no patch is an error.",
    "400, with the position of each operation that is none.",
)
held_by(
    "test_patch.py::test_a_patch_that_does_not_fit_is_a_conflict",
    "6902",
    "5",
    "An operation that does not succeed ends the patch, and nothing of it is applied.",
    "409, with the position of the operation.",
)


@conforms("6902", "4", "Members that an operation does not define are disregarded.", "So.")
async def test_more_members_are_disregarded(client: Client) -> None:
    path, _ = await note(client)
    step = {"op": "replace", "path": "/size", "value": 3, "from": "/name", "comment": "x"}
    assert (await patch(client, path, [step], PATCH)).json["size"] == 3


@conforms("6902", "4.1", "``-`` stands for the end of an array.", "So.")
async def test_the_end_of_an_array(client: Client) -> None:
    path, _ = await note(client, tags=["x"])
    steps = [{"op": "add", "path": "/tags/-", "value": "y"}, {"op": "add", "path": "/tags/0", "value": "w"}]
    assert (await patch(client, path, steps, PATCH)).json["tags"] == ["w", "x", "y"]


# RFC 8288, 7240, 6585 ---------------------------------------------------------------------------------------


@conforms(
    "8288",
    "3",
    "Link: a URI in angle brackets, the relation in ``rel``.",
    "``first``, ``prev`` and ``next`` on lists; each can be followed as it is.",
)
async def test_links_can_be_followed(client: Client) -> None:
    for number in range(5):
        await note(client, name=f"näme {number}")
    for start in ("/note?per_page=2&sort=name", "/note?per_page=2&sort=-name&cursor="):
        seen: list[str] = []
        url: str | None = start
        while url:
            answer = await client.get(url)
            seen += [each["name"] for each in answer.json]
            links = dict(
                reversed(each) for each in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers["Link"])
            )
            assert "first" in links
            url = links.get("next")
        assert sorted(seen) == [f"näme {number}" for number in range(5)]


held_by(
    "test_patch.py::test_return_minimal",
    "7240",
    "4.2",
    "return=minimal and return=representation, for methods that write.",
    "So, with Preference-Applied; 201 stays 201, and 200 is 204.",
)
held_by(
    "test_bulk.py::test_a_lenient_bulk_does_what_it_can",
    "7240",
    "4.4",
    "handling=strict and handling=lenient say how strictly errors are dealt with.",
    "For many documents at once: all or nothing, or what can be done.",
)
held_by(
    "test_patch.py::test_other_preferences",
    "7240",
    "2",
    "Preferences that nobody knows are disregarded; names do not depend on case; of two the first counts.",
    "So.",
)


@conforms("7240", "2", "Preferences may be in several headers.", "So.")
async def test_preferences_in_several_headers(client: Client) -> None:
    path, _ = await note(client)
    await client.get(path)
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n"
    sent = head + "Content-Type: application/json\r\nPrefer: wait=5\r\nPrefer: return=minimal\r\n\r\n"
    answer = await client.raw(sent.encode() + b'{"size":8}')
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Preference-Applied: return=minimal" in answer


@conforms("7240", "3", "Preference-Applied says which preference was followed.", "Only where one was.")
async def test_what_was_followed_is_said(client: Client) -> None:
    path, _ = await note(client)
    for prefer, applied in {"respond-async": None, "return=representation": "return=representation"}.items():
        answer = await client.put(path, json={"size": 3}, headers={"Prefer": prefer})
        assert answer.headers.get("Preference-Applied") == applied
    assert "Preference-Applied" not in (await client.get(path, headers={"Prefer": "return=minimal"})).headers


@conforms("6585", "3", "428 says that a request must be conditional, and how.", "``require_if_match=True``.")
async def test_a_condition_can_be_required(client: Client) -> None:
    problem = (await client.delete("/guarded/x")).problem(428)
    assert "If-Match" in problem["detail"]


@conforms("6585", "4", "429 may have Retry-After, and says what is the matter.", "``rate_limit=``: it has.")
async def test_too_many_requests(client: Client) -> None:
    await client.get("/rare")
    answer = await client.get("/rare")
    assert answer.problem(429)["violated-policies"] == ["rare"]
    assert int(answer.headers["Retry-After"]) > 0


held_by(
    "test_server_limits.py::test_headers_over_the_limit_are_431",
    "6585",
    "5",
    "Headers that are too large are 431.",
    "So, by ``bzz.serve``.",
)


def test_every_kind_of_problem_stands_in_the_page_about_errors() -> None:
    told = (ROOT / "docs" / "errors.rst").read_text()
    for _error, status, kind in STATUS:
        known = rf"\* - {status}(?: …)?\n     - ``urn:bzz:problem:{kind}``"
        assert re.search(known, told), (status, kind)


# The page ---------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text() == page(), "write it again: python -m tests.conformance"


@pytest.mark.parametrize("test", sorted({each.test for each in ROWS if "::" in each.test}))
def test_every_test_elsewhere_exists(test: str) -> None:
    module, name = test.split("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / module).read_text(), re.MULTILINE)
