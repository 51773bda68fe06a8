"""History over HTTP: charts with their alerts, exports, and nobody sees a neighbour's."""

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from alerting.desk import Desk
from alerting.tables import upgrade
from console import tokens
from console.api import Dependencies, create_app
from console.scope import Scope
from history import catalogue
from history.catalogue import READINGS
from history.course import SCHEMA, HistoryReader
from history.influx_access import Access
from history.influx_reader import InfluxReader
from history.reader import Reader
from history.store import SETTLE, ParquetHome
from ingest.readings import BAD, GOOD
from registry.clock import HOUR, MINUTE, SECOND
from registry.database import open_database
from tests.build import PointSpec, code, make_registry
from tests.test_console_api import StillClock, bearer, begun, served
from tests.test_history_store import chunk

REGISTRY = make_registry(
    {code(1): [PointSpec(id="TI-1", H=80.0), PointSpec(id="TI-2")], code(2): [PointSpec(id="TI-1")]}
)
NOW = 1_767_225_600 * SECOND


class House:
    def __init__(self, client: httpx.Client, tokens: dict[str, str]) -> None:
        self.client, self.tokens = client, tokens

    def get(self, path: str, who: str = "system", **params: Any) -> httpx.Response:
        return self.client.get(f"/api/v1/enterprises/{path}", headers=bearer(self.tokens[who]), params=params)


@contextmanager
def housed(folder: Path, reader: HistoryReader | None) -> Iterator[tuple[House, Desk]]:
    database = open_database(folder / "desk.sqlite")
    upgrade(database)
    desk = Desk(database, REGISTRY)
    app = create_app(
        Dependencies(
            desk=desk,
            database=database,
            registry=lambda: REGISTRY,
            clock=StillClock(),
            journal=folder / "journal",
            values=folder / "values",
            status=lambda: None,
            history=reader,
        )
    )
    scopes = {"system": "system", "one": f"enterprise:{code(1)}", "two": f"enterprise:{code(2)}"}
    known = {
        name: tokens.create(database, name=name, scope=Scope.parse(scope), person="", now=NOW)
        for name, scope in scopes.items()
    }
    with served(app) as client:
        yield House(client, known), desk
    if reader is not None:
        reader.close()
    database.dispose()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with housed(tmp_path, Reader(tmp_path / "history")) as (house, desk):
        none = house.get(f"{code(1)}/history", point="TI-1", begin=NOW, end=NOW + 1)
        assert none.json()["error"]["code"] == "no_history"
        for form in ("csv", "parquet"):
            none = house.get(f"{code(1)}/readings", point="TI-1", begin=NOW, end=NOW + 1, format=form)
            assert none.json()["error"]["code"] == "no_history"
        home = ParquetHome(tmp_path / "history")
        said = [
            (code(1), "TI-1", NOW + s * SECOND, 20.0 + s % 7, GOOD, NOW + s * SECOND) for s in range(7200)
        ]
        said[4000] = (*said[4000][:3], 99.0, *said[4000][4:])
        said[100] = (*said[100][:3], math.nan, BAD, said[100][5])
        home.append(chunk(said, 1, REGISTRY, time=NOW + 2 * HOUR + SETTLE))
        home.flush()
        while home.maintain():
            pass
        desk.round([begun(code(1), since=NOW + 4000 * SECOND), begun(code(2))], 1, NOW + 4000 * SECOND)
        yield house
        home.close()


def test_a_chart_has_every_peak_and_the_alerts(house: House) -> None:
    for width, of in ((2000, "readings"), (120, "minute"), (2, "hour")):
        said = house.get(
            f"{code(1)}/history", point=["TI-1", "TI-2"], begin=NOW, end=NOW + 2 * HOUR, width=width
        ).json()
        assert (said["of"], said["step"]) == (of, 2 * HOUR // width if of != "readings" else 3_600_000)
        one, two = said["points"]
        assert (one["point"], one["unit"], max(one["max"])) == ("TI-1", "°C", 99.0)
        assert [mark["rule"] for mark in one["alerts"]] == ["limit.high"]
        assert sum(one["count"]) == 7199
        assert sum(one["bad"]) == 1
        assert (two["time"], two["alerts"]) == ([], [])
    before = house.get(f"{code(1)}/history", point="TI-1", begin=NOW, end=NOW + HOUR).json()["points"][0]
    assert before["alerts"] == []  # it was not raised yet


def test_a_value_that_is_not_known_is_null(house: House) -> None:
    said = house.get(
        f"{code(1)}/history", point="TI-1", begin=NOW + 99 * SECOND, end=NOW + 102 * SECOND
    ).json()
    [one] = said["points"]
    assert one["max"] == [21.0, None, 23.0]
    assert one["quality"] == ["good", "bad", "good"]


def test_readings_are_taken_away_as_csv_and_as_parquet(house: House) -> None:
    span = {"point": ["TI-1", "TI-2"], "begin": NOW + 99 * SECOND, "end": NOW + HOUR + 2 * SECOND}
    reply = house.get(f"{code(1)}/readings", **span)
    assert reply.headers["content-disposition"].endswith('.csv"')
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert len(rows) == 3600 + 2 - 99
    assert rows[0] == {
        "enterprise": code(1), "point": "TI-1", "time": "2026-01-01 00:01:39.000000Z",
        "arrival": "2026-01-01 00:01:39.000000Z", "value": "21", "quality": "good",
    }  # fmt: skip
    assert (rows[1]["value"], rows[1]["quality"]) == ("", "bad")
    table = parquet.read_table(
        pa.BufferReader(house.get(f"{code(1)}/readings", format="parquet", **span).content)
    )
    assert table.num_rows == len(rows)
    assert table.column("value").to_pylist()[:3] == [21.0, None, 23.0]
    assert table.column("quality").to_pylist()[:2] == ["good", "bad"]


@pytest.mark.parametrize("path", ["history", "readings"])
def test_nobody_sees_a_neighbours(house: House, path: str) -> None:
    span = {"begin": NOW, "end": NOW + MINUTE}
    assert house.get(f"{code(1)}/{path}", "one", point="TI-1", **span).status_code == 200
    assert house.get(f"{code(1)}/{path}", "two", point="TI-1", **span).status_code == 404
    assert house.get(f"{code(9)}/{path}", point="TI-1", **span).status_code == 404
    refused = house.get(f"{code(1)}/{path}", "one", point=["TI-1", "XX"], **span)
    assert refused.json()["error"]["message"] == f"point: {code(1)} has no XX"
    refused = house.get(f"{code(1)}/{path}", "one", point="TI-1", begin=NOW, end=NOW)
    assert "before `end`" in refused.json()["error"]["message"]
    assert house.get(f"{code(1)}/{path}", "one", **span).status_code == 422


def test_times_that_are_not_µs_are_told(house: House) -> None:
    for unit in (SECOND, SECOND // 1000):
        refused = house.get(f"{code(1)}/history", point="TI-1", begin=NOW // unit, end=(NOW + HOUR) // unit)
        assert "expected µs" in refused.json()["error"]["message"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_answer_with_holes_does_not_look_whole(house: House, tmp_path: Path, form: str) -> None:
    span = {"point": "TI-1", "begin": NOW, "end": NOW + 2 * HOUR}
    folder = tmp_path / "history"
    files = catalogue.listed(folder, code(1), NOW, NOW + 2 * HOUR, READINGS)
    first, second = sorted(file.path(folder) for file in files)
    assert house.get(f"{code(1)}/history", width=4000, **span).json()["lost"] == 0
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(httpx.RemoteProtocolError):
        house.get(f"{code(1)}/readings", format=form, **span)
    again = house.get(f"{code(1)}/readings", format=form, **span)
    assert (again.status_code, again.headers["fenghuo-lost"]) == (200, "1")
    chart = house.get(f"{code(1)}/history", width=4000, **span).json()
    assert (chart["of"], chart["lost"], len(chart["points"][0]["time"])) == ("readings", 1, 2000)
    first.unlink()
    assert house.get(f"{code(1)}/readings", format=form, **span).headers["fenghuo-lost"] == "2"
    rolled = house.get(f"{code(1)}/history", width=2, **span).json()
    assert (rolled["of"], rolled["lost"], sum(rolled["points"][0]["count"])) == ("hour", 0, 7199)


def test_where_none_is_kept_that_is_said(tmp_path: Path) -> None:
    with housed(tmp_path, None) as (house, _):
        answer = house.get(f"{code(1)}/history", point="TI-1", begin=NOW, end=NOW + HOUR)
        assert answer.json()["error"]["code"] == "no_history"
        assert "no history is kept" in answer.json()["error"]["message"]


def test_far_too_much_is_refused_or_read_piece_by_piece(house: House) -> None:
    everything = {"begin": 0, "end": 1 << 60}
    assert house.get(f"{code(1)}/history", point=["TI-1"] * 51, **everything).status_code == 422
    assert house.get(f"{code(1)}/history", point="TI-1", **everything).status_code == 200
    assert house.get(f"{code(1)}/readings", point="TI-1", **everything).text.count("\n") == 7201


@pytest.mark.parametrize("path", ["history", "readings"])
def test_a_history_that_is_away_is_told_without_saying_where_it_is(tmp_path: Path, path: str) -> None:
    away = Access("http://127.0.0.1:9", "organisation", "secret")
    with housed(tmp_path, InfluxReader(away, lambda: REGISTRY, StillClock())) as (house, _):
        answer = house.get(f"{code(1)}/{path}", point="TI-1", begin=NOW, end=NOW + HOUR)
        assert answer.status_code == 503
        assert answer.json()["error"] == {"code": "history_away", "message": "history cannot be read now"}


def test_readings_whose_arrival_is_not_kept_are_taken_away_without_it(tmp_path: Path) -> None:
    class Kept(Reader):
        def hours(self, *_: Any) -> list[int]:
            return [NOW]

        def lost(self, *_: Any) -> int:
            return 0

        def readings(self, *span: Any) -> pa.Table:
            one = [{"point": "TI-1", "time": NOW, "value": 1.5, "quality": 0, "arrival": None}]
            return pa.Table.from_pylist(one if span[2] == NOW else [], SCHEMA)

    with housed(tmp_path, Kept(tmp_path)) as (house, _):
        text = house.get(f"{code(1)}/readings", point="TI-1", begin=NOW, end=NOW + HOUR).text
        assert text.splitlines()[1] == f'"{code(1)}","TI-1",2026-01-01 00:00:00.000000Z,,1.5,"good"'
