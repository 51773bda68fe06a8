"""Slots: a registry that is dealt out is judged, part by part, as the whole would be."""

import dataclasses
import math
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.readings import BAD, GOOD, UNCERTAIN, GatewayStatus, Readings, Round
from registry.clock import MINUTE, SECOND
from registry.model import FOREVER, Facts, Group, Holding, Points, Registry, Section, Tank
from registry.slots import part, rows, slot_of
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.finding import Finding
from tests.build import RULEBOOK, PointSpec, city_registry, code, make_registry

START = 1_000_000 * SECOND
CODES = [code(number) for number in range(1, 10)]

PLANT = [
    PointSpec(id="F1", gateway="gw1", L=10.0, H=80.0, HH=90.0, interval=3 * SECOND, unit="R1"),
    PointSpec(id="F2", gateway="gw1", H=80.0, on_delay=SECOND, off_delay=2 * SECOND),
    PointSpec(id="T1", gateway="gw2", rate=5.0, rate_over=2 * SECOND, range_low=0.0, range_high=100.0, group="a"),
    PointSpec(id="T2", gateway="gw2", group="a", stuck_after=4 * SECOND, stuck_within=0.5),
    PointSpec(id="T3", gateway="gw2", group="b"),
    PointSpec(id="T4", gateway="gw2", group="b", alarm_state=50.0),
]  # fmt: skip


def facts_of(*told: tuple[str, str, str, int, int]) -> Facts:
    """From (rule, enterprise, subject, begins, ends)."""
    told = tuple(sorted(told))
    rule, enterprise, subject, begins, ends = zip(*told, strict=True) if told else ((), (), (), (), ())
    blank, nothing = ("",) * len(told), np.full(len(told), math.nan)
    record = tuple(f"record of {one}" for one in subject)
    times = np.array(begins, np.int64), np.array(ends, np.int64)
    return Facts(rule, enterprise, subject, record, *[blank] * 6, *times, nothing, nothing, digest="whole")


def city(random: Random, version: str = "v1") -> Registry:
    """Nine enterprises, each with some of the plant's points, with groups, sections and tanks where they can be."""
    points = {
        each: [spec for spec in PLANT if random.random() < 0.8] for each in CODES if random.random() < 0.9
    }
    groups = [Group(each, id, 5.0, SECOND) for each in points for id in "ab"]
    registry = make_registry(points, groups=groups, version=version)
    sections, holdings = [], []
    for each, row in registry.rows.items():
        if row.keys() >= {"F1", "F2"}:
            pressures = row.get("T1", -1), row.get("T3", -1)
            ends = row["F1"], row["F2"], *pressures
            sections.append(Section(each, "s1", "管段", *ends, 0.02, 3.0, 1.0, 0.1, 8 * SECOND))
        tanks = tuple(Tank(row[id], (0.0, 100.0), (0.0, 50.0)) for id in ("T3", "F1") if id in row)
        if tanks:
            holdings.append(Holding(each, "h1", "液氨", "R1", "7664-41-7", 30.0, 5.0, tanks))
    told = [
        ("equipment.overdue", each, f"equipment:V-{number}", START + random.randrange(60) * SECOND, FOREVER)
        for each in CODES
        for number in range(random.randrange(3))
    ]
    told.append(("warning.storm", "", "cell:city", START + 5 * SECOND, START + 30 * SECOND))
    records = {"sections": tuple(sections), "holdings": tuple(holdings), "facts": facts_of(*told)}
    return replace(registry, **records, edit="li: entered")


def heard(random: Random, registry: Registry, now: int) -> Round:
    """A round of any readings of any points, and perhaps a gateway's status."""
    count = min(random.choice((0, 3, 20, 60)), 10 * len(registry.points))
    row = np.array([random.randrange(len(registry.points)) for _ in range(count)], np.int32)
    value = np.array([random.choice((5.0, 50.0, 50.0, 50.4, 85.0, 95.0, 130.0)) for _ in range(count)])
    quality = np.array([random.choice((GOOD, GOOD, GOOD, UNCERTAIN, BAD)) for _ in range(count)], np.uint8)
    value[quality == BAD] = math.nan
    ages = (0, 0, 0, -1, -2, -70, 90)
    time = np.array([now + random.choice(ages) * SECOND for _ in range(count)], np.int64)
    gateways = [random.randrange(len(registry.gateways)) for _ in range(random.choice((0, 0, 1)))]
    status = tuple(GatewayStatus(gateway, random.random() < 0.5) for gateway in gateways)
    return Round(now, status=status, readings=Readings(row, time, value, quality))


def share(registry: Registry, own: Registry, slot: int, slots: int, whole: Round) -> Round:
    """What a slot's collector would have heard of this round."""
    place = {row: index for index, row in enumerate(rows(registry, slot, slots).tolist())}
    mine = np.array([row in place for row in whole.readings.row.tolist()], np.bool_)
    said = whole.readings
    row = np.array([place[row] for row in said.row[mine].tolist()], np.int32)
    gateways = [(registry.gateways[status.gateway], status.online) for status in whole.status]
    index = own.gateway_index
    status = tuple(
        GatewayStatus(index[gateway.enterprise, gateway.id], online)
        for gateway, online in gateways
        if gateway.enterprise in own.enterprises
    )
    readings = Readings(row, said.time[mine], said.value[mine], said.quality[mine])
    return Round(whole.time, status=status, readings=readings)


def told(findings: list[Finding]) -> list[Finding]:
    """What is told at one time has no order between enterprises."""
    return sorted(findings, key=lambda finding: (finding.id, finding.seq, repr(finding)))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 5]))
def test_the_parts_find_together_what_the_whole_finds(seed: int, slots: int) -> None:
    random = Random(seed)
    registry = city(random)
    parts = [part(registry, slot, slots) for slot in range(slots)]
    whole = Evaluator(Configuration(registry, RULEBOOK), START)
    shards = [Evaluator(Configuration(own, RULEBOOK), START) for own in parts]
    now, rules = START, Counter[str]()
    for number in range(40):
        if number == 25:
            registry = city(random, "v2")
            parts = [part(registry, slot, slots, own) for slot, own in enumerate(parts)]
            expected = whole.reconfigure(Configuration(registry, RULEBOOK), now)
            found = [
                finding
                for shard, own in zip(shards, parts, strict=True)
                for finding in shard.reconfigure(Configuration(own, RULEBOOK), now)
            ]
        else:
            now += random.choice((0, 1, 1, 2, 20)) * SECOND
            round_ = heard(random, registry, now)
            expected = whole.apply(round_)
            found = [
                finding
                for slot, (shard, own) in enumerate(zip(shards, parts, strict=True))
                for finding in shard.apply(share(registry, own, slot, slots, round_))
            ]
        assert told(found) == told(expected)
        rules.update(finding.rule for finding in expected)
    assert rules["limit.high"] > 10, "something was found at all"


def by_name(registry: Registry) -> dict[str, list[object]]:
    """What it says, in its order, with names where it has indices."""
    points, facts = registry.points, registry.facts
    enterprise = [registry.gateways[gateway].enterprise for gateway in points.gateway]
    point = [*zip(enterprise, points.id, strict=True), None]
    indices = {
        "gateway": [registry.gateways[index].id for index in points.gateway],
        "group": [registry.groups[index].id if index >= 0 else "" for index in points.group],
    }
    columns = [indices.get(field.name, getattr(points, field.name)) for field in dataclasses.fields(Points)]
    ends = ("flow_in", "flow_out", "pressure_in", "pressure_out")
    return {
        "enterprises": list(registry.enterprises.values()),
        "gateways": list(registry.gateways),
        "groups": list(registry.groups),
        "points": [repr(row) for row in zip(enterprise, *columns, strict=True)],
        "sections": [
            (one.enterprise, one.id, *(point[getattr(one, end)] for end in ends)) for one in registry.sections
        ],
        "holdings": [
            (one.enterprise, one.id, *((point[tank.row], tank.mass) for tank in one.tanks))
            for one in registry.holdings
        ],
        "facts": list(
            zip(
                facts.rule,
                facts.enterprise,
                facts.subject,
                facts.record,
                facts.begins,
                facts.ends,
                strict=True,
            )
        ),
    }


@pytest.mark.parametrize("slots", [1, 2, 4, 64])
def test_all_parts_together_are_the_whole(slots: int) -> None:
    registry = city(Random(7))
    whole = by_name(registry)
    dealt: dict[str, list[object]] = {name: [] for name in whole}
    for slot in range(slots):
        own = part(registry, slot, slots)
        assert all(slot_of(each, slots) == slot for each in own.enterprises)
        for name, said in by_name(own).items():
            assert said == [one for one in whole[name] if one in said], "in its order"
            dealt[name] += said
        which = rows(registry, slot, slots)
        assert which.dtype == np.int32
        assert own.points.id == tuple(registry.points.id[row] for row in which)
        assert not own.points.gateway.flags.writeable
        for name in ("version", "time_zone", "cells", "people", "duty", "escalation", "edit"):
            assert getattr(own, name) == getattr(registry, name)
        assert ("cell:city" in own.facts.subject) == (slot == 0)
    assert {name: Counter(map(repr, said)) for name, said in dealt.items()} == {
        name: Counter(map(repr, said)) for name, said in whole.items()
    }
    assert whole["sections"]
    assert whole["holdings"]


def test_facts_that_an_edit_leaves_as_they_are_stay_the_same_object() -> None:
    """Else every edit anywhere would have every worker look through all facts again."""
    first = city(Random(1))
    before = [part(first, slot, 3) for slot in range(3)]
    touched = slot_of(CODES[0], 3)
    facts = first.facts
    told_before = zip(facts.rule, facts.enterprise, facts.subject, facts.begins, facts.ends, strict=True)
    more = facts_of(*told_before, ("licence.expired", CODES[0], "licence:L-1", START + MINUTE, FOREVER))
    second = replace(city(Random(1), "v2"), facts=more)
    for slot in range(3):
        after = part(second, slot, 3, before[slot])
        assert (after.facts is before[slot].facts) == (slot != touched)
        assert after.facts.digest != "whole", "it is of other facts"
    assert "licence:L-1" in part(second, touched, 3, before[touched]).facts.subject


def test_a_slot_is_the_same_for_ever() -> None:
    """Topics and sessions are made by it, and outlive every release."""
    assert [slot_of(each, 8) for each in ("", "91370200MA0001XX0C", "123456789")] == [0, 2, 0xCBF43926 % 8]


def test_a_city_is_dealt_out_evenly() -> None:
    registry = city_registry(points=1)
    sizes = [len(part(registry, slot, 8).enterprises) for slot in range(8)]
    assert sum(sizes) == 503
    assert min(sizes) > 40
