"""REST over a model, R1 to R7, over real HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pymongo
import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient

import bzz
from bzz.mongoengine_handler import MongoEngineRestHandler, Routes
from tests.serving import Client, serving


class Address(me.EmbeddedDocument):
    city = me.StringField(required=True, max_length=20)
    zip_code = me.StringField(db_field="z")


class OtherUser(me.Document):
    name = me.StringField(required=True, max_length=50)
    age = me.IntField(min_value=0, default=18)
    email = me.EmailField(unique=True, sparse=True)
    address = me.EmbeddedDocumentField(Address)
    tags = me.ListField(me.StringField())
    friends = me.ListField(me.ReferenceField("self"))
    meta = {"indexes": ["name"]}


class Product(me.Document):
    code = me.StringField(primary_key=True)
    title = me.StringField()


class Article(me.Document):
    slug = me.StringField(unique=True)
    title = me.StringField()

    @classmethod
    def get_id_field_name(cls) -> str:
        return "slug"


class Team(me.Document):
    name = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name.upper(), "size": 0, "key": self.id, "made": self.id.generation_time}


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    routes: list[Any] = []
    for model in (OtherUser, Product, Article, Team):
        routes += MongoEngineRestHandler.routes_for(model, prefix="/api/")
    async with serving(routes) as client:
        yield client


USERS = "/api/other_user"


async def create(client: Client, **values: Any) -> Any:
    answer = await client.post(USERS, json={"name": "Ana", **values})
    assert answer.status == 201, answer
    return answer.json


# R1: names and paths


@pytest.mark.parametrize(
    ("prefix", "name", "path"),
    [
        ("", None, "/product"),
        ("/", None, "/product"),
        ("api", None, "/api/product"),
        ("/api", None, "/api/product"),
        ("/api/", None, "/api/product"),
        ("/api/v1/", "things", "/api/v1/things"),
    ],
)
async def test_prefix_and_name_make_the_path(database: str, prefix: str, name: str | None, path: str) -> None:
    routes = MongoEngineRestHandler.routes_for(Product, prefix=prefix, resource_name=name)
    assert isinstance(routes, list)
    async with serving(routes) as client:
        created = await client.post(path, json={"code": "a"})
        assert created.headers["Location"] == f"{path}/a"
        assert (await client.get(path + "/a")).status == 200


async def test_the_form_of_the_seed_is_accepted(database: str) -> None:
    routes = MongoEngineRestHandler.routes_for("mongoengine", Product, prefix="/api", resource_name="people")
    async with serving(routes) as client:
        assert (await client.get("/api/people")).json == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("/", 200),
        ("s", 404),
        ("_x", 404),
        ("//", 404),
        ("//KEY", 404),
        ("/KEY", 200),
        ("/KEY/", 200),
        ("/KEY//", 404),
        ("/KEY/more", 404),
        ("/%41%6Ea", 404),
    ],
)
async def test_which_urls_match(client: Client, path: str, status: int) -> None:
    key = (await create(client))["id"]
    assert (await client.get(USERS + path.replace("KEY", key))).status == status


@pytest.mark.parametrize("key", ["a b", "a/b", "é", "100%", "a?b#c", "ключ", "a+b", '"q"', "..", "a\nb"])
async def test_any_key_travels_percent_encoded(client: Client, key: str) -> None:
    created = await client.post("/api/product", json={"code": key, "title": "x"})
    assert created.status == 201, created
    location = created.headers["Location"]
    found = await client.get(location)
    assert found.json == {"code": key, "title": "x"}
    assert (await client.delete(location)).status == 204
    assert (await client.get(location)).status == 404


@pytest.mark.parametrize("wrong", [str, object, me.EmbeddedDocument, Address, "OtherUser", None])
def test_only_a_document_class_has_routes(wrong: Any) -> None:
    with pytest.raises(TypeError):
        MongoEngineRestHandler.routes_for(wrong)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="per_pages"):
        MongoEngineRestHandler.routes_for(Product, per_pages=3)


# R2: the client


async def test_explicit_clients(database: str, mongo_url: str) -> None:
    pymongo_client: Any = pymongo.AsyncMongoClient(mongo_url, uuidRepresentation="standard")
    motor_client: Any = AsyncIOMotorClient(mongo_url, uuidRepresentation="standard")
    for each in (pymongo_client, motor_client):
        async with serving(MongoEngineRestHandler.routes_for(Product, client=each)) as client:
            code = uuid.uuid4().hex
            assert (await client.post("/product", json={"code": code})).status == 201
            assert (await client.put(f"/product/{code}", json={"title": "t"})).json == {
                "code": code,
                "title": "t",
            }
            assert (await client.delete(f"/product/{code}")).status == 204
    await pymongo_client.close()
    motor_client.close()


async def test_models_on_an_alias_of_their_own(database: str, mongo_url: str) -> None:
    other = f"{database}-other"
    me.connect(other, alias="elsewhere", host=mongo_url, uuidRepresentation="standard")

    class Elsewhere(me.Document):
        name = me.StringField()
        meta = {"db_alias": "elsewhere"}

    async with serving(MongoEngineRestHandler.routes_for(Elsewhere)) as client:
        await client.post("/elsewhere", json={"name": "x"})
    assert me.get_connection("elsewhere")[other]["elsewhere"].count_documents({}) == 1
    me.get_connection("elsewhere").drop_database(other)


# R3: bodies


async def test_forms(client: Client) -> None:
    created = await client.post(
        USERS, form="name=Bernardo%20Heynemann&age=7&address.city=Rio+Bonito&tags=a&tags=b"
    )
    assert created.status == 201, created
    user = created.json
    assert user["name"] == "Bernardo Heynemann"
    assert user["age"] == 7
    assert user["address"] == {"city": "Rio Bonito", "zip_code": None}
    assert user["tags"] == ["a", "b"]
    changed = await client.put(f"{USERS}/{user['id']}", form=f"address.zip_code=1&friends[]={user['id']}")
    assert changed.json["address"] == {"city": "Rio Bonito", "zip_code": "1"}
    assert changed.json["friends"] == [user["id"]]


async def test_a_form_creates_the_missing_embedded_document(client: Client) -> None:
    user = await create(client)
    changed = await client.put(f"{USERS}/{user['id']}", form="address.city=Rio")
    assert changed.json["address"] == {"city": "Rio", "zip_code": None}
    refused = await client.put(f"{USERS}/{(await create(client))['id']}", form="address.zip_code=1")
    assert refused.problem(400)["errors"][0]["pointer"] == "/address/city"


async def test_a_json_object_replaces_the_embedded_document(client: Client) -> None:
    user = await create(client, address={"city": "Rio", "zip_code": "1"})
    changed = await client.put(f"{USERS}/{user['id']}", json={"address": {"city": "Oslo"}})
    assert changed.json["address"] == {"city": "Oslo", "zip_code": None}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=UTF-8", 201),
        ('APPLICATION/JSON;charset="utf-8"', 201),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/xml", 415),
        ("multipart/form-data; boundary=x", 415),
        ("nonsense", 415),
    ],
)
async def test_content_types(client: Client, content_type: str, status: int) -> None:
    body = b'{"name": "Ana"}'
    if content_type.startswith("multipart"):
        body = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nAna\r\n--x--\r\n'
    answer = await client.post(USERS, body=body, content_type=content_type)
    assert answer.status == status, answer
    if status == 415:
        answer.problem(415)
        assert OtherUser.objects.count() == 0


@pytest.mark.parametrize("body", [{"name": "Bea"}, "name=Bea"], ids=["JSON", "form"])
async def test_without_a_content_type_the_body_speaks_for_itself(client: Client, body: Any) -> None:
    key = (await create(client))["id"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    assert (await client.put(f"{USERS}/{key}", body=data)).json["name"] == "Bea"


# R5: answers


async def test_create(client: Client) -> None:
    answer = await client.post(USERS, json={"name": "Ana", "email": "ana@example.org"})
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    user = answer.json
    assert answer.headers["X-Created-Id"] == user["id"]
    assert answer.headers["Location"] == f"{USERS}/{user['id']}"
    assert user == {
        "id": user["id"],
        "name": "Ana",
        "age": 18,
        "email": "ana@example.org",
        "address": None,
        "tags": [],
        "friends": [],
    }
    assert (await client.get(answer.headers["Location"])).json == user
    stored = OtherUser.objects.get()
    assert (str(stored.id), stored.name, stored.age) == (user["id"], "Ana", 18)


async def test_update_changes_what_it_is_given(client: Client) -> None:
    user = await create(client, age=3, tags=["a"])
    answer = await client.put(f"{USERS}/{user['id']}", json={"age": 4})
    assert answer.status == 200
    assert answer.json == {**user, "age": 4}
    assert (await client.put(f"{USERS}/{user['id']}", json={})).json == {**user, "age": 4}
    assert (await client.put(f"{USERS}/{user['id']}", json={**user, "age": 5})).json == {**user, "age": 5}


async def test_update_to_null_unsets(client: Client) -> None:
    user = await create(client, email="a@example.org")
    assert (await client.put(f"{USERS}/{user['id']}", json={"email": None})).json["email"] is None
    assert "email" not in OtherUser._get_collection().find_one()
    refused = await client.put(f"{USERS}/{user['id']}", json={"name": None})
    assert refused.problem(400)["errors"][0]["pointer"] == "/name"


async def test_the_key_cannot_be_changed(client: Client) -> None:
    user = await create(client)
    refused = await client.put(f"{USERS}/{user['id']}", json={"id": str(ObjectId())})
    assert refused.problem(400)["errors"][0]["pointer"] == "/id"
    await client.post("/api/product", json={"code": "a"})
    assert (await client.put("/api/product/a", json={"code": "b"})).problem(400)
    assert (await client.put("/api/product/a", json={"code": "a", "title": "t"})).json["title"] == "t"


async def test_put_replace(database: str) -> None:
    routes = MongoEngineRestHandler.routes_for(OtherUser, put="replace")
    async with serving(routes) as client:
        user = (await client.post("/other_user", json={"name": "Ana", "age": 3, "tags": ["a"]})).json
        answer = await client.put(f"/other_user/{user['id']}", json={"name": "Bea"})
        assert answer.json == {**user, "name": "Bea", "age": 18, "tags": []}
        missing = await client.put(f"/other_user/{user['id']}", json={"age": 4})
        assert missing.problem(400)["errors"] == [{"pointer": "/name", "detail": "this field is required"}]


async def test_delete(client: Client) -> None:
    user = await create(client)
    answer = await client.delete(f"{USERS}/{user['id']}")
    assert (answer.status, answer.body) == (204, b"")
    assert OtherUser.objects.count() == 0
    (await client.delete(f"{USERS}/{user['id']}")).problem(404)


@pytest.mark.parametrize(
    "key", ["000000000000000000000000", "x", "%00", "%FF", "%E9", "1" * 500, "{}", "$ne", "null"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_missing_and_malformed_keys(client: Client, method: str, key: str) -> None:
    body = {"name": "x"} if method == "PUT" else None
    (await client.request(method, f"{USERS}/{key}", json=body)).problem(404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/000000000000000000000000", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("PATCH", "", "GET, HEAD, POST, OPTIONS"),
        ("BREW", "", "GET, HEAD, POST, OPTIONS"),
    ],
)
async def test_a_method_on_the_wrong_kind_of_url(client: Client, method: str, path: str, allow: str) -> None:
    answer = await client.request(method, USERS + path)
    answer.problem(405)
    assert answer.headers["Allow"] == allow


async def test_head_and_options(client: Client) -> None:
    user = await create(client)
    head = await client.request("HEAD", f"{USERS}/{user['id']}")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) == len((await client.get(f"{USERS}/{user['id']}")).body)
    options = await client.request("OPTIONS", USERS)
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")


async def test_validation_names_every_place(client: Client) -> None:
    answer = await client.post(
        USERS,
        json={"age": -1, "email": "nobody", "address": {"zip_code": "1"}, "tags": ["a", 7], "friends": ["x"]},
    )
    body = answer.problem(400)
    assert body["type"] == "urn:bzz:problem:validation"
    pointers = {each["pointer"] for each in body["errors"]}
    # What cannot be read is told first, what the model refuses once everything could be read.
    assert pointers == {"/tags/1", "/friends/0"}
    answer = await client.post(USERS, json={"age": -1, "email": "nobody", "address": {"zip_code": "1"}})
    pointers = {each["pointer"] for each in answer.problem(400)["errors"]}
    assert pointers == {"/name", "/age", "/email", "/address/city"}
    assert OtherUser.objects.count() == 0


async def test_uniqueness_is_a_conflict(client: Client) -> None:
    await create(client, email="a@example.org")
    second = await create(client, email="b@example.org")
    answer = await client.post(USERS, json={"name": "x", "email": "a@example.org"})
    assert answer.problem(409)["fields"] == ["email"]
    answer = await client.put(f"{USERS}/{second['id']}", json={"email": "a@example.org"})
    assert answer.problem(409)["fields"] == ["email"]
    await client.post("/api/product", json={"code": "a", "title": "first"})
    answer = await client.post("/api/product", json={"code": "a", "title": "second"})
    assert answer.problem(409)["fields"] == ["code"]
    assert (await client.get("/api/product/a")).json["title"] == "first"


async def test_unknown_fields(client: Client) -> None:
    answer = await client.post(USERS, json={"name": "x", "nmae": "y"})
    assert answer.problem(400)["errors"][0]["pointer"] == "/nmae"


# R4: to_dict and get_id_field_name


async def test_get_id_field_name_is_the_key_of_the_url(client: Client) -> None:
    created = await client.post("/api/article", json={"slug": "a-b", "title": "t"})
    assert created.headers["Location"] == "/api/article/a-b"
    assert (await client.get("/api/article/a-b")).json["title"] == "t"
    assert (await client.put("/api/article/a-b", json={"title": "u"})).json["title"] == "u"
    assert (await client.put("/api/article/a-b", json={"slug": "c"})).json["slug"] == "c"
    (await client.get("/api/article/a-b")).problem(404)
    assert (await client.delete("/api/article/c")).status == 204


async def test_to_dict_decides_what_goes_out(client: Client) -> None:
    created = await client.post("/api/team", json={"name": "red"})
    key = created.headers["X-Created-Id"]
    made = ObjectId(key).generation_time.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert created.json == {"name": "RED", "size": 0, "key": key, "made": made}
    assert (await client.get("/api/team")).json == [created.json]


# R7: lists


async def test_pages(client: Client) -> None:
    OtherUser.objects.insert(
        [OtherUser(name=f"u{n:03}", age=n, email=f"{n}@example.org") for n in range(120)]
    )

    async def names(query: str) -> list[str]:
        answer = await client.get(USERS + query)
        assert answer.status == 200, answer
        return [each["name"] for each in answer.json]

    every = [f"u{n:03}" for n in range(120)]
    assert await names("") == every[:20]
    assert await names("?page=2") == every[20:40]
    assert await names("?page=2&per_page=50") == every[50:100]
    assert await names("?per_page=1000") == every[:100]
    assert await names("?page=0") == every[:20]
    assert await names("?page=-1&per_page=0") == every[:1]
    assert await names(f"?page={10**30}") == []
    assert await names("?name=u007") == ["u007"]
    assert await names("?age=7&name=u008") == []
    assert await names("?age__lt=3") == every[:3]
    assert await names("?age__in=1,2") == every[1:3]
    assert await names("?name__startswith=u00&per_page=3") == every[:3]


async def test_filters_by_embedded_fields_and_references(client: Client) -> None:
    rio = await create(client, address={"city": "Rio", "zip_code": "1"})
    await create(client, address={"city": "Oslo"}, friends=[rio["id"]], email="x@example.org")
    assert len((await client.get(USERS + "?address.city=Rio")).json) == 1
    assert len((await client.get(USERS + "?address.zip_code=1")).json) == 1
    assert (await client.get(f"{USERS}?friends={rio['id']}")).json[0]["address"]["city"] == "Oslo"


async def test_a_ceiling_of_ones_own(database: str) -> None:
    Product.objects.insert([Product(code=str(n)) for n in range(10)])
    async with serving(MongoEngineRestHandler.routes_for(Product, per_page=2, max_per_page=5)) as client:
        assert len((await client.get("/product")).json) == 2
        assert len((await client.get("/product?per_page=9")).json) == 5


# Options the Tornado way, and the Api


async def test_attributes_of_a_subclass_are_options(database: str) -> None:
    class Short(MongoEngineRestHandler):
        per_page = 1

    Product.objects.insert([Product(code=str(n)) for n in range(3)])
    async with serving(Short.routes_for(Product)) as client:
        assert len((await client.get("/product")).json) == 1


async def test_an_api_serves_its_resources(database: str) -> None:
    api = bzz.Api(prefix="/shop", title="Shop")
    routes = api.add(Product, per_page=1)
    assert isinstance(routes, Routes)
    with pytest.raises(ValueError, match="product"):
        api.add(Product)
    async with serving(api) as client:
        assert (await client.post("/shop/product", json={"code": "a"})).status == 201
        assert (await client.get("/shop/health")).status == 200
        assert (await client.get("/shop/ready")).status == 200
        (await client.get("/nothing")).problem(404)
