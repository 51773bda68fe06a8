"""The judging process: collector, journal, engine and desk, in one thread and one loop.

A turn evaluates what has arrived. Where something was found, it is journaled at once, acknowledged, and
handed to the desk in one transaction; where nothing was, it waits a moment for others, to be journaled with
them. Nothing leaves this process, neither acknowledgement nor finding, before it is durable: that keeps the
promise that nothing acknowledged is ever lost. See docs/architecture.md.
"""

import gc
import os
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import structlog

import registry.versions
from alerting import store
from alerting.desk import DatabaseBusy, DatabaseUnwritable, Desk, absorbed, make_durable
from alerting.words import moment
from fenghuo import historian_status, recovery, refusal, status
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ControlledClock
from fenghuo.disk import Disk
from fenghuo.logs import configure
from fenghuo.settings import Settings
from fenghuo.unwritten import Unwritten
from ingest.assemble import MEMORY, Assembler
from ingest.collector import Collector, Message
from ingest.journal import Journal, JournalUnwritable, Lost
from ingest.last_values import LastValues
from ingest.readings import DeadLetter, Round
from ingest.reserve import Reserve, share
from registry.clock import HOUR, MINUTE, SECOND, Anchor, Clock, SystemClock, stopwatch
from registry.database import open_database, reading
from registry.model import Registry
from streams import configuration
from streams.configuration import Configuration
from streams.finding import Finding, Phase
from streams.guard import evaluate, reconfigure
from streams.system_findings import SystemFindings

HOUSEKEEPING = 0.25
"""Seconds of real time between two looks at what does not come through a socket."""

LOOK = 0.05
"""Seconds of real time between two looks at what others did to the desk's deadlines."""

GATHER = 0.02
"""Seconds of real time for which readings that gave no finding wait for others, to share their commit."""

LOAD = 0.02
"""Seconds that the judge waits for a version that is being loaded: most take force at once."""

DESK_TIMEOUT = 0.02
"""Seconds that the judge waits for a locked desk before it goes on journaling."""

RETRY = 1.0
"""Seconds of real time between two tries to write a journal that could not be written."""

MANY = 100_000
"""Findings waiting for the desk at which no more readings are taken: they are kept by the broker."""

DEAF = 30.0
"""Seconds of real time without hearing the broker after which an administrator is told."""

WALL_STEP = 5 * SECOND
"""How far the wall may move away from our clock before it is a finding."""

log = structlog.get_logger()


class Judge:
    """Everything that one judging process holds; ``turn`` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        desk = settings.data / "desk.sqlite"
        database = open_database(
            desk, busy=DESK_TIMEOUT, lasting=False
        )  # it can be replayed from the journal
        self._lasting = open_database(desk, busy=DESK_TIMEOUT)
        reserve = share(settings.journal_reserve, settings.data)
        self._journal = Journal(settings.journal, reserve=reserve, after=absorbed(database))
        self._clock: Clock = (
            ControlledClock(settings.clock, "judge")
            if settings.clock
            else SystemClock(shared_anchor() or Anchor.drop(self._journal.last_time))
        )
        self._stepped = bool(settings.clock)
        self._stopping = False
        self._counts: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._disk = Disk(self._journal.reserve, Reserve(settings.data / "reserve", reserve))
        self._unwritten = Unwritten()
        self._retry_at = 0.0
        self._absorbed_at = 0
        self._desk_failed = ""
        self._deadline: int | None = None
        self._heard_at = stopwatch()
        self._snapshot_thread: threading.Thread | None = None
        self._told_of_broker = 0
        self._was_connected = False
        self._round_ms, self._alert_ms = status.Samples(), status.Samples()
        self._next_look = self._next_house = self._next_status = self._next_snapshot = (
            self._next_retention
        ) = 0.0
        self._values: LastValues | None = None
        self._loader = ThreadPoolExecutor(max_workers=1)
        self._coming: Future[Configuration] | None = None

        self._begin_journal()
        self._absorbed = absorbed(database)

        def told() -> list[Finding]:
            with reading(database) as connection:
                return store.open_findings(connection)

        recovered = recovery.recover(
            self._journal, settings.journal, settings.versions, settings.snapshot, self._absorbed, told
        )
        self._engine = recovered.engine
        self._snapshot_offset = recovered.snapshot
        self._pending = list(recovered.findings)
        self._desk = Desk(database, self._registry)
        with reading(database) as connection:
            self._system = SystemFindings(store.open_system_findings(connection))
        remembered = max(MEMORY, 2 * settings.in_flight)  # the broker sends again at most what is in flight
        recent = self._journal.recent_digests(remembered)
        self._assembler = Assembler(self._registry, recent, memory=remembered)
        self._collector = self._make_collector()
        self._started = self._clock.now()
        self._had_session = bool(recent)
        self._in_history_at_least = 0
        for lost in recovered.lost:
            self._pending += self._lost(lost)
        for time, fault in recovered.faults:
            self._pending += self._engine_failed(time, fault)
        self._unfit = recovered.unfit  # not tried again by this process
        if self._journal.version != self._registry.version:
            self._say_what_is_in_force()

    # -- start ---------------------------------------------------------------------------------

    def _begin_journal(self) -> None:
        """A journal begins with the registry version that is in force."""
        if self._journal.version is not None:
            return
        version = registry.versions.wanted(self._settings.versions)
        if version is None:
            raise SystemExit("no registry version is wanted: `fenghuo serve` compiles one first")
        self._journal.append([Round(self._clock.now(), listening=False, version=version)])

    def _say_what_is_in_force(self) -> None:
        """Where the engine has failed over the version that the journal named last."""
        stays = self._engine.configuration
        round_ = Round(self._now(), listening=False, version=stays.registry.version)
        if self._append([round_]):
            self._engine, found, _ = reconfigure(self._engine, stays, round_)
            self._pending += found

    def _make_collector(self) -> Collector:
        broker = self._settings.broker
        if broker is None:
            raise SystemExit("no broker: `fenghuo serve` starts one or is given one")
        return Collector(
            broker.host,
            broker.port,
            user=broker.user,
            password=broker.password,
            in_flight=self._settings.in_flight,
        )

    # -- the loop ------------------------------------------------------------------------------

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Turn until stopped; then leave a snapshot, so that the next start is short."""
        try:
            while not self._stopping:
                self.turn()
            self._snapshot(wait=True)
        finally:
            self._collector.close()
            self._write_files()
            self._journal.close()

    def turn(self) -> None:
        """Wait until there is something to do, then do all of it."""
        self._wait()
        begun = stopwatch()
        self._clock.poll()
        now = self._now()
        if self._stepped or begun >= self._next_look:
            self._look_at_deadlines()
        self._collector.has_read(self._clock.asked)  # so that the echo that shows it goes out at once
        self._collector.service()
        if self._stepped and not self._collector.listening(now) and not self._collector.lost:
            self._keep_house(now)
            return  # a stepped clock waits for us: time that we do not listen need not pass
        if self._disk.journal_failed and begun >= self._retry_at:
            if not self._unwritten:  # a mark, to try it with: all this time we have not listened
                self._evaluate(Round(now, listening=False))
            self._write()
        taking = self._may_take()
        messages = self._collector.take() if taking else ()
        if not self._disk.journal_failed:
            self._absorb(messages, now)
            if self._stepped:
                self._write()
        offset = self._journal.last_offset
        behind = offset != self._absorbed and now - self._absorbed_at >= SECOND
        if behind or self._is_due(now):
            self._to_desk(now, offset)
        if messages:
            self._round_ms.add((stopwatch() - begun) * 1000)
        self._keep_house(now)
        if self._stepped and not self._pending:
            self._write_values()
            if taking and not self._unwritten and self._collector.has_read(self._clock.asked):
                self._clock.rest()

    def _may_take(self) -> bool:
        """Whether more readings may come in; what may not stays at the broker."""
        return not self._disk.journal_failed and len(self._pending) < MANY

    def _listening(self, now: int) -> bool:
        """Whether a point that is not heard now is really silent."""
        return self._may_take() and self._collector.listening(now)

    @property
    def _registry(self) -> Registry:
        return self._engine.registry

    def _now(self) -> int:
        return max(self._clock.now(), self._engine.now)

    def _wait(self) -> None:
        """Until a message, a step of the clock, a deadline, or the next look at the house."""
        due = []
        if not self._disk.journal_failed:
            due.append(self._engine.now + SECOND)
            if (deadline := self._engine.next_deadline()) is not None:
                due.append(deadline)
        if self._deadline is not None and not self._desk_failed:
            due.append(self._deadline)
        timeout = self._clock.timeout(min(due)) if due else None
        timeout = HOUSEKEEPING if timeout is None else min(timeout, HOUSEKEEPING)
        if self._desk_failed:
            timeout = min(timeout, DESK_TIMEOUT)
        if self._unwritten and not self._disk.journal_failed:
            timeout = min(timeout, self._unwritten.rest(GATHER))
        clock, broker = self._clock.fileno(), self._collector.fileno()
        readers = [descriptor for descriptor in (clock, broker) if descriptor >= 0]
        if not self._may_take() and broker >= 0:
            readers.remove(broker)
        writers = [broker] if broker >= 0 and self._collector.wants_write() else []
        select.select(readers, writers, [], timeout)

    def _absorb(self, messages: Sequence[Message], now: int) -> None:
        """Let time pass until now, and evaluate what has arrived; what gave a finding is written at once.

        What joins others that wait has their arrival time, so that all of it can be one round.
        """
        listening = self._listening(now)
        marks = [Round(time, listening) for time in self._clock.marks(self._engine.now, now)]
        due = self._engine.next_deadline()
        if due is not None and due <= now and not (marks and marks[-1].time == now):
            marks.append(Round(now, listening))
        if self._unwritten.due(GATHER):
            self._write()
        arrival = self._engine.now if self._unwritten and not marks else now
        rounds, dead = self._assembler.assemble(messages, arrival, listening=listening)
        if rounds and marks and marks[-1].time == arrival:
            marks.pop()
        for mark in marks:
            self._evaluate(mark)
            leapt = mark.time < now  # a stepped clock: all in its order
            if leapt and (self._unwritten.findings or self._is_due(mark.time)) and self._write():
                self._to_desk(mark.time, self._journal.last_offset)
        self._unwritten.take(messages, dead)  # after the marks: none is acknowledged before it is judged
        for round_ in rounds:
            self._evaluate(round_)
        if marks or self._unwritten.findings:
            self._write()  # a mark is owed where nothing else comes: there is nothing to wait for

    def _evaluate(self, round_: Round) -> None:
        found, fault = evaluate(self._engine, round_)
        if fault:
            found += self._engine_failed(round_.time, fault)
        self._unwritten.add(round_, found, apart=bool(fault))

    def _engine_failed(self, time: int, fault: str) -> list[Finding]:
        why = f"{moment(time, self._registry.time_zone)}: {fault}"
        return self._system.once("system.engine", time, why, since=time)

    def _write(self) -> bool:
        """Journal all that waits for it in one commit, acknowledge it, and let its findings go to the desk."""
        unwritten = self._unwritten
        if not unwritten:
            return True
        rounds = unwritten.joined()
        if not self._append(rounds, unwritten.dead):
            return False
        self._unwritten = Unwritten()
        self._collector.acknowledge(unwritten.messages)
        for letter in unwritten.dead:
            self._dead[letter.reason] += letter.count
        self._counts["messages"] += len(unwritten.messages)
        self._counts["readings"] += sum(len(round_.readings) for round_ in rounds)
        self._found(unwritten.findings)
        return True

    def _append(self, rounds: Sequence[Round], dead: Sequence[DeadLetter] = ()) -> bool:
        """Whether it is durably in the journal; if not, it is tried again after a while."""
        if self._disk.journal_may_write():
            try:
                self._journal.append(rounds, dead)
            except JournalUnwritable as error:
                if not self._disk.journal_failed:
                    log.error("journal_unwritable", why=str(error))
                self._disk.journal_failed = str(error)
            else:
                self._disk.journal_failed = ""
                return True
        self._retry_at = stopwatch() + RETRY
        self._next_retention = 0.0  # old files may have to go now
        return False

    def _found(self, findings: Sequence[Finding]) -> None:
        self._counts["findings"] += len(findings)
        self._pending += findings

    def _to_desk(self, now: int, offset: int) -> None:
        """Findings and due deadlines to the desk; a desk that cannot take them is asked again next turn."""
        try:
            self._desk.round(self._pending, offset, now)
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._counts["desk_busy"] += 1
            self._desk_fails(error)
            return
        if self._desk_failed:
            log.info("desk_takes_again", taken=len(self._pending))
        self._desk_failed = self._disk.desk_failed = ""
        committed = self._clock.now()
        for finding in self._pending:
            if finding.phase is Phase.BEGUN and not finding.late:
                self._alert_ms.add((committed - finding.time) / 1000)
        self._pending = []
        self._absorbed, self._absorbed_at = offset, now
        if self._stepped:  # which may have leapt beyond the next one
            self._look_at_deadlines()
        else:
            self._deadline = None  # the next one is minutes away: looked up when nobody waits for it

    def _look_at_deadlines(self) -> None:
        """People's answers, in another process, move them too; never nearer than a moment away."""
        self._next_look = stopwatch() + LOOK
        try:
            self._deadline = self._desk.next_deadline()
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._desk_fails(error)

    def _desk_fails(self, error: DatabaseBusy | DatabaseUnwritable) -> None:
        if not self._desk_failed:
            log.error("desk_does_not_take", why=str(error), waiting=len(self._pending))
        self._desk_failed = str(error)
        if isinstance(error, DatabaseUnwritable):
            self._disk.desk_fails(str(error))
            self._next_retention = 0.0

    def _is_due(self, now: int) -> bool:
        """Whether there is anything to tell the desk, or to let it do."""
        return bool(self._pending) or (self._deadline is not None and self._deadline <= now)

    # -- the house -------------------------------------------------------------------------------

    def _keep_house(self, now: int) -> None:
        """What is done now and then: configuration, our own health, snapshot, retention, status."""
        watch = stopwatch()
        if watch < self._next_house:
            return
        self._next_house = watch + HOUSEKEEPING
        refused = self._reconfigure(now)
        ill = {
            "system.journal": self._disk.look(),
            "system.broker": self._deaf(now, watch),
            "system.clock": self._wall_moved(),
            "system.configuration": refused,
        }
        for rule, why in ill.items():
            self._pending += self._system.holds(rule, now, why)
        self._broker_died(now)
        if watch >= self._next_status:
            self._next_status = watch + 1
            self._write_files()
        if watch >= self._next_snapshot:
            self._next_snapshot = watch + self._settings.snapshot_every
            self._snapshot()
        if watch >= self._next_retention:
            self._next_retention = watch + 60
            self._retain(now)

    def _deaf(self, now: int, watch: float) -> str | None:
        """Why we do not hear the broker, once that has lasted; None while it is too early to say.

        A session that it has lost is told at once.
        """
        if self._collector.counts["connected_anew"]:
            if self._had_session:
                lost = "the broker has forgotten our session: what it held for us is lost"
                self._pending += self._system.once("system.lost", now, lost)
            self._collector.counts["connected_anew"] = 0
        self._had_session |= self._collector.connected
        if self._collector.connected != self._was_connected:
            self._was_connected = self._collector.connected
            if self._was_connected:
                log.info("broker_connected")
            else:
                log.warning("broker_lost", why=self._collector.problem)
        if self._collector.listening(now):
            self._heard_at = watch
            return ""
        if watch - self._heard_at < DEAF:
            return None
        return self._collector.problem or "what the broker holds for us comes faster than it can be judged"

    def _broker_died(self, now: int) -> None:
        """The supervisor leaves a mark when a broker of our own was killed; it goes when the desk has it."""
        mark = self._settings.broker_died
        try:
            died = mark.stat().st_mtime_ns // 1000
            if died != self._told_of_broker:
                why = (
                    "the broker ended without our seeing it save: what it had acknowledged in its last 10 s, "
                )
                why += "and had not handed on, may be lost"
                self._pending += self._system.once("system.lost", now, why, since=min(died, now))
                self._told_of_broker = died
            elif not self._pending:
                make_durable(self._lasting)
                mark.unlink()
        except FileNotFoundError:
            return
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._desk_fails(error)
        except OSError as error:
            log.error("mark_not_removed", mark=str(mark), why=str(error))

    def _wall_moved(self) -> str:
        if not isinstance(self._clock, SystemClock):
            return ""
        away, behind = self._clock.wall_step(), self._clock.behind
        if abs(away) <= WALL_STEP:
            return ""
        if abs(away + behind) > WALL_STEP:
            return f"the wall clock is {away / SECOND:+.0f} s away from ours, which goes on unmoved"
        if behind > MINUTE:
            return f"the wall is {behind / SECOND:.0f} s behind the last record"
        return ""

    def _reconfigure(self, now: int) -> str:
        """Put a newly wanted registry version in force; why a wanted one is not, "" if it is."""
        try:
            wanted = registry.versions.wanted(self._settings.versions)
            if wanted is not None and wanted != self._registry.version:
                if wanted == self._unfit:
                    return f"the engine failed over version {wanted}"
                coming = None if self._disk.journal_failed else self._load(wanted)
                if coming is not None and coming.registry.version != self._registry.version:
                    self._put_in_force(coming, now)
            return refusal.first(self._settings.refused)
        except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion, OSError) as error:
            return str(error)

    def _load(self, version: str) -> Configuration | None:
        """A configuration, once it is loaded; a city's takes a second, in which readings go on being judged.

        What was wanted when that began is put in force too: else edits that follow each other faster than they
        are loaded would all wait for the last. Raises as configuration.load.
        """
        if self._coming is None:
            self._coming = self._loader.submit(
                configuration.load, self._settings.versions, version, self._registry
            )
        wait((self._coming,), None if self._stepped else LOAD)
        if not self._coming.done():
            return None
        loaded, self._coming = self._coming, None
        return loaded.result()

    def _put_in_force(self, coming: Configuration, now: int) -> None:
        compiled = coming.registry
        round_ = Round(now, self._listening(now), version=compiled.version)
        if not self._write() or not self._append([round_]):
            return
        self._found(self._engine.reconfigure(coming, now, round_.listening))  # see guard.reconfigure
        self._desk.set_registry(compiled)
        self._assembler.set_registry(compiled)
        self._values = None
        gc.freeze()  # as at the start
        log.info("configuration_in_force", version=compiled.version, points=len(compiled.points))

    def _snapshot(self, *, wait: bool = False) -> None:
        """Keep the engine's state, of an offset that the desk has committed; written beside the loop."""
        if self._snapshot_thread is not None:
            if self._snapshot_thread.is_alive() and not wait:
                return
            self._snapshot_thread.join()
        if not self._write():
            return
        offset = self._journal.last_offset
        if self._absorbed != offset or self._pending:
            self._to_desk(self._now(), offset)
        if self._absorbed != offset or self._pending:
            return
        try:
            make_durable(self._lasting)  # what the snapshot is beyond could not be replayed
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._desk_fails(error)
            return
        snapshot = recovery.Snapshot(offset, self._registry.version, self._engine.snapshot())
        self._snapshot_thread = threading.Thread(target=self._save, args=(snapshot,))
        self._snapshot_thread.start()
        if wait:
            self._snapshot_thread.join()

    def _save(self, snapshot: recovery.Snapshot) -> None:
        """Durable, and only then known."""
        try:
            recovery.save(self._settings.snapshot, snapshot)
        except OSError as error:
            log.error("snapshot_not_written", why=str(error))  # the older one still stands
            return
        self._snapshot_offset = snapshot.offset

    def _retain(self, now: int) -> None:
        versions = self._settings.versions
        used, spare = self._journal.usage().bytes, self._disk.spare()
        try:
            lost = self._journal.retain(
                absorbed=min(self._absorbed, self._snapshot_offset),
                history=self._in_history(),
                max_age=int(self._settings.journal_days * 24 * HOUR),
                max_bytes=min(self._settings.journal_bytes, max(0, used + spare)),
                now=now,
            )
            keep = self._journal.versions_used() | {self._registry.version}
            wanted = registry.versions.wanted(versions)
            registry.versions.discard_all_but(versions, keep | ({wanted} if wanted else set()))
        except (JournalUnwritable, OSError) as error:
            log.error("not_retained", why=str(error))  # the next look tries again
            return
        if lost is not None:
            self._pending += self._lost(lost)

    def _in_history(self) -> int | None:
        """Journal offset up to which every home of history has all; None if there is none. Raises OSError."""
        if not self._settings.has_historian:
            return None
        said = historian_status.read(self._settings.history_status)
        has = min((home.position for home in said.homes.values()), default=0) if said else 0
        self._in_history_at_least = max(
            self._in_history_at_least, has
        )  # one that is opened anew says 0 at first
        return self._in_history_at_least

    def _lost(self, lost: Lost) -> list[Finding]:
        """Of one gap one finding, however often it is seen."""
        zone = self._registry.time_zone
        span = f"{moment(lost.first_time, zone)} – {moment(lost.last_time, zone)}, " if lost.last_time else ""
        why = f"{span}offsets {lost.first_offset}–{lost.last_offset}"
        return self._system.once("system.lost", self._now(), why, since=lost.first_time or lost.last_offset)

    def _write_files(self) -> None:
        """Status and last values, for others to read; a disk that cannot take them stops nothing else."""
        try:
            self._write_status()
            self._write_values()
        except OSError as error:
            self._counts["untold"] += 1
            log.error("status_not_written", why=str(error))

    def _write_values(self) -> None:
        if self._values is None:
            self._values = LastValues.create(
                self._settings.values, self._registry.version, len(self._registry.points)
            )
        self._values.write(self._engine.newest, self._engine.value, self._engine.quality)

    def _write_status(self) -> None:
        self._counts["status"] += 1
        usage = self._journal.usage(max_bytes=self._settings.journal_bytes)
        now = self._now()
        status.write(
            self._settings.status,
            status.Status(
                pid=os.getpid(),
                number=self._counts["status"],
                time=now,
                started=self._started,
                connected=self._collector.connected,
                listening=self._listening(now),
                version=self._registry.version,
                offset=self._journal.last_offset,
                absorbed=self._absorbed,
                snapshot=self._snapshot_offset,
                messages=self._counts["messages"],
                readings=self._counts["readings"],
                findings=self._counts["findings"],
                dead=dict(self._dead),
                dropped=dict(self._assembler.dropped),
                waiting=len(self._pending),
                desk_busy=self._counts["desk_busy"],
                unwritable=self._disk.journal_failed,
                round_ms=self._round_ms.latency(),
                alert_ms=self._alert_ms.latency(),
                journal_bytes=usage.bytes,
                journal_hours=usage.hours or 0.0,
            ),
        )


def main(settings_file: Path) -> None:
    """Run the judging process by the settings in a file, until SIGTERM."""
    configure()
    judge = Judge(Settings.model_validate_json(settings_file.read_text("utf-8")))
    gc.freeze()  # what was loaded stays: no collection has to look at it while somebody waits for an alert
    signal.signal(signal.SIGTERM, lambda *_: judge.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when
    judge.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
