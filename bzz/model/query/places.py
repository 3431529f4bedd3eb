"""Conditions on places: near a point, within a circle, a box or a polygon.

Texts are numbers with commas: longitude and latitude in degrees (WGS 84), distances in metres. GeoJSON fields
are asked on the sphere, except for a box, which lies between two meridians and two parallels.

Source: https://www.mongodb.com/docs/manual/reference/operator/query-geospatial/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from bzz.model.field import FieldSpec
from bzz.model.geo import GeoJsonSpec, GeoPointSpec
from bzz.model.query.paths import plain

__all__ = ["PLACE_OPERATORS", "PlaceError", "check_place", "is_near", "place_condition"]

MAX_CORNERS = 100
# What MongoDB divides metres by, for distances in radians.
EARTH_RADIUS_METRES = 6378100
_NEAR = frozenset({"$near", "$nearSphere"})
MAX_METRES = math.pi * EARTH_RADIUS_METRES

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class PlaceError(ValueError):
    """A text that does not say a place; the message says what was expected."""


def check_place(spec: FieldSpec, operator: str) -> str | None:
    """Return what speaks against an operator on a field, None if nothing does."""
    spec = plain(spec)
    if not isinstance(spec, (GeoJsonSpec, GeoPointSpec)):
        return "needs a geographic field"
    if operator == "within_box" and isinstance(spec, GeoJsonSpec) and spec.field._type != "Point":
        return "needs points"
    return None


def place_condition(spec: FieldSpec, operator: str, text: str) -> dict[str, Any]:
    """Turn a text into a condition for the driver; raises PlaceError."""
    return _CONDITIONS[operator](isinstance(plain(spec), GeoPointSpec), _numbers(text))


def is_near(condition: Mapping[str, Any]) -> bool:
    """Tell whether a condition sorts what it finds by its distance."""
    return not _NEAR.isdisjoint(condition)


def _numbers(text: str) -> list[float]:
    found = [part.strip() for part in text.split(",")]
    if not all(_NUMBER.fullmatch(each) for each in found):
        raise PlaceError("expected numbers with commas")
    return [float(each) for each in found]


def _point(longitude: float, latitude: float) -> list[float]:
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise PlaceError("a longitude is from -180 to 180, a latitude from -90 to 90")
    return [longitude, latitude]


def _distance(metres: float) -> float:
    if not 0 <= metres <= MAX_METRES:
        raise PlaceError(f"a distance is from 0 to {int(MAX_METRES)} metres")
    return metres


def _near(is_legacy: bool, numbers: list[float]) -> dict[str, Any]:
    if len(numbers) not in (2, 3):
        raise PlaceError("expected longitude,latitude or longitude,latitude,metres")
    point = _point(*numbers[:2])
    metres = _distance(numbers[2]) if len(numbers) == 3 else None
    if is_legacy:
        far = {} if metres is None else {"$maxDistance": metres / EARTH_RADIUS_METRES}
        return {"$nearSphere": point, **far}
    far = {} if metres is None else {"$maxDistance": metres}
    return {"$near": {"$geometry": {"type": "Point", "coordinates": point}, **far}}


def _within_circle(is_legacy: bool, numbers: list[float]) -> dict[str, Any]:
    if len(numbers) != 3:
        raise PlaceError("expected longitude,latitude,metres")
    radians = _distance(numbers[2]) / EARTH_RADIUS_METRES
    return {"$geoWithin": {"$centerSphere": [_point(*numbers[:2]), radians]}}


def _within_box(is_legacy: bool, numbers: list[float]) -> dict[str, Any]:
    if len(numbers) != 4:
        raise PlaceError("expected west,south,east,north")
    low, high = _point(*numbers[:2]), _point(*numbers[2:])
    if low[0] > high[0] or low[1] > high[1]:
        raise PlaceError("west must not be more than east, nor south more than north")
    return {"$geoWithin": {"$box": [low, high]}}


def _within_polygon(is_legacy: bool, numbers: list[float]) -> dict[str, Any]:
    if len(numbers) % 2 or not 6 <= len(numbers) <= 2 * MAX_CORNERS:
        raise PlaceError(f"expected longitude,latitude of 3 to {MAX_CORNERS} corners")
    corners = [_point(*numbers[at : at + 2]) for at in range(0, len(numbers), 2)]
    if corners[0] != corners[-1]:
        corners.append(corners[0])
    if len({(x, y) for x, y in corners}) < 3:
        raise PlaceError("a polygon has at least 3 different corners")
    if is_legacy:
        return {"$geoWithin": {"$polygon": corners}}
    return {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [corners]}}}


_CONDITIONS: dict[str, Callable[[bool, list[float]], dict[str, Any]]] = {
    "near": _near,
    "within_circle": _within_circle,
    "within_box": _within_box,
    "within_polygon": _within_polygon,
}
PLACE_OPERATORS = frozenset(_CONDITIONS)
