"""Recordings are read by their map, and what is wrong with either is said with its place."""

from pathlib import Path

import pytest

from simulators.recording import RecordingError, count, read, read_map

MAP = """
enterprise: 91370281MA3MK1160B
gateway: gw1
time: {column: second, unit: s, start: "2026-01-05T10:00:00+08:00"}
points: {methane: MM116, air: AS038}
"""
START = 1767578400_000_000


def write(folder: Path, mapping: str, table: str) -> tuple[Path, Path]:
    (folder / "map.yaml").write_text(mapping, "utf-8")
    (folder / "table.csv").write_text(table, "utf-8")
    return folder / "map.yaml", folder / "table.csv"


def test_rows_come_at_the_times_they_stand_for(tmp_path: Path):
    mapping, table = write(tmp_path, MAP, "second,air,methane,other\n0,2.3,0.9,x\n30.5,,1.0,y\n")
    assert list(read(table, read_map(mapping))) == [
        (START, {"MM116": 0.9, "AS038": 2.3}),
        (START + 30_500_000, {"MM116": 1.0, "AS038": None}),
    ]
    assert count(table) == 2


def test_a_time_column_may_hold_dates(tmp_path: Path):
    mapping, table = write(
        tmp_path,
        "enterprise: a\ngateway: b\ntime: {column: at}\npoints: {v: P}\n",
        "at,v\n2026-01-05T02:00:00Z,1\n",
    )
    assert list(read(table, read_map(mapping))) == [(START, {"P": 1.0})]


def test_a_date_that_is_none_in_utc_is_said(tmp_path: Path):
    mapping, table = write(
        tmp_path,
        "enterprise: a\ngateway: b\ntime: {column: at}\npoints: {v: P}\n",
        "at,v\n0001-01-01T00:00:00+08:00,1\n",
    )
    with pytest.raises(RecordingError, match=r"table.csv:2: at: .* is beyond the calendar"):
        list(read(table, read_map(mapping)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gateway: gw1", "gatewy: gw1"), "gateway is missing; gatewy is unknown"),
        (("unit: s", "unit: hour"), "time.unit: 'hour'"),
        (("+08:00", ""), "no time zone"),
        (("points: {methane: MM116, air: AS038}", "points: [MM116]"), "points: expected"),
        (("enterprise:", "- enterprise:"), "not YAML"),
    ],
)
def test_a_map_that_is_wrong_says_where(tmp_path: Path, change: tuple[str, str], message: str):
    mapping, _ = write(tmp_path, MAP.replace(*change), "")
    with pytest.raises(RecordingError, match=message):
        read_map(mapping)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("second,air\n0,1\n", "table.csv:1: no column methane"),
        ("second,air,methane\n0,1,high\n", "table.csv:2: methane: 'high' is not a number"),
        ("second,air,methane\n0,1,nan\n", "table.csv:2: methane: 'nan' is not a number"),
        ("second,air,methane\n0,-inf,1\n", "table.csv:2: air: '-inf' is not a number"),
        ("second,air,methane\n0,1_000,1\n", "table.csv:2: air: '1_000' is not a number"),
        ("second,air,methane\n1_0,1,1\n", "table.csv:2: second: '1_0' is not a number"),
        ('second,air,methane\n0,1,"1\n', "table.csv:[12]: not CSV"),
        ("second,air,methane\nsoon,1,1\n", "table.csv:2: second: 'soon' is not a number"),
        ("second,air,methane\nnan,1,1\n", "table.csv:2: second: 'nan' is not a number"),
        ("second,air,methane\ninf,1,1\n", "table.csv:2: second: 'inf' is beyond the calendar"),
        ("second,air,methane\n0,1,1\n1e30,1,1\n", "table.csv:3: second: '1e30' is beyond the calendar"),
        ("second,air,methane\n1e999999,1,1\n", "table.csv:2: second: '1e999999' is beyond the calendar"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, table: str, message: str):
    mapping, file = write(tmp_path, MAP, table)
    with pytest.raises(RecordingError, match=message):
        list(read(file, read_map(mapping)))


def test_a_file_in_another_encoding_is_said_to_be_so(tmp_path: Path):
    mapping, file = write(tmp_path, MAP, "")
    file.write_bytes("second,air,methane,瓦斯\n0,1,1,x\n".encode("gbk"))
    with pytest.raises(RecordingError, match="not UTF-8"):
        list(read(file, read_map(mapping)))
