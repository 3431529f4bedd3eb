"""What a resource allows to be asked, and its pipelines: what is written wrongly is refused at once."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from bson import Decimal128, ObjectId

from bzz.errors import QueryError
from bzz.model import Aggregation, QueryRules, Schema, compile_aggregate, compile_query
from bzz.model.query.expansion import check_expandable
from bzz.model.query.rules import rules_of
from bzz.mongoengine_handler import MongoEngineRestHandler
from tests import model_documents as docs


class Away(me.Document):
    name = me.StringField()
    boss = me.ReferenceField("self")

    def to_dict(self) -> dict[str, Any]:
        return {}


class Shouting(me.StringField):
    def to_mongo(self, value: Any) -> Any:
        return value.upper()


class Inside(me.EmbeddedDocument):
    text = me.StringField(db_field="t")
    away = me.ReferenceField(Away)


class Site(me.Document):
    name = me.StringField()
    unindexed = me.PointField(auto_index=False)
    point = me.PointField()
    line = me.LineStringField()
    pair = me.GeoPointField()
    words = me.ListField(me.StringField())
    inside = me.EmbeddedDocumentField(Inside, db_field="in")
    insides = me.EmbeddedDocumentListField(Inside)
    away = me.ReferenceField(Away)
    dbref = me.ReferenceField(Away, dbref=True)
    cached = me.CachedReferenceField(Away)
    any_away = me.GenericReferenceField()
    abstract = me.ReferenceField(docs.AbstractTarget)
    shout = Shouting()
    extra = me.DictField()
    sort = me.IntField()
    count = me.IntField()
    cursor = me.StringField()
    search = me.StringField()
    aggregate = me.StringField()
    page = me.IntField()
    meta = {"indexes": ["name", "inside.text", "words", "extra", ("away", "name"), "#shout", "cached"]}


SITE = Schema.of(Site)


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"filters": ["gone"]}, "gone"),
        ({"filters": ["name__regex"]}, "name__regex"),
        ({"filters": ["point__contains"]}, "text field"),
        ({"filters": ["point__startswith"]}, "text field"),
        ({"filters": ["name__near"]}, "geographic field"),
        ({"filters": ["unindexed__near"]}, "geographic index"),
        ({"filters": ["line__within_box"]}, "points"),
        ({"sorts": ["gone"]}, "not a field"),
        ({"sorts": ["words"]}, "list"),
        ({"sorts": ["insides.text"]}, "list"),
        ({"sorts": ["inside"]}, "no single value"),
        ({"sorts": ["point"]}, "no single value"),
        ({"sorts": ["dbref"]}, "no single value"),
        ({"sorts": ["cached"]}, "no single value"),
        ({"sorts": ["any_away"]}, "no single value"),
        ({"sorts": ["abstract"]}, "no single value"),
        ({"expandable": ["gone"]}, "path of references"),
        ({"expandable": ["name"]}, "path of references"),
        ({"expandable": ["inside"]}, "path of references"),
        ({"expandable": ["any_away"]}, "path of references"),
        ({"expandable": ["abstract"]}, "path of references"),
        ({"expandable": ["away.boss"]}, "to_dict"),
        ({"search": True}, "text index"),
        ({"secret": "short"}, "16 bytes"),
        ({"aggregations": {"a": Aggregation([], {"sort": int})}}, "reserved"),
    ],
)
def test_what_the_model_does_not_have_is_refused_at_once(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QueryRules(SITE, **options)
    with pytest.raises(ValueError, match=match):
        MongoEngineRestHandler.routes_for(Site, **options)


@pytest.mark.parametrize(
    "options", [{"filters": "name"}, {"sorts": "name"}, {"expandable": "away"}, {"aggregations": {"a": []}}]
)
def test_what_is_of_the_wrong_type_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        QueryRules(SITE, **options)


def test_depth_is_bounded() -> None:
    person = Schema.of(docs.Person)
    QueryRules(person, expandable=["boss.boss"])
    QueryRules(person, expandable=["boss.boss.friends"], expand_depth=3)
    with pytest.raises(ValueError, match="expand_depth=2"):
        QueryRules(person, expandable=["boss.boss.friends"])
    assert check_expandable(person, "leaves.coded") is None
    assert check_expandable(SITE, "inside.away") is None


def test_options_are_attributes_of_a_handler_too() -> None:
    class Narrow(MongoEngineRestHandler):
        filters = ["name"]
        sorts = ["away"]

    rules = Narrow.routes_for(Site).resource._listing.rules
    assert rules.sortable == {"id", "away"}
    assert rules.allows("name", "in")
    assert not rules.allows("shout", "eq")


def test_by_default_fields_that_an_index_begins_with_are_sortable() -> None:
    assert rules_of(SITE).sortable == {"id", "name", "inside.text", "away"}


def test_filters_name_fields_or_operators() -> None:
    rules = QueryRules(SITE, filters=["name__icontains", "inside.text", "pair__near", "point__near"])
    assert rules.allows("name", "icontains")
    assert not rules.allows("name", "eq")
    assert rules.allows("inside.text", "gte")
    assert not rules.allows("inside.text", "contains")
    assert QueryRules(SITE, filters=["*", "line__within_polygon"]).allows("name", "eq")
    assert not QueryRules(SITE, filters=[]).allows("name", "eq")


@pytest.mark.parametrize("name", ["sort", "count", "cursor", "search", "aggregate", "page"])
def test_a_field_with_a_reserved_name_is_asked_for_with_an_operator(name: str) -> None:
    rules = rules_of(SITE)
    assert compile_query(SITE, {f"{name}__eq": ["1"]}).filter.keys() == {name}
    with pytest.raises(QueryError) as caught:
        call = compile_aggregate if name == "aggregate" else lambda rules, given: compile_query(SITE, given)
        call(rules, {name: ["many", "more"]})
    assert f"{name}__eq" in caught.value.detail


def test_a_projection_covers_each_path_once() -> None:
    projection = compile_query(SITE, {"fields": ["inside,inside.text,name"]}).projection
    assert projection is not None
    assert projection.paths == {"_id": 1, "in": 1, "name": 1, "_cls": 1}
    assert projection.cut({"id": 1, "name": None, "inside": {"text": 1, "away": 2}, "count": 3}) == {
        "id": 1,
        "name": None,
        "inside": {"text": 1, "away": 2},
    }
    reverse = compile_query(SITE, {"fields": ["inside.text,inside,name"]}).projection
    assert reverse == projection


def test_a_form_of_ones_own_has_no_parts() -> None:
    with pytest.raises(QueryError, match="form of its own"):
        compile_query(Schema.of(Away), {"fields": ["name"]})
    with pytest.raises(QueryError):
        compile_query(SITE, {"fields": [",".join(f"a{number}" for number in range(33))]})


def test_at_most_eight_fields_sort() -> None:
    everything = Schema.of(docs.Everything)
    names = ["count", "big", "number", "string", "email", "url", "decimal", "moment", "day"]
    rules = QueryRules(everything, sorts=names)
    assert len(compile_query(everything, {"sort": [",".join(names[:8])]}, rules=rules).sort) == 9
    with pytest.raises(QueryError, match="more than 8"):
        compile_query(everything, {"sort": [",".join(names)]}, rules=rules)
    by_key = QueryRules(SITE, sorts=["name"])
    assert compile_query(SITE, {"sort": ["-id,name"]}, rules=by_key).sort == [("_id", -1)]


# Aggregations


class Size(enum.Enum):
    SMALL = 1


def ask(aggregation: Aggregation, **arguments: str | list[str]) -> dict[str, Any]:
    rules = QueryRules(SITE, aggregations={"it": aggregation})
    given = {name: [value] if isinstance(value, str) else value for name, value in arguments.items()}
    return compile_aggregate(rules, {"aggregate": ["it"], **given}).values


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "-7", -7),
        (float, "1.5", 1.5),
        (Decimal, "1.50", Decimal128("1.50")),
        (bool, "true", True),
        (str, "$x", "$x"),
        (str, "", ""),
        (dt.datetime, "2020-01-01T01:00:00+01:00", dt.datetime(2020, 1, 1)),
        (dt.date, "2020-01-01", dt.datetime(2020, 1, 1)),
        (uuid.UUID, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (ObjectId, "f" * 24, ObjectId("f" * 24)),
        (Size, "1", 1),
        (me.ListField(me.IntField()), ["1", "2"], [1, 2]),
        (me.IntField(default=3), [], 3),
        (me.IntField(), [], None),
        (me.ReferenceField(docs.Target), "f" * 24, ObjectId("f" * 24)),
    ],
)
def test_parameters_are_typed(kind: Any, text: Any, value: Any) -> None:
    assert ask(Aggregation([], {"it_is": kind}), it_is=text) == {"it_is": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "x"),
        (int, "9" * 30),
        (int, []),
        (int, ""),
        (str, []),
        (str, "\ud800"),
        (Size, "2"),
        (me.IntField(min_value=3), "2"),
        (me.StringField(choices=["a"]), "b"),
        (me.IntField(required=True), []),
    ],
)
def test_parameters_that_are_wrong_are_named(kind: Any, text: Any) -> None:
    with pytest.raises(QueryError) as caught:
        ask(Aggregation([], {"it_is": kind}), it_is=text)
    assert caught.value.parameter == "it_is"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([{"$out": "x"}],), ValueError),
        (([{"$match": {}}, {"$merge": {"into": "x"}}],), ValueError),
        (([], {"x": complex}), TypeError),
        (([], {"x": 1}), TypeError),
        (([], {"X": int}), ValueError),
        (([], {"a-b": int}), ValueError),
    ],
)
def test_a_wrong_aggregation_is_refused_at_once(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Aggregation(*arguments)
    with pytest.raises(ValueError, match="max_results"):
        Aggregation([], max_results=0)


def test_texts_of_a_client_are_literals_where_an_expression_may_stand() -> None:
    def build(text: str, many: list[str]) -> list[dict[str, Any]]:
        return [
            {"$match": {"name": text, "words": {"$in": many}, "$expr": {"$eq": ["$name", text]}}},
            {"$project": {"a": text, "b": {"$literal": text}, "c": {"$concat": ["$name", *many]}}},
            {
                "$lookup": {
                    "from": "x",
                    "as": "y",
                    "pipeline": [{"$match": {"z": text}}, {"$set": {"z": text}}],
                }
            },
            {"$set": {"d": ("$name", text)}},
        ]

    aggregation = Aggregation(build, {"text": str, "many": me.ListField(me.StringField())}, max_results=5)
    literal = {"$literal": "$x"}
    assert aggregation.stages({"text": "$x", "many": ["$y", "z"]}, {"name": {"$eq": "n"}}) == [
        {"$match": {"name": {"$eq": "n"}}},
        {"$match": {"name": "$x", "words": {"$in": ["$y", "z"]}, "$expr": {"$eq": ["$name", literal]}}},
        {
            "$project": {
                "a": literal,
                "b": {"$literal": "$x"},
                "c": {"$concat": ["$name", {"$literal": "$y"}, "z"]},
            }
        },
        {
            "$lookup": {
                "from": "x",
                "as": "y",
                "pipeline": [{"$match": {"z": "$x"}}, {"$set": {"z": literal}}],
            }
        },
        {"$set": {"d": ["$name", literal]}},
        {"$limit": 5},
    ]
    assert aggregation.variables({"text": "$x"}) == {"text": literal}


def test_what_a_function_builds_is_checked_each_time() -> None:
    with pytest.raises(ValueError, match="out"):
        Aggregation(lambda: [{"$out": "x"}]).stages({}, {})
    with pytest.raises(ValueError, match="name"):
        Aggregation(lambda text: [{"$set": {text: 1}}], {"text": str}).stages({"text": "x"}, {})


def test_the_filter_comes_after_a_stage_that_must_be_first() -> None:
    near = {"$geoNear": {"near": [0, 0], "distanceField": "d"}}
    stages = Aggregation([near, {"$limit": 1}]).stages({}, {"a": 1})
    assert stages == [near, {"$match": {"a": 1}}, {"$limit": 1}, {"$limit": 1000}]
