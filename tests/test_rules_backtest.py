"""A backtest: the journal through a new rulebook beside the old one; and how alarms are counted (ISA-18.2)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_
from typer.testing import CliRunner

from fenghuo.__main__ import app
from fenghuo.backtest import CannotBacktest, backtest, backtest_history, chatters, floods, most_within
from history import replay
from history.reader import Reader
from history.source import chunks
from history.store import ParquetHome
from ingest.journal import Journal
from ingest.readings import GOOD, Readings, Round
from registry import versions
from registry.clock import DAY, MINUTE, SECOND
from registry.compile import compile_folder
from registry.model import FOREVER, Registry
from streams import configuration, rulebook_file
from streams.rulebook import Rulebook
from tests.build import code
from tests.folders import write_registry

START = 1_772_416_800 * SECOND
PLANT = code(1)

SHIPPED = rulebook_file.shipped()


class Data:
    """A data folder with a journal, written by a plant with two gas points (H 25, HH 50)."""

    def __init__(self, folder: Path, registry: Registry, rulebook: Rulebook) -> None:
        self.folder, self.registry = folder, registry
        self.journal, self.versions = folder / "journal", folder / "versions"
        self.version = configuration.save(self.versions, registry, rulebook)

    def write(self, values: dict[str, list[float]], every: int = 10 * SECOND, version: str = "") -> None:
        """A round every so often, with the next value of each point."""
        rows = np.array([self.registry.rows[PLANT][point] for point in values], np.int32)
        rounds = [Round(START, version=version or self.version)]
        for number, of in enumerate(zip(*values.values(), strict=True)):
            time = START + number * every
            readings = Readings(
                rows, np.full(len(rows), time), np.array(of, np.float64), np.full(len(rows), GOOD, np.uint8)
            )
            rounds.append(Round(time, readings=readings))
        with Journal(self.journal, reserve=0) as journal:
            journal.append(rounds)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    write_registry(tmp_path / "registry", enterprises=1, points=2)
    return Data(tmp_path / "data", compile_folder(tmp_path / "registry"), SHIPPED)


def rulebook(folder: Path, *changes: tuple[str, str]) -> Rulebook:
    """The shipped one with other words."""
    text = rulebook_file.SHIPPED.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "new.yaml"
    path.write_text(text, "utf-8")
    return rulebook_file.read(path)


def keep_history(data: Data) -> Path:
    """What the historian makes of the journal."""
    folder = data.folder / "history"
    home = ParquetHome(folder)
    for chunk in chunks(data.journal, 0, lambda version: versions.load(data.versions, version)):
        home.append(chunk)
    home.flush()
    home.close()
    return folder


def test_history_tells_a_backtest_what_the_journal_tells(data: Data, tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    values = np.round(np.clip(np.cumsum(draw.normal(0, 3, 1000)), 0, 90), 1)
    data.write({"P1": values.tolist(), "P2": values[::-1].tolist()})
    versions.want(data.versions, data.version)
    history = keep_history(data)
    for begin, end in ((0, FOREVER), (START + 30 * MINUTE, START + 90 * MINUTE)):
        for new in (SHIPPED, rulebook(tmp_path, ("  H: IV\n", "  H: III\n"))):
            by_journal = backtest(data.journal, data.versions, new, begin, end)
            by_history = backtest_history(history, data.versions, new, begin, end)
            assert by_history.new.alarms > 3
            told = [replace_(one, rounds=0) for one in (by_journal, by_history)]
            assert told[0] == told[1]


def test_what_arrived_late_is_heard_when_it_arrived_to_the_end(data: Data) -> None:
    """Also where nothing was measured any more when it did; and what arrived behind the end is not."""
    rows = np.array([data.registry.rows[PLANT]["P1"]], np.int32)
    measured = [
        (0, 0),
        (1, 150),
        (2, 5),
        (30, 151),
        (59, 59),
        (45, 200),
    ]  # and arrived, minutes from the start
    readings = [
        (
            START + at * MINUTE,
            Readings(rows, np.array([START + time * MINUTE]), np.array([float(time)]), np.zeros(1, np.uint8)),
        )
        for time, at in sorted(measured, key=lambda each: each[1])
    ]
    with Journal(data.journal, reserve=0) as journal:
        begins = Round(START, version=data.version)
        journal.append([begins, *(Round(time, readings=one) for time, one in readings)])
    reader = Reader(keep_history(data))
    for end, count in ((160, 5), (201, 6), (151, 4), (58, 2)):
        heard = [
            (round_.time, round_.readings.time.tolist())
            for round_ in replay.rounds(reader, data.registry, START, START + end * MINUTE)
            if len(round_.readings)
        ]
        assert heard == [(time, one.time.tolist()) for time, one in readings[:count]]
    reader.close()


def test_where_nothing_arrived_for_long_nobody_was_silent(data: Data, tmp_path: Path) -> None:
    """It was Fenghuo that did not listen; a point that is silent while others are heard is told."""
    write_registry(tmp_path / "registry", enterprises=1, points=2, interval="1min")
    data = Data(tmp_path / "other", compile_folder(tmp_path / "registry"), SHIPPED)
    versions.want(data.versions, data.version)
    data.write({"P1": [10.0] * 50})
    rows = np.array([data.registry.rows[PLANT]["P1"], data.registry.rows[PLANT]["P2"]], np.int32)
    hour = START + 60 * MINUTE
    with Journal(data.journal, reserve=0) as journal:
        for second in range(0, 300, 10):
            time = np.full(2, hour + second * SECOND)
            readings = Readings(rows, time, np.full(2, 5.0), np.full(2, GOOD, np.uint8))
            journal.append([Round(hour + second * SECOND, readings=readings)])
    report = backtest_history(keep_history(data), data.versions, SHIPPED)
    assert report.new.by_rule == {"silent": 1}, "P2, from the beginning"


def test_there_is_no_history_of_that_time(data: Data) -> None:
    with pytest.raises(CannotBacktest, match="no configuration is in force"):
        backtest_history(data.folder / "history", data.versions, SHIPPED)
    versions.want(data.versions, data.version)
    with pytest.raises(CannotBacktest, match="there is no history"):
        backtest_history(data.folder / "history", data.versions, SHIPPED)
    data.write({"P1": [10.0, 30]})
    with pytest.raises(CannotBacktest, match="nothing of this time"):
        backtest_history(keep_history(data), data.versions, SHIPPED, START + DAY)


def test_the_same_rulebook_makes_the_same_of_a_journal(data: Data) -> None:
    data.write({"P1": [10.0, 30, 60, 10], "P2": [10.0, 10, 60, 10]})
    report = backtest(data.journal, data.versions, SHIPPED)
    assert (report.begin, report.end, report.rounds, report.readings) == (START, START + 30 * SECOND, 5, 8)
    assert report.old == report.new
    assert (report.appears, report.disappears, report.changes) == ([], [], [])
    assert report.old.by_rule == {"limit.high": 2}
    assert report.old.by_tier == {"II": 2}
    assert report.old.alarms == 3, "P1 rang at H and at HH"
    assert report.old.alerts_a_day == round(2 / (30 * SECOND / DAY), 2)


def test_what_appears_disappears_and_changes_its_tier(data: Data, tmp_path: Path) -> None:
    """H rings nobody any more, HH is worse, and one point is enough for a new compound rule."""
    data.write({"P1": [10.0, 30, 10, 10, 10], "P2": [10.0, 10, 10, 60, 10]})
    new = rulebook(
        tmp_path,
        ("  H: IV\n", "  H: none\n"),
        ("    tiers: {HH: II}\n    engineering_unit: \"%LEL\"", "    tiers: {HH: I}\n    engineering_unit: \"%LEL\""),
        ("compound:\n", "compound:\n  gas:\n    scope: enterprise\n    when: {finding: limit.high, levels: [HH]}\n"
         "    tier: III\n    say: {zh: 气, en: gas}\n"),
    )  # fmt: skip
    report = backtest(data.journal, data.versions, new)
    [gone], [come], [worse] = report.disappears, report.appears, report.changes
    assert (gone.subject, gone.old, gone.new, gone.time) == ("point:P1", "IV", "", START + 10 * SECOND)
    assert (come.rule, come.old, come.new, come.time) == ("compound.gas", "", "III", START + 30 * SECOND)
    assert (worse.subject, worse.old, worse.new) == ("point:P2", "II", "I")
    assert (report.old.alerts, report.new.alerts) == (2, 2)


def test_load_is_counted_for_everybody_who_would_have_been_called(data: Data) -> None:
    """IV stays with the operator; II is told to the district too (tests/folders.py)."""
    data.write({"P1": [10.0, 30, 10, 10], "P2": [10.0, 10, 60, 10]})
    load = {one.person: one.alarms for one in backtest(data.journal, data.versions, SHIPPED).new.load}
    assert load == {f"operator-{PLANT}": 2, "east-duty": 1}


def test_an_alarm_that_chatters_is_one_alert_that_rings_often(data: Data) -> None:
    data.write({"P1": [10.0, 30] * 6, "P2": [10.0] * 12})
    side = backtest(data.journal, data.versions, SHIPPED).new
    assert (side.alerts, side.alarms) == (1, 6)
    assert side.chattering == {f"limit.high {PLANT} point:P1": 1}


def test_only_the_time_that_is_asked_for(data: Data) -> None:
    data.write({"P1": [10.0, 30, 10, 10, 30, 10], "P2": [10.0] * 6})
    begin, end = START + 20 * SECOND, START + 50 * SECOND
    report = backtest(data.journal, data.versions, SHIPPED, begin, end)
    assert (report.begin, report.end, report.rounds, report.new.alerts) == (begin, end - 10 * SECOND, 3, 1)


def test_a_change_of_the_configuration_is_followed_by_both(data: Data, tmp_path: Path) -> None:
    """From the third round on, in another version of the registry, P1 has a lower limit."""
    data.write({"P1": [10.0, 10], "P2": [10.0, 10]})
    points = data.registry.points
    lower = points.limit.copy()
    lower[data.registry.rows[PLANT]["P1"], 2] = 9.0
    other = replace(data.registry, version="other", points=replace(points, limit=lower))
    version = configuration.save(data.versions, other, SHIPPED)
    time = START + 20 * SECOND
    row = np.array([data.registry.rows[PLANT]["P1"]], np.int32)
    readings = Readings(row, np.array([time]), np.array([10.0]), np.array([GOOD], np.uint8))
    with Journal(data.journal, reserve=0) as journal:
        journal.append([Round(time, version=version), Round(time, readings=readings)])
    report = backtest(data.journal, data.versions, rulebook(tmp_path, ("  H: IV\n", "  H: III\n")))
    [change] = report.changes
    assert (change.time, change.old, change.new) == (time, "IV", "III")


def test_what_is_not_there_is_said(data: Data) -> None:
    with pytest.raises(CannotBacktest, match="has no journal"):
        backtest(data.journal, data.versions, SHIPPED)
    data.write({"P1": [10.0], "P2": [10.0]}, version="gone.gone")
    with pytest.raises(CannotBacktest, match="not kept any more"):
        backtest(data.journal, data.versions, SHIPPED)


def test_a_rulebook_that_would_be_refused_is_refused(data: Data, tmp_path: Path) -> None:
    """Points would be judged by nothing, and it would look as if nothing rang."""
    points = replace(data.registry.points, template=("combustible_gas.tunnel",) * 2)
    version = configuration.save(data.versions, replace(data.registry, points=points), SHIPPED)
    data.write({"P1": [60.0], "P2": [60.0]}, version=version)
    with pytest.raises(CannotBacktest, match=r"combustible_gas\.tunnel"):
        backtest(data.journal, data.versions, SHIPPED)
    tunnel = rulebook(tmp_path, ("  methane:\n", "  combustible_gas.tunnel: {}\n  methane:\n"))
    assert backtest(data.journal, data.versions, tunnel).new.alerts == 2


def test_the_command_shows_a_table_or_json(data: Data, tmp_path: Path) -> None:
    data.write({"P1": [10.0, 30, 10, 10], "P2": [10.0, 10, 60, 10]})
    rulebook(tmp_path, ("  H: IV\n", "  H: none\n"))
    words = ["rules", "backtest", str(tmp_path / "new.yaml"), "--data", str(data.folder)]
    said = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert said.exit_code == 0, said.output
    assert "2026-03-02 10:00:00 to 2026-03-02 10:00:30 (Asia/Shanghai)" in said.output
    assert "disappears: 1" in said.output
    assert f"  2026-03-02 10:00:10 IV       limit.high {PLANT} point:P1" in said.output
    assert "overloaded" not in said.output
    report = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (report["old"]["alerts"], report["new"]["alerts"]) == (2, 1)
    late = CliRunner().invoke(app, [*words, "--from", "2030-01-01T00:00:00+08:00"])
    assert late.exit_code == 1
    assert "nothing of this time: it goes from 2026-03-02 02:00:00Z to 2026-03-02 02:00:30Z" in late.output
    assert CliRunner().invoke(app, [*words, "--from", "yesterday"]).exit_code == 2


# ---- counting --------------------------------------------------------------------------------------

times = st.lists(st.integers(0, 60 * 60).map(lambda s: s * SECOND), max_size=60).map(sorted)


@given(times)
def test_the_peak_is_the_most_in_any_ten_minutes(times: list[int]) -> None:
    plainly = max((sum(t - 10 * MINUTE < other <= t for other in times) for t in times), default=0)
    assert most_within(times, 10 * MINUTE) == plainly


@given(times)
def test_a_flood_begins_above_ten_and_ends_below_five(times: list[int]) -> None:
    """Plainly: whenever one comes or is ten minutes old, by how many there were in the last ten minutes."""
    count, flooded = 0, False
    for now in sorted({*times, *(time + 10 * MINUTE for time in times)}):
        there = sum(now - 10 * MINUTE < time <= now for time in times)
        if flooded and there < 5:
            flooded = False
        if not flooded and there > 10:
            count, flooded = count + 1, True
    assert floods(times) == count


@pytest.mark.parametrize(("left", "number"), [(5, 1), (4, 2)])
def test_a_flood_is_over_only_with_fewer_than_five(left: int, number: int) -> None:
    """Eleven alarms of which so many are left, when eight more come."""
    first = [0] * (11 - left) + [8 * MINUTE] * left
    assert floods([*first, *[11 * MINUTE] * 8]) == number


def test_chattering_begins_with_three_in_a_minute() -> None:
    assert chatters([0, 30 * SECOND, 61 * SECOND]) == 0
    assert chatters([0, 30 * SECOND, 59 * SECOND]) == 1
    assert (
        chatters([0, SECOND, 2 * SECOND, 3 * SECOND, 5 * MINUTE, 5 * MINUTE + SECOND, 5 * MINUTE + SECOND])
        == 2
    )
