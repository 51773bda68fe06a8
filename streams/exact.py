"""Exact state in a Faust agent: after a crash, the state and what is read again fit, and the same comes out.

A shard (one partition's state) takes records one by one. Once a second, and before its partition is given away, comes
a checkpoint, in this order: all that it told is delivered, its state is in a compacted topic, the offset is committed.
A shard is opened by the first record of its partition, and goes on from its state: what the state holds already is
passed over, and where records are missing before one, they are sought. Found to lose data otherwise, with
faust-streaming 0.15.3:

- A table writes to the partition of the current event, whichever the key's is; and after rebalances close to each other
  its recovery ends without the states of some partitions. So the states are ours (streams/states.py).
- A worker that stood still past its session writes old states after the new owner's: of several the furthest is taken;
  and a worker that finds that it stood still ends.
- Acknowledging single events makes the committed offset crawl after a kill: nothing is acknowledged, offsets are
  committed by us.
- An exception in an agent commits over the record: a shard raises for nothing that a record holds.
- After a rebalance a record is passed over now and then: the offsets have to follow each other.
"""

import asyncio
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TP, EventT
from faust.types.tuples import Message

from registry.clock import stopwatch
from streams.states import Found, States, pack

FROZEN = 75
"""Exit status of a worker that stood still, or could not make durable what it did: to be started again."""

SOUGHT = 1.0
"""Seconds that records that were asked for again may take."""

log = structlog.get_logger()


class Output(NamedTuple):
    """A record that a shard has told. key: where the topic is compacted."""

    topic: str
    partition: int
    value: bytes
    key: bytes | None = None


class Shard(Protocol):
    """State of one partition."""

    @property
    def offset(self) -> int:
        """Of the newest record taken, -1 if none."""
        ...

    async def prepare(self, message: Message) -> Callable[[], Iterable[Output]]:
        """All that has to be waited for before a record is taken; what is given takes it. Neither raises for anything
        that the record holds."""
        ...

    def snapshot(self) -> bytes | None:
        """All state; None while there is none."""
        ...

    def last(self) -> Iterable[Output]:
        """What is told at a checkpoint only."""
        ...


S = TypeVar("S", bound=Shard)


class _Kept(Generic[S]):
    """A shard, what of it is safe, and what it told since then."""

    def __init__(self, shard: S, saved: int) -> None:
        self.shard, self.saved = shard, saved
        self.sent: list[Awaitable[Any]] = []
        self.sought, self.sought_at = -1, 0.0  # the offset that was asked for again, and when

    def cut(self) -> "_Cut":
        sent, self.sent = self.sent, []
        return _Cut(self.shard.offset, self.shard.snapshot(), list(self.shard.last()), sent)


class _Cut(NamedTuple):
    """What a checkpoint makes durable of a shard."""

    offset: int
    blob: bytes | None
    last: Sequence[Output]
    sent: Sequence[Awaitable[Any]]


class Exact(Generic[S]):
    """One agent over one topic, and its shards.

    Args:
        app: who has it calls ``revoked`` before partitions are given away.
        topic: it reads. states: it keeps its shards in.
        open_shard: the shard of a partition as it was by a state, or a new one.
        every: seconds between two checkpoints.
        frozen: seconds after which a worker ends that did not come to its timer, or whose checkpoint did not get
            through.
        end: ends the process at once, with a status.
    """

    def __init__(
        self,
        app: faust.App,
        topic: str,
        partitions: int,
        states: States,
        open_shard: Callable[[int, bytes | None], Awaitable[S]],
        every: float,
        frozen: float,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._app, self.topic, self._end = app, topic, end
        self._states, self._open, self._frozen = states, open_shard, frozen
        self._kept: dict[int, _Kept[S]] = {}
        self._tenure = 0  # partitions may be others' after each
        self._found: dict[int, Found] | None = None  # states of this tenure that no shard was opened with yet
        self._turn, self._checkpointing = asyncio.Lock(), asyncio.Lock()
        self._ticked = stopwatch()
        self.checkpoints = self.sought = 0
        self.checkpoint_ms = self.recovered_ms = 0.0
        source = app.topic(topic, key_type=bytes, value_type=bytes, partitions=partitions)
        app.agent(source, name=f"exact-{topic}")(self._run)
        app.timer(every, name=f"checkpoint-{topic}")(self._tick)

    @property
    def shards(self) -> dict[int, S]:
        """By partition."""
        return {partition: kept.shard for partition, kept in self._kept.items()}

    async def _run(self, stream: Any) -> None:
        events: AsyncIterable[EventT[Any]] = stream.noack().events()  # its protocol does not know noack
        async for event in events:
            message: Message = event.message
            kept = self._kept.get(message.partition) or await self._begin(message.partition)
            if kept is None or await self._is_ahead(kept, message):
                continue
            take = await kept.shard.prepare(message)
            async with self._turn:  # a checkpoint sees all that a record did, or nothing of it
                if self._kept.get(message.partition) is not kept:
                    continue
                self._check_frozen()
                with self._or_end():
                    for output in take():
                        kept.sent.append(await self._send(output))

    async def _begin(self, partition: int) -> _Kept[S] | None:
        """Open the shard of a partition as it was; None where that is not ours any more."""
        tenure, assigned = self._tenure, self._app.consumer.assignment()
        if TP(self.topic, partition) not in assigned:
            return None
        if self._found is None:
            begun = stopwatch()
            try:
                states = await self._states.find(tp.partition for tp in assigned if tp.topic == self.topic)
            except KafkaError as error:
                log.error("states_not_read", topic=self._states.topic, why=str(error))
                return None  # the next record asks again; this one will be sought
            if tenure != self._tenure:
                return None
            self._found = states
            self.recovered_ms = (stopwatch() - begun) * 1000
        found = self._found.pop(partition, None)
        shard = await self._open(partition, found.blob if found is not None else None)
        if tenure != self._tenure:
            return None
        if not self._kept:
            self._ticked = stopwatch()
        kept = self._kept[partition] = _Kept(shard, shard.offset)
        log.info("shard_opened", topic=self.topic, partition=partition, offset=shard.offset)
        return kept

    async def _is_ahead(self, kept: _Kept[S], message: Message) -> bool:
        """Whether records before this one are still to come; then they are asked for, and this one comes again."""
        expected = kept.shard.offset + 1
        if message.offset <= expected:
            return False
        watch = stopwatch()
        if kept.sought == expected and watch - kept.sought_at < SOUGHT:
            return True
        place = TP(self.topic, message.partition)
        earliest = (await self._app.consumer.earliest_offsets(place)).get(place)
        if earliest is not None and message.offset <= earliest:
            return False  # they are gone: the shard tells it
        expected = max(expected, earliest or 0)
        log.warning("records_passed_over", topic=self.topic, partition=message.partition, offset=expected)
        self.sought += 1
        kept.sought, kept.sought_at = expected, watch
        await self._app.consumer.seek(place, expected)
        return True

    async def _send(self, output: Output) -> Awaitable[Any]:
        producer = await self._app.maybe_start_producer()
        sent: Awaitable[Any] = await producer.send(
            output.topic, output.key, output.value, output.partition, None, None
        )
        return sent

    # -- checkpoints ---------------------------------------------------------------------------

    async def _tick(self) -> None:
        self._check_frozen()
        self._ticked = stopwatch()
        await self.checkpoint()

    @contextmanager
    def _or_end(self) -> Iterator[None]:
        """What fails in here has half happened: only from the last checkpoint can it be made to fit again."""
        try:
            yield
        except BaseException:
            log.exception("worker_ends", topic=self.topic)
            self._end(FROZEN)
            raise

    def _check_frozen(self) -> None:
        """Others may own our partitions by now: what we hold must not be written any more."""
        stood = stopwatch() - self._ticked
        if stood > self._frozen and self._kept:
            log.error("worker_stood_still", seconds=round(stood, 1))
            self._end(FROZEN)

    async def checkpoint(self) -> None:
        """Make durable what has happened so far; a worker that cannot, ends."""
        async with self._checkpointing:
            with self._or_end():
                await asyncio.wait_for(self._make_durable(), self._frozen)

    async def _make_durable(self) -> None:
        begun = stopwatch()
        async with self._turn:
            cut = {
                partition: kept.cut()
                for partition, kept in self._kept.items()
                if kept.shard.offset > kept.saved
            }
        if not cut:
            return
        sending = [await self._send(output) for one in cut.values() for output in one.last]
        await asyncio.gather(*sending, *(future for one in cut.values() for future in one.sent))
        states = {
            partition: pack(Found(one.offset, one.blob))
            for partition, one in cut.items()
            if one.blob is not None
        }
        topic = self._states.topic
        saving = [
            await self._send(Output(topic, partition, value, b"%d" % partition))
            for partition, value in states.items()
        ]
        await asyncio.gather(*saving)
        await self._commit({TP(self.topic, partition): one.offset + 1 for partition, one in cut.items()})
        for partition, one in cut.items():
            if (kept := self._kept.get(partition)) is not None:
                kept.saved = max(kept.saved, one.offset)
        self.checkpoints += 1
        self.checkpoint_ms = (stopwatch() - begun) * 1000

    async def _commit(self, offsets: dict[TP, int]) -> None:
        """Faust commits what was acknowledged, which crawls after a kill; so this is by its private method."""
        consumer: Any = self._app.consumer
        await consumer._commit_offsets(offsets)

    async def revoked(self) -> None:
        """Partitions are about to be given away: one last checkpoint, and forget all."""
        await self.checkpoint()
        self._tenure += 1
        self._found = None
        self._kept.clear()
