"""The pure core alone, as a product: codec, engine, lifecycle and ladder around one database; no process, no broker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import select

from alerting.alert import Notice
from alerting.desk import Desk, NotAsked
from alerting.tables import outbox, upgrade
from fenghuo.desk_reader import DeskReader
from ingest.assemble import Assembler
from ingest.message import Message as Arrived
from registry.clock import SECOND
from registry.database import open_database, reading
from registry.model import Registry
from simulators.people import Answer
from simulators.protocol import iso
from simulators.uplink import Kind, Message
from streams.engine import PointEngine
from streams.finding import Finding


class Core(DeskReader):
    """What the two processes do with what arrives, said once more in a few lines, with time as a value.

    Args:
        database: file of the desk, made anew. start: the time at first, µs.
    """

    def __init__(self, registry: Registry, start: int, database: Path) -> None:
        engine = open_database(database, lasting=False)
        upgrade(engine)
        engine.dispose()
        super().__init__(database)
        self.registry = registry
        self.dead_letters = self.refused = 0
        self._engine = PointEngine(registry, start)
        self._assembler = Assembler(registry)
        self._desk = Desk(self.database, registry)
        self._rung: set[str] = set()
        self._since = start

    def reach(self, time: int, messages: Sequence[Message]) -> None:
        for mark in range(self._engine.now + SECOND, time + 1, SECOND):
            self._absorb(self._engine.advance(mark), mark)
        if self._engine.now < time:
            self._absorb(self._engine.advance(time), time)
        arrived = [
            Arrived(message.topic, message.payload, mid, retain=message.kind is not Kind.READINGS)
            for mid, message in enumerate(messages)
        ]
        rounds, dead = self._assembler.assemble(arrived, time)
        self.dead_letters += len(dead)
        self._absorb([found for round_ in rounds for found in self._engine.apply(round_)], time)

    def _absorb(self, findings: Sequence[Finding], now: int) -> None:
        due = self._desk.next_deadline()
        if findings or (due is not None and due <= now):
            self._desk.round(findings, None, now)

    def rings(self) -> Sequence[Any]:
        """Every notice as it is put into the outbox: here all phones ring at once."""
        query = select(outbox).where(outbox.c.created >= self._since).order_by(outbox.c.created, outbox.c.id)
        with reading(self.database) as connection:
            rows = [row for row in connection.execute(query) if row.id not in self._rung]
        self._rung.update(row.id for row in rows)
        self._since = max((row.created for row in rows), default=self._since)
        return [
            {
                "id": row.id,
                "alert": row.alert,
                "role": row.role,
                "person": row.person,
                "created": iso(row.created),
            }
            for row in rows
        ]

    def notices(self, alert: str) -> list[Notice]:
        return [replace(notice, delivered=notice.created) for notice in super().notices(alert)]

    def line(self, person: str, line: str) -> None:
        """Here nobody's line is ever busy: that belongs to the sender, which is a shell."""

    def answer(self, answer: Answer) -> None:
        say = {"confirm": self._desk.confirm, "take-over": self._desk.take_over, "act": self._desk.act}
        if answer.verb:
            try:
                say[answer.verb](answer.alert, answer.person, self._engine.now, answer.note)
            except NotAsked:
                self.refused += 1
