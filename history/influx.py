"""The InfluxDB home of history: chunks are written before it says so, in requests that may be repeated at will."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from history.chunk import Chunk
from history.home import HomeAway
from history.influx_access import FAILURES, Access, Failure, refuses, said
from history.influx_notes import Late, Notes, Refusal
from history.influx_rollup import BY
from history.influx_upkeep import Upkeep
from history.lines import Layout, escaped, lines
from registry.clock import HOUR, MINUTE, Clock
from registry.model import Registry

REQUEST = 4 << 20
"""Bytes of lines that are written at once, at most: some 300,000 readings of wide lines."""

SEARCH = 1_000
"""Requests in which what the server refuses of a chunk is looked for, at most; then it is refused as it is."""

_EXPIRED = re.compile(r"dropped (\d+) points outside retention policy")
_CONFLICT = re.compile(r'input field "(.*)" on measurement "(\w+)" is type .* dropped=(\d+)')
_LINE = re.compile(rb"((?:\\.|[^\\ ])+ )(.+)( -?\d+\n)", re.DOTALL)
_FIELD = re.compile(rb"(?:\\.|[^\\,])+", re.DOTALL)

log = structlog.get_logger()


class InfluxHome:
    """A Home. One thread.

    Whatever was answered late, or not at all, is written once more: the same point and time is the same place. What
    the server refuses is looked for, down to a single field, and noted with its reason; all else is stored.

    Args:
        folder: for its notes.
        clock: by which it knows what comes too late for the roll-ups.
        whose: enterprises that it is answerable for, as a slot of a cluster, where Kafka has the position; while there
            are none, nothing is rolled up again. None: all of its cells, and it notes the position.

    ``counts``: "readings" (as they came), "values" and "qualities" (fields), "requests", "bytes", "refused" (fields),
    "expired" (lines older than the bucket keeps), "unwritable" (readings), "away", and those of Upkeep.
    Raises sqlite3.OperationalError.
    """

    name = "influxdb"

    def __init__(
        self,
        access: Access,
        folder: Path,
        clock: Clock,
        whose: Callable[[], Collection[str]] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._access = access
        self._clock = clock
        self._is_slot = whose is not None
        self._client = access.client()
        self._writer: Any = self._client.write_api(write_options=SYNCHRONOUS)  # its types want no text
        self._notes = Notes(folder / "influx.sqlite", access.place)  # last: what fails leaves nothing open
        self._upkeep = Upkeep(access, self._notes, clock, self.counts, whose)
        self._position = self._notes.position
        self._layout: Layout | None = None
        self._given: tuple[object, ...] = ()  # the chunk under way
        self._stored: dict[str, list[Refusal]] = {}  # what was refused of it, by cell, of those that are done
        self._searched = 0
        self._told = 0

    @property
    def position(self) -> int:
        return self._position

    @property
    def taken(self) -> int:
        return self._position

    def append(self, chunk: Chunk) -> None:
        """Store a chunk. Raises HomeAway: give it the same again."""
        layout = self._layout_of(chunk)
        stored = lines(chunk, layout)
        given = (chunk.first, chunk.last, len(chunk), layout)
        if self._given != given:
            self._given, self._stored = given, {}
        self._searched = 0
        for part in stored:
            if part.cell not in self._stored:  # else it came before another cell's bucket was missing
                bucket = self._access.bucket(part.cell)
                self._stored[part.cell] = [
                    one for body in _requests(part.body) for one in self._store(bucket, body)
                ]
        refusals = [one for found in self._stored.values() for one in found]
        late = self._late(chunk, layout)
        if refusals or late or not self._is_slot:
            with _noting():
                self._upkeep.forgotten(self._notes.put(0 if self._is_slot else chunk.last, refusals, late))
        self._given, self._stored = (), {}
        self._position = max(self._position, chunk.last)
        self.counts["readings"] += len(chunk)
        self.counts["values"] += sum(part.values for part in stored)
        self.counts["qualities"] += sum(part.qualities for part in stored)
        self.counts["refused"] += sum(one.fields for one in refusals)
        if (writable := layout.writable(chunk.readings)) is not None:
            self.counts["unwritable"] += int(np.count_nonzero(~writable))
        if refusals:
            self._tell(refusals[0])

    def flush(self) -> None:
        """Nothing waits: what was appended is stored."""

    def maintain(self) -> bool:
        """A step of the roll-ups' upkeep. Raises HomeAway."""
        with _noting():
            return self._upkeep.step(self._layout.cells if self._layout is not None else ())

    def relieve(self) -> None:
        """Nothing of ours is in its way."""

    def close(self) -> None:
        self._client.close()
        self._notes.close()

    # -- writing -----------------------------------------------------------------------------------

    def _store(self, bucket: str, body: bytes) -> list[Refusal]:
        """Write these lines; what the server does not take of them. Raises HomeAway."""
        refusals = []
        waiting = [body]
        while waiting:
            body = waiting.pop()
            reason = self._post(bucket, body)
            if reason is None:
                continue
            if expired := _EXPIRED.search(reason):  # all else of it is stored
                self.counts["expired"] += int(expired[1])
                continue
            parts = _parts(body, reason) if self._searched < SEARCH else []
            self._searched += len(parts)
            waiting += reversed(parts)
            if not parts:
                refusals += [
                    Refusal(self._clock.now(), bucket, line, reason, _fields(line))
                    for line in body.splitlines(keepends=True)
                ]
        return refusals

    def _post(self, bucket: str, body: bytes) -> str | None:
        """One request: None once all of it is stored, or why it was refused. Raises HomeAway."""
        self.counts["requests"] += 1
        self.counts["bytes"] += len(body)
        try:
            self._writer.write(bucket, record=body, write_precision="us")
        except FAILURES as error:
            if isinstance(error, ApiException) and refuses(error):
                return said(error)
            raise self._away(error) from error
        return None

    def _away(self, error: Failure) -> HomeAway:
        self.counts["away"] += 1
        return HomeAway(self._access.why(error))

    def _tell(self, refusal: Refusal) -> None:
        """Of one, at most once a minute: each is noted."""
        now = self._clock.now()
        if now - self._told >= MINUTE:
            self._told = now
            where = {"bucket": refusal.bucket, "line": repr(refusal.line[:200])}
            log.error("influx_refused", **where, why=refusal.reason, fields=self.counts["refused"])

    # -- what comes with a chunk -------------------------------------------------------------------

    def _layout_of(self, chunk: Chunk) -> Layout:
        registry = chunk.registry
        known = self._layout
        if known is not None and _same(known.registry, registry):
            return known
        self._layout = layout = Layout(registry, self._access.level)
        for row, why in list(layout.unwritable.items())[:1]:
            whose = registry.gateways[registry.points.gateway[row]].enterprise
            first = {"enterprise": whose, "point": registry.points.id[row]}
            log.error("influx_points_left_out", count=len(layout.unwritable), **first, why=why)
        return layout

    def _late(self, chunk: Chunk, layout: Layout) -> list[Late]:
        """The hours of which the roll-ups may lack something of this chunk."""
        now = self._clock.now()
        late = chunk.readings.time < BY[0].too_late(now)
        if not late.any():
            return []
        hour = chunk.readings.time[late] // HOUR
        first = int(hour.min())
        span = int(hour.max()) - first + 1
        found = np.unique(layout.cell(chunk.readings.row[late]) * span + hour - first)
        return [Late(layout.cells[one // span], (first + one % span) * HOUR, now) for one in found.tolist()]


def _same(one: Registry, other: Registry) -> bool:
    """Whether they have the same rows: parts of a version, for different slots, do not."""
    return one is other or (one.version == other.version and one.gateways == other.gateways)


def _requests(body: bytes) -> Iterator[bytes]:
    """Lines in pieces of whole ones, each below REQUEST if a single line is."""
    cuts = [0]
    while len(body) - cuts[-1] > REQUEST:
        end = body.rfind(b"\n", cuts[-1], cuts[-1] + REQUEST) + 1
        cuts.append(end or body.find(b"\n", cuts[-1]) + 1)
    for begin, end in pairwise([*cuts, len(body)]):
        yield body[begin:end]


def _parts(body: bytes, reason: str) -> list[bytes]:
    """Lines among which some were refused, in parts to be written apart; none if all of them are at fault."""
    if conflict := _CONFLICT.search(reason):  # a field of another type than it was: all lines with it
        parts = _apart(body, f"{conflict[2]},".encode(), f"{escaped(conflict[1])}=".encode())
        if all(parts):
            return parts
        if int(conflict[3]) == body.count(b"\n") and not parts[1]:
            return []
    middle = body.rfind(b"\n", 0, len(body) // 2) + 1 or body.find(b"\n") + 1
    if 0 < middle < len(body):
        return [body[:middle], body[middle:]]
    line = _LINE.fullmatch(body)
    fields = _FIELD.findall(line[2]) if line else []
    if line is None or len(fields) < 2:
        return []
    half = len(fields) // 2
    return [line[1] + b",".join(part) + line[3] for part in (fields[:half], fields[half:])]


def _apart(body: bytes, measurement: bytes, key: bytes) -> list[bytes]:
    """One field of all lines of a measurement, and all else."""
    alone, others = [], []
    for text in body.splitlines(keepends=True):
        line = _LINE.fullmatch(text)
        if line is None or not text.startswith(measurement):
            others.append(text)
            continue
        fields = _FIELD.findall(line[2])
        rest = [field for field in fields if not field.startswith(key)]
        alone += [line[1] + field + line[3] for field in fields if field.startswith(key)]
        if rest:
            others.append(line[1] + b",".join(rest) + line[3])
    return [b"".join(alone), b"".join(others)]


def _fields(text: bytes) -> int:
    """How many fields this line has; 1 if it is none."""
    line = _LINE.fullmatch(text)
    return len(_FIELD.findall(line[2])) if line else 1


@contextmanager
def _noting() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise HomeAway(f"what InfluxDB has cannot be noted: {error}") from error
