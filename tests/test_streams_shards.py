"""Shards of a cluster, one at a time: what they do with what should not have happened to them."""

from dataclasses import replace

import msgspec
import numpy as np
from msgspec.structs import replace as changed

from ingest.readings import GOOD, Readings, Round
from ingest.topics import Entry
from registry.clock import SECOND
from streams import compound_shard, point_shard
from streams.compound_shard import CompoundShard
from streams.configuration import Configuration
from streams.finding import Finding
from streams.point_shard import Layout, PointShard
from streams.report import Report
from streams.rulebook_file import SHIPPED, read
from tests.build import PointSpec, make_registry

START = 1_792_000_000 * SECOND
RULEBOOK = read(SHIPPED)
BARE = make_registry([PointSpec(id="T", H=80.0)])
FIRST = Configuration.of(BARE, RULEBOOK)
SECOND_ONE = Configuration.of(replace(BARE, version="test-2"), RULEBOOK)
LAYOUT = Layout(1, 1, "city")


def value(time: int, value: float) -> Round:
    one = np.ones(1, np.int64)
    readings = Readings(np.zeros(1, np.int32), one * time, np.array([value]), (one * GOOD).astype(np.uint8))
    return Round(time, readings=readings)


def version(of: Configuration, time: int = START) -> Entry:
    return Entry(Round(time, version=of.registry.version), 1, edition=1)


def begun() -> PointShard:
    shard = PointShard(0, LAYOUT)
    assert shard.needs(version(FIRST)) == FIRST.registry.version
    shard.take(version(FIRST), 0, FIRST)
    return shard


def findings(reports: list[tuple[int, Report]]) -> list[Finding]:
    return [finding for _, told in reports for finding in told.findings]


def test_a_shard_without_a_version_does_not_look_as_if_it_judged() -> None:
    shard = PointShard(0, LAYOUT)
    assert shard.take(Entry(Round(START), 1), 0) == []
    assert shard.take(Entry(value(START, 99.0), 1), 1) == []
    assert shard.counts["early"] == 2
    assert shard.take(version(FIRST), 2, FIRST), "from here on it says how far it is"


def test_the_same_version_again_is_a_mark() -> None:
    shard = begun()
    shard.take(Entry(value(START + SECOND, 99.0), 1), 1)
    before = shard.snapshot()
    again = version(FIRST, START + SECOND)
    assert shard.needs(again) == ""
    assert findings(shard.take(again, 2)) == []
    assert before is not None
    assert point_shard.open_state(before).engine == point_shard.open_state(shard.snapshot() or b"").engine


def test_records_that_are_gone_are_told() -> None:
    shard = begun()
    [began, ended] = findings(shard.take(Entry(Round(START + SECOND), 1), 5))
    assert (began.rule, began.subject, began.evidence) == (
        "system.lost",
        "slot:0",
        ("readings/0: offsets 1–4",),
    )
    assert ended.id == began.id


def test_a_state_of_another_fenghuo_begins_anew_from_there_and_says_so() -> None:
    shard = begun()
    [alarm] = findings(shard.take(Entry(value(START + SECOND, 99.0), 1), 1))
    state = changed(point_shard.open_state(shard.snapshot() or b""), engine=b"\x00of another form")
    fresh = PointShard.restore(0, LAYOUT, state, FIRST, FIRST)
    assert (fresh.offset, fresh.version) == (1, FIRST.registry.version)
    told = findings(fresh.take(Entry(value(START + 2 * SECOND, 99.0), 1), 2))
    assert [finding.rule for finding in told] == ["system.lost", "system.lost", "limit.high"]
    assert told[2].id != alarm.id


def test_an_owner_that_lost_the_slot_is_not_read() -> None:
    shard = begun()
    shard.take(Entry(Round(START + SECOND), 2), 1)
    assert shard.take(Entry(value(START + SECOND, 99.0), 1), 2) == []
    assert shard.counts["stale"] == 1


def mark(source: int, offset: int, time: int, of: Configuration | None = None, edition: int = 0) -> Report:
    name = of.registry.version if of is not None else ""
    return Report(source=f"readings/{source}", offset=offset, time=time, version=name, edition=edition)


def combined() -> CompoundShard:
    shard = CompoundShard(0, 2, 2 * SECOND)
    shard.take(mark(0, 0, START, FIRST, 7), 0, FIRST)
    shard.take(mark(1, 0, START, FIRST, 7), 1, FIRST)
    assert shard.version == FIRST.registry.version
    return shard


def test_compound_rules_follow_where_editions_are_counted_anew() -> None:
    """A database that was set up anew begins at 1: what all slots have by now is what is in force."""
    shard = combined()
    assert shard.needs(mark(0, 1, START + SECOND, SECOND_ONE, 1)) == SECOND_ONE.registry.version
    shard.take(mark(0, 1, START + SECOND, SECOND_ONE, 1), 2, SECOND_ONE)
    shard.take(mark(1, 1, START + SECOND), 3)
    assert shard.version == FIRST.registry.version, "one slot has it still"
    blob = shard.snapshot()
    state = compound_shard.open_state(blob)
    known = {one.registry.version: one for one in (FIRST, SECOND_ONE)}
    shard = CompoundShard.restore(0, 2, 2 * SECOND, state, {name: known[name] for name in state.versions})
    shard.take(mark(1, 2, START + 2 * SECOND, SECOND_ONE, 1), 4)
    shard.take(mark(0, 2, START + 2 * SECOND), 5)
    assert shard.version == SECOND_ONE.registry.version


def test_compound_rules_tell_reports_that_are_gone() -> None:
    shard = combined()
    told = shard.take(mark(0, 1, START + SECOND), 9) + shard.take(mark(1, 1, START + SECOND), 10)
    lost = [finding for one in told for finding in one.findings]
    assert {(f.rule, f.subject, f.evidence) for f in lost} == {
        ("system.lost", "shard:0", ("findings/0: offsets 2–8",))
    }


def test_compound_rules_wait_for_the_slowest_slot_but_not_for_ever() -> None:
    shard = combined()
    shard.take(mark(0, 1, START + SECOND), 2)
    state = compound_shard.open_state(shard.snapshot())
    assert state.now == START, "slot 1 has not come so far"
    shard.take(mark(0, 2, START + 10 * SECOND), 3)
    assert compound_shard.open_state(shard.snapshot()).now == START + 8 * SECOND


def test_compound_rules_of_another_fenghuo_begin_anew_and_say_so() -> None:
    shard = combined()
    state = msgspec.structs.replace(
        compound_shard.open_state(shard.snapshot()), engine=b"\x00of another form"
    )
    fresh = CompoundShard.restore(0, 2, 2 * SECOND, state, {FIRST.registry.version: FIRST})
    told = fresh.take(mark(0, 1, START + SECOND), 2) + fresh.take(mark(1, 1, START + SECOND), 3)
    assert [f.rule for one in told for f in one.findings] == ["system.lost", "system.lost"]
