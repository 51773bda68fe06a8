"""The historian of `fenghuo serve`: reads the journal for each home of history; nothing that it does delays an alert.

Each home has a thread and its own place in the journal. One that does not take anything is waited for, the journal
keeps what it lacks, and the others go on.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from sqlite3 import OperationalError

import structlog

import registry.versions
from fenghuo import status
from fenghuo.anchor import shared_anchor
from fenghuo.historian_status import HistorianStatus, HomeStatus
from fenghuo.logs import configure
from fenghuo.retry import Retry
from fenghuo.settings import Influx, Settings, SettingsError
from fenghuo.stopping import Stop
from history.catalogue import CatalogueDamaged
from history.home import Home, HomeAway
from history.source import chunks, end
from history.store import Keep, ParquetHome
from ingest.journal_file import JournalDamaged, JournalUnreadable
from registry.clock import SystemClock, stopwatch
from registry.model import Registry
from registry.versions import BrokenVersion, NoSuchVersion

LOOK = 1.0
"""Seconds of real time between two looks into the journal."""

TOLD = 1.0
"""Seconds of real time between two words on how it is, while nothing changes."""

HEED = 0.1
"""Seconds of real time in which a change is seen, to be told."""

EVERY = 8
"""Chunks that a home is given between two of its own works, while it is behind."""

SPARE = 8
"""Times the journal's reserve that history leaves free on the disk: it stops long before alerts have to."""

CANNOT_OPEN = (HomeAway, CatalogueDamaged, SettingsError, OSError, OperationalError)
CANNOT_READ = (
    HomeAway,
    JournalDamaged,
    JournalUnreadable,
    NoSuchVersion,
    BrokenVersion,
    OSError,
    OperationalError,
)

log = structlog.get_logger()


class Reading:
    """One home, and its way through the journal; both belong to the thread that runs it.

    Args:
        name: of the home. open_home: raises CANNOT_OPEN. load: raises NoSuchVersion, BrokenVersion, OSError.
    """

    def __init__(
        self, name: str, open_home: Callable[[], Home], journal: Path, load: Callable[[str], Registry]
    ) -> None:
        self.name = name
        self._open, self._journal, self._load = open_home, journal, load
        self._retry = Retry()
        self._problem = ""
        self._position = self._time = self._lost = 0
        self._counts: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Read on until stopped; what is taken by then is made durable. Whatever fails, it is begun again."""
        while not stop.is_set():
            try:
                home = self._open()
                self._position = home.position
                try:
                    self._follow(home, stop)
                finally:
                    home.close()
            except CANNOT_OPEN as error:
                self._fails(str(error))
            except Exception as error:
                log.exception("history_failed", home=self.name)
                self._fails(f"{type(error).__name__}: the log says more")  # its own words might hold a secret
            self._retry.wait(stop)

    def status(self) -> HomeStatus:
        return HomeStatus(
            position=self._position,
            time=self._time,
            problem=self._problem,
            lost=self._lost,
            counts=self._counts,
        )

    def _follow(self, home: Home, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                more = self._read(home, stop)
            except CANNOT_READ as error:
                self._fails(str(error))
                self._relieve(home)
                self._retry.wait(stop)
            else:
                self._retry.done()
                if not more:
                    stop.wait(LOOK)
        try:
            home.flush()
        except HomeAway as error:
            log.warning("history_not_flushed", home=self.name, why=str(error))  # the journal has it

    def _relieve(self, home: Home) -> None:
        try:
            home.relieve()
        except (HomeAway, OperationalError) as error:
            log.warning("history_not_relieved", home=self.name, why=str(error))

    def _read(self, home: Home, stop: threading.Event) -> bool:
        """Up to the end of the journal as it is now, then one of the home's own works; whether there may be more of
        these. Raises CANNOT_READ.
        """
        if (newest := end(self._journal)) < home.taken:
            raise HomeAway(
                f"the journal ends at {newest}, before what history has ({home.taken}): was it restored from a backup? "
                "Stop Fenghuo, move the home's data away or restore them from the same backup, and start it"
            )
        for number, chunk in enumerate(chunks(self._journal, home.taken, self._load)):
            before = home.taken
            home.append(chunk)
            if before and (gap := chunk.first - before - 1) > 0:
                log.error("history_lost", home=self.name, first=before + 1, last=chunk.first - 1)
                self._lost += gap
            self._time = chunk.time
            self._works(home)
            if stop.is_set():
                return False
            if number % EVERY == EVERY - 1:
                home.maintain()
        self._works(home)
        return home.maintain()

    def _fails(self, why: str) -> None:
        if not self._problem:
            log.error("history_does_not_take", home=self.name, why=why)
        self._problem = why

    def _works(self, home: Home) -> None:
        if self._problem:
            log.info("history_takes_again", home=self.name)
        self._problem, self._position, self._counts = "", home.position, dict(home.counts)


class Versions:
    """Registries by version; those that differ in their rulebook only are the same object."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest: Registry | None = None
        self._lock = threading.Lock()  # the homes' threads share it

    def load(self, version: str) -> Registry:
        """Raises NoSuchVersion, BrokenVersion, OSError."""
        part = partial(registry.versions.part, kind=registry.versions.REGISTRY)
        with self._lock:
            if self._newest is None or part(self._newest.version) != part(version):
                self._newest = registry.versions.load(self._folder, version)
            return self._newest


def homes(settings: Settings) -> dict[str, Callable[[], Home]]:
    """What opens those that the settings name."""
    history = settings.history
    found: dict[str, Callable[[], Home]] = {}
    if history.embedded:
        keep = Keep(history.readings_days, history.minutes_days, history.hours_days)
        spare = SPARE * settings.journal_reserve
        found["parquet"] = lambda: ParquetHome(settings.history_folder, keep, spare)
    if history.influx is not None:
        found["influxdb"] = partial(_influx, history.influx, settings.history_folder)
    return found


def _influx(influx: Influx, folder: Path) -> Home:
    try:
        from history.influx import InfluxHome  # an extra: who needs it not is spared it
    except ModuleNotFoundError as error:
        raise HomeAway(
            f"history.influx: {error.name} is missing; to get it: pip install 'fenghuo[influx]'"
        ) from error
    return InfluxHome(influx.access, folder, SystemClock(shared_anchor()))


def main(settings_file: Path) -> None:
    """Run by the settings in a file, until SIGTERM."""
    configure()
    os.nice(5)  # judge and notices come first
    settings = Settings.model_validate_json(settings_file.read_text("utf-8"))
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when
    load = Versions(settings.versions).load
    readings = [Reading(name, make, settings.journal, load) for name, make in homes(settings).items()]
    threads = [threading.Thread(target=one.run, args=(stop,), name=one.name) for one in readings]
    for thread in threads:
        thread.start()
    number, due = 0, 0.0
    told: dict[str, HomeStatus] = {}
    while not stop.is_set():
        stand = {one.name: one.status() for one in readings}
        if stand != told or stopwatch() >= due:
            number, told, due = number + 1, stand, stopwatch() + TOLD
            said = HistorianStatus(pid=os.getpid(), number=number, homes=stand)
            try:
                status.write(settings.history_status, said)
            except OSError as error:
                log.error("status_not_written", why=str(error))
        stop.wait(HEED)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
