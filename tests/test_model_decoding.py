"""What the compiled way in accepts is what mongoengine accepts, and it is stored byte for byte the same."""

from __future__ import annotations

import datetime as dt
import enum
import os
from collections.abc import Iterator
from typing import Any

import bson
import mongoengine as me
import pytest
from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mongoengine import signals

from bzz import model
from bzz.errors import ValidationError
from bzz.model import Schema
from bzz.model.body import Number
from bzz.model.decoding import decoder_of
from bzz.model.refusal import flatten
from tests import model_documents as docs

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
OPTIONS: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(me.EmbeddedDocument):
    text = me.StringField(required=True, max_length=4, db_field="t")
    count = me.IntField(min_value=-2, max_value=9, default=3)
    marks = me.ListField(me.BooleanField(), max_length=2)
    below = me.EmbeddedDocumentField("self")


class Whole(me.Document):
    name = me.StringField(required=True, min_length=2, max_length=6, regex="[a-zé]")
    word = me.StringField(choices=("one", "two"), null=True)
    count = me.IntField(min_value=0, max_value=150, db_field="c")
    wide = me.LongField(max_value=2**40)
    share = me.FloatField(min_value=-1.5, max_value=1e300)
    free = me.FloatField(default=lambda: 0.5)
    active = me.BooleanField(default=False)
    since = me.DateTimeField()
    day = me.DateField()
    email = me.EmailField(domain_whitelist=["localhost"])
    post = me.EmailField(allow_utf8_user=True, allow_ip_domain=True)
    link = me.URLField()
    tags = me.ListField(me.StringField(max_length=3), max_length=3)
    needed = me.ListField(me.IntField(max_value=5), required=True, default=lambda: [1])
    loose = me.ListField()
    parts = me.ListField(me.EmbeddedDocumentField(Part))
    part = me.EmbeddedDocumentField(Part)
    price = me.DecimalField(precision=2, max_value=100)
    exact = me.Decimal128Field()
    uid = me.UUIDField()
    data = me.BinaryField(max_bytes=4)
    colour = me.EnumField(Colour)
    numbers = me.MapField(me.IntField(min_value=1))
    anything = me.DictField()
    free_form = me.DynamicField()
    other = me.ReferenceField(docs.Target)
    others = me.ListField(me.ReferenceField(docs.CodedTarget))
    place = me.PointField()
    kept = me.ObjectIdField()
    meta = {"collection": "md_whole"}


class Coded(me.Document):
    code = me.StringField(primary_key=True, max_length=3)
    rank = me.IntField(null=True, default=7)
    meta = {"collection": "md_coded", "shard_key": ("rank",)}


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


# Values ---------------------------------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["ab", "abé", "a", "abcdefg", "A\ud800", "x\0y", "one", "two", "red"]),
    st.sampled_from(["a@b.co", "a@localhost", '"x"@b.co', "é@b.co", "a@[::1]", "a@ü.de", "a@", "@b.co"]),
    st.sampled_from(["http://b.co/x", "ftp://[::1]/", "gopher://b.co", "b.co"]),
    st.sampled_from(["2020-01-31T12:30:00Z", "2020-01-31T12:30:00.1239+02:00", "2020-01-31", "2020-02-31"]),
    st.sampled_from(["1.5", "1.555", "1e400", "aGk=", "aGVsbG8gd28=", "é="]),
    st.uuids().map(str),
    st.just(str(ObjectId())),
)


def number(text: str) -> Number:
    found = Number(float(text))
    found.text = text
    return found


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.sampled_from([2**31, 2**40, 2**40 + 1, 2**63 - 1, -(2**63), 2**63, 10**30]),
    st.floats(),
    st.sampled_from(
        [3.0, 0.25, -1.5, 1e300, 1e301, number("0.12345678901234567"), number("5.0000000000000000")]
    ),
    _TEXTS,
)
_JSON = st.recursive(
    _SCALARS,
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(["text", "count", "marks", "a", "$x", "_cls", "a.b"]), below, max_size=3
        )
    ),
    max_leaves=6,
)
_PART = st.deferred(
    lambda: st.fixed_dictionaries(
        {"text": st.text("abé", max_size=5)},
        optional={
            "count": st.integers(-3, 10),
            "marks": st.lists(st.booleans(), max_size=3),
            "below": _PART,
        },
    )
)
_RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text("abé", min_size=2, max_size=6),
    "word": st.sampled_from(["one", "two"]),
    "count": st.integers(0, 150),
    "wide": st.integers(-(2**63), 2**40),
    "share": st.floats(-1.5, 1e300) | st.integers(-1, 5) | st.just(number("0.12345678901234567")),
    "free": st.floats(allow_nan=False, allow_infinity=False),
    "active": st.booleans(),
    "since": st.datetimes(dt.datetime(1, 1, 2)).map(lambda at: at.isoformat() + "Z"),
    "day": st.dates().map(dt.date.isoformat),
    "email": st.sampled_from(["a@b.co", "a@localhost", '"x"@b.co', "a@ü.de"]),
    "post": st.sampled_from(["é@b.co", "a@[::1]"]),
    "link": st.sampled_from(["http://b.co/x", "ftp://[::1]/"]),
    "tags": st.lists(st.text("abé", max_size=3), max_size=3),
    "needed": st.lists(st.integers(-3, 5), min_size=1, max_size=3),
    "loose": st.lists(st.integers(0, 9) | st.text("ab"), max_size=3),
    "part": st.fixed_dictionaries(
        {"text": st.text("abé", max_size=4)}, optional={"count": st.integers(-2, 9)}
    ),
    "parts": st.lists(st.fixed_dictionaries({"text": st.text("ab", max_size=4)}), max_size=2),
    "price": st.sampled_from(["1.5", "99.99", 3]),
    "exact": st.sampled_from(["1.50", 2, number("0.12345678901234567890")]),
    "uid": st.uuids().map(str),
    "data": st.just("aGk="),
    "colour": st.sampled_from(["red", "blue"]),
    "numbers": st.dictionaries(st.text("ab", min_size=1), st.integers(1, 9), max_size=2),
    "anything": st.dictionaries(st.text("ab", min_size=1), st.integers(1, 9) | st.text("ab"), max_size=2),
    "free_form": st.integers(1, 9) | st.lists(st.text("ab"), max_size=2),
    "other": st.just(str(ObjectId())),
    "others": st.lists(st.text("ab", min_size=1), max_size=2),
    "place": st.just([1.5, 2]),
    "kept": st.just(str(ObjectId())),
}
_NAME = {"name": _RIGHT.pop("name")}
_WHOLE = st.fixed_dictionaries(_NAME, optional=_RIGHT)
_BODIES = st.builds(
    lambda right, other: {**right, **other},
    _WHOLE,
    st.dictionaries(st.sampled_from([*_RIGHT, "name", "id", "part", "unknown"]), _JSON | _PART, max_size=2),
)


# mongoengine's own word -----------------------------------------------------------------------------------


def refused_by_mongoengine(document: Any) -> set[str]:
    """Validate as mongoengine does, and return the pointers of the errors."""
    try:
        document.validate()
    except me.ValidationError as error:
        return {each.pointer for each in flatten(error, "")}
    return set()


def refused_here(schema: Schema, body: dict[str, Any]) -> set[str]:
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    try:
        model.validate(document)
    except ValidationError as error:
        return {each.pointer for each in error.errors}
    return set()


def storable(document: Any) -> bool:
    """Tell whether MongoDB could keep what mongoengine makes of it, and JSON has a word for it."""
    try:
        data = bson.encode(document.to_mongo(), codec_options=OPTIONS)
    except (bson.errors.BSONError, OverflowError, UnicodeEncodeError):
        return False
    return not any(
        isinstance(each, float) and (each != each or abs(each) == float("inf")) for each in leaves(data)
    )


def leaves(data: bytes) -> Iterator[Any]:
    todo: list[Any] = [bson.decode(data, codec_options=OPTIONS)]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            todo.extend(each.values())
        elif isinstance(each, list):
            todo.extend(each)
        else:
            yield each


def encoded(stored: Any) -> bytes:
    return bson.encode(stored, codec_options=OPTIONS)


# The property ---------------------------------------------------------------------------------------------


@settings(max_examples=400 * EXAMPLES, deadline=None)
@given(_BODIES)
def test_it_accepts_what_mongoengine_accepts_and_stores_the_same_bytes(body: dict[str, Any]) -> None:
    assert_the_same(body)


def test_every_field_meets_every_value() -> None:
    values: list[Any] = [
        None, True, False, 0, 1, -1, -2, -3, 3, 5, 6, 9, 10, 100, 101, 150, 151, 2**31, 2**40, 2**40 + 1,
        2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400, 0.0, 1.0, 1.5, -1.5, -1.6, 1e300, 1.1e300, 1e308,
        float("inf"), float("nan"), number("0.12345678901234567"), number("5.0000000000000000"), "", "a",
        "ab", "Ab", "éa",
        "abcdef", "abcdefg", "abc", "abcd", "a\ud800", "x\0y", "one", "red", "a@b.co", "a@localhost",
        '"x"@b.co',
        "é@b.co", "a@[::1]", "a@ü.de", "a@", "@b.co", "a b@c.de", "http://b.co/x", "gopher://b.co", "b.co",
        "2020-01-31T12:30:00Z", "2020-01-31T12:30:00.1239+02:00", "2020-01-31", "2020-02-31", "1.5", "1.555",
        "1e400", "aGk=", "aGVsbG8gd28=", str(ObjectId()), "12345678-1234-5678-1234-567812345678",
        [], [None], [1], [6], [True, False], [True, False, True], ["a"], ["abcd"], ["a", "b", "c"], ["a"] * 4,
        [1.5, 2], [200, 2], [[1]], [{}], [{"text": "a"}], [{"text": "abcde"}], [{"text": "a", "count": None}],
        {}, {"text": "a"}, {"text": "abcde"}, {"text": "a", "count": 9}, {"text": "a", "count": 10},
        {"count": 1},
        {"text": "a", "x": 1}, {"text": "a", "_cls": "Part"}, {"text": "a", "below": {"text": "b"}},
        {"text": "a", "below": {}}, {"text": "a", "marks": [True]}, {"a": 1}, {"a": 0}, {"$a": 1}, {"a.b": 1},
        {"type": "Point", "coordinates": [1, 2]},
    ]  # fmt: skip
    taken = dict.fromkeys(["name", *_RIGHT], 0)
    for name in taken:
        for value in values:
            taken[name] += assert_the_same({"name": "ab", name: value})
    assert all(taken.values())
    assert not assert_the_same({})
    assert not assert_the_same({"name": "ab", "unknown": 1})
    assert not assert_the_same({"name": "ab", "id": str(ObjectId())})


def assert_the_same(body: dict[str, Any]) -> bool:
    """Compare what becomes of a body with mongoengine's own; return whether the compiled way took it."""
    schema = Schema.of(Whole)
    decoder = decoder_of(schema)
    assert decoder is not None
    given_before = repr(body)
    made = decoder.make(body)
    assert repr(body) == given_before
    try:
        assignments = model.decode_object(schema, body, creating=True)
    except ValidationError:
        assert made is None  # JSON that the fields do not read; mongoengine has no word on JSON
        return False
    document = Whole(**{name: value for (name,), value in assignments.items()})
    try:
        refused = refused_by_mongoengine(document)
    except IndexError:  # of an address without a domain, mongoengine only says that
        assert made is None
        assert refused_here(schema, body)
        return False
    if made is not None:
        assert not refused
        assert encoded(made) == encoded(document.to_mongo())
        assert bson.decode(encoded(made), codec_options=OPTIONS) == made  # it is shown as it will be read
        return True
    # The usual way says what is wrong, at the same places; what it accepts, it stores as mongoengine does.
    here = refused_here(schema, body)
    assert refused <= here
    if storable(document):
        assert here == refused
    if not here:
        assert encoded(model.to_stored(model.new_document(schema, assignments))) == encoded(
            document.to_mongo()
        )
    return False


@settings(max_examples=200 * EXAMPLES, deadline=None)
@given(_WHOLE)
def test_right_values_take_it(body: dict[str, Any]) -> None:
    decoder = decoder_of(Schema.of(Whole))
    assert decoder is not None
    assert decoder.make(body) is not None
    assert decoder.change(body) is not None


@settings(max_examples=300 * EXAMPLES, deadline=None)
@given(_BODIES)
def test_updates_are_those_of_the_usual_way(body: dict[str, Any]) -> None:
    schema = Schema.of(Whole)
    decoder = decoder_of(schema)
    assert decoder is not None
    update = decoder.change(body)
    assume(update is not None)
    usual = model.direct_update(schema, model.decode_object(schema, body, creating=False))
    assert usual is not None
    assert list(update.set) == list(usual.set)
    assert encoded(update.command()) == encoded(usual.command())
    assert update.guard == usual.guard == {}
    # … which are those that mongoengine would send.
    document = Whole(
        **{name: value for (name,), value in model.decode_object(schema, body, creating=False).items()}
    )
    stored = document.to_mongo()
    assert encoded(update.set) == encoded({name: stored[name] for name in update.set})


@settings(max_examples=100 * EXAMPLES, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["code", "rank", "x"]), st.none() | st.integers(0, 9) | st.text(max_size=4)
    )
)
def test_a_key_of_ones_own_comes_first_and_is_never_changed(body: dict[str, Any]) -> None:
    schema = Schema.of(Coded)
    decoder = decoder_of(schema)
    assert decoder is not None
    made = decoder.make(body)
    if made is not None:
        assignments = model.decode_object(schema, body, creating=True)
        document = Coded(**{name: value for (name,), value in assignments.items()})
        document.validate()
        assert next(iter(made)) == "_id"
        assert encoded(made) == encoded(document.to_mongo())
    assert decoder.change(body) is None  # nothing but the key and the field of the shard key is there


# What keeps it shut ---------------------------------------------------------------------------------------


class Own(me.StringField):
    def validate(self, value: Any) -> None: ...


def document(**members: Any) -> Any:
    """Make a document class with these members."""
    return type("Made", (me.Document,), {"meta": {"collection": "md_made"}, **members})


def embedded(**members: Any) -> Any:
    return type("MadePart", (me.EmbeddedDocument,), members)


def patched_field() -> Any:
    field = me.StringField()
    field.validate = lambda value: None
    return field


@pytest.mark.parametrize(
    "members",
    [
        {"name": Own()},
        {"name": me.StringField(validation=lambda value: None)},
        {"name": patched_field()},
        {"names": me.ListField(Own())},
        {"names": me.ListField(me.ListField(me.StringField(validation=lambda value: None)))},
        {"number": me.SequenceField()},
        {"at": me.ComplexDateTimeField()},
        {"file": me.FileField()},
        {"any": me.GenericEmbeddedDocumentField()},
        {"copy": me.CachedReferenceField(docs.Target, fields=["name"])},
        {"name": me.StringField(), "clean": lambda self: None},
        {"name": me.StringField(), "validate": lambda self, clean=True: None},
        {"name": me.StringField(), "__init__": lambda self, *args, **values: None},
        {"name": me.StringField(), "to_mongo": lambda self, *args, **options: {}},
        {"name": me.StringField(), "meta": {"allow_inheritance": True}},
        {"part": me.EmbeddedDocumentField(embedded(name=Own()))},
        {"parts": me.ListField(me.EmbeddedDocumentField(embedded(clean=lambda self: None)))},
        {"part": me.EmbeddedDocumentField(embedded(name=me.StringField(default=lambda: "counted")))},
    ],
    ids=lambda members: " ".join(members),
)
def test_whatever_is_somebodys_own_goes_the_usual_way(members: dict[str, Any]) -> None:
    assert decoder_of(Schema(document(**members))) is None


def test_a_dynamic_class_goes_the_usual_way() -> None:
    made = type("MadeDynamic", (me.DynamicDocument,), {"name": me.StringField()})
    assert decoder_of(Schema(made)) is None


@pytest.mark.parametrize("signal", [signals.pre_init, signals.post_init])
def test_who_listens_to_instances_being_made_hears_of_them(signal: Any) -> None:
    decoder = decoder_of(Schema.of(Coded))
    assert decoder is not None
    assert decoder.make({"code": "a"}) == {"_id": "a", "rank": None}

    def listen(sender: Any, **payload: Any) -> None: ...

    with signal.connected_to(listen):
        assert decoder.make({"code": "a"}) is None
        assert decoder.change({"code": "a"}) is None


def test_a_default_is_called_once_and_in_its_place() -> None:
    calls: list[str] = []

    def count(name: str) -> int:
        calls.append(name)
        return len(calls)

    made = document(
        first=me.IntField(default=lambda: count("first")),
        name=me.StringField(max_length=2),
        last=me.IntField(default=lambda: count("last")),
        gone=me.IntField(default=lambda: None),
    )
    decoder = decoder_of(Schema(made))
    assert decoder is not None
    assert decoder.make({"name": "abc"}) is None
    assert calls == []
    assert list(decoder.make({"name": "ab"}).items()) == [("first", 1), ("name", "ab"), ("last", 2)]
    assert calls == ["first", "last"]


def test_a_default_that_its_own_field_refuses_goes_the_usual_way() -> None:
    for field in (me.IntField(default=5, max_value=3), me.StringField(default=lambda: None, required=True)):
        decoder = decoder_of(Schema(document(field=field)))
        assert decoder is not None
        assert decoder.make({}) is None
    assert decoder.change({}) is None
    assert decoder.change({"field": None}) is None
    assert decoder.change({"other": 1}) is None
