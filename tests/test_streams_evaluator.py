"""Points, facts and compound rules together: told together, and unmoved by a restart."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replaced

from ingest.readings import GOOD, Readings, Round
from registry.clock import DAY, MINUTE, SECOND
from registry.model import Registry
from streams import rulebook_file
from streams.compound import CompoundEngine
from streams.configuration import Configuration
from streams.engine import PointEngine, SnapshotError
from streams.evaluator import Evaluator
from streams.finding import Finding, Phase, Tier
from streams.rulebook import CompoundRule, Pattern, Template
from tests.build import PointSpec, code, make_facts, make_registry

PLANT = code(1)
START = 20_000 * DAY
MIDNIGHT = START + DAY
SHIPPED = rulebook_file.read(rulebook_file.SHIPPED)


OVERDUE = ("equipment.overdue", "equipment:V-101", "fixed_pressure_vessel", MIDNIGHT)
OVERSTORED = ("chemical.overstored", "chemical:NH3", "7664-41-7", START - DAY)


def registry(*rows: tuple[str, str, str, int], version: str = "r1") -> Registry:
    gas = [PointSpec(id=f"GD{n}", kind="combustible_gas", engineering_unit="%LEL", unit="R1") for n in (1, 2)]
    return replace(make_registry(gas, version=version), facts=make_facts(*rows))


def round_(time: int, **values: float) -> Round:
    rows = np.array([int(name[-1]) - 1 for name in values], np.int32)
    times, known = np.full(len(values), time), np.array(list(values.values()), np.float64)
    return Round(time, readings=Readings(rows, times, known, np.full(len(values), GOOD, np.uint8)))


def told(findings: list[Finding]) -> list[Finding]:
    """All but the version; what is told at one time in an order of its own."""
    plain = [replaced(finding, version="") for finding in findings]
    return sorted(plain, key=lambda finding: (finding.arrival, finding.id, finding.seq))


def of(findings: list[Finding], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


def test_a_vessel_falls_overdue_at_midnight_where_ammonia_is_overstored() -> None:
    """The mission's own: neither record rings by itself; both together ask for a joint inspection."""
    evaluator = Evaluator(Configuration.of(registry(OVERDUE, OVERSTORED), SHIPPED), START)
    assert [finding.tier for finding in evaluator.advance(START)] == [None]
    assert evaluator.next_deadline() == MIDNIGHT
    overdue, joint = evaluator.advance(MIDNIGHT)
    assert (overdue.rule, overdue.tier) == ("equipment.overdue", None)
    assert (joint.phase, joint.tier, joint.since) == (Phase.BEGUN, Tier.II, MIDNIGHT)
    assert {ground.subject for ground in joint.grounds} == {"equipment:V-101", "chemical:NH3"}
    assert [ask.what for ask in joint.asks] == ["joint-inspection"]


def test_an_inspection_entered_late_ends_what_stood_on_it() -> None:
    evaluator = Evaluator(Configuration.of(registry(OVERDUE, OVERSTORED), SHIPPED), START)
    evaluator.advance(MIDNIGHT)
    inspected = replace(registry(OVERSTORED, version="r2"), edit="li.wei: inspected")
    found = evaluator.reconfigure(Configuration.of(inspected, SHIPPED), MIDNIGHT + DAY)
    assert [finding.phase for finding in of(found, "equipment.overdue")] == [Phase.CORRECTED, Phase.ENDED]
    [over] = [finding for finding in found if finding.rule.startswith("compound.")]
    assert over.phase is Phase.ENDED


def test_two_detectors_of_one_unit_are_worse_than_one() -> None:
    evaluator = Evaluator(Configuration.of(registry(), SHIPPED), START)
    one = evaluator.apply(round_(START + SECOND, GD1=60.0))
    assert [(finding.rule, finding.level) for finding in one] == [("limit.high", "HH")], "a template's limit"
    two = evaluator.apply(round_(START + 2 * SECOND, GD2=60.0))
    [both] = [finding for finding in two if finding.rule.startswith("compound.")]
    assert (both.subject, both.tier) == ("unit:R1", Tier.II)


def test_a_restart_changes_nothing() -> None:
    configuration = Configuration.of(registry(OVERDUE, OVERSTORED), SHIPPED)
    story = [
        round_(START + MINUTE, GD1=60.0),
        round_(START + 2 * MINUTE, GD2=60.0),
        Round(MIDNIGHT),
        round_(MIDNIGHT + MINUTE, GD1=5.0, GD2=5.0),
    ]
    steady = Evaluator(configuration, START)
    expected = [steady.apply(each) for each in story]
    for place in range(len(story)):
        restarted, found = Evaluator(configuration, START), []
        for number, each in enumerate(story):
            if number == place:
                restarted = Evaluator.restore(configuration, restarted.snapshot())
            found.append(restarted.apply(each))
        assert found == expected


def test_a_snapshot_of_something_else_is_refused() -> None:
    evaluator = Evaluator(Configuration.of(registry(), SHIPPED), START)
    other = Configuration.of(registry(version="r2"), SHIPPED)
    for blob in (b"", b"\x80", evaluator.snapshot()):
        with pytest.raises(SnapshotError):
            Evaluator.restore(other, blob)


def test_what_was_found_before_the_points_failed_still_reaches_the_compound_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = Evaluator(Configuration.of(registry(OVERDUE, OVERSTORED), SHIPPED), START)
    with monkeypatch.context() as broken:
        broken.setattr(PointEngine, "apply", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluator.apply(Round(MIDNIGHT))
        assert sorted(f.rule for f in evaluator.salvage()) == ["chemical.overstored", "equipment.overdue"]
    [joint] = evaluator.apply(Round(MIDNIGHT + SECOND))
    assert (joint.rule.partition(".")[0], joint.tier) == ("compound", Tier.II)


@pytest.mark.parametrize("meanwhile", ["restart", "another version", "the record is gone"])
def test_what_is_owed_to_the_compound_rules_outlives_a_restart_and_a_new_version(
    meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = Configuration.of(registry(OVERDUE, OVERSTORED), SHIPPED)
    evaluator = Evaluator(configuration, START)
    with monkeypatch.context() as broken:
        broken.setattr(PointEngine, "apply", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluator.apply(Round(MIDNIGHT))
        evaluator.salvage()
    if meanwhile == "restart":
        evaluator = Evaluator.restore(configuration, evaluator.snapshot())
        found = evaluator.apply(Round(MIDNIGHT + SECOND))
    elif meanwhile == "another version":
        found = evaluator.reconfigure(configuration, MIDNIGHT + SECOND)
    else:
        found = evaluator.reconfigure(Configuration.of(registry(version="r2"), SHIPPED), MIDNIGHT + SECOND)
        found += evaluator.apply(Round(MIDNIGHT + MINUTE))
    phases = [finding.phase for finding in found if finding.rule.startswith("compound.")]
    assert phases == ([] if meanwhile == "the record is gone" else [Phase.BEGUN])


def test_compound_rules_that_fail_stop_neither_points_nor_what_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = Evaluator(Configuration.of(registry(), SHIPPED), START)
    with monkeypatch.context() as broken:
        broken.setattr(CompoundEngine, "apply", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluator.apply(round_(START + SECOND, GD1=60.0))
        assert [finding.rule for finding in evaluator.salvage()] == ["limit.high"]
    assert evaluator.apply(round_(START + 2 * SECOND, GD1=60.0)) == []


def test_a_thousand_changes_of_the_rulebook_lose_double_and_redate_nothing() -> None:
    """Rules come, go and change their tier while readings stream; what they do not speak of goes on as if alone."""
    strange = Pattern("limit.high", kinds=("flame",))
    further = CompoundRule(
        id="x", topic="x", scope="unit", when=strange, tier=Tier.I, say={"zh": "x", "en": "x"}
    )
    flame = Template(name="flame", kind="flame", tiers={"HH": Tier.I}, given={"H": 1.0})
    others = (
        SHIPPED,
        replaced(SHIPPED, compound=(*SHIPPED.compound, further)),
        replaced(SHIPPED, templates={**SHIPPED.templates, "flame": flame}),
        replaced(
            SHIPPED, compound=tuple(rule for rule in SHIPPED.compound if rule.id != "cold-store-ammonia")
        ),
    )
    configurations = [Configuration.of(registry(OVERDUE, OVERSTORED), rulebook) for rulebook in others]
    random = np.random.default_rng(7)
    alone, changing = Evaluator(configurations[0], START), Evaluator(configurations[0], START)
    expected: list[Finding] = []
    found: list[Finding] = []
    for number in range(1, 1001):
        time = START + number * MINUTE * 2
        sent = round_(time, GD1=float(random.choice((5, 30, 60))), GD2=float(random.choice((5, 30, 60))))
        expected += alone.apply(sent)
        found += changing.reconfigure(configurations[number % len(configurations)], time)
        found += changing.apply(sent)
    assert len({finding.version for finding in found}) == len(configurations)
    assert told(found) == told(expected)
    assert len([finding for finding in found if finding.rule.startswith("compound.")]) > 100


def test_a_tier_that_a_new_rulebook_gives_is_told_of_what_is_open() -> None:
    evaluator = Evaluator(Configuration.of(registry(), SHIPPED), START)
    [begun] = evaluator.apply(round_(START + SECOND, GD1=30.0))
    gas = SHIPPED.templates["combustible_gas"]
    stricter = replaced(gas, tiers={**gas.tiers, "H": Tier.III})
    rulebook = replaced(SHIPPED, templates={**SHIPPED.templates, "combustible_gas": stricter})
    [worse] = evaluator.reconfigure(Configuration.of(registry(), rulebook), START + MINUTE)
    assert (worse.id, worse.seq, worse.phase, worse.tier) == (begun.id, 2, Phase.WORSENED, Tier.III)
    assert worse.since == begun.since
