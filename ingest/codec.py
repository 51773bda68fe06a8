"""What every payload codec shares: columns, problems, and how points and times are looked up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Qualities, Rows, Values
from registry.clock import DAY
from registry.model import Registry

EARLIEST = 946_684_800_000_000
"""2000-01-01T00:00:00Z in µs: a device that says an earlier time has lost its clock's battery."""

AHEAD = DAY
"""A time further ahead of its arrival is absurd; smaller faults of a clock are the engine's to judge."""


class Reason(StrEnum):
    """Why something of a message is in the dead letters; metrics count by it."""

    TOPIC = "topic"
    CREDIT_CODE = "credit_code"
    UNKNOWN_ENTERPRISE = "unknown_enterprise"
    UNKNOWN_GATEWAY = "unknown_gateway"
    TOO_LARGE = "too_large"
    TOO_MANY_READINGS = "too_many_readings"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    ENTERPRISE_MISMATCH = "enterprise_mismatch"
    GATEWAY_MISMATCH = "gateway_mismatch"
    TIME_MISSING = "time_missing"
    TIME_UNREADABLE = "time_unreadable"
    TIME_ABSURD = "time_absurd"
    UNKNOWN_POINT = "unknown_point"
    WRONG_GATEWAY = "wrong_gateway"
    DUPLICATE_POINT = "duplicate_point"
    VALUE_NOT_NUMBER = "value_not_number"
    VALUE_NOT_FINITE = "value_not_finite"
    QUALITY_UNKNOWN = "quality_unknown"
    CODEC_FAILED = "codec_failed"


ADVICE = {
    Reason.TOPIC: "publish to fenghuo/v1/ENTERPRISE/GATEWAY/readings or .../status",
    Reason.CREDIT_CODE: "the topic's third level is the enterprise's unified social credit code (GB 32100)",
    Reason.UNKNOWN_ENTERPRISE: "add the enterprise to the registry, or correct the topic",
    Reason.UNKNOWN_GATEWAY: "add the gateway to the registry, or correct the topic",
    Reason.TOO_LARGE: "split it into several messages",
    Reason.TOO_MANY_READINGS: "split it into several messages",
    Reason.NOT_UTF8: "send UTF-8",
    Reason.NOT_JSON: "send JSON (RFC 8259)",
    Reason.WRONG_SHAPE: "see docs/wire-format.md for the two forms of a message",
    Reason.ENTERPRISE_MISMATCH: "the payload must name the enterprise of its topic, or none",
    Reason.GATEWAY_MISMATCH: "the payload must name the gateway of its topic, or none",
    Reason.TIME_MISSING: 'add "time": ISO 8601 with a time zone',
    Reason.TIME_UNREADABLE: "send ISO 8601 with a time zone, e.g. 2026-11-21T08:00:00.000Z",
    Reason.TIME_ABSURD: "set the device's clock: it is before 2000 or over a day ahead of the arrival",
    Reason.UNKNOWN_POINT: "add the points to the registry, or stop sending them",
    Reason.WRONG_GATEWAY: "send a point through the gateway that the registry names for it",
    Reason.DUPLICATE_POINT: "name a point once in an object; the last value was taken",
    Reason.VALUE_NOT_NUMBER: "send a JSON number, or null for a value that could not be measured",
    Reason.VALUE_NOT_FINITE: "send null for a value that could not be measured",
    Reason.QUALITY_UNKNOWN: 'quality is "good", "uncertain" or "bad"',
    Reason.CODEC_FAILED: "this is a fault of ours: please report it with the message",
}
"""How to mend it, for a person at the gateway."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a message that could not be used."""

    reason: Reason
    detail: str  # what exactly


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest message that is looked into."""

    payload: int = 1024 * 1024  # bytes
    readings: int = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Readings of one device time. row, value and quality have equal length; a bad value is NaN.

    quality None: BAD where the value is NaN, else GOOD.
    """

    row: Rows
    time: int  # µs UTC
    value: Values
    quality: Qualities | None = None


@dataclass(slots=True)
class Decoded:
    """What a codec got out of a message: the good half, and what was wrong with the other."""

    columns: list[Columns]
    problems: list[Problem]


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """The rows of a list of ``places`` point ids. keep: the places that have a row; None if all have."""

    places: int
    row: Rows
    keep: NDArray[np.intp] | None
    problems: tuple[Problem, ...]


class GatewayPoints:
    """The points that one gateway may speak for, in one version of the registry."""

    def __init__(self, registry: Registry, gateway: int) -> None:
        self.index = gateway
        self.enterprise = registry.gateways[gateway].enterprise
        self.id = registry.gateways[gateway].id
        self._rows = registry.rows[self.enterprise]
        self._gateway = registry.points.gateway
        self._gateways = registry.gateways

    def lookup(self, ids: Sequence[str]) -> Lookup:
        """Find the rows of point ids; of an id that is there twice the last place is kept."""
        last = {id: place for place, id in enumerate(ids)}
        row, keep, unknown, foreign = [], [], [], []
        for id, place in last.items():
            found = self._rows.get(id)
            if found is None:
                unknown.append(id)
            elif self._gateway[found] != self.index:
                foreign.append(f"{plain(id)} (belongs to {self._gateways[self._gateway[found]].id})")
            else:
                row.append(found)
                keep.append(place)
        problems = []
        if unknown:
            problems.append(Problem(Reason.UNKNOWN_POINT, listed([plain(id) for id in unknown])))
        if foreign:
            problems.append(Problem(Reason.WRONG_GATEWAY, listed(foreign)))
        if len(last) < len(ids):
            repeated = sorted({id for place, id in enumerate(ids) if last[id] != place})
            problems.append(Problem(Reason.DUPLICATE_POINT, listed([plain(id) for id in repeated])))
        return Lookup(
            len(ids),
            np.array(row, np.int32),
            None if len(row) == len(ids) else np.array(keep, np.intp),
            tuple(problems),
        )


class Codec(Protocol):
    """A payload format. One codec serves one gateway, so that it may remember how that gateway writes."""

    def __init__(self, points: GatewayPoints, limits: Limits) -> None: ...

    def decode(self, payload: bytes, now: int) -> Decoded:
        """Decode one payload that arrived at ``now`` (µs); a payload of any content, without raising."""
        ...


def parse_time(text: str, now: int) -> int | Problem:
    """µs UTC of an ISO 8601 time with a zone, cut off at the microsecond, if it can be true."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return Problem(Reason.TIME_UNREADABLE, f"time {shown(text)}")
    if time.tzinfo is None:
        return Problem(Reason.TIME_UNREADABLE, f"time {shown(text)} has no time zone")
    micros = (time - _EPOCH) // _MICROSECOND
    if not EARLIEST <= micros <= now + AHEAD:
        return Problem(Reason.TIME_ABSURD, f"time {shown(text)}")
    return micros


def shown(value: object) -> str:
    """A piece of a payload as a detail may show it: short, one line, and always writable as UTF-8."""
    text = repr(value[:100] if isinstance(value, str) else value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 60 else text[:57] + "..."


def plain(text: str) -> str:
    """A text as a detail may show it, without quotation marks."""
    return shown(text)[1:-1]


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first of a list, and how many more there are."""
    head = ", ".join(names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
