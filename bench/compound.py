"""What a change costs the compound engine, on one core, with a city's findings and rules in force.

10,000 findings are active in 503 enterprises under 200 rules: of every operator, over units, enterprises, towns and the
city. Then findings change one by one, each in a call of its own. The storm begins over a city with 1,000 major hazards,
and each has to be found. What is told is held against what was made; where they differ there is no figure.
"""

from collections.abc import Callable
from random import Random
from statistics import median, quantiles

import msgspec

from registry.clock import MINUTE, SECOND, stopwatch
from registry.model import Registry
from streams.compound import CompoundEngine
from streams.finding import Finding, Phase, Tier, finding_id
from streams.rulebook import (
    All,
    Any,
    AtLeast,
    CompoundRule,
    Condition,
    For,
    Not,
    Pattern,
    Rulebook,
    Sequence,
    Within,
)
from tests.build import city_registry

START = 1_795_248_000 * SECOND
ACTIVE, HAZARDS = 10_000, 1_000
KINDS = tuple(f"kind-{number}" for number in range(10))
UNITS = 4
SAY = {"zh": "险", "en": "danger"}


class WrongFindings(AssertionError):
    """What the engine told is not what was made: its speed is of no interest."""


def run(quick: bool = False) -> dict[str, float]:
    """Milliseconds; a change is one message in one call."""
    changes = 500 if quick else 5_000
    registry = city_registry(points=1)
    rulebook = Rulebook(tiers={}, compound=rules())
    engine = CompoundEngine(registry, rulebook, START)
    findings = active(registry)
    begun = stopwatch()
    told = engine.apply(findings, START)
    figures = {"10,000 findings at once, ms": (stopwatch() - begun) * 1000}
    took, many, ended = _changes(engine, findings, changes)
    told += many
    cuts = quantiles(took, n=1000)
    figures["a change, median, ms"] = median(took)
    figures["a change, 99th percentile, ms"] = cuts[989]
    figures["a change, longest, ms"] = max(took)
    figures["a change, mean, ms"] = sum(took) / len(took)
    _hold(told, findings, ended)
    blob = engine.snapshot()
    figures["snapshot, ms"] = _milliseconds(engine.snapshot)
    figures["snapshot, MB"] = len(blob) / 1e6
    figures["restore, ms"] = _milliseconds(lambda: CompoundEngine.restore(registry, rulebook, blob))
    figures["same rules again, ms"] = _milliseconds(
        lambda: engine.reconfigure(registry, rulebook, engine.now)
    )
    figures["all rules changed, ms"] = _milliseconds(lambda: _all_changed(engine, registry, rulebook))
    figures["storm over 1,000 major hazards, ms"] = median(_storm(registry) for _ in range(3))
    figures["the same, beside 10,000 findings and 200 rules, ms"] = median(
        _storm(registry, 200) for _ in range(3)
    )
    return figures


def rules(count: int = 200) -> tuple[CompoundRule, ...]:
    """Of every operator and scope, each of its own kinds of point."""
    scopes = ("unit", "unit", "unit", "unit", "enterprise", "enterprise", "cell:town", "cell:city")
    return tuple(
        CompoundRule(
            id=f"rule-{number:03d}",
            topic=f"topic-{number % 150}",
            scope=scopes[number % len(scopes)],
            when=_condition(number),
            tier=Tier(1 + number % 4),
            say=SAY,
        )
        for number in range(count)
    )


def _condition(number: int) -> Condition:
    high, low, state, rate = (
        Pattern(rule, kinds=(KINDS[(number + offset) % len(KINDS)],))
        for offset, rule in enumerate(("limit.high", "limit.low", "state", "rate"))
    )
    worst = Pattern("limit.high", ("HH",), high.kinds)
    forms: tuple[Condition, ...] = (
        All((high, low)),
        AtLeast(2, worst),
        All((worst, Any((state, rate)))),
        For(10 * MINUTE, All((high, Not(state)))),
        Within(5 * MINUTE, (rate, low)),
        Sequence(5 * MINUTE, (state, rate, high)),
        AtLeast(3, high, "enterprise"),
        For(5 * MINUTE, AtLeast(2, worst, "unit")),
        All((high, Not(low))),
    )
    return forms[number % len(forms)]


def active(registry: Registry) -> list[Finding]:
    """The messages that begin the findings, in all enterprises, units and kinds."""
    codes, random = list(registry.enterprises), Random(1)
    return [_finding(codes, number, random) for number in range(ACTIVE)]


def _finding(codes: list[str], number: int, random: Random) -> Finding:
    rule = ("limit.high", "limit.low", "state", "rate")[number % 4]
    enterprise, subject = random.choice(codes), f"point:P-{number}"
    time = START - (number % 600) * SECOND
    return Finding(
        id=finding_id(rule, enterprise, subject, time),
        seq=1,
        rule=rule,
        enterprise=enterprise,
        subject=subject,
        phase=Phase.BEGUN,
        since=time,
        time=time,
        arrival=START,
        level=("H", "HH")[number % 3 == 0] if rule == "limit.high" else "",
        tier=Tier.IV,
        kind=random.choice(KINDS),
        within=(f"unit:R{random.randrange(UNITS)}",),
    )


def _changes(
    engine: CompoundEngine, findings: list[Finding], count: int
) -> tuple[list[float], list[Finding], set[str]]:
    """Milliseconds of each of so many changes, what was told, and what ended: findings end, and begin again."""
    took, told, ended = [], [], set()
    now = START
    for number in range(count):
        last = findings[number // 2 * 37 % len(findings)]
        now += SECOND // 10
        told += engine.advance(now)
        if number % 2 == 0:
            change = msgspec.structs.replace(last, seq=last.seq + 1, phase=Phase.ENDED, time=now, arrival=now)
            ended.add(last.id)
        else:
            id = finding_id(last.rule, last.enterprise, last.subject, now)
            change = msgspec.structs.replace(last, id=id, since=now, time=now, arrival=now)
            findings[number // 2 * 37 % len(findings)] = change
        begun = stopwatch()
        found = engine.apply([change], now)
        took.append((stopwatch() - begun) * 1000)
        told += found
    return took, told, ended


def _hold(told: list[Finding], findings: list[Finding], ended: set[str]) -> None:
    """What stands in the end of each rule that two kinds of findings meet in a unit is what they say by themselves."""
    left: dict[tuple[str, str, str], int] = {}
    for finding in told:
        key = finding.rule, finding.enterprise, finding.subject
        if finding.seq != left.get(key, 0) + 1:
            raise WrongFindings(f"message {finding.seq} of {key} is out of order")
        left[key] = finding.seq
        if finding.phase == Phase.ENDED:
            del left[key]
    where: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for finding in findings:
        if finding.id not in ended:
            where.setdefault((finding.rule, finding.kind), set()).add((finding.enterprise, finding.within[0]))
    for rule in rules():
        alone = int(rule.topic.removeprefix("topic-")) >= 50
        if (
            alone
            and rule.scope == "unit"
            and isinstance(rule.when, All)
            and isinstance(rule.when.of[1], Pattern)
        ):
            some, others = (where.get((of.rule, of.kinds[0]), set()) for of in rule.when.of)
            found = {key[1:] for key in left if key[0] == f"compound.{rule.topic}"}
            if not found or found != some & others:
                raise WrongFindings(f"{rule.id}: {len(found)} findings for {len(some & others)}")


def _all_changed(engine: CompoundEngine, registry: Registry, rulebook: Rulebook) -> None:
    engine.reconfigure(registry, Rulebook(tiers={}), engine.now)
    engine.reconfigure(registry, rulebook, engine.now)


def _storm(registry: Registry, others: int = 0) -> float:
    """Milliseconds of the message that says that the storm is here."""
    storm, hazard = Pattern("warning.storm"), Pattern("unit.major_hazard")
    rule = CompoundRule(
        id="storm", topic="storm", scope="unit", when=All((storm, hazard)), tier=Tier.II, say=SAY
    )
    engine = CompoundEngine(registry, Rulebook(tiers={}, compound=(rule, *rules(others))), START)
    codes, random = list(registry.enterprises), Random(1)
    if others:
        engine.apply(active(registry), START)
    hazards = []
    for number in range(HAZARDS):
        made = _finding(codes, number, random)
        subject = f"unit:R{number // len(codes)}"
        hazards.append(
            msgspec.structs.replace(
                made,
                id=finding_id("unit.major_hazard", codes[number % len(codes)], subject, START),
                rule="unit.major_hazard",
                enterprise=codes[number % len(codes)],
                subject=subject,
                within=(),
            )
        )
    engine.apply(hazards, START)
    city = next(cell.id for cell in registry.cells.values() if not cell.parent)
    subject = f"cell:{city}"
    warning = msgspec.structs.replace(
        hazards[0],
        id=finding_id("warning.storm", "", subject, START),
        rule="warning.storm",
        enterprise="",
        subject=subject,
    )
    begun = stopwatch()
    told = engine.apply([warning], START + SECOND)
    took = stopwatch() - begun
    if len(told) != HAZARDS:
        raise WrongFindings(f"{len(told)} findings of {HAZARDS} hazards in a storm")
    return took * 1000


def _milliseconds(work: Callable[[], object]) -> float:
    def once() -> float:
        begun = stopwatch()
        work()
        return (stopwatch() - begun) * 1000

    return median(once() for _ in range(3))


if __name__ == "__main__":
    for figure, value in run(quick=True).items():
        print(f"{figure:55} {value:10.3f}")
