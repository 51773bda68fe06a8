"""The supervisor: compiles the registry and keeps the broker and the two processes alive; nothing else."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import structlog

import registry.versions
from alerting.tables import upgrade
from fenghuo import status
from fenghuo.anchor import VARIABLE
from fenghuo.settings import Broker, Settings
from ingest.broker import (
    COLLECTOR,
    Account,
    BrokerFailed,
    Mosquitto,
    PasswordsBroken,
    collector_account,
    die_with_parent,
    gateway_account,
    gateway_user,
    passwords,
)
from ingest.demo_broker import Iotcore, embedded
from ingest.journal import Journal, JournalUnwritable
from ingest.reserve import share
from registry.clock import Anchor, stopwatch
from registry.compile import compile_folder
from registry.database import open_database
from registry.mistakes import RegistryErrors
from registry.model import Registry

WATCH = 0.25
"""Seconds of real time between two looks at children and folder."""

LONGEST_WAIT = 5.0
"""Seconds at most before a process that keeps dying is started again."""

HUNG = 60.0
"""Seconds without a word after which a judge is killed."""

BROKER_AGAIN = 2.0
"""Seconds before a broker that ended or did not start is started again."""

TRY_AGAIN = 2.0
"""Seconds before something that the machine refused, such as a write to a full disk, is tried again."""

GRACE = 15.0
"""Seconds that a process is given to end by itself."""

log = structlog.get_logger()

Signature: TypeAlias = tuple[tuple[str, int, int], ...]
"""(path, time of change, size) of files."""


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

    The registry folder is compiled here, so that a large one never delays an alert, and a mistake in it
    leaves the running version in force.

    Raises:
        JournalLocked: another one runs with the same data. JournalDamaged: the journal cannot be read.
        RegistryErrors: the folder has mistakes at start, when there is no running version to keep.
        BrokerFailed: no broker is given and mosquitto is not installed; only a rehearsal does without.
        PasswordsBroken: the broker's file of passwords has a line that is not one.
    """

    def __init__(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.data.chmod(0o700)  # people's numbers and passwords are in there
        self._settings = settings
        self._seen = self._tried = self._signature()
        self._broker: Mosquitto | Iotcore | None = None
        self._broker_not_before = 0.0
        self._secret: dict[str, str] = {}
        self._saved: int | None = None  # process id of the broker that has saved our session
        last_time = self._last_time()  # first: where another holds the journal, nothing of its is touched
        self._compile_first()
        database = open_database(settings.data / "desk.sqlite")
        upgrade(database)
        database.dispose()
        anchor = Anchor.drop(last_time)
        environment = {VARIABLE: str(anchor)} if not settings.clock else {}
        environment |= {"OPENBLAS_NUM_THREADS": "1"}  # we have no linear algebra, and its threads cost memory
        secret: dict[str, str] = {}
        if settings.broker is None:
            place = (settings.data / "broker", settings.broker_port, self._accounts(self._registry))
            self._broker = embedded(*place) if settings.clock else Mosquitto(*place)
            secret["FENGHUO_BROKER_PASSWORD"] = self._passwords(self._registry)[COLLECTOR]
            url = f"mqtt://127.0.0.1:{settings.broker_port}"
            settings = settings.model_copy(update={"broker": Broker(url=url, user=COLLECTOR)})
        run = settings.data / "run.json"
        settings.save(run)
        self.children = [
            Child("judge", [sys.executable, "-m", "fenghuo.judge", str(run)], environment | secret),
            Child("serving", [sys.executable, "-m", "fenghuo.serving", str(run)], environment),
        ]
        self._stale = self._heard = self._said()
        self._heard_at = stopwatch()
        self._failed: dict[str, tuple[str, float]] = {}  # by name of the work: why, and when to try again

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything alive until ``stop`` is set; then end it in the order in which readings flow."""
        try:
            while not stop.is_set():
                self._attempt("broker", self._keep_broker)
                for child in self.children:
                    self._attempt(child.name, child.keep)
                self._attempt("watch", self._watch_judge)
                self._attempt("registry", self._follow_folder)
                self._attempt("session", self._save_session)
                self._attempt("log", self._trim_log)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), WATCH)
        finally:
            for child in self.children:
                child.end()
            if self._broker is not None:
                self._broker.stop()

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do it; what fails is tried again a moment later, and logged when the reason changes."""
        why, again = self._failed.get(name, ("", 0.0))
        if stopwatch() < again:
            return
        try:
            work()
        except (OSError, registry.versions.NoSuchVersion) as error:
            if str(error) != why:
                log.error("supervisor_failed", at=name, why=str(error))
            self._failed[name] = (str(error), stopwatch() + TRY_AGAIN)
        else:
            if why:
                log.info("supervisor_goes_on", at=name)
            self._failed.pop(name, None)

    def _keep_broker(self) -> None:
        if isinstance(self._broker, Mosquitto) and self._broker.unsaved:
            self._settings.broker_died.touch()
            self._broker.runs.unlink(missing_ok=True)  # it is told once
            log.error("broker_died", lost="what it has acknowledged and neither handed on nor saved")
        if self._broker is None or self._broker.running or stopwatch() < self._broker_not_before:
            return
        self._broker_not_before = stopwatch() + BROKER_AGAIN
        try:
            self._broker.start()
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
        if stopwatch() < self._broker_not_before:
            return  # what the judge said last may be of the time before this broker
        said = status.read(self._settings.status)
        if said is not None and said.connected and said.pid == self.children[0].pid:
            self._broker.save()
            self._saved = self._broker.pid

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
        [judge, _] = self.children
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

    def _compile(self) -> None:
        """Compile the folder; nothing of it is wanted before all that hangs on it is known to be right."""
        compiled = compile_folder(self._settings.registry)
        accounts = self._accounts(compiled) if self._broker is not None else ()
        registry.versions.save(self._settings.versions, compiled)
        registry.versions.want(self._settings.versions, compiled.version)
        self._registry = compiled
        if self._broker is not None:
            self._broker.accounts = accounts
            self._broker.write()
        self._settings.refused.unlink(missing_ok=True)

    def _compile_first(self) -> None:
        """A mistake in the folder at start leaves the version in force that was, if there was one."""
        versions = self._settings.versions
        try:
            self._compile()
        except RegistryErrors as error:
            wanted = registry.versions.wanted(versions)
            if wanted is None:
                raise
            self._refuse(str(error))
            self._registry = registry.versions.load(versions, wanted)

    def _refuse(self, mistakes: str) -> None:
        log.error("registry_refused", mistakes=mistakes.splitlines())
        self._settings.refused.write_text(mistakes, "utf-8")

    def _follow_folder(self) -> None:
        """Compile the folder anew when it has changed and has stood still between two looks."""
        seen = self._signature()
        settled, self._seen = seen == self._seen, seen
        if not settled or seen == self._tried:
            return
        begun = stopwatch()
        try:
            self._compile()
        except (RegistryErrors, PasswordsBroken) as error:
            self._refuse(str(error))
        except (OSError, registry.versions.NoSuchVersion):
            raise  # the machine's fault: tried again
        except Exception as error:  # a fault of ours is told; the version in force goes on
            log.error("registry_failed", exc_info=error)
            self._refuse(f"{type(error).__name__}: {error}")
        else:
            log.info(
                "registry_compiled", version=self._registry.version, seconds=round(stopwatch() - begun, 2)
            )
        self._tried = seen

    def _signature(self) -> Signature:
        return signature(self._settings.registry, self._settings.passwords)

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


def signature(folder: Path, *files: Path) -> Signature:
    """Differs when any file of the folder, or one of these, was changed, added or removed."""
    found = []
    for path in (*sorted(folder.rglob("*")), *files):
        with contextlib.suppress(FileNotFoundError):  # not there, or removed while we looked
            entry = path.stat()
            found.append((str(path), entry.st_mtime_ns, entry.st_size))
    return tuple(found)
