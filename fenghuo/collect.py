"""The collector of a cluster: MQTT into Kafka, for the slots that it has; one thread and one loop.

Nothing is acknowledged to the broker before it is durable in Kafka and known to be read there. What may have to
wait for another machine (the database, loading a version, taking a slot over) has threads beside, so that it delays no
reading. See docs/decisions/0023.
"""

import contextlib
import gc
import os
import secrets
import select
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import NamedTuple, TypeVar

import structlog
from confluent_kafka import KafkaException
from sqlalchemy import Engine

import registry.versions
from alerting import store
from alerting.desk import Desk, Work
from fenghuo import collect_status, prepared, topics
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ControlledClock
from fenghuo.collect_slot import Slot
from fenghuo.collect_status import CollectStatus, SlotStatus
from fenghuo.exposition import expose
from fenghuo.logs import configure
from fenghuo.record_writer import RecordWriter, WriterBroken
from fenghuo.settings import Broker, Cluster, Settings
from fenghuo.stopping import Stop
from fenghuo.takeover import UNDELIVERED, Outdated, Stopped, Taken, superseded, take_over
from fenghuo.topics import KafkaAway
from ingest import leases
from ingest.broker import slot_user
from ingest.broker_login import BrokerAway, log_in
from ingest.collector import Collector
from ingest.leases import Held
from ingest.readings import Round
from ingest.topics import Entry, Topics
from registry import shared_versions, slots
from registry.clock import SECOND, Clock, SystemClock, stopwatch
from registry.database import STANDING, DatabaseError, open_database, reading
from registry.model import Registry
from registry.shared_versions import Wanted
from streams.finding import Finding
from streams.system_findings import SystemFindings

MARKS = 0.2
"""Seconds between two time marks of a slot, on a clock that runs by itself."""

LOOK = 0.25
"""Seconds of real time between two looks at which version is wanted; leases take turns with it."""

HOUSEKEEPING = 0.25
"""Seconds of real time between two looks at what does not come through a socket."""

SWEEP = 0.1
"""Seconds of real time between two looks at every session, whether something has come for it or not."""

BUSY = 2.0
"""Seconds for which the database may be held by others, or be slow to answer."""

AGAIN = 1.0
"""Seconds of real time between two tries of what has failed."""

CLOCK = 5 * SECOND
"""How far our clock may be from the database's before it is a finding, and we take no slots, µs."""

AWAY = 2.0
"""Seconds for which Kafka may deliver nothing before the log says so."""

STUCK = 10.0
"""Seconds for which Kafka may deliver nothing before an administrator is told."""

LEAVE = 5.0
"""Seconds for which one who ends, or gives a slot up, waits for Kafka; what is not durable then comes again."""

TAKE_OVERS = 4
"""Slots that are taken over at the same time."""

T = TypeVar("T")

log = structlog.get_logger()


class _Look(NamedTuple):
    """What the database said. held, opened: None if it was not asked."""

    asked_at: float  # stopwatch, before it was asked
    wanted: Wanted | None
    held: Held | None
    opened: list[Finding] | None
    off: int = 0  # how far our clock is ahead of the database's at least (negative: behind it), µs


class _Gained(NamedTuple):
    """A slot that has become ours."""

    taken: Taken
    registry: Registry
    edition: int


class Collect:
    """Everything that one collector holds; ``turn`` is its whole life.

    Args:
        name: of this collector, another for each on this machine.
    """

    def __init__(self, settings: Settings, cluster: Cluster, broker: Broker, name: str) -> None:
        self._settings, self._cluster, self._broker = settings, cluster, broker
        self._name = name
        self._owner = f"{name}/{secrets.token_hex(4)}"  # another for every process: see leases.keep
        self._topics = Topics(cluster.topics)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._clock: Clock = (
            ControlledClock(settings.clock, f"collect-{name}")
            if settings.clock
            else SystemClock(shared_anchor())
        )
        self._stepped = bool(settings.clock)
        self._stopping = threading.Event()
        self._database = _open(cluster)
        self._writer = RecordWriter(cluster.kafka, self.wake)
        self._db = ThreadPoolExecutor(1, "database")
        self._loader = ThreadPoolExecutor(1, "loader")
        self._kafka = ThreadPoolExecutor(TAKE_OVERS, "takeover")
        self.slots: dict[int, Slot] = {}
        self._gaining: dict[int, tuple[int, Future[_Gained], float]] = {}  # term, since when
        self._returning: dict[int, Future[None]] = {}  # given up, and in the database soon
        self._again_at: dict[int, float] = {}
        self._held = Held({}, [], cluster.slots)
        self._opened: list[Finding] = []
        self._looking: Future[_Look] | None = None
        self._looked_at = float("-inf")
        self._next_look = self._next_leases = self._next_house = self._next_status = 0.0
        self._wanted: Wanted | None = None
        self._unfit = 0  # edition that could not be loaded
        self._refused = ""  # why the wanted edition is not the one in force
        self._off = ""  # why our clock is not right
        self._takes_at = 0.0  # from when on we take slots
        self._load_at = 0.0
        self._load_edition = 0
        self._loading: Future[Registry] | None = None
        self._whole: Registry | None = None
        self._edition = 0
        self._parting: dict[int, Future[Registry]] = {}
        self._desk: Desk | None = None
        self._system: SystemFindings | None = None  # of this collector
        self._kafka_findings: SystemFindings | None = None  # of Kafka, as it finds it
        self._findings: list[Finding] = []
        self._telling: Future[Work] | None = None
        self._tell_at = 0.0
        self._told = 0
        self._database_away = ""
        self._kafka_away = False
        self._untaken: set[int] = set()  # slots that are ours, and could not be taken over
        self._untellable = ""
        self._counts: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._started = self._clock.now()
        self._marked = self._started
        self._next_mark = self._next_sweep = 0.0
        self._step = 0  # the clock's question that we are at
        self._step_at = 0.0
        self._answering = 0  # the question whose marks are written
        self.metrics = collect_status.Metrics()

    # -- the loop ------------------------------------------------------------------------------

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Let the loop turn now; in any thread."""
        with contextlib.suppress(BlockingIOError):  # it is awake
            self._wake_write.send(b"!")

    def run(self) -> None:
        """Turn until stopped; then let others have the slots."""
        try:
            while not self._stopping.is_set():
                self.turn()
            self._finish()
        except WriterBroken as error:
            log.critical("kafka_refuses", why=str(error))
            raise SystemExit(1) from error
        finally:
            self._close()

    def turn(self) -> None:
        """Wait until there is something to do, then do all of it."""
        ready = self._wait()
        self._clock.poll()
        at, now = stopwatch(), self._clock.now()
        if self._clock.asked != self._step:
            self._step, self._step_at = self._clock.asked, at
            self._next_look = self._next_leases = 0.0  # what was done before the question is to be seen
        self._writer.deliver()
        self._keep_database(at)
        self._keep_version(now, at)
        self._keep_slots(at)
        if self._stepped:
            self._step_on(now, at)
        else:
            self._service(ready, at)
            self._mark(now, at)
            for slot in self.slots.values():
                if slot.taking and not slot.rest(at):
                    slot.take(now, at)
        self._keep_house(now, at)

    def _wait(self) -> set[int]:
        """Until a message, a delivery, a step of the clock, a mark, or the next look at the house; what is ready."""
        at = stopwatch()
        poll = select.poll()
        timeout = HOUSEKEEPING if self._stepped else min(HOUSEKEEPING, max(0.0, self._next_mark - at))
        poll.register(self._wake_read, select.POLLIN)
        if (clock := self._clock.fileno()) >= 0:
            poll.register(clock, select.POLLIN)
        for slot in self.slots.values():
            wanted = select.POLLOUT if slot.collector.wants_write() else 0
            if slot.taking and (rest := slot.rest(at)):
                timeout = min(timeout, rest)
            elif slot.taking:
                wanted |= select.POLLIN
            if wanted and (descriptor := slot.collector.fileno()) >= 0:
                poll.register(descriptor, wanted)
        ready = {descriptor for descriptor, _ in poll.poll(ceil(timeout * 1000))}
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass
        return ready

    def _service(self, ready: Collection[int], at: float) -> None:
        """Input and output of the sessions that have some; now and then of all, which have their own clocks."""
        everyone = at >= self._next_sweep
        if everyone:
            self._next_sweep = at + SWEEP
        for slot in self.slots.values():
            if everyone or slot.collector.fileno() in ready:
                slot.service()

    def _mark(self, now: int, at: float) -> None:
        """A time mark into every slot, when it is due."""
        if at < self._next_mark:
            return
        self._next_mark = max(self._next_mark + MARKS, at)
        for slot in self.slots.values():
            if slot.undelivered < UNDELIVERED and not slot.closing:
                slot.mark(now, at, listening=slot.listening(now))

    # -- under a stepped clock -------------------------------------------------------------------

    def _step_on(self, now: int, at: float) -> None:
        """Let the time that was stepped pass in every slot, take what has arrived, and say when that is all."""
        every = list(self.slots.values())
        read = [slot.collector.has_read(self._step) for slot in every]
        for slot in every:
            slot.service()
        if not all(slot.listening(now) or slot.collector.lost for slot in every):
            return  # the clock waits for us: time that we do not listen need not pass
        if now != self._marked:
            listening = [slot.listening(now) for slot in every]
            for time in dict.fromkeys((*self._clock.marks(self._marked, now), now)):
                for slot, listens in zip(every, listening, strict=True):
                    slot.mark(time, at, listening=listens, asked=self._answering)
            self._marked = now
        for slot in every:
            if slot.taking:
                slot.take(now, at)
        if all(read):
            self._answer(now, at)

    def _answer(self, now: int, at: float) -> None:
        """Say to whoever steps the clock that all is done, once it is, and once the slots' readers are told so."""
        done = (
            self._looked_at > self._step_at
            and not self._held.free
            and not self._gaining
            and not self._returning
            and self.slots.keys() == self._held.terms.keys()
            and self._ready
            and all(slot.edition == self._edition and not slot.undelivered for slot in self.slots.values())
        )
        if not done:
            return
        if self._answering != self._step:
            self._answering = self._step
            for slot in self.slots.values():
                slot.mark(now, at, listening=slot.listening(now), asked=self._step)
            if self.slots:
                return
        self._clock.rest()

    # -- leases, versions and findings: what the database has ----------------------------------

    def _keep_database(self, at: float) -> None:
        if self._looking is not None and self._looking.done():
            self._looked(self._looking, at)
            self._looking = None
        if self._looking is None and at >= self._next_look:
            self._next_look = at + LOOK
            with_leases = at >= self._next_leases and self._whole is not None
            if with_leases:
                self._next_leases = at + min(1.0, self._cluster.lease / 4)
                if 0 < self._looked_at < at - self._cluster.lease / 2:
                    # The others may have been cut off from the database as we were: they are given time to come back.
                    self._takes_at = at + self._cluster.lease
            clock_known = self._looked_at > 0
            known, take = {*self._held.terms}, clock_known and at >= self._takes_at
            self._looking = self._later(self._db, lambda: self._look(with_leases, known, take))

    def _look(self, with_leases: bool, known: set[int], take: bool) -> _Look:
        """In a thread. Raises DatabaseError."""
        asked_at, before = stopwatch(), self._clock.now()
        if not with_leases:
            return _Look(asked_at, shared_versions.wanted(self._database), None, None)
        loadable = self._ready or not self._refused
        held = leases.keep(
            self._database,
            self._owner,
            self._cluster.slots,
            self._cluster.lease,
            take=take and loadable,
            share=loadable and not self._off,
        )
        off = max(0, before - held.now) or min(0, self._clock.now() - held.now)
        wanted = shared_versions.wanted(
            self._database
        )  # after it: what former owners put in force was wanted by then
        opened = None
        if self._system is None or held.terms.keys() - known:  # what is open of a slot goes with it
            with reading(self._database) as connection:
                opened = store.open_system_findings(connection)
        return _Look(asked_at, wanted, held, opened, off)

    def _looked(self, looking: Future[_Look], at: float) -> None:
        try:
            look = looking.result()
        except DatabaseError as error:
            if not self._database_away:
                log.error("database_away", why=str(error), keeps=len(self.slots))
            self._database_away = str(error)
            self._next_look = at + AGAIN / 2
            return
        if self._database_away:
            log.info("database_back")
        self._database_away = ""
        self._wanted = look.wanted
        if look.wanted is None and not self._counts["waits"]:
            self._counts["waits"] = 1
            log.warning("no_version", why="no registry version is wanted yet: run `fenghuo registrar`")
        if look.opened is not None:
            self._opened = look.opened
            self._system = self._system or SystemFindings(look.opened, f"collector:{self._name}")
            self._kafka_findings = self._kafka_findings or SystemFindings(look.opened, f"kafka:{self._name}")
        if look.held is not None:
            if self._looked_at < 0:
                self._next_look = self._next_leases = 0.0  # now that our clock is known
            self._held, self._looked_at = look.held, look.asked_at
            self._compare_clocks(look.off)
            for slot in self.slots.values():
                if look.held.terms.get(slot.number) == slot.term:
                    slot.confirmed(look.asked_at)

    def _compare_clocks(self, off: int) -> None:
        if self._stepped:
            return
        wrong = abs(off) > CLOCK
        if wrong and not self._off:
            log.error("clock_wrong", ahead=off / SECOND, keeps=len(self.slots))
        self._off = ""
        if wrong:
            where = "ahead of" if off > 0 else "behind"
            self._off = (
                f"{abs(off) // SECOND} s {where} the database's clock: set it, then start this collector anew; "
                "until then it takes no slots while others can"
            )

    @property
    def _ready(self) -> bool:
        """Whether what is loaded is what should be in force."""
        return (
            self._whole is not None
            and self._wanted is not None
            and self._wanted.edition in (self._edition, self._unfit)
        )

    def _keep_version(self, now: int, at: float) -> None:
        """Load what is wanted; put it in force slot by slot, as soon as its part of it is cut out."""
        if self._loading is not None and self._loading.done():
            loading, self._loading = self._loading, None
            self._loaded(loading, at)
        wanted = self._wanted
        if (
            wanted is not None
            and self._loading is None
            and at >= self._load_at
            and wanted.edition not in (self._edition, self._unfit)
        ):
            self._load_edition = wanted.edition
            self._loading = self._later(self._loader, lambda: self._load(wanted.version))
        for number, slot in self.slots.items():
            if (parting := self._parting.get(number)) is not None:
                if parting.done():
                    del self._parting[number]
                    coming = parting.result()
                    if self._whole is not None and coming.version == self._whole.version:
                        slot.put_in_force(coming, self._edition, now)
            elif slot.edition != self._edition:
                self._parting[number] = self._later(self._loader, self._part_of(number))

    def _load(self, version: str) -> Registry:
        """In a thread."""
        shared_versions.fetch(self._database, self._settings.versions, version)
        return registry.versions.load(self._settings.versions, version, self._whole)

    def _loaded(self, loading: Future[Registry], at: float) -> None:
        try:
            self._whole = loading.result()
        except registry.versions.BrokenVersion as error:
            log.error("version_unfit", edition=self._load_edition, why=str(error))
            self._unfit, self._refused = self._load_edition, f"edition {self._load_edition}: {error}"
            return
        except (registry.versions.NoSuchVersion, DatabaseError, OSError) as error:
            log.error("version_not_loaded", edition=self._load_edition, why=str(error))
            self._load_at = at + AGAIN
            if not isinstance(error, DatabaseError):
                self._refused = f"edition {self._load_edition}: {error}"
            return
        self._edition, self._refused = self._load_edition, ""
        gc.freeze()  # it stays: no collection has to look at it while readings wait
        if self._desk is None:
            self._desk = Desk(self._database, self._whole)
        else:
            self._db.submit(self._desk.set_registry, self._whole)
        log.info("version_loaded", version=self._whole.version, edition=self._edition)

    def _part_of(self, number: int) -> Callable[[], Registry]:
        whole = self._whole
        assert whole is not None
        return lambda: slots.part(whole, number, self._cluster.slots)

    def _tell(self, now: int, at: float) -> None:
        """Findings about the system go to the desk's tables; what these cannot take waits."""
        if self._telling is not None:
            if not self._telling.done():
                return
            telling, self._telling = self._telling, None
            try:
                telling.result()
            except DatabaseError as error:
                if not self._untellable:
                    log.error("findings_wait", why=str(error), count=len(self._findings))
                self._untellable = str(error)
                self._tell_at = at + AGAIN
            else:
                self._untellable = ""
                del self._findings[: self._told]
        desk = self._desk
        if self._findings and desk is not None and self._telling is None and at >= self._tell_at:
            findings = list(self._findings)
            self._told = len(findings)
            self._telling = self._later(self._db, lambda: desk.round(findings, None, now))

    # -- slots -----------------------------------------------------------------------------------

    def _keep_slots(self, at: float) -> None:
        """Take over what is newly ours; let go of what is lost, or to be given up."""
        for number, returning in list(self._returning.items()):
            if returning.done():
                del self._returning[number]
                self._returned(number, returning)
        busy = self.slots.keys() | self._gaining.keys() | self._returning.keys()
        for number, term in self._held.terms.items():
            if number in busy or self._whole is None or at < self._again_at.get(number, 0.0):
                continue
            if self._ready:
                self._gain(number, term, self._whole, at)
            elif self._refused:  # another machine may have what this one cannot load
                self._returning[number] = self._later(self._db, self._release(number))
        for number, (term, gaining, _) in list(self._gaining.items()):
            if gaining.done():
                del self._gaining[number]
                self._gained(number, term, gaining, at)
        for number, slot in list(self.slots.items()):
            slot.settle()
            slot.flush()
            if slot.lost or self._held.terms.get(number) != slot.term:
                log.warning("slot_taken_away", slot=number, term=slot.term)
                self._drop(slot)
            elif number in self._held.give and not slot.closing:
                slot.give_up(at + LEAVE)
            elif slot.given_up(at):
                log.info("slot_given_up", slot=number)
                self._drop(slot)
                self._returning[number] = self._later(self._db, self._release(number))

    def _release(self, number: int) -> Callable[[], None]:
        return lambda: leases.release(self._database, self._owner, [number])

    def _returned(self, number: int, returning: "Future[None]") -> None:
        try:
            returning.result()
        except DatabaseError as error:  # so it is ours, and is taken over again
            log.error("slot_not_released", slot=number, why=str(error))
            return
        terms = {other: term for other, term in self._held.terms.items() if other != number}
        self._held = self._held._replace(terms=terms)

    def _gain(self, number: int, term: int, whole: Registry, at: float) -> None:
        part_of, edition = self._part_of(number), self._edition

        def first(time: int) -> Entry:
            """The version in force, which takes force here and now."""
            now = max(time, self._clock.now())
            return Entry(Round(now, listening=False, version=whole.version), term, edition)

        def gain() -> _Gained:
            taken = take_over(
                self._cluster.kafka,
                self._topics.readings,
                number,
                self._writer,
                first,
                self._settings.in_flight,
                self._stopping,
            )
            return _Gained(taken, part_of(), edition)

        self._gaining[number] = (term, self._later(self._kafka, gain), at)

    def _gained(self, number: int, term: int, gaining: "Future[_Gained]", at: float) -> None:
        try:
            taken, part, edition = gaining.result()
            now = self._clock.now()
        except KafkaException as error:
            if number not in self._untaken:
                log.error("slot_not_taken_over", slot=number, why=str(error))
            self._untaken.add(number)
            self._again_at[number] = at + AGAIN
            return
        except Outdated as error:
            log.warning("term_outdated", slot=number, term=term, why=str(error))
            self._lift(number, error.term)
            self._again_at[number] = at + LOOK
            return
        except Stopped:
            return
        if self._held.terms.get(number) != term:
            return  # it has become another's meanwhile
        user = slot_user(self._broker.user, number)
        collector = Collector(
            self._broker.host,
            self._broker.port,
            user=user,
            password=self._broker.password,
            client=user,
            enterprises=part.enterprises,
            in_flight=self._settings.in_flight,
        )
        self.slots[number] = Slot(
            number,
            term,
            taken,
            part,
            edition,
            now,
            collector=collector,
            writer=self._writer,
            topics=self._topics,
            gap=lambda start, end: self._later(
                self._kafka,
                lambda: superseded(self._cluster.kafka, self._topics.readings, number, start, end, term),
            ),
            in_flight=self._settings.in_flight,
            opened=self._opened,
        )
        self._untaken.discard(number)
        log.info("slot_taken_over", slot=number, term=term, offset=taken.offset, known=len(taken.digests))

    def _lift(self, number: int, above: int) -> None:
        """If it is still ours, the next look says so, with a higher term."""

        def lift() -> None:
            try:
                leases.lift(self._database, self._owner, number, above)
            except DatabaseError as error:  # it is tried again with the next take-over
                log.error("term_not_lifted", slot=number, why=str(error))

        self._db.submit(lift)
        self._next_look = self._next_leases = 0.0

    def _drop(self, slot: Slot) -> None:
        """It is not ours any more; its session stays at the broker."""
        slot.lost = True
        del self.slots[slot.number]
        self._parting.pop(slot.number, None)
        self._counts.update(slot.counts)
        self._dead.update(slot.dead)
        self._dropped.update(slot.dropped)
        self._kafka.submit(slot.collector.close)  # it may have to wait for an attempt to connect

    # -- the house -------------------------------------------------------------------------------

    def _keep_house(self, now: int, at: float) -> None:
        if at < self._next_house:
            return
        self._next_house = at + HOUSEKEEPING
        self._watch_kafka(at)
        for slot in self.slots.values():
            self._findings += slot.health(now, at)
        if self._kafka_findings is not None:
            self._findings += self._kafka_findings.holds("system.journal", now, self._stuck(at))
        if self._system is not None:
            self._findings += self._system.holds("system.clock", now, self._off)
            refused = self._refused if self._refused or self._ready else None
            self._findings += self._system.holds("system.configuration", now, refused)
        self._tell(now, at)
        if at >= self._next_status:
            self._next_status = at + 1
            self._write_status(now)

    def _watch_kafka(self, at: float) -> None:
        """Say once that Kafka takes nothing, and once that it does again."""
        waits = [slot.oldest(at) for slot in self.slots.values()]
        untaken = self._untaken & self._held.terms.keys()
        away = max(waits, default=AWAY if untaken else 0.0) >= AWAY
        if away and not self._kafka_away:
            why = self._writer.problem or "it does not take what is written to it"
            log.error("kafka_away", why=prepared.kafka_away(self._cluster, why))
        elif self._kafka_away and waits and not away:
            log.info("kafka_back")
        self._kafka_away = away or (self._kafka_away and not waits)

    def _stuck(self, at: float) -> str:
        """Why Kafka takes nothing, once that has lasted; "" if it does."""
        waits = [slot.oldest(at) for slot in self.slots.values()]
        waits += [at - since for _, _, since in self._gaining.values()]
        longest = max(waits, default=0.0)
        if longest < STUCK:
            return ""
        return f"Kafka has taken nothing for {longest:.0f} s: {self._writer.problem or 'it does not say why'}"

    def _write_status(self, now: int) -> None:
        self._counts["status"] += 1
        counts, dead, dropped = self._counts.copy(), self._dead.copy(), self._dropped.copy()
        told = {}
        for number, slot in sorted(self.slots.items()):
            counts.update(slot.counts)
            dead.update(slot.dead)
            dropped.update(slot.dropped)
            told[number] = SlotStatus(
                term=slot.term,
                version=slot.version,
                connected=slot.collector.connected,
                listening=slot.listening(now),
                undelivered=slot.undelivered,
                problem=slot.collector.problem,
            )
        status = CollectStatus(
            pid=os.getpid(),
            number=counts["status"],
            name=self._name,
            owner=self._owner,
            time=now,
            started=self._started,
            version=self._whole.version if self._whole is not None else "",
            edition=self._edition,
            slots=told,
            taking_over=sorted(self._gaining),
            connected=bool(told) and all(one.connected for one in told.values()),
            listening=bool(told) and all(one.listening for one in told.values()),
            messages=counts["messages"],
            readings=counts["readings"],
            rounds=counts["rounds"],
            dead=dict(dead),
            dropped=dict(dropped),
            undelivered=self._writer.undelivered,
            kafka=self._writer.problem,
            database=self._database_away,
            untold=len(self._findings),
        )
        self.metrics.newest = status
        try:
            collect_status.write(collect_status.path(self._settings.data, self._name), status)
        except OSError as error:
            self._counts["unwritten"] += 1
            log.error("status_not_written", why=str(error))

    # -- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Acknowledge what becomes durable, and leave the slots to others."""
        end = stopwatch() + LEAVE
        for slot in self.slots.values():
            slot.give_up(end)
        while any(slot.undelivered for slot in self.slots.values()) and stopwatch() < end:
            self._wait()
            self._writer.deliver()
            for slot in self.slots.values():
                slot.settle()
                slot.flush()
                slot.service()

    def _close(self) -> None:
        self._stopping.set()
        for slot in self.slots.values():
            slot.collector.close()
        self._writer.close()
        self._loader.shutdown(cancel_futures=True)
        self._kafka.shutdown(cancel_futures=True)
        self._db.shutdown(cancel_futures=True)
        try:
            leases.leave(self._database, self._owner)
            if self._findings and self._desk is not None:
                self._desk.round(self._findings, None, self._clock.now())
        except DatabaseError as error:
            log.error("database_not_told", slots=sorted(self.slots), findings=self._findings, why=str(error))
        self._write_status(self._clock.now())
        self._database.dispose()

    def _later(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> "Future[T]":
        """Done in a thread; the loop turns when it is."""
        future = pool.submit(work)
        future.add_done_callback(lambda _: self.wake())
        return future


def _open(cluster: Cluster) -> Engine:
    """An engine that gives a silent server up soon: who waits for it are the leases."""
    patience = {
        "connect_timeout": str(ceil(BUSY)),
        "tcp_user_timeout": str(int(2 * BUSY * 1000)),
    }
    return open_database(cluster.database.address.update_query_dict(patience), busy=BUSY, thinking=STANDING)


def require(cluster: Cluster, engine: Engine) -> None:
    """Nothing where topics and tables are there.

    Raises:
        TopicsUnfit: they are not; says how to mend it. KafkaAway, DatabaseError: that cannot be known now.
    """
    topics.require(cluster)
    if not leases.ready(engine):
        raise topics.TopicsUnfit(
            "the tables are missing, or of an older form: `fenghuo prepare SETTINGS` makes them"
        )


def run(
    settings: Settings,
    cluster: Cluster,
    broker: Broker,
    name: str,
    metrics: str = "",
    stands: Callable[[], None] = lambda: None,
) -> None:
    """Collect until SIGTERM or SIGINT.

    Args:
        metrics: HOST:PORT where Prometheus is answered; "": nowhere. stands: called when it has all that it needs.

    Raises:
        TopicsUnfit: topics or tables are missing. BrokerRefuses: our user.
        OSError: the metrics' port is taken, or data cannot be written.
    """
    configure()
    settings.data.mkdir(parents=True, exist_ok=True)
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    engine = _open(cluster)
    away = ""  # who does not answer
    while not stop.is_set():
        try:
            require(cluster, engine)
            log_in(
                broker.host, broker.port, broker.user, broker.password
            )  # else it would take slots, and hear nothing
        except KafkaAway as error:
            who, why = "kafka", prepared.kafka_away(cluster, error)
        except DatabaseError as error:
            who, why = "database", prepared.database_away(cluster, error)
        except BrokerAway as error:
            mend = "is that the place, and does the broker run there?"
            who, why = "broker", f"broker.url: {broker.url}: {mend} {error}"
        else:
            who = why = ""
        if away not in ("", who):
            log.info(f"{away}_back")
        if not who:
            break
        if who != away:
            log.error(f"{who}_away", why=why)
        away = who
        stop.wait(AGAIN)
    engine.dispose()
    if stop.is_set():
        return
    collect = Collect(settings, cluster, broker, name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: collect.stop())
    expose(metrics, collect.metrics)
    gc.freeze()
    stands()
    collect.run()
