"""The pure core alone, as a product: codec, engine, lifecycle and ladder around one database; no process, no broker."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import select

from alerting.alert import Notice
from alerting.desk import Desk, NotAsked
from alerting.tables import outbox, upgrade
from fenghuo.desk_reader import DeskReader
from fenghuo.simulation import changes
from ingest.assemble import Assembler
from ingest.message import Message as Arrived
from registry import store_tables
from registry.clock import SECOND
from registry.compile import compile_source
from registry.database import open_database, reading
from registry.exchange import import_folder
from registry.store import RegistryStore
from simulators.people import Answer
from simulators.protocol import iso
from simulators.scenario import Entry
from simulators.uplink import Kind, Message
from streams.configuration import Configuration
from streams.evaluator import Evaluator
from streams.finding import Finding


class Core(DeskReader):
    """What the two processes do with what arrives, said once more in a few lines, with time as a value.

    Args:
        configuration: what is in force. database: file of the desk, made anew. start: the time at first, µs.
        registry_folder: what the configuration was compiled of.
    """

    def __init__(
        self, configuration: Configuration, start: int, database: Path, registry_folder: Path
    ) -> None:
        engine = open_database(database, lasting=False)
        upgrade(engine)
        engine.dispose()
        super().__init__(database)
        self.registry = registry = configuration.registry
        self.dead_letters = self.refused = 0
        self._rulebook = configuration.rulebook
        self._now = start
        self._engine = Evaluator(configuration, start)
        self._assembler = Assembler(registry)
        self._desk = Desk(self.database, registry)
        self._rung: set[str] = set()
        self._since = start
        self._folder, self._registry_folder = database.parent, registry_folder
        self._store: RegistryStore | None = None  # once somebody enters something

    @property
    def now(self) -> int:
        """The time that it has reached, µs."""
        return self._now

    def reach(self, time: int, messages: Sequence[Message]) -> None:
        for mark in range(self.now + SECOND, time + 1, SECOND):
            self._absorb(self._engine.advance(mark), mark)
        if self._engine.now < time:
            self._absorb(self._engine.advance(time), time)
        self._now = time
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

    def enter(self, entry: Entry, codes: Mapping[str, str]) -> None:
        if self._store is None:
            engine = open_database(self._folder / "registry.sqlite", lasting=False)
            store_tables.upgrade(engine)
            self._store = RegistryStore(engine)
            import_folder(self._store, self._registry_folder, who="core", why="start", now=self._since)
        why = entry.note.zh if entry.note else "entered"
        self._store.edit(changes(entry, codes), who=entry.by, why=why, now=self.now, origin="command")
        coming = Configuration.of(compile_source(self._store.load()), self._rulebook)
        self._put_in_force(coming)
        self.registry = coming.registry
        self._desk.set_registry(coming.registry)

    def _put_in_force(self, coming: Configuration) -> None:
        self._absorb(self._engine.reconfigure(coming, self.now), self.now)
        self._assembler.set_registry(coming.registry)

    def line(self, person: str, line: str) -> None:
        """Here nobody's line is ever busy: that belongs to the sender, which is a shell."""

    def answer(self, answer: Answer) -> None:
        say = {"confirm": self._desk.confirm, "take-over": self._desk.take_over, "act": self._desk.act}
        if answer.verb:
            try:
                say[answer.verb](answer.alert, answer.person, self.now, answer.note)
            except NotAsked:
                self.refused += 1
