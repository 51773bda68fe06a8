"""The serving process: the HTTP API and the sender of notices; no report of it can delay an alert."""

import asyncio
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import structlog
import uvicorn

import registry.versions
from alerting import store
from alerting.desk import DatabaseBusy, DatabaseUnwritable, Desk
from alerting.sender import Sender
from console.api import Dependencies, create_app
from fenghuo import historian_status, status
from fenghuo.anchor import shared_anchor
from fenghuo.channels import open_channels
from fenghuo.clock_socket import ClockLost, ControlledClock
from fenghuo.logs import configure
from fenghuo.settings import Settings, SettingsError
from fenghuo.standstill import Illness
from history.course import HistoryReader
from registry.clock import SECOND, Clock, SystemClock, pause, stopwatch
from registry.database import STANDING, open_database, reading
from registry.model import Registry
from registry.store import RegistryStore
from streams.finding import Finding
from streams.system_findings import SystemFindings

log = structlog.get_logger()

WATCH = 0.25
"""Seconds of real time between two looks at the registry version and the judge."""

AGAIN = 5.0
"""Seconds of real time before a port that was taken, or a part that failed, is tried again."""

HISTORY_BEHIND = 60 * SECOND
"""How far a home may be behind the judge without coming forward from one look to the next, µs."""

HISTORY_LOOK = 5.0
"""Seconds of real time between two looks at the historian, who says something every second."""

DEAD = 30.0
"""Seconds of real time without a word after which the judge is taken for dead."""

HISTORY_STUCK = 600.0
"""Seconds of real time without a word of the historian, or with a home that takes nothing, that an administrator is
told of: the journal has what it lacks."""

OFTEN, LATELY = 5, 600.0
"""Starts of a judge within so many seconds of real time at which it counts as one that keeps dying."""


WATCHED = {"system.judge": "judge", "system.history": "historian"}
"""What this process tells of others, and how its log calls them."""


class Serving:
    """What the process holds. The API has its own connections to the database, so that no number of callers
    can keep the sender, or the watch over the judge, waiting for one."""

    def __init__(self, settings: Settings, clock: Clock, registry_in_force: Registry) -> None:
        self.settings = settings
        self.clock = clock
        self.registry = registry_in_force
        self.database = open_database(settings.desk_database, thinking=STANDING)
        self.desk = Desk(self.database, self.registry)
        self._history = self._open_history()
        self._registry_database = open_database(settings.registry_database)
        self.store = RegistryStore(self._registry_database)
        own = open_database(settings.desk_database, thinking=STANDING)
        self.sender = Sender(own, clock, open_channels(settings))
        self._own, self._own_desk = own, Desk(own, self.registry)
        self._opened: list[Finding] | None = None  # None: what is open has yet to be read
        self._systems: dict[str, SystemFindings] = {}  # by subject
        self._word = self._judge()  # of a judge that may be dead by now: it counts as nothing heard
        self._heard_at, self._heard = stopwatch(), False
        self._starts: deque[float] = deque(maxlen=OFTEN)
        self._history_reached: dict[
            str, int
        ] = {}  # by home: the arrival time that it had come to at most, µs
        self._history_well_at = stopwatch()

    def dependencies(self) -> Dependencies:
        """What the API stands on."""
        return Dependencies(
            desk=self.desk,
            database=self.database,
            registry=lambda: self.registry,
            clock=self.clock,
            journal=self.settings.journal,
            values=self.settings.values,
            status=lambda: status.read(self.settings.status),
            sender=self.sender.counts,
            store=self.store,
            history=self._history,
        )

    def _open_history(self) -> HistoryReader | None:
        """The files where they are kept, since they know more; else InfluxDB."""
        if self.settings.embeds_history:
            from history.reader import Reader  # it takes a quarter of a second: who needs it not is spared it

            return Reader(self.settings.history_folder)
        if (influx := self.settings.history.influx) is None:
            return None
        try:
            from history.influx_reader import InfluxReader  # an extra

            return InfluxReader(influx.access, lambda: self.registry, self.clock)
        except ModuleNotFoundError as error:
            why = f"{error.name} is missing; to get it: pip install 'fenghuo[influx]'"
        except SettingsError as error:  # its token cannot be read
            why = str(error)
        log.error("history_cannot_be_asked", why=f"history.influx: {why}")  # alerts can
        return None

    def follow_registry(self) -> None:
        """Take over the version that the judge has put in force."""
        said = self._said()
        if said is None or said.version == self.registry.version:
            return
        try:
            self.registry = registry.versions.load(self.settings.versions, said.version, like=self.registry)
        except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion, OSError) as error:
            log.error("registry_not_followed", why=str(error))  # the next look tries again
            return
        self.set_registry(self.registry)
        log.info("registry_followed", version=said.version)

    def set_registry(self, in_force: Registry) -> None:
        """Serve by this registry from now on."""
        self.registry = in_force
        self.desk.set_registry(in_force)
        self._own_desk.set_registry(in_force)

    def watch_judge(self, watch: float) -> None:
        """Tell the administrator of a judge that has died or stands still; it can't say so itself."""
        self._tell({"system": Illness(self._illness(watch))})

    def watch_history(self, watch: float) -> None:
        """Tell the administrator of a historian that writes nothing."""
        why = self._history_ill() if self.settings.has_historian else ""
        if not why:
            self._history_well_at = watch
        stuck = watch - self._history_well_at > HISTORY_STUCK
        self._tell({"system": Illness(why if stuck else None if why else "")}, "system.history")

    def _history_ill(self) -> str:
        """Why a home does not come forward, though the judge does; "" if all do. A word that it works is none."""
        try:
            said = historian_status.read(self.settings.history_status)
        except OSError as error:
            return f"its status cannot be read: {error}"
        judge = self._said()
        if said is None or not said.homes or judge is None:
            return "the historian says nothing" if judge is not None else ""
        stands = []
        for name, home in said.homes.items():
            before = self._history_reached.get(name, 0)
            self._history_reached[name] = max(before, home.time)
            if home.problem or (home.time <= before and judge.time - before > HISTORY_BEHIND):
                stands.append(f"{name}: {home.problem or 'it does not come forward'}")
        return "; ".join(stands)

    def _tell(self, ills: Mapping[str, Illness], rule: str = "system.judge") -> None:
        """Of each subject why it does not work; what is not new is not told."""
        try:
            if self._opened is None:
                with reading(self._own) as connection:
                    opened = store.open_system_findings(connection)
                self._opened, self._systems = [f for f in opened if f.rule in WATCHED], {}
            now = self.clock.now()
            findings = []
            for subject, ill in ills.items():
                if subject not in self._systems:
                    self._systems[subject] = SystemFindings(self._opened, subject)
                said = self._systems[subject].holds(rule, now, ill.why, ill.since)
                if said and ill.why:
                    log.error(f"{WATCHED[rule]}_ill", why=ill.why, what=subject)
                elif said:
                    log.info(f"{WATCHED[rule]}_well_again", what=subject)
                findings += said
            if findings:
                self._own_desk.round(findings, None, now)
        except BaseException as error:
            self._opened = None  # said again at the next look
            if not isinstance(error, DatabaseBusy | DatabaseUnwritable):
                raise
            log.error("desk_does_not_take", why=str(error))

    def close(self) -> None:
        """Let go of the database."""
        self.database.dispose()
        self._registry_database.dispose()
        self._own.dispose()
        if self._history is not None:
            self._history.close()

    def _illness(self, watch: float) -> str | None:
        """Why the judge is not at work, "" if it is, None while too little has been heard to know."""
        word = self._judge()
        if word is not None and word != self._word:
            if self._word is None or word[0] != self._word[0]:
                self._starts.append(watch)
            self._word, self._heard_at, self._heard = word, watch, True
        if watch - self._heard_at > DEAD:
            return f"the judging process has said nothing for {DEAD:.0f} s"
        if len(self._starts) == OFTEN and watch - self._starts[0] < LATELY:
            return f"the judging process keeps dying: {OFTEN} starts within {LATELY / 60:.0f} min"
        return "" if self._heard else None

    def _judge(self) -> tuple[int, int] | None:
        """The pid of the judge that last wrote its status, and how many times it has."""
        said = self._said()
        return (said.pid, said.number) if said is not None else None

    def _said(self) -> status.Status | None:
        try:
            return status.read(self.settings.status)
        except OSError as error:
            log.error("status_not_read", why=str(error))  # as good as a judge that says nothing
            return None


async def serve(serving: Serving, stop: asyncio.Event) -> None:
    """Run the sender, the watch and the API until ``stop`` is set. One that fails takes no other along."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep(serving.sender.run, stop))
        tasks.create_task(_keep(lambda stop: _watch(serving, stop), stop))
        tasks.create_task(_keep(lambda stop: _api(serving, stop), stop))


async def _keep(part: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    """Run a part until ``stop`` is set; one that fails is begun again after a while."""
    while not stop.is_set():
        running = asyncio.ensure_future(part(stop))
        await asyncio.wait([running])
        if error := running.exception():
            log.error("part_failed", exc_info=error)
            await _unless(stop, AGAIN)


async def _unless(stop: asyncio.Event, seconds: float) -> None:
    """Let real time pass, unless ``stop`` is set first."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: when to end is said by the supervisor, to the whole process."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


async def _api(serving: Serving, stop: asyncio.Event) -> None:
    """The HTTP server; where its port is taken, or it ends, it is tried again, and notices go out meanwhile."""
    settings = serving.settings
    app = create_app(serving.dependencies())
    while not stop.is_set():
        try:
            listener = socket.create_server((settings.host, settings.port), family=_family(settings.host))
        except OSError as error:
            log.error("api_does_not_listen", where=settings.listen, why=str(error))
            await _unless(stop, AGAIN)
            continue
        # asyncio sets it on its own sockets only
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        with listener:
            ending = asyncio.ensure_future(_end(server, stop))
            try:
                await server.serve(sockets=[listener])
            finally:
                ending.cancel()
        if not stop.is_set():
            log.error("api_ended")
            await _unless(stop, AGAIN)


async def _end(server: Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _watch(serving: Serving, stop: asyncio.Event) -> None:
    """Follow the clock, the registry in force, and whether the judge is alive."""
    loop = asyncio.get_running_loop()
    descriptor = serving.clock.fileno()
    if descriptor >= 0:

        def stepped() -> None:
            try:
                serving.clock.poll()
            except ClockLost:
                loop.remove_reader(descriptor)
                stop.set()
            else:
                serving.clock.rest()

        loop.add_reader(descriptor, stepped)
        serving.clock.rest()
    next_history = 0.0
    while not stop.is_set():
        serving.follow_registry()
        await asyncio.to_thread(serving.watch_judge, stopwatch())
        if (watch := stopwatch()) >= next_history:
            next_history = watch + HISTORY_LOOK
            await asyncio.to_thread(serving.watch_history, watch)
        await pause(WATCH)


def main(settings_file: Path) -> None:
    """Run the serving process by the settings in a file, until SIGTERM."""
    configure()
    settings = Settings.model_validate_json(settings_file.read_text("utf-8"))
    said = status.read(settings.status)
    version = said.version if said else registry.versions.wanted(settings.versions)
    if version is None:
        raise SystemExit("no registry version is wanted: `fenghuo serve` compiles one first")
    clock = ControlledClock(settings.clock, "serving") if settings.clock else SystemClock(shared_anchor())
    serving = Serving(settings, clock, registry.versions.load(settings.versions, version))

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor says when
        await serve(serving, stop)

    asyncio.run(run())
    serving.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
