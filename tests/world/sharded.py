"""The pure core as a cluster cuts it up, as a product: slots, shards, compound shards and one desk, around plain lists.

A list stands for a partition; nothing else is other than in the real roles. With a ``fate``, shards die now and then:
each begins again from its last checkpoint, and tells again what it has told since.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest import topics
from ingest.assemble import Assembler
from ingest.message import Message as Arrived
from ingest.readings import Round
from ingest.topics import Entry
from registry import slots
from registry.clock import DAY, SECOND
from simulators.uplink import Kind, Message
from streams import compound_shard, point_shard, report
from streams.compound_shard import CompoundShard
from streams.configuration import Configuration
from streams.finding import Finding
from streams.point_shard import Layout, PointShard
from tests.world.core import Core

PATIENCE = DAY  # nobody stands still here for good


class Sharded(Core):
    """Args: as Core's. layout: how it is cut up. fate: what shards die by; None: none dies."""

    def __init__(
        self,
        configuration: Configuration,
        start: int,
        database: Path,
        registry_folder: Path,
        layout: Layout,
        fate: random.Random | None = None,
    ) -> None:
        super().__init__(configuration, start, database, registry_folder)
        self.layout, self._fate = layout, fate
        self.deaths = 0
        self._known: dict[str, Configuration] = {}
        self._readings: list[list[tuple[bytes, topics.Headers]]] = [[] for _ in range(layout.slots)]
        self._findings: list[list[bytes]] = [[] for _ in range(layout.shards)]
        self._points = [PointShard(slot, layout) for slot in range(layout.slots)]
        self._compound = [CompoundShard(n, layout.slots, PATIENCE) for n in range(layout.shards)]
        self._read, self._heard = [0] * layout.slots, [0] * layout.shards
        self._safe_points: list[bytes | None] = [None] * layout.slots
        self._safe_compound: list[bytes | None] = [None] * layout.shards
        self._told = [0] * layout.shards  # to the desk
        self._pending: list[Finding] = []
        self._asked = self._edition = 0
        self._now = start
        self._put_in_force(configuration)

    # -- the collectors --------------------------------------------------------------------------

    def reach(self, time: int, messages: Sequence[Message]) -> None:
        for mark in range(self.now + SECOND, time, SECOND):
            self._mark(mark)
        self._mark(time)
        slots_of = [slots.slot_of(message.topic.split("/")[2], self.layout.slots) for message in messages]
        for slot, assembler in enumerate(self._assemblers):
            arrived = [
                Arrived(message.topic, message.payload, mid, retain=message.kind is not Kind.READINGS)
                for mid, message in enumerate(messages)
                if slots_of[mid] == slot
            ]
            rounds, dead = assembler.assemble(arrived, time)
            self.dead_letters += len(dead)
            for round_ in rounds:
                self._write(slot, round_)
        self._settle(time)

    def _mark(self, time: int) -> None:
        for slot in range(self.layout.slots):
            self._write(slot, Round(time))

    def _write(self, slot: int, round_: Round, edition: int = 0, asked: int = 0) -> None:
        self._readings[slot].append(topics.encode(Entry(round_, 1, edition, asked)))

    def _put_in_force(self, configuration: Configuration) -> None:
        self._edition += 1
        version = configuration.registry.version
        self._known[version] = configuration
        layout = self.layout
        self._assemblers = [
            Assembler(slots.part(configuration.registry, slot, layout.slots)) for slot in range(layout.slots)
        ]
        for slot in range(layout.slots):
            self._write(slot, Round(self.now, version=version), self._edition)
        self._settle(self.now)

    # -- the workers -----------------------------------------------------------------------------

    def _settle(self, time: int) -> None:
        """All that was written is judged and told; in between, what fate wants."""
        self._now = time
        self._asked += 1
        for slot in range(self.layout.slots):
            self._write(slot, Round(time), asked=self._asked)
        for slot in self._in_any_order(self.layout.slots):
            self._work(slot)
        for number in range(self.layout.shards):
            self._combine(number)
        if self._fate is not None:
            self._strike(self._fate)
        answered = [self._hear(number) for number in range(self.layout.shards)]
        assert answered == [self._asked] * self.layout.shards, "whoever asked would wait for ever"

    def _in_any_order(self, count: int) -> list[int]:
        order = list(range(count))
        if self._fate is not None:
            self._fate.shuffle(order)
        return order

    def _work(self, slot: int) -> None:
        shard = self._points[slot]
        for offset in range(self._read[slot], len(self._readings[slot])):
            entry = topics.decode(*self._readings[slot][offset])
            coming = self._known.get(shard.needs(entry))
            for partition, told in shard.take(entry, offset, coming):
                self._findings[partition].append(report.encode(told))
        self._read[slot] = len(self._readings[slot])

    def _combine(self, number: int) -> None:
        shard, log = self._compound[number], self._findings[number]
        for offset in range(self._heard[number], len(log)):  # its own are heard the next time
            heard = report.decode(log[offset])
            for told in shard.take(heard, offset, self._known.get(shard.needs(heard))):
                log.append(report.encode(told))
            self._heard[number] = offset + 1

    def _strike(self, fate: random.Random) -> None:
        """Checkpoints and deaths; what died catches up at once."""
        for slot, shard in enumerate(self._points):
            if fate.random() < 0.1:
                self._safe_points[slot] = shard.snapshot()
            elif fate.random() < 0.02:
                self.deaths += 1
                self._points[slot] = self._point_shard(slot, self._safe_points[slot])
                self._read[slot] = self._points[slot].offset + 1
                self._work(slot)
        for number, combining in enumerate(self._compound):
            if fate.random() < 0.1:
                self._safe_compound[number] = combining.snapshot()
            elif fate.random() < 0.02:
                self.deaths += 1
                self._compound[number] = self._compound_shard(number, self._safe_compound[number])
                self._heard[number] = self._compound[number].offset + 1
            self._combine(number)

    def _point_shard(self, slot: int, safe: bytes | None) -> PointShard:
        if safe is None:
            return PointShard(slot, self.layout)
        state = point_shard.open_state(safe)
        known = self._known
        return PointShard.restore(slot, self.layout, state, known[state.version], known[state.reads])

    def _compound_shard(self, number: int, safe: bytes | None) -> CompoundShard:
        if safe is None:
            return CompoundShard(number, self.layout.slots, PATIENCE)
        state = compound_shard.open_state(safe)
        return CompoundShard.restore(number, self.layout.slots, PATIENCE, state, self._known)

    # -- the desk --------------------------------------------------------------------------------

    def _hear(self, number: int) -> int:
        """Let the desk take what one partition of findings tells; returns up to what was asked all is told."""
        asked = 0
        for told in self._new(number):
            self._pending += told.findings
            if told.source == f"compound/{number}":
                asked = max(asked, told.asked)
                findings, self._pending = self._pending, []
                self._absorb(findings, told.time)
        return asked

    def _new(self, number: int) -> Iterator[report.Report]:
        log = self._findings[number]
        for blob in log[self._told[number] :]:
            yield report.decode(blob)
        self._told[number] = len(log)
