"""What travels keeps its type, what looks like a tag stays what it is, and what cannot travel is named."""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
import tornado.web
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from bzz import model as typed
from bzz.delivery import wire
from bzz.delivery.summaries import ExceptionSummary, Gone, RequestSummary
from bzz.delivery.wire import Message
from bzz.errors import PayloadError, UnsendableError
from bzz.model import Schema
from tests.model_documents import (
    Colour,
    Dog,
    Everything,
    Level,
    Person,
    Puppy,
    Target,
    UniversalTarget,
    bodies,
)


class Suit(enum.Flag):
    HEARTS = enum.auto()
    SPADES = enum.auto()


class Compound(me.EmbeddedDocument):
    day = me.DateTimeField()
    number = me.IntField()


class Keyed(me.Document):
    id = me.EmbeddedDocumentField(Compound, primary_key=True)
    owner = me.ReferenceField(Target)
    meta = {"collection": "wire_keyed"}


class Database:
    """Stored documents by model and key, and what was asked for."""

    def __init__(self, *documents: Any) -> None:
        self.stored = [(type(each), typed.to_stored(each)) for each in documents]
        self.asked: list[tuple[Any, list[Any]]] = []

    def read(self, model: Any, keys: list[Any]) -> list[dict[str, Any] | None]:
        self.asked.append((model, keys))
        return [
            next((stored for cls, stored in self.stored if cls is model and stored["_id"] == key), None)
            for key in keys
        ]


def there_and_back(value: Any, *, database: Database | None = None, whole: bool = False) -> Any:
    """Send a value as Celery would: our text within kombu's JSON."""
    text = wire.dumps(Message(None, {"value": value}), whole=whole)
    (carried,) = kombu_json.loads(kombu_json.dumps([text]))
    return wire.loads(carried, (database or Database()).read).payload["value"]


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types at every depth; NaN is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, Decimal | float):
        return repr(one) == repr(other)
    return bool(one == other)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.UTC) | st.just(dt.timezone(dt.timedelta(hours=-3, minutes=-30))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.decimals(places=3, min_value=-1000, max_value=1000).map(Decimal128)
    | st.sampled_from([*Colour, *Level, Suit.HEARTS, Suit.HEARTS | Suit.SPADES])
)
hashables = st.integers() | st.text() | st.dates() | st.uuids() | st.sampled_from([*Colour])
tag_names = st.sampled_from(["~", "__type__", "__value__", "$oid", "document", "_cls", "py/object", ""])
tag_values = st.sampled_from(
    [["oid", "0" * 24], ["dict", []], ["document", "Target", 1], "datetime", {"~": ["uuid", "x"]}, []]
)
values = st.recursive(
    scalars | tag_values,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(hashables, max_size=3)
        | st.frozensets(hashables, max_size=3)
        | st.dictionaries(tag_names | st.text(max_size=5), inner | tag_values, max_size=4)
    ),
    max_leaves=25,
)


@given(values)
@settings(max_examples=400, deadline=None)
def test_every_nested_value_comes_back_with_its_types(value: Any) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        {"~": ["oid", "5f43a1d2c3b4a59687766554"]},
        {"~": ["document", "Target", {"~": ["oid", "5f43a1d2c3b4a59687766554"]}]},
        {"~": ["dict", [["~", 1]]]},
        {"~": None, "more": 1},
        {"~": 1},
        {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
        {"__type__": "nonsense", "__value__": {"__type__": "uuid", "__value__": {"hex": "x", "version": 4}}},
        [{"a": {"~": {"~": {"~": []}}}}],
        {"$date": 1},
        {"\ud800": "\udfff\0"},
        2**63,
        -(10**400),
        -0.0,
    ],
)
def test_what_looks_like_a_tag_stays_what_it_is(value: Any) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        Binary(b"\0\1", 0),
        Binary(b"x" * 16, 4),
        Binary(b"x", 128),
        Int64(5),
        Code("f()", {"a": ObjectId(b"0" * 12)}),
        DBRef("target", ObjectId(b"0" * 12), "other", extra=1),
        MinKey(),
        MaxKey(),
        Regex("a.b", "i"),
        Timestamp(5, 6),
    ],
    ids=repr,
)
def test_types_of_bson_come_back(value: Any) -> None:
    back = there_and_back({"list": [value]})["list"][0]
    assert type(back) is type(value)
    assert back == value


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Moment(dt.datetime):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Text("a"), "a"),
        (Number(3), 3),
        (OrderedDict(a=1), {"a": 1}),
        (namedtuple("Pair", "a b")(1, 2), (1, 2)),
        (Moment(2026, 1, 2), dt.datetime(2026, 1, 2)),
        ({Text("key"): 1}, {"key": 1}),
        (me.base.BaseList([1, 2], None, "x"), [1, 2]),
        (me.base.BaseDict({"a": 1}, None, "x"), {"a": 1}),
    ],
)
def test_special_kinds_travel_as_the_plain_value(value: Any, plain: Any) -> None:
    assert same(there_and_back(value), plain)


circle: list[Any] = []
circle.append(circle)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Local:
    def enumeration(self) -> Any:
        class Hidden(enum.Enum):
            ONE = 1

        return Hidden.ONE


@pytest.mark.parametrize(
    ("payload", "place", "words"),
    [
        ({"order": {"items": [1, 2, object()]}}, "order.items[2]", "builtins.object cannot be sent"),
        ({"order": {"two words": {open}}}, "order['two words'][0]", "function_or_method cannot be sent"),
        ({"order": {1: 2}}, "order", "a key of a dict must be a text, not 1"),
        ({"order": (0, [open])}, "order[1][0]", "builtin_function_or_method cannot be sent"),
        ({"order": bytearray(b"x")}, "order", "builtins.bytearray cannot be sent"),
        ({"order": [int]}, "order[0]", "builtins.type cannot be sent"),
        ({"order": Local().enumeration()}, "order", "the class Local.enumeration.<locals>.Hidden is not"),
        ({"order": Target(name="x")}, "order", "this Target is not stored"),
        ({"order": Target(id=ObjectId())}, "order", "this Target is not stored"),
        (
            {"order": [me.fields.LazyReference(Target, ObjectId())]},
            "order[0]",
            "LazyReference cannot be sent",
        ),
        ({"order": deep(65)}, "order" + "[0]" * 64, "more than 64 levels"),
        ({"order": circle}, "order", "more than 64 levels, or a circle"),
        ({"order": 10**5000}, "", "Exceeds the limit"),
        ({"order": "x" * (8 * 1024 * 1024)}, "", "at most 8388608 can be sent"),
    ],
)
def test_what_cannot_travel_is_an_error_that_names_it(payload: Any, place: str, words: str) -> None:
    with pytest.raises(UnsendableError) as caught:
        wire.dumps(Message(None, payload))
    assert isinstance(caught.value, TypeError)
    assert words in str(caught.value)
    assert caught.value.place[:200] == place[:200] or caught.value.place.startswith(place + "[0]")
    assert len(str(caught.value)) < 400


def test_64_levels_are_fine() -> None:
    assert there_and_back(deep(64)) == deep(64)


# Senders ----------------------------------------------------------------------------------------------------


class Named:
    name = "nightly"


@pytest.mark.parametrize(
    ("sender", "arrives"),
    [
        (None, None),
        ("tasks.add", "tasks.add"),
        (7, 7),
        (Person, Person),
        (Puppy, Puppy),
        (Database, Database),
        (Colour, Colour),
        (Named(), "nightly"),
        (Colour.RED, Colour.RED),
    ],
)
def test_a_sender_arrives(sender: Any, arrives: Any) -> None:
    text = wire.dumps(Message(sender, {}))
    assert wire.loads(text, Database().read) == (arrives, {})


def test_a_sender_that_cannot_travel_is_named() -> None:
    with pytest.raises(UnsendableError, match=r"^sender: builtins\.object cannot"):
        wire.dumps(Message(object(), {}))


# Documents --------------------------------------------------------------------------------------------------


def stored_one(model: Any, **assigned: Any) -> Any:
    document = model(**assigned)
    document._created = False
    return document


def test_a_document_travels_as_model_and_key_and_is_read_again_once() -> None:
    team = [stored_one(Target, id=ObjectId(), name=name) for name in "abc"]
    other = stored_one(UniversalTarget, uid=uuid.uuid4())
    database = Database(*team, other)
    back = there_and_back({"all": team, "first": team[0], "other": (other,)}, database=database)
    assert [each.name for each in back["all"]] == ["a", "b", "c"]
    assert back["all"][0] is back["first"]
    assert isinstance(back["other"][0], UniversalTarget)
    assert not back["first"]._created
    assert sorted((model.__name__, len(keys)) for model, keys in database.asked) == [
        ("Target", 3),
        ("UniversalTarget", 1),
    ]


def test_the_text_of_a_document_holds_nothing_but_model_and_key() -> None:
    text = wire.dumps(Message(Target, {"instance": stored_one(Target, id=ObjectId("0" * 24), name="secret")}))
    assert json.loads(text) == {
        "sender": {"~": ["model", "Target"]},
        "payload": {"instance": {"~": ["document", "Target", {"~": ["oid", "0" * 24]}]}},
    }


def test_a_document_that_is_gone_is_a_typed_marker_that_is_false() -> None:
    key = ObjectId()
    gone = there_and_back(stored_one(Target, id=key, name="x"))
    assert gone == Gone(Target, key)
    assert not gone
    assert there_and_back([gone]) == [gone], "a marker can be sent on"


def test_a_compound_key_finds_its_document() -> None:
    one = stored_one(Keyed, id=Compound(day=dt.datetime(2026, 1, 2), number=3))
    database = Database(one)
    assert there_and_back(one, database=database).id.number == 3


def test_a_reference_is_not_read_to_learn_the_key() -> None:
    # A cached reference in the place of the key would be read from the network: there is no connection here.
    one = stored_one(Keyed, id=Compound(number=1), owner=ObjectId())
    assert isinstance(there_and_back(one, database=Database(one)), Keyed)


def test_a_subclass_comes_back_as_itself() -> None:
    puppy = stored_one(Puppy, id=ObjectId(), name="Rex", weeks=9)
    assert type(there_and_back(puppy, database=Database(puppy))) is Puppy
    assert type(there_and_back(puppy, whole=True)) is Puppy
    assert there_and_back([Puppy, Dog]) == [Puppy, Dog]


@given(bodies)
@settings(max_examples=60, deadline=None)
def test_a_deleted_document_of_every_field_type_comes_back_as_it_was(body: dict[str, Any]) -> None:
    schema = Schema.of(Everything)
    assignments = typed.decode_object(schema, body, creating=True)
    document = typed.new_document(schema, assignments)
    document.id = ObjectId()
    document.sequence, document.invoice = document._data.get("sequence") or 1, "INV-1"
    stored = typed.to_stored(document)
    back = there_and_back(typed.from_stored(schema, {**stored, "unknown": "kept"}), whole=True)
    assert isinstance(back, Everything)
    assert typed.same(typed.to_stored(back), {**stored, "unknown": "kept"})
    assert typed.load(schema, typed.to_stored(back)) == typed.load(schema, stored)


def test_an_embedded_document_travels_as_it_is() -> None:
    back = there_and_back(Compound(day=dt.datetime(2026, 1, 2), number=3))
    assert isinstance(back, Compound)
    assert (back.day, back.number) == (dt.datetime(2026, 1, 2), 3)


def test_a_model_whose_name_another_one_took_cannot_travel() -> None:
    def define() -> Any:
        class Twin(me.Document):
            pass

        return Twin

    first, second = define(), define()
    assert there_and_back(second) is second
    with pytest.raises(UnsendableError, match="value: Twin cannot be found by its name"):
        there_and_back(first)


# Handlers and exceptions ------------------------------------------------------------------------------------


class Connection:
    """What a handler needs of a connection."""

    context = type("Context", (), {"remote_ip": "192.0.2.7", "protocol": "http"})()

    def set_close_callback(self, callback: Any) -> None:
        pass


def handler_of(user: Any = None) -> tornado.web.RequestHandler:
    request = HTTPServerRequest(
        start_line=RequestStartLine("PUT", "/user/1?a=b%20c", "HTTP/1.1"),
        headers=HTTPHeaders({"Host": "localhost", "X-Request-Id": "r-1"}),
        connection=Connection(),
    )
    handler = tornado.web.RequestHandler(tornado.web.Application(), request)
    if user is not None:
        handler.current_user = user
    return handler


def test_a_handler_becomes_a_small_summary() -> None:
    summary = there_and_back(handler_of("ana"))
    assert summary == RequestSummary("PUT", "/user/1", "a=b%20c", "192.0.2.7", "r-1", "ana")
    assert summary.request.path == "/user/1"
    assert summary.current_user == "ana"
    assert there_and_back([summary]) == [summary], "a summary can be sent on"


def test_nobody_looks_a_user_up_to_send_a_signal() -> None:
    class Curious(tornado.web.RequestHandler):
        def get_current_user(self) -> Any:
            raise AssertionError("looked up")

    handler = handler_of()
    handler.__class__ = Curious
    assert there_and_back(handler).user is None


def test_a_user_that_cannot_travel_is_left_out() -> None:
    assert there_and_back(handler_of(object())).user is None
    ana = stored_one(Target, id=ObjectId(), name="ana")
    assert there_and_back(handler_of(ana), database=Database(ana)).user.name == "ana"


def test_an_exception_becomes_a_summary() -> None:
    def fail() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError) as caught:
        fail()
    summary = there_and_back({"exception": caught.value})["exception"]
    assert (summary.kind, summary.detail) == ("builtins.LookupError", "no such thing")
    assert "in fail" in summary.traceback
    assert there_and_back(summary) == summary
    assert isinstance(summary, ExceptionSummary)


# What arrives broken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"sender": null}',
        '{"sender": null, "payload": []}',
        '{"sender": null, "payload": {"a": {"~": []}}}',
        '{"sender": null, "payload": {"a": {"~": ["never heard of", 1]}}}',
        '{"sender": null, "payload": {"a": {"~": ["value", 1]}}}',
        '{"sender": null, "payload": {"a": {"~": [["list"], 1]}}}',
        '{"sender": null, "payload": {"a": {"~": ["oid", "short"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["decimal", "x"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["model", "NoSuchModel"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["document", "NoSuchModel", 1]}}}',
        '{"sender": null, "payload": {"a": {"~": ["document", "Target"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["enum", "os:system", "true"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["enum", "antigravity:Fly", 1]}}}',
        '{"sender": null, "payload": {"a": {"~": ["class", "os:path"]}}}',
        '{"sender": null, "payload": {"a": {"~": ["RequestSummary", {"nonsense": 1}]}}}',
        "[" * 100_000,
    ],
    ids=range(19),
)
def test_a_text_that_is_not_ours_is_a_payload_error(text: str) -> None:
    with pytest.raises(PayloadError):
        wire.loads(text, Database().read)


def test_nothing_is_imported_on_arrival() -> None:
    assert "this" not in sys.modules
    with pytest.raises(PayloadError, match="is its module imported"):
        wire.loads('{"sender": {"~": ["class", "this:Zen"]}, "payload": {}}', Database().read)
    assert "this" not in sys.modules


def test_an_error_of_reading_goes_through() -> None:
    def broken(model: Any, keys: list[Any]) -> Any:
        raise ConnectionError("gone")

    text = wire.dumps(Message(None, {"a": stored_one(Target, id=ObjectId())}))
    with pytest.raises(ConnectionError):
        wire.loads(text, broken)
