"""The supervisor: compiles the registry and keeps the broker and the processes alive; nothing else."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

import structlog

from alerting.tables import upgrade
from fenghuo import status
from fenghuo.anchor import VARIABLE
from fenghuo.attempts import Attempts
from fenghuo.compiler import Compiler, Local
from fenghuo.settings import Broker, Settings
from ingest.broker import (
    COLLECTOR,
    Account,
    BrokerFailed,
    Mosquitto,
    collector_account,
    die_with_parent,
    gateway_account,
    gateway_user,
    passwords,
)
from ingest.demo_broker import Iotcore, embedded
from ingest.journal import Journal, JournalUnwritable
from ingest.reserve import share
from registry.clock import Anchor, SystemClock, stopwatch
from registry.database import DatabaseError, open_database
from registry.model import Registry
from registry.versions import NoSuchVersion

WATCH = 0.25
"""Seconds of real time between two looks at children and registry."""

LONGEST_WAIT = 5.0
"""Seconds at most before a process that keeps dying is started again."""

HUNG = 60.0
"""Seconds without a word after which a judge is killed."""

BROKER_AGAIN = 2.0
"""Seconds before a broker that ended or did not start is started again."""

GRACE = 15.0
"""Seconds that a process is given to end by itself."""

log = structlog.get_logger()


class Child:
    """One process that is to run always; one that keeps dying is started again more and more slowly."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._not_before = self._wait = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def keep(self) -> None:
        """Start it, if it does not run and its wait is over."""
        watch = stopwatch()
        if self.pid is not None or watch < self._not_before:
            return
        if self._process is not None:
            code, self._process = self._process.returncode, None
            steady = watch - self._started > LONGEST_WAIT
            self._wait = 0.0 if steady else min(LONGEST_WAIT, 2 * self._wait + 0.1)
            self._not_before = watch + self._wait
            log.error("process_died", name=self.name, code=code, again_in=round(self._wait, 1))
            if self._wait:
                return
        self._started = watch
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent()
        )
        log.info("process_started", name=self.name, pid=self._process.pid)

    def kill(self) -> None:
        """SIGKILL; ``keep`` starts it anew."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """SIGTERM, and SIGKILL to one that does not heed it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            log.error("process_killed", name=self.name)
            self._process.kill()
            self._process.wait()


class Supervisor:
    """All that `fenghuo serve` starts.

    The registry is compiled here, so that a large one never delays an alert, and what goes wrong with it
    leaves the running version in force. A start goes on with the version that was in force, if there is one:
    a city's takes half a minute to compile, and nobody is to be unguarded for that.

    Raises:
        JournalLocked: another one runs with the same data. JournalDamaged: the journal cannot be read.
        NoRegistry, RegistryErrors: there is none, or it has mistakes, and no running version to keep.
        BrokerFailed: no broker is given and mosquitto is not installed; only a rehearsal does without.
        PasswordsBroken: the broker's file of passwords has a line that is not one.
    """

    def __init__(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.data.chmod(0o700)  # people's numbers and passwords are in there
        self._settings = settings
        self._broker: Mosquitto | Iotcore | None = None
        self._broker_not_before = 0.0
        self._broker_lock = threading.Lock()  # its accounts change while it may be starting
        self._secret: dict[str, str] = {}
        self._saved: int | None = None  # process id of the broker that has saved our session
        self._admitting = False  # the broker does not know its accounts yet
        last_time = self._last_time()  # first: where another holds the journal, nothing of its is touched
        anchor = Anchor.drop(last_time)
        self._compiler = Compiler(
            settings,
            open_database(settings.registry_database),
            Local(settings.versions),
            watched=[settings.passwords],
            taking_force=self._taking_force,
        )
        self._compiler.begin(SystemClock(anchor).now())
        database = open_database(settings.data / "desk.sqlite")
        upgrade(database)
        database.dispose()
        environment = {VARIABLE: str(anchor)} if not settings.clock else {}
        environment |= {"OPENBLAS_NUM_THREADS": "1"}  # we have no linear algebra, and its threads cost memory
        secret: dict[str, str] = {}
        if settings.broker is None:
            place = (settings.data / "broker", settings.broker_port, self._accounts(self._compiler.registry))
            self._broker = embedded(*place) if settings.clock else Mosquitto(*place)
            secret["FENGHUO_BROKER_PASSWORD"] = self._passwords(self._compiler.registry)[COLLECTOR]
            url = f"mqtt://127.0.0.1:{settings.broker_port}"
            settings = settings.model_copy(update={"broker": Broker(url=url, user=COLLECTOR)})
        run = settings.data / "run.json"
        settings.save(run)
        self.children = [
            Child("judge", [sys.executable, "-m", "fenghuo.judge", str(run)], environment | secret),
            Child("serving", [sys.executable, "-m", "fenghuo.serving", str(run)], environment),
        ]
        if settings.has_historian:
            command = [sys.executable, "-m", "fenghuo.historian", str(run)]
            self.children.append(Child("historian", command, environment))
        self._stale = self._heard = self._said_before = self._said()
        self._heard_at = stopwatch()
        self._attempts = Attempts("supervisor", OSError, DatabaseError, NoSuchVersion)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything alive until ``stop`` is set; then end it in the order in which readings flow."""
        comparing = asyncio.create_task(asyncio.to_thread(self._compiler.compare_folder))
        following = asyncio.create_task(self._follow(stop))
        try:
            while not stop.is_set() and not following.done():
                self._attempts.attempt("broker", self._keep_broker)
                for child in self.children:
                    self._attempts.attempt(child.name, child.keep)
                self._attempts.attempt("watch", self._watch_judge)
                self._attempts.attempt("session", self._save_session)
                self._attempts.attempt("accounts", self._admit)
                self._attempts.attempt("log", self._trim_log)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), WATCH)
        finally:
            stop.set()
            for child in self.children:
                child.end()
            if self._broker is not None:
                self._broker.stop()
            await comparing
            await following

    async def _follow(self, stop: asyncio.Event) -> None:
        """Edits, beside all else: a judge that dies while a city is compiled is started at once."""
        while not stop.is_set():
            await asyncio.to_thread(self._attempts.attempt, "registry", self._compiler.follow)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), WATCH)

    def _keep_broker(self) -> None:
        if isinstance(self._broker, Mosquitto) and self._broker.unsaved:
            self._settings.broker_died.touch()
            self._broker.runs.unlink(missing_ok=True)  # it is told once
            log.error("broker_died", lost="what it has acknowledged and neither handed on nor saved")
        if self._broker is None or self._broker.running or stopwatch() < self._broker_not_before:
            return
        self._broker_not_before = stopwatch() + BROKER_AGAIN
        try:
            with self._broker_lock:
                self._said_before = self._said()
                self._broker.start()
                self._admitting = False
        except BrokerFailed as error:
            log.error("broker_failed", why=str(error))
        else:
            log.info(
                "broker_started", kind=type(self._broker).__name__.lower(), port=self._settings.broker_port
            )

    def _save_session(self) -> None:
        """Once the judge has subscribed: a broker killed before it saved that would acknowledge what gateways
        send after its restart, and keep it for nobody."""
        if not isinstance(self._broker, Mosquitto) or self._broker.pid == self._saved:
            return
        if stopwatch() < self._broker_not_before or self._said() == self._said_before:
            return  # what the judge said last may be of the time before this broker
        said = status.read(self._settings.status)
        if said is not None and said.connected and said.pid == self.children[0].pid:
            self._broker.save()
            self._saved = self._broker.pid

    def _admit(self) -> None:
        """Let the broker read its new accounts, once the judge has subscribed: until then a mosquitto that reads them
        anew keeps nothing for a session of before its own start, and acknowledges it all the same."""
        broker = self._broker
        if (
            not self._admitting
            or broker is None
            or (isinstance(broker, Mosquitto) and broker.pid != self._saved)
        ):
            return
        with self._broker_lock:
            broker.write()
            self._admitting = False

    def _trim_log(self) -> None:
        if isinstance(self._broker, Mosquitto):
            self._broker.trim_log()

    def _watch_judge(self) -> None:
        """Kill a judge that stands still: it has said something since its start, and then no more.

        What an earlier run left behind does not count: its judge may have had the same process id.
        """
        heard, watch = self._said(), stopwatch()
        if heard != self._heard:
            self._heard, self._heard_at = heard, watch
        judge = self.children[0]
        if heard != self._stale and heard[0] == judge.pid and watch - self._heard_at > HUNG:
            log.error("judge_hangs", seconds=round(watch - self._heard_at))
            judge.kill()
            self._heard_at = watch

    def _said(self) -> tuple[int, int, int]:
        """What tells one status of a judge from the next: its process, its start, and the status's number."""
        said = status.read(self._settings.status)
        return (said.pid, said.started, said.number) if said is not None else (0, 0, 0)

    def _last_time(self) -> int:
        """The last durable time, µs; 0 if there is none yet."""
        try:
            reserve = share(self._settings.journal_reserve, self._settings.data)  # as the judge has it
            with Journal(self._settings.journal, reserve=reserve) as journal:
                return journal.last_time
        except JournalUnwritable as error:
            log.error("journal_unwritable", why=str(error))  # the judge goes on saying so
            said = status.read(self._settings.status)
            return said.time if said is not None else 0

    @contextlib.contextmanager
    def _taking_force(self, compiled: Registry) -> Iterator[None]:
        """The broker lets in the gateways of the registry that takes force."""
        accounts = self._accounts(compiled) if self._broker is not None else ()
        yield
        if self._broker is not None:
            with self._broker_lock:
                self._admitting |= accounts != self._broker.accounts
                self._broker.accounts = accounts

    def _passwords(self, compiled: Registry) -> dict[str, str]:
        gateways = [gateway_user(gateway.enterprise, gateway.id) for gateway in compiled.gateways]
        self._secret = passwords(self._settings.passwords, [COLLECTOR, *gateways], self._secret)
        return self._secret

    def _accounts(self, compiled: Registry) -> tuple[Account, ...]:
        self._settings.passwords.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = self._passwords(compiled)
        return (
            collector_account(secret[COLLECTOR]),
            *(
                gateway_account(g.enterprise, g.id, secret[gateway_user(g.enterprise, g.id)])
                for g in compiled.gateways
            ),
        )
