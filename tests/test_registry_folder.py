"""Reading a registry folder: the documented one loads, and every mistake in a bad one is named with its line."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.clock import HOUR, MINUTE, SECOND
from registry.compile import RegistryErrors, compile_folder
from registry.model import Cell, Contact, Duty, Escalation, Gateway, Group
from tests.build import code

ROOT = Path(__file__).parents[1]
MINE = Path(__file__).parent / "data" / "mine" / "registry"
PLANT = "91370200MA0001XX0U"

Write = Callable[[dict[str, str | bytes]], Path]


def documented() -> dict[str, str]:
    """The files of the example in docs/registry.md."""
    page = (ROOT / "docs" / "registry.md").read_text("utf-8")
    return dict(re.findall(r"^#### `([a-z.]+)`\n\n```(?:yaml|csv)\n(.*?)^```$", page, re.M | re.S))


def write(folder: Path, files: dict[str, str] | dict[str, bytes]) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def mistakes(folder: Path) -> list[str]:
    """What is wrong with a folder, a line each."""
    with pytest.raises(RegistryErrors) as errors:
        compile_folder(folder)
    return [str(mistake) for mistake in errors.value.mistakes]


def test_the_documented_example_loads(tmp_path: Path) -> None:
    files = documented()
    assert set(files) == {
        *("registry.yaml", "cells.csv", "people.yaml", "duty.yaml", "enterprises.yaml", "points.csv")
    }
    registry = compile_folder(write(tmp_path / "r", files))
    assert registry.time_zone == "Asia/Shanghai"
    assert registry.cells["chengxi"] == Cell("chengxi", "城西村", "village", "gangkou")
    assert [cell.id for cell in registry.ancestors("chengdong")] == [
        "chengdong",
        "gangkou",
        "donghai",
        "haizhou",
    ]
    assert registry.gateways == (Gateway(PLANT, "gw1"),)
    assert registry.groups == (Group(PLANT, "R-101-T", 2.0, 30 * SECOND),)
    assert registry.enterprises[PLANT].units == (("R-101", "一号反应釜"),)
    assert registry.people["wang"].contacts == (
        Contact("phone", "13800000001"),
        Contact("webhook", "https://plant.example/alerts"),
    )
    assert Duty("donghai", "li", 8 * 60, 20 * 60, (0, 1, 2, 3, 4)) in registry.duty
    assert Duty("donghai", "zhao", 20 * 60, 8 * 60) in registry.duty
    assert Duty(PLANT, "wang") in registry.duty

    points = registry.points
    row = registry.rows[PLANT]["TI-1101"]
    assert (points.name[row], points.unit[row], points.video[row]) == (
        "釜温 A",
        "R-101",
        "https://video.example/r101",
    )
    np.testing.assert_array_equal(points.limit[row], [np.nan, 10, 80, 95])
    np.testing.assert_array_equal(points.reset[row], [np.nan, 10, 78, 95])
    assert points.on_delay[row].tolist() == [5 * SECOND, 5 * SECOND, 5 * SECOND, 0]
    assert points.off_delay[row].tolist() == [10 * SECOND] * 4
    assert (points.interval[row], points.rate[row], points.rate_over[row]) == (30 * SECOND, 0.5, 10 * SECOND)
    assert (points.stuck_after[row], points.stuck_within[row]) == (HOUR, 0)
    assert points.group[row] == 0
    gas = registry.rows[PLANT]["GD-2001"]
    assert np.isnan(points.rate[gas])
    assert (points.rate_over[gas], points.stuck_after[gas], points.group[gas]) == (0, 0, -1)


def test_escalation_that_is_not_given_follows_the_design(tmp_path: Path) -> None:
    files = documented()
    files["registry.yaml"] = files["registry.yaml"].partition("escalation:")[0]
    escalation = compile_folder(write(tmp_path / "r", files)).escalation
    usual = (5 * MINUTE, 30 * MINUTE, 30 * MINUTE)
    assert escalation == {
        "I": Escalation(*usual, "district", "city"),
        "II": Escalation(*usual, "district", "city"),
        "III": Escalation(*usual, "district", "district"),
        "IV": Escalation(*usual, "", ""),
    }


def test_the_mine_has_its_statutory_limits() -> None:
    """AQ 1029: alarm at 1.0 % methane, power cut at 1.5 %, power back below 1.0 %."""
    registry = compile_folder(MINE)
    [mine] = registry.enterprises
    for point in ("MM31", "MM116"):
        row = registry.rows[mine][point]
        np.testing.assert_array_equal(registry.points.limit[row], [np.nan, np.nan, 1.0, 1.5])
        np.testing.assert_array_equal(registry.points.reset[row], [np.nan, np.nan, 1.0, 1.0])
        assert registry.points.kind[row] == "methane"
    assert set(registry.points.interval.tolist()) == {120 * SECOND}
    on_duty = {duty.place for duty in registry.duty}
    rungs = [cell.id for cell in registry.ancestors(registry.enterprises[mine].cell)]
    assert [registry.cells[id_].level for id_ in rungs] == ["village", "town", "district", "city"]
    assert on_duty == {mine, "system", *rungs}


def test_rows_of_an_enterprise_and_of_a_gateway_are_contiguous(tmp_path: Path) -> None:
    files = documented()
    other = code(2)
    files["enterprises.yaml"] += f"- {{code: {other}, name: 二厂, cell: chengxi, gateways: [gw2, gw1]}}\n"
    header = "enterprise,gateway,point,kind,engineering_unit\n"
    rows = [f"{other},gw{number % 2 + 1},P{number},flow,m3/h\n" for number in range(6)]
    files["points/second.csv"] = header + "".join(rows)
    registry = compile_folder(write(tmp_path / "r", files))
    assert registry.gateways == (Gateway(PLANT, "gw1"), Gateway(other, "gw1"), Gateway(other, "gw2"))
    assert registry.points.gateway.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(registry.rows[other]) == [f"P{number}" for number in range(6)]


# ---- mistakes

BAD = {
    "registry.yaml": """\
time_zone: Asia/Shanghia
grid:
  - id: haizhou
    name: 海州市
    level: city
    colour: red
    children:
      - id: donghai
        name: 东海区
        level: district
        children:
          - id: donghai
            name: [东, 海]
            level: town
escalation:
  V: {confirm_within: 5min}
  III:
    confirm_within: 5 parsecs
    told_level: province
    top_level: district
    top_level: city
""",
    "cells.csv": """\
id,name,level,parent
a,甲,village,b
b,乙,hamlet,a
c,丙,village,nowhere
""",
    "people.yaml": """\
- id: wang
  name: 王建国
  contacts:
    - {channel: telepathy, address: x}
    - {channel: webhook, address: "plant.example/alerts"}
- id: li
  name: Li Na
  language: fr
- id: wang
  name: 王二
  contacts: [{channel: phone, address: "1"}]
""",
    "duty.yaml": f"""\
- {{place: {PLANT}, person: wang}}
- {{place: atlantis, person: wang}}
- {{place: system, person: li}}
- {{place: donghai, person: ghost, hours: 8-20, weekdays: Mon-Fry}}
""",
    "enterprises.yaml": f"""\
- code: {PLANT}
  name: 海州化工有限公司
  cell: donghai
  gateways: [gw1, gw1]
  groups:
    - {{id: lonely, tolerance: 2.0}}
    - {{id: spread, tolerance: -1}}
- code: 91370200MA0001XX0T
  name: ""
  cell: mars
""",
    "points.csv": f"""\
enterprise,gateway,point,kind,engineering_unit,video,range_low,range_high,LL,L,H,H_reset,HH,HH_on_delay,on_delay,rate,group
{PLANT},gw1,P1,temperature,°C,,0,100,,,80,85,,,,,lonely
{PLANT},gw1,P2,temperature,°C,,0,100,30,20,80,,70,,,,
{PLANT},gw1,P3,temperature,°C,,0,100,,,180,,,,,,
{PLANT},gw1,P4,metane,%CH4,,,,,,1,,,5s,,,
{PLANT},gw9,P5,methane,%CH4,video.example/x,,,,,1.O,,,,,,
{code(7)},gw1,P6,methane,%CH4,,,,,,,,,,,,
{PLANT},gw1,P1,methane,%CH4,,,,,,,,,,5 sec,,
{PLANT},gw1,P7,methane,%CH4
{PLANT},gw1,P8,methane,%CH4,,100,0,,20,80,15,,,,0.5,ghosts
{PLANT},,P9,methane,%CH4,,,,,,inf,,,,,,
""",
    "points/second.csv": "enterprise,gateway,pint,kind,kind,engineering_unit\n",
    "enterprise.yaml": "",
}

EXPECTED = """\
cells.csv:2: parent: goes in a circle: a → b → a
cells.csv:4: parent: is 'nowhere', which the grid does not have
duty.yaml:2: [1].place: is 'atlantis', which nothing has
duty.yaml:3: [2].person: is 'li', who has no contact
duty.yaml:4: [3].hours: is '8-20'
duty.yaml:4: [3].person: is 'ghost', whom people.yaml does not have
duty.yaml:4: [3].weekdays: is 'Mon-Fry'
enterprise.yaml:1: is not read; expected the name enterprises.yaml
enterprises.yaml:10: [1].cell: is 'mars', which the grid does not have
enterprises.yaml:4: [0].gateways[1]: 'gw1' is on line 4 too
enterprises.yaml:7: [0].groups[1].tolerance: is '-1'; expected a number of 0 or more
enterprises.yaml:8: [1].code: '91370200MA0001XX0T' has the check character 'T' where 'U' is right
enterprises.yaml:9: [1].name: is empty
people.yaml:4: [0].contacts[0].channel: is 'telepathy'; expected 'phone' or 'webhook'
people.yaml:5: [0].contacts[1].address: is 'plant.example/alerts'; expected a link
people.yaml:8: [1].language: is 'fr'; expected 'zh' or 'en'
people.yaml:9: [2].id: 'wang' is on line 1 too
points.csv:11: H: is 'inf'; expected a number
points.csv:11: gateway: is empty
points.csv:2: H_reset: 85 for H 80; expected a value at H or below it
points.csv:3: HH: 70 is not above 80
points.csv:3: L: 20 is not above 30
points.csv:4: H: 180 is outside the range 0 to 100
points.csv:5: HH_on_delay: is given without HH
points.csv:5: kind: is 'metane'; expected one of combustible_gas
points.csv:6: H: is '1.O'; expected a number
points.csv:6: gateway: is 'gw9', which its enterprise does not have; expected one of gw1
points.csv:6: video: is 'video.example/x'; expected a link
points.csv:7: enterprise: is '91370200MA0007XX
points.csv:8: on_delay: is '5 sec'; expected a time
points.csv:8: point: 'P1' is at points.csv:2 too
points.csv:9: has 5 cells; expected 17
points.csv:10: H_reset: 15 for H 80; expected a value that is reached
points.csv:10: group: is 'ghosts', which its enterprise does not have; expected one of lonely, spread
points.csv:10: range_low: 100 is not below range_high 0
points.csv:10: rate: is given without rate_over
points/second.csv:1: kind: is there twice
points/second.csv:1: pint: unknown column
points/second.csv:1: point: column is missing
registry.yaml:1: time_zone: is 'Asia/Shanghia'
registry.yaml:6: grid[0].colour: unknown key; expected one of id, name, level, children
registry.yaml:12: grid[0].children[0].children[0].id: 'donghai' is at registry.yaml:8 too
registry.yaml:13: grid[0].children[0].children[0].name: is a list; expected a text
registry.yaml:16: escalation.V: is 'V'; expected 'I', 'II', 'III' or 'IV'
registry.yaml:18: escalation.III.confirm_within: is '5 parsecs'
registry.yaml:19: escalation.III.told_level: is 'province', a level that no cell has; expected one of
registry.yaml:21: escalation.III.top_level: is on line 20 too
"""


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    found = mistakes(write(tmp_path / "r", BAD))
    print("\n".join(found))
    unmet = [line for line in EXPECTED.splitlines() if not any(text.startswith(line) for text in found)]
    unasked = [text for text in found if not any(text.startswith(line) for line in EXPECTED.splitlines())]
    assert (unmet, unasked) == ([], [])


def test_mistakes_are_sorted_by_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(RegistryErrors) as errors:
        compile_folder(write(tmp_path / "r", BAD))
    places = [(mistake.file, mistake.line) for mistake in errors.value.mistakes]
    assert places == sorted(places)


POINTS = "enterprise,gateway,point,kind,engineering_unit"


@pytest.mark.parametrize(
    ("file", "text", "place", "problem"),
    [
        ("people.yaml", None, "people.yaml:1", "is missing"),
        ("points.csv", None, "points.csv:1", "is missing"),
        ("registry.yaml", None, "registry.yaml:1", "is missing"),
        ("people.yaml", "", "people.yaml:1", "is empty"),
        ("people.yaml", "# nobody\n", "people.yaml:1", "is empty"),
        ("people.yaml", "wang", "people.yaml:1", "is 'wang'; expected a list"),
        ("people.yaml", "- a\n- b: [\n", "people.yaml:3", "is not YAML"),
        ("people.yaml", "- id: &a x\n  name: *a\n", "people.yaml:1", "anchor or alias"),
        ("people.yaml", "&a [*a]", "people.yaml:1", "anchor or alias"),
        ("people.yaml", "- id: !!int 5\n", "people.yaml:1", "has the tag"),
        ("people.yaml", "- id: x\n  name: y\n---\n- z\n", "people.yaml:3", "second document"),
        ("people.yaml", "- [a]: b\n", "people.yaml:1", "a key that is no text"),
        ("people.yaml", "- id: x\n  name: a\x07b\n", "people.yaml:2", "control character"),
        ("people.yaml", '- id: x\n  name: "a\\nb"\n', "people.yaml:2", "one line of at most 200"),
        ("people.yaml", "- id: a/b\n  name: y\n", "people.yaml:1", "without blanks and / + # |"),
        ("people.yaml", "- " * 60 + "a", "people.yaml:1", "nested over 50 deep"),
        ("people.yaml", "[" * 100_000, "people.yaml:", "is not YAML"),
        ("people.yaml", "- id: x\n  name: y\n  contacts:\n", "people.yaml:3", "is empty; expected a list"),
        ("people.yaml", "- id: x\n  name: 王".encode("gbk"), "people.yaml:2", "is not UTF-8"),
        ("points.csv", f"{POINTS}\n{PLANT},gw1,王,flow,1".encode("gbk"), "points.csv:2", "is not UTF-8"),
        ("points.csv", f"{POINTS}".encode("utf-16"), "points.csv:1", "is not UTF-8"),
        ("points.csv", "", "points.csv:1", "is empty"),
        ("points.csv", "\n\n", "points.csv:1", "is empty"),
        ("points.csv", f'{POINTS}\n\n{PLANT},gw1,"A"B,flow,1\n', "points.csv:3", "is not CSV"),
        ("points.csv", f'{POINTS}\n{PLANT},gw1,"A,flow,1\n', "points.csv:2", "is not CSV"),
        ("points.csv", f'{POINTS},place\n{PLANT},gw1,A,flow,1,"a\nb"\n', "points.csv:2", "place"),
        ("points.csv", f"{POINTS}\n{PLANT},gw1,A,flow,1,,x\n", "points.csv:2", "has 7 cells; expected 5"),
        ("points.csv", f"{POINTS}\n{PLANT},gw1,A,flow,1\n", "enterprises.yaml:8", "has no point"),
        (
            "points.csv",
            f"{POINTS},stuck_within\n{PLANT},gw1,A,flow,1,2\n",
            "points.csv:2",
            "without stuck_after",
        ),
        ("points.csv", f"{POINTS},unit\n{PLANT},gw1,A,flow,1,R-9\n", "points.csv:2", "one of R-101"),
        ("points.csv", f"{POINTS},L,L_reset\n{PLANT},gw1,A,flow,1,5,4\n", "points.csv:2", "at L or above it"),
        ("points.csv", f"{POINTS},interval\n{PLANT},gw1,A,flow,1,60\n", "points.csv:2", "a time up to 366d"),
        ("points.csv", f"{POINTS},interval\n{PLANT},gw1,A,flow,1,-5s\n", "points.csv:2", "a time up to 366d"),
        ("points.csv", f"{POINTS},rate,rate_over\n{PLANT},gw1,A,flow,1,0,1s\n", "points.csv:2", "above 0"),
        ("points.CSV", "", "points.CSV:1", "is not read"),
        ("registry.yml", "", "registry.yml:1", "is not read"),
        ("points/second.CSV", "", "points/second.CSV:1", "a name that ends with .csv"),
        ("points/second.xlsx", "", "points/second.xlsx:1", "a name that ends with .csv"),
        ("points/deeper/second.csv", "", "points/deeper:1", "a name that ends with .csv"),
        ("points", "", "points:1", "a folder of CSV files"),
        ("points.csv", f"{POINTS},H\n{PLANT},gw1,A,flow,1,1_000\n", "points.csv:2", "is '1_000'"),
        ("points.csv", f"{POINTS},rate,rate_over\n{PLANT},gw1,A,flow,1,1_0,1s\n", "points.csv:2", "is '1_0'"),
        (
            "people.yaml",
            "- id: wang\n  name: 王\n  contacts:\n    - {channel: phone, address: '1'}\n"
            "    - {channel: webhook, address: 'https://a.example'}\n    - {channel: phone, address: '1'}\n",
            "people.yaml:6",
            "[0].contacts[2]: 'phone 1' is on line 4 too",
        ),
        ("registry.yaml", "grid: []", "registry.yaml:1", "grid: is empty; expected at least one"),
        ("duty.yaml", "- {place: system, person: wang, hours: 08:00-08:00}", "duty.yaml:1", "hours"),
        ("duty.yaml", "- {place: system, person: wang, hours: 08:00-25:00}", "duty.yaml:1", "hours"),
    ],
)
def test_one_mistake(tmp_path: Path, file: str, text: str | bytes | None, place: str, problem: str) -> None:
    files: dict[str, str | bytes] = {**documented()}
    if text is None:
        del files[file]
    else:
        files[file] = text
    found = mistakes(write(tmp_path / "r", files))
    assert any(line.startswith(place) and problem in line for line in found), found


def test_a_registry_without_the_usual_levels_must_name_its_own(tmp_path: Path) -> None:
    files = documented()
    files["cells.csv"] = "id,name,level,parent\n"
    files["registry.yaml"] = "grid: [{id: works, name: 厂区, level: works}]\n"
    files["enterprises.yaml"] = files["enterprises.yaml"].replace("chengdong", "works")
    files["duty.yaml"] = f"- {{place: {PLANT}, person: wang}}\n"
    found = mistakes(write(tmp_path / "r", files))
    assert [line.split(": ")[1] for line in found] == [
        *("escalation.I.told_level", "escalation.II.told_level"),
        *("escalation.III.told_level", "escalation.III.top_level"),
    ]
    files["registry.yaml"] += (
        "escalation:\n  I: {told_level: nobody}\n  II: {told_level: works}\n"
        "  III: {told_level: nobody, top_level: enterprise}\n"
    )
    escalation = compile_folder(write(tmp_path / "r", files)).escalation
    assert [(e.told_level, e.top_level) for e in escalation.values()] == [
        *(("", "works"), ("works", "works"), ("", ""), ("", ""))
    ]


def test_an_enterprise_out_of_reach_of_a_called_level_is_a_mistake(tmp_path: Path) -> None:
    files = documented()
    files["enterprises.yaml"] = files["enterprises.yaml"].replace("chengdong", "haizhou")
    [found] = mistakes(write(tmp_path / "r", files))
    assert found.startswith("enterprises.yaml:3: [0].cell: lies below no cell of level 'district'")


def test_a_missing_folder_is_a_mistake(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path / "nowhere")
    assert "nowhere:1: cannot be read" in mistake


def test_what_editors_and_office_programs_leave_is_passed_over(tmp_path: Path) -> None:
    files = documented()
    version = compile_folder(write(tmp_path / "r", files)).version
    for name in ("second.csv~", "second.csv.bak", ".second.csv.swp", "._second.csv", "~$second.csv"):
        files[f"points/{name}"] = "\0"
    assert compile_folder(write(tmp_path / "r", files)).version == version


def test_no_action_need_be_waited_for(tmp_path: Path) -> None:
    files = documented()
    files["registry.yaml"] = files["registry.yaml"].replace("action_within: 30min", "action_within: 0")
    assert compile_folder(write(tmp_path / "r", files)).escalation["III"].action_within == 0


def test_what_excel_writes_loads(tmp_path: Path) -> None:
    """A byte order mark, CRLF, quotes where none are needed, blanks around cells, an empty line."""
    files: dict[str, str | bytes] = {**documented()}
    plain = compile_folder(write(tmp_path / "r", files))
    text = documented()["points.csv"].replace(",temperature,", ',"temperature",').replace(",200,", ", 200 ,")
    files["points.csv"] = b"\xef\xbb\xbf" + f"{text}\n".replace("\n", "\r\n").encode()
    assert compile_folder(write(tmp_path / "r", files)).version == plain.version


@pytest.mark.parametrize(
    ("columns", "cells", "good"),
    [
        ("L,L_reset,H", "5,8.9,9", True),
        ("L,L_reset,H", "5,9,9", False),
        ("L,L_reset", "5,5", True),
        ("L,H,H_reset", "5,9,5.1", True),
        ("L,H,H_reset", "5,9,5", False),
        ("LL,HH,HH_reset", "5,9,5", False),
        ("H,H_reset", "9,9", True),
        ("H,H_reset", "9,9.1", False),
        ("H,H_reset", ",9", False),
        ("H,HH,HH_reset", "9,10,8", True),
        ("H,range_low,H_reset", "9,0,0", False),
        ("H,range_low,H_reset", "9,0,0.1", True),
        ("L,range_high,L_reset", "1,9,9", False),
        ("H,range_high", "9,9", True),
        ("H,range_high", "9.1,9", False),
        ("L,range_low", "0,0", True),
        ("L,range_low", "-1,0", False),
        ("LL,L", "5,5", False),
        ("LL,HH", "5,4", False),
        ("range_low,range_high", "5,5", False),
        ("H,range_low", "5,5", False),  # nothing that the sensor can show is below it
        ("H,H_reset,range_low", "5,5,5", False),
        ("L,range_high", "9,9", False),
        ("HH,range_low", "5,4.9", True),
    ],
)
def test_where_limits_and_resets_may_lie(tmp_path: Path, columns: str, cells: str, good: bool) -> None:
    files = documented()
    files["enterprises.yaml"] = files["enterprises.yaml"].partition("  groups:")[0]
    files["points.csv"] = f"{POINTS},{columns}\n{PLANT},gw1,A,flow,1,{cells}\n"
    folder = write(tmp_path / "r", files)
    if good:
        assert len(compile_folder(folder).points) == 1
    else:
        assert all(line.startswith("points.csv:2: ") for line in mistakes(folder))


@pytest.mark.parametrize(
    ("columns", "cells", "mistake"),
    [
        ("H,H_reset,H_on_delay", "８O,78,5s", "H: is '８O'"),
        ("H,H_reset,range_low", "5,5.o,5", "H_reset: is '5.o'"),
        ("rate,rate_over", "1,0", "rate_over: is '0'"),
        ("rate,rate_over", "x,5s", "rate: is 'x'"),
        ("stuck_within,stuck_after", "1,5", "stuck_after: is '5'"),
    ],
)
def test_one_mistake_in_a_cell_is_reported_once(
    tmp_path: Path, columns: str, cells: str, mistake: str
) -> None:
    files = documented()
    files["enterprises.yaml"] = files["enterprises.yaml"].partition("  groups:")[0]
    files["points.csv"] = f"{POINTS},{columns}\n{PLANT},gw1,A,flow,1,{cells}\n"
    (line,) = mistakes(write(tmp_path / "r", files))
    assert line.startswith(f"points.csv:2: {mistake}")


@pytest.mark.parametrize(
    "row",
    [
        f"{PLANT[:-1]}?,gw1,TI-1102,temperature,°C,R-101-T",
        f"{PLANT},gw1,TI-1102,temperature,°C,R-101-X",
        f"{PLANT},gw1,TI-1102,temperature,{'x' * 201},R-101-T",
    ],
)
def test_a_groups_row_with_a_mistake_is_reported_once(tmp_path: Path, row: str) -> None:
    files = documented()
    files["points.csv"] = f"{POINTS},group\n{PLANT},gw1,TI-1101,temperature,°C,R-101-T\n{row}\n"
    (line,) = mistakes(write(tmp_path / "r", files))
    assert line.startswith("points.csv:3: ")


# ---- versions


def test_the_version_does_not_hang_on_how_it_is_written(tmp_path: Path) -> None:
    files = documented()
    plain = compile_folder(write(tmp_path / "r", files)).version
    header, *rows = files["points.csv"].splitlines()
    columns = list(reversed(range(len(header.split(",")))))

    def turned(line: str) -> str:
        cells = line.split(",")
        return ",".join(cells[column] for column in columns)

    files["points.csv"] = "\n".join([turned(header), *(turned(row) for row in reversed(rows[1:]))]) + "\n"
    files["points/first.csv"] = f"{header}\n\n{rows[0]}\n"
    files["people.yaml"] = "# people\n" + files["people.yaml"].replace("zh if left out", "") + "\n\n"
    files["duty.yaml"] = "\n".join(reversed(files["duty.yaml"].splitlines()))
    assert compile_folder(write(tmp_path / "r", files)).version == plain


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("points.csv", ",78,95,", ",77,95,"),
        ("points.csv", "釜温 A", "釜温 C"),
        ("people.yaml", "13800000001", "13800000009"),
        ("duty.yaml", "Mon-Fri", "Mon-Sat"),
        ("registry.yaml", "5min", "6min"),
        ("registry.yaml", "海州市", "海城市"),
        ("enterprises.yaml", "2.0", "2.5"),
    ],
)
def test_the_version_hangs_on_what_is_said(tmp_path: Path, file: str, old: str, new: str) -> None:
    files = documented()
    plain = compile_folder(write(tmp_path / "r", files)).version
    assert files[file].count(old) >= 1
    files[file] = files[file].replace(old, new)
    assert compile_folder(write(tmp_path / "r", files)).version != plain


# ---- any damage


GOOD = documented()

damage = st.tuples(
    st.sampled_from(sorted(GOOD)),
    st.integers(0, 10_000),
    st.integers(0, 30),
    st.one_of(
        st.binary(max_size=6),
        st.text(max_size=6).map(str.encode),
        st.sampled_from(
            [
                *(
                    b"\n",
                    b",",
                    b'"',
                    b": ",
                    b"- ",
                    b"[",
                    b"{",
                    b"&a ",
                    b"*a",
                    b"!!",
                    b"#",
                    b"%",
                    b"|",
                    b"\t",
                    b"\r",
                )
            ]
        ),
        st.sampled_from([*(b"nan", b"inf", b"-1", b"0", b"1e999", b"9" * 400, b"\x00", b"\xff", b"system")]),
        st.sampled_from([text.encode() for text in GOOD.values()]),
    ),
)


@settings(max_examples=400)
@given(st.lists(damage, min_size=1, max_size=3))
def test_any_damage_loads_or_is_told_with_file_and_line(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, int, int, bytes]]
) -> None:
    files = {name: text.encode() for name, text in GOOD.items()}
    for name, place, length, new in damages:
        place %= len(files[name]) + 1
        files[name] = files[name][:place] + new + files[name][place + length :]
    folder = write(tmp_path_factory.getbasetemp() / "damaged", files)
    found = None
    try:
        assert len(compile_folder(folder).points) <= 10
    except RegistryErrors as errors:
        found = errors.mistakes
    assert found is None or found
    for mistake in found or ():
        text = files[mistake.file].decode("utf-8", "replace")
        assert 1 <= mistake.line <= len(text.splitlines()) + 1
        assert mistake.problem
        assert mistake.expected
