"""The Faust app: a worker judges its partitions of readings, and of findings by the compound rules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.types.tuples import Message

from ingest import topics
from ingest.topics import Topics
from streams import compound_shard, point_shard, report
from streams.compound_shard import CompoundShard
from streams.configurations import Configurations
from streams.exact import Exact, Output
from streams.point_shard import Layout, PointShard
from streams.states import States

SESSION = 6.0
"""Seconds after which a worker that is not heard loses its partitions."""

HEARTBEAT = 1.0
"""Seconds between two words of a worker to its group: so late may the others learn that they have to take over."""

FROZEN = 4.0
"""Seconds that a worker may stand still: fewer than a session, so that it ends before others have taken over."""

MESSAGE = 16 << 20
"""Most bytes of a record."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Parameters:
    """What a worker is told.

    kafka: HOST:PORT, several with commas. folder: for Faust, which wants one. checkpoint: seconds between two.
    patience: µs, see CompoundShard.
    """

    kafka: str
    topics: Topics
    layout: Layout
    folder: Path
    checkpoint: float = 1.0
    patience: int = 2_000_000


class Points:
    """A slot's shard, as Exact wants it."""

    def __init__(self, shard: PointShard, of: "Worker") -> None:
        self.shard, self._of = shard, of

    @property
    def offset(self) -> int:
        return self.shard.offset

    async def prepare(self, message: Message) -> Callable[[], Iterable[Output]]:
        shard, offset = self.shard, message.offset
        headers: Any = message.headers  # a list of pairs, whatever its type may be
        try:
            entry = topics.decode(message.value or b"", headers)
        except ValueError as error:  # PackError among them
            why = str(error)
            log.error("record_unreadable", source=shard.source, offset=offset, why=why)
            return lambda: self._outputs(shard.unreadable(offset, why))
        version = shard.needs(entry)
        coming = await self._of.configurations.get(version) if version else None
        return lambda: self._outputs(shard.take(entry, offset, coming))

    def _outputs(self, reports: Iterable[tuple[int, report.Report]]) -> list[Output]:
        name = self._of.parameters.topics.findings
        return [Output(name, partition, report.encode(told)) for partition, told in reports]

    def snapshot(self) -> bytes | None:
        return self.shard.snapshot()

    def last(self) -> Iterable[Output]:
        newest = self.shard.newest()
        if newest is None:
            return ()
        slot, topic = self.shard.slot, self._of.parameters.topics.values
        return (Output(topic, slot, report.encode_newest(newest), b"%d" % slot),)


class Compound:
    """A shard of compound rules, as Exact wants it."""

    def __init__(self, shard: CompoundShard, of: "Worker") -> None:
        self.shard, self._of = shard, of

    @property
    def offset(self) -> int:
        return self.shard.offset

    async def prepare(self, message: Message) -> Callable[[], Iterable[Output]]:
        shard, offset = self.shard, message.offset
        try:
            heard = report.decode(message.value or b"")
        except ValueError as error:
            why = str(error)
            log.error("record_unreadable", source=shard.source, offset=offset, why=why)
            return lambda: self._outputs(shard.unreadable(offset, why))
        version = shard.needs(heard)
        coming = await self._of.configurations.get(version) if version else None
        return lambda: self._outputs(shard.take(heard, offset, coming))

    def _outputs(self, reports: Iterable[report.Report]) -> list[Output]:
        name = self._of.parameters.topics.findings
        return [Output(name, self.shard.shard, report.encode(told)) for told in reports]

    def snapshot(self) -> bytes | None:
        return self.shard.snapshot()

    def last(self) -> Iterable[Output]:
        return ()


class Worker:
    """The app and its two agents."""

    def __init__(self, parameters: Parameters, configurations: Configurations) -> None:
        self.parameters, self.configurations = parameters, configurations
        self.rebalances = 0
        names, layout = parameters.topics, parameters.layout
        self.app = faust.App(
            names.evaluate,
            broker=";".join(f"kafka://{place.strip()}" for place in parameters.kafka.split(",")),
            store="memory://",
            datadir=str(parameters.folder),
            key_serializer="raw",
            value_serializer="raw",
            web_enabled=False,
            topic_allow_declare=False,  # they are made by `fenghuo prepare`, with their settings
            topic_disable_leader=True,
            broker_session_timeout=SESSION,
            broker_heartbeat_interval=HEARTBEAT,
            broker_request_timeout=20.0,
            broker_commit_interval=0.5,
            broker_max_poll_interval=600.0,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4_000_000,
            producer_max_request_size=MESSAGE,
            producer_acks=-1,
            stream_wait_empty=False,
        )
        every = parameters.checkpoint
        points, compound = (
            States(parameters.kafka, names.changelog(table), MESSAGE) for table in ("points", "compound")
        )
        self.points = Exact(self.app, names.readings, layout.slots, points, self._open_points, every, FROZEN)
        self.compound = Exact(
            self.app, names.findings, layout.shards, compound, self._open_compound, every, FROZEN
        )
        self.app.on_partitions_revoked.connect(self._revoked)
        self.app.on_before_shutdown.connect(self._revoked)
        self.app.task(self.configurations.follow)

    async def _revoked(self, *_: object, **__: object) -> None:
        self.rebalances += 1
        await self.points.revoked()
        await self.compound.revoked()

    async def _open_points(self, slot: int, blob: bytes | None) -> Points:
        layout = self.parameters.layout
        if blob is not None:
            try:
                state = point_shard.open_state(blob)
                configuration = await self.configurations.get(state.version)
                reads = await self.configurations.get(state.reads)
                return Points(PointShard.restore(slot, layout, state, configuration, reads), self)
            except ValueError as error:  # of another Fenghuo: all that is kept is judged once more
                log.error("state_unusable", slot=slot, why=str(error))
        return Points(PointShard(slot, layout), self)

    async def _open_compound(self, shard: int, blob: bytes | None) -> Compound:
        sources, patience = self.parameters.layout.slots, self.parameters.patience
        if blob is not None:
            try:
                state = compound_shard.open_state(blob)
                versions = {name: await self.configurations.get(name) for name in sorted(state.versions)}
                return Compound(CompoundShard.restore(shard, sources, patience, state, versions), self)
            except ValueError as error:
                log.error("state_unusable", shard=shard, why=str(error))
        return Compound(CompoundShard(shard, sources, patience), self)
