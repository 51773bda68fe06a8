"""Configurations by version, from the cluster's database: loaded beside the work, kept while they are needed."""

import asyncio
import gc
from pathlib import Path

import structlog
from sqlalchemy import Engine

from registry import shared_versions
from registry.clock import pause
from registry.database import DatabaseError
from registry.versions import BrokenVersion, NoSuchVersion
from streams import configuration
from streams.configuration import Configuration

AGAIN = 1.0
"""Seconds before a version that could not be had is asked for again."""

LOOK = 0.5
"""Seconds between two looks at what is wanted, so that it is in hand when it takes force."""

KEPT = 4

log = structlog.get_logger()


class Configurations:
    """Args: folder: where versions are kept on this machine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._loaded: dict[str, Configuration] = {}
        self._loading: dict[str, asyncio.Task[Configuration]] = {}

    async def get(self, version: str) -> Configuration:
        """The configuration; waits until it can be had."""
        if (found := self._loaded.get(version)) is not None:
            return found
        if (loading := self._loading.get(version)) is None:
            loading = self._loading[version] = asyncio.create_task(self._load(version))
        try:
            return await asyncio.shield(loading)
        finally:
            if loading.done():
                self._loading.pop(version, None)

    async def follow(self) -> None:
        """Have at hand what is wanted, for ever."""
        while True:
            try:
                wanted = await asyncio.to_thread(shared_versions.wanted, self._engine)
                if wanted is not None:  # one that cannot be had must not keep us from the next
                    await asyncio.wait_for(self.get(wanted.version), LOOK)
            except (DatabaseError, TimeoutError):
                pass  # `get` says so, where somebody waits for a version
            await pause(LOOK)

    async def _load(self, version: str) -> Configuration:
        told = ""
        while True:
            try:
                found = await asyncio.to_thread(self._read, version)
            except (DatabaseError, NoSuchVersion, BrokenVersion, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    log.error("version_not_loaded", version=version, why=told)
                await pause(AGAIN)
            else:
                gc.freeze()  # it stays: no collection has to look at it while readings wait
                self._loaded[version] = found
                while len(self._loaded) > KEPT:
                    self._loaded.pop(next(iter(self._loaded)))
                return found

    def _read(self, version: str) -> Configuration:
        newest = next(reversed(self._loaded.values()), None)
        like = newest.registry if newest is not None else None
        try:
            return configuration.load(self._folder, version, like)
        except (NoSuchVersion, BrokenVersion):
            shared_versions.fetch(self._engine, self._folder, version)
            return configuration.load(self._folder, version, like)
