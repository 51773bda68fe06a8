"""What the records make true and when: each kind of fact, and equipment's against a plain model of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.fact_source import TABLES
from registry.facts import facts
from registry.inspection import add_months, in_force
from registry.model import FOREVER, Facts

SHANGHAI = ZoneInfo("Asia/Shanghai")
E = "91370200MA0001XX0U"
SECOND = 1_000_000


def at(text: str) -> int:
    """µs of a local time in Shanghai."""
    return round(datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).timestamp()) * SECOND


def records(**files: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Checked columns of these rows; what a row leaves out is as an empty cell."""
    usual = {"enterprise": E, "id": "X1"}
    return {
        stem: {
            name: [row.get(name, usual.get(name, column.default)) for row in rows]
            for name, column in TABLES[stem].columns.items()
        }
        for stem, rows in files.items()
    }


@dataclass(frozen=True)
class Fact:
    rule: str
    subject: str
    record: str
    begins: int
    ends: int


def told(found: Facts, *rules: str) -> list[Fact]:
    """The facts of these rules, after looking at what holds of all."""
    keys = list(zip(found.rule, found.enterprise, found.subject, found.record, strict=True))
    assert keys == sorted(set(keys))
    assert np.all(found.begins < found.ends)
    columns = (found.rule, found.subject, found.record, found.begins.tolist(), found.ends.tolist())
    return [Fact(*row) for row in zip(*columns, strict=True) if not rules or row[0] in rules]


def of(rules: str, **files: list[dict[str, Any]]) -> list[Fact]:
    return told(facts(records(**files), "Asia/Shanghai"), *rules.split())


def valve(**given: Any) -> dict[str, Any]:
    """A safety valve: 12 months by the table."""
    return {"id": "SV-1", "kind": "safety_valve"} | given


def inspected(id_: str, day: str, result: str = "passed", **given: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "equipment": "SV-1",
        "kind": "periodic",
        "date": date.fromisoformat(day),
        "result": result,
    } | given


def test_nothing_makes_nothing_true() -> None:
    found = facts({}, "Asia/Shanghai")
    assert len(found) == 0
    assert found.begins.dtype == np.int64
    assert found.value.dtype == np.float64
    assert told(facts(records(**{stem: [] for stem in TABLES}), "Asia/Shanghai")) == []


# ---- equipment -------------------------------------------------------------------------------------


def test_overdue_from_midnight_after_the_last_day() -> None:
    found = facts(
        records(equipment=[valve(name="安全阀", unit="R-101")], inspections=[inspected("I-1", "2025-11-20")]),
        "Asia/Shanghai",
    )
    due, overdue = told(found)
    assert due == Fact(
        *("equipment.due", "equipment:SV-1", "I-1", at("2026-10-21 00:00"), at("2026-11-21 00:00"))
    )
    assert overdue == Fact("equipment.overdue", "equipment:SV-1", "I-1", at("2026-11-21 00:00"), FOREVER)
    assert (found.name[1], found.kind[1], found.unit[1], found.level[1]) == (
        *("安全阀", "safety_valve", "R-101", "periodic"),
    )
    assert found.clause[1].startswith("特种设备安全法 art. 40; 特种设备安全监察条例 art. 28; TSG ZF001")
    assert "unverified" in found.clause[1]
    assert math.isnan(found.value[1])


def test_the_zone_says_when_a_day_begins() -> None:
    files = records(equipment=[valve()], inspections=[inspected("I-1", "2025-11-20")])
    [there] = told(facts(files, "Asia/Shanghai"), "equipment.overdue")
    [here] = told(facts(files, "UTC"), "equipment.overdue")
    assert here.begins - there.begins == 8 * 3600 * SECOND


def test_an_inspection_entered_late_shortens_the_stretch_under_the_same_record() -> None:
    before = of("equipment.overdue", equipment=[valve()], inspections=[inspected("I-1", "2025-03-01")])
    late = of(
        "equipment.overdue",
        equipment=[valve()],
        inspections=[inspected("I-1", "2025-03-01"), inspected("I-2", "2026-03-20")],
    )
    assert before == [Fact("equipment.overdue", "equipment:SV-1", "I-1", at("2026-03-02 00:00"), FOREVER)]
    assert late == [
        Fact("equipment.overdue", "equipment:SV-1", "I-1", at("2026-03-02 00:00"), at("2026-03-20 00:00")),
        Fact("equipment.overdue", "equipment:SV-1", "I-2", at("2027-03-21 00:00"), FOREVER),
    ]
    in_time = of(
        "equipment.overdue",
        equipment=[valve()],
        inspections=[inspected("I-1", "2025-03-01"), inspected("I-2", "2026-03-02")],
    )
    assert [fact.record for fact in in_time] == ["I-2"]


def test_an_inspection_that_says_when_the_next_is_goes_before_the_table() -> None:
    found = facts(
        records(
            equipment=[valve()],
            inspections=[inspected("I-1", "2025-03-01", "conditional", next=date(2025, 6, 30))],
        ),
        "Asia/Shanghai",
    )
    [fact] = told(found, "equipment.overdue")
    assert fact.begins == at("2025-07-01 00:00")
    assert found.clause[1] == "特种设备安全法 art. 40; 特种设备安全监察条例 art. 28"


def test_what_was_never_inspected() -> None:
    """By its own next, until anything is passed; else by the first interval from the day of service."""
    said = valve(next=date(2026, 11, 20), in_service=date(2020, 1, 1))
    assert of("equipment.overdue", equipment=[said]) == [
        Fact("equipment.overdue", "equipment:SV-1", "SV-1/next", at("2026-11-21 00:00"), FOREVER)
    ]
    late = of("equipment.overdue", equipment=[said], inspections=[inspected("I-1", "2026-11-15")])
    assert [fact.record for fact in late] == ["I-1"]
    after = of("equipment.overdue", equipment=[said], inspections=[inspected("I-1", "2026-12-01")])
    assert after[1] == Fact(
        "equipment.overdue",
        *("equipment:SV-1", "SV-1/next", at("2026-11-21 00:00"), at("2026-12-01 00:00")),
    )
    assert of("equipment.overdue", equipment=[valve(in_service=date(2024, 2, 29))]) == [
        Fact("equipment.overdue", "equipment:SV-1", "SV-1/periodic", at("2025-03-01 00:00"), FOREVER)
    ]
    assert of("equipment.overdue", equipment=[valve()]) == []


def test_each_sort_of_inspection_has_its_own_validity() -> None:
    boiler = {"id": "SV-1", "kind": "boiler", "in_service": date(2024, 1, 1)}
    found = of(
        "equipment.overdue",
        equipment=[boiler],
        inspections=[
            inspected("X", "2025-01-01", kind="external"),  # one year
            inspected("N", "2025-01-01", kind="internal"),  # two
        ],
    )
    assert [(fact.record, fact.begins) for fact in found] == [
        ("N", at("2027-01-02 00:00")),
        ("X", at("2026-01-02 00:00")),
    ]
    alone = of(
        "equipment.overdue", equipment=[boiler], inspections=[inspected("X", "2025-01-01", kind="external")]
    )
    assert [fact.record for fact in alone] == ["SV-1/internal", "X"]


def test_a_failed_inspection_is_a_fact_until_a_later_one_is_passed_and_lengthens_nothing() -> None:
    days = [
        inspected("I-1", "2025-03-01"),
        inspected("I-2", "2026-02-20", "failed"),
        inspected("I-3", "2026-02-20"),  # on one day the failed one counts as the later
        inspected("I-4", "2026-04-01", "failed"),
        inspected("I-5", "2026-04-10", "conditional"),
    ]
    assert of("equipment.failed", equipment=[valve()], inspections=days) == [
        Fact("equipment.failed", "equipment:SV-1", "I-2", at("2026-02-20 00:00"), at("2026-04-10 00:00")),
        Fact("equipment.failed", "equipment:SV-1", "I-4", at("2026-04-01 00:00"), at("2026-04-10 00:00")),
    ]
    del days[2:]
    assert of("equipment.failed equipment.overdue", equipment=[valve()], inspections=days) == [
        Fact("equipment.failed", "equipment:SV-1", "I-2", at("2026-02-20 00:00"), FOREVER),
        Fact("equipment.overdue", "equipment:SV-1", "I-1", at("2026-03-02 00:00"), FOREVER),
    ]


def test_of_two_alike_on_one_day_the_record_does_not_hang_on_their_order() -> None:
    twice = [inspected("I-1", "2025-03-01"), inspected("I-2", "2025-03-01")]
    for days in (twice, twice[::-1]):
        assert [fact.record for fact in of("equipment.overdue", equipment=[valve()], inspections=days)] == [
            "I-2"
        ]


def test_nothing_is_said_of_equipment_out_of_service() -> None:
    days = [inspected("I-1", "2025-03-01"), inspected("I-2", "2025-04-01", "failed")]
    out = valve(out_of_service=date(2026, 5, 1))
    assert {
        fact.ends for fact in of("equipment.failed equipment.overdue", equipment=[out], inspections=days)
    } == {at("2026-05-01 00:00")}
    out = valve(out_of_service=date(2025, 4, 1))
    assert of("", equipment=[out], inspections=days) == []


def test_a_registrys_own_interval() -> None:
    own = {
        "kind": "safety_valve",
        "inspection": "periodic",
        "months": 36,
        "clause": "TSG ZF001",
        "source": "x",
    }
    files = {"equipment": [valve()], "inspections": [inspected("I-1", "2025-03-01")]}
    [fact] = of("equipment.overdue", **files, intervals=[own])
    assert fact.begins == at("2028-03-02 00:00")


def test_inspections_of_two_enterprises_with_the_same_ids() -> None:
    files = records(
        equipment=[valve(), valve(enterprise="other")],
        inspections=[inspected("I-1", "2025-03-01"), inspected("I-1", "2024-03-01", enterprise="other")],
    )
    found = facts(files, "Asia/Shanghai")
    assert [fact.begins for fact in told(found, "equipment.overdue")] == [
        at("2026-03-02 00:00"),
        at("2025-03-02 00:00"),
    ]


DAYS = st.dates(date(2020, 1, 1), date(2026, 12, 31))
PIECES = st.lists(
    st.fixed_dictionaries(
        {
            "enterprise": st.sampled_from(["A", "B"]),
            "id": st.sampled_from(["V1", "V2", "V10"]),
            "kind": st.sampled_from(["boiler", "safety_valve", "lift", "fixed_pressure_vessel", "other"]),
            "grade": st.sampled_from(["", "1", "5"]),
            "in_service": st.none() | DAYS,
            "out_of_service": st.none() | DAYS,
            "next": st.none() | DAYS,
        }
    ),
    max_size=4,
    unique_by=lambda piece: (piece["enterprise"], piece["id"]),
)
INSPECTIONS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["periodic", "external", "internal", "annual"]),
            "date": DAYS | st.dates(date(2024, 1, 1), date(2024, 1, 3)),
            "result": st.sampled_from(["passed", "passed", "conditional", "failed"]),
            "next": st.none() | DAYS,
        }
    ),
    max_size=10,
)


def months_later(day: date, months: int) -> date:
    later: date = add_months(np.array([day], "M8[D]"), months).tolist()[0]
    return later


def holds_to(piece: Mapping[str, Any], inspection: Mapping[str, Any]) -> date | None:
    """The last day for which a passed inspection is good."""
    if inspection["next"]:
        return inspection["next"]
    interval = in_force({}).find(piece["kind"], piece["grade"], inspection["kind"])
    if interval is None:
        return None
    if interval.years and piece["in_service"]:
        age = round((inspection["date"] - piece["in_service"]).days / 365.2425)
        year = next((year for year in interval.years if year > age), age + 1)
        return months_later(piece["in_service"], 12 * year)
    return months_later(inspection["date"], interval.months)


def model(pieces: list[dict[str, Any]], inspections: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Piece by piece and inspection by inspection, in days."""
    found = set()
    table = in_force({})
    far = date(9999, 1, 1)
    for piece in pieces:
        mine = [
            i for i in inspections if (i["enterprise"], i["equipment"]) == (piece["enterprise"], piece["id"])
        ]
        passed = [i for i in mine if i["result"] != "failed"]
        stretches = []
        for i in passed:
            last = holds_to(piece, i)
            # what takes its place: one of a later day, or of the same that holds shorter
            rank = (i["date"], -(last or far).toordinal(), i["id"])
            later = [
                j["date"]
                for j in passed
                if j["kind"] == i["kind"]
                and (j["date"], -(holds_to(piece, j) or far).toordinal(), j["id"]) > rank
            ]
            if last:
                stretches.append((i["id"], i["date"], last, min(later, default=far)))
        if piece["next"]:
            first = min((i["date"] for i in passed), default=far)
            began = piece["in_service"] or date.min
            stretches.append((f"{piece['id']}/next", began, piece["next"], first))
        elif piece["in_service"]:
            for sort in table.inspections(piece["kind"], piece["grade"]):
                interval = table.find(piece["kind"], piece["grade"], sort)
                assert interval is not None
                if interval.first_months is not None:
                    last = months_later(piece["in_service"], interval.first_months)
                    first = min((i["date"] for i in passed if i["kind"] == sort), default=far)
                    stretches.append((f"{piece['id']}/{sort}", piece["in_service"], last, first))
        rows = []
        for record, since, last, end in stretches:
            after = last + timedelta(days=1)
            rows.append(("equipment.due", record, max(last - timedelta(days=30), since), min(after, end)))
            rows.append(("equipment.overdue", record, after, end))
        for i in mine:
            if i["result"] == "failed":
                cures = [j["date"] for j in passed if j["kind"] == i["kind"] and j["date"] > i["date"]]
                rows.append(("equipment.failed", i["id"], i["date"], min(cures, default=far)))
        out = piece["out_of_service"] or far
        for rule, record, begins, ends in rows:
            if begins < min(ends, out):
                end = min(ends, out)
                found.add((rule, piece["enterprise"], f"equipment:{piece['id']}", record, begins, end))
    return {(*row[:4], at(str(row[4])), FOREVER if row[5] == far else at(str(row[5]))) for row in found}


@given(PIECES, INSPECTIONS, st.randoms(use_true_random=False))
@settings(max_examples=250, deadline=None)
def test_equipment_is_as_the_plain_model_in_whatever_order_it_was_entered(
    pieces: list[dict[str, Any]], inspections: list[dict[str, Any]], random: Any
) -> None:
    for number, inspection in enumerate(inspections):
        piece = random.choice(pieces) if pieces else None
        inspection["id"] = f"I-{number}"
        inspection["enterprise"] = piece["enterprise"] if piece else "A"
        inspection["equipment"] = piece["id"] if piece else ""
    expected = model(pieces, inspections)
    found = facts(records(equipment=pieces, inspections=inspections), "Asia/Shanghai")
    told(found)  # sorted, unique, none empty
    rows = zip(
        *(found.rule, found.enterprise, found.subject, found.record),
        *(found.begins.tolist(), found.ends.tolist()),
        strict=True,
    )
    assert {row for row in rows if row[0].startswith("equipment.")} == expected
    random.shuffle(pieces)
    random.shuffle(inspections)
    again = facts(records(equipment=pieces, inspections=inspections), "Asia/Shanghai")
    for name in ("rule", "enterprise", "subject", "record", "kind", "level", "clause"):
        assert getattr(again, name) == getattr(found, name)
    np.testing.assert_array_equal(again.begins, found.begins)
    np.testing.assert_array_equal(again.ends, found.ends)


# ---- all else --------------------------------------------------------------------------------------


def test_failed_inspections_of_the_enterprise_last_until_a_later_one_is_passed() -> None:
    def fire(id_: str, day: str, result: str, **given: Any) -> dict[str, Any]:
        usual = {"equipment": "", "kind": "fire", "department": "fire"}
        return inspected(id_, day, result, **(usual | given))

    days = [
        fire("F-3", "2026-05-01", "failed"),
        fire("F-1", "2026-01-01", "failed"),
        fire("F-2", "2026-03-01", "failed"),
        fire("O-1", "2026-04-01", "passed", kind="environment"),
        fire("O-2", "2026-04-01", "passed", department="emergency"),
    ]
    three = of("inspection.failed", inspections=days)
    assert [(fact.record, fact.ends) for fact in three] == [
        ("F-1", FOREVER),
        ("F-2", FOREVER),
        ("F-3", FOREVER),
    ]
    assert three[0].subject == "inspection:F-1"
    days.append(fire("F-9", "2026-04-15", "passed"))
    assert [(fact.record, fact.ends) for fact in of("inspection.failed", inspections=days)] == [
        ("F-1", at("2026-04-15 00:00")),
        ("F-2", at("2026-04-15 00:00")),
        ("F-3", FOREVER),
    ]
    assert facts(records(inspections=days), "Asia/Shanghai").kind[0] == "fire"
    days = [
        fire("F-1", "2026-01-01", "failed", department="emergency"),
        fire("F-2", "2026-01-01", "passed", department="emergency"),  # on one day the failed one counts
        fire("F-3", "2026-02-01", "passed", department="emergency"),
    ]
    assert [fact.ends for fact in of("inspection.failed", inspections=days)] == [at("2026-02-01 00:00")]


def test_licences_and_certificates_expire_at_the_end_of_their_last_day() -> None:
    licence = {"id": "L-1", "kind": "safe-production", "unit": "R-101", "expires": date(2026, 6, 30)}
    other = {"id": "L-2", "kind": "fire"}
    card = {
        "id": "C-1",
        "kind": "welder",
        "holder": "王建国",
        "expires": date(2026, 6, 30),
        "ended": date(2026, 8, 1),
    }
    found = facts(records(licences=[licence, other], certificates=[card]), "Asia/Shanghai")
    assert told(found) == [
        Fact("certificate.expired", "certificate:C-1", "C-1", at("2026-07-01 00:00"), at("2026-08-01 00:00")),
        Fact("licence.expired", "licence:L-1", "L-1", at("2026-07-01 00:00"), FOREVER),
    ]
    assert (found.name, found.unit) == (("王建国", "L-1"), ("", "R-101"))


def test_permits_and_warnings_last_from_to() -> None:
    permit = {
        "id": "P-1",
        "kind": "hot_work",
        "unit": "R-101",
        "from": datetime(2026, 11, 21, 8),
        "to": datetime.fromisoformat("2026-11-21T12:00:00+09:00").replace(tzinfo=None),
        "holder": "李",
    }
    storm = {
        "id": "W-1",
        "cell": "haizhou",
        "kind": "storm",
        "from": datetime.fromisoformat("2026-11-21T00:00:00+00:00"),
        "to": datetime.fromisoformat("2026-11-22T00:00:00+00:00"),
        "level": "orange",
    }
    found = facts(records(permits=[permit], warnings=[storm]), "Asia/Shanghai", cells={"haizhou": "海州市"})
    assert told(found) == [
        Fact("permit.hot_work", "permit:P-1", "P-1", at("2026-11-21 08:00"), at("2026-11-21 12:00")),
        Fact("warning.storm", "cell:haizhou", "W-1", at("2026-11-21 08:00"), at("2026-11-22 08:00")),
    ]
    assert found.enterprise == (E, "")
    assert (found.name[1], found.level[1], found.kind) == ("海州市", "orange", ("hot_work", "storm"))


def test_hazards_and_penalties() -> None:
    found_on = {"found": date(2026, 1, 1), "deadline": date(2026, 2, 1)}
    hazards = [
        {"id": "H-1", "kind": "major", **found_on},
        {"id": "H-2", "kind": "general", **found_on, "closed": date(2026, 2, 10)},
        {"id": "H-3", "kind": "general", **found_on, "closed": date(2026, 2, 1)},
    ]
    penalties = [
        {"id": "N-1", "department": "fire", "date": date(2024, 2, 29)},
        {"id": "N-2", "department": "fire", "date": date(2026, 2, 1), "settled": date(2026, 2, 3)},
    ]
    found = facts(records(hazards=hazards, penalties=penalties), "Asia/Shanghai")
    assert told(found) == [
        Fact("hazard.overdue", "hazard:H-1", "H-1", at("2026-02-02 00:00"), FOREVER),
        Fact("hazard.overdue", "hazard:H-2", "H-2", at("2026-02-02 00:00"), at("2026-02-10 00:00")),
        Fact("penalty", "penalty:N-1", "N-1", at("2024-02-29 00:00"), at("2025-02-28 00:00")),
        Fact("penalty", "penalty:N-2", "N-2", at("2026-02-01 00:00"), at("2026-02-03 00:00")),
    ]
    assert found.kind == ("major", "general", "fire", "fire")


def test_chemicals_stored_and_overstored() -> None:
    day = date(2026, 9, 1)
    chemicals = [
        {
            "id": "A",
            "cas": "7664-41-7",
            "name": "液氨",
            "permitted": 30.0,
            "declared": 42.0,
            "declared_on": day,
        },
        {"id": "B", "permitted": 30.0, "declared": 30.0, "declared_on": day},
        {"id": "C", "permitted": 30.0, "declared": 0.0, "declared_on": day},
        {"id": "D", "permitted": 30.0, "declared": 99.0, "declared_on": day},
        {"id": "F"},
    ]
    tank = {"id": "T", "chemical": "D", "point": "WI-1", "shape": "weight"}
    found = facts(records(chemicals=chemicals, tanks=[tank]), "Asia/Shanghai")
    assert told(found, "chemical.overstored", "chemical.stored") == [
        Fact("chemical.overstored", "chemical:A", "A", at("2026-09-01 00:00"), FOREVER),
        *(
            Fact("chemical.stored", f"chemical:{id_}", id_, begins, FOREVER)
            for id_, begins in (
                ("A", at("2026-09-01 00:00")),
                ("B", at("2026-09-01 00:00")),
                ("D", 0),
                ("F", 0),
            )
        ),
    ]
    assert (found.value[0], found.limit[0], found.engineering_unit[0], found.kind[0]) == (
        42,
        30,
        "t",
        "7664-41-7",
    )
    assert math.isnan(found.value[3])  # how much lies in the tank is the engine's to say


def test_major_hazards() -> None:
    """Unit U: ammonia 40 t: S = 40/10 = 4, R = 1.5 × 2 × 4 = 12, level 3. V: 5 t: S = 0.5, none.

    Chlorine of no unit: 5 t permitted: S = 5/5 = 1, R = 1.2 × 4 × 1 = 4.8, level 4.
    """
    ammonia = {"cas": "7664-41-7", "permitted": 30.0, "declared": 8.0}
    chemicals = [
        {"id": "A", "unit": "U", "maximum": 40.0} | ammonia,
        {"id": "B", "unit": "V", "maximum": 5.0} | ammonia,
        {"id": "C", "cas": "7782-50-5", "permitted": 5.0, "declared": 1.0},
        {"id": "D", "name": "水", "permitted": 5000.0},
        {"id": "E", "cas": "7647-01-0", "permitted": 5000.0, "critical": math.inf},  # hydrochloric acid
    ]
    people = [
        {"unit": "U", "people": 60, "registered_on": date(2022, 5, 1)},
        {"unit": "", "people": 30},
    ]
    found = facts(
        records(chemicals=chemicals, major_hazard_units=people), "Asia/Shanghai", units={(E, "U"): "氨罐区"}
    )
    assert told(found, "unit.major_hazard") == [
        Fact("unit.major_hazard", f"enterprise:{E}", E, 0, FOREVER),
        Fact("unit.major_hazard", "unit:U", "U", at("2022-05-01 00:00"), FOREVER),
    ]
    assert found.level[-2:] == ("4", "3")
    assert found.value[-2:] == pytest.approx([4.8, 12])
    assert (found.name[-1], found.unit[-1], found.clause[-1]) == ("氨罐区", "U", "GB 18218-2018")


def test_a_unit_is_registered_with_its_enterprise_unless_it_has_a_day_of_its_own() -> None:
    ammonia = {"cas": "7664-41-7", "permitted": 30.0, "declared": 8.0, "maximum": 40.0}
    chemicals = [{"id": unit, "unit": unit} | ammonia for unit in ("U", "V")]
    people = [
        {"unit": "", "people": 60, "registered_on": date(2022, 5, 1)},
        {"unit": "V", "people": 60, "registered_on": date(2023, 6, 1)},
    ]
    found = facts(records(chemicals=chemicals, major_hazard_units=people), "Asia/Shanghai")
    assert [(fact.subject, fact.begins) for fact in told(found, "unit.major_hazard")] == [
        ("unit:U", at("2022-05-01 00:00")),
        ("unit:V", at("2023-06-01 00:00")),
    ]


def test_a_unit_whose_maximum_nobody_gives_and_whose_neighbours_nobody_counted_is_taken_at_its_worst() -> (
    None
):
    """A sphere of 2 m of ammonia, 600 kg/m³: 4/3 π × 0.6 = 2.5133 t, with 20 t beside it 22.5133 t.

    S = 2.25133; R = 2 × 2 × 2.25133 = 9.00531.
    """
    ammonia = {"id": "A", "unit": "U", "cas": "7664-41-7", "permitted": 21.0, "declared": 20.0}
    sphere = {
        "id": "T",
        "chemical": "A",
        "point": "LI-1",
        "shape": "sphere",
        "diameter": 2.0,
        "density": 600.0,
    }
    found = facts(records(chemicals=[ammonia], tanks=[sphere]), "Asia/Shanghai")
    assert found.value[found.rule.index("unit.major_hazard")] == pytest.approx(9.00531)
    found = facts(records(chemicals=[ammonia | {"permitted": 25.0}], tanks=[sphere]), "Asia/Shanghai")
    assert found.value[found.rule.index("unit.major_hazard")] == pytest.approx(10)  # 2 × 2 × 25/10
