"""The ladder: which places are called for an alert, and who is on duty there, in the registry's time zone."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.ladder import DEFAULT, Ladder, covers
from registry.clock import MINUTE
from registry.model import Cell, Contact, Duty, Escalation, Person, Registry
from streams.finding import Tier
from tests.build import PointSpec, code, make_registry

PLANT = code(1)
NOON = int(datetime(2026, 11, 21, 12, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()) * 1_000_000  # a Saturday


def person(id: str, *contacts: str) -> Person:
    return Person(id, id.title(), "en", tuple(Contact("phone", contact) for contact in contacts))


def registry(
    duty: list[Duty] | None = None, people: list[Person] | None = None, zone: str = "Asia/Shanghai"
) -> Registry:
    return make_registry([PointSpec(id="TI-1")], duty=duty, people=people, time_zone=zone)


def places(tier: Tier, **changes: Registry) -> tuple[tuple[str, ...], str]:
    policy = Ladder(changes.get("of", registry())).policy(PLANT, "village-1", tier, NOON)
    return policy.places, policy.told


def test_the_rungs_follow_the_grid_up_to_the_level_of_the_tier() -> None:
    assert places(Tier.IV) == ((PLANT,), "")
    assert places(Tier.III) == ((PLANT, "village-1", "town-1", "district-1"), "district-1")
    assert places(Tier.I) == ((PLANT, "village-1", "town-1", "district-1", "city"), "district-1")


def test_the_district_is_told_and_called_by_its_level_however_deep_it_lies() -> None:
    """One district has its towns right below it, in the other a zone lies above the district."""
    cells = (
        Cell("city", "海州市", "city", ""),
        Cell("d1", "东海区", "district", "city"),
        Cell("t1", "港口镇", "town", "d1"),
        Cell("zone", "开发区", "zone", "city"),
        Cell("d2", "西海区", "district", "zone"),
        Cell("t2", "山口镇", "town", "d2"),
    )
    two = make_registry([PointSpec(id="TI-1")], cells=cells)
    for cell, district in (("t1", "d1"), ("t2", "d2"), ("d2", "d2")):
        policy = Ladder(two).policy(PLANT, cell, Tier.III, NOON)
        assert policy.told == district
        assert policy.places == tuple(dict.fromkeys((PLANT, cell, district)))
    assert Ladder(two).policy(PLANT, "t2", Tier.I, NOON).places == (PLANT, "t2", "d2", "zone", "city")


def test_an_alert_of_a_cell_asks_its_own_duty_officer_and_climbs_from_there() -> None:
    ladder = Ladder(registry())
    town = ladder.policy("", "town-1", Tier.II, NOON)
    assert (town.places, town.told) == (("town-1", "district-1", "city"), "district-1")
    district = ladder.policy("", "district-1", Tier.III, NOON)
    assert (district.places, district.told) == (("district-1",), "")  # nobody is told who is asked
    assert ladder.policy("", "town-1", Tier.IV, NOON).places == ("town-1",)


def test_the_systems_own_alerts_ask_the_administrators_and_climb_nowhere() -> None:
    policy = Ladder(registry()).policy("", "", Tier.I, NOON)
    assert (policy.places, policy.told, policy.manned) == (("system",), "", (True,))


def test_what_the_registry_no_longer_has_is_called_where_it_can_be() -> None:
    policy = Ladder(registry()).policy("gone", "nowhere", Tier.I, NOON)
    assert (policy.places, policy.told, policy.manned) == (("gone",), "", (False,))


def test_times_that_would_never_ask_are_not_taken() -> None:
    made = replace(registry(), escalation={"I": Escalation(0, 0, 0, "", "")})
    first = Ladder(made).policy(PLANT, "town-1", Tier.I, NOON)
    assert (first.confirm_within, first.action_within, first.again_after) == (
        DEFAULT.confirm_within,
        0,
        DEFAULT.confirm_within,
    )
    assert Ladder(made).policy(PLANT, "town-1", Tier.II, NOON).confirm_within == DEFAULT.confirm_within


def test_manned_is_who_can_be_reached_now() -> None:
    people = [person("day", "1"), person("night", "2"), person("mute")]
    duty = [
        Duty(PLANT, "mute"),
        Duty("village-1", "day", 8 * 60, 20 * 60),
        Duty("town-1", "night", 20 * 60, 8 * 60),
        Duty("district-1", "stranger"),
    ]
    made = registry(duty, people)
    assert Ladder(made).policy(PLANT, "village-1", Tier.III, NOON).manned == (False, True, False, False)
    night = NOON + 12 * 60 * MINUTE
    assert Ladder(made).policy(PLANT, "village-1", Tier.III, night).manned == (False, False, True, False)
    assert Ladder(made).on_duty("town-1", night) == (people[1],)


def test_a_person_is_reached_off_duty_but_not_without_a_contact_or_when_gone() -> None:
    reaches = (
        Ladder(registry([], [person("day", "1"), person("mute")])).policy(PLANT, "", Tier.IV, NOON).reaches
    )
    assert [reaches(id) for id in ("day", "mute", "stranger", "")] == [True, False, False, False]


def test_hours_are_those_of_the_registrys_time_zone() -> None:
    duty, people = [Duty("system", "day", 8 * 60, 20 * 60)], [person("day", "1")]
    assert Ladder(registry(duty, people)).on_duty("system", NOON)
    assert not Ladder(registry(duty, people, "America/New_York")).on_duty("system", NOON)


def test_a_person_with_two_duties_at_a_place_is_one_person() -> None:
    made = registry([Duty("system", "ann"), Duty("system", "bob"), Duty("system", "ann", 0, 1439)], [
        person("ann", "1", "2"), person("bob", "3")
    ])  # fmt: skip
    assert [p.id for p in Ladder(made).on_duty("system", NOON)] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("start", "end", "weekday", "minute", "expected"),
    [
        (0, 0, 3, 0, True),  # round the clock
        (0, 0, 3, 1439, True),
        (0, 0, 5, 700, False),  # but not that day
        (480, 1200, 3, 479, False),
        (480, 1200, 3, 480, True),
        (480, 1200, 3, 1199, True),
        (480, 1200, 3, 1200, False),
        (1200, 480, 4, 1200, True),  # Friday's night shift ...
        (1200, 480, 5, 479, True),  # ... goes on into Saturday
        (1200, 480, 5, 480, False),
        (1200, 480, 5, 1200, False),  # none begins on Saturday
        (1200, 480, 0, 100, False),  # nor did one begin on Sunday
    ],
)
def test_covers(start: int, end: int, weekday: int, minute: int, expected: bool) -> None:
    assert covers(Duty("p", "ann", start, end, (0, 1, 2, 3, 4)), weekday, minute) is expected


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 6), st.integers(0, 1439))
def test_a_shift_and_its_complement_cover_the_day_once(a: int, b: int, weekday: int, minute: int) -> None:
    day, night = Duty("p", "x", a, b), Duty("p", "y", b, a)
    if a != b:
        assert covers(day, weekday, minute) != covers(night, weekday, minute)
