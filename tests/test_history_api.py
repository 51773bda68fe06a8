"""History over HTTP: charts with their alerts, exports, and nobody sees a neighbour's."""

import csv
import io
import math
from collections.abc import Iterator
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
    def __init__(self, client: httpx.Client, reader: Reader, tokens: dict[str, str]) -> None:
        self.client, self.reader, self.tokens = client, reader, tokens

    def get(self, path: str, who: str = "system", **params: Any) -> httpx.Response:
        return self.client.get(f"/api/v1/enterprises/{path}", headers=bearer(self.tokens[who]), params=params)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = open_database(tmp_path / "desk.sqlite")
    upgrade(database)
    desk = Desk(database, REGISTRY)
    reader = Reader(tmp_path / "history")
    app = create_app(
        Dependencies(
            desk=desk,
            database=database,
            registry=lambda: REGISTRY,
            clock=StillClock(),
            journal=tmp_path / "journal",
            values=tmp_path / "values",
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
        house = House(client, reader, known)
        none = house.get(f"{code(1)}/history", point="TI-1", begin=1, end=2)
        assert none.json()["error"]["code"] == "no_history"
        for form in ("csv", "parquet"):
            none = house.get(f"{code(1)}/readings", point="TI-1", begin=1, end=2, format=form)
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
    reader.close()
    database.dispose()


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


def test_far_too_much_is_refused_or_read_piece_by_piece(house: House) -> None:
    everything = {"begin": 0, "end": 1 << 60}
    assert house.get(f"{code(1)}/history", point=["TI-1"] * 51, **everything).status_code == 422
    assert house.get(f"{code(1)}/history", point="TI-1", **everything).status_code == 200
    assert house.get(f"{code(1)}/readings", point="TI-1", **everything).text.count("\n") == 7201
