"""The supervisor: compiles the registry and keeps the broker and the two processes alive; nothing else."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

import registry.versions
from alerting.database import open_database, upgrade
from fenghuo import status
from fenghuo.anchor import VARIABLE
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
from registry.clock import Anchor, stopwatch
from registry.compile import compile_folder
from registry.mistakes import RegistryErrors
from registry.model import Registry

WATCH = 0.25
"""Seconds of real time between two looks at children and folder."""

LONGEST_WAIT = 30.0
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

    The registry folder is compiled here, so that a large one never delays an alert, and a mistake in it
    leaves the running version in force.

    Raises:
        JournalLocked: another one runs with the same data. JournalDamaged: the journal cannot be read.
        RegistryErrors: the folder has mistakes at start, when there is no running version to keep.
        BrokerFailed: no broker is given and none of our own can be started.
    """

    def __init__(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.data.chmod(0o700)  # people's numbers and passwords are in there
        self._settings = settings
        self._seen = self._tried = signature(settings.registry)
        self._compile_first()
        database = open_database(settings.data / "desk.sqlite")
        upgrade(database)
        database.dispose()
        self._broker: Mosquitto | Iotcore | None = None
        self._broker_not_before = 0.0
        anchor = Anchor.drop(self._last_time())
        environment = {VARIABLE: str(anchor)} if not settings.clock else {}
        environment |= {"OPENBLAS_NUM_THREADS": "1"}  # we have no linear algebra, and its threads cost memory
        secret: dict[str, str] = {}
        if settings.broker is None:
            self._broker = embedded(settings.data / "broker", settings.broker_port, self._accounts())
            secret["FENGHUO_BROKER_PASSWORD"] = self._passwords()[COLLECTOR]
            url = f"mqtt://127.0.0.1:{settings.broker_port}"
            settings = settings.model_copy(update={"broker": Broker(url=url, user=COLLECTOR)})
        run = settings.data / "run.json"
        settings.save(run)
        self.children = [
            Child("judge", [sys.executable, "-m", "fenghuo.judge", str(run)], environment | secret),
            Child("serving", [sys.executable, "-m", "fenghuo.serving", str(run)], environment),
        ]
        self._heard = (0, 0)
        self._heard_at = stopwatch()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything alive until ``stop`` is set; then end it in the order in which readings flow."""
        try:
            while not stop.is_set():
                for work in (self._keep_broker, self._keep_children, self._watch_judge, self._follow_folder):
                    try:
                        work()
                    except (OSError, registry.versions.NoSuchVersion) as error:
                        log.error("supervisor_failed", at=work.__name__, why=str(error))  # tried again
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), WATCH)
        finally:
            for child in self.children:
                child.end()
            if self._broker is not None:
                self._broker.stop()

    def _keep_broker(self) -> None:
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

    def _keep_children(self) -> None:
        for child in self.children:
            child.keep()

    def _watch_judge(self) -> None:
        """Kill a judge that stands still: it has said something since its start, and then no more."""
        said = status.read(self._settings.status)
        heard = (said.pid, said.number) if said is not None else (0, 0)
        watch = stopwatch()
        if heard != self._heard:
            self._heard, self._heard_at = heard, watch
        [judge, _] = self.children
        if heard[0] == judge.pid and watch - self._heard_at > HUNG:
            log.error("judge_hangs", seconds=round(watch - self._heard_at))
            judge.kill()
            self._heard_at = watch

    def _last_time(self) -> int:
        """The last durable time, µs; 0 if there is none yet."""
        try:
            with Journal(self._settings.journal, reserve=self._settings.journal_reserve) as journal:
                return journal.last_time
        except JournalUnwritable as error:
            log.error("journal_unwritable", why=str(error))  # the judge goes on saying so
            said = status.read(self._settings.status)
            return said.time if said is not None else 0

    def _compile(self) -> None:
        self._registry: Registry = compile_folder(self._settings.registry)
        registry.versions.save(self._settings.versions, self._registry)
        registry.versions.want(self._settings.versions, self._registry.version)
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
            self._refuse(error)
            self._registry = registry.versions.load(versions, wanted)

    def _refuse(self, error: RegistryErrors) -> None:
        log.error("registry_refused", mistakes=[str(mistake) for mistake in error.mistakes])
        self._settings.refused.write_text(str(error), "utf-8")

    def _follow_folder(self) -> None:
        """Compile the folder anew when it has changed and has stood still between two looks."""
        seen = signature(self._settings.registry)
        settled, self._seen = seen == self._seen, seen
        if not settled or seen == self._tried:
            return
        begun = stopwatch()
        try:
            self._compile()
            if self._broker is not None:
                self._broker.accounts = self._accounts()
                self._broker.write()
        except RegistryErrors as error:
            self._refuse(error)
        else:
            log.info(
                "registry_compiled", version=self._registry.version, seconds=round(stopwatch() - begun, 2)
            )
        self._tried = seen

    def _passwords(self) -> dict[str, str]:
        gateways = [gateway_user(gateway.enterprise, gateway.id) for gateway in self._registry.gateways]
        return passwords(self._settings.data / "broker" / "passwords", [COLLECTOR, *gateways])

    def _accounts(self) -> tuple[Account, ...]:
        (self._settings.data / "broker").mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = self._passwords()
        return (
            collector_account(secret[COLLECTOR]),
            *(
                gateway_account(g.enterprise, g.id, secret[gateway_user(g.enterprise, g.id)])
                for g in self._registry.gateways
            ),
        )


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Differs when any file of the folder was changed, added or removed."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed while we looked: the next look sees it
            entry = path.stat()
            found.append((str(path), entry.st_mtime_ns, entry.st_size))
    return tuple(found)
