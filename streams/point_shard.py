"""A shard of a cluster: one partition of readings, judged by the points and records of its slot's enterprises; pure.

Its partition is to it what the journal is to the local judge. What it was is in its state, up to an offset; what comes
after that, read again, gives the same findings with the same ids.
"""

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import numpy as np
import structlog
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from ingest.readings import GatewayStatus, Readings, Round
from ingest.topics import Entry
from registry import slots
from registry.model import Registry
from streams import guard
from streams.configuration import Configuration
from streams.engine import SnapshotError
from streams.evaluator import Evaluator
from streams.finding import Finding
from streams.report import Newest, Report
from streams.routing import Routing
from streams.system_findings import SystemFindings

FORMAT = 1
"""Of a state; the engines' own formats are in what they give."""


class State(msgspec.Struct, frozen=True, array_like=True):
    """All that a shard was at ``offset``, and at ``now`` (µs).

    version: in force; reads: the one whose rows its readings have.
    """

    format: int
    offset: int
    now: int
    term: int
    version: str
    reads: str
    edition: int
    epoch: str
    engine: bytes


_decode = msgspec.msgpack.Decoder(State).decode

log = structlog.get_logger()


def open_state(blob: bytes) -> State:
    """Raises ValueError where it is none, or of another format."""
    state = _decode(blob)
    if state.format != FORMAT:
        raise ValueError(f"a shard's state of format {state.format}; expected {FORMAT}")
    return state


class Layout(msgspec.Struct, frozen=True):
    """What topics are made with: partitions of readings and of findings, and the level whose cells are judged apart."""

    slots: int
    shards: int
    level: str


class PointShard:
    """The engines of one slot, and how far they have come.

    Not for several threads. ``offset``: of the newest record taken, -1 at first. ``version``: in force, "" at first.
    ``counts``: records that were repeated, of a lost owner ("stale"), or before any version ("early").
    """

    def __init__(self, slot: int, layout: Layout) -> None:
        self.slot, self.layout = slot, layout
        self.source = f"readings/{slot}"
        self.offset = -1
        self.counts: dict[str, int] = {"repeated": 0, "stale": 0, "early": 0, "readings": 0}
        self._system = SystemFindings(subject=f"slot:{slot}")
        self._term = self._edition = 0
        self._epoch: str | None = None  # not known before the first record
        self._owed: list[Finding] = []  # told with the next record
        self._engine: Evaluator | None = None
        self._routing: Routing | None = None
        self._reads: Registry | None = None
        self._rows: _Rows | None = None

    @property
    def version(self) -> str:
        return self._engine.registry.version if self._engine is not None else ""

    def needs(self, entry: Entry) -> str:
        """The version that has to be in hand when this is taken; "" if none."""
        version = entry.round.version
        if version is None or entry.term < self._term:
            return ""
        return "" if self._reads is not None and version == self._reads.version else version

    def take(
        self, entry: Entry, offset: int, coming: Configuration | None = None
    ) -> list[tuple[int, Report]]:
        """What a record gives: reports, each with its partition of the findings; marks go to all.

        coming: what ``needs`` asked for. Raises ValueError where it is not that.
        """
        if offset <= self.offset:
            self.counts["repeated"] += 1
            return []
        told, self._owed = self._owed, []
        if self._epoch is None:
            self._epoch = f" after {offset}" if offset else ""
        elif offset != self.offset + 1:
            why = f"{self.source}: offsets {self.offset + 1}–{offset - 1}"
            told += self._system.once("system.lost", entry.round.time, why, since=self.offset + 1)
        self.offset = offset
        if entry.term < self._term:
            self.counts["stale"] += 1
            return []
        self._term = entry.term
        round_ = entry.round
        if self._engine is not None and round_.time < self._engine.now:
            round_ = replace(round_, time=self._engine.now)
        version, edition = "", 0
        if round_.version is not None:
            told += self._take_version(round_, coming)
            version, edition = round_.version, max(entry.edition, self._edition)
            self._edition = edition
        elif self._engine is None:
            self.counts["early"] += 1
        else:
            told += self._judge(round_)
        is_mark = not len(round_.readings) and self._engine is not None  # else it would look as if it judged
        return self._reports(told, round_.time, is_mark, entry.asked, version, edition)

    def unreadable(self, offset: int, why: str) -> list[tuple[int, Report]]:
        """Pass over a record that nobody can read; it is told."""
        if offset <= self.offset:
            return []
        self.offset = offset
        now = self._engine.now if self._engine is not None else 0
        told = self._system.once("system.engine", now, f"{self.source}, offset {offset}: {why}", since=offset)
        return self._reports(told, now, False, 0, "", 0)

    def _judge(self, round_: Round) -> list[Finding]:
        assert self._engine is not None
        self.counts["readings"] += len(round_.readings)
        if self._rows is not None:
            round_ = self._rows.translated(round_)
        found, fault = guard.evaluate(self._engine, round_)
        return found + self._failed(fault, round_.time)

    def _take_version(self, round_: Round, coming: Configuration | None) -> list[Finding]:
        """Put a version in force; one over which the engine fails is left out, and its rows are translated."""
        if self._reads is not None and round_.version == self._reads.version:
            assert self._engine is not None
            return self._judge(replace(round_, version=None))
        if coming is None or coming.registry.version != round_.version:
            raise ValueError(f"version {round_.version} is not in hand")
        own = self._own(coming)
        if self._engine is None:
            self._engine = Evaluator(own, round_.time, self._epoch or "")
            found, fault = guard.evaluate(self._engine, replace(round_, version=None))
        else:
            self._engine, found, fault = guard.reconfigure(self._engine, own, round_)
        self._read_by(own.registry)
        self._routing = Routing(self._engine.registry, self.layout.level, self.layout.shards)
        return found + self._failed(fault, round_.time)

    def _read_by(self, registry: Registry) -> None:
        assert self._engine is not None
        self._reads = registry
        in_force = self._engine.registry
        self._rows = None if in_force.version == registry.version else _Rows(registry, in_force)

    def _own(self, configuration: Configuration) -> Configuration:
        """The part of a configuration that is ours; compound rules are judged elsewhere."""
        like = self._engine.registry if self._engine is not None else None
        registry = slots.part(configuration.registry, self.slot, self.layout.slots, like)
        return Configuration(registry, changed(configuration.rulebook, compound=()))

    def _failed(self, fault: str, time: int) -> list[Finding]:
        if not fault:
            return []
        return self._system.once("system.engine", time, f"{self.source}: {fault}", since=time)

    def _reports(
        self, found: Iterable[Finding], time: int, is_mark: bool, asked: int, version: str, edition: int
    ) -> list[tuple[int, Report]]:
        by_shard: dict[int, list[Finding]] = {}
        for finding in found:
            by_shard.setdefault(self._routing.of(finding) if self._routing else 0, []).append(finding)
        return [
            (
                shard,
                Report(
                    source=self.source,
                    offset=self.offset,
                    time=time,
                    findings=tuple(by_shard.get(shard, ())),
                    asked=asked,
                    version=version,
                    edition=edition,
                ),
            )
            for shard in (range(self.layout.shards) if is_mark else sorted(by_shard))
        ]

    def newest(self) -> Newest | None:
        """The newest values of the slot's points; None before any version."""
        engine = self._engine
        if engine is None:
            return None
        arrays = engine.newest, engine.value, engine.quality
        return Newest(engine.registry.version, engine.now, *(array.tobytes() for array in arrays))

    def snapshot(self) -> bytes | None:
        """All state, for :meth:`restore`; None before any version."""
        if self._engine is None or self._reads is None:
            return None
        state = State(
            FORMAT,
            self.offset,
            self._engine.now,
            self._term,
            self._engine.registry.version,
            self._reads.version,
            self._edition,
            self._epoch or "",
            self._engine.snapshot(),
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def restore(
        cls, slot: int, layout: Layout, state: State, configuration: Configuration, reads: Configuration
    ) -> "PointShard":
        """The shard as it was. configuration, reads: of the state's versions.

        Where the engine's part cannot be read (of another Fenghuo), it begins anew from there, and tells that.
        """
        shard = cls(slot, layout)
        own = shard._own(configuration)
        try:
            shard._engine = Evaluator.restore(own, state.engine)
        except SnapshotError as error:
            log.error("state_unusable", source=shard.source, why=str(error))
            epoch = f" after {state.offset}"
            shard._engine = Evaluator(own, state.now, epoch)
            state = changed(state, epoch=epoch)
            why = f"{shard.source}: what was open at offset {state.offset} is not known any more: {error}"
            shard._owed = shard._system.once("system.lost", state.now, why, since=state.offset)
        shard.offset, shard._term, shard._edition, shard._epoch = (
            state.offset,
            state.term,
            state.edition,
            state.epoch,
        )
        shard._read_by(own.registry if state.reads == state.version else shard._own(reads).registry)
        shard._routing = Routing(shard._engine.registry, layout.level, layout.shards)
        return shard


class _Rows:
    """Rows and gateways of one registry as those of another: what it does not have is left out."""

    def __init__(self, of: Registry, into: Registry) -> None:
        homes = [gateway.enterprise for gateway in of.gateways]
        self._row: NDArray[np.int32] = np.array(
            [
                into.rows.get(homes[gateway], {}).get(point, -1)
                for point, gateway in zip(of.points.id, of.points.gateway.tolist(), strict=True)
            ],
            np.int32,
        )
        self._gateway = [into.gateway_index.get((gateway.enterprise, gateway.id)) for gateway in of.gateways]

    def translated(self, round_: Round) -> Round:
        readings = round_.readings
        row = self._row[readings.row]
        there = row >= 0
        pairs = ((self._gateway[status.gateway], status.online) for status in round_.status)
        return replace(
            round_,
            status=tuple(GatewayStatus(gateway, online) for gateway, online in pairs if gateway is not None),
            readings=Readings(
                row[there], readings.time[there], readings.value[there], readings.quality[there]
            ),
        )
