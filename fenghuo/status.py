"""What the judge says of itself once a second, in a file that the serving process and `doctor` read."""

from pathlib import Path

import msgspec
import numpy as np


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds over the newest samples; zeros where there are none."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are since the start of the process; times are µs."""

    pid: int
    number: int  # how many times this process has written its status
    time: int
    started: int
    connected: bool
    listening: bool
    version: str
    offset: int  # newest journal offset
    absorbed: int  # newest offset whose findings the desk holds
    snapshot: int  # offset of the newest durable snapshot
    messages: int
    readings: int
    findings: int
    dead: dict[str, int]  # dead letters by reason
    dropped: dict[str, int]  # readings left out for a reason, e.g. redelivered
    waiting: int  # findings that the desk has not taken yet
    desk_busy: int  # rounds in which the desk was locked
    unwritable: str  # why the journal cannot be written, "" if it can
    round_ms: Latency  # from the first message of a round taken to its findings committed
    alert_ms: Latency  # from the device time of a reading to its finding committed
    journal_bytes: int
    journal_hours: float  # how long the budget lasts at the present rate


def read(path: Path) -> Status | None:
    """The newest status, or None where no judge of this version has written one yet."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(path: Path, status: msgspec.Struct) -> None:
    """Replace the file at once, so that a reader sees the old or the new, never half."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(status))
    fresh.replace(path)


class Samples:
    """The newest durations, for percentiles."""

    def __init__(self, size: int = 20_000) -> None:
        self._ring = np.zeros(size)
        self._count = 0

    def add(self, milliseconds: float) -> None:
        self._ring[self._count % len(self._ring)] = milliseconds
        self._count += 1

    def latency(self) -> Latency:
        if not self._count:
            return Latency()
        held = self._ring[: min(self._count, len(self._ring))]
        p50, p99 = np.percentile(held, [50, 99])
        return Latency(self._count, round(float(p50), 3), round(float(p99), 3), round(float(held.max()), 3))
