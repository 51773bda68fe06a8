"""The Faust app: a worker judges its partitions of readings, and of findings by the compound rules."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import faust
import structlog
from faust.types.tuples import Message

from ingest import topics
from ingest.topics import Entry, Topics
from streams import compound_shard, point_shard, report
from streams.compound_shard import CompoundShard
from streams.configuration import Configuration
from streams.configurations import Configurations
from streams.exact import Exact, Output
from streams.point_shard import Layout, PointShard
from streams.report import Report
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

Heard = TypeVar("Heard", contravariant=True)
Told = TypeVar("Told", covariant=True)


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


class Judge(Protocol[Heard, Told]):
    """What a PointShard and a CompoundShard have in common."""

    @property
    def source(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def version(self) -> str: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    def needs(self, heard: Heard, /) -> str: ...
    def take(self, heard: Heard, offset: int, coming: Configuration | None, /) -> Iterable[Told]: ...
    def unreadable(self, offset: int, why: str, /) -> Iterable[Told]: ...
    def snapshot(self) -> bytes | None: ...


class KafkaShard(Generic[Heard, Told]):
    """A shard between its records, as Exact wants it.

    Args:
        configurations: by version, where the shard needs one.
        decode: what a record says. Raises ValueError.
        output: the record of what the shard tells.
        last: what is told at a checkpoint only.
    """

    def __init__(
        self,
        shard: Judge[Heard, Told],
        configurations: Configurations,
        decode: Callable[[Message], Heard],
        output: Callable[[Told], Output],
        last: Callable[[], Iterable[Output]] = tuple,
    ) -> None:
        self.shard, self._configurations = shard, configurations
        self._decode, self._output, self.last = decode, output, last

    @property
    def offset(self) -> int:
        return self.shard.offset

    async def prepare(self, message: Message) -> Callable[[], Iterable[Output]]:
        shard, offset = self.shard, message.offset
        try:
            heard = self._decode(message)
        except ValueError as error:  # PackError among them
            why = str(error)
            log.error("record_unreadable", source=shard.source, offset=offset, why=why)
            return lambda: [self._output(told) for told in shard.unreadable(offset, why)]
        version = shard.needs(heard)
        coming = await self._configurations.get(version) if version else None
        return lambda: [self._output(told) for told in shard.take(heard, offset, coming)]

    def snapshot(self) -> bytes | None:
        return self.shard.snapshot()


def _entry(message: Message) -> Entry:
    headers: Any = message.headers  # a list of pairs, whatever its type may be
    return topics.decode(message.value or b"", headers)


def _report(message: Message) -> Report:
    return report.decode(message.value or b"")


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

    async def _open_points(self, slot: int, blob: bytes | None) -> KafkaShard[Entry, tuple[int, Report]]:
        names = self.parameters.topics
        shard = await self._point_shard(slot, blob)

        def output(told: tuple[int, Report]) -> Output:
            partition, said = told
            return Output(names.findings, partition, report.encode(said))

        def last() -> Iterable[Output]:
            if (newest := shard.newest()) is not None:
                yield Output(names.values, slot, report.encode_newest(newest), b"%d" % slot)

        return KafkaShard(shard, self.configurations, _entry, output, last)

    async def _point_shard(self, slot: int, blob: bytes | None) -> PointShard:
        layout = self.parameters.layout
        if blob is not None:
            try:
                state = point_shard.open_state(blob)
                configuration = await self.configurations.get(state.version)
                reads = await self.configurations.get(state.reads)
                return PointShard.restore(slot, layout, state, configuration, reads)
            except ValueError as error:  # of another Fenghuo: all that is kept is judged once more
                log.error("state_unusable", slot=slot, why=str(error))
        return PointShard(slot, layout)

    async def _open_compound(self, number: int, blob: bytes | None) -> KafkaShard[Report, Report]:
        findings = self.parameters.topics.findings
        shard = await self._compound_shard(number, blob)

        def output(told: Report) -> Output:
            return Output(findings, number, report.encode(told))

        return KafkaShard(shard, self.configurations, _report, output)

    async def _compound_shard(self, number: int, blob: bytes | None) -> CompoundShard:
        sources, patience = self.parameters.layout.slots, self.parameters.patience
        if blob is not None:
            try:
                state = compound_shard.open_state(blob)
                versions = {name: await self.configurations.get(name) for name in sorted(state.versions)}
                return CompoundShard.restore(number, sources, patience, state, versions)
            except ValueError as error:
                log.error("state_unusable", shard=number, why=str(error))
        return CompoundShard(number, sources, patience)
