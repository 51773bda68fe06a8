"""The lifecycle of an alert: the one table of what each event does to it, and the pure step that applies it."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec.structs import replace

from alerting.alert import Alert, Answer, Basis, Condition, Detail, Outcome, Role, Step
from registry.clock import DAY, MINUTE, SECOND
from streams.finding import Finding, Phase, Tier

CLOSE_AFTER = DAY
"""A tier IV alert that nobody confirmed closes itself so long after it ended, µs."""

REOPEN_WITHIN = 10 * MINUTE
"""The same rule and subject beginning again so long after its end joins the same alert, µs."""

LATE = 2 * SECOND
"""What is done later than this after it was due says so, µs."""

SYSTEM = "system"
"""The duty place of those who run the system itself."""

ANSWERED, NEVER_CONFIRMED = "answered", "never confirmed"
"""Why an alert was closed."""


class Event(StrEnum):
    """All that can happen to an alert."""

    # a finding says
    BEGUN = "begun"
    WORSENED = "worsened"
    EASED = "eased"
    RESUMED = "resumed"
    REOPENED = "reopened"  # begun again, and joined to the alert of the last time
    CORRECTED = "corrected"
    UNKNOWN = "unknown"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    # a person says
    CONFIRM = "confirm"
    TAKE_OVER = "take_over"
    ACT = "act"
    # a deadline has come
    CONFIRM_DUE = "confirm_due"
    ACTION_DUE = "action_due"
    RETURN_DUE = "return_due"
    CLOSE_DUE = "close_due"
    # the sender says
    UNDELIVERED = "undelivered"  # a notice was given up


DEADLINES = (Event.CONFIRM_DUE, Event.ACTION_DUE, Event.RETURN_DUE, Event.CLOSE_DUE)
"""Each is also the alert's field that holds its time. Where two fall together they are done in this order."""


_NO_CLOCKS: dict[str, int] = dict.fromkeys(DEADLINES, 0)


class Standing(StrEnum):
    """The answer's axis of a state: the three answers, and what is before and after them."""

    NEW = "new"  # there is no alert yet
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    ACTED = "acted"
    CLOSED = "closed"


class Guard(StrEnum):
    """What else must hold for a row of the table to apply."""

    WORSE = "worse tier"
    IV = "tier IV"
    ENOUGH = "no action is waited for"  # nor in tier IV
    STOPPED = "confirm clock stopped"
    ASKED = "was asked"  # the person was, on any rung; or holds the alert
    HIGHER = "someone is on duty higher up"
    REACHED = "holder can be reached"


class Effect(StrEnum):
    """What a transition does beyond the change of state."""

    FORGET = "forget the answer"  # and stop all clocks
    ASK = "ask"  # from rung 0 up, the first with somebody on duty
    ASK_ALL = "ask all rungs so far"  # where nobody is on duty on them, the next with somebody on duty
    ASK_HOLDER = "ask the holder"
    CLIMB = "climb"  # ask the next higher rung with somebody on duty
    ASK_AGAIN = "ask again"  # the highest rung with somebody on duty; and once more after a while
    TELL = "tell"  # the officers who are to know at once
    TELL_HOLDER = "tell the holder"
    START_CONFIRM = "confirm clock"
    START_ACTION = (
        "action clock"  # in place of the confirm clock; where no action is waited for, the return clock
    )
    START_RETURN = "return clock"  # in place of the action clock
    START_CLOSE = "close clock"
    STOP_CLOSE = "stop close clock"
    HOLD = "hold"  # the person holds the alert from now on
    DONE = "note the action"
    CLOSE = "close"  # and stop all clocks


class State(NamedTuple):
    """What the plant does, and what people did. The condition of what is new or closed is not looked at."""

    condition: Condition
    standing: Standing

    def __str__(self) -> str:
        outside = self.standing in (Standing.NEW, Standing.CLOSED)
        return str(self.standing) if outside else f"{self.condition}, {self.standing}"


class Row(NamedTuple):
    """One transition: applies in any of these conditions and standings, if all the guards hold.

    ``condition`` and ``answer`` are those afterwards; None where they stay as they are.
    A row with neither, and without effects, says: recorded only.
    """

    conditions: tuple[Condition, ...]
    standings: tuple[Standing, ...]
    events: tuple[Event, ...]
    guards: tuple[Guard, ...] = ()
    condition: Condition | None = None
    answer: Answer | None = None
    effects: tuple[Effect, ...] = ()

    def after(self, state: State) -> State:
        if Effect.CLOSE in self.effects:
            return State(self.condition or state.condition, Standing.CLOSED)
        standing = Standing(self.answer) if self.answer else state.standing
        return State(self.condition or state.condition, standing)


_ON = (Condition.ACTIVE, Condition.UNKNOWN)  # UNKNOWN never clears
_OFF = (Condition.ENDED,)
_ANY = _ON + _OFF
_NEW, _CLOSED = (Standing.NEW,), (Standing.CLOSED,)
_WAITING, _DONE = (Standing.UNCONFIRMED,), (Standing.ACTED,)
_HELD = (Standing.CONFIRMED, Standing.ACTED)
_OPEN = _WAITING + _HELD
_IS_ON = (Event.BEGUN, Event.WORSENED, Event.EASED, Event.RESUMED, Event.REOPENED)
_IS_OVER = (Event.ENDED, Event.WITHDRAWN)  # withdrawn is no answer: somebody must still say that they know
_PEOPLE = (Event.CONFIRM, Event.TAKE_OVER, Event.ACT)
_COME_BACK = (Event.ACTION_DUE, Event.RETURN_DUE)

_ACTIVE, _UNKNOWN, _ENDED = Condition.ACTIVE, Condition.UNKNOWN, Condition.ENDED
_UNCONFIRMED, _CONFIRMED, _ACTED = Answer.UNCONFIRMED, Answer.CONFIRMED, Answer.ACTED
_WORSE, _IV, _ASKED, _HIGHER = (Guard.WORSE,), (Guard.IV,), (Guard.ASKED,), (Guard.HIGHER,)
_ENOUGH, _REACHED = (Guard.ENOUGH,), (Guard.REACHED,)

_RING = (Effect.FORGET, Effect.ASK, Effect.TELL, Effect.START_CONFIRM)
_RING_WORSE = (Effect.FORGET, Effect.ASK_HOLDER, Effect.ASK_ALL, Effect.TELL, Effect.START_CONFIRM)
_RING_AGAIN = (Effect.FORGET, Effect.ASK_HOLDER, Effect.ASK, Effect.TELL, Effect.START_CONFIRM)
_CALL_BACK = (Effect.FORGET, Effect.ASK_HOLDER, Effect.ASK, Effect.START_CONFIRM)
_TAKE = (Effect.HOLD, Effect.START_ACTION)
_TAKE_AND_CLOSE = (Effect.HOLD, Effect.CLOSE)

# Of the rows for a state and an event, the first whose guards hold applies; the last of them has no guard.
# fmt: off
TABLE: tuple[Row, ...] = (
    # A finding that has no alert. It need not be "begun": a worse level may be the first that has a tier.
    Row(_ANY, _NEW, (*_IS_ON, Event.CORRECTED), (), _ACTIVE, _UNCONFIRMED, _RING),
    Row(_ANY, _NEW, (Event.UNKNOWN,), (), _UNKNOWN, _UNCONFIRMED, _RING),
    Row(_ANY, _NEW, (*_IS_OVER, *_PEOPLE, *DEADLINES, Event.UNDELIVERED)),

    # The plant is worse than what people answered to.
    Row(_ANY, _OPEN, _IS_ON, _WORSE, _ACTIVE, _UNCONFIRMED, _RING_WORSE),
    Row(_ANY, _OPEN, (Event.CORRECTED,), _WORSE, None, _UNCONFIRMED, _RING_WORSE),

    # The condition is on.
    Row(_ON, _OPEN, _IS_ON, (), _ACTIVE),
    Row(_OFF, _WAITING, _IS_ON, (Guard.STOPPED,), _ACTIVE, None, _RING_AGAIN),
    Row(_OFF, _WAITING, _IS_ON, (), _ACTIVE, None, (Effect.STOP_CLOSE,)),  # its confirm clock never stopped
    Row(_OFF, _HELD, _IS_ON, _REACHED, _ACTIVE, None, (Effect.TELL_HOLDER,)),
    Row(_OFF, _HELD, _IS_ON, (), _ACTIVE, _UNCONFIRMED, _RING),
    Row(_ANY, _CLOSED, _IS_ON, (), _ACTIVE, _UNCONFIRMED, _RING_AGAIN),
    Row(_ANY, _OPEN + _CLOSED, (Event.CORRECTED,)),

    # The condition is unknown: nothing is cleared, no clock stops.
    Row(_ON, _OPEN, (Event.UNKNOWN,), (), _UNKNOWN),
    Row(_OFF, _OPEN, (Event.UNKNOWN,)),
    Row(_ANY, _CLOSED, (Event.UNKNOWN,)),

    # The condition is over.
    Row(_ON, _WAITING, _IS_OVER, _IV, _ENDED, None, (Effect.START_CLOSE,)),
    Row(_ON, (Standing.CONFIRMED,), _IS_OVER, _ENOUGH, _ENDED, None, (Effect.CLOSE,)),
    Row(_ON, (Standing.UNCONFIRMED, Standing.CONFIRMED), _IS_OVER, (), _ENDED),
    Row(_ON, _DONE, _IS_OVER, (), _ENDED, None, (Effect.CLOSE,)),
    Row(_OFF, _OPEN, _IS_OVER),
    Row(_ANY, _CLOSED, _IS_OVER),

    # A person confirms.
    Row(_OFF, _WAITING, (Event.CONFIRM,), _ASKED + _ENOUGH, None, _CONFIRMED, _TAKE_AND_CLOSE),
    Row(_ANY, _WAITING, (Event.CONFIRM,), _ASKED, None, _CONFIRMED, _TAKE),
    Row(_ANY, _OPEN + _CLOSED, (Event.CONFIRM,)),

    # A person takes it over.
    Row(_OFF, _WAITING, (Event.TAKE_OVER,), _ENOUGH, None, _CONFIRMED, _TAKE_AND_CLOSE),
    Row(_ANY, _WAITING, (Event.TAKE_OVER,), (), None, _CONFIRMED, _TAKE),
    Row(_ANY, _HELD, (Event.TAKE_OVER,), (), None, None, (Effect.TELL_HOLDER, Effect.HOLD)),
    Row(_ANY, _CLOSED, (Event.TAKE_OVER,)),

    # A person records what was done.
    Row(_OFF, _WAITING, (Event.ACT,), _ASKED, None, _ACTED, (Effect.HOLD, Effect.DONE, Effect.CLOSE)),
    Row(_OFF, _HELD, (Event.ACT,), _ASKED, None, _ACTED, (Effect.DONE, Effect.CLOSE)),
    Row(_ON, _WAITING, (Event.ACT,), _ASKED, None, _ACTED, (Effect.HOLD, Effect.DONE, Effect.START_RETURN)),
    Row(_ON, _HELD, (Event.ACT,), _ASKED, None, _ACTED, (Effect.DONE, Effect.START_RETURN)),
    Row(_ANY, _OPEN + _CLOSED, (Event.ACT,)),

    # A deadline has come.
    Row(_ANY, _WAITING, (Event.CONFIRM_DUE,), _HIGHER, None, None, (Effect.CLIMB, Effect.START_CONFIRM)),
    Row(_OFF, _WAITING, (Event.CONFIRM_DUE,), _IV),  # closes itself
    Row(_ANY, _WAITING, (Event.CONFIRM_DUE,), (), None, None, (Effect.ASK_AGAIN,)),
    Row(_ANY, _HELD, _COME_BACK, (), None, _UNCONFIRMED, _CALL_BACK),
    Row(_OFF, _WAITING, (Event.CLOSE_DUE,), (), None, None, (Effect.CLOSE,)),

    # Clocks that do not run in these states.
    Row(_ANY, _HELD + _CLOSED, (Event.CONFIRM_DUE,)),
    Row(_ANY, _WAITING + _CLOSED, _COME_BACK),
    Row(_ON, _WAITING, (Event.CLOSE_DUE,)),
    Row(_ANY, _HELD + _CLOSED, (Event.CLOSE_DUE,)),

    # A notice was given up: the ladder is climbed by the clock, whether it was heard or not.
    Row(_ANY, _OPEN + _CLOSED, (Event.UNDELIVERED,)),
)
# fmt: on

STATES: tuple[State, ...] = (
    State(_ACTIVE, Standing.NEW),
    *(State(condition, standing) for condition in _ANY for standing in _OPEN),
    State(_ENDED, Standing.CLOSED),
)

ROWS: dict[tuple[State, Event], tuple[Row, ...]] = {
    (state, event): tuple(
        row
        for row in TABLE
        if state.condition in row.conditions and state.standing in row.standings and event in row.events
    )
    for state in STATES
    for event in Event
}


class Policy(NamedTuple):
    """How an alert of one tier in its place is called, at one moment. Times in µs, above 0.

    places: the ladder from rung 0 up; manned: whether somebody is on duty there now.
    action_within: 0 where no action is waited for. told: the place that is told at t = 0, "" for none.
    reaches: whether a person can be sent anything at all, on duty or not.
    """

    confirm_within: int
    action_within: int
    again_after: int
    told: str
    places: tuple[str, ...]
    manned: tuple[bool, ...]
    reaches: Callable[[str], bool] = bool


NOBODY = Policy(1, 0, 1, "", (), ())
"""For an event that calls nobody."""


class Happening(NamedTuple):
    """An event, and what it brings."""

    event: Event
    finding: Finding | None = None
    cell: str = ""  # of the finding's enterprise
    gap: int = 0  # messages of the finding that are missing before this one
    person: str = ""
    asked: bool = False  # the person was, on any rung
    note: str = ""
    due: int = 0  # of a deadline


class Call(NamedTuple):
    """Somebody to be sent a notice: whoever is on duty at a place, or one person."""

    role: Role
    place: str = ""
    person: str = ""


class Result(NamedTuple):
    """The alert after an event, the step to record of it, and whom to call."""

    alert: Alert
    step: Step
    calls: tuple[Call, ...]


def state_of(alert: Alert | None) -> State:
    """Where in the table the alert is."""
    if alert is None:
        return State(_ACTIVE, Standing.NEW)
    if alert.closed:
        return State(_ENDED, Standing.CLOSED)
    return State(alert.condition, Standing(alert.answer))


def next_due(alert: Alert) -> int:
    """The earliest of the alert's deadlines, µs; 0 if none is pending."""
    dues = (alert.confirm_due, alert.action_due, alert.return_due, alert.close_due)
    return min((due for due in dues if due), default=0)


def deadline(alert: Alert, now: int) -> Happening | None:
    """The deadline that is to be handled next, if one has come by ``now`` (µs)."""
    due = next_due(alert)
    if not 0 < due <= now:
        return None
    return Happening(next(event for event in DEADLINES if getattr(alert, event) == due), due=due)


def outcome(state: State, happening: Happening) -> Outcome:
    """What comes of a person's answer to an alert in that state."""
    if state.standing is Standing.CLOSED:
        return Outcome.CLOSED
    if happening.event is Event.TAKE_OVER:
        return Outcome.TAKEN_OVER
    if not happening.asked:
        return Outcome.SEEN
    if happening.event is Event.ACT:
        return Outcome.ACTED
    return Outcome.CONFIRMED if state.standing is Standing.UNCONFIRMED else Outcome.AGAIN


def step(
    alert: Alert | None, happening: Happening, policy: Callable[[Tier], Policy], now: int
) -> Result | None:
    """What an event makes of an alert. Pure, and total over the table.

    What starts with a finding or a person counts from ``now``, what starts with a deadline from when that
    was due; so the ladder is climbed at the same times however late we are.

    Args:
        alert: as it is; None where the finding has none yet.
        policy: how an alert of a tier is called, now.
        now: µs.

    Returns:
        None where there was no alert and there is still none.
    """
    event, finding = happening.event, happening.finding
    state = state_of(alert)
    tier = _tier(alert, happening)
    called = policy(tier)
    row = _row(alert, state, happening, tier, called)
    after = row.after(state)
    if after.standing is Standing.NEW:
        return None
    old = alert or _raised(happening, tier)
    new: dict[str, Any] = {"step": old.step + 1, "tier": tier, "condition": after.condition}
    detail: dict[str, Any] = {}
    calls: list[Call] = []
    if row.answer:
        new["answer"] = row.answer
    if event in DEADLINES:
        new[event] = 0
    if finding:
        new |= _facts(old, finding)
        if after.condition is _ENDED and state.condition is not _ENDED:
            new["ended"] = finding.arrival
        elif after.condition is not _ENDED and state.condition is _ENDED:
            new |= {"ended": 0, "reopened": old.reopened + 1}

    start = happening.due or now
    for effect in row.effects:
        match effect:
            case Effect.FORGET:
                new |= {"holder": "", "confirmed": 0, "acted": 0, "closed": 0, "close_reason": ""}
                new |= _NO_CLOCKS
            case Effect.ASK:
                new["rung"] = _ask(range(len(called.places)), called, detail, calls)
            case Effect.ASK_ALL:
                new["rung"] = _ask(range(len(called.places)), called, detail, calls, up_to=old.rung)
            case Effect.ASK_HOLDER if old.holder:
                calls.append(Call(Role.ASKED, person=old.holder))
            case Effect.CLIMB:
                new["rung"] = _ask(range(old.rung + 1, len(called.places)), called, detail, calls)
            case Effect.ASK_AGAIN:
                _ask(reversed(range(len(called.places))), called, detail, calls)
                # With nobody at all, whoever comes on duty next is not left waiting.
                wait = called.again_after
                if not any(called.manned):
                    wait = min(wait, called.confirm_within)
                detail["missed"] = (now - start) // wait
                new["confirm_due"] = start + (detail["missed"] + 1) * wait
            case Effect.TELL if called.told:
                calls.append(Call(Role.TOLD, called.told))
            case Effect.TELL_HOLDER if old.holder and old.holder != happening.person:
                calls.append(Call(Role.TOLD, person=old.holder))
            case Effect.START_CONFIRM:
                new["confirm_due"] = start + called.confirm_within
            case Effect.START_ACTION:
                clock, length = ("action_due", called.action_within)
                if _answer_is_enough(tier, called):
                    clock, length = ("return_due", called.again_after)
                new |= {"confirm_due": 0, clock: start + length}
            case Effect.START_RETURN:
                new |= {"confirm_due": 0, "action_due": 0, "return_due": start + called.again_after}
            case Effect.START_CLOSE:
                new["close_due"] = new["ended"] + CLOSE_AFTER
            case Effect.STOP_CLOSE:
                new["close_due"] = 0
            case Effect.HOLD:
                new |= {"holder": happening.person, "confirmed": old.confirmed or now}
            case Effect.DONE:
                new["acted"] = now
            case Effect.CLOSE:
                answer = row.answer or old.answer
                detail["closed"] = NEVER_CONFIRMED if answer is _UNCONFIRMED else ANSWERED
                new |= {"closed": now, "close_reason": detail["closed"], **_NO_CLOCKS}

    late = now - (happening.due or (finding.arrival if finding else now))
    record = Step(
        alert=old.id,
        step=old.step + 1,
        time=now,
        due=happening.due,
        late=late if late > LATE else 0,
        event=event,
        actor=happening.person
        or ("engine" if finding else "sender" if event is Event.UNDELIVERED else "clock"),
        detail=Detail(
            finding=finding,
            note=happening.note,
            seen=event in (Event.CONFIRM, Event.ACT) and not happening.asked,
            gap=happening.gap,
            **detail,
        ),
    )
    return Result(replace(old, **new), record, tuple(calls))


def diagram() -> str:
    """The table as a mermaid state diagram: its two axes side by side, each arrow "events [guards] / effects"."""
    condition: dict[tuple[str, str], list[str]] = {}
    answer: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        events = ", ".join(row.events)
        where = [] if set(row.conditions) == set(_ANY) else [" or ".join(row.conditions)]
        label = events + "".join(f" [{guard}]" for guard in where + list(row.guards))
        if row.effects:
            label += " / " + ", ".join(row.effects)
        for standing in row.standings:
            to = row.after(State(_ACTIVE, standing)).standing
            if to != standing or row.effects:
                answer.setdefault((standing, to), []).append(label)
            for before in row.conditions:
                source = "[*]" if standing is Standing.NEW else before
                if row.condition and source != row.condition:
                    condition.setdefault((source, row.condition), []).extend(row.events)
    lines = ["stateDiagram-v2", "    state open {"]
    for (source, target), names in condition.items():
        lines.append(f"        {source} --> {target}: {', '.join(dict.fromkeys(names))}")
    lines += ["        --", "        [*] --> new"]
    for (source, target), labels in answer.items():
        lines += [f"        {source} --> {target}: {label}" for label in labels]
    return "\n".join([*lines, "    }", ""])


def _tier(alert: Alert | None, happening: Happening) -> Tier:
    """The tier after the event: only findings change it, and while the alert is open it never falls."""
    finding = happening.finding
    tier = finding.tier if finding else None
    if alert is None:
        return tier or Tier.IV
    if tier is None or happening.event not in (*_IS_ON, Event.CORRECTED):
        return alert.tier
    if alert.closed:
        return tier if happening.event in _IS_ON else alert.tier
    return max(alert.tier, tier)


def _row(alert: Alert | None, state: State, happening: Happening, tier: Tier, called: Policy) -> Row:
    held = set()
    if alert is not None:
        if tier > alert.tier:
            held.add(Guard.WORSE)
        if any(called.manned[alert.rung + 1 :]):
            held.add(Guard.HIGHER)
        if not alert.confirm_due:
            held.add(Guard.STOPPED)
        if called.reaches(alert.holder):
            held.add(Guard.REACHED)
    if tier is Tier.IV:
        held.add(Guard.IV)
    if _answer_is_enough(tier, called):
        held.add(Guard.ENOUGH)
    if happening.asked:
        held.add(Guard.ASKED)
    return next(row for row in ROWS[state, happening.event] if held.issuperset(row.guards))


def _answer_is_enough(tier: Tier, called: Policy) -> bool:
    """Whether no action is waited for."""
    return tier is Tier.IV or not called.action_within


def _ask(
    rungs: Iterable[int], called: Policy, detail: dict[str, Any], calls: list[Call], up_to: int = 0
) -> int:
    """Call those rungs up to one that are manned, or else the first that is; note those passed over.

    Returns the highest rung called.
    """
    passed: list[str] = []
    asked: list[int] = []
    for rung in rungs:
        if called.manned[rung]:
            asked.append(rung)
            calls.append(Call(Role.ASKED, called.places[rung]))
        else:
            passed.append(called.places[rung])
        if asked and rung >= up_to:
            break
    if not asked:  # nobody at all: those who run the system are asked to find somebody, or to take it
        calls.append(Call(Role.ASKED, SYSTEM))
    rung = max([up_to, *asked])
    detail |= {"rung": rung, "nobody": tuple(passed)}
    return rung


def _raised(happening: Happening, tier: Tier) -> Alert:
    """A new alert before its first step."""
    finding = happening.finding
    assert finding is not None, "only a finding raises an alert"
    return Alert(
        id=finding.id,
        rule=finding.rule,
        enterprise=finding.enterprise,
        subject=finding.subject,
        cell=happening.cell,
        finding=finding.id,
        tier=tier,
        level=finding.level,
        condition=_ACTIVE,
        answer=_UNCONFIRMED,
        rung=0,
        step=0,
        raised=finding.arrival,
        since=finding.since,
        time=finding.time,
        value=finding.value,
        value_time=finding.time,
        limit=finding.limit,
        unit=finding.unit,
        clause=finding.clause,
        version=finding.version,
        basis=_basis(finding),
    )


def _basis(finding: Finding) -> Basis:
    return Basis(finding.name, finding.why, finding.grounds, finding.asks)


def _facts(old: Alert, finding: Finding) -> dict[str, Any]:
    """What the alert now says of the plant. What ended keeps the limit and level that it was about, and what
    is unknown its last known value. What is withdrawn was not measured anew, and names a version only."""
    withdrawn = finding.phase is Phase.WITHDRAWN
    measured = finding.value is not None and not withdrawn
    return {
        "finding": finding.id,
        "since": finding.since,
        "time": finding.time,
        "value": finding.value if measured else old.value,
        "value_time": finding.time if measured else old.value_time,
        "evidence": old.evidence if withdrawn else finding.evidence or old.evidence,
        "basis": _basis(finding) if finding.grounds or not old.basis.grounds else old.basis,
        "level": finding.level or old.level,
        "limit": old.limit if finding.limit is None else finding.limit,
        "unit": finding.unit or old.unit,
        "clause": finding.clause or old.clause,
        "version": finding.version or old.version,
    }
