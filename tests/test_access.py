"""Who may do what: methods, fields, authorization and rows, over real HTTP."""

from __future__ import annotations

from typing import Any

import mongoengine as me
import pytest
import tornado.web

import bzz
from bzz import signals
from bzz.resource import Operation
from tests.serving import Answer, Client, serving


class Home(me.EmbeddedDocument):
    city = me.StringField(required=True)
    zip = me.StringField()
    door = me.StringField()


class Person(me.Document):
    login = me.StringField(primary_key=True)
    name = me.StringField()
    password = me.StringField(min_length=4)
    joined = me.StringField()
    score = me.IntField(default=0)
    home = me.EmbeddedDocumentField(Home)
    homes = me.EmbeddedDocumentListField(Home)
    boss = me.ReferenceField("self")


class Note(me.Document):
    team = me.StringField()
    text = me.StringField()
    author = me.ReferenceField(Person)


@pytest.fixture(autouse=True)
def _connected(database: str) -> None:
    """Give every test a database of its own."""


async def batch(client: Client, *operations: dict[str, Any], **more: Any) -> Answer:
    return await client.post("/batch", json={"operations": list(operations), **more})


# Methods ----------------------------------------------------------------------------------------------------


async def test_a_resource_has_only_the_methods_that_were_chosen() -> None:
    api = bzz.Api()
    api.add(Note, methods=["GET", "PATCH"])
    async with serving(api) as client:
        note = Note(text="a").save()
        refused = await client.post("/note", json={"text": "b"})
        assert refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
        refused = await client.delete(f"/note/{note.pk}")
        assert refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, PATCH, OPTIONS"
        assert (await client.request("HEAD", f"/note/{note.pk}")).status == 200
        known = await client.request("OPTIONS", f"/note/{note.pk}")
        assert known.headers["Allow"] == "GET, HEAD, PATCH, OPTIONS"
        assert "merge-patch" in known.headers["Accept-Patch"]
        paths = (await client.get("/openapi.json")).json["paths"]
        assert sorted(paths["/note"]) == ["get", "head", "options"]
        assert sorted(paths["/note/{key}"]) == ["get", "head", "options", "patch"]


async def test_without_patch_there_is_no_accept_patch() -> None:
    async with serving(bzz.MongoEngineRestHandler.routes_for(Note, methods={"POST"})) as client:
        known = await client.request("OPTIONS", "/note/1")
        assert known.headers["Allow"] == "OPTIONS"
        assert "Accept-Patch" not in known.headers
        assert (await client.post("/note", json={"text": "a"})).status == 201
        assert (await client.get("/note")).problem(405)


async def test_a_batch_is_refused_at_the_operation_whose_method_does_not_exist() -> None:
    api = bzz.Api()
    api.add(Note, methods=["GET", "POST"])
    async with serving(api) as client:
        answer = await batch(
            client,
            {"method": "POST", "path": "/note", "body": {"text": "a"}},
            {"method": "DELETE", "path": "/note/5f0000000000000000000000"},
        )
        assert answer.problem(400)["errors"] == [
            {"pointer": "/operations/1/method", "detail": "DELETE is not allowed on note"}
        ]
        assert Note.objects.count() == 0


@pytest.mark.parametrize("methods", ["GET", ["TRACE"], ["get"]])
def test_methods_that_do_not_exist_are_refused_when_adding(methods: Any) -> None:
    with pytest.raises(ValueError, match="methods are some of"):
        bzz.Api().add(Note, methods=methods)


# Fields -----------------------------------------------------------------------------------------------------

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def people() -> bzz.Api:
    """People whose password nobody sees, whose score only the server sets, who joined once."""
    api = bzz.Api()
    api.add(
        Person,
        writable=["login", "name", "home", "homes", "boss"],
        write_once=["joined"],
        write_only=["password", "home.door"],
        filters=["*"],
    )
    return api


def ann(**more: Any) -> dict[str, Any]:
    home = {"city": "Rio", "zip": "1", "door": SECRET}
    return {"login": "ann", "name": "Ann", "password": SECRET, "joined": "2020", "home": home, **more}


SEEN = {
    "login": "ann",
    "name": "Ann",
    "joined": "2020",
    "score": 0,
    "home": {"city": "Rio", "zip": "1"},
    "homes": [],
    "boss": None,
}


async def test_what_is_write_only_is_stored_and_never_shown(people: bzz.Api) -> None:
    async with serving(people) as client:
        made = await client.post("/person", json=ann())
        assert made.status == 201, made
        assert made.json == SEEN
        assert made.headers["X-Created-Id"] == "ann"
        stored = Person.objects.get()
        assert stored.password == stored.home.door == SECRET
        for path in ("/person/ann", "/person", "/person?fields=home", "/person?sort=login&cursor="):
            answer = await client.get(path)
            assert answer.status == 200, answer
            assert SECRET.encode() not in answer.body
            assert b"password" not in answer.body
        assert (await client.get("/person?fields=home")).json == [{"login": "ann", "home": SEEN["home"]}]


async def test_a_receiver_gets_all_of_a_document(people: bzz.Api) -> None:
    seen: list[Any] = []

    @signals.post_update_instance.connect(sender=Person)
    def updated(instance: Person, updated_fields: dict[str, Any]) -> None:
        seen.append((instance.home.door, updated_fields["password"]))

    async with serving(people) as client:
        await client.post("/person", json=ann())
        await client.put("/person/ann", json={"password": "other"})
    assert seen == [(SECRET, {"from": SECRET, "to": "other"})]


async def test_what_cannot_be_set_is_refused_where_it_stands(people: bzz.Api) -> None:
    async with serving(people) as client:
        refused = await client.post("/person", json=ann(score=7))
        assert refused.problem(400)["errors"] == [{"pointer": "/score", "detail": "this field cannot be set"}]
        refused = await client.post("/person", form={"login": "ann", "score": "7"})
        assert refused.problem(400)["errors"][0]["pointer"] == "/score"
        assert Person.objects.count() == 0
        await client.post("/person", json=ann())
        expected = [{"pointer": "/score", "detail": "this field cannot be changed"}]
        patch = [{"op": "replace", "path": "/score", "value": 7}]
        for method, options in (
            ("PUT", {"json": {"score": 7}}),
            ("PUT", {"form": {"score": "7"}}),
            ("PATCH", {"json": {"score": 7}}),
            ("PATCH", {"json": patch, "content_type": "application/json-patch+json"}),
        ):
            refused = await client.request(method, "/person/ann", **options)
            assert refused.problem(400)["errors"] == expected, (method, options)
            assert Person.objects.get().score == 0


async def test_a_field_that_does_not_exist_is_said_to_be_unknown(people: bzz.Api) -> None:
    async with serving(people) as client:
        refused = await client.post("/person", json=ann(nmae="x"))
        assert refused.problem(400)["errors"] == [{"pointer": "/nmae", "detail": "unknown field 'nmae'"}]
        await client.post("/person", json=ann())
        refused = await client.put("/person/ann", json={"nmae": "x"})
        assert refused.problem(400)["errors"][0]["detail"] == "unknown field 'nmae'"
        assert (await client.request("PATCH", "/person/ann", json={"nmae": None})).status == 200


async def test_what_a_get_gave_can_be_sent_back(people: bzz.Api) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        got = (await client.get("/person/ann")).json
        answer = await client.put("/person/ann", json={**got, "name": "Anna"})
        assert answer.status == 200, answer
        assert answer.json == {**SEEN, "name": "Anna"}
        stored = Person.objects.get()
        assert (stored.password, stored.home.door, stored.joined) == (SECRET, SECRET, "2020")


async def test_what_is_written_once_keeps_its_value(people: bzz.Api) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        assert (await client.put("/person/ann", json={"joined": "2020", "name": "A"})).status == 200
        refused = await client.put("/person/ann", json={"joined": "2021", "name": "B"})
        assert refused.problem(400)["errors"][0]["pointer"] == "/joined"
        refused = await client.put("/person/ann", json={"joined": None})
        assert refused.problem(400)["errors"][0]["pointer"] == "/joined"
        assert (Person.objects.get().joined, Person.objects.get().name) == ("2020", "A")


async def test_a_replacement_leaves_what_the_client_cannot_see_or_set() -> None:
    api = bzz.Api()
    api.add(Person, put="replace", write_only=["password", "home.door"], write_once=["joined"])
    async with serving(api) as client:
        await client.post("/person", json=ann(score=5))
        answer = await client.put("/person/ann", json={"name": "Anna", "home": {"city": "Ur"}})
        assert answer.status == 200, answer
        assert answer.json == {**SEEN, "name": "Anna", "home": {"city": "Ur", "zip": None}}
        stored = Person.objects.get()
        assert (stored.password, stored.home.door, stored.joined) == (SECRET, SECRET, "2020")
        await client.put("/person/ann", json={"name": "Anna", "password": "other"})
        stored = Person.objects.get()
        assert (stored.password, stored.home.door) == ("other", SECRET)


async def test_a_patch_of_an_object_leaves_its_unseen_part(people: bzz.Api) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        await client.request("PATCH", "/person/ann", json={"home": {"city": "Ur"}})
        patch = [{"op": "replace", "path": "/home", "value": {"city": "Uruk"}}]
        await client.request("PATCH", "/person/ann", json=patch, content_type="application/json-patch+json")
        stored = Person.objects.get()
        assert (stored.home.city, stored.home.zip, stored.home.door) == ("Uruk", None, SECRET)
        answer = await client.request("PATCH", "/person/ann", json={"home": {"door": None}, "password": None})
        assert answer.status == 200
        stored = Person.objects.get()
        assert (stored.home.city, stored.home.door, stored.password) == ("Uruk", None, None)


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "test", "path": "/password", "value": SECRET}],
        [{"op": "copy", "from": "/password", "path": "/name"}],
        [{"op": "move", "from": "/home/door", "path": "/name"}],
        [{"op": "copy", "from": "/home/door", "path": "/home/city"}],
        [{"op": "test", "path": "/home", "value": {"city": "Rio", "zip": "1", "door": SECRET}}],
    ],
)
async def test_a_patch_cannot_reach_what_is_not_seen(people: bzz.Api, patch: list[Any]) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        before = Person.objects.get().to_mongo()
        answer = await client.request(
            "PATCH", "/person/ann", json=patch, content_type="application/json-patch+json"
        )
        answer.problem(409)
        assert SECRET.encode() not in answer.body
        assert Person.objects.get().to_mongo() == before


@pytest.mark.parametrize(
    "query",
    [
        "password=x",
        "password__startswith=s",
        "password__exists=true",
        "home.door=x",
        "home__exists=true",
        "sort=password",
        "sort=home.door",
        "fields=password",
        "fields=home.door",
    ],
)
async def test_a_list_cannot_be_asked_about_what_is_not_seen(people: bzz.Api, query: str) -> None:
    async with serving(people) as client:
        (await client.get(f"/person?{query}")).problem(400)


async def test_conflicts_previews_and_diffs_show_only_what_is_seen(people: bzz.Api) -> None:
    change = {"name": "Anna", "password": "n3w-s3cr3t", "home": {"city": "Ur", "door": "n3w-s3cr3t"}}
    async with serving(people) as client:
        await client.post("/person", json=ann())
        conflict = await client.put("/person/ann", json=change, headers={"If-Match": '"old"'})
        told = conflict.problem(412)["conflicts"]
        assert sorted(told) == ["home.city", "home.zip", "name"]
        preview = await client.put("/person/ann", json=change, headers={"Prefer": "dry-run"})
        assert sorted(preview.json["diff"]) == ["home.city", "home.zip", "name"]
        done = await batch(client, {"method": "PUT", "path": "/person/ann", "body": change})
        assert sorted(done.json["operations"][0]["diff"]) == ["home.city", "home.zip", "name"]
        gone = await client.delete("/person/ann", headers={"Prefer": "dry-run"})
        for answer in (conflict, preview, done, gone):
            assert b"s3cr3t" not in answer.body


async def test_an_error_does_not_repeat_what_is_stored_unseen(people: bzz.Api) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        Person._get_collection().update_one({}, {"$set": {"password": "abc", "score": "s3cr3t"}})
        refused = await client.put("/person/ann", json={"name": "A", "home": {"city": "Ur"}})
        assert {"pointer": "/password", "detail": "the value is not valid"} in refused.problem(400)["errors"]
        refused = await client.put("/person/ann", json={"password": "ab"})
        assert "short" in refused.problem(400)["errors"][0]["detail"]


async def test_a_tag_does_not_let_anybody_try_out_what_is_not_seen(people: bzz.Api) -> None:
    other = bzz.Api()
    other.add(Person)
    async with serving(people) as client, serving(other) as whole:
        await client.post("/person", json=ann())
        tag = (await client.get("/person/ann")).headers["ETag"]
        known = (await whole.get("/person/ann")).headers["ETag"]
        assert tag.partition(".")[0] != known.partition(".")[0]
        assert (await client.get("/person/ann", headers={"If-None-Match": tag})).status == 304
        changed = await client.put("/person/ann", json={"name": "A"}, headers={"If-Match": tag})
        assert changed.status == 200
        (await client.delete("/person/ann", headers={"If-Match": tag})).problem(412)
        now = {"If-Match": changed.headers["ETag"]}
        assert (await client.delete("/person/ann", headers=now)).status == 204


async def test_what_is_expanded_is_shown_as_its_own_resource_shows_it(people: bzz.Api) -> None:
    people.add(Note, expandable=["author", "author.boss"])
    async with serving(people) as client:
        await client.post("/person", json=ann())
        await client.post("/person", json={"login": "bo", "password": SECRET, "boss": "ann"})
        await client.post("/note", json={"text": "t", "author": "bo"})
        answer = await client.get("/note?expand=author.boss")
        assert answer.json[0]["author"]["boss"] == SEEN
        assert SECRET.encode() not in answer.body


class Shown(me.Document):
    name = me.StringField()
    pin = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"id": str(self.pk), "title": self.name, "pin": self.pin}


async def test_a_form_of_its_own_is_cut_by_the_names_of_fields() -> None:
    api = bzz.Api()
    api.add(Shown, readable=["name"])
    async with serving(api) as client:
        made = await client.post("/shown", json={"name": "a", "pin": SECRET})
        assert made.json == {"id": made.headers["X-Created-Id"], "title": "a"}
        assert (await client.get("/shown")).json == [made.json]


class Loose(me.DynamicDocument):
    name = me.StringField()


async def test_dynamic_fields_can_be_named_too() -> None:
    api = bzz.Api()
    api.add(Loose, readable=["name", "color"], writable=["name", "color", "pin"])
    async with serving(api) as client:
        made = await client.post("/loose", json={"name": "a", "color": "red", "pin": SECRET})
        assert made.json == {"id": made.headers["X-Created-Id"], "name": "a", "color": "red"}
        (await client.post("/loose", json={"other": 1})).problem(400)
        (await client.put(f"/loose/{made.json['id']}", json={"other": 1})).problem(400)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readable": ["nam"]}, "readable: Person has no field 'nam'"),
        ({"write_only": ["name"], "readable": ["name"]}, "cannot be readable and write_only"),
        ({"write_only": ["login"]}, "login cannot be readable and write_only"),
        ({"writable": ["homes.city"]}, "'homes.city' is in a list"),
        ({"write_once": ["homes.city"]}, "'homes.city' is in a list"),
        ({"writable": ["name"], "write_only": ["homes.door"]}, "it must be writable"),
        ({"readable": ["name"], "filters": ["password"]}, "filters: password cannot be read"),
        ({"readable": ["name"], "sorts": ["password"]}, "sorts: password cannot be read"),
        ({"readable": ["name"], "expandable": ["boss"]}, "expandable: boss cannot be read"),
    ],
)
def test_what_contradicts_itself_is_refused_when_adding(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bzz.Api().add(Person, **options)


def test_one_text_is_no_collection_of_names() -> None:
    with pytest.raises(TypeError, match="readable is a collection of names"):
        bzz.Api().add(Person, readable="name")


# Authorization ----------------------------------------------------------------------------------------------


async def test_authorize_is_asked_by_every_way_in_before_anything_is_read() -> None:
    asked: list[Any] = []

    def of_api(operation: Operation) -> None:
        asked.append(("api", operation.action, operation.resource.name))

    async def of_resource(operation: Operation) -> bool:
        asked.append(("note", operation.action, operation.handler.request.headers.get("X-User")))
        return operation.handler.request.headers.get("X-User") == "root"

    api = bzz.Api(authorize=of_api)
    api.add(Note, authorize=of_resource)
    api.add(Person)
    root = {"X-User": "root"}
    async with serving(api) as client:
        note = Note(text="a").save()
        at = f"/note/{note.pk}"
        for method, path, body in (
            ("GET", "/note", None),
            ("POST", "/note", {"text": "b"}),
            ("GET", at, None),
            ("GET", "/note/nobody", None),
            ("PUT", at, {"text": "b"}),
            ("PUT", at, {"unknown": "b"}),
            ("PATCH", at, {"text": "b"}),
            ("DELETE", at, None),
        ):
            refused = await client.request(method, path, json=body, headers={"Prefer": "dry-run"})
            assert refused.problem(403)["detail"] == "This is not allowed."
        assert [Note.objects.count(), Note.objects.get().text] == [1, "a"]
        assert len(asked) == 16
        asked.clear()
        told = await batch(client, {"method": "DELETE", "path": at}, atomic=True)
        assert told.problem(403)["operations"][0]["status"] == 403
        assert asked == [("api", "delete_instance", "note"), ("note", "delete_instance", None)]
        assert (await client.get(at, headers=root)).status == 200
        assert (await client.get("/person")).status == 200


async def test_authorize_may_raise_what_it_likes() -> None:
    def refuse(operation: Operation) -> None:
        if operation.action == "get_list":
            raise bzz.Veto(401, "Who?", headers={"WWW-Authenticate": 'Basic realm="notes"'})
        if operation.action == "create_instance":
            raise tornado.web.HTTPError(401)
        raise tornado.web.HTTPError(418, "short and stout")

    async with serving(bzz.MongoEngineRestHandler.routes_for(Note, authorize=refuse)) as client:
        answer = await client.get("/note")
        assert answer.problem(401)["detail"] == "Who?"
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="notes"'
        answer = await client.post("/note", json={})
        assert answer.problem(401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.get("/note/1")).problem(418)["detail"] == "short and stout"


async def test_a_refused_operation_was_announced_and_failed() -> None:
    told: list[str] = []
    routes = bzz.MongoEngineRestHandler.routes_for(Note, authorize=lambda operation: False)
    for event in ("prerun", "failure", "postrun", "success", "pre_get_list"):
        getattr(routes, f"on_{event}")(lambda event=event, **_: told.append(event))
    async with serving(routes) as client:
        (await client.get("/note")).problem(403)
    assert told == ["prerun", "failure", "postrun"]


class Guarded(bzz.MongoEngineRestHandler):
    """A handler that knows its users."""

    challenge = 'Basic realm="guarded"'

    def get_current_user(self) -> str | None:
        return self.request.headers.get("X-User")

    async def authorize(self, operation: Operation) -> None:
        if self.current_user is None:
            raise bzz.Veto(401, f"Who wants {self.path}?")

    def rows(self, operation: Operation) -> dict[str, Any]:
        return {"team": self.current_user}


async def test_a_handler_of_ones_own_authorizes_in_a_batch_as_well() -> None:
    api = bzz.Api()
    api.add(Note, handler=Guarded)
    async with serving(api) as client:
        assert (await client.get("/note")).headers["WWW-Authenticate"] == 'Basic realm="guarded"'
        Note(team="red", text="a").save()
        Note(team="blue", text="b").save()
        operation = {"method": "GET", "path": "/note"}
        told = await batch(client, operation)
        assert told.problem(401)["operations"][0]["error"]["detail"] == "Who wants /note?"
        answer = await client.post("/batch", json={"operations": [operation]}, headers={"X-User": "red"})
        assert [each["text"] for each in answer.json["operations"][0]["body"]] == ["a"]
        assert [each["text"] for each in (await client.get("/note", headers={"X-User": "blue"})).json] == [
            "b"
        ]


# Rows -------------------------------------------------------------------------------------------------------


def of_team(operation: Operation) -> dict[str, Any]:
    return {"team": operation.handler.request.headers.get("X-Team", "red")}


async def test_what_lies_outside_the_rows_does_not_exist() -> None:
    api = bzz.Api()
    api.add(Note, rows=of_team, put="replace")
    async with serving(api) as client:
        mine, other = Note(team="red", text="a").save(), Note(team="blue", text="b").save()
        assert [each["id"] for each in (await client.get("/note?count=exact")).json] == [str(mine.pk)]
        assert (await client.get("/note?count=estimated")).headers["X-Total-Count"] == "1"
        assert (await client.get("/note?team=blue")).json == []
        assert (await client.get(f"/note/{mine.pk}")).status == 200
        at = f"/note/{other.pk}"
        (await client.get(at)).problem(404)
        (await client.put(at, json={"text": "c"})).problem(404)
        (await client.put(at, json={"text": "c"}, headers={"If-Match": "*"})).problem(404)
        (await client.request("PATCH", at, json={"text": "c"})).problem(404)
        (await client.delete(at)).problem(404)
        (await client.delete(at, headers={"Prefer": "dry-run"})).problem(404)
        told = await batch(client, {"method": "DELETE", "path": at})
        told.problem(404)
        assert Note.objects.get(pk=other.pk).text == "b"
        assert (await client.delete(at, headers={"X-Team": "blue"})).status == 204


async def test_nobody_makes_or_moves_a_document_out_of_the_rows() -> None:
    api = bzz.Api()
    api.add(Note, rows=of_team)
    async with serving(api) as client:
        made = await client.post("/note", json={"text": "a"})
        assert (made.status, made.json["team"]) == (201, "red")
        refused = await client.post("/note", json={"text": "a", "team": "blue"})
        assert "team" in refused.problem(403)["detail"]
        at = f"/note/{made.json['id']}"
        patch = [{"op": "replace", "path": "/team", "value": "blue"}]
        for method, options in (
            ("PUT", {"json": {"team": "blue"}}),
            ("PUT", {"json": {"team": None}}),
            ("PUT", {"form": {"team": "blue"}}),
            ("PATCH", {"json": {"team": "blue"}}),
            ("PATCH", {"json": patch, "content_type": "application/json-patch+json"}),
        ):
            (await client.request(method, at, **options)).problem(403)
            headers = {"Prefer": "dry-run"}
            (await client.request(method, at, headers=headers, **options)).problem(403)
        assert (await client.put(at, json={"team": "red", "text": "b"})).status == 200
        assert [each.to_mongo().to_dict() for each in Note.objects] == [
            {"_id": Note.objects.get().pk, "team": "red", "text": "b"}
        ]


async def test_the_rows_are_part_of_the_write() -> None:
    """Who moved the document after it was read has the write find nothing."""
    api = bzz.Api()
    routes = api.add(Note, rows={"team": "red"})
    note = Note(team="red", text="a").save()

    @routes.on_pre_update_instance
    @routes.on_pre_delete_instance
    def move(instance: Note) -> None:
        Note.objects(pk=instance.pk).update(team="blue")

    async with serving(api) as client:
        at = f"/note/{note.pk}"
        (await client.put(at, json={"text": "b"})).problem(404)
        Note.objects.update(team="red")
        (await client.delete(at)).problem(404)
        assert Note.objects.get().text == "a"


async def test_rows_are_values_whatever_a_client_says() -> None:
    Note(team="red", text="a").save()
    Note(team='{"$ne": null}', text="b").save()
    person = Person(login="ann").save()
    Note(author=person, text="c").save()

    def chosen(operation: Operation) -> dict[str, Any]:
        headers = operation.handler.request.headers
        return {headers["X-Field"]: headers["X-Value"]}

    async with serving(bzz.MongoEngineRestHandler.routes_for(Note, rows=chosen)) as client:

        async def texts(field: str, value: str) -> list[str]:
            answer = await client.get("/note", headers={"X-Field": field, "X-Value": value})
            return [each["text"] for each in answer.json]

        assert await texts("team", '{"$ne": null}') == ["b"]
        assert await texts("team", "$ne") == []
        assert await texts("author", "ann") == ["c"]
        assert await texts("id", "no key at all") == []


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ({"score": [1, 2]}, ["a", "b"]),
        ({"score": {2, 3}}, ["b", "c"]),
        ({"score": ()}, []),
        ({"score": "2"}, ["b"]),
        ({"score": 1, "name": "one"}, ["a"]),
        ({"home.city": "Rio"}, ["a"]),
        ({"home.city": None}, ["b", "c"]),
        ({"homes.zip": "9"}, ["c"]),
        ({"boss": Person(login="a")}, ["b"]),
        ({"boss": "a"}, ["b"]),
        ({}, ["a", "b", "c"]),
    ],
)
async def test_rows_name_values_of_fields(rows: Any, found: list[str]) -> None:
    Person(login="a", name="one", score=1, home=Home(city="Rio")).save()
    Person(login="b", score=2, boss="a").save()
    Person(login="c", score=3, homes=[Home(city="x", zip="9"), Home(city="y")]).save()
    for chosen in (rows, lambda operation: rows):
        async with serving(bzz.MongoEngineRestHandler.routes_for(Person, rows=chosen)) as client:
            assert [each["login"] for each in (await client.get("/person")).json] == found
            for login in "abc":
                renamed = await client.put(f"/person/{login}", json={"name": "one"})
                assert renamed.status == (200 if login in found else 404)
                moved = await client.put(f"/person/{login}", json={"score": 1}, headers={"If-Match": "*"})
                assert moved.status in ((200, 403) if login in found else (404,))
                score = {"a": 1, "b": 2, "c": 3}[login]
                Person.objects(login=login).update(score=score)


async def test_rows_that_are_forgotten_open_nothing() -> None:
    async with serving(bzz.MongoEngineRestHandler.routes_for(Note, rows=lambda operation: None)) as client:
        Note(text="a").save()
        (await client.get("/note")).problem(500)


@pytest.mark.parametrize(
    ("rows", "message"),
    [({"nobody": 1}, "has no field 'nobody'"), ({"author": {"$ne": 1}}, "'author'"), ({"id": "x"}, "'id'")],
)
def test_rows_that_no_document_can_have_are_refused_when_adding(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bzz.Api().add(Note, rows=rows)


async def test_what_is_expanded_lies_within_the_rows_of_its_own_resource() -> None:
    api = bzz.Api()
    api.add(Note, expandable=["author"])
    api.add(Person, rows=lambda operation: {"name": "seen"})
    Person(login="a", name="seen").save()
    Person(login="b", name="hidden").save()
    Note(text="1", author="a").save()
    Note(text="2", author="b").save()
    async with serving(api) as client:
        found = (await client.get("/note?expand=author")).json
        assert [each["author"] for each in found][1] == "b"
        assert found[0]["author"]["name"] == "seen"


# What upstream calls them -----------------------------------------------------------------------------------


class Custom(me.Document):
    prop = me.StringField()
    asked: list[Any] = []

    @classmethod
    def get_list_queryset(cls, queryset: Any, handler: Any) -> Any:
        cls.asked.append(("list", handler.request.method))
        return queryset(prop="x")

    @classmethod
    def get_instance_queryset(cls, model: Any, queryset: Any, instance_id: Any, handler: Any) -> Any:
        cls.asked.append((model, instance_id))
        return queryset.filter(prop="x")


async def test_the_querysets_of_a_model_limit_its_resource() -> None:
    mine, other = Custom(prop="x").save(), Custom(prop="y").save()
    Custom.asked.clear()
    async with serving(bzz.MongoEngineRestHandler.routes_for(Custom)) as client:
        assert [each["id"] for each in (await client.get("/custom")).json] == [str(mine.pk)]
        assert Custom.asked == [("list", "GET")]
        for pk, status in ((mine.pk, 200), (other.pk, 404)):
            assert (await client.get(f"/custom/{pk}")).status == status
            assert (await client.put(f"/custom/{pk}", json={"prop": "x"})).status == status
        assert Custom.asked[-1] == (Custom, str(other.pk))
        assert (await client.delete(f"/custom/{other.pk}")).status == 404
        assert (await client.post("/custom", json={"prop": "z"})).status == 201
        assert Custom.objects.count() == 3


class Asking(bzz.MongoEngineRestHandler):
    """A handler with querysets of its own."""

    def get_list_queryset(self, queryset: Any, handler: Any) -> Any:
        return queryset(team=self.request.headers["X-Team"])

    async def get_instance_queryset(self, model: Any, queryset: Any, key: str, handler: Any) -> Any:
        return queryset.none() if "X-Nothing" in self.request.headers else queryset.all()


async def test_a_handler_may_have_querysets_of_its_own() -> None:
    Note(team="red", text="a").save()
    note = Note(team="blue", text="b").save()
    api = bzz.Api()
    api.add(Note, handler=Asking)
    async with serving(api) as client:
        team = {"X-Team": "red"}
        assert [each["text"] for each in (await client.get("/note", headers=team)).json] == ["a"]
        assert (await client.get(f"/note/{note.pk}")).status == 200
        (await client.get(f"/note/{note.pk}", headers={"X-Nothing": "1"})).problem(404)


@pytest.mark.parametrize("given", [lambda queryset, handler: queryset.limit(1), lambda queryset, handler: []])
async def test_a_queryset_that_is_no_filter_opens_nothing(given: Any) -> None:
    Note(text="a").save()
    routes = bzz.MongoEngineRestHandler.routes_for(Note, get_list_queryset=given)
    async with serving(routes) as client:
        (await client.get("/note")).problem(500)


# Every way in -----------------------------------------------------------------------------------------------


async def test_bulk_and_streams_keep_to_the_rows() -> None:
    api = bzz.Api()
    api.add(Note, rows={"team": "red"}, writable=["text", "team"], bulk=["PATCH", "DELETE"], ndjson=True)
    for team in ("red", "blue"):
        Note(team=team, text="a").save()
    wish = {"Prefer": "max-affected=10"}
    async with serving(api) as client:
        lines = await client.get("/note", headers={"Accept": "application/x-ndjson"})
        assert len(lines.body.splitlines()) == 1
        changed = await client.request("PATCH", "/note?text=a", json={"text": "b"}, headers=wish)
        assert changed.status == 200, changed
        assert {each.team: each.text for each in Note.objects} == {"red": "b", "blue": "a"}
        moved = await client.request("PATCH", "/note?text=b", json={"team": "blue"}, headers=wish)
        assert moved.status >= 400
        refused = await client.request("PATCH", "/note?text=b", json={"author": "x"}, headers=wish)
        assert refused.status >= 400
        made = await client.post("/note", json=[{"text": "c"}, {"text": "d", "team": "red"}])
        assert made.status == 201, made
        outside = await client.post("/note", json=[{"text": "e"}, {"text": "f", "team": "blue"}])
        assert outside.status >= 400
        assert sorted(each.text for each in Note.objects(team="red")) == ["b", "c", "d"]
        assert (await client.delete("/note?text__exists=true", headers=wish)).status == 200
        assert [each.team for each in Note.objects] == ["blue"]


async def test_bulk_and_nested_operations_are_authorized() -> None:
    asked: list[str] = []

    def authorize(operation: Operation) -> bool:
        asked.append(f"{operation.resource.name}.{operation.action}")
        return operation.action.startswith("get") and operation.resource.name == "person"

    api = bzz.Api(authorize=authorize)
    api.add(Person, bulk=["PATCH", "DELETE"])
    api.add(Note)
    Person(login="ann", name="Ann", home=Home(city="Rio")).save()
    note = Note(text="a", author="ann").save()
    wish = {"Prefer": "max-affected=10"}
    async with serving(api) as client:
        assert (await client.get("/person/ann/home")).json["city"] == "Rio"
        assert asked == ["person.get_instance"]
        for method, path, body in (
            ("PUT", "/person/ann/home", {"city": "Ur"}),
            ("DELETE", "/person/ann/home", None),
            ("POST", "/person/ann/homes", {"city": "Ur"}),
            ("GET", f"/note/{note.pk}/author", None),
            ("PATCH", "/person?name=Ann", {"name": "A"}),
            ("DELETE", "/person?name=Ann", None),
            ("POST", "/person", [{"login": "x"}]),
        ):
            asked.clear()
            refused = await client.request(method, path, json=body, headers=wish)
            assert refused.status in (403, 422), (method, path, refused)
            assert asked, (method, path)
        person = Person.objects.get()
        assert (person.name, person.home.city, person.homes) == ("Ann", "Rio", [])


async def test_one_document_can_be_asked_for_in_parts_that_are_seen(people: bzz.Api) -> None:
    async with serving(people) as client:
        await client.post("/person", json=ann())
        assert (await client.get("/person/ann?fields=home")).json == {"login": "ann", "home": SEEN["home"]}
        (await client.get("/person/ann?fields=password")).problem(400)


async def test_a_handler_of_ones_own_is_asked_without_a_request_too() -> None:
    """As from the command line."""
    asked: list[Any] = []

    class Asked(bzz.MongoEngineRestHandler):
        async def authorize(self, operation: Operation) -> None:
            asked.append((type(self), self.request, self.resource.name, operation.handler))

    routes = Asked.routes_for(Note)
    await routes.resource.run(Operation("get_list"))
    assert asked == [(Asked, None, "note", None)]


class Fixed(bzz.MongoEngineRestHandler):
    rows = {"team": "red"}
    methods = ("GET",)
    readable = ("text",)

    @staticmethod
    def authorize(operation: Operation) -> bool:
        return operation.handler.request.headers.get("X-User") != "nobody"


async def test_options_may_be_attributes_of_a_handler_class() -> None:
    for team in ("red", "blue"):
        Note(team=team, text=team).save()
    async with serving(Fixed.routes_for(Note)) as client:
        found = (await client.get("/note")).json
        assert [sorted(each) for each in found] == [["id", "text"]]
        assert found[0]["text"] == "red"
        (await client.get("/note", headers={"X-User": "nobody"})).problem(403)
        (await client.post("/note", json={})).problem(405)


async def test_a_handler_class_of_several_resources_asks_each_with_its_own() -> None:
    """Expanding a reference asks for the rows of another resource, whose handler has the same class."""
    seen: list[tuple[str, str]] = []

    class Both(bzz.MongoEngineRestHandler):
        def rows(self, operation: Operation) -> dict[str, Any]:
            seen.append((self.resource.name, operation.resource.name))
            return {}

    api = bzz.Api()
    api.add(Note, handler=Both, expandable=["author"])
    api.add(Person, handler=Both)
    Person(login="ann").save()
    Note(author="ann").save()
    async with serving(api) as client:
        assert (await client.get("/note?expand=author")).json[0]["author"]["login"] == "ann"
    assert seen == [("note", "note"), ("person", "note")]


async def test_what_only_a_class_below_has_can_be_named() -> None:
    api = bzz.Api()
    api.add(Creature, readable=["name", "wings"])
    Bird(name="tit", wings=2, song="la").save()
    async with serving(api) as client:
        shown = (await client.get("/creature")).json
        assert [sorted(each) for each in shown] == [["_cls", "id", "name", "wings"]]


class Creature(me.Document):
    name = me.StringField()
    meta = {"allow_inheritance": True}


class Bird(Creature):
    wings = me.IntField()
    song = me.StringField()


class Nest(me.Document):
    bird = me.ReferenceField(Bird)
    creature = me.ReferenceField(Creature)


async def test_expanded_documents_of_one_family_keep_to_the_resources_of_the_others() -> None:
    api = bzz.Api()
    api.add(Nest, expandable=["bird", "creature"])
    api.add(Creature, readable=["name", "wings"], rows={"name": ["tit", "cat"]})
    api.add(Bird, write_only=["wings"], rows={"wings": 2})
    tit, owl = Bird(name="tit", wings=2, song="la").save(), Bird(name="owl", wings=2).save()
    lame, cat = Bird(name="tit", wings=1).save(), Creature(name="cat").save()
    for bird, creature in ((tit, tit), (owl, cat), (lame, lame)):
        Nest(bird=bird, creature=creature).save()
    async with serving(api) as client:
        found = (await client.get("/nest?expand=bird,creature")).json
        shown = {"_cls": "Creature.Bird", "id": str(tit.pk), "name": "tit"}
        assert [each["bird"] for each in found] == [shown, str(owl.pk), str(lame.pk)]
        plain = {"_cls": "Creature", "id": str(cat.pk), "name": "cat"}
        assert [each["creature"] for each in found] == [shown, plain, str(lame.pk)]


async def test_a_text_search_cannot_look_into_what_is_not_seen() -> None:
    class Page(me.Document):
        title = me.StringField()
        notes = me.StringField()
        meta = {"indexes": [{"fields": ["$title", "$notes"]}]}

    with pytest.raises(ValueError, match="search: notes of the text index cannot be read"):
        bzz.Api().add(Page, search=True, write_only=["notes"])
    bzz.Api().add(Page, search=True)


async def test_who_the_user_is_a_handler_of_ones_own_finds_out_in_a_batch_too() -> None:
    api = bzz.Api()
    routes = api.add(Note, handler=Guarded)
    Note(team="red", text="a").save()

    @routes.on_prerun
    def look(operation: Operation) -> None:
        assert operation.handler.current_user is None, "the handler of a batch knows nobody, and remembers"

    async with serving(api) as client:
        plan = {"operations": [{"method": "GET", "path": "/note"}]}
        answer = await client.post("/batch", json=plan, headers={"X-User": "red"})
        assert [each["text"] for each in answer.json["operations"][0]["body"]] == ["a"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("PUT", {"json": {"home": None}}),
        ("PATCH", {"json": {"home": None}}),
        (
            "PATCH",
            {"json": [{"op": "remove", "path": "/home"}], "content_type": "application/json-patch+json"},
        ),
    ],
)
async def test_an_object_stays_as_long_as_a_part_of_it_cannot_be_changed(method: str, options: Any) -> None:
    api = bzz.Api()
    api.add(Person, write_once=["home.zip"])
    Person(login="ann", home=Home(city="Rio")).save()
    Person(login="bo").save()
    async with serving(api) as client:
        refused = await client.request(method, "/person/ann", **options)
        assert [each["pointer"] for each in refused.problem(400)["errors"]] == ["/home"]
        assert Person.objects.get(login="ann").home.city == "Rio"
        none = await client.request(method, "/person/bo", **options)
        assert none.status == 200, none
