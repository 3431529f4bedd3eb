"""What a good developer writes by hand for this model: Tornado and PyMongo Async, and no framework between.

One command to MongoDB for each request, orjson, validation in plain functions, and the difference of an
update taken from the document that the write replaced. All other peers are compared with this one.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import tornado.web
from bson import ObjectId
from bson.errors import InvalidId
from pymongo import AsyncMongoClient, ReturnDocument

MAX_PER_PAGE = 100
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

heard = [0]


class InvalidError(ValueError):
    """A body that is not a user: what is wrong with it, by field."""


async def changed(user: dict[str, Any], updated_fields: dict[str, Any]) -> None:
    """Listen to changes: count what differs."""
    heard[0] += len(updated_fields)


async def created(user: dict[str, Any]) -> None:
    """Listen to new documents."""
    heard[0] += 1


def text(value: Any, limit: int = 1000) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"a text of at most {limit} characters is wanted")
    return value


def age(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 150:
        raise ValueError("a whole number from 0 to 150 is wanted")
    return value


def email(value: Any) -> str:
    if not EMAIL.fullmatch(text(value)):
        raise ValueError("an address is wanted")
    return str(value)


def tags(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a list is wanted")  # noqa: TRY004
    return [text(each) for each in value]


def address(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value.keys() <= {"city", "zip"} or "city" not in value:
        raise ValueError("an address has a city and perhaps a zip")
    text(value["city"], 80)
    if "zip" in value:
        text(value["zip"])
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")  # noqa: TRY004
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is wanted")  # noqa: TRY004
    return float(value)


def moment(value: Any) -> datetime:
    at = datetime.fromisoformat(text(value))
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": lambda value: text(value, 50),
    "age": age,
    "email": email,
    "tags": tags,
    "address": address,
    "active": boolean,
    "score": number,
    "since": moment,
}


def read(body: bytes) -> dict[str, Any]:
    """Read the fields of a user, each checked; raises :class:`InvalidError`."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidError({"body": str(error)}) from None
    if not isinstance(given, dict):
        raise InvalidError({"body": "an object is wanted"})
    fields, wrong = {}, {}
    for name, value in given.items():
        check = CHECKS.get(name)
        if check is None:
            wrong[name] = "unknown"
            continue
        try:
            fields[name] = check(value)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise InvalidError(wrong)
    return fields


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """A stored document as it goes out."""
    return {"id": str(document.pop("_id")), **document}


def difference(before: dict[str, Any], fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an update has changed, an address by its parts."""
    found = {}
    for name, value in fields.items():
        old = before.get(name)
        if old == value:
            continue
        if isinstance(value, dict) and isinstance(old, dict):
            for key in old.keys() | value.keys():
                if old.get(key) != value.get(key):
                    found[f"{name}.{key}"] = {"from": old.get(key), "to": value.get(key)}
        else:
            found[name] = {"from": old, "to": value}
    return found


class Handler(tornado.web.RequestHandler):
    """JSON out, problems as JSON too."""

    def initialize(self, users: Any) -> None:
        self.users = users

    def answer(self, value: Any, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z))

    def fields(self) -> dict[str, Any] | None:
        """The body, or None when it has been refused already."""
        try:
            return read(self.request.body)
        except InvalidError as error:
            self.answer({"errors": error.args[0]}, 400)
            return None

    def key(self, text: str) -> ObjectId:
        try:
            return ObjectId(text)
        except InvalidId:
            raise tornado.web.HTTPError(404) from None


class One(Handler):
    """One user."""

    async def get(self, key: str) -> None:
        document = await self.users.find_one({"_id": self.key(key)})
        if document is None:
            raise tornado.web.HTTPError(404)
        self.answer(shown(document))

    async def put(self, key: str) -> None:
        if (fields := self.fields()) is None:
            return
        before = await self.users.find_one_and_update(
            {"_id": self.key(key)}, {"$set": fields}, return_document=ReturnDocument.BEFORE
        )
        if before is None:
            raise tornado.web.HTTPError(404)
        user = shown({**before, **fields})
        await changed(user, difference(before, fields))
        self.answer(user)

    async def delete(self, key: str) -> None:
        result = await self.users.delete_one({"_id": self.key(key)})
        if not result.deleted_count:
            raise tornado.web.HTTPError(404)
        self.set_status(204)
        self.finish()


class Users(Handler):
    """All users, by pages."""

    async def get(self) -> None:
        try:
            page = max(1, int(self.get_query_argument("page", "1")))
            per_page = min(MAX_PER_PAGE, max(1, int(self.get_query_argument("per_page", "20"))))
            text = self.get_query_argument("age", "")
            condition = {"age": age(int(text))} if text else {}
        except ValueError:
            raise tornado.web.HTTPError(400) from None
        found = self.users.find(condition).sort("_id", 1).skip((page - 1) * per_page).limit(per_page)
        self.answer([shown(document) for document in await found.to_list(per_page)])

    async def post(self) -> None:
        if (fields := self.fields()) is None:
            return
        if "name" not in fields:
            self.answer({"errors": {"name": "required"}}, 400)
            return
        await self.users.insert_one(fields)
        user = shown(fields)
        await created(user)
        self.set_header("Location", f"/user/{user['id']}")
        self.answer(user, 201)


async def serve(client: Callable[[str], Any]) -> None:
    """Serve ``/user`` with the client that ``client(url)`` makes."""
    port, url, database = sys.argv[1:]
    users = {"users": client(url)[database]["user"]}
    rules = [(r"/user", Users, users), (r"/user/([^/]+)", One, users)]
    application = tornado.web.Application(rules, log_function=lambda handler: None)
    application.listen(int(port), address="127.0.0.1", backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(AsyncMongoClient))
