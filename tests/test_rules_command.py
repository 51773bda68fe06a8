"""`fenghuo rules`: what it says to whoever writes a rulebook."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fenghuo import rule_tests
from fenghuo.__main__ import app
from registry import versions
from registry.compile import compile_folder
from registry.database import open_database
from registry.mistakes import RegistryErrors
from registry.store_tables import upgrade
from streams import configuration, rule_test, rulebook_file

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo" / "registry"
REACTOR, MINE = "91370281MA3TR1101K", "91370281MA3MK1160B"

GIVEN = """\
given:
  points:
    - {point: GD-1, kind: combustible_gas, engineering_unit: "%LEL", unit: R1, interval: 30s}
tests:
"""


def rules(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["rules", *map(str, words)], env={"COLUMNS": "160"})


def write(folder: Path, text: str) -> Path:
    path = folder / "tests.yaml"
    path.write_text(text, "utf-8")
    return path


def mistakes(path: Path) -> list[str]:
    with pytest.raises(RegistryErrors) as error:
        rule_tests.read(path)
    return [str(one) for one in error.value.mistakes]


# ---- test ------------------------------------------------------------------------------------------


def test_each_shipped_compound_rule_has_a_test_and_passes() -> None:
    path = ROOT / "examples" / "rules" / "shipped.yaml"
    said = rules("test", path)
    assert said.exit_code == 0, said.output
    expected = {
        one
        for case in rule_tests.read(path)
        for entry in case.expect or ()
        for one in (entry.level, entry.rule.removeprefix("compound."))
    }
    assert {rule.id for rule in rulebook_file.shipped().compound} <= expected


def test_the_pages_example_of_a_test_is_as_expected(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rulebook.md").read_text("utf-8")
    said = rules("test", write(tmp_path, page.split("```yaml\n")[2].partition("```")[0]))
    assert said.exit_code == 0, said.output


def test_what_differs_is_told_line_by_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        GIVEN
        + """\
  - name: gas
    readings:
      - {at: 0s, GD-1: 10}
      - {at: 30s, GD-1: 30}
    expect:
      - {at: 40s, rule: limit.high, subject: "point:GD-1", tier: III}
""",
    )
    said = rules("test", path)
    assert said.exit_code == 1
    lines = [line.strip() for line in said.output.splitlines()]
    assert lines == [
        "✗ tests.yaml: gas",
        '+ {at: 30s, rule: limit.high, subject: "point:GD-1", phase: begun, level: H, tier: IV, value: 30}',
        '- {at: 40s, rule: limit.high, subject: "point:GD-1", tier: III}',
        "- was expected and did not come, + came and was not expected.",
        "0 as expected, 1 not.",
    ]


def test_all_phases_silence_and_bad_values_can_be_expected(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        GIVEN
        + """\
  - name: gas, then nothing known, then nothing at all
    every: 5s
    lasts: 90s
    readings:
      - {at: 0s, GD-1: 30.5}
      - {at: 10s, GD-1: bad}
      - {at: 20s, GD-1: silent}
      - {at: 60s, GD-1: 5}
    findings:
      - {at: 0s, rule: limit.high, phase: begun, value: 30.5}
      - {at: 10s, rule: limit.high, phase: unknown}
      - {at: 35s, rule: bad_quality, phase: begun, tier: IV}
      - {at: 45s, rule: gateway.offline, subject: "gateway:gw1", phase: begun}
      - {at: 60s, rule: gateway.offline, phase: ended}
      - {at: 60s, rule: bad_quality, phase: ended}
      - {at: 60s, rule: limit.high, phase: resumed}
      - {at: 60s, rule: limit.high, phase: ended}
""",
    )
    [case] = rule_tests.read(path)
    assert rule_test.differences(case, rule_test.run(case)) == []


def test_another_rulebook_and_a_registry_folder_can_be_named(tmp_path: Path) -> None:
    text = rulebook_file.SHIPPED.read_text("utf-8").replace("tiers: {HH: II}", "tiers: {HH: I}")
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    path = write(
        tmp_path,
        f"""\
rulebook: mine.yaml
tests:
  - name: the mine
    registry: {DEMO}
    readings:
      - {{at: 0s, MM116: 1.6}}
    lasts: 5s
    expect:
      - {{at: 0s, rule: limit.high, enterprise: {MINE}, tier: I}}
""",
    )
    assert rules("test", path).exit_code == 0, rules("test", path).output
    assert rules("test", path, "--rulebook", "shipped").exit_code == 1


def test_what_is_wrong_with_a_file_of_tests_is_said_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
given:
  points:
    - {point: GD-1, kind: combustible_gaz, engineering_unit: "%LEL"}
    - {point: GD-2, kind: flow, engineering_unit: m³/h, Hh: 3}
  records:
    equipmnt: [{id: V-1}]
  facts:
    - {rule: limit.high, subject: "point:GD-1"}
tests:
  - name: one
    expect: []
  - name: two
    given:
      points: [{point: GD-1, kind: flow, engineering_unit: m³/h}]
    readings:
      - {at: 5, GD-1: 1}
      - {at: 5s, GD-2: 1}
      - {at: 6s, GD-1: high}
    expect: []
  - name: three
""",
    )
    assert [one.removeprefix("tests.yaml:").partition(";")[0] for one in mistakes(path)] == [
        "3: kind: is 'combustible_gaz'",
        "4: given.points[1].Hh: unknown column",
        "6: given.records.equipmnt: there are no such records",
        "16: tests[1].readings[0].at: is '5'",
        "17: tests[1].readings[1].GD-2: unknown point",
        "18: tests[1].readings[2].GD-1: is 'high'",
        "20: tests[2]: expects nothing",
    ]
    path = write(tmp_path, "tests:\n  - name: one\n    at: 2026-03-02T10:00:00\n    expekt: []\n")
    assert [one.partition(";")[0] for one in mistakes(path)] == [
        "tests.yaml:3: tests[0].at: is '2026-03-02T10:00:00'",
        "tests.yaml:4: tests[0].expekt: unknown key",
    ]


def test_enterprises_of_a_test_are_told_by_the_names_that_it_gives(tmp_path: Path) -> None:
    given = "enterprises: [{id: a}, {id: b}, {id: a}], points: [{enterprise: c, point: P, kind: flow}]"
    found = mistakes(write(tmp_path, f"tests:\n  - name: one\n    given: {{{given}}}\n    expect: []\n"))
    assert "tests.yaml:3: tests[0].given.enterprises[2]: 'a' is there twice; expected every one once" in found
    assert "tests.yaml:3: tests[0].given.points[0].enterprise: is 'c'; expected one of a, b" in found


def test_a_fact_that_no_record_gives_is_a_mistake(tmp_path: Path) -> None:
    fact = '{rule: limit.high, subject: "point:GD-1"}'
    [one] = mistakes(
        write(tmp_path, f"tests:\n  - name: one\n    given: {{facts: [{fact}]}}\n    expect: []\n")
    )
    assert "limit.high is found in readings" in one


# ---- lint, explain, diff ---------------------------------------------------------------------------


def test_lint_says_what_is_wrong_and_ends_so(tmp_path: Path) -> None:
    good = rules("lint", "shipped", "--registry", DEMO)
    assert good.exit_code == 0, good.output
    assert "0 errors." in good.output
    text = rulebook_file.SHIPPED.read_text("utf-8")
    (tmp_path / "high.yaml").write_text(text.replace("given: {H: 25,", "given: {H: 26,"), "utf-8")
    high = rules("lint", tmp_path / "high.yaml")
    assert high.exit_code == 1
    assert "error points.combustible_gas H is 26 %LEL; GB/T 50493-2019 5.5.2 allows 25 at most" in high.output
    (tmp_path / "bad.yaml").write_text(text.replace("tier: II\n", "tier: 2\n"), "utf-8")
    bad = rules("lint", tmp_path / "bad.yaml")
    assert bad.exit_code == 1
    assert f"Mistakes: {text.count('tier: II' + chr(10))}" in bad.output


def test_explain_says_for_real_points_what_would_be_found_at_which_value() -> None:
    said = rules("explain", "methane", MINE, "--registry", DEMO)
    assert said.exit_code == 0, said.output
    assert "point:MM116 工作面甲烷 T1" in said.output
    assert "II  limit.high HH      ≥ 1.5 %CH4, over below 1" in said.output
    compound = rules("explain", "compound.methane-fan-stopped", MINE, "--registry", DEMO)
    assert "甲烷超限，而风机处于报警状态" in compound.output
    assert "in unit:longwall by" in compound.output
    assert "limit.low LL       ≤ 0.25 m/s" in compound.output
    absent = rules("explain", "hot-work-gas", MINE, "--registry", DEMO)
    assert "cannot hold as the registry stands: nothing gives permit.hot_work" in absent.output
    assert "nothing for 10s" in rules("explain", "silent", REACTOR, "--registry", DEMO).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("methan", MINE), "expected methane"),
        (("温度", MINE), "expected a compound rule, a template, a kind or a finding's rule"),
        (("methane", "井口矿"), "expected 井口煤矿"),
        (("methane", "X"), f"expected {MINE} or 井口煤矿 or {REACTOR} or "),
        (("methane", "91370281MA3MK1160C"), f"expected {MINE}"),
    ],
)
def test_explain_helps_with_a_name_that_nothing_has(words: tuple[str, str], said: str) -> None:
    told = rules("explain", *words, "--registry", DEMO)
    assert told.exit_code == 1
    assert said in told.output.replace("\n", " ")


@pytest.mark.parametrize("name", ["temperature", "valve", "toxic_gas.CO", "permit.hot_work"])
def test_explain_knows_what_an_enterprise_does_not_have(name: str) -> None:
    told = rules("explain", name, MINE, "--registry", DEMO)
    assert (told.exit_code, "Nothing of this enterprise gives such a finding." in told.output) == (0, True)


def test_diff_says_what_changes(tmp_path: Path) -> None:
    same = rules("diff", "shipped", rulebook_file.SHIPPED)
    assert (same.exit_code, same.output.strip()) == (0, "Both say the same.")
    text = rulebook_file.SHIPPED.read_text("utf-8").replace("  HH: III\n", "  HH: II\n", 1)
    (tmp_path / "mine.yaml").write_text(text, "utf-8")
    changed = rules("diff", "shipped", tmp_path / "mine.yaml")
    assert (changed.exit_code, changed.output.strip()) == (1, "tiers.HH: III → II")


def test_a_data_folders_registry_is_read_without_a_change_or_a_lock(tmp_path: Path) -> None:
    """While another process is in the middle of an edit of it, and as one that was killed has left it; and an edit
    that is over is seen at once."""
    data = tmp_path / "data 数据 #1"
    point = f"{MINE}/MM116"
    run = CliRunner().invoke
    assert run(app, ["registry", "import", str(DEMO), "--data", str(data)]).exit_code == 0
    edit = ["registry", "set", "point", point, "HH=1.4", "HH_reset=1", "--why", "test", "--data", str(data)]
    database, killed = data / "registry.sqlite", tmp_path / "killed"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("SELECT * FROM records").fetchone()
        assert run(app, edit).exit_code == 0
        shutil.copytree(data, killed)
        other.execute("BEGIN IMMEDIATE")
        said = rules("explain", "methane", MINE, "--data", data)
        assert (said.exit_code, rules("lint", "--data", data).exit_code) == (0, 0), said.output
        assert "≥ 1.4 %CH4, over below 1" in said.output
        assert "≥ 1.5 %CH4" in rules("explain", "methane", MINE, "--data", data, "--registry", DEMO).output
    files = [killed / "registry.sqlite", killed / "registry.sqlite-wal"]
    before = [path.read_bytes() for path in files]
    assert all(before)
    assert "≥ 1.4 %CH4" in rules("explain", "methane", MINE, "--data", killed).output
    assert [path.read_bytes() for path in files] == before
    empty = rules("lint", "--data", tmp_path / "empty")
    assert (empty.exit_code, (tmp_path / "empty").exists()) == (1, False)
    assert "nothing was ever imported there" in empty.output
    fresh = open_database(tmp_path / "registry.sqlite")
    upgrade(fresh)
    fresh.dispose()
    assert "is empty: `fenghuo registry import`" in rules("lint", "--data", tmp_path).output
    assert "--data" in rules("explain", "methane", MINE).output


def test_the_rulebook_in_force_is_what_a_data_folder_is_judged_by(tmp_path: Path) -> None:
    data, mine = tmp_path / "data", tmp_path / "mine.yaml"
    words = ["registry", "import", str(DEMO), "--data", str(data)]
    assert CliRunner().invoke(app, words).exit_code == 0
    never = rules("diff", "running", "shipped", "--data", data)
    assert (never.exit_code, "has never run there" in never.output) == (1, True)
    assert "--data" in rules("diff", "running", "shipped").output
    mine.write_text(
        rulebook_file.SHIPPED.read_text("utf-8").replace("tiers: {HH: II}", "tiers: {HH: I}"), "utf-8"
    )
    folder, book = data / "versions", rulebook_file.read(mine)
    versions.want(folder, configuration.save(folder, compile_folder(DEMO), book))
    assert "I   limit.high HH" in rules("explain", "methane", MINE, "--data", data).output
    assert "II  limit.high HH" in rules("explain", "methane", MINE, "--registry", DEMO).output
    assert book.version in rules("lint", "--data", data).output
    assert rules("diff", "running", mine, "--data", data).exit_code == 0
    assert "HH: I → II" in rules("diff", "running", "shipped", "--data", data).output


@pytest.mark.parametrize("command", ["lint", "explain", "diff", "test"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert "fenghuo rules" in rules(command, "--help").output
