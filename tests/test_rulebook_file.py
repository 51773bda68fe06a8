"""The rulebook's file: whatever is wrong with it is said at once, with its line; what is right is read as it says."""

import json
from pathlib import Path

import pytest

from registry.clock import MINUTE, SECOND
from registry.mistakes import RegistryErrors
from streams import names, rulebook_file, templates
from streams.finding import Ask, Tier
from streams.rulebook import (
    All,
    Any,
    AtLeast,
    For,
    Not,
    Pattern,
    Rulebook,
    Sequence,
    Within,
    pack,
    unpack,
)

DOCS = Path(__file__).parents[1] / "docs"

TIERS = "tiers: {" + ", ".join(f"{key}: IV" for key in names.TIERED) + "}\n"


def read(folder: Path, text: str) -> Rulebook:
    path = folder / "rules.yaml"
    path.write_text(text, "utf-8")
    return rulebook_file.read(path)


def mistakes(folder: Path, text: str) -> list[str]:
    """What is said of a file, "LINE: place: what is wrong; expected ..." """
    with pytest.raises(RegistryErrors) as error:
        read(folder, text)
    return [str(mistake).removeprefix("rules.yaml:") for mistake in error.value.mistakes]


def condition(folder: Path, text: str) -> object:
    """A condition as it is read."""
    rules = f"{TIERS}compound:\n  one:\n    scope: unit\n    when: {text}\n    tier: II\n    say: {{zh: 一, en: one}}\n"
    return read(folder, rules).compound[0].when


BAD = """\
tiers:
  HH: V
  H: IV
  Hh: III
points:
  combustible_gas:
    tiers: {HH: II, rats: IV}
    given: {H: 50, HH: 25, on_dely: 5s, interval: 5}
    ceilings: {L: 10}
  methane.T1:
    given: {H_reset: 1.0, rate: 0.5}
  smell:
    clause: none
  toxic_gas:
    kind: toxic_gass
    engineering_unit: 1_000
    given: {HH: 1_000}
compound:
  no good id:
    scope: unit
  first:
    scope: plant
    when:
      all:
        - {finding: limit.hihg}
        - {finding: limit.high, levels: [LL], kinds: [combustible_gass]}
        - {at_least: {count: 1, of: {finding: silent}, diferent: unit}}
        - {for: {time: 0s, of: {finding: rate}}}
        - {within: {time: 10min, of: [{finding: rate}]}}
        - {nothing: here}
        - {finding: rate, all: [{finding: silent}]}
    tier: none
    say: {zh: "", en: one, de: eins}
  second:
    scope: enterprise
    when: {not: {finding: equipment.overdue}}
    tier: II
    say: {zh: 一, en: one}
    asks: [{what: joint-inspection}]
"""


def test_a_rulebook_with_many_mistakes_names_them_all(tmp_path: Path) -> None:
    said = mistakes(tmp_path, BAD)
    expected = [
        "2: tiers.HH: is 'V'; expected I, II, III, IV or none",
        "4: tiers.Hh: is 'Hh'; expected H",
        "7: points.combustible_gas.tiers.rats: is 'rats'; expected rate",
        "8: points.combustible_gas.given.on_dely: unknown key; expected on_delay",
        "8: points.combustible_gas.given.interval: is '5'; expected a time",
        "9: points.combustible_gas.ceilings.L: is 'L'; expected one of H, HH",
        "11: points.methane.T1.given.H_reset: is given without H; expected H too",
        "11: points.methane.T1.given.rate: is given without rate_over; expected rate_over too",
        "12: points.smell: is of no kind; expected kind, or a name that begins with one",
        "15: points.toxic_gas.kind: is 'toxic_gass'; expected one of combustible_gas",
        "17: points.toxic_gas.given.HH: is '1_000'; expected a number",
        "19: compound.no good id: is 'no good id'; expected letters from a to z and digits, with - or _ between them",
        "19: compound.no good id.when: is missing; expected a value",
        "19: compound.no good id.tier: is missing; expected a value",
        "19: compound.no good id.say: is missing; expected a value",
        "22: compound.first.scope: is 'plant'; expected group, unit, pipeline, enterprise, neighbours, or cell:",
        "25: compound.first.when.all[0].finding: is 'limit.hihg', which no rule gives; expected limit.high",
        "26: compound.first.when.all[1].levels[0]: is 'LL', a level that limit.high does not have; expected H, HH",
        "26: compound.first.when.all[1].kinds[0]: is 'combustible_gass', a kind that limit.high does not have; "
        "expected combustible_gas",
        "27: compound.first.when.all[2].at_least.count: is '1'; expected a number from 2 to 999",
        "27: compound.first.when.all[2].at_least.diferent: unknown key; expected different",
        "28: compound.first.when.all[3].for.time: is '0s'; expected a time above 0",
        "29: compound.first.when.all[4].within.of: has 1; expected 2 or more",
        "30: compound.first.when.all[5]: is no condition; expected a mapping with exactly one of the keys finding",
        "31: compound.first.when.all[6]: is no condition; expected a mapping with exactly one of the keys finding",
        "33: compound.first.say.zh: is empty; expected one line",
        "33: compound.first.say.de: unknown key; expected one of zh, en",
        "36: compound.second.when: holds where nothing was found; expected a condition that holds only where",
        "39: compound.second.asks[0].lead: is missing; expected a value",
    ]
    for line in expected:
        assert any(one.startswith(line) for one in said), f"{line}\nnot in\n" + "\n".join(said)
    forgotten = ", ".join(key for key in names.TIERED if key not in ("HH", "H"))
    assert [one for one in said if not one.startswith(tuple(expected))] == [
        f"1: tiers: does not say {forgotten}; expected each, with a tier or none"
    ]


def test_the_limits_that_are_given_rise_and_reset_on_the_right_side(tmp_path: Path) -> None:
    of = "points: {temperature: {given: {%s}}}\n"
    assert mistakes(tmp_path, TIERS + of % "H: 50, HH: 25") == [
        "2: points.temperature.given.HH: 25 is not above 50, a lower limit; expected LL < L < H < HH"
    ]
    assert mistakes(tmp_path, TIERS + of % "L: 5, L_reset: 4, H: 50, H_reset: 51") == [
        "2: points.temperature.given.H_reset: 51 for H 50; expected a value at H or below it",
        "2: points.temperature.given.L_reset: 4 for L 5; expected a value at L or above it",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: is empty; expected a mapping with the keys tiers, points, compound"),
        ("- 1\n", "1: is a list; expected a mapping with the keys tiers, points, compound"),
        ("tiers: {HH: &a II, LL: *a}\n", "1: tiers.HH: is an anchor or alias"),
        ("tiers: {HH: II, HH: III}\n", "1: tiers.HH: is on line 1 too"),
        ("tiers: {HH: II\n", "2: is not YAML"),
        (
            TIERS + "points: {temperature: []}\n",
            "2: points.temperature: is a list; expected a mapping with the keys",
        ),
        (TIERS + "compund: {}\n", "2: compund: unknown key; expected compound"),
    ],
)
def test_what_is_no_rulebook_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """And little else: what is left out of it is one mistake."""
    found = mistakes(tmp_path, text)
    assert any(one.startswith(said) for one in found), found
    assert len(found) <= 4, found


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.yaml", "is missing"), (tmp_path, "has no *.yaml")):
        with pytest.raises(RegistryErrors, match=said.replace("*", r"\*")):
            rulebook_file.read(path)


def test_a_folder_is_read_as_one_and_says_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TIERS + "points: {temperature: {tiers: {HH: I}}}\n", "utf-8")
    (tmp_path / "b.yaml").write_text("points: {pressure: {tiers: {HH: II}}}\n", "utf-8")
    rules = rulebook_file.read(tmp_path)
    assert {name: template.tiers["HH"] for name, template in rules.templates.items()} == {
        "temperature": Tier.I,
        "pressure": Tier.II,
    }
    (tmp_path / "b.yaml").write_text("tiers: {HH: I}\npoints: {temperature: {}}\n", "utf-8")
    (tmp_path / "c.yml").write_text("", "utf-8")
    with pytest.raises(RegistryErrors) as error:
        rulebook_file.read(tmp_path)
    assert [str(mistake) for mistake in error.value.mistakes] == [
        "b.yaml:1: tiers.HH: is in a.yaml too; expected every one once",
        "b.yaml:2: points.temperature: is in a.yaml too; expected every one once",
        "c.yml:1: is not read; expected a name that ends with .yaml",
    ]


def test_each_condition_is_read_as_it_is_written(tmp_path: Path) -> None:
    gas = Pattern("limit.high", ("HH",), ("methane", "toxic_gas"))
    written = "{finding: limit.high, levels: [HH], kinds: [methane, toxic_gas]}"
    rate, silent = Pattern("rate"), Pattern("silent")
    for text, meant in {
        written: gas,
        "{all: [{finding: rate}, {finding: silent}]}": All((rate, silent)),
        "{any: [{finding: rate}, {finding: silent}]}": Any((rate, silent)),
        "{all: [{finding: rate}, {not: {finding: silent}}]}": All((rate, Not(silent))),
        f"{{at_least: {{count: 2, of: {written}}}}}": AtLeast(2, gas, "subject"),
        "{at_least: {count: 3, of: {finding: rate}, different: enterprise}}": AtLeast(3, rate, "enterprise"),
        "{within: {time: 10min, of: [{finding: rate}, {finding: silent}]}}": Within(
            10 * MINUTE, (rate, silent)
        ),
        "{for: {time: 30s, of: {any: [{finding: rate}]}}}": For(30 * SECOND, Any((rate,))),
        "{sequence: {time: 1min, of: [{finding: rate}, {finding: silent}]}}": Sequence(
            MINUTE, (rate, silent)
        ),
    }.items():
        assert condition(tmp_path, text) == meant


def test_a_pattern_names_templates_of_the_rulebook(tmp_path: Path) -> None:
    """Also of another file; and only where points are found, for nothing else has a template."""
    rules = (
        "compound:\n  one:\n    scope: unit\n    tier: II\n    say: {zh: 一, en: one}\n    when:\n      any:\n"
        "        - {finding: limit.high, templates: [temperature.cold]}\n"
    )
    (tmp_path / "a.yaml").write_text(rules, "utf-8")
    (tmp_path / "b.yaml").write_text(
        f"{TIERS}points: {{temperature.cold: {{}}, methane.T1: {{}}}}\n", "utf-8"
    )
    pattern = Pattern("limit.high", templates=("temperature.cold",))
    assert rulebook_file.read(tmp_path).compound[0].when == Any((pattern,))
    more = "        - {finding: silent, templates: [temperature.cool]}\n        - {finding: penalty, templates: [x]}\n"
    (tmp_path / "a.yaml").write_text(rules + more, "utf-8")
    with pytest.raises(RegistryErrors) as error:
        rulebook_file.read(tmp_path)
    assert [str(one) for one in error.value.mistakes] == [
        "a.yaml:9: compound.one.when.any[1].templates[0]: is 'temperature.cool', which the rulebook does not have; "
        "expected temperature.cold",
        "a.yaml:10: compound.one.when.any[2].templates: is given, but penalty is not found in points; "
        "expected no templates",
        "a.yaml:10: compound.one.when.any[2].templates[0]: is 'x', which the rulebook does not have; "
        "expected one of temperature.cold, methane.T1",
    ]


def test_a_template_takes_from_that_of_its_kind_what_it_leaves_out(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        TIERS
        + """\
points:
  toxic_gas:
    tiers: {HH: II, H: none}
    engineering_unit: ppm
    given: {H: 5, on_delay: 2s}
    ceilings: {H: 9}
    clause: C
  toxic_gas.a: {given: {H: 1}, tiers: {H: III}}
  toxic_gas.b: {engineering_unit: mg/m³}
  odd: {kind: flow, tiers: {LL: I}}
""",
    )
    one, other, odd = (rules.templates[name] for name in ("toxic_gas.a", "toxic_gas.b", "odd"))
    assert (one.kind, one.tiers) == ("toxic_gas", {"HH": Tier.II, "H": Tier.III})
    assert (one.engineering_unit, one.ceilings, one.clause) == ("ppm", {"H": 9.0}, "C")
    assert one.given == {"H": 1.0, "on_delay": 2 * SECOND}
    assert other.given == {"on_delay": 2 * SECOND}, "a time is one in every engineering unit"
    assert other.ceilings == {}, "numbers of another engineering unit"
    assert other.tiers == {"HH": Tier.II, "H": None}
    assert (odd.kind, odd.tiers) == ("flow", {"LL": Tier.I})
    assert rules.templates["toxic_gas"].given == {"H": 5.0, "on_delay": 2 * SECOND}


GROUPS = {  # what a kind gives, of which a name takes the whole or nothing: (of the kind, of the name alone)
    "limits": ("H: 5, H_reset: 4, HH: 9", "L: 1"),
    "on-delays": ("HH_on_delay: 1s, on_delay: 2s", "H_on_delay: 3s"),
    "off-delays": ("off_delay: 4s, H_off_delay: 5s", "off_delay: 6s"),
    "interval": ("interval: 30s", "interval: 1min"),
    "rate": ("rate: 2, rate_over: 10s", "rate: 3, rate_over: 1min"),
    "stuck": ("stuck_after: 1h, stuck_within: 0.5", "stuck_after: 2h"),
    "ahead": ("ahead: 10min, ahead_over: 5min", "ahead: 5min, ahead_over: 1min"),
    "state": ("alarm_state: 1, state_delay: 5s", "alarm_state: 0"),
}


def _given(folder: Path, kind: str, name: str, unit: str = "") -> tuple[dict[str, float], dict[str, float]]:
    """What the template of a kind gives, and what another one of the kind does."""
    points = f"""\
points:
  pressure: {{engineering_unit: MPa, given: {{{kind}}}}}
  pressure.own: {{given: {{{name}}}{unit and f", engineering_unit: {unit}"}}}
"""
    found = read(folder, TIERS + points).templates
    return found["pressure"].given, found["pressure.own"].given


@pytest.mark.parametrize("group", GROUPS)
def test_a_name_that_gives_one_thing_keeps_all_else_that_its_kind_gives(tmp_path: Path, group: str) -> None:
    limits = "H: 5, " if group == "on-delays" else ""  # H_on_delay stands only beside H
    name = limits + GROUPS[group][1]
    usual, found = _given(tmp_path, ", ".join(kind for kind, _ in GROUPS.values()), name)
    _, own = _given(tmp_path, "", name)
    replaced = GROUPS[group][0] + (GROUPS["limits"][0] if limits else "")
    assert found == {
        **own,
        **{column: value for column, value in usual.items() if f"{column}:" not in replaced},
    }
    assert len(found) > len(own)


def test_only_what_is_not_measured_is_taken_across_engineering_units(tmp_path: Path) -> None:
    kind = ", ".join(kind for kind, _ in GROUPS.values())
    _, found = _given(tmp_path, kind, "", unit="kPa")
    assert found.keys() >= {"interval", "HH_on_delay", "off_delay", "ahead", "alarm_state", "state_delay"}
    assert not found.keys() & {"H", "H_reset", "HH", "rate", "rate_over", "stuck_after", "stuck_within"}
    assert _given(tmp_path, "stuck_after: 1h", "", unit="kPa")[1] == {"stuck_after": 60 * MINUTE}


def test_a_rule_and_its_topic_leave_room_for_what_stands_before_them(tmp_path: Path) -> None:
    rules = (
        TIERS + "compound:\n  %s:\n    topic: %s\n    scope: unit\n    when: {finding: rate}\n"
        "    tier: II\n    say: {zh: 一, en: one}\n"
    )
    fits, long = "a" * 55, "a" * 56
    assert read(tmp_path, rules % (fits, fits)).compound[0].topic == fits
    assert len(f"compound.{fits}") == 64
    assert mistakes(tmp_path, rules % (long, "b" * 56)) == [
        f"3: compound.{long}: is {long!r}, 56 characters; expected at most 55",
        f"4: compound.{long}.topic: is {'b' * 56!r}, 56 characters; expected at most 55",
    ]


def test_the_version_is_of_what_it_says_not_of_how_it_is_written(tmp_path: Path) -> None:
    one = read(tmp_path, TIERS + "points: {flow: {tiers: {LL: I}}, ph: {tiers: {}}}\n")
    other = read(tmp_path, "# a comment\npoints:\n  ph: {}\n  flow:\n    tiers: {LL: I}\n" + TIERS)
    changed = read(tmp_path, TIERS + "points: {flow: {tiers: {LL: II}}, ph: {}}\n")
    assert one.version == other.version != changed.version
    assert unpack(pack(one)) == one


def test_the_shipped_rulebook_keeps_the_tiers_of_the_design() -> None:
    rules = rulebook_file.shipped()
    devices = (
        "clock",
        "gateway.offline",
        "silent",
        "bad_quality",
        "range",
        "rate",
        "stuck",
        "disagreement",
        "state",
    )
    tiers = {"LL": Tier.III, "L": Tier.IV, "H": Tier.IV, "HH": Tier.III, **dict.fromkeys(devices, Tier.IV)}
    assert rules.tiers.items() >= tiers.items()
    for kind in ("combustible_gas", "methane", "toxic_gas", "toxic_gas.NH3", "methane.T1"):
        assert rules.tier(kind, "limit.high", "HH") == Tier.II
        assert rules.tier(kind, "limit.high", "H") == Tier.IV
    assert rules.tier("temperature", "limit.low", "LL") == Tier.III
    assert rules.tier("temperature", "time_to_limit", "HH") == Tier.IV
    assert rules.tier("", "leak", "suspected") == Tier.III
    assert rules.tier("", "leak", "confirmed") == Tier.I
    assert all(rule.clause and rule.say.keys() == {"zh", "en"} for rule in rules.compound)
    by_id = {rule.id: rule for rule in rules.compound}
    ours = by_id["overdue-equipment-overstored"]
    assert (ours.tier, ours.asks) == (
        Tier.II,
        (Ask("joint-inspection", "market-regulation", ("emergency-management",)),),
    )
    assert by_id["runaway"].tier == Tier.I


def test_templates_can_give_what_the_engine_takes() -> None:
    assert set(rulebook_file.GIVEN) == templates.GIVEN


def test_the_published_schema_is_the_one_that_files_are_read_by() -> None:
    published = (DOCS / "rulebook.schema.json").read_text("utf-8")
    assert published == json.dumps(rulebook_file.schema(), indent=1, ensure_ascii=False) + "\n"


def test_the_schema_says_values_as_they_are_written() -> None:
    kinds = rulebook_file.schema()["$defs"]
    assert kinds["Lasting"]["properties"]["time"]["type"] == "string"
    assert set(kinds["PatternEntry"]["properties"]["finding"]["enum"]) == set(names.NAMES)
    assert kinds["CompoundEntry"]["properties"]["tier"]["enum"] == ["I", "II", "III", "IV", "none"]
    assert set(kinds["Given"]["properties"]) == templates.GIVEN
    assert {"not", "for"} <= set(kinds["NotEntry"]["properties"]) | set(kinds["ForEntry"]["properties"])
    assert all(kind["additionalProperties"] is False for kind in kinds.values())


def test_the_pages_example_is_a_rulebook_and_the_page_names_every_finding(tmp_path: Path) -> None:
    page = (DOCS / "rulebook.md").read_text("utf-8")
    example = page.split("```yaml\n")[1].partition("```")[0]
    rules = read(tmp_path, example)
    assert rules.templates["combustible_gas.tunnel"].ceilings == {"H": 25, "HH": 50}
    assert [rule.id for rule in rules.compound] == ["hot-work-gas"]
    for name in names.NAMES:
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (
            "{finding: chemical.stored, kinds: [液氨]}",
            "'液氨', a kind that chemical.stored does not have; expected 7664-41-7",
        ),
        (
            "{finding: chemical.stored, kinds: [7664-41-8]}",
            "expected a CAS number with its right check digit",
        ),
        ("{finding: permit.hot_work, kinds: [lifting]}", "expected one of hot_work"),
        ("{finding: hazard.overdue, kinds: [mayor]}", "expected major"),
        ("{finding: warning.storm, kinds: [flood]}", "expected one of storm"),
        ("{finding: disagreement, kinds: [temperature]}", "expected no kind"),
        ("{finding: unit.major_hazard, kinds: ['1']}", "expected no kind"),
    ],
)
def test_a_kind_that_no_such_finding_can_have_is_a_mistake(
    tmp_path: Path, pattern: str, problem: str
) -> None:
    """It would never hold, and nobody would see that."""
    with pytest.raises(RegistryErrors) as error:
        condition(tmp_path, pattern)
    [one] = map(str, error.value.mistakes)
    assert one.startswith("rules.yaml:5: compound.one.when.kinds[0]: is ")
    assert problem in one
