"""The ten signals of a resource, S1 to S6 and S8, over real HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
import tornado.web

import bzz
from bzz import signals
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.testing import capture
from tests.serving import Client, serving


class Place(me.EmbeddedDocument):
    city = me.StringField()
    zip_code = me.StringField(db_field="z")


class Customer(me.Document):
    name = me.StringField(required=True)
    balance = me.Decimal128Field()
    since = me.DateTimeField()
    place = me.EmbeddedDocumentField(Place)
    tags = me.ListField(me.StringField())
    extra = me.DictField()


class Order(me.Document):
    name = me.StringField()


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    routes = [*MongoEngineRestHandler.routes_for(Customer), *MongoEngineRestHandler.routes_for(Order)]
    async with serving(routes) as client:
        yield client


async def test_each_operation_sends_its_pair(client: Client) -> None:
    with capture(*signals.ALL) as captured:
        key = (await client.post("/customer", json={"name": "Ana"})).json["id"]
        await client.get(f"/customer/{key}")
        await client.get("/customer?name=Ana")
        await client.put(f"/customer/{key}", json={"name": "Bea"})
        await client.delete(f"/customer/{key}")
    assert [event.signal.name for event in captured.events] == [
        f"{when}_{what}"
        for what in ("create_instance", "get_instance", "get_list", "update_instance", "delete_instance")
        for when in ("pre", "post")
    ]
    assert {event.sender for event in captured.events} == {Customer}
    keys = {event.signal.name: set(event.payload) for event in captured.events}
    assert keys == {
        "pre_create_instance": {"arguments", "handler", "data"},
        "post_create_instance": {"instance", "handler"},
        "pre_get_instance": {"arguments", "handler", "key"},
        "post_get_instance": {"instance", "handler"},
        "pre_get_list": {"arguments", "handler"},
        "post_get_list": {"items", "handler"},
        "pre_update_instance": {"arguments", "handler", "data", "instance"},
        "post_update_instance": {"instance", "handler", "updated_fields"},
        "pre_delete_instance": {"arguments", "handler", "instance"},
        "post_delete_instance": {"instance", "handler"},
    }
    by_name = {event.signal.name: event.payload for event in captured.events}
    assert isinstance(by_name["post_create_instance"]["handler"], MongoEngineRestHandler)
    assert by_name["pre_update_instance"]["instance"].name == "Ana"
    assert by_name["post_update_instance"]["instance"].name == "Bea"
    assert by_name["post_delete_instance"]["instance"].name == "Bea"
    assert str(by_name["post_delete_instance"]["instance"].id) == key
    assert [each.name for each in by_name["post_get_list"]["items"]] == ["Ana"]
    assert by_name["pre_get_list"]["arguments"] == {"name": ["Ana"]}


async def test_the_diff_is_typed_minimal_and_dotted(client: Client) -> None:
    created = await client.post(
        "/customer",
        json={
            "name": "Ana",
            "balance": "1.50",
            "since": "2020-01-01T00:00:00Z",
            "place": {"city": "Rio", "zip_code": "1"},
            "tags": ["a"],
            "extra": {"k": [1]},
        },
    )
    with capture(signals.post_update_instance) as captured:
        changed = await client.put(
            created.headers["Location"],
            json={
                "name": "Ana",
                "balance": "2.50",
                "since": "2021-06-01T02:00:00.123456+02:00",
                "place": {"city": "Rio", "zip_code": "2"},
                "tags": ["a", "b"],
                "extra": {"k": [1]},
            },
        )
    assert changed.status == 200, changed
    [event] = captured.events
    assert event.payload["updated_fields"] == {
        "balance": {"from": Decimal("1.50"), "to": Decimal("2.50")},
        "since": {"from": datetime(2020, 1, 1), "to": datetime(2021, 6, 1, 0, 0, 0, 123000)},
        "place.zip_code": {"from": "1", "to": "2"},
        "tags": {"from": ["a"], "to": ["a", "b"]},
    }


async def test_a_missing_document_sends_no_post_signal(client: Client) -> None:
    with capture(*signals.ALL) as captured:
        for method in ("GET", "PUT", "DELETE"):
            body = {"name": "x"} if method == "PUT" else None
            (await client.request(method, "/customer/000000000000000000000000", json=body)).problem(404)
    assert not [event for event in captured.events if event.signal.name.startswith("post_")]


class Refusal:
    """Ways to say no, and what the client reads."""

    CASES: dict[str, tuple[BaseException, int, str | None]] = {
        "veto": (bzz.Veto(402, "Pay first."), 402, "Pay first."),
        "veto by default": (bzz.Veto(), 403, "The operation was refused."),
        "HTTPError": (tornado.web.HTTPError(423, "It is locked."), 423, "It is locked."),
        "HTTPError with arguments": (tornado.web.HTTPError(423, "Locked by %s", "Ana"), 423, "Locked by Ana"),
    }


@pytest.mark.parametrize("awaited", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("case", Refusal.CASES)
async def test_vetoes(client: Client, case: str, awaited: bool) -> None:
    error, status, detail = Refusal.CASES[case]
    key = str(Customer(name="Ana").save().id)

    def refuse() -> None:
        raise error

    async def refuse_later() -> None:
        await asyncio.sleep(0)
        raise error

    receiver = refuse_later if awaited else refuse
    requests = {
        "get_list": ("GET", "/customer", None),
        "get_instance": ("GET", f"/customer/{key}", None),
        "create_instance": ("POST", "/customer", {"name": "New"}),
        "update_instance": ("PUT", f"/customer/{key}", {"name": "Changed"}),
        "delete_instance": ("DELETE", f"/customer/{key}", None),
    }
    for action, (method, path, body) in requests.items():
        with (
            capture(*signals.ALL) as captured,
            getattr(signals, f"pre_{action}").connected_to(receiver, sender=Customer),
        ):
            answer = await client.request(method, path, json=body)
        assert answer.problem(status).get("detail") == detail
        assert not [event for event in captured.events if event.signal.name.startswith("post_")]
    assert [each.name for each in Customer.objects] == ["Ana"]


async def test_a_receiver_may_answer_itself(client: Client) -> None:
    def answer(handler: Any) -> None:
        handler.set_status(202)
        handler.finish(b"later")
        raise tornado.web.Finish

    with signals.pre_create_instance.connected_to(answer, sender=Customer):
        found = await client.post("/customer", json={"name": "Ana"})
    assert (found.status, found.body) == (202, b"later")
    assert Customer.objects.count() == 0


async def test_a_pre_receiver_may_change_the_data(client: Client) -> None:
    def stamp(data: Any) -> None:
        data["tags"] = ["stamped"]

    with signals.pre_create_instance.connected_to(stamp, sender=Customer):
        assert (await client.post("/customer", json={"name": "Ana"})).json["tags"] == ["stamped"]


async def test_a_post_receiver_cannot_undo_what_is_stored(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def breaks() -> None:
        raise RuntimeError("the receiver is broken")

    def vetoes() -> None:
        raise bzz.Veto(403, "too late")

    def hears() -> None:
        heard.append("heard")

    failures = signals.post_create_instance.failures
    signal = signals.post_create_instance
    with (
        signal.connected_to(breaks),
        signal.connected_to(vetoes),
        signal.connected_to(hears),
        caplog.at_level(logging.ERROR),
    ):
        answer = await client.post("/customer", json={"name": "Ana"})
    assert answer.status == 201
    assert heard == ["heard"]
    assert signals.post_create_instance.failures == failures + 2
    assert "the receiver is broken" in caplog.text
    assert "Traceback" in caplog.text
    assert Customer.objects.count() == 1


async def test_an_error_may_be_asked_for(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def breaks() -> None:
        raise RuntimeError("the receiver is broken")

    signals.post_create_instance.connect(breaks, sender=Customer, errors="raise")
    try:
        with signals.post_create_instance.connected_to(lambda: heard.append("heard")):
            (await client.post("/customer", json={"name": "Ana"})).problem(500)
    finally:
        signals.post_create_instance.disconnect(breaks, sender=Customer)
    assert heard == ["heard"]
    assert Customer.objects.count() == 1


async def test_receivers_are_awaited_in_order_before_the_answer(client: Client) -> None:
    order: list[int] = []

    def receiver(number: int, delay: float) -> Any:
        async def receive() -> None:
            await asyncio.sleep(delay)
            order.append(number)

        return receive

    receivers = [receiver(number, delay) for number, delay in enumerate((0.03, 0, 0.02, 0.01))]
    for each in receivers:
        signals.post_create_instance.connect(each, sender=Customer)
    try:
        await client.post("/customer", json={"name": "Ana"})
    finally:
        for each in receivers:
            signals.post_create_instance.disconnect(each, sender=Customer)
    assert order == [0, 1, 2, 3]


async def test_five_receivers_of_500_concurrent_requests(client: Client) -> None:
    heard: dict[str, list[int]] = {}

    def receiver(number: int) -> Any:
        async def receive(instance: Any) -> None:
            await asyncio.sleep(0)
            heard.setdefault(instance.name, []).append(number)

        return receive

    receivers = [receiver(number) for number in range(5)]
    for each in receivers:
        signals.post_create_instance.connect(each, sender="Customer")
    try:
        answers = await asyncio.gather(
            *(client.post("/customer", json={"name": f"c{n}"}) for n in range(500))
        )
    finally:
        for each in receivers:
            signals.post_create_instance.disconnect(each, sender="Customer")
    assert {each.status for each in answers} == {201}
    assert heard == {f"c{n}": [0, 1, 2, 3, 4] for n in range(500)}


async def test_only_the_sender_asked_for(client: Client) -> None:
    heard: list[str] = []

    def hears(sender: Any) -> None:
        heard.append(sender.__name__)

    with signals.post_create_instance.connected_to(hears, sender="Order"):
        await client.post("/customer", json={"name": "Ana"})
        await client.post("/order", json={"name": "1"})
    assert heard == ["Order"]


async def test_transitions(client: Client) -> None:
    heard: list[Any] = []
    signals.post_update_instance.connect(
        lambda updated_fields: heard.append(updated_fields["name"]),
        sender=Customer,
        when={"name": ("a", "b")},
    )
    try:
        path = (await client.post("/customer", json={"name": "x"})).headers["Location"]
        for name in ("a", "b", "a", "c", "b"):
            await client.put(path, json={"name": name})
    finally:
        signals.post_update_instance.reset()
    assert heard == [{"from": "a", "to": "b"}]


# Section 2: the events of the API and of one resource


async def test_the_onion(database: str) -> None:
    order: list[str] = []
    api = bzz.Api()
    users = api.add(Customer)
    api.add(Order)

    def connect(owner: Any, name: str) -> None:
        for event in ("prerun", "postrun", "success", "failure"):

            def receive(operation: Any, args: Any, kwargs: Any, event: str = event) -> None:
                order.append(f"{name} {event} {operation.action}")

            getattr(owner, f"on_{event}")(receive)

    connect(users, "resource")
    connect(api, "api")
    async with serving(api) as client:
        await client.get("/customer")
        assert order == [
            "api prerun get_list",
            "resource prerun get_list",
            "resource success get_list",
            "api success get_list",
            "resource postrun get_list",
            "api postrun get_list",
        ]
        order.clear()
        await client.get("/customer/x")
        assert [each.rpartition(" ")[0] for each in order] == [
            "api prerun",
            "resource prerun",
            "resource failure",
            "api failure",
            "resource postrun",
            "api postrun",
        ]
        order.clear()
        await client.get("/order")
        assert [each.split()[0] for each in order] == ["api"] * 3


async def test_a_prerun_that_raises_is_a_failure(database: str) -> None:
    api = bzz.Api()
    api.add(Customer)
    seen: list[Any] = []

    @api.on_prerun
    def refuse(task: Any, args: Any, kwargs: Any) -> None:
        raise bzz.Veto(429, "Not now.")

    @api.on_failure
    def failed(exc_info: Any) -> None:
        seen.append(exc_info[1].detail)

    @api.on_postrun
    def ended() -> None:
        seen.append("ended")

    @api.on_success
    def succeeded() -> None:
        seen.append("never")

    async with serving(api) as client:
        assert (await client.post("/customer", json={"name": "Ana"})).problem(429)["detail"] == "Not now."
    assert seen == ["Not now.", "ended"]
    assert Customer.objects.count() == 0


async def test_a_failing_postrun_does_not_change_the_answer(database: str) -> None:
    api = bzz.Api()
    api.add(Customer)

    @api.on_postrun
    def breaks() -> None:
        raise RuntimeError("broken")

    async with serving(api) as client:
        assert (await client.post("/customer", json={"name": "Ana"})).status == 201


async def test_two_apis_do_not_hear_each_other(database: str) -> None:
    one, other = bzz.Api(prefix="one"), bzz.Api(prefix="other")
    heard: list[str] = []
    one.add(Customer)
    others = other.add(Customer)

    @one.on_post_create_instance
    def hear_one(sender: Any, instance: Any) -> None:
        heard.append("one")

    @others.on_post_create_instance
    def hear_other(instance: Any) -> None:
        heard.append("other")

    async with serving([*one.routes, *other.routes]) as client:
        await client.post("/one/customer", json={"name": "Ana"})
        await client.post("/other/customer", json={"name": "Bea"})
    assert heard == ["one", "other"]


async def test_the_sender_of_an_event_is_what_the_decorator_belongs_to(database: str) -> None:
    api = bzz.Api()
    alone, member = MongoEngineRestHandler.routes_for(Customer), api.add(Order)
    senders: list[Any] = []
    for owner in (alone, member, api):
        owner.on_prerun(lambda sender: senders.append(sender))
    async with serving([*alone, *api.routes]) as client:
        await client.get("/customer")
        await client.get("/order")
    assert [id(each) for each in senders] == [id(alone), id(api), id(member)]


def test_the_events_of_a_resource_vote_and_warn_as_the_named_ones_do(database: str) -> None:
    api = bzz.Api()
    users = api.add(Customer)
    for event in ("prerun", "postrun", "success", "failure", "presend", "postsend", "pre_update_instance"):
        with pytest.raises(ValueError, match="queue"):
            getattr(users, f"on_{event}")(lambda: None, queue="mail")
    with pytest.warns(bzz.UnknownSenderWarning):
        api.on_post_create_instance(lambda: None, sender="Nobody")
    for never_sent_here in ("on_server_init", "on_batch_started", "on_nothing"):
        with pytest.raises(AttributeError):
            getattr(users, never_sent_here)
