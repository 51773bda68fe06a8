"""The files of records: the documented ones load, and every mistake is named with its line."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from registry.compile import RegistryErrors, compile_folder
from registry.fact_source import TABLES
from registry.model import FOREVER, Section
from tests.test_registry_folder import documented

ROOT = Path(__file__).parents[1]
PLANT = "91370200MA0001XX0U"

Load = Callable[[dict[str, str]], Path]


def documented_records() -> dict[str, str]:
    """The files of the example in docs/records.md."""
    page = (ROOT / "docs" / "records.md").read_text("utf-8")
    return dict(re.findall(r"^#### `([a-z_.]+)`\n\n```csv\n(.*?)^```$", page, re.M | re.S))


@pytest.fixture
def folder(tmp_path: Path) -> Load:
    """Write the documented registry with its records, some of them replaced."""

    def write(changed: dict[str, str]) -> Path:
        registry = documented()
        # of the documented points, only those that the records need are there
        registry["enterprises.yaml"] = registry["enterprises.yaml"].partition("  groups:")[0]
        for name, content in (registry | documented_records() | changed).items():
            (tmp_path / name).write_text(content, "utf-8")
        return tmp_path

    return write


def mistakes(path: Path) -> list[str]:
    with pytest.raises(RegistryErrors) as errors:
        compile_folder(path)
    return [str(mistake) for mistake in errors.value.mistakes]


def at(text: str) -> int:
    shanghai = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai"))
    return round(shanghai.timestamp()) * 1_000_000


def test_files_that_excel_saved_say_the_same(folder: Load) -> None:
    """2026-01-05 08:00 became 2026/1/5 8:00; lines end with CR LF after empty cells; a mark is before them."""
    before = compile_folder(folder({})).version
    for name, content in documented_records().items():
        said = re.sub(r"\b(20\d\d)-0?(\d+)-0?(\d+)\b(?!T)", r"\1/\2/\3", content)
        said = re.sub(r" 0(\d:\d\d)", r" \1", said)
        for rows in (-1, 1):  # Excel writes the empty cells to some rows only
            emptied = said.replace("\n", ",,\r\n", rows)
            assert compile_folder(folder({name: f"\ufeff{emptied}"})).version == before, name


def test_every_file_is_documented_with_all_its_columns() -> None:
    files = documented_records()
    assert set(files) == {"points.csv", *(f"{stem}.csv" for stem in TABLES)}
    for stem, table in TABLES.items():
        assert files[f"{stem}.csv"].splitlines()[0].split(",") == list(table.columns), stem


def test_the_documented_records_make_their_facts_true(folder: Load) -> None:
    registry = compile_folder(folder({}))
    facts = registry.facts
    found = {
        (rule, subject, record): (begins, ends)
        for rule, subject, record, begins, ends in zip(
            *(facts.rule, facts.subject, facts.record, facts.begins.tolist(), facts.ends.tolist()),
            strict=True,
        )
    }
    # two and a half years of a grade 2 vessel were not watched: the first inspection was in time
    assert found["equipment.overdue", "equipment:V-101", "I-2022-17"] == (at("2028-05-02 00:00"), FOREVER)
    assert found["equipment.overdue", "equipment:B-1", "I-2025-3"] == (at("2025-07-09 00:00"), FOREVER)
    assert found["equipment.overdue", "equipment:B-1", "I-2025-4"] == (at("2027-01-09 00:00"), FOREVER)
    assert found["equipment.overdue", "equipment:SV-101", "SV-101/next"] == (at("2026-11-21 00:00"), FOREVER)
    assert found["equipment.due", "equipment:SV-101", "SV-101/next"] == (
        *(at("2026-10-21 00:00"), at("2026-11-21 00:00")),
    )
    assert found["equipment.overdue", "equipment:LT-1", "LT-1/periodic"] == (
        *(at("2021-03-02 00:00"), at("2026-08-01 00:00")),
    )
    assert found["inspection.failed", "inspection:F-2026-1", "F-2026-1"] == (at("2026-04-02 00:00"), FOREVER)
    assert found["licence.expired", "licence:L-1", "L-1"] == (at("2026-07-01 00:00"), FOREVER)
    assert found["chemical.overstored", "chemical:MEOH", "MEOH"] == (at("2026-09-01 00:00"), FOREVER)
    assert ("chemical.overstored", "chemical:NH3", "NH3") not in found  # it lies in tanks
    assert found["chemical.stored", "chemical:NH3", "NH3"] == (0, FOREVER)
    assert found["permit.hot_work", "permit:P-77", "P-77"] == (at("2026-11-21 08:00"), at("2026-11-21 12:00"))
    assert found["hazard.overdue", "hazard:H-12", "H-12"] == (at("2026-04-02 00:00"), FOREVER)
    assert found["penalty", "penalty:N-5", "N-5"] == (at("2026-04-10 00:00"), at("2027-04-10 00:00"))
    assert found["certificate.expired", "certificate:C-9", "C-9"] == (at("2026-11-01 00:00"), FOREVER)
    assert found["warning.storm", "cell:haizhou", "W-31"] == (at("2026-08-12 08:00"), at("2026-08-13 08:00"))
    # S = 40/10 + 120/500 = 4.24; R = 1.5 × (2 × 4 + 1 × 0.24) = 12.36; the acid in water does not count
    hazard = facts.rule.index("unit.major_hazard")
    assert (facts.subject[hazard], facts.name[hazard], facts.level[hazard]) == (
        "unit:R-101",
        "一号反应釜",
        "3",
    )
    assert facts.value[hazard] == pytest.approx(12.36)
    assert facts.rule.count("unit.major_hazard") == 1


def test_the_documented_pipeline_and_tanks(folder: Load) -> None:
    registry = compile_folder(folder({}))
    row = registry.rows[PLANT]
    assert registry.sections == (
        Section(
            *(PLANT, "PL-1", "港区一号线"),
            *(row["FI-4001"], row["FI-4002"], row["PI-4001"], row["PI-4002"]),
            *(0.35, 20000, 1000, 0.01, 600_000_000),
        ),
    )
    [holding] = registry.holdings
    assert (holding.id, holding.permitted, holding.declared) == ("NH3", 30, 2)
    assert [tank.row for tank in holding.tanks] == sorted([row["LI-3001"], row["WI-3002"]])


def test_the_version_follows_what_is_said_and_not_how(folder: Load) -> None:
    before = compile_folder(folder({}))
    rows = documented_records()["inspections.csv"].splitlines()
    turned = "\n".join([rows[0], *reversed(rows[1:]), ""])
    assert compile_folder(folder({"inspections.csv": turned})).version == before.version
    later = documented_records()["inspections.csv"].replace("2022-05-01", "2022-05-02")
    assert compile_folder(folder({"inspections.csv": later})).version != before.version


HEAD = {stem: ",".join(table.columns) for stem, table in TABLES.items()}


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("equipment", "X,V-9,,boiler,,,2020-01-01,,,", "enterprise: is 'X', which enterprises.yaml"),
        ("equipment", f"{PLANT},V-9,,boyler,,,2020-01-01,,,", "kind: is 'boyler'"),
        ("equipment", f"{PLANT},V-9,,boiler,1,,2020-01-01,,,", "grade: is '1'; expected none: boiler has no"),
        (
            "equipment",
            f"{PLANT},V-9,,cylinder,inerd,,2020-01-01,,,",
            "expected one of corrosive, ordinary, inert",
        ),
        (
            "equipment",
            f"{PLANT},V-9,,boiler,,R-9,2020-01-01,,,",
            "unit: is 'R-9', which its enterprise does not",
        ),
        ("equipment", f"{PLANT},V-9,,boiler,,,2020-02-30,,,", "in_service: is '2020-02-30', a day that no"),
        ("equipment", f"{PLANT},V-9,,boiler,,,20200201,,,", "in_service: is '20200201'; expected a day such"),
        (
            "equipment",
            f"{PLANT},V-9,,boiler,,,2020-02-01,2020-01-01,,",
            "out_of_service: 2020-01-01 is before",
        ),
        ("equipment", f"{PLANT},V-9,,boiler,,,,,,", "next: is missing; expected next or in_service"),
        ("equipment", f"{PLANT},V-9,,other,,,2020-02-01,,,", "next: is missing; expected next: no interval"),
        (
            "inspections",
            f"{PLANT},I-9,,V-9,,2020-01-01,passed,,,,",
            "equipment: is 'V-9', which equipment.csv",
        ),
        (
            "inspections",
            f"{PLANT},I-9,,B-1,,2020-01-01,passed,2021-01-01,,,",
            "kind: is 'periodic' for boiler; expected one of",
        ),
        (
            "inspections",
            f"{PLANT},I-9,,V-101,hydro,2020-01-01,passed,,,,",
            "kind: is 'hydro', which has no interval",
        ),
        ("inspections", f"{PLANT},I-9,,B-1,hydro,2020-01-01,ok,,,,", "result: is 'ok'; expected 'passed', "),
        ("inspections", f"{PLANT},I-9,,,,2020-01-02,passed,2020-01-01,,,", "next: 2020-01-01 is before date"),
        ("inspections", f"{PLANT},I-9,,B-1,,2020-01-01,failed,,,,", "kind: is 'periodic' for boiler"),
        ("intervals", "k,,,x,12,,c,s,no", "first_months: is 'x'; expected a whole number"),
        ("intervals", "k,,,,12,4 1,c,s,no", "years: is '4 1'; expected rising years"),
        ("licences", f"{PLANT},L-9,,k,,2026-01-02,2026-01-01,,,,", "expires: 2026-01-01 is before issued"),
        ("chemicals", f"{PLANT},C,,7664-41-8,,,,,,,,", "cas: is '7664-41-8'; expected a CAS number"),
        ("chemicals", f"{PLANT},C,,,,W2 W99,,,,,,", "category: has 'W99'"),
        ("chemicals", f"{PLANT},C,,67-56-1,,,,,9,,,", "category: is missing; expected its symbols"),
        ("chemicals", f"{PLANT},C,,,,,5,,9,,,", "category: is missing; expected its symbols"),
        (
            "chemicals",
            f"{PLANT},C,,7664-41-7,,,,,,,,",
            "maximum: is missing; expected the design maximum in t",
        ),
        ("chemicals", f"{PLANT},C,,,,,-1,,,,,", "critical: is '-1'; expected tonnes above 0, or none"),
        ("chemicals", f"{PLANT},C,,,,,,,,5,,", "declared_on: is missing"),
        ("chemicals", f"{PLANT},C,,,,,,,,,2026-01-01,", "declared: is missing"),
        ("tanks", f"{PLANT},T,XX,LI-3001,sphere,2,,,,600,", "chemical: is 'XX', which chemicals.csv"),
        ("tanks", f"{PLANT},T,NH3,LI-9,sphere,2,,,,600,", "point: is 'LI-9', which is no point"),
        (
            "tanks",
            f"{PLANT},T,NH3,GD-2001,sphere,2,,,,600,",
            "of kind combustible_gas; expected a point of kind level",
        ),
        ("tanks", f"{PLANT},T,NH3,PI-4001,weight,,,,,,", "of kind pressure; expected a point of kind weight"),
        (
            "tanks",
            f"{PLANT},T,NH3,LI-3001,sphere,2,,,,,",
            "density: is empty; expected a value: sphere needs it",
        ),
        ("tanks", f"{PLANT},T,NH3,LI-3001,sphere,2,,3,,600,", "length: is given; expected nothing: sphere"),
        (
            "tanks",
            f"{PLANT},T,NH3,LI-3001,upright_cylinder,2,3,,0.5,600,",
            "head_depth: is 0.5; expected nothing",
        ),
        (
            "tanks",
            f"{PLANT},T,NH3,LI-3001,lying_cylinder,2,,3,1.5,600,",
            "head_depth: is 1.5 of a diameter of 2",
        ),
        ("tanks", f"{PLANT},T,NH3,LI-3001,scale,,,,,,0=0 0=5", "scale: is '0=0 0=5'; expected two or more"),
        ("major_hazard_units", f"{PLANT},R-101,1.5,", "people: is '1.5'; expected a whole number"),
        ("major_hazard_units", f"{PLANT},R-9,1,", "unit: is 'R-9'"),
        ("permits", f"{PLANT},P,,hotwork,,,,,2026-01-01 08:00,2026-01-01 09:00,h,", "kind: is 'hotwork'"),
        (
            "permits",
            f"{PLANT},P,,hot_work,,,XX,,2026-01-01 08:00,2026-01-01 09:00,h,",
            "points: is 'XX', which is",
        ),
        (
            "permits",
            f"{PLANT},P,,hot_work,,,,,2026-01-01 08:00,2026-01-01 08:00,h,",
            "to: 2026-01-01 08:00:00 is not",
        ),
        (
            "permits",
            f"{PLANT},P,,hot_work,,,,,2026-01-01 08:00,2026-01-01T09:00Z,h,",
            "to: has a zone and from",
        ),
        (
            "permits",
            f"{PLANT},P,,hot_work,,,,,2026-01-01 25:00,2026-01-02 09:00,h,",
            "from: is '2026-01-01 25:00', a",
        ),
        ("hazards", f"{PLANT},H,,major,,2026-01-02,2026-01-01,,,", "deadline: 2026-01-01 is before found"),
        ("penalties", f"{PLANT},N,,fire,2026-01-02,2026-01-01,,", "settled: 2026-01-01 is before date"),
        ("certificates", f"{PLANT},C,,k,,,,", "holder: is empty; expected a value"),
        ("pipelines", f"{PLANT},P,,FI-4001,FI-4001,,,,1,1,,", "flow_out: is 'FI-4001', as flow_in is"),
        ("pipelines", f"{PLANT},P,,FI-4001,PI-4001,,,,1,1,,", "flow_out: is 'PI-4001', of kind pressure"),
        (
            "pipelines",
            f"{PLANT},P,,FI-4001,FI-4002,PI-4001,,,1,1,,",
            "pressure_out: is given or left out alone",
        ),
        (
            "pipelines",
            f"{PLANT},P,,FI-4001,FI-4002,,,,1,1,1.5,",
            "leak: is 1.5; expected a share of the flow",
        ),
        ("warnings", "nowhere,W,storm,,2026-01-01 08:00,2026-01-01 09:00,,", "cell: is 'nowhere'"),
        ("warnings", "haizhou,W,strom,,2026-01-01 08:00,2026-01-01 09:00,,", "kind: is 'strom'"),
        (
            "warnings",
            "haizhou,W,storm,,2026-01-01 09:00,2026-01-01 08:00,,",
            "to: 2026-01-01 08:00:00 is not after",
        ),
    ],
)
def test_a_mistake_is_named_once_with_its_line(folder: Load, name: str, line: str, expected: str) -> None:
    file = f"{name}.csv"
    good = documented_records()[file]
    if name == "tanks":
        good = HEAD[name] + "\n"  # each point is of one tank
    found = mistakes(folder({file: f"{good}{line}\n"}))
    assert len(found) == 1, found
    [mistake] = found
    assert mistake.startswith(f"{file}:{len(good.splitlines()) + 1}: ")
    assert expected in mistake


@pytest.mark.parametrize(
    ("chemical", "mistakes_"),
    [
        (f"{PLANT},NH3,,7664-41-7,R-101,,,30,40,,,", 0),
        (f"{PLANT},NH3,,7664-41-7,R-101,,,30,,2,2026-09-01,", 1),  # permitted is not what the tank can hold
        (f"{PLANT},NH3,,7664-41-7,R-101,,none,30,,,,", 0),  # nothing of it counts
        (f"{PLANT},NH3,水,,R-101,,,30,,,,", 0),
    ],
)
def test_a_tank_that_is_weighed_needs_its_design_maximum(folder: Load, chemical: str, mistakes_: int) -> None:
    """Its weight does not say what it holds when full, which must not count as nothing towards R."""
    written = folder({"chemicals.csv": f"{HEAD['chemicals']}\n{chemical}\n"})
    if not mistakes_:
        compile_folder(written)
        return
    [mistake] = mistakes(written)
    assert mistake == (
        "chemicals.csv:2: maximum: is missing; expected the design maximum in t (GB 18218-2018, 4.2.2): "
        "a weight says none, as that of V-102"
    )


def test_a_level_in_feet_and_two_tanks_at_one_point(folder: Load) -> None:
    points = documented_records()["points.csv"].replace("level,%", "level,ft")
    tank = f"{PLANT},T,NH3,WI-3002,weight,,,,,,\n"
    found = mistakes(folder({"points.csv": points, "tanks.csv": documented_records()["tanks.csv"] + tank}))
    assert found == [
        "tanks.csv:2: point: 'LI-3001' is in ft; expected a point in one of m, dm, cm, mm, %",
        "tanks.csv:4: point: 'WI-3002' is at tanks.csv:3 too; expected every point once",
    ]


def test_an_interval_without_a_kind_beside_equipment_of_an_unknown_kind(folder: Load) -> None:
    found = mistakes(
        folder(
            {
                "intervals.csv": f"{HEAD['intervals']}\n,,,,12,,c,s,no\n",
                "equipment.csv": documented_records()["equipment.csv"]
                + f"{PLANT},V-9,,boyler,,,2020-01-01,,,\n",
            }
        )
    )
    assert any(one.startswith("intervals.csv:2: kind: is empty") for one in found)
    assert any("kind: is 'boyler'" in one for one in found)


def test_all_mistakes_of_all_files_are_told_at_once(folder: Load) -> None:
    found = mistakes(
        folder(
            {
                "equipment.csv": f"{HEAD['equipment']}\n{PLANT},V-9,,boyler,,,,,,\n{PLANT},V-9,,boiler,,,,,,\n",
                "inspections.csv": f"{HEAD['inspections']}\n{PLANT},I,,V-8,,2020-13-01,passt,,,,\n",
            }
        )
    )
    assert [mistake.partition(" ")[0] + mistake.split(" ")[1] for mistake in found] == [
        "equipment.csv:2:kind:",
        "equipment.csv:3:id:",
        "equipment.csv:3:next:",
        "inspections.csv:2:date:",
        "inspections.csv:2:equipment:",
        "inspections.csv:2:result:",
    ]
