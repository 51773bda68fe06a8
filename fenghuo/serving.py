"""The serving process: the HTTP API and the sender of notices; no report of it can delay an alert."""

import asyncio
import signal
import sys
from pathlib import Path

import structlog
import uvicorn

import registry.versions
from alerting.channels import Channel, ChannelSettings, HttpChannel
from alerting.database import open_database
from alerting.desk import Desk
from alerting.sender import Sender
from console.api import Dependencies, create_app
from fenghuo import status
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ClockLost, ControlledClock
from fenghuo.logs import configure
from fenghuo.settings import Settings
from registry.clock import Clock, SystemClock, pause
from registry.model import Registry

log = structlog.get_logger()

WATCH = 0.25
"""Seconds of real time between two looks at the registry version and the clock."""


class Serving:
    """What the process holds: one desk, one sender, one application."""

    def __init__(self, settings: Settings, clock: Clock, registry_in_force: Registry) -> None:
        self.settings = settings
        self.clock = clock
        self.registry = registry_in_force
        self.database = open_database(settings.data / "desk.sqlite")
        self.desk = Desk(self.database, self.registry)
        self.sender = Sender(self.database, clock, open_channels(settings))

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
    """Run the API and the sender until ``stop`` is set."""
    app = create_app(
        Dependencies(
            desk=serving.desk,
            database=serving.database,
            registry=lambda: serving.registry,
            clock=serving.clock,
            journal=serving.settings.journal,
            values=serving.settings.values,
            status=lambda: status.read(serving.settings.status),
            sender=serving.sender.counts,
        )
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            serving.settings.host,
            serving.settings.port,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        tasks.create_task(serving.sender.run(stop))
        tasks.create_task(_watch(serving, stop))
        await stop.wait()
        server.should_exit = True


async def _watch(serving: Serving, stop: asyncio.Event) -> None:
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
