"""FastAPI with Beanie, on uvicorn with uvloop and httptools."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import uvicorn
from beanie import Document, PydanticObjectId, UpdateResponse, init_beanie
from fastapi import FastAPI, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from pymongo import AsyncMongoClient

Name = Annotated[str, Field(max_length=50)]
Age = Annotated[int, Field(ge=0, le=150)]

heard = [0]


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")

    city: Annotated[str, Field(max_length=80)]
    zip: str | None = None


class Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    age: Age | None = None
    email: EmailStr | None = None
    tags: list[str] | None = None
    address: Address | None = None
    active: bool | None = None
    score: float | None = None
    since: datetime | None = None


class NewUser(Changes):
    name: Name


class User(Document):
    name: Name
    age: Age | None = None
    email: EmailStr | None = None
    tags: list[str] | None = None
    address: Address | None = None
    active: bool | None = None
    score: float | None = None
    since: datetime | None = None

    class Settings:
        name = "user"


async def changed(user: User, updated_fields: dict[str, Any]) -> None:
    """Listen to changes: count what differs."""
    heard[0] += len(updated_fields)


async def created(user: User) -> None:
    """Listen to new documents."""
    heard[0] += 1


def difference(before: User, after: User, names: set[str]) -> dict[str, dict[str, Any]]:
    """What an update has changed, an address by its parts."""
    found = {}
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, Address) and isinstance(new, Address):
            for key in Address.model_fields:
                if getattr(old, key) != getattr(new, key):
                    found[f"{name}.{key}"] = {"from": getattr(old, key), "to": getattr(new, key)}
        else:
            found[name] = {"from": old, "to": new}
    return found


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    _, url, database = sys.argv[1:]
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    await init_beanie(database=client[database], document_models=[User])
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)


@app.get("/user", response_model_by_alias=False)
async def users(
    page: Annotated[int, Query(ge=1)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 20,
    age: Age | None = None,
) -> list[User]:
    found = User.find_all() if age is None else User.find(User.age == age)
    return await found.sort("_id").skip((page - 1) * per_page).limit(per_page).to_list()


@app.get("/user/{key}", response_model_by_alias=False)
async def one(key: PydanticObjectId) -> User:
    if (user := await User.get(key)) is None:
        raise HTTPException(404)
    return user


@app.post("/user", status_code=201, response_model_by_alias=False)
async def create(body: NewUser, response: Response) -> User:
    user = await User(**dict(body)).insert()
    await created(user)
    response.headers["Location"] = f"/user/{user.id}"
    return user


@app.put("/user/{key}", response_model_by_alias=False)
async def update(key: PydanticObjectId, body: Changes) -> User:
    before = await User.find_one(User.id == key).update(
        {"$set": body.model_dump(exclude_unset=True)}, response_type=UpdateResponse.OLD_DOCUMENT
    )
    if before is None:
        raise HTTPException(404)
    after = before.model_copy(update={name: getattr(body, name) for name in body.model_fields_set})
    await changed(after, difference(before, after, body.model_fields_set))
    return after


@app.delete("/user/{key}", status_code=204)
async def delete(key: PydanticObjectId) -> None:
    result = await User.find_one(User.id == key).delete()
    if result is None or not result.deleted_count:
        raise HTTPException(404)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
