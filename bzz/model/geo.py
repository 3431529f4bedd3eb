"""Fields of places. JSON: GeoJSON (RFC 7946) as stored; a GeoPointField is ``[x, y]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mongoengine import fields
from mongoengine.base import GeoJsonBaseField

from bzz.errors import FieldError
from bzz.model.extended import decode_value
from bzz.model.field import FieldSpec, describes
from bzz.model.refusal import child, kind_of, refuse
from bzz.model.storable import check_storable
from bzz.model.untyped import encode_value, fresh, load_value

__all__ = ["GeoJsonSpec", "GeoPointSpec"]

# How many levels of lists the coordinates of each type have; a point is one list of two numbers.
_LEVELS = {
    "Point": 1,
    "LineString": 2,
    "MultiPoint": 2,
    "Polygon": 3,
    "MultiLineString": 3,
    "MultiPolygon": 4,
}


_MOST = (("longitude", 180), ("latitude", 90))


def coordinates(value: Any, levels: int, pointer: str, *, on_globe: bool = False) -> list[Any]:
    """Read nested lists of positions, every position two finite numbers, and one on the globe if asked."""
    if not isinstance(value, list):
        raise refuse(pointer, f"expected an array of coordinates, not {kind_of(value)}")
    if levels > 1:
        return [
            coordinates(item, levels - 1, child(pointer, index), on_globe=on_globe)
            for index, item in enumerate(value)
        ]
    if len(value) != 2:
        raise refuse(pointer, "expected a position: two numbers")
    position = [_number(item, child(pointer, index)) for index, item in enumerate(value)]
    for index, (name, most) in enumerate(_MOST if on_globe else ()):
        if abs(position[index]) > most:
            raise refuse(child(pointer, index), f"a {name} is from -{most} to {most}")
    return position


def _number(value: Any, pointer: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(pointer, f"expected a number, not {kind_of(value)}")
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise refuse(pointer, "the number does not fit into 64 bits")
        return value
    if not math.isfinite(value):
        raise refuse(pointer, "the number is not finite")
    return float(value)


class PlaceSpec(FieldSpec):
    """What all places share: they are stored as they travel."""

    ordered = False
    comparable = False

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        raise refuse(pointer, "a place cannot be written as text: send JSON")

    def load(self, stored: Any) -> Any:
        return load_value(stored)

    def revive(self, stored: Any) -> Any:
        return fresh(stored)

    def encode(self, stored: Any) -> Any:
        return encode_value(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_storable(value, pointer, errors)


@describes(GeoJsonBaseField, *(getattr(fields, f"{name}Field") for name in _LEVELS))
class GeoJsonSpec(PlaceSpec):
    """A GeoJSON object; bare coordinates are accepted too."""

    @property
    def on_globe(self) -> bool:
        """Whether MongoDB refuses positions off the globe: its index could not hold them."""
        return bool(self.field._geo_index)

    def decode(self, value: Any, pointer: str) -> Any:
        levels = _LEVELS.get(self.field._type)
        if levels is None:  # a user's own kind: its validate() knows
            return decode_value(value, pointer)
        if isinstance(value, list):
            return coordinates(value, levels, pointer, on_globe=self.on_globe)
        if not isinstance(value, dict) or set(value) != {"type", "coordinates"}:
            raise refuse(pointer, 'expected GeoJSON: an object with "type" and "coordinates"')
        if value["type"] != self.field._type:
            raise refuse(child(pointer, "type"), f'expected "{self.field._type}"')
        return {
            "type": self.field._type,
            "coordinates": coordinates(
                value["coordinates"], levels, child(pointer, "coordinates"), on_globe=self.on_globe
            ),
        }


@describes(fields.GeoPointField)
class GeoPointSpec(PlaceSpec):
    """A legacy point. JSON: ``[x, y]``."""

    def decode(self, value: Any, pointer: str) -> Any:
        return coordinates(value, 1, pointer)
