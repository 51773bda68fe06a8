"""Each rule of docs/point-rules.md by an example: holds what model and engine might both have misread."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ingest.readings import UNCERTAIN, Readings, Round
from registry.clock import MINUTE, SECOND
from registry.model import Group, Registry, Section
from streams.engine import PointEngine, Snapshot, SnapshotError
from streams.finding import Finding, Phase, Tier, finding_id
from streams.rulebook import Rulebook
from streams.state import Packed
from tests.build import RULEBOOK, PointSpec, make_registry
from tests.site import ONE, START, Site, brief, when

S = SECOND
NAN = math.nan


def high(**rules: object) -> PointSpec:
    return replace(PointSpec(id="A", H=80.0, HH=90.0, H_reset=75.0, HH_reset=85.0), **rules)


# ---- limits


def test_reaching_a_limit_is_crossing_it() -> None:
    assert Site(high()).values(79.9, 80.0, 89.9, 90.0) == ["2 limit.high begun H", "4 limit.high worsened HH"]
    assert Site(PointSpec(id="A", L=20.0, LL=10.0)).values(20.1, 20.0, 10.1, 10.0) == [
        "2 limit.low begun L",
        "4 limit.low worsened LL",
    ]


def test_a_limit_is_over_beyond_its_reset_not_at_it() -> None:
    assert Site(high()).values(95.0, 85.0, 84.9, 75.0, 74.9) == [
        "1 limit.high begun HH",
        "3 limit.high eased H",
        "5 limit.high ended H",
    ]


def test_on_delay_needs_a_known_reading_that_still_holds_when_it_is_over() -> None:
    assert Site(high(on_delay=3 * S)).values(80.0, 80.0, 80.0, 80.0) == ["4 limit.high begun H"]
    assert Site(high(on_delay=3 * S)).values(80.0, 80.0, 79.0, 80.0, 80.0, 80.0) == []
    assert Site(high(on_delay=3 * S)).values(80.0, NAN, NAN, NAN, 80.0) == ["5 limit.high begun H"]
    assert Site(high(on_delay=3 * S)).values(80.0, NAN, NAN, NAN, 79.0, 80.0) == []


def test_off_delay_needs_a_known_reading_that_is_still_beyond_reset_when_it_is_over() -> None:
    assert Site(high(off_delay=2 * S)).values(80.0, 70.0, 70.0, 70.0)[1:] == ["4 limit.high ended H"]
    assert Site(high(off_delay=2 * S)).values(80.0, 70.0, 75.0, 70.0, 70.0)[1:] == []


def test_since_is_before_the_delay_and_the_id_is_kept_until_it_is_over() -> None:
    site = Site(high(on_delay={"H": 2 * S}))
    told = [
        f
        for second in range(1, 6)
        for f in site.hear(second, ("A", second, [85.0, 85.0, 92.0, 85.0, 84.0][second - 1]))
    ]
    assert [f.phase for f in told] == [Phase.BEGUN, Phase.EASED]
    assert [f.seq for f in told] == [1, 2]
    assert {f.since for f in told} == {when(1)}
    assert {f.id for f in told} == {finding_id("limit.high", ONE, "point:A", when(1))}
    begun = told[0]
    assert (begun.level, begun.value, begun.limit, begun.unit) == ("HH", 92.0, 90.0, "°C")
    assert (begun.time, begun.arrival, begun.version) == (when(3), when(3), "test-1")


@pytest.mark.parametrize(
    ("kind", "tiers"),
    [
        ("temperature", [Tier.IV, Tier.III]),
        ("combustible_gas", [Tier.IV, Tier.II]),
        ("toxic_gas", [Tier.IV, Tier.II]),
        ("methane", [Tier.IV, Tier.II]),
    ],
)
def test_tiers(kind: str, tiers: list[Tier]) -> None:
    site = Site(high(kind=kind))
    assert [f.tier for f in site.hear(1, ("A", 1, 80.0)) + site.hear(2, ("A", 2, 90.0))] == tiers


def test_unknown_never_clears() -> None:
    assert Site(high()).values(95.0, NAN, NAN, 95.0, NAN, 70.0)[1:] == [
        "2 limit.high unknown HH",
        "4 limit.high resumed HH",
        "5 limit.high unknown HH",
        "6 limit.high resumed HH",
        "6 limit.high ended HH",
    ]


def test_an_uncertain_value_is_judged_like_a_good_one() -> None:
    engine = Site(high()).engine
    batch = Readings(
        np.array([0], np.int32), np.array([when(1)]), np.array([80.0]), np.array([UNCERTAIN], np.uint8)
    )
    assert brief(engine.apply(Round(when(1), readings=batch))) == ["1 limit.high begun H"]


def test_a_value_that_cannot_be_may_raise_but_not_clear() -> None:
    site = Site(high(range_low=0.0, range_high=100.0))
    assert site.values(120.0, 50.0, 95.0, -5.0, 50.0) == [
        "1 range begun",
        "1 limit.high begun HH",
        "2 range ended",
        "2 limit.high ended HH",
        "3 limit.high begun HH",
        "4 range begun",
        "4 limit.high unknown HH",
        "5 range ended",
        "5 limit.high resumed HH",
        "5 limit.high ended HH",
    ]


# ---- order and time


def test_the_same_time_and_value_again_counts_for_nothing() -> None:
    site = Site(high(on_delay=S, interval=3 * S))
    assert site.hear(1, ("A", 1, 80.0)) == []
    for second in (2, 3):
        assert site.hear(second, ("A", 1, 80.0)) == []
    assert brief(site.hear(4, ("A", 1, 80.0))) == ["4 gateway.offline begun"]
    assert site.engine.counts.duplicate == 3


def test_late_readings_are_evidence_and_ring_nobody() -> None:
    site = Site(high())
    site.hear(10, ("A", 10, 50.0))
    told = site.hear(11, ("A", 4, 95.0), ("A", 5, 50.0))
    assert brief(told) == ["4 limit.high ended HH late"]
    assert (told[0].seq, told[0].since, told[0].tier) == (1, when(4), Tier.III)
    assert site.hear(12, ("A", 12, 50.0)) == []


def test_an_hour_of_stored_readings_is_one_piece_of_evidence_for_each_excursion() -> None:
    site = Site(high())
    site.hear(7200, ("A", 7200, 50.0))
    stored = [
        (t, 85.0 if t < 1000 else 95.0 if t < 2000 else 50.0 if t < 3000 else 95.0) for t in range(3600)
    ]
    told = site.hear(7201, *(("A", t, value) for t, value in stored))
    assert brief(told) == [
        "0 limit.high ended H late",
        "1000 limit.high ended HH late",
        "3000 limit.high ended HH late",
    ]
    assert site.hear(7202, ("A", 7202, 50.0), ("A", 3600, NAN), ("A", 3601, 95.0)) == []
    assert site.hear(9000, ("A", 9000, 50.0)) == []
    assert brief(site.hear(9001, ("A", 8000, 95.0))) == ["8000 limit.high ended HH late"]


@pytest.mark.parametrize(
    ("interval", "told"), [(0, [10, 1000, 1131]), (61, [10, 1000]), (969, [10, 1000]), (970, [10])]
)
def test_late_values_far_from_one_another_are_two_excursions(interval: int, told: list[int]) -> None:
    site = Site(high(interval=interval * S))
    site.hear(7200, *(("A", t, 50.0) for t in (100, 600, 1800, 7200)))
    late = (10, 20, 30, 1000, 1010, 1070, 1131)
    said = site.hear(7201, *(("A", t, 95.0) for t in late))
    assert brief(said) == [f"{t} limit.high ended HH late" for t in told]


def test_late_evidence_has_an_id_of_its_own() -> None:
    site = Site(high())
    told = site.hear(10, ("A", 10, 85.0)) + site.hear(20, ("A", 20, 50.0))
    told += site.hear(21, ("A", 10, 95.0), ("A", 10, 50.0), ("A", 10, 85.0), ("A", 10, 95.0))
    assert brief(told) == [
        "10 limit.high begun H",
        "20 limit.high ended H",
        "10 limit.high ended HH late",
        "10 limit.high ended H late",
        "10 limit.high ended HH late",
    ]
    ids = [f.id for f in told]
    assert (ids[0], ids[2]) == (ids[1], ids[4])
    assert len(set(ids)) == 3


def test_a_late_reading_of_what_is_being_dealt_with_is_no_evidence() -> None:
    site = Site(high(on_delay=5 * S))
    site.hear(10, ("A", 10, 85.0))
    site.hear(12, ("A", 12, 85.0))
    assert site.hear(12, ("A", 11, 95.0)) == []
    assert brief(site.hear(12, ("A", 9, 95.0))) == ["9 limit.high ended HH late"]
    assert brief(site.hear(15, ("A", 15, 85.0))) == ["15 limit.high begun H"]


def test_a_clock_that_stays_behind_is_a_fault_and_is_judged_at_arrival() -> None:
    site = Site(high(), PointSpec(id="B"))
    site.hear(100, ("A", 100, 50.0))
    assert brief(site.hear(101, ("A", 41, 95.0))) == ["41 limit.high ended HH late"]
    assert site.hear(111, ("A", 51, 95.0)) == []
    told = site.hear(112, ("A", 52, 95.0))
    assert brief(told) == ["112 clock begun", "112 limit.high begun HH"]
    assert (told[0].subject, told[0].since, told[0].value, told[0].unit) == (
        "gateway:gw1",
        when(101),
        -60.0,
        "s",
    )
    assert site.hear(113, ("A", 53, 95.0)) == []
    assert brief(site.hear(114, ("A", 114, 95.0))) == ["114 clock ended"]


def test_a_clock_far_ahead_is_a_fault_at_once_and_does_not_move_the_newest() -> None:
    site = Site(high(), PointSpec(id="B"))
    assert brief(site.hear(1, ("A", 62, 95.0), ("B", 62, 1.0))) == ["1 clock begun", "1 limit.high begun HH"]
    assert site.engine.newest.tolist() == [when(1), when(1)]
    assert site.hear(2, ("A", 2, 95.0)) == []
    assert brief(site.hear(3, ("B", 3, 1.0))) == ["3 clock ended"]
    assert site.hear(4, ("A", 64, 95.0)) == []  # 60 s ahead is judged at its own time


def test_two_excursions_at_one_arrival_time_are_two_findings() -> None:
    site = Site(high())
    site.hear(1, ("A", 3600, 50.0))
    told = site.hear(2, ("A", 3601, 95.0), ("A", 3602, 50.0), ("A", 3603, 95.0))
    assert brief(told) == ["2 limit.high begun HH", "2 limit.high ended HH", "2 limit.high begun HH"]
    assert [f.since - when(2) for f in told] == [0, 0, 1]
    assert told[0].id == told[1].id != told[2].id


def listening() -> Site:
    """One that has listened since 1."""
    site = Site(high())
    for second in range(1, 600):
        site.hear(second)
    return site


def test_what_was_over_before_its_gateway_told_of_it_rings_nobody() -> None:
    site = listening()
    told = site.hear(600, ("A", 100, 50.0), ("A", 101, 85.0), ("A", 102, 95.0), ("A", 103, 50.0))
    assert brief(told) == ["103 limit.high ended HH late"]
    assert (told[0].seq, told[0].since, told[0].value, told[0].arrival) == (1, when(101), 95.0, when(600))


def test_what_was_over_when_we_listened_again_rings() -> None:
    site = listening()
    site.hear(600, ("A", 600, 50.0))
    told = site.hear(900, ("A", 700, 85.0), ("A", 701, 50.0), listening=False)  # the broker kept it for us
    told += site.hear(901, ("A", 702, 85.0), ("A", 703, 50.0))  # it had more, and then no more
    assert brief(told) == [
        "700 limit.high begun H",
        "701 limit.high ended H",
        "702 limit.high begun H",
        "703 limit.high ended H",
    ]
    assert [(f.time, f.arrival) for f in told[1:3]] == [(when(701), when(900)), (when(702), when(901))]
    for second in [*range(902, 990), *range(994, 1080)]:  # we stood still for a moment
        site.hear(second)
    told = site.hear(1080, ("A", 800, 85.0), ("A", 801, 50.0))  # its gateway could not reach us before
    assert [(f.phase, f.late) for f in told] == [(Phase.BEGUN, False), (Phase.ENDED, False)]


def test_what_a_gateway_had_stored_before_or_after_we_were_deaf_rings_nobody() -> None:
    site = listening()
    assert brief(site.hear(900, ("A", 500, 85.0), ("A", 501, 50.0))) == ["501 limit.high ended H late"]
    for second in range(901, 1101):
        site.hear(second)
    assert brief(site.hear(1101, ("A", 1000, 85.0), ("A", 1001, 50.0))) == ["1001 limit.high ended H late"]


def test_times_of_deafness_close_to_each_other_are_one() -> None:
    site = listening()
    site.hear(700)
    for second in range(701, 760):
        site.hear(second)
    site.hear(800)
    told = site.hear(801, ("A", 650, 85.0), ("A", 651, 50.0))
    assert brief(told) == ["650 limit.high begun H", "651 limit.high ended H"]


def test_what_is_stored_and_still_active_rings_as_soon_as_time_moves() -> None:
    site = listening()
    assert site.hear(600, ("A", 101, 85.0), ("A", 102, 95.0)) == []
    assert site.engine.next_deadline() == when(600) + 1
    told = site.engine.advance(when(600) + 1)
    assert brief(told) == ["101 limit.high begun H", "102 limit.high worsened HH"]
    assert {f.arrival for f in told} == {when(600)}


# ---- rate, stuck, redundancy


def test_rate_is_taken_over_the_shortest_time_given() -> None:
    site = Site(PointSpec(id="A", rate=5.0, rate_over=2 * S))
    assert site.values(0.0, 9.0, 9.0, 20.0, 20.0, 20.0, NAN, 21.0, 22.0) == [
        "5 rate begun",  # 9 to 20 in 2 s
        "7 rate unknown",
        "8 rate resumed",
        "8 rate ended",
    ]
    site = Site(PointSpec(id="A", rate=5.0, rate_over=2 * S))
    site.hear(1, ("A", 1, 0.0))
    told = site.hear(3, ("A", 3, 10.0))
    assert (told[0].value, told[0].limit, told[0].unit, told[0].since) == (5.0, 5.0, "°C/s", when(1))


def test_stuck_is_no_change_for_so_long() -> None:
    site = Site(PointSpec(id="A", stuck_after=3 * S, stuck_within=0.5))
    assert site.values(10.0, 10.5, 9.5, 10.0, NAN, 10.0, 10.6) == [
        "4 stuck begun",
        "5 stuck unknown",
        "6 stuck resumed",
        "7 stuck ended",
    ]


def test_a_state_is_an_alarm_once_it_has_held_for_its_delay() -> None:
    site = Site(PointSpec(id="A", alarm_state=1.0, state_delay=2 * S))
    assert site.values(0.0, 1.0, 1.0, 0.0, 1.0, NAN, 1.0, 1.0, NAN, 2.0) == [
        "7 state begun",
        "9 state unknown",
        "10 state resumed",
        "10 state ended",
    ]
    told = site.hear(11, ("A", 11, 1.0)) + site.hear(14, ("A", 14, 1.0))
    assert [(f.since, f.value, f.limit) for f in told] == [(when(11), 1.0, 1.0)]


def test_a_state_that_becomes_an_alarm_state_has_held_since_it_came() -> None:
    site = Site(PointSpec(id="A", alarm_state=1.0))
    assert site.values(0.0, 0.0, 0.0) == []
    assert again(site, PointSpec(id="A", alarm_state=0.0, state_delay=2 * S), at=4) == []
    assert [(f.rule, f.since) for f in site.hear(5, ("A", 5, 0.0))] == [("state", when(1))]
    assert brief(again(site, PointSpec(id="A"), at=6, version="test-3")) == ["6 state withdrawn"]


def test_where_time_goes_back_the_time_of_a_state_goes_back_with_it() -> None:
    site = Site(PointSpec(id="A", alarm_state=1.0, state_delay=5 * S))
    assert site.hear(1, ("A", 41, 1.0)) == []
    assert site.hear(2, ("A", 2, 1.0)) == []
    assert brief(site.hear(13, ("A", 13, 1.0))) == ["13 clock begun"]
    assert brief(site.hear(18, ("A", 18, 1.0))) == ["18 clock ended", "18 state begun"]


def test_redundant_points_disagree_for_as_long_as_all_of_them_say_so() -> None:
    group = Group(ONE, "g", 5.0, 2 * S)
    site = Site(PointSpec(id="A", group="g"), PointSpec(id="B", group="g"), groups=(group,))
    said = []
    for second, (a, b) in enumerate([(10, 10), (10, 16), (10, 16), (10, 16), (10, NAN), (10, 12)], 1):
        told = site.hear(second, ("A", second, a), ("B", second, b))
        said += brief(told)
    assert said == [
        "4 disagreement begun",
        "5 disagreement unknown",
        "6 disagreement resumed",
        "6 disagreement ended",
    ]


def test_a_point_that_moves_to_another_group_is_known_there_by_its_next_reading() -> None:
    groups = (Group(ONE, "g", 5.0, 0), Group(ONE, "h", 5.0, 0))
    site = Site(*(PointSpec(id=id, group=g) for id, g in zip("ABCD", "gghh", strict=True)), groups=groups)
    site.hear(1, *((id, 1, v) for id, v in zip("ABCD", (50.0, 50.0, 10.0, 10.0), strict=True)))
    moved = [PointSpec(id=id, group=g) for id, g in zip("ABCD", "ghhh", strict=True)]
    site.engine.reconfigure(make_registry(moved, groups=groups, version="test-2"), RULEBOOK, when(2))
    assert site.hear(3, ("C", 3, 10.0), ("D", 3, 10.0)) == []
    assert brief(site.hear(4, *((id, 4, v) for id, v in zip("BCD", (50.0, 10.0, 10.0), strict=True)))) == [
        "4 disagreement begun"
    ]


# ---- silence


def fields(finding: Finding) -> tuple[str, str, float, float]:
    return finding.rule, finding.subject, (finding.since - START) / S, (finding.arrival - START) / S


def two_points() -> Site:
    site = Site(PointSpec(id="A", interval=3 * S, H=80.0), PointSpec(id="B", interval=20 * S))
    site.hear(0)
    return site


def test_silence_begins_an_interval_after_the_last_reading_whenever_it_is_noticed() -> None:
    site = two_points()
    site.hear(0.5, ("A", 0.5, 90.0))
    assert site.hear(2) == []
    told = site.hear(4)
    assert [fields(f) for f in told] == [
        ("silent", "point:A", 3.5, 4.0),
        ("limit.high", "point:A", 0.5, 4.0),
    ]
    assert told[1].phase is Phase.UNKNOWN
    assert brief(site.hear(5, ("A", 5, 90.0))) == ["5 silent ended", "5 limit.high resumed H"]


def test_our_own_deafness_is_nobodys_silence() -> None:
    site = two_points()
    assert site.hear(1, listening=False) == []
    assert site.hear(2) == []  # the second before was not listened to
    assert site.hear(32) == []  # no mark for 30 s: neither was that
    assert site.engine.next_deadline() == when(34)
    assert site.hear(33) == []
    assert brief(site.hear(34)) == ["34 silent begun"]


def test_a_gateway_that_is_offline_is_one_finding() -> None:
    site = two_points()
    site.hear(1, ("A", 1, 90.0), ("B", 1, 1.0))
    told = site.hear(2, status=False)
    assert brief(told) == ["2 gateway.offline begun", "2 limit.high unknown H"]
    assert (told[0].subject, told[0].evidence) == ("gateway:gw1", ("A", "B"))
    for second in range(3, 40):
        assert site.hear(second) == []
    assert brief(site.hear(40, status=True)) == ["40 gateway.offline ended"]
    assert site.hear(42) == []  # silence counts anew
    assert brief(site.hear(43)) == ["43 silent begun"]


def test_a_gateway_all_of_whose_points_are_silent_is_offline() -> None:
    site = Site(PointSpec(id="A", interval=3 * S), PointSpec(id="B", interval=5 * S), PointSpec(id="C"))
    site.hear(0, ("C", 0, 1.0))
    said = [f for second in range(1, 8) for f in brief(site.hear(second))]
    assert said == ["3 silent begun", "5 gateway.offline begun"]
    assert brief(site.hear(8, ("C", 8, 1.0))) == ["8 gateway.offline ended"]


def test_a_point_that_is_heard_but_gives_no_known_value_has_bad_quality() -> None:
    site = two_points()
    site.hear(0, ("A", 0, 90.0))
    said = [f for t in range(1, 7) for f in brief(site.hear(t, ("A", t, NAN)))]
    assert said == ["1 limit.high unknown H", "3 bad_quality begun"]
    assert (site.engine.next_deadline() or 0) > when(6), "each bad reading would have all points looked at"
    assert site.hear(8) == []
    assert brief(site.hear(9)) == ["9 silent begun"]
    assert brief(site.hear(10, ("A", 10, NAN))) == ["10 silent ended"]
    site.engine = PointEngine.restore(site.engine.registry, RULEBOOK, site.engine.snapshot())
    assert brief(site.hear(11, ("A", 11, 50.0))) == [
        "11 bad_quality ended",
        "11 limit.high resumed H",
        "11 limit.high ended H",
    ]


def test_a_bad_reading_now_and_then_is_no_bad_quality() -> None:
    site = two_points()
    said = [f for t in range(1, 15) for f in site.hear(t, ("A", t, NAN if t % 2 else 50.0), ("B", t, NAN))]
    assert said == []


def mixed() -> Site:
    """A has an interval, B and C have none."""
    return Site(PointSpec(id="A", interval=10 * S), PointSpec(id="B", H=80.0, HH=90.0), PointSpec(id="C"))


def test_a_point_that_dies_while_its_gateway_talks_is_silent() -> None:
    site = mixed()
    site.hear(0, ("A", 0, 1.0), ("B", 0, 95.0))
    said = [f for t in range(1, 100) for f in brief(site.hear(t, ("B", t, 95.0), ("C", t, 1.0)))]
    assert said == ["10 silent begun"]


def test_a_gateway_that_falls_quiet_is_offline_although_a_point_without_interval_was_the_last() -> None:
    site = mixed()
    site.hear(0, ("A", 0, 1.0), ("B", 0, 95.0))
    site.hear(1)
    site.hear(2, ("B", 2, 96.0))
    told = [f for second in range(3, 100) for f in site.hear(second)]
    assert brief(told) == ["10 silent begun", "12 gateway.offline begun", "12 limit.high unknown HH"]


def test_a_gateway_that_talks_seldom_is_not_offline_again_and_again() -> None:
    site = mixed()
    site.hear(0, ("A", 0, 1.0))
    talk = {55, 115, 175}
    heard = [site.hear(t, *[("B", t, 1.0)] * (t in talk)) for t in range(1, 300)]
    said = [brief(told) for told in heard if told]
    assert said == [["10 gateway.offline begun"], ["55 gateway.offline ended"], ["65 silent begun"]]


# ---- configuration


def again(site: Site, *points: PointSpec, at: float, version: str = "test-2") -> list[Finding]:
    return site.engine.reconfigure(make_registry(points, version=version), RULEBOOK, when(at))


def test_a_removed_limit_withdraws_and_a_removed_worse_one_eases() -> None:
    site = Site(high(), PointSpec(id="B", L=5.0))
    site.hear(1, ("A", 1, 95.0), ("B", 1, 1.0))
    told = again(site, PointSpec(id="0"), high(HH=NAN), PointSpec(id="B"), at=2)
    assert brief(told) == ["2 limit.low withdrawn L", "2 limit.high eased H"]
    assert {f.evidence for f in told} == {("test-2",)}
    assert {f.version for f in told} == {"test-2"}
    assert brief(again(site, PointSpec(id="0"), at=3, version="test-3")) == ["3 limit.high withdrawn H"]


def test_a_tier_that_the_rulebook_changes_is_told_of_what_is_open() -> None:
    site = Site(high(), PointSpec(id="B", L=5.0))
    site.hear(1, ("A", 1, 95.0), ("B", 1, 1.0))
    site.hear(2, ("A", 2, NAN))
    rulebook = Rulebook(tiers={"HH": Tier.I, "H": Tier.IV})
    told = site.engine.reconfigure(make_registry([high(), PointSpec(id="B", L=5.0)]), rulebook, when(3))
    assert brief(told) == ["3 limit.low eased L", "3 limit.high worsened HH", "3 limit.high unknown HH"]
    assert [f.tier for f in told] == [None, Tier.I, Tier.I]
    assert [f.evidence for f in told] == [("test-1",)] * 3
    assert site.engine.reconfigure(site.engine.registry, rulebook, when(4)) == []


def test_a_finding_says_its_kind_and_what_it_lies_in() -> None:
    group = Group(ONE, "G1", 5.0, 0)
    points = [PointSpec(id=id, unit=unit, group="G1", H=80.0) for id, unit in (("A", "R1"), ("B", "R1"))]
    points.append(PointSpec(id="C", unit="R2", kind="flow", H=80.0))
    registry = make_registry(points, groups=[group])
    section = Section(ONE, "P1", "", 2, 2, -1, 1, 1.0, 1.0, 1.0, 0.01, 60 * S)
    site = Site(engine=PointEngine(replace(registry, sections=(section,)), START, RULEBOOK))
    told = site.hear(1, ("A", 1, 90.0), ("B", 1, 50.0), ("C", 1, 90.0))
    assert [(f.subject, f.kind, f.within) for f in told] == [
        ("point:A", "temperature", ("unit:R1", "group:G1")),
        ("group:G1", "", ("unit:R1", "group:G1")),
        ("point:C", "flow", ("unit:R2", "pipeline:P1")),
    ]
    [offline] = site.hear(2, status=False)[:1]
    assert offline.within == ()


def test_a_changed_limit_is_applied_from_the_next_reading_on() -> None:
    site = Site(high())
    site.hear(1, ("A", 1, 85.0))
    assert again(site, high(H=88.0, H_reset=86.0), at=2) == []
    assert brief(site.hear(3, ("A", 3, 85.5))) == ["3 limit.high ended H"]


# ---- what a caller has to know


def test_what_was_found_before_a_fault_is_told_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(high(), high(id="B"), PointSpec(id="C", interval=2 * S), PointSpec(id="D", interval=9 * S))
    engine = site.engine
    site.hear(1)
    judge = engine._limits.judge

    def fail_over_b(row: int, *rest: object) -> None:
        judge(row, *rest)
        if row == 1:
            raise ArithmeticError

    monkeypatch.setattr(engine._limits, "judge", fail_over_b)
    with pytest.raises(ArithmeticError):
        site.hear(3, ("A", 3, 85.0), ("B", 3, 85.0), ("A", 4, 95.0))
    told = engine.salvage()
    assert brief(told) == ["3 silent begun", "3 limit.high begun H", "3 limit.high begun H"]
    assert engine.salvage() == []

    site.engine = PointEngine.restore(engine.registry, RULEBOOK, engine.snapshot())
    for after in (engine, site.engine):
        monkeypatch.setattr(engine._limits, "judge", judge)
        ended = Site(engine=after).hear(4, ("A", 4, 50.0), ("B", 4, 50.0))
        assert [(f.id, f.seq, f.phase) for f in ended] == [(f.id, 2, "ended") for f in told[1:]]


def test_a_snapshot_fits_its_own_registry_only() -> None:
    registry = make_registry([high()])
    blob = PointEngine(registry, START, RULEBOOK).snapshot()
    other: Registry = make_registry([high()], version="test-2")
    with pytest.raises(SnapshotError):
        PointEngine.restore(other, RULEBOOK, blob)
    for torn in (b"", blob[:-1], blob[:40], b"\x00" * 40):
        with pytest.raises(SnapshotError):
            PointEngine.restore(registry, RULEBOOK, torn)


@pytest.mark.parametrize(
    ("rows", "values"), [([], 3), ([], 1), ([0], 2), ([0, 1], 1), ([2], 1), ([-3], 1), ([0], 1.5)]
)
def test_a_snapshot_with_an_array_that_does_not_fit_is_refused(rows: list[int], values: float) -> None:
    registry = make_registry([high(), PointSpec(id="B")])
    snapshot = msgspec.msgpack.decode(PointEngine(registry, START, RULEBOOK).snapshot(), type=Snapshot)
    array = Packed(np.array(rows, np.int32).tobytes(), bytes(int(8 * values)))
    snapshot.rows["order"]["newest"] = array
    with pytest.raises(SnapshotError):
        PointEngine.restore(registry, RULEBOOK, msgspec.msgpack.encode(snapshot))


def test_time_does_not_go_back() -> None:
    engine = PointEngine(make_registry([high()]), START, RULEBOOK)
    with pytest.raises(ValueError, match="goes back"):
        engine.advance(START - 1)


def test_no_points_at_all() -> None:
    engine = PointEngine(make_registry([]), START, RULEBOOK)
    assert engine.advance(START + MINUTE) == []
    assert engine.next_deadline() is None
    assert PointEngine.restore(engine.registry, RULEBOOK, engine.snapshot()).now == START + MINUTE
