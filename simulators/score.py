"""How good the alerts of a run were, by the truth: dangers told of in time or not, and calls for nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import msgspec

from simulators.truth import EARLY, SECOND, Danger, Stretch, Tier, Truth, heard, quiet

DAY = 86_400 * SECOND

Outcome = Literal["detected", "too_low", "too_fast", "late", "missed"]
"""Of a danger. detected: an alert of at least its tier came while it was of use. too_low: an alert came then, but
none of its tier. too_fast: one came before the harm, and the harm sooner than anybody could have acted. late: the
first came when it was of no more use. missed: none came."""

Verdict = Literal["attributed", "excused", "early", "false"]
"""Of an alert, by when it was raised: what it is first in this order."""

_WORSE: dict[Tier, int] = {"IV": 1, "III": 2, "II": 3, "I": 4}


class Raised(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An alert that the product raised, as the run wrote it down. Times in µs; None is "not".

    points: ids of the points that it is of. gateway: "" or the id of the gateway that it is of. device: it is about
    how something measures or sends, not about what is measured.
    calls: (time, tier) of every time that people were called: when the first of their phones rang, in order.
    tier: the worst that it came to.
    since: event time at which its condition first held. rung: the highest that was asked.
    late: it was only recorded, from evidence that came too late to call anybody: no alert.
    """

    id: str
    enterprise: str
    rule: str
    subject: str
    points: tuple[str, ...]
    gateway: str = ""
    device: bool = False
    calls: tuple[tuple[int, Tier], ...]
    tier: Tier
    raised: int
    since: int
    ended: int | None = None
    confirmed: int | None = None
    rung: int = 0
    late: bool = False


class DangerScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the product made of one danger. Delays in seconds from the first moment that it could be known.

    delay_s: until the first alert of any tier; delay_to_tier_s: until the first of at least its tier.
    alerts: how many were of it. rule, subject: of the first.
    """

    danger: str
    enterprise: str
    unit: str
    hazard: str
    tier: Tier
    outcome: Outcome
    delay_s: float | None
    delay_to_tier_s: float | None
    alerts: int
    rule: str
    subject: str


class AlertScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one alert was by the truth. dangers: the ids of those that it was of. tier: the worst it came to."""

    alert: str
    enterprise: str
    rule: str
    subject: str
    tier: Tier
    verdict: Verdict
    dangers: tuple[str, ...]


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run by its truth.

    detected to missed count dangers (see Outcome), attributed to false alerts; recorded: items that were no alerts.
    median_delay_s, max_delay_s: seconds until the first alert, of the dangers that had one, late ones too.
    quiet_days: in which nothing should have rung, of all enterprises together.
    alarms_per_day: early and false alerts of any tier for each enterprise and day of the run;
    most_alarms_per_day: of the enterprise that had most.
    """

    scenario: str
    seed: int
    detected: int
    too_low: int
    too_fast: int
    late: int
    missed: int
    attributed: int
    excused: int
    early: int
    false: int
    recorded: int
    median_delay_s: float | None
    max_delay_s: float | None
    quiet_days: float
    alarms_per_day: float
    most_alarms_per_day: float
    dangers: tuple[DangerScore, ...]  # in the truth's order
    alerts: tuple[AlertScore, ...]  # in the order of their raising


def score(truth: Truth, raised: Iterable[Raised]) -> Score:
    """What the alerts were by the truth; their order does not matter.

    An alert is of a danger if it has one of its points, or is of its gateway, and calls people while it can come
    of it. What is about a device is of no danger of a plant: it is excused beside one. An alert that is on is not
    raised again: one that rang early, or that nobody has confirmed when the danger can first be known, counts from
    that moment.

    Raises ValueError if two alerts have one id, or one is of an enterprise that the truth does not know.
    """
    items = sorted(raised, key=lambda item: (item.raised, item.id))
    alerts = [item for item in items if not item.late]
    if len({alert.id for alert in alerts}) < len(alerts):
        raise ValueError("two alerts have the same id")
    of: dict[str, list[Raised]] = {enterprise: [] for enterprise in truth.enterprises}
    for alert in alerts:
        if alert.enterprise not in of:
            raise ValueError(f"alert {alert.id} is of {alert.enterprise}, which the truth does not know")
        of[alert.enterprise].append(alert)

    parts = {enterprise: _Parts() for enterprise in truth.enterprises}
    for danger in truth.dangers:
        parts[danger.enterprise].dangers.append(danger)
    for stretch in truth.excused:
        parts[stretch.enterprise].excused.append(stretch)
    verdicts = [_verdict(truth, parts[alert.enterprise], alert) for alert in alerts]
    called: dict[str, list[str]] = {alert.id: [] for alert in alerts}
    dangers: list[DangerScore] = []
    for danger in truth.dangers:
        calls = [
            (time, alert, tier)
            for alert in of[danger.enterprise]
            for time, tier in _calls(truth, danger, alert)
        ]
        for identity in {alert.id for _, alert, _ in calls}:
            called[identity].append(danger.id)
        dangers.append(_danger(danger, calls))
    outcomes = [danger.outcome for danger in dangers]
    delays = [danger.delay_s for danger in dangers if danger.delay_s is not None]
    wrong = Counter(
        alert.enterprise
        for alert, verdict in zip(alerts, verdicts, strict=True)
        if verdict in ("early", "false")
    )
    days = (truth.end - truth.begin) / DAY
    return Score(
        scenario=truth.scenario,
        seed=truth.seed,
        detected=outcomes.count("detected"),
        too_low=outcomes.count("too_low"),
        too_fast=outcomes.count("too_fast"),
        late=outcomes.count("late"),
        missed=outcomes.count("missed"),
        attributed=verdicts.count("attributed"),
        excused=verdicts.count("excused"),
        early=verdicts.count("early"),
        false=verdicts.count("false"),
        recorded=len(items) - len(alerts),
        median_delay_s=median(delays) if delays else None,
        max_delay_s=max(delays, default=None),
        quiet_days=sum(end - begin for one in truth.enterprises for begin, end in quiet(truth, one)) / DAY,
        alarms_per_day=sum(wrong.values()) / days / max(len(truth.enterprises), 1),
        most_alarms_per_day=max(wrong.values(), default=0) / days,
        dangers=tuple(dangers),
        alerts=tuple(
            AlertScore(
                alert=alert.id,
                enterprise=alert.enterprise,
                rule=alert.rule,
                subject=alert.subject,
                tier=alert.tier,
                verdict=verdict,
                dangers=tuple(called[alert.id]),
            )
            for alert, verdict in zip(alerts, verdicts, strict=True)
        ),
    )


HEADER = (
    "scenario",
    "seed",
    "dangers",
    "detected",
    "too low",
    "too fast",
    "late",
    "missed",
    "median delay",
    "longest delay",
    "early",
    "false",
    "alarms/operator/day",
    "most",
)


def table(scores: Iterable[Score]) -> list[tuple[str, ...]]:
    """A row of text for each score, as wide as HEADER."""
    return [
        (
            one.scenario,
            str(one.seed),
            str(len(one.dangers)),
            *(str(count) for count in (one.detected, one.too_low, one.too_fast, one.late, one.missed)),
            span(one.median_delay_s),
            span(one.max_delay_s),
            str(one.early),
            str(one.false),
            *(f"{rate:.2f}" for rate in (one.alarms_per_day, one.most_alarms_per_day)),
        )
        for one in scores
    ]


def markdown(scores: Iterable[Score]) -> str:
    """The table for a page of documentation; its numbers to the right."""
    rule = ("---", *["---:"] * (len(HEADER) - 1))
    rows: Sequence[Sequence[str]] = [HEADER, rule, *table(scores)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def span(seconds: float | None) -> str:
    """A delay as people read it: "37 s", "12.5 min", "3.2 h"; "–" for none."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(slots=True)
class _Parts:
    """What was true in one enterprise."""

    dangers: list[Danger] = field(default_factory=list)
    excused: list[Stretch] = field(default_factory=list)


def _within(time: int, intervals: Iterable[tuple[int, int]]) -> bool:
    return any(begin <= time < end for begin, end in intervals)


def _shows(alert: Raised, part: Danger | Stretch) -> bool:
    """Whether the alert is of a point or the gateway of this danger or disturbance."""
    if alert.enterprise != part.enterprise:
        return False
    return not set(alert.points).isdisjoint(part.points) or (
        alert.gateway != "" and alert.gateway == part.gateway
    )


def _tells(alert: Raised, danger: Danger) -> bool:
    """Whether the alert speaks of this danger: of the plant's by what is measured, of blindness by anything."""
    return _shows(alert, danger) and (not alert.device or danger.hazard.startswith("blind."))


def _verdict(truth: Truth, parts: _Parts, alert: Raised) -> Verdict:
    parted: tuple[Danger | Stretch, ...] = (*parts.dangers, *parts.excused)
    near = [part for part in parted if _shows(alert, part)]
    of = [danger for danger in parts.dangers if _tells(alert, danger)]
    if any(_within(alert.raised, [heard(truth, danger)]) for danger in of):
        return "attributed"
    if any(_within(alert.raised, [heard(truth, part)]) for part in near):
        return "excused"
    if any(danger.earliest - EARLY <= alert.raised < danger.earliest for danger in of):
        return "early"
    return "false"


def _calls(truth: Truth, danger: Danger, alert: Raised) -> list[tuple[int, Tier]]:
    """When the alert called people to the danger, and with which tier."""
    if not _tells(alert, danger):
        return []
    begin, end = heard(truth, danger)
    calls = [(time, tier) for time, tier in alert.calls if begin <= time < end]
    since = 0 if alert.confirmed is None or alert.confirmed > begin else begin - EARLY
    if alert.ended is None or alert.ended > begin:
        calls[:0] = [(begin, tier) for time, tier in alert.calls if since <= time < begin]
    return calls


def _danger(danger: Danger, calls: list[tuple[int, Raised, Tier]]) -> DangerScore:
    calls = sorted(calls, key=lambda call: (call[0], call[1].raised, call[1].id))
    at_tier = [time for time, _, tier in calls if _WORSE[tier] >= _WORSE[danger.tier]]
    outcome: Outcome
    if not calls:
        outcome = "missed"
    elif calls[0][0] > danger.latest:
        outcome = "late"
    elif not danger.in_time:
        outcome = "too_fast"
    else:
        outcome = "detected" if at_tier and at_tier[0] <= danger.latest else "too_low"
    first = calls[0][1] if calls else None
    return DangerScore(
        danger=danger.id,
        enterprise=danger.enterprise,
        unit=danger.unit,
        hazard=danger.hazard,
        tier=danger.tier,
        outcome=outcome,
        delay_s=(calls[0][0] - danger.earliest) / SECOND if calls else None,
        delay_to_tier_s=(at_tier[0] - danger.earliest) / SECOND if at_tier else None,
        alerts=len({alert.id for _, alert, _ in calls}),
        rule=first.rule if first else "",
        subject=first.subject if first else "",
    )
