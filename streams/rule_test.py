"""A test of rules as data: readings through a configuration, and what of its findings was expected. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingest.readings import BAD, GOOD, Readings, Round
from registry.clock import SECOND
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.finding import Finding, Phase, Tier
from streams.rulebook_reach import span


@dataclass(frozen=True, slots=True)
class Step:
    """From ``at`` (µs since the start) on, these points send these values; NaN is a bad one, None ends them."""

    at: int
    values: Mapping[int, float | None]  # by point row


@dataclass(frozen=True, slots=True)
class Expected:
    """What is said of a finding that must come; what is None may be anything."""

    at: int  # µs since the start, arrival time
    rule: str
    subject: str | None = None
    enterprise: str | None = None
    phase: str | None = None
    level: str | None = None
    tier: str | None = None  # "none" where it has none
    value: float | None = None

    def is_met(self, finding: Finding, start: int) -> bool:
        """Whether this is the finding that was meant."""
        said = _words(finding)
        return (
            (finding.arrival - start, finding.rule) == (self.at, self.rule)
            and all(
                getattr(self, name) in (None, said[name])
                for name in ("subject", "enterprise", "phase", "level", "tier")
            )
            and (self.value is None or (finding.value is not None and abs(finding.value - self.value) < 1e-9))
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One test.

    expect: exactly the findings that ring: with a tier, that begin or get worse. findings: exactly all, in every
    phase. None: not compared.
    """

    name: str
    configuration: Configuration
    start: int  # µs UTC
    every: int  # µs between two readings of a point
    lasts: int  # µs
    steps: Sequence[Step]
    expect: Sequence[Expected] | None = None
    findings: Sequence[Expected] | None = None


def run(case: Case) -> list[Finding]:
    """All that is found, in its order."""
    evaluator = Evaluator(case.configuration, case.start)
    listens = bool((case.configuration.registry.points.interval > 0).any())
    found: list[Finding] = []
    for time, values in rounds(case, listens):
        while (due := evaluator.next_deadline()) is not None and due < time:
            found += evaluator.advance(max(due, evaluator.now))
        found += evaluator.apply(_round(time, values))
    return found


def differences(case: Case, found: Sequence[Finding]) -> list[str]:
    """What was expected and did not come (-), what came and was not expected (+), and between them what did ( ).

    Nothing where all is as expected.
    """
    lines: list[str] = []
    if case.expect is not None:
        lines += _compared(case.expect, [finding for finding in found if rings(finding)], case)
    if case.findings is not None:
        lines += _compared(case.findings, found, case)
    return lines


def rings(finding: Finding) -> bool:
    """Whether a finding tells somebody something worse."""
    worse = finding.phase in (Phase.BEGUN, Phase.WORSENED)
    return worse and finding.tier is not None and not finding.late


def spell(finding: Finding, start: int, enterprises: int = 1) -> str:
    """A finding as it is written in a test's file."""
    said = _words(finding)
    if enterprises < 2:
        del said["enterprise"]
    value = {} if finding.value is None else {"value": f"{finding.value:g}"}
    return _spelt({"at": span(finding.arrival - start), **said, **value})


def rounds(case: Case, listens: bool) -> Iterator[tuple[int, Mapping[int, float]]]:
    """When something arrives, and which values; with a mark a second where anybody's silence counts."""
    steps = sorted(case.steps, key=lambda step: step.at)
    ticks = set(range(0, case.lasts + 1, case.every)) | {step.at for step in steps} | {case.lasts}
    marks = set(range(0, case.lasts + 1, SECOND)) if listens else set()
    current: dict[int, float | None] = {}
    begun: dict[int, int] = {}  # by point: when it got its value, from which its readings are counted
    for at in sorted(ticks | marks | {at for step in steps for at in _from(step.at, case)}):
        while steps and steps[0].at <= at:
            step = steps.pop(0)
            current |= step.values
            begun |= dict.fromkeys(step.values, step.at)
        yield (
            case.start + at,
            {
                row: value
                for row, value in current.items()
                if value is not None and (at - begun[row]) % case.every == 0
            },
        )


def _from(at: int, case: Case) -> range:
    return range(at, case.lasts + 1, case.every)


def _round(time: int, values: Mapping[int, float]) -> Round:
    rows = np.array([*values], np.int32)
    of = np.array([*values.values()], np.float64)
    quality = np.where(np.isnan(of), BAD, GOOD).astype(np.uint8)
    return Round(time, readings=Readings(rows, np.full(len(rows), time, np.int64), of, quality))


def _compared(expected: Sequence[Expected], found: Sequence[Finding], case: Case) -> list[str]:
    start, enterprises = case.start, len(case.configuration.registry.enterprises)
    left = list(found)
    lines: list[tuple[int, str]] = []
    for one in expected:
        met = next((finding for finding in left if one.is_met(finding, start)), None)
        if met is None:
            lines.append((one.at, f"- {_expected(one)}"))
        else:
            left.remove(met)
            lines.append((one.at, f"  {spell(met, start, enterprises)}"))
    lines += [(finding.arrival - start, f"+ {spell(finding, start, enterprises)}") for finding in left]
    if all(text.startswith(" ") for _, text in lines):
        return []
    return [text for _, text in sorted(lines, key=lambda line: line[0])]


def _expected(one: Expected) -> str:
    names = ("rule", "subject", "enterprise", "phase", "level", "tier", "value")
    return _spelt(
        {"at": span(one.at)}
        | {name: f"{value}" for name in names if (value := getattr(one, name)) is not None}
    )


def _words(finding: Finding) -> dict[str, str]:
    return {
        "rule": finding.rule,
        "subject": finding.subject,
        "enterprise": finding.enterprise,
        "phase": finding.phase.value,
        "level": finding.level,
        "tier": Tier(finding.tier).name if finding.tier else "none",
    }


def _spelt(words: Mapping[str, str]) -> str:
    def quoted(value: str) -> str:
        return f'"{value}"' if ":" in value or not value else value

    return "{" + ", ".join(f"{name}: {quoted(value)}" for name, value in words.items() if value) + "}"
