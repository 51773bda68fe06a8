"""What is doubtful in a rulebook, where its compound rules could hold, and what differs between two."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.clock import MINUTE, SECOND
from registry.model import FOREVER, Cell, Facts, Registry
from streams import names, rulebook_file
from streams.configuration import Configuration
from streams.finding import Ask, Tier
from streams.rulebook import All, Any, AtLeast, CompoundRule, Not, Pattern, Rulebook, Template
from streams.rulebook_lint import Severity, lint, same_unit
from streams.rulebook_reach import Reach, patterns, span
from streams.rulebook_words import difference, said
from tests.build import CELLS, PointSpec, code, make_registry

GAS = Template(
    name="combustible_gas",
    kind="combustible_gas",
    engineering_unit="%LEL",
    given={"H": 25, "HH": 50},
    ceilings={"H": 25, "HH": 50},
    clause="GB/T 50493-2019 5.5.2",
)


def rulebook(*templates: Template, compound: tuple[CompoundRule, ...] = ()) -> Rulebook:
    return Rulebook(
        tiers={}, templates={template.name: template for template in templates}, compound=compound
    )


def rule(when: object, scope: str = "unit", **of: object) -> CompoundRule:
    return CompoundRule(
        **{"id": "one", "topic": "one", "tier": Tier.II, "say": {}, **of, "scope": scope, "when": when}
    )


def gas(**of: object) -> PointSpec:
    return PointSpec(
        **{"id": "GD-1", "kind": "combustible_gas", "engineering_unit": "%LEL", "unit": "R1", **of}
    )


def problems(rules: Rulebook, *points: PointSpec, least: Severity = Severity.WARNING) -> list[str]:
    """What is said of points of one enterprise, without its code; notes only where they are asked for."""
    found = lint(rules, make_registry(points) if points else None)
    return [str(one).replace(f"{code(1)}/", "") for one in found if one.severity <= least]


def with_facts(registry: Registry, *facts: tuple[str, str, str, str, str]) -> Registry:
    """Facts (rule, enterprise, subject, kind, unit) that are always true."""
    rows = sorted(facts)
    n = len(rows)
    rules, enterprises, subjects, kinds, units = zip(*rows, strict=True)
    nothing = ("",) * n
    return replace(
        registry,
        facts=Facts(
            rule=rules,
            enterprise=enterprises,
            subject=subjects,
            record=subjects,
            name=subjects,
            kind=kinds,
            unit=units,
            level=nothing,
            clause=nothing,
            engineering_unit=nothing,
            begins=np.zeros(n, np.int64),
            ends=np.full(n, FOREVER),
            value=np.full(n, np.nan),
            limit=np.full(n, np.nan),
        ),
    )


def test_a_limit_above_its_ceiling_is_an_error_and_at_it_right() -> None:
    assert problems(rulebook(GAS), gas(H=25, HH=50)) == []
    assert problems(rulebook(GAS), gas(H=30, HH=60)) == [
        "error: GD-1: H is 30 %LEL; GB/T 50493-2019 5.5.2 allows 25 at most (template combustible_gas)",
        "error: GD-1: HH is 60 %LEL; GB/T 50493-2019 5.5.2 allows 50 at most (template combustible_gas)",
    ]
    assert problems(rulebook(GAS), gas(H=20, HH=40)) == []
    above = Template(**{**{f: getattr(GAS, f) for f in GAS.__struct_fields__}, "given": {"H": 26, "HH": 50}})
    assert problems(rulebook(above)) == [
        "error: points.combustible_gas: H is 26 %LEL; GB/T 50493-2019 5.5.2 allows 25 at most "
        "(template combustible_gas)"
    ]


def test_a_limit_close_below_its_ceiling_or_late_is_a_warning() -> None:
    [near] = problems(rulebook(GAS), gas(H=24, HH=50))
    assert near.startswith("warning: GD-1: H is 24 %LEL, close below the ceiling of 25")
    late = problems(rulebook(GAS), gas(H=25, HH=50, on_delay={"HH": MINUTE}))
    assert late == [
        "warning: GD-1: HH has to hold for 1min before anybody is told, though GB/T 50493-2019 5.5.2 sets a "
        "ceiling to it"
    ]
    assert problems(rulebook(GAS), gas(H=25, HH=50, on_delay=59 * SECOND)) == []


def test_what_cannot_be_compared_is_a_warning() -> None:
    [one, other] = problems(rulebook(GAS), gas(engineering_unit="ppm"))
    assert one.startswith("warning: GD-1: a point of combustible_gas without H and HH")
    assert other.startswith("warning: GD-1: is in ppm, template combustible_gas in %LEL")
    assert problems(rulebook(GAS), gas(engineering_unit="ppm", H=2500))[0].startswith(
        "warning: GD-1: is in ppm, "
    )
    [spelt, *_] = [
        one for one in problems(rulebook(GAS), gas(engineering_unit="% LEL", H=30)) if "write" in one
    ]
    assert spelt == "warning: GD-1: is in % LEL: write %LEL, as template combustible_gas does"
    assert any("H is 30" in one for one in problems(rulebook(GAS), gas(engineering_unit="% LEL", H=30)))


@pytest.mark.parametrize(
    ("one", "other"), [("mg/m³", "mg/m3"), ("℃", "°C"), ("%LEL", "% LEL"), ("m³/h", "m3/h")]
)
def test_spellings_of_one_unit_are_one_unit(one: str, other: str) -> None:
    assert same_unit(one, other)
    assert not same_unit(one, "ppm")


def test_a_gas_point_without_limits_is_a_warning_unless_its_template_gives_them() -> None:
    assert problems(rulebook(GAS), gas()) == []
    bare = Template(name="combustible_gas", kind="combustible_gas")
    assert problems(rulebook(bare), gas()) == [
        "warning: GD-1: a point of combustible_gas without H and HH: it can tell of no gas"
    ]
    assert problems(rulebook(bare), gas(kind="temperature")) == []


def test_a_template_that_a_point_names_must_be_there_and_of_its_kind() -> None:
    t1 = Template(name="methane.T1", kind="methane")
    assert problems(rulebook(GAS, t1), gas(template="combustible_gaz", H=25)) == [
        "error: GD-1: names template 'combustible_gaz', which the rulebook does not have: combustible_gas?"
    ]
    assert problems(rulebook(GAS, t1), gas(template="methane.T1", H=25)) == [
        "error: GD-1: is a point of combustible_gas; template methane.T1 is for methane"
    ]
    unused = problems(rulebook(GAS, t1), gas(), least=Severity.NOTE)
    assert unused == ["note: points: no point is judged by methane.T1"]


def test_a_template_with_limits_needs_its_engineering_unit() -> None:
    assert problems(rulebook(Template(name="flow", kind="flow", given={"H": 3}))) == [
        "error: points.flow: has limits or ceilings but no engineering_unit: they are given to no point"
    ]


def test_a_scope_is_a_level_of_the_grid_and_not_wider_than_what_is_judged_together() -> None:
    when = Pattern("limit.high")
    registry = make_registry([gas(H=25)])
    assert lint(rulebook(GAS, compound=(rule(when, "cell:town"),)), registry) == []
    [wrong, note] = lint(rulebook(GAS, compound=(rule(when, "cell:twon"),)), registry)
    assert (wrong.severity, note.severity) == (Severity.ERROR, Severity.NOTE)
    assert str(wrong) == (
        "error: compound.one: is for cells of level 'twon', which the grid does not have: "
        "it has city, district, town, village"
    )
    [wide] = lint(rulebook(GAS, compound=(rule(when, "cell:city"),)), registry, "district")
    assert "wider than 'district'" in wide.text
    assert lint(rulebook(GAS, compound=(rule(when, "cell:district"),)), registry, "district") == []


def test_a_rule_that_cannot_hold_says_what_is_missing() -> None:
    """Gas in R1 and a permit in R2 never meet in a unit; without the permit nothing gives one of the two."""
    rules = rulebook(GAS, compound=(rule(All((Pattern("limit.high"), Pattern("permit.hot_work")))),))
    registry = make_registry([gas(), gas(id="GD-2", unit="R2", kind="temperature")])
    [none] = lint(rules, registry)
    assert str(none) == (
        "note: compound.one: cannot hold as the registry stands: nothing gives permit.hot_work"
    )
    elsewhere = with_facts(registry, ("permit.hot_work", code(1), "permit:1", "hot_work", "R2"))
    [apart] = lint(rules, elsewhere)
    assert apart.text.endswith("what it needs is never together in one unit")
    assert lint(rules, with_facts(registry, ("permit.hot_work", code(1), "permit:1", "hot_work", "R1"))) == []
    assert lint(rules, with_facts(registry, ("permit.hot_work", code(1), "permit:1", "hot_work", ""))) == []


def test_a_pattern_of_a_template_needs_a_point_that_has_it() -> None:
    high = Pattern("limit.high", templates=("combustible_gas.tunnel",))
    tunnel = Template(name="combustible_gas.tunnel", kind="combustible_gas")
    rules = rulebook(GAS, tunnel, compound=(rule(high),))

    def impossible(*points: PointSpec) -> list[str]:
        return [one.text for one in lint(rules, make_registry(points)) if one.where == "compound.one"]

    assert impossible(gas(H=25, template="combustible_gas.tunnel")) == []
    [why] = impossible(gas(H=25))
    assert why.endswith("nothing gives limit.high of template combustible_gas.tunnel")


def test_of_alternatives_only_all_together_are_missing() -> None:
    valve, fan = Pattern("state", kinds=("valve",)), Pattern("state", kinds=("fan",))
    registry = make_registry([gas()])
    [both] = lint(rulebook(GAS, compound=(rule(Any((valve, All((fan, Pattern("limit.low")))))),)), registry)
    assert both.text.endswith("nothing gives state of valve or state of fan and limit.low")
    assert lint(rulebook(GAS, compound=(rule(Any((valve, Pattern("limit.high")))),)), registry) == []


def test_a_kind_that_nothing_known_has_is_noted() -> None:
    """What a table or the registry has is known; which licences and departments there are, only a registry says."""

    def notes(when: object, *facts: str, **of: object) -> list[str]:
        rows = (("licence.expired", code(1), f"licence:{kind}", kind, "") for kind in facts)
        registry = with_facts(make_registry([gas()]), *rows) if facts else None
        found = lint(rulebook(GAS, compound=(rule(when, "enterprise", **of),)), registry)
        return [str(one) for one in found if "cannot hold" not in one.text]

    assert notes(Pattern("equipment.overdue", kinds=("boiler", "other", "boilr"))) == [
        "note: compound.one: equipment.overdue of boilr: nothing known is of that kind; expected boiler"
    ]
    licence = Pattern("licence.expired", kinds=("mining", "own", "minning"))
    assert notes(licence) == []
    assert notes(licence, "own", "mining") == [
        "note: compound.one: licence.expired of minning: nothing known is of that kind; expected mining"
    ]
    fine = Pattern("penalty", kinds=("fire",))
    assert notes(All((fine, licence)), "own", "mining", asks=(Ask("visit", "fire"),)) == notes(
        licence, "own", "mining"
    )
    assert "note: compound.one: penalty of fire: nothing known" in notes(All((fine, licence)), "own")[1]


def test_a_licence_that_expires_without_any_rule_is_noted() -> None:
    registry = with_facts(
        make_registry([gas()]),
        *(
            ("licence.expired", code(1), f"licence:{kind}", kind, "")
            for kind in ("mining", "food", "minning")
        ),
    )

    def notes(*kinds: str) -> list[str]:
        found = lint(rulebook(GAS, compound=(rule(Pattern("licence.expired", kinds=kinds)),)), registry)
        return [str(one) for one in found if one.where == "licences"]

    assert notes("mining", "food", "minning") == notes() == []
    assert notes("mining") == [
        "note: licences: no rule sees a licence of kind food expire",
        "note: licences: no rule sees a licence of kind minning expire: mining?",
    ]


def test_the_kinds_of_licence_are_those_of_the_shipped_rule_and_of_the_page() -> None:
    [shipped] = {
        pattern.kinds
        for one in rulebook_file.shipped().compound
        for pattern in patterns(one.when)
        if pattern.rule == "licence.expired"
    }
    page = (Path(__file__).parents[1] / "docs" / "rulebook.md").read_text("utf-8")
    assert set(shipped) == set(names.LICENCES)
    assert all(f"`{kind}`" in page for kind in names.LICENCES)


def test_where_a_rule_could_hold_is_where_enough_different_sources_are() -> None:
    registry = make_registry(
        {
            code(1): [gas(H=25), gas(id="GD-2", H=25), gas(id="GD-3", unit="R2", H=25)],
            code(2): [gas(H=25)],
        },
        cells=(*CELLS, Cell("village-2", "港西村", "village", "town-1")),
        cell_of={code(1): "village-1", code(2): "village-2"},
    )

    def places(when: object, scope: str) -> set[tuple[str, str]]:
        return set(Reach(Configuration.of(registry, rulebook(GAS))).places(rule(when, scope)))

    high = Pattern("limit.high")
    assert places(AtLeast(2, high), "unit") == {(code(1), "unit:R1")}
    assert places(AtLeast(2, high, "unit"), "enterprise") == {(code(1), "")}
    assert places(AtLeast(2, high, "enterprise"), "cell:town") == {("", "cell:town-1")}
    assert places(AtLeast(2, high, "enterprise"), "cell:village") == set()
    assert places(All((high, Not(Pattern("silent")))), "unit") == {
        (code(1), "unit:R1"),
        (code(1), "unit:R2"),
        (code(2), "unit:R1"),
    }


def test_a_warning_over_a_cell_reaches_the_enterprises_within() -> None:
    registry = with_facts(make_registry([gas(H=25)]), ("warning.storm", "", "cell:district-1", "storm", ""))
    both = rule(All((Pattern("warning.storm"), Pattern("limit.high"))), "enterprise")
    assert set(Reach(Configuration.of(registry, rulebook(GAS))).places(both)) == {(code(1), "")}


def test_a_source_says_at_which_value_it_begins() -> None:
    points = [
        gas(on_delay=5 * SECOND, interval=30 * SECOND),
        gas(
            id="TI-1",
            kind="temperature",
            engineering_unit="℃",
            H=80,
            H_reset=78,
            off_delay=10 * SECOND,
            range_low=0,
        ),
        gas(
            id="FI-1",
            kind="flow",
            engineering_unit="m³/h",
            rate=0.5,
            rate_over=10 * SECOND,
            stuck_after=60 * MINUTE,
        ),
        gas(id="XS-1", kind="state", engineering_unit="1", alarm_state=1, state_delay=3 * SECOND),
    ]
    rules = Rulebook(tiers={"H": Tier.IV}, templates={"combustible_gas": GAS})
    sources = Reach(Configuration.of(make_registry(points), rules), code(1)).sources
    told = {
        (one.subject.removeprefix("point:"), f"{one.rule} {one.level}".strip()): one.at
        for one in sources
        if one.subject.startswith("point:")
    }
    assert told == {
        ("GD-1", "limit.high H"): "≥ 25 %LEL for 5s, over below 25",
        ("GD-1", "limit.high HH"): "≥ 50 %LEL for 5s, over below 50",
        ("GD-1", "silent"): "nothing for 30s",
        ("GD-1", "bad_quality"): "no valid value for 30s",
        ("TI-1", "limit.high H"): "≥ 80 ℃, over below 78 for 10s",
        ("TI-1", "range"): "< 0 ℃",
        ("FI-1", "rate"): "≥ 0.5 m³/h/s over 10s",
        ("FI-1", "stuck"): "no change over 0 m³/h for 1h",
        ("XS-1", "state"): "= 1 for 3s",
    }
    assert {one.tier for one in sources if one.level == "H"} == {Tier.IV}
    assert {one.template for one in sources if one.subject == "point:GD-1"} == {"combustible_gas"}


def test_the_shipped_rulebook_has_no_problems_of_its_own() -> None:
    assert lint(rulebook_file.shipped()) == []


def test_what_differs_between_two_rulebooks_is_said_line_by_line(tmp_path: Path) -> None:
    text = rulebook_file.SHIPPED.read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(
        text.replace("stuck: IV", "stuck: none")
        .replace("given: {H: 25, H_reset: 20, HH: 50", "given: {H: 20, H_reset: 15, HH: 50, interval: 2min")
        .replace("time: 10min\n", "time: 20min\n")
        .replace("  runaway:\n", "  runaway-reaction:\n"),
        "utf-8",
    )
    shipped, mine = rulebook_file.shipped(), rulebook_file.read(tmp_path / "mine.yaml")
    assert difference(shipped, shipped) == []
    lines = difference(shipped, mine)
    unlicensed = said(next(rule.when for rule in shipped.compound if rule.id == "unlicensed-running"))
    assert unlicensed.startswith("for 10min: (licence.expired of safe-production or ")
    for line in (
        "tiers.stuck: IV → none",
        "points.combustible_gas.given.H: 25 → 20",
        "points.combustible_gas.given.interval: nothing → 2min",
        "compound.runaway: no more",
        "compound.runaway-reaction: new",
        "compound.runaway-reaction.tier: I",
        f"compound.unlicensed-running.when: {unlicensed} → {unlicensed.replace('for 10min', 'for 20min')}",
    ):
        assert line in lines, "\n".join(lines)


def test_conditions_and_times_in_words() -> None:
    one, other = Pattern("rate", kinds=("pressure",)), Pattern("limit.high", ("HH",), ("methane",))
    assert said(All((one, Not(other)))) == "rate of pressure and not limit.high HH of methane"
    assert said(AtLeast(2, other, "unit")) == "at least 2 of limit.high HH of methane, of different units"
    assert [span(t) for t in (0, 500_000, 90 * SECOND, 120 * SECOND, 60 * MINUTE)] == [
        "0s",
        "0.5s",
        "90s",
        "2min",
        "1h",
    ]
