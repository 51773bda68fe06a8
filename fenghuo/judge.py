"""The judging process: collector, journal, engine and desk, in one thread and one loop.

A turn takes what has arrived together, journals it in one commit, acknowledges it, evaluates it, and
hands what was found to the desk in one transaction. The order is what keeps the promise that nothing
acknowledged is ever lost: see docs/architecture.md.
"""

import os
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import structlog

import registry.versions
from alerting import store
from alerting.database import open_database, reading
from alerting.desk import Desk, DeskBusy, DeskUnwritable, absorbed
from alerting.words import moment
from fenghuo import recovery, status
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ControlledClock
from fenghuo.logs import configure
from fenghuo.settings import Settings
from fenghuo.system_findings import SystemFindings
from ingest.assemble import Assembler
from ingest.collector import Collector, Message
from ingest.journal import Journal, JournalUnwritable, Lost
from ingest.last_values import LastValues
from ingest.readings import Round
from registry.clock import HOUR, SECOND, Anchor, Clock, SystemClock, stopwatch
from registry.model import Registry
from streams.finding import Finding, Phase

HOUSEKEEPING = 0.25
"""Seconds of real time between two looks at what does not come through a socket."""

DESK_TIMEOUT = 0.02
"""Seconds that the judge waits for a locked desk before it goes on journaling."""

WALL_STEP = 5 * SECOND
"""How far the wall may move away from our clock before it is a finding."""

log = structlog.get_logger()


class Judge:
    """Everything that one judging process holds; ``turn`` is its whole life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        database = open_database(settings.data / "desk.sqlite", busy=DESK_TIMEOUT)
        self._journal = Journal(settings.journal, reserve=settings.journal_reserve, after=absorbed(database))
        self._clock: Clock = (
            ControlledClock(settings.clock, "judge")
            if settings.clock
            else SystemClock(shared_anchor() or Anchor.drop(self._journal.last_time))
        )
        self._stepped = bool(settings.clock)
        self._stopping = False
        self._counts: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._held: Sequence[Message] = ()
        self._retry_at = self._absorbed_at = 0
        self._deadline: int | None = None
        self._unwritable = ""
        self._snapshot_thread: threading.Thread | None = None
        self._round_ms, self._alert_ms = status.Samples(), status.Samples()
        self._next_house = self._next_status = self._next_snapshot = 0.0
        self._next_retention = 0.0
        self._values: LastValues | None = None

        self._begin_journal()
        self._absorbed = absorbed(database)
        recovered = recovery.recover(
            self._journal, settings.journal, settings.versions, settings.snapshot, self._absorbed
        )
        self._engine, self._registry = recovered.engine, recovered.registry
        self._snapshot_offset = recovered.snapshot
        self._pending = list(recovered.findings)
        self._desk = Desk(database, self._registry)
        with reading(database) as connection:
            self._system = SystemFindings(store.open_system_findings(connection))
        self._assembler = Assembler(self._registry, self._journal.recent_digests(2 * settings.in_flight))
        self._collector = self._make_collector()
        self._started = self._clock.now()
        self._pending += self._system.end("system.journal", self._now())  # if it still holds, it begins anew
        for lost in recovered.lost:
            self._pending += self._lost(lost)
        if isinstance(self._clock, SystemClock) and self._clock.behind:
            behind = f"the wall is {self._clock.behind / SECOND:.0f} s behind the last record"
            self._pending += self._system.begin_anew("system.clock", self._now(), behind)

    # -- start ---------------------------------------------------------------------------------

    def _begin_journal(self) -> None:
        """A journal begins with the registry version that is in force."""
        if self._journal.version is not None:
            return
        version = registry.versions.wanted(self._settings.versions)
        if version is None:
            raise SystemExit("no registry version is wanted: `fenghuo serve` compiles one first")
        self._journal.append([Round(self._now(), listening=False, version=version)])

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
        finally:
            self._collector.close()
            self._tell()
            if self._absorbed == self._journal.last_offset:
                self._save(self._take_snapshot())
            self._journal.close()

    def turn(self) -> None:
        """Wait until there is something to do, then do all of it."""
        self._wait()
        begun = stopwatch()
        self._clock.poll()
        now = self._now()
        self._deadline = self._desk.next_deadline()  # people's answers, in another process, move it
        messages = self._take(now)
        if not self._unwritable or now >= self._retry_at:
            self._absorb(messages, now)
        offset = self._journal.last_offset
        behind = offset != self._absorbed and now - self._absorbed_at >= SECOND
        if behind or self._is_due(now):
            self._report(now, offset)
        if messages:
            self._round_ms.add((stopwatch() - begun) * 1000)
        self._keep_house(now)
        if self._stepped and not self._pending:
            self._publish_values()
            if not messages and (self._collector.listening(now) or self._collector.lost):
                self._clock.rest()

    def _now(self) -> int:
        return max(self._clock.now(), self._journal.last_time)

    def _wait(self) -> None:
        """Until a message, a step of the clock, a deadline, or the next look at the house."""
        due = [self._journal.last_time + SECOND]
        if (deadline := self._engine.next_deadline()) is not None:
            due.append(deadline)
        if self._deadline is not None:
            due.append(self._deadline)
        timeout = self._clock.timeout(min(due))
        timeout = HOUSEKEEPING if timeout is None else min(timeout, HOUSEKEEPING)
        if self._pending:
            timeout = min(timeout, DESK_TIMEOUT)
        clock, broker = self._clock.fileno(), self._collector.fileno()
        readers = [descriptor for descriptor in (clock, broker) if descriptor >= 0]
        if self._unwritable and broker >= 0:
            readers.remove(broker)  # back-pressure: what cannot be journaled stays at the broker
        writers = [broker] if broker >= 0 and self._collector.wants_write() else []
        ready, _, _ = select.select(readers, writers, [], timeout)
        if broker in ready and clock not in ready and self._settings.gather:
            select.select([], [], [], self._settings.gather)  # what comes together is judged together

    def _take(self, now: int) -> Sequence[Message]:
        self._collector.service()
        if self._held:
            return self._held
        return self._collector.take()

    def _absorb(self, messages: Sequence[Message], now: int) -> None:
        """Journal in one commit, acknowledge, evaluate."""
        listening = self._collector.listening(now)
        rounds, dead = self._assembler.assemble(messages, now, listening=listening)
        marks = [Round(time, listening) for time in self._clock.marks(self._journal.last_time, now)]
        if rounds and marks and marks[-1].time == now:
            marks.pop()
        due = self._engine.next_deadline()
        if not rounds and due is not None and due <= now and not (marks and marks[-1].time == now):
            marks.append(Round(now, listening))
        rounds = [*marks, *rounds]
        if not rounds and not dead:
            self._collector.acknowledge(messages)
            return
        try:
            self._journal.append(rounds, dead)
        except JournalUnwritable as error:
            self._cannot_write(error, messages, now)
            return
        if self._unwritable:
            self._can_write_again(now)
        self._held = ()
        self._collector.acknowledge(messages)
        self._assembler.journaled()
        for letter in dead:
            self._dead[letter.reason] += 1
        self._counts["messages"] += len(messages)
        before = self._journal.last_offset - len(rounds)
        for offset, round_ in enumerate(rounds, before + 1):
            self._counts["readings"] += len(round_.readings)
            self._found(self._engine.apply(round_))
            if round_.time < now and self._is_due(round_.time):
                self._report(round_.time, offset)  # a stepped clock has leapt: all in its order

    def _found(self, findings: Sequence[Finding]) -> None:
        self._counts["findings"] += len(findings)
        self._pending += findings

    def _report(self, now: int, offset: int) -> None:
        """Findings and due deadlines to the desk; a desk that is locked is asked again next turn."""
        try:
            self._desk.round(self._pending, offset, now)
        except (DeskBusy, DeskUnwritable) as error:
            self._counts["desk_busy"] += 1
            log.warning("desk_not_taken", why=str(error), waiting=len(self._pending))
            return
        committed = self._clock.now()
        for finding in self._pending:
            if finding.phase is Phase.BEGUN and not finding.late:
                self._alert_ms.add((committed - finding.time) / 1000)
        self._pending = []
        self._absorbed, self._absorbed_at = offset, now
        self._deadline = self._desk.next_deadline()

    def _is_due(self, now: int) -> bool:
        """Whether there is anything to tell the desk, or to let it do."""
        return bool(self._pending) or (self._deadline is not None and self._deadline <= now)

    # -- a disk that cannot be written -----------------------------------------------------------

    def _cannot_write(self, error: JournalUnwritable, messages: Sequence[Message], now: int) -> None:
        """Keep the messages unacknowledged, free the reserve, and let an administrator know."""
        self._held = messages
        self._retry_at = now + SECOND
        if not self._unwritable:
            log.error("journal_unwritable", why=str(error))
            self._journal.release_reserve()
        self._unwritable = str(error)
        self._pending += self._system.begin("system.journal", now, str(error))

    def _can_write_again(self, now: int) -> None:
        log.info("journal_writable_again")
        self._unwritable = ""
        self._journal.restore_reserve()
        self._pending += self._system.end("system.journal", now)

    # -- the house -------------------------------------------------------------------------------

    def _keep_house(self, now: int) -> None:
        """What is done now and then: configuration, snapshot, retention, status."""
        watch = stopwatch()
        if watch < self._next_house:
            return
        self._next_house = watch + HOUSEKEEPING
        self._reconfigure(now)
        self._check_wall(now)
        if watch >= self._next_status:
            self._next_status = watch + 1
            self._tell()
        if watch >= self._next_snapshot and self._absorbed == self._journal.last_offset:
            self._next_snapshot = watch + self._settings.snapshot_every
            if self._snapshot_thread is None or not self._snapshot_thread.is_alive():
                self._snapshot_thread = threading.Thread(target=self._save, args=(self._take_snapshot(),))
                self._snapshot_thread.start()
        if watch >= self._next_retention:
            self._next_retention = watch + 60
            self._retain(now)

    def _reconfigure(self, now: int) -> None:
        """Put a newly wanted registry version in force, through the journal."""
        refused = "a changed registry was refused" if self._settings.refused.exists() else ""
        wanted = registry.versions.wanted(self._settings.versions)
        if wanted is not None and wanted != self._registry.version and not self._unwritable:
            try:
                self._put_in_force(registry.versions.load(self._settings.versions, wanted), now)
            except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion) as error:
                refused = str(error)
        if refused:
            self._pending += self._system.begin("system.configuration", now, refused)
        else:
            self._pending += self._system.end("system.configuration", now)

    def _put_in_force(self, compiled: Registry, now: int) -> None:
        listening = self._collector.listening(now)
        try:
            self._journal.append([Round(now, listening, version=compiled.version)])
        except JournalUnwritable as error:
            self._cannot_write(error, (), now)
            return
        self._found(self._engine.reconfigure(compiled, now, listening))
        self._registry = compiled
        self._desk.set_registry(compiled)
        self._assembler.set_registry(compiled)
        self._values = None
        log.info("registry_in_force", version=compiled.version, points=len(compiled.points))

    def _check_wall(self, now: int) -> None:
        if not isinstance(self._clock, SystemClock):
            return
        step = self._clock.wall_step() + self._clock.behind
        if abs(step) > WALL_STEP:
            self._pending += self._system.begin(
                "system.clock",
                now,
                f"the wall clock has moved by {step / SECOND:+.1f} s; ours goes on unmoved",
            )
        elif not self._clock.behind:
            self._pending += self._system.end("system.clock", now)

    def _take_snapshot(self) -> recovery.Snapshot:
        return recovery.Snapshot(self._journal.last_offset, self._registry.version, self._engine.snapshot())

    def _save(self, snapshot: recovery.Snapshot) -> None:
        """Durable, and only then known; runs beside the loop."""
        try:
            recovery.save(self._settings.snapshot, snapshot)
        except OSError as error:
            log.error("snapshot_not_written", why=str(error))  # the older one still stands
            return
        self._snapshot_offset = snapshot.offset

    def _retain(self, now: int) -> None:
        lost = self._journal.retain(
            absorbed=min(self._absorbed, self._snapshot_offset),
            history=None,
            max_age=int(self._settings.journal_days * 24 * HOUR),
            max_bytes=self._settings.journal_bytes,
            now=now,
        )
        if lost is not None:
            self._pending += self._lost(lost)
        registry.versions.discard_all_but(
            self._settings.versions,
            self._journal.versions_used()
            | {self._registry.version}
            | {version for version in (registry.versions.wanted(self._settings.versions),) if version},
        )

    def _lost(self, lost: Lost) -> list[Finding]:
        zone = self._registry.time_zone
        span = f"{moment(lost.first_time, zone)} – {moment(lost.last_time, zone)}"
        return self._system.once(
            "system.lost", self._now(), f"{span}, offsets {lost.first_offset}–{lost.last_offset}"
        )

    def _tell(self) -> None:
        """Last values and status, for others to read; a disk that cannot take them stops nothing else."""
        try:
            self._publish_values()
            self._write_status()
        except OSError as error:
            self._counts["untold"] += 1
            log.error("status_not_written", why=str(error))

    def _publish_values(self) -> None:
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
                listening=self._collector.listening(now),
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
                unwritable=self._unwritable,
                round_ms=self._round_ms.latency(),
                alert_ms=self._alert_ms.latency(),
                journal_bytes=usage.bytes,
                journal_hours=usage.budget_hours or 0.0,
            ),
        )


def main(settings_file: Path) -> None:
    """Run the judging process by the settings in a file, until SIGTERM."""
    configure()
    judge = Judge(Settings.model_validate_json(settings_file.read_text("utf-8")))
    signal.signal(signal.SIGTERM, lambda *_: judge.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when
    judge.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
