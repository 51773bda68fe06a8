"""Alert and notice: what people deal with, and what they are sent."""

from enum import StrEnum

import msgspec

from streams.finding import Ask, Finding, Ground, Tier


class Condition(StrEnum):
    """What the plant does (ISA-18.2: the alarm condition)."""

    ACTIVE = "active"
    UNKNOWN = "unknown"
    ENDED = "ended"


class Answer(StrEnum):
    """What people did about it."""

    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    ACTED = "acted"


class Basis(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a finding says beyond a measured value (see Finding); stored as JSON, empty fields left out."""

    name: str = ""  # what people call the subject
    why: dict[str, str] = {}
    grounds: tuple[Ground, ...] = ()
    asks: tuple[Ask, ...] = ()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One or more findings of one rule and subject, from raised to closed. Times in µs; 0 is "not"."""

    id: str  # the id of its first finding, so that a replay gives the same
    rule: str
    enterprise: str
    subject: str
    cell: str
    finding: str  # the finding that it stands on now
    tier: Tier
    level: str
    condition: Condition
    answer: Answer
    rung: int  # how far up the ladder it has been called: 0 is the enterprise's operator
    step: int  # number of its newest step; every step of its history has one
    raised: int  # arrival
    since: int  # event time at which the condition first held
    time: int  # event time of its newest finding
    value: float | None  # the last that was known
    value_time: int  # event time of that value
    limit: float | None
    unit: str
    clause: str
    version: str  # registry version by which it was judged
    evidence: tuple[str, ...] = ()  # of its findings: points, readings, what went wrong
    basis: Basis = Basis()
    holder: str = ""  # the person who confirmed or took over
    confirmed: int = 0
    acted: int = 0
    ended: int = 0  # arrival
    closed: int = 0
    close_reason: str = ""
    reopened: int = 0  # how often
    confirm_due: int = 0
    action_due: int = 0
    return_due: int = 0
    close_due: int = 0


class Role(StrEnum):
    ASKED = "asked"  # must confirm
    TOLD = "told"  # is informed; an answer is recorded as seen


class NoticeState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"  # an attempt began; after a crash it may have been delivered
    DELIVERED = "delivered"
    FAILED = "failed"  # given up


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one person on one channel for one step of one alert."""

    id: str  # derived from alert, step, person, channel, role; the idempotency key of every send
    alert: str
    step: int
    person: str
    role: Role
    tier: Tier  # of the alert then; what is asked, and what is worse, goes first
    channel: str
    address: str
    language: str
    title: str
    text: str
    due: int  # not to be sent before, µs
    created: int
    attempts: int = 0
    maybe_delivered: bool = False  # so the next send is marked as a repeat
    state: NoticeState = NoticeState.WAITING
    error: str = ""
    delivered: int = 0


class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a step was taken and what came of it; stored as JSON, empty fields left out."""

    finding: Finding | None = None  # the message that brought it
    note: str = ""  # what the person said
    rung: int | None = None  # the rung that was asked
    asked: tuple[str, ...] = ()  # person ids
    told: tuple[str, ...] = ()
    nobody: tuple[str, ...] = ()  # places where nobody was on duty: rungs passed over, or nobody to tell
    seen: bool = False  # the person was told, not asked: recorded, and the clock goes on
    missed: int = 0  # how many askings fell away because we were down
    gap: int = 0  # how many messages of the finding are missing before this one
    closed: str = ""  # this step closed the alert: the reason


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an alert's history: who or what, when, and why. Times in µs."""

    alert: str
    step: int  # 1, 2, 3 ... without gaps
    time: int
    due: int = 0  # when it was due, where a deadline brought it
    late: int = 0  # how late it was done; 0 if in time
    event: str
    actor: str  # person id, or "engine" (a finding), "clock" (a deadline), "sender" (a notice given up)
    detail: Detail = Detail()


class Outcome(StrEnum):
    """What came of a person's answer."""

    CONFIRMED = "confirmed"
    TAKEN_OVER = "taken_over"
    ACTED = "acted"
    SEEN = "seen"  # a told person's answer: recorded, the clock goes on
    AGAIN = "again"  # somebody had confirmed before: recorded
    CLOSED = "closed"  # it was closed before: recorded


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The desk's answer to a person: what came of it, the step that records it, and the alert as it is."""

    outcome: Outcome
    step: int
    alert: Alert
