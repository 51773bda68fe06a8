"""The intervals of inspections: by kind, grade and calendar, shipped with their sources and a registry's own before."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.inspection import Interval, Intervals, add_months, due, in_force, instant, midnight, shipped


def one_due(kind: str, grade: str, sort: str, day: str, in_service: str = "NaT") -> str:
    interval = in_force({}).find(kind, grade, sort)
    days, since = np.array([day], "M8[D]"), np.array([in_service], "M8[D]")
    return str(due(days, since, [interval], np.array([0]))[0])


@pytest.mark.parametrize(
    ("kind", "grade", "sort", "last"),
    [
        ("boiler", "", "external", "2027-03-01"),
        ("boiler", "", "internal", "2028-03-01"),
        ("boiler", "", "hydro", "2032-03-01"),
        ("power_station_boiler", "", "internal", "2029-03-01"),
        ("fixed_pressure_vessel", "1", "periodic", "2032-03-01"),
        ("fixed_pressure_vessel", "3", "periodic", "2029-03-01"),
        ("fixed_pressure_vessel", "5", "periodic", "2026-03-01"),  # good for no day more
        ("fixed_pressure_vessel", "", "periodic", "2029-03-01"),
        ("fixed_pressure_vessel", "2", "annual", "2027-03-01"),
        ("tank_truck", "2", "periodic", "2031-03-01"),
        ("rail_tank_car", "3", "periodic", "2028-03-01"),
        ("tank_container", "3", "periodic", "2028-09-01"),  # two and a half years
        ("tube_trailer", "B", "periodic", "2032-03-01"),
        ("cylinder", "corrosive", "periodic", "2028-03-01"),
        ("cylinder", "inert", "periodic", "2031-03-01"),
        ("industrial_pipeline", "GC3-1", "periodic", "2035-03-01"),
        ("industrial_pipeline", "GC2-3", "periodic", "2029-03-01"),
        ("safety_valve", "", "periodic", "2027-03-01"),
        ("pressure_gauge", "", "periodic", "2026-09-01"),
        ("crane", "", "periodic", "2028-03-01"),
        ("tower_crane", "", "periodic", "2027-03-01"),
        ("lift", "", "periodic", "2027-03-01"),  # nobody knows how old it is
    ],
)
def test_an_inspection_of_the_first_of_march_2026_holds_to(
    kind: str, grade: str, sort: str, last: str
) -> None:
    assert one_due(kind, grade, sort, "2026-03-01") == last


@pytest.mark.parametrize(
    ("inspected", "last"),
    [
        ("2021-05-01", "2024-05-01"),  # in the 1st year: the next is in the 4th
        ("2024-04-10", "2027-05-01"),  # a little early for the 4th: the 7th
        ("2024-08-01", "2027-05-01"),  # late for the 4th: still the 7th
        ("2022-06-01", "2024-05-01"),  # one more than asked for changes nothing
        ("2035-04-20", "2036-05-01"),  # after the 15th every year
        ("2040-05-02", "2041-05-01"),
    ],
)
def test_a_lift_is_inspected_in_years_1_4_7_9_11_13_15_and_then_every_year(inspected: str, last: str) -> None:
    assert one_due("lift", "", "periodic", inspected, "2020-05-01") == last


def test_every_interval_names_its_clause_and_source_and_those_from_memory_say_so() -> None:
    rows = shipped()
    assert len({(row.kind, row.grade, row.inspection) for row in rows}) == len(rows)
    assert all(row.clause and row.source for row in rows)
    assert {row.kind for row in rows if row.unsure} == {
        *("industrial_pipeline", "gas_pipeline", "safety_valve", "pressure_gauge"),
        *("lift", "crane", "tower_crane", "hoist", "molten_metal_crane"),
    }
    assert all(row.unsure == (row.source == "memory") for row in rows)


def test_what_has_no_grade_is_judged_as_strictly_as_the_worst_that_may_be_used() -> None:
    table = in_force({})
    for row in shipped():
        usual = table.find(row.kind, "", row.inspection)
        assert usual is not None
        assert usual.months <= row.months or row.months == 0


def test_a_registrys_own_rows_go_before_the_shipped_ones() -> None:
    own = {
        "kind": ["safety_valve", "ropeway"],
        "grade": ["", ""],
        "inspection": ["periodic", "periodic"],
        "first_months": [None, 12],
        "months": [36, 12],
        "years": [(), ()],
        "clause": ["TSG ZF001", "TSG S7001"],
        "source": ["本市批文", "本市批文"],
        "unsure": ["no", "yes"],
    }
    table = in_force(own)
    assert table.find("safety_valve", "", "periodic") == Interval(
        *("safety_valve", "", "periodic", None, 36, (), "TSG ZF001", "本市批文", False)
    )
    ropeway = table.find("ropeway", "", "periodic")
    assert ropeway is not None
    assert ropeway.unsure
    assert "ropeway" in table.kinds
    assert "ropeway" not in in_force({}).kinds


def test_a_grade_without_a_row_of_its_own_has_that_of_its_kind() -> None:
    table = Intervals([Interval("k", "", "periodic", None, 3), Interval("k", "A", "periodic", None, 4)])
    assert [table.find("k", grade, "periodic").months for grade in ("A", "B")] == [4, 3]
    assert table.find("k", "A", "annual") is None
    assert table.grades("k") == ("A",)


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        ("2024-02-29", 12, "2025-02-28"),
        ("2024-02-29", 48, "2028-02-29"),
        ("2026-08-31", 6, "2027-02-28"),
        ("2026-08-31", 1, "2026-09-30"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-01-31", 0, "2026-01-31"),
    ],
)
def test_months_are_those_of_the_calendar(day: str, months: int, later: str) -> None:
    assert str(add_months(np.array([day], "M8[D]"), months)[0]) == later


@given(st.dates(date(1900, 1, 1), date(2199, 12, 31)), st.integers(0, 240))
def test_months_later_is_the_same_day_or_the_months_last(day: date, months: int) -> None:
    later = add_months(np.array([day], "M8[D]"), months).tolist()[0]
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    following = date(later.year + later.month // 12, later.month % 12 + 1, 1)
    assert later.day == day.day or (later.day < day.day and (following - later).days == 1)


def test_days_begin_at_midnight_of_the_zone() -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    eight_hours = 8 * 3600 * 1_000_000
    assert midnight(date(1970, 1, 1), shanghai) == -eight_hours
    assert instant(datetime(1970, 1, 1, 8), shanghai) == 0
    assert instant(datetime.fromisoformat("1970-01-01T08:00:00+09:00"), shanghai) == -eight_hours // 8
