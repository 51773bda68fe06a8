"""Following the registry version that a cluster wants, in a thread that holds up nobody."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy import Engine

import registry.versions
from registry import shared_versions
from registry.database import DatabaseBusy, DatabaseError, DatabaseUnwritable
from registry.model import Registry
from streams import configuration

LOOK = 0.25
"""Seconds of real time between two looks at which version is wanted."""

log = structlog.get_logger()


class VersionFollower:
    """The newest wanted version that could be loaded.

    Args:
        engine: of the database that says which is wanted, and that has its parts; disposed of by ``close``.
        folder: where parts are kept that were fetched once.
        told: called in the follower's thread when another version is loaded.
    """

    def __init__(self, engine: Engine, folder: Path, told: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._folder = folder
        self._told = told
        self._stop = threading.Event()
        self._loaded = threading.Event()
        self.registry: Registry | None = None  # with what templates give its points, as the engines judge it
        self.why = "no registry version is wanted yet: run `fenghuo registrar`"
        """Why the wanted version is not loaded; "" if it is."""
        self._thread = threading.Thread(target=self._run, name="version-follower", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> Registry | None:
        """The registry once there is one; None if there is none after so long."""
        self._loaded.wait(seconds)
        return self.registry

    def close(self) -> None:
        """End the thread, and let go of the database."""
        self._stop.set()
        self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        while True:
            self._look()
            if self._stop.wait(LOOK):
                return

    def _look(self) -> None:
        known = self.registry
        try:
            wanted = shared_versions.wanted(self._engine)
            if wanted is None or (known is not None and known.version == wanted.version):
                self._say("" if wanted is not None else self.why)
                return
            shared_versions.fetch(self._engine, self._folder, wanted.version)
            self.registry = configuration.load(self._folder, wanted.version, known).registry
        except (DatabaseBusy, DatabaseUnwritable, DatabaseError) as error:
            self._say(f"the database does not give the registry: {error}")
        except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion, OSError) as error:
            self._say(f"the wanted registry version cannot be loaded: {error}")
        else:
            gc.freeze()  # it stays: no collection has to look at it while an alert waits
            self._say("")
            log.info("registry_followed", version=wanted.version)
            self._loaded.set()
            self._told()

    def _say(self, why: str) -> None:
        """Why there is none; logged when it becomes another reason."""
        if why and why != self.why:
            log.error("registry_not_followed", why=why)  # the next look tries again
        self.why = why
