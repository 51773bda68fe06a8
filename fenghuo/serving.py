"""The serving process: the HTTP API and the sender of notices; no report of it can delay an alert."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import structlog
import uvicorn

import registry.versions
from alerting import store
from alerting.channels import Channel, ChannelSettings, HttpChannel
from alerting.database import open_database, reading
from alerting.desk import Desk, DeskBusy, DeskUnwritable
from alerting.sender import Sender
from console.api import Dependencies, create_app
from fenghuo import status
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ClockLost, ControlledClock
from fenghuo.logs import configure
from fenghuo.settings import Settings
from fenghuo.system_findings import SystemFindings
from registry.clock import Clock, SystemClock, pause, stopwatch
from registry.model import Registry
from streams.finding import Finding

log = structlog.get_logger()

WATCH = 0.25
"""Seconds of real time between two looks at the registry version and the judge."""

AGAIN = 5.0
"""Seconds of real time before a port that was taken is tried again."""

DEAD = 30.0
"""Seconds of real time without a word after which the judge is taken for dead."""


class Serving:
    """What the process holds: one desk, one sender, one application."""

    def __init__(self, settings: Settings, clock: Clock, registry_in_force: Registry) -> None:
        self.settings = settings
        self.clock = clock
        self.registry = registry_in_force
        self.database = open_database(settings.data / "desk.sqlite")
        self.desk = Desk(self.database, self.registry)
        self.sender = Sender(self.database, clock, open_channels(settings))
        self._system = SystemFindings(self._opened())
        self._heard, self._heard_at = (0, 0), stopwatch()

    def follow_registry(self) -> None:
        """Take over the version that the judge has put in force."""
        said = status.read(self.settings.status)
        if said is None or said.version == self.registry.version:
            return
        try:
            self.registry = registry.versions.load(self.settings.versions, said.version)
        except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion) as error:
            log.error("registry_not_followed", why=str(error))  # the next look tries again
            return
        self.desk.set_registry(self.registry)
        log.info("registry_followed", version=said.version)

    def watch_judge(self, watch: float) -> None:
        """Tell the administrator of a judge that has died or stands still; it can't say so itself."""
        said = status.read(self.settings.status)
        heard = (said.pid, said.number) if said is not None else (0, 0)
        if heard != self._heard:
            self._heard, self._heard_at = heard, watch
        silent = watch - self._heard_at
        why = f"the judging process has said nothing for {DEAD:.0f} s" if silent > DEAD else ""
        findings = self._system.holds("system.judge", self.clock.now(), why)
        if not findings:
            return
        log.error("judge_silent" if why else "judge_heard_again")
        try:
            self.desk.round(findings, None, self.clock.now())
        except (DeskBusy, DeskUnwritable) as error:
            log.error("desk_does_not_take", why=str(error))
            self._system = SystemFindings(self._opened())  # said again at the next look

    def _opened(self) -> list[Finding]:
        with reading(self.database) as connection:
            return [f for f in store.open_system_findings(connection) if f.rule == "system.judge"]


def open_channels(settings: Settings) -> dict[str, Channel]:
    """The channels that the settings name. Raises ChannelError, which says what is wrong with one."""
    return {
        name: HttpChannel.open(
            ChannelSettings(
                name=name,
                base=channel.url,
                secret_file=str(channel.secret_file or ""),
                secret_env=channel.secret_env,
            )
        )
        for name, channel in settings.channels.items()
    }


async def serve(serving: Serving, stop: asyncio.Event) -> None:
    """Run the sender, the watch and the API until ``stop`` is set. The API shares no fate with the sender."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serving.sender.run(stop))
        tasks.create_task(_watch(serving, stop))
        tasks.create_task(_api(serving, stop))


async def _api(serving: Serving, stop: asyncio.Event) -> None:
    """The HTTP server; where its port is taken it tries again, and notices go out meanwhile."""
    settings = serving.settings
    app = create_app(
        Dependencies(
            desk=serving.desk,
            database=serving.database,
            registry=lambda: serving.registry,
            clock=serving.clock,
            journal=settings.journal,
            values=settings.values,
            status=lambda: status.read(settings.status),
            sender=serving.sender.counts,
        )
    )
    while not stop.is_set():
        try:
            listener = socket.create_server((settings.host, settings.port), family=_family(settings.host))
        except OSError as error:
            log.error("api_does_not_listen", where=settings.listen, why=str(error))
            await pause(AGAIN)
            continue
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        with listener:
            running = asyncio.ensure_future(server.serve(sockets=[listener]))
            await stop.wait()
            server.should_exit = True
            await running


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
    while not stop.is_set():
        serving.follow_registry()
        await asyncio.to_thread(serving.watch_judge, stopwatch())
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
