"""The compound engine: each operator in the domain's words, and the whole against the plain model."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from registry.clock import DAY, HOUR, MINUTE, SECOND
from registry.model import Cell, Registry
from streams.compound import CompoundEngine
from streams.engine import SnapshotError
from streams.finding import Ask, Finding, Phase, Tier, finding_id
from streams.rulebook import (
    All,
    Any,
    AtLeast,
    CompoundRule,
    Condition,
    For,
    Not,
    Pattern,
    Rulebook,
    Sequence,
    Within,
)
from tests.build import CELLS, PointSpec, code, make_registry
from tests.model.compound import CompoundModel

START = 1_795_248_000 * SECOND
ONE, TWO = code(1), code(2)

HAIZHOU = (
    *CELLS,
    Cell("village-2", "港西村", "village", "town-1"),
    Cell("district-2", "西海区", "district", "city"),
)
"""city → district-1 → town-1 → village-1, village-2; city → district-2."""


def registry_of(version: str = "v0", two: str = "village-2", cells: Iterable[Cell] = HAIZHOU) -> Registry:
    """Two enterprises with units R1 and R2; the second lies in the cell ``two``."""
    points = [PointSpec(id=unit, unit=unit) for unit in ("R1", "R2")]
    return make_registry(
        {ONE: points, TWO: points}, cells=cells, cell_of={ONE: "village-1", TWO: two}, version=version
    )


def rule(
    id: str,
    when: Condition,
    *,
    scope: str = "unit",
    topic: str = "",
    tier: Tier | None = Tier.II,
    **more: object,
) -> CompoundRule:
    say = {"zh": f"{id} 成立", "en": f"{id} holds"}
    return CompoundRule(id=id, topic=topic or id, scope=scope, when=when, tier=tier, say=say, **more)


def book(*rules: CompoundRule) -> Rulebook:
    return Rulebook(tiers={}, compound=rules)


# ---- the operators, in the domain's words


class Site:
    """Says what other rules found, and keeps what the engine told. Times are seconds after START."""

    def __init__(self, *rules: CompoundRule, registry: Registry | None = None) -> None:
        self.registry = registry or registry_of()
        self.engine = CompoundEngine(self.registry, book(*rules), START)
        self.open: dict[str, Finding] = {}
        self.told: list[Finding] = []

    def begins(self, who: str, at: float, known: float | None = None, **more: object) -> None:
        """who: "RULE SUBJECT", in unit R1 if nothing else is said. known: when it arrives, if not at once."""
        what, subject = who.split()
        time = START + int(at * SECOND)
        whole = {"enterprise": ONE, "within": ("unit:R1",), "tier": Tier.IV, **more}
        id = finding_id(what, str(whole["enterprise"]), subject, time)
        finding = Finding(
            id=id,
            seq=1,
            rule=what,
            subject=subject,
            phase=Phase.BEGUN,
            since=time,
            time=time,
            arrival=0,
            **whole,
        )
        self.say(who, finding, at if known is None else known)

    def goes_on(self, who: str, phase: Phase, at: float, known: float | None = None, **more: object) -> None:
        last = self.open[who]
        time = START + int(at * SECOND)
        finding = msgspec.structs.replace(last, seq=last.seq + 1, phase=phase, time=time, **more)
        self.say(who, finding, at if known is None else known)

    def ends(self, who: str, at: float, known: float | None = None) -> None:
        self.goes_on(who, Phase.ENDED, at, known)

    def unknown(self, who: str, at: float) -> None:
        self.goes_on(who, Phase.UNKNOWN, at)

    def resumes(self, who: str, at: float) -> None:
        self.goes_on(who, Phase.RESUMED, at)

    def say(self, who: str, finding: Finding, known: float) -> None:
        now = START + int(known * SECOND)
        self.open[who] = msgspec.structs.replace(finding, arrival=now)
        self.told += self.engine.apply([self.open[who]], now)

    def wait(self, until: float) -> None:
        self.told += self.engine.advance(START + int(until * SECOND))

    def heard(self) -> list[tuple[str, str, float]]:
        """What was told since the last time: phase, rule that applied, seconds after START."""
        told, self.told = self.told, []
        return [(str(f.phase), f.level, (f.time - START) / SECOND) for f in told]


GAS = Pattern("limit.high", levels=("HH",), kinds=("combustible_gas",))
FAN_STOPPED = Pattern("state", kinds=("fan",))
VALVE_CLOSED = Pattern("state", kinds=("valve",))
PRESSURE = Pattern("rate", kinds=("pressure",))
TEMPERATURE = Pattern("rate", kinds=("temperature",))
PERMIT = Pattern("permit.hot_work")
LICENCE = Pattern("licence.expired")
STORM = Pattern("warning.storm")
HAZARD = Pattern("unit.major_hazard")

LEAK = {"kind": "combustible_gas", "level": "HH", "tier": Tier.II}


def test_overdue_vessel_with_too_much_ammonia_asks_for_a_joint_inspection() -> None:
    ask = Ask("joint-inspection", "market-regulation", ("emergency-management", "fire"))
    overdue, overstored = Pattern("equipment.overdue"), Pattern("chemical.overstored")
    site = Site(
        rule(
            "overdue-and-overstored",
            All((overdue, overstored)),
            scope="enterprise",
            clause="TSG 21",
            asks=(ask,),
        )
    )
    site.begins(
        "chemical.overstored chemical:7664-41-7", 10, kind="7664-41-7", value=48.0, limit=40.0, unit="t"
    )
    assert site.told == []
    site.begins("equipment.overdue equipment:V-101", 20, kind="pressure_vessel", name="氨罐 V-101", known=21)
    [told] = site.told
    assert (told.rule, told.phase, told.tier) == ("compound.overdue-and-overstored", "begun", Tier.II)
    assert (told.enterprise, told.subject, told.name) == (ONE, f"enterprise:{ONE}", "企业 1")
    known = START + 21 * SECOND  # what a record says of an earlier time is not late news
    assert (told.since, told.time, told.arrival) == (START + 20 * SECOND, known, known)
    assert (told.level, told.clause, told.asks) == ("overdue-and-overstored", "TSG 21", (ask,))
    assert told.why["en"] == "overdue-and-overstored holds"
    assert [(g.rule, g.subject, g.value, g.limit) for g in told.grounds] == [
        ("equipment.overdue", "equipment:V-101", None, None),
        ("chemical.overstored", "chemical:7664-41-7", 48.0, 40.0),
    ]


def test_all_ends_when_one_ends_and_its_grounds_stay() -> None:
    site = Site(rule("gas-and-fan", All((GAS, FAN_STOPPED))))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("state point:FAN-1", 2, kind="fan")
    grounds = site.told[0].grounds
    site.ends("state point:FAN-1", 5, known=6)
    assert site.told[1].grounds == grounds
    assert site.heard() == [("begun", "gas-and-fan", 2.0), ("ended", "gas-and-fan", 5.0)]


def test_findings_of_other_units_and_enterprises_do_not_meet() -> None:
    site = Site(rule("gas-and-fan", All((GAS, FAN_STOPPED))))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("state point:FAN-2", 2, kind="fan", within=("unit:R2",))
    site.begins("state point:FAN-1", 3, kind="fan", enterprise=TWO)
    site.begins("state point:FAN-3", 4, kind="fan", within=())  # a device without a unit is nobody's
    assert site.told == []


def test_any_of_two_is_enough_and_names_only_what_holds() -> None:
    site = Site(rule("runaway", All((VALVE_CLOSED, Any((PRESSURE, TEMPERATURE))))))
    site.begins("state point:XV-1", 1, kind="valve")
    site.begins("rate point:TI-1", 2, kind="temperature")
    assert [g.subject for g in site.told[0].grounds] == ["point:TI-1", "point:XV-1"]
    site.begins("rate point:PI-1", 3, kind="pressure")
    site.ends("rate point:TI-1", 4)
    assert site.heard() == [("begun", "runaway", 2.0)]
    site.ends("rate point:PI-1", 5)
    assert site.heard() == [("ended", "runaway", 5.0)]


def test_not_holds_where_nothing_is_found_and_not_where_it_is_unknown() -> None:
    gas_test = Pattern("certificate.gas_free")
    site = Site(rule("hot-work-without-gas-test", All((PERMIT, Not(gas_test)))))
    site.begins("permit.hot_work permit:1", 1)
    site.begins("certificate.gas_free certificate:1", 5)
    assert site.heard() == [
        ("begun", "hot-work-without-gas-test", 1.0),
        ("ended", "hot-work-without-gas-test", 5.0),
    ]
    site.unknown("certificate.gas_free certificate:1", 6)
    assert site.told == []
    site.ends("certificate.gas_free certificate:1", 9)
    assert site.told[0].since == START + 9 * SECOND


def test_two_detectors_of_one_unit() -> None:
    site = Site(rule("two-detectors", AtLeast(2, GAS)))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-2", 2, **{**LEAK, "level": "H"})
    assert site.told == []
    site.goes_on("limit.high point:GD-2", Phase.WORSENED, 3, level="HH", tier=Tier.II)
    site.begins("limit.high point:GD-3", 4, **LEAK)
    site.ends("limit.high point:GD-1", 5)
    assert site.heard() == [("begun", "two-detectors", 3.0)]
    site.goes_on("limit.high point:GD-2", Phase.EASED, 6, level="H", tier=Tier.IV)
    assert site.heard() == [("ended", "two-detectors", 6.0)]


@pytest.mark.parametrize(
    ("different", "scope", "others", "holds"),
    [
        ("subject", "enterprise", {"within": ("unit:R1",)}, True),
        ("unit", "enterprise", {"within": ("unit:R1",)}, False),
        ("unit", "enterprise", {"within": ("unit:R2",)}, True),
        ("enterprise", "cell:town", {"within": ("unit:R2",)}, False),
        ("enterprise", "cell:town", {"enterprise": TWO}, True),
        ("enterprise", "cell:village", {"enterprise": TWO}, False),
        ("enterprise", "neighbours", {"enterprise": TWO}, True),
    ],
)
def test_what_differs_counts(different: str, scope: str, others: dict[str, object], holds: bool) -> None:
    site = Site(rule("several", AtLeast(2, GAS, different), scope=scope))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-2", 2, **LEAK, **others)
    assert bool(site.told) == holds


def test_a_pattern_of_templates_hears_only_points_of_those() -> None:
    warm = Pattern("limit.high", kinds=("temperature",), templates=("temperature.cold_room",))
    site = Site(rule("warm", warm))
    reactor = {"kind": "temperature", "template": "temperature"}
    site.begins("limit.high point:TI-1", 1, **reactor)
    site.begins("limit.high point:TI-2", 2, **{**reactor, "template": "temperature.cold_room"})
    assert site.heard() == [("begun", "warm", 2.0)]
    site.goes_on("limit.high point:TI-1", Phase.WORSENED, 3, template="temperature.cold_room")
    site.ends("limit.high point:TI-2", 4)
    assert site.heard() == [("ended", "warm", 4.0)], "it is as it was when it began"


def test_who_hangs_higher_in_the_grid_is_a_neighbour_of_all_below() -> None:
    """One lies in a village of the town; nobody says in which village of the district the other does."""
    neighbours = rule("neighbours", AtLeast(2, GAS, "enterprise"), scope="neighbours")
    site = Site(neighbours, registry=registry_of(two="town-1"))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-1", 2, **LEAK, enterprise=TWO)
    assert [told.subject for told in site.told] == ["cell:town-1"]


def test_neighbouring_gas_cells_are_found_in_their_town() -> None:
    site = Site(rule("neighbours", AtLeast(2, GAS, "enterprise"), scope="cell:town"))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-1", 2, **LEAK, enterprise=TWO)
    [told] = site.told
    assert (told.enterprise, told.subject, told.name, told.within) == ("", "cell:town-1", "港口镇", ())


def test_within_remembers_what_is_over() -> None:
    site = Site(rule("gas-after-permit", Within(60 * SECOND, (PERMIT, GAS))))
    site.begins("permit.hot_work permit:1", 0)
    site.ends("permit.hot_work permit:1", 10)
    site.begins("limit.high point:GD-1", 69, **LEAK)
    assert [g.subject for g in site.told[0].grounds] == ["point:GD-1", "permit:1"]
    assert site.heard() == [("begun", "gas-after-permit", 69.0)]
    assert site.engine.next_deadline() == START + 70 * SECOND
    site.wait(70)
    assert site.heard() == [("ended", "gas-after-permit", 70.0)]
    site.begins("permit.hot_work permit:2", 75)
    assert site.heard() == [("begun", "gas-after-permit", 75.0)]


def test_for_counts_from_the_event_time_and_a_break_begins_anew() -> None:
    site = Site(rule("lasting-leak", For(MINUTE, GAS)))
    site.begins("limit.high point:GD-1", 0, known=2, **LEAK)
    site.ends("limit.high point:GD-1", 50)
    site.begins("limit.high point:GD-1", 55, **LEAK)
    site.wait(61)
    assert site.told == []
    assert site.engine.next_deadline() == START + 115 * SECOND
    site.wait(115)
    assert site.told[0].since == START + 55 * SECOND  # before the delay, as of any finding
    assert site.heard() == [("begun", "lasting-leak", 115.0)]


def test_for_goes_on_from_one_detector_to_the_next() -> None:
    site = Site(rule("lasting-leak", For(MINUTE, GAS)))
    site.begins("limit.high point:GD-1", 0, **LEAK)
    site.begins("limit.high point:GD-2", 30, **LEAK)
    site.ends("limit.high point:GD-1", 40)
    site.wait(60)
    assert site.told[0].since == START


def test_unknown_keeps_a_for_running_but_only_a_known_value_completes_it() -> None:
    site = Site(rule("lasting-leak", For(MINUTE, GAS)))
    site.begins("limit.high point:GD-1", 0, **LEAK)
    site.unknown("limit.high point:GD-1", 20)
    site.wait(80)
    assert site.told == []
    site.resumes("limit.high point:GD-1", 90)
    assert site.heard() == [("begun", "lasting-leak", 90.0)]
    site.unknown("limit.high point:GD-1", 100)
    site.ends("limit.high point:GD-1", 110)
    assert site.heard() == [("unknown", "lasting-leak", 100.0), ("ended", "lasting-leak", 110.0)]


def test_the_example_of_the_page() -> None:
    site = Site(rule("gas-without-permit", For(10 * MINUTE, All((GAS, Not(PERMIT))))))
    site.begins("limit.high point:GD-1", 0, **LEAK)
    site.unknown("limit.high point:GD-1", 240)
    site.begins("limit.high point:GD-2", 420, **LEAK)
    site.wait(600)
    assert site.told[0].since == START
    assert [g.subject for g in site.told[0].grounds] == ["point:GD-2"]
    site.begins("permit.hot_work permit:1", 1200)
    assert site.heard() == [("begun", "gas-without-permit", 600.0), ("ended", "gas-without-permit", 1200.0)]
    site.ends("permit.hot_work permit:1", 1800)
    assert site.engine.next_deadline() == START + 2400 * SECOND


def test_what_is_unknown_counts_for_a_for_as_it_was_last_known() -> None:
    site = Site(rule("gas-without-permit", For(MINUTE, All((GAS, Not(PERMIT))))))
    site.begins("permit.hot_work permit:1", 0)
    site.begins("limit.high point:GD-1", 10, **LEAK)
    site.unknown("permit.hot_work permit:1", 20)
    site.ends("permit.hot_work permit:1", 90)
    assert site.told == []
    assert site.engine.next_deadline() == START + 150 * SECOND


def test_late_news_of_the_end_undoes_a_for_that_is_not_yet_told() -> None:
    site = Site(rule("lasting-leak", For(MINUTE, GAS)))
    site.begins("limit.high point:GD-1", 0, **LEAK)
    site.ends("limit.high point:GD-1", 50, known=70)
    assert site.told == []


RUNAWAY = Sequence(5 * MINUTE, (VALVE_CLOSED, PRESSURE, TEMPERATURE))


def test_sequence_goes_by_event_times_whatever_came_first() -> None:
    site = Site(rule("runaway", RUNAWAY, tier=Tier.I))
    site.begins("rate point:TI-1", 30, known=31, kind="temperature")
    site.begins("state point:XV-1", 10, known=40, kind="valve")
    assert site.told == []
    site.begins("rate point:PI-1", 20, known=41, kind="pressure")
    assert site.told[0].since == START + 30 * SECOND
    assert [g.subject for g in site.told[0].grounds] == ["point:TI-1", "point:PI-1", "point:XV-1"]
    site.ends("state point:XV-1", 50)
    site.wait(5000)
    assert site.heard() == [("begun", "runaway", 20.0)]
    site.ends("rate point:TI-1", 5001)
    assert site.heard() == [("ended", "runaway", 5001.0)]


def test_sequence_in_another_order_or_too_slow_is_none() -> None:
    site = Site(rule("runaway", RUNAWAY))
    site.begins("rate point:PI-1", 10, kind="pressure")
    site.begins("state point:XV-1", 20, kind="valve")
    site.begins("rate point:TI-1", 30, kind="temperature")
    assert site.told == []
    site.begins("rate point:PI-2", 40, kind="pressure")
    site.begins("rate point:TI-2", 321, kind="temperature")
    assert site.told == []
    site.begins("rate point:TI-3", 321, kind="temperature", known=322)
    assert site.told == []


def test_a_second_valve_counts_though_one_was_closed_long_before() -> None:
    site = Site(rule("runaway", RUNAWAY))
    site.begins("state point:XV-1", -9999, known=0, kind="valve")
    site.begins("state point:XV-2", 10, kind="valve")
    site.begins("rate point:PI-1", 10, kind="pressure")  # in one payload: at the same time
    site.begins("rate point:TI-1", 20, kind="temperature")
    assert site.heard() == [("begun", "runaway", 20.0)]


# ---- what is seen from where, and what is told


def test_expired_licence_counts_in_every_unit_that_runs() -> None:
    running = Pattern("state", kinds=("speed",))
    site = Site(rule("running-without-licence", All((LICENCE, running))))
    site.begins("licence.expired licence:1", 1, within=())
    assert site.told == []
    site.begins("state point:S-1", 2, kind="speed")
    site.begins("state point:S-2", 3, kind="speed", within=("unit:R2",))
    site.begins("state point:S-1", 4, kind="speed", enterprise=TWO)
    assert [f.subject for f in site.told] == ["unit:R1", "unit:R2"]
    assert (site.told[0].within, site.told[0].name) == (("unit:R1",), "装置 R1")


def test_storm_over_a_district_meets_the_major_hazards_within() -> None:
    site = Site(
        rule("storm", All((STORM, HAZARD)), scope="enterprise"), registry=registry_of(two="district-2")
    )
    for enterprise in (ONE, TWO):
        site.begins("unit.major_hazard unit:R1", 1, enterprise=enterprise, level="1")
    site.begins("warning.storm cell:district-1", 2, enterprise="", within=())
    assert [f.enterprise for f in site.told] == [ONE]
    site.ends("warning.storm cell:district-1", 9)
    assert site.heard() == [("begun", "storm", 2.0), ("ended", "storm", 9.0)]


def test_what_was_over_the_district_a_while_ago_counts_in_a_unit_that_is_first_heard_of_now() -> None:
    site = Site(rule("flood-after-storm", Within(HOUR, (STORM, PRESSURE))))
    site.begins("warning.storm cell:district-1", 0, enterprise="", within=())
    site.ends("warning.storm cell:district-1", 100)
    site.begins("rate point:PI-1", 200, kind="pressure")
    assert [g.subject for g in site.told[0].grounds] == ["point:PI-1", "cell:district-1"]


def test_the_stricter_rule_of_a_topic_wins_and_says_so() -> None:
    mild = rule("gas", GAS, topic="gas", tier=Tier.III)
    strict = rule("gas-and-fan", All((GAS, FAN_STOPPED)), topic="gas", tier=Tier.I, clause="GB 50493 6.1")
    site = Site(mild, strict)
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("state point:FAN-1", 2, kind="fan")
    site.ends("state point:FAN-1", 3)
    told = site.told
    assert len({f.id for f in told}) == 1
    assert [(f.seq, f.phase, f.level, f.tier) for f in told] == [
        (1, "begun", "gas", Tier.III),
        (2, "worsened", "gas-and-fan", Tier.I),
        (3, "eased", "gas", Tier.III),
    ]
    assert told[1].clause == "GB 50493 6.1"
    assert told[1].why["zh"] == "gas-and-fan 成立"


def test_the_stricter_rule_is_not_given_up_while_it_is_unknown() -> None:
    mild, strict = (
        rule("gas", GAS, topic="gas", tier=Tier.III),
        rule("fan", FAN_STOPPED, topic="gas", tier=Tier.I),
    )
    site = Site(mild, strict)
    site.begins("state point:FAN-1", 1, kind="fan")
    site.begins("limit.high point:GD-1", 2, **LEAK)
    site.unknown("state point:FAN-1", 3)
    site.wait(100)
    site.ends("state point:FAN-1", 101)
    assert site.heard() == [("begun", "fan", 1.0), ("unknown", "fan", 3.0), ("eased", "gas", 101.0)]


def test_of_equals_the_first_by_id_applies() -> None:
    site = Site(rule("b", GAS, topic="gas"), rule("a", GAS, topic="gas"))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    assert site.heard() == [("begun", "a", 1.0)]


def test_a_hazard_corrected_to_major_counts_as_one_until_it_is_corrected_back() -> None:
    site = Site(rule("major", Pattern("hazard", levels=("major",)), scope="enterprise"))
    site.begins("hazard hazard:1", 1, level="general")
    site.goes_on("hazard hazard:1", Phase.CORRECTED, 5, level="major")
    assert site.told[0].since == START + 5 * SECOND
    assert site.heard() == [("begun", "major", 5.0)]
    site.goes_on("hazard hazard:1", Phase.CORRECTED, 9, level="general")
    assert site.heard() == [("ended", "major", 9.0)]


def test_a_permit_moved_to_another_unit_counts_there_and_no_more_where_it_was() -> None:
    site = Site(rule("hot-work", PERMIT))
    site.begins("permit.hot_work permit:1", 1, within=("unit:R2",))
    site.goes_on("permit.hot_work permit:1", Phase.CORRECTED, 5, within=("unit:R1",))
    assert [(f.subject, f.phase, f.time) for f in site.told] == [
        ("unit:R2", "begun", START + 1 * SECOND),
        ("unit:R1", "begun", START + 5 * SECOND),
        ("unit:R2", "ended", START + 5 * SECOND),
    ]


def test_a_storm_warning_corrected_to_red_is_red() -> None:
    site = Site(rule("red", Pattern("warning.storm", levels=("red",)), scope="cell:district"))
    site.begins("warning.storm cell:district-1", 1, enterprise="", within=(), level="blue")
    site.goes_on("warning.storm cell:district-1", Phase.CORRECTED, 5, level="red")
    assert site.heard() == [("begun", "red", 5.0)]


def test_what_is_corrected_to_another_kind_counts_as_that_and_stays_unknown() -> None:
    site = Site(rule("fan", FAN_STOPPED), rule("valve", VALVE_CLOSED))
    site.begins("state point:1", 1, kind="fan")
    site.unknown("state point:1", 2)
    site.goes_on("state point:1", Phase.CORRECTED, 5, kind="valve")
    assert site.heard() == [("begun", "fan", 1.0), ("unknown", "fan", 2.0), ("ended", "fan", 5.0)]
    site.resumes("state point:1", 6)
    assert site.heard() == [("begun", "valve", 6.0)]


def test_a_detector_moved_to_another_unit_is_one_of_two_units_then() -> None:
    site = Site(rule("two-units", AtLeast(2, GAS, "unit"), scope="enterprise"))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-2", 2, **LEAK)
    site.goes_on("limit.high point:GD-2", Phase.CORRECTED, 5, within=("unit:R2",))
    assert site.heard() == [("begun", "two-units", 5.0)]


def test_what_rests_on_a_corrected_finding_ends_with_it() -> None:
    site = Site(rule("overdue", Pattern("equipment.overdue")))
    site.begins("equipment.overdue equipment:V-1", 1)
    site.goes_on("equipment.overdue equipment:V-1", Phase.CORRECTED, 0, known=5)
    assert site.heard() == [("begun", "overdue", 1.0)]
    site.ends("equipment.overdue equipment:V-1", 0, known=5)
    assert site.heard() == [("ended", "overdue", 5.0)]


def test_late_evidence_and_compound_findings_are_no_operands() -> None:
    site = Site(rule("gas", GAS), rule("more", Pattern("compound.gas")))
    site.begins("limit.high point:GD-1", 1, **LEAK, late=True)
    assert site.told == []
    site.begins("compound.gas unit:R1", 2)
    assert site.told == []


def test_two_findings_that_held_since_the_same_time_have_different_ids() -> None:
    site = Site(rule("gas", GAS))
    for known in (1, 3):
        site.begins("limit.high point:GD-1", 0, known=known, **LEAK)
        site.ends("limit.high point:GD-1", known + 0.5)
    first, _, second, _ = site.told
    assert second.since == first.since + 1
    assert second.id == finding_id("compound.gas", ONE, "unit:R1", second.since) != first.id


def test_no_more_than_twenty_grounds_the_strictest_and_newest_first() -> None:
    site = Site(rule("many", AtLeast(25, GAS)))
    for number in range(25):
        tier = Tier.III if number == 3 else Tier.IV
        site.begins(f"limit.high point:GD-{number}", number, **{**LEAK, "tier": tier})
    [told] = site.told
    assert [g.subject for g in told.grounds[:3]] == ["point:GD-3", "point:GD-24", "point:GD-23"]
    assert (len(told.grounds), told.evidence) == (20, ("grounds 25",))


def test_time_of_a_device_that_is_ahead_is_not_believed() -> None:
    site = Site(rule("gas", GAS))
    site.begins("limit.high point:GD-1", 50, known=10, **LEAK)
    assert (site.told[0].since, site.told[0].time) == (START + 10 * SECOND,) * 2


def test_a_rule_that_is_no_more_is_withdrawn_and_a_changed_one_is_judged_anew() -> None:
    gas, fan = rule("gas", GAS), rule("fan", FAN_STOPPED)
    site = Site(gas, fan)
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("state point:FAN-1", 2, kind="fan")
    site.heard()
    two = rule("gas", AtLeast(2, GAS))
    told = site.engine.reconfigure(registry_of("v1"), book(two), START + 9 * SECOND)
    assert [(f.level, f.phase, f.evidence, f.version) for f in told] == [
        ("fan", "withdrawn", ("v1",), "v1"),
        ("gas", "ended", (), "v1"),
    ]


def test_a_for_that_is_made_later_counts_from_the_beginning_over_what_was_unknown() -> None:
    site = Site()
    site.begins("limit.high point:GD-1", 0, **LEAK)
    site.unknown("limit.high point:GD-1", 20)
    site.resumes("limit.high point:GD-1", 50)
    lasting = book(rule("lasting-leak", For(MINUTE, GAS)))
    [told] = site.engine.reconfigure(registry_of("v1"), lasting, START + 70 * SECOND)
    assert (told.phase, told.since) == (Phase.BEGUN, START)
    assert told.time == told.arrival, "the rule is new, and nothing was late"


def test_a_rule_whose_tier_changes_says_so_under_the_same_id() -> None:
    site = Site(rule("gas", GAS))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    [told] = site.engine.reconfigure(
        registry_of("v1"), book(rule("gas", GAS, tier=Tier.I)), START + 9 * SECOND
    )
    assert (told.id, told.phase, told.tier) == (site.told[0].id, "worsened", Tier.I)


def test_an_unchanged_rule_keeps_what_it_was_waiting_for() -> None:
    lasting = rule("lasting-leak", For(DAY, GAS))
    site = Site(lasting)
    site.begins("limit.high point:GD-1", 0, **LEAK)
    for number in range(1, 24):
        assert site.engine.reconfigure(registry_of(f"v{number}"), book(lasting), START + number * HOUR) == []
    assert site.engine.next_deadline() == START + DAY


def test_an_enterprise_that_comes_into_another_district_counts_there() -> None:
    neighbours = rule("neighbours", AtLeast(2, GAS, "enterprise"), scope="cell:district")
    storm = rule("storm", All((STORM, GAS)))
    site = Site(neighbours, storm)
    site.begins("limit.high point:GD-1", 1, **LEAK)
    site.begins("limit.high point:GD-1", 2, **LEAK, enterprise=TWO)
    site.begins("warning.storm cell:district-2", 3, enterprise="", within=())
    assert [(f.level, f.phase, f.subject) for f in site.told] == [("neighbours", "begun", "cell:district-1")]
    told = site.engine.reconfigure(
        registry_of("v1", two="district-2"), book(neighbours, storm), START + 9 * SECOND
    )
    assert [(f.level, f.phase, f.enterprise, f.subject) for f in told] == [
        ("neighbours", "ended", "", "cell:district-1"),
        ("storm", "begun", TWO, "unit:R1"),
    ]


def test_an_enterprise_that_comes_into_a_district_sees_what_began_there_before() -> None:
    flood = rule("flood", Sequence(MINUTE, (STORM, PRESSURE)))
    site = Site(flood)
    site.begins("warning.storm cell:district-2", 1, enterprise="", within=())
    site.begins("rate point:PI-1", 2, kind="pressure", enterprise=TWO)
    assert site.told == []
    [told] = site.engine.reconfigure(registry_of("v1", two="district-2"), book(flood), START + 9 * SECOND)
    assert (told.phase, told.enterprise, told.since) == ("begun", TWO, START + 2 * SECOND)


def test_a_snapshot_that_does_not_fit_is_refused() -> None:
    site = Site(rule("gas", GAS))
    site.begins("limit.high point:GD-1", 1, **LEAK)
    blob = site.engine.snapshot()
    for registry, torn in ((registry_of("v1"), blob), (site.registry, blob[:-1]), (site.registry, b"")):
        with pytest.raises(SnapshotError):
            CompoundEngine.restore(registry, book(rule("gas", GAS)), torn)
    with pytest.raises(SnapshotError):
        CompoundEngine.restore(site.registry, book(), blob)


def test_time_does_not_go_back() -> None:
    engine = Site().engine
    with pytest.raises(ValueError, match="time goes back"):
        engine.advance(START - 1)


# ---- against the model


@dataclass(frozen=True)
class Source:
    """What may have one open finding at a time."""

    rule: str
    kind: str
    enterprise: str
    subject: str
    within: tuple[str, ...] = ()
    template: str = ""


SOURCES = (
    Source("a", "x", ONE, "point:1", ("unit:R1",), "t"),
    Source("a", "y", ONE, "point:2", ("unit:R1", "group:G1"), "u"),
    Source("a", "x", ONE, "point:3", ("unit:R2",)),
    Source("b", "x", ONE, "point:1", ("unit:R1",)),
    Source("b", "y", ONE, "unit:R2"),
    Source("b", "x", ONE, "licence:1"),
    Source("c", "x", ONE, "equipment:1"),
    Source("a", "x", TWO, "point:1", ("unit:R1",)),
    Source("b", "x", TWO, "point:2"),
    Source("c", "y", TWO, "licence:1"),
    Source("c", "x", "", "cell:district-1"),
    Source("b", "y", "", "cell:village-2"),
    Source("a", "y", "", "cell:city"),
)


@dataclass(frozen=True)
class Told:
    """What a source says: begun if nothing is open, else ``phase``; ``age`` µs ago.

    kind, within: what a corrected or worsened finding is from now on; "" and None: as it was.
    """

    source: int
    phase: str
    age: int
    level: str
    tier: Tier | None
    kind: str
    within: tuple[str, ...] | None


@dataclass(frozen=True)
class Call:
    after: int
    messages: tuple[Told, ...]


@dataclass(frozen=True)
class Reconfigured:
    """Other rules (none: the same), or another grid."""

    after: int
    rules: tuple[CompoundRule, ...]
    two: str
    with_village: bool


@dataclass(frozen=True)
class Restarted:
    pass


LEVELS = st.sampled_from([(), (), ("H", "HH"), ("HH",)])
KINDS = st.sampled_from([(), (), (), ("x",), ("x", "y")])
TEMPLATES = st.sampled_from([(), (), (), (), ("t",), ("t", "u")])
found = st.builds(Pattern, st.sampled_from("aaabbc"), LEVELS, KINDS, TEMPLATES)
counts = st.builds(AtLeast, st.integers(1, 3), found, st.sampled_from(["subject", "unit", "enterprise"]))
times = st.integers(1, 5)
sequences = st.builds(Sequence, times, st.lists(found, min_size=1, max_size=3).map(tuple))


def operators(of: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(of, min_size=2, max_size=2).map(tuple)
    return (
        st.builds(All, several)
        | st.builds(Any, several)
        | st.builds(Not, of)
        | st.builds(Within, times, several)
        | st.builds(For, times, of)
    )


conditions = st.recursive(found | counts | sequences, operators, max_leaves=4)
scopes = st.sampled_from(["unit", "unit", "enterprise", "cell:district", "cell:town", "neighbours", "group"])


def rules_of(of: st.SearchStrategy[Condition]) -> st.SearchStrategy[tuple[CompoundRule, ...]]:
    tiers = st.sampled_from([None, *Tier])
    one = st.builds(
        lambda when, scope, topic, tier: rule("", when, scope=scope, topic=topic, tier=tier),
        of,
        scopes,
        st.sampled_from("tu"),
        tiers,
    )
    return st.lists(one, min_size=1, max_size=3).map(
        lambda found: tuple(msgspec.structs.replace(rule, id=f"rule-{n}") for n, rule in enumerate(found))
    )


PHASES = ["ended"] * 3 + [
    "worsened",
    "eased",
    "unknown",
    "unknown",
    "resumed",
    *["corrected"] * 4,
    "withdrawn",
    "late",
]
messages = st.builds(
    Told,
    st.sampled_from([0, 1, 1, 3, 3, 4, *range(len(SOURCES))]),
    st.sampled_from(PHASES),
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 6, -2]),
    st.sampled_from(["H", "HH", ""]),
    st.sampled_from([None, *Tier]),
    st.sampled_from(["", "x", "y"]),
    st.sampled_from(
        [None, None, (), ("unit:R1",), ("unit:R2",), ("unit:R1", "group:G1"), ("unit:R2", "group:G2")]
    ),
)
calls = st.builds(
    Call,
    st.sampled_from([0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 5, 7, HOUR, HOUR + 9]),
    st.integers(0, 4).flatmap(lambda size: st.lists(messages, min_size=size, max_size=size)).map(tuple),
)
Step = Call | Reconfigured | Restarted


def stories(of: st.SearchStrategy[Condition]) -> st.SearchStrategy[list[Step]]:
    changed = st.builds(
        Reconfigured,
        st.sampled_from([0, 1, 3]),
        st.just(()) | rules_of(of),
        st.sampled_from(["village-2", "district-2", "village-1"]),
        st.booleans(),
    )
    step = st.sampled_from([calls] * 14 + [st.just(Restarted()), changed, changed]).flatmap(lambda step: step)
    return st.integers(1, 40).flatmap(lambda length: st.lists(step, min_size=length, max_size=length))


class World:
    """Turns what a story tells into messages."""

    def __init__(self) -> None:
        self.open: dict[int, Finding] = {}
        self.begun = 0

    def message(self, told: Told, now: int) -> Finding:
        source, last = SOURCES[told.source], self.open.get(told.source)
        time = now - told.age
        if last is None or told.phase == "late":
            self.begun += 1
            finding = Finding(
                id=finding_id(source.rule, source.enterprise, source.subject, self.begun),
                seq=1,
                rule=source.rule,
                enterprise=source.enterprise,
                subject=source.subject,
                phase=Phase.BEGUN,
                since=time,
                time=now,
                arrival=now,
                level=told.level,
                tier=told.tier,
                kind=source.kind,
                template=source.template,
                within=source.within,
                late=told.phase == "late",
            )
            if finding.late:
                return finding
        else:
            finding = msgspec.structs.replace(
                last,
                seq=last.seq + 1,
                phase=Phase(told.phase),
                time=time,
                arrival=now,
                value=float(self.begun),
            )
            if told.phase in ("worsened", "eased", "corrected"):
                finding = msgspec.structs.replace(finding, level=told.level, tier=told.tier)
            if told.phase in ("worsened", "corrected"):
                stays = told.within is None or source.subject.startswith("cell:")
                within = last.within if stays else told.within
                finding = msgspec.structs.replace(finding, kind=told.kind or last.kind, within=within)
        if told.phase in ("ended", "withdrawn") and last is not None:
            del self.open[told.source]
        else:
            self.open[told.source] = finding
        return finding


def registry_after(step: Reconfigured, version: str) -> Registry:
    if step.with_village:
        return registry_of(version, two=step.two)
    cells = tuple(
        replace(cell, parent="district-1") if cell.id == "village-1" else cell
        for cell in HAIZHOU
        if cell.id not in ("town-1", "village-2")
    )
    return registry_of(version, two="district-2", cells=cells)


def hold_honest(engine: CompoundEngine) -> None:
    """Before its deadline, time brings nothing."""
    deadline = engine.next_deadline()
    assert deadline is None or deadline > engine.now
    until = engine.now + 3 * HOUR if deadline is None else deadline - 1
    twin = CompoundEngine.restore(engine.registry, engine.rulebook, engine.snapshot())
    assert twin.advance(until) == []


def hold(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    registry, world, now = registry_of(), World(), START
    engine, model = CompoundEngine(registry, book(*first), now), CompoundModel(registry, book(*first), now)
    told = []
    for number, step in enumerate(story, 1):
        if isinstance(step, Restarted):
            blob = engine.snapshot()
            engine = CompoundEngine.restore(engine.registry, engine.rulebook, blob)
            assert engine.snapshot() == blob
            continue
        now += step.after
        if isinstance(step, Reconfigured):
            registry, rulebook = (
                registry_after(step, f"v{number}"),
                book(*step.rules or engine.rulebook.compound),
            )
            got = engine.reconfigure(registry, rulebook, now)
            expected = model.reconfigure(registry, rulebook, now)
        else:
            findings = [world.message(message, now) for message in step.messages]
            got, expected = engine.apply(findings, now), model.apply(findings, now)
        assert got == expected
        told += got
        if number % 4 == 0:
            hold_honest(engine)
    hold_numbered(told)
    for finding in told:
        event(f"{finding.phase}")


def hold_numbered(told: list[Finding]) -> None:
    seen: dict[str, Finding] = {}
    for finding in told:
        before = seen.get(finding.id)
        assert finding.seq == (before.seq + 1 if before else 1)
        assert (finding.phase == "begun") == (before is None)
        assert before is None or before.phase not in ("ended", "withdrawn")
        assert finding.time <= finding.arrival
        seen[finding.id] = finding


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(SLOW, max_examples=300)
@given(rules_of(conditions), stories(conditions))
def test_engine_equals_model(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=150)
@given(rules_of(sequences | found), stories(sequences))
def test_sequences_equal_model(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    hold(first, story)


wide = rules_of(found | counts | sequences).map(
    lambda rules: tuple(msgspec.structs.replace(rule, scope="cell:district") for rule in rules)
)


@settings(SLOW, max_examples=100)
@given(wide, stories(sequences))
def test_cells_equal_model(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    hold(first, story)


@settings(SLOW, max_examples=150)
@given(rules_of(operators(found | counts)), stories(operators(found)))
def test_each_operator_equals_model(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    hold(first, story)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(SLOW, max_examples=10_000)
@given(rules_of(conditions), stories(conditions))
def test_engine_equals_model_long(first: tuple[CompoundRule, ...], story: list[Step]) -> None:
    hold(first, story)


def shuffled(findings: list[Finding], random: Random) -> list[Finding]:
    """In another order, but the messages of each finding in theirs."""
    order = list(findings)
    random.shuffle(order)
    places: dict[str, list[Finding]] = {}
    for finding in findings:
        places.setdefault(finding.id, []).append(finding)
    return [places[finding.id].pop(0) for finding in order]


@settings(SLOW, max_examples=100)
@given(rules_of(conditions), stories(conditions), st.randoms(use_true_random=False))
def test_order_within_a_call_does_not_matter(
    first: tuple[CompoundRule, ...], story: list[Step], random: Random
) -> None:
    one, other = (CompoundEngine(registry_of(), book(*first), START) for _ in range(2))
    world, now = World(), START
    for step in story:
        if isinstance(step, Call):
            now += step.after
            findings = [world.message(message, now) for message in step.messages]
            assert one.apply(findings, now) == other.apply(shuffled(findings, random), now)
            assert one.snapshot() == other.snapshot()


def standing(told: Iterable[Finding]) -> dict[tuple[str, str, str], Phase]:
    """What is open in the end, by topic and subject, and what was said of it last."""
    last = {(f.rule, f.enterprise, f.subject): f.phase for f in told}
    return {key: phase for key, phase in last.items() if phase not in ("ended", "withdrawn")}


@settings(SLOW, max_examples=100)
@given(rules_of(operators(found)), st.lists(calls, max_size=15), st.randoms(use_true_random=False))
def test_cutting_calls_leads_to_the_same(
    first: tuple[CompoundRule, ...], story: list[Call], random: Random
) -> None:
    whole, cut = (CompoundEngine(registry_of(), book(*first), START) for _ in range(2))
    world, now = World(), START
    told, told_cut = [], []
    for step in story:
        now += step.after
        findings = [world.message(message, now) for message in step.messages]
        told += whole.apply(findings, now)
        at = random.randint(0, len(findings))
        told_cut += cut.apply(findings[:at], now) + cut.apply(findings[at:], now)
    end, end_cut = standing(told), standing(told_cut)
    assert end.keys() <= end_cut.keys()
    assert {end_cut[key] for key in end_cut.keys() - end.keys()} <= {Phase.UNKNOWN}
