"""The compiler: from the registry's database and the rulebook to the version that is wanted, after every change."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import structlog
from sqlalchemy import Engine

from fenghuo import refusal
from fenghuo.settings import Settings
from ingest.broker import PasswordsBroken
from registry import store_tables, versions
from registry.clock import stopwatch
from registry.compile import compile_source
from registry.database import DatabaseError
from registry.exchange import differs, import_folder
from registry.mistakes import Mistake, RegistryErrors
from registry.model import Registry
from registry.store import RegistryStore
from registry.versions import BrokenVersion, NoSuchVersion
from streams import configuration
from streams.rulebook import Rulebook
from streams.rulebook_file import SHIPPED
from streams.rulebook_file import read as read_rulebook
from streams.rulebook_lint import scopes
from streams.templates import strangers

log = structlog.get_logger()

Written: TypeAlias = tuple[tuple[str, int, int], ...]
"""(path, time of change, size) of files."""

TakingForce: TypeAlias = Callable[[Registry], AbstractContextManager[None]]
"""Around the moment in which a registry is wanted: what hangs on it is made ready before, and in use after."""


class NoRegistry(LookupError):
    """The registry is empty, and no folder is named that would fill it."""


class Wanting(Protocol):
    """Where it is said which version should take force."""

    def wanted(self) -> str | None:
        """The version that should; None if none was ever wanted. What the folder of versions lacks of it is fetched.

        Raises NoSuchVersion, BrokenVersion, DatabaseError, or OSError.
        """
        ...

    def want(self, version: str, edit: int) -> bool:
        """It should be this one, which is in the folder of versions, compiled of this edit; False if another should,
        of a newer one. Raises likewise, and DatabaseError where what ``wanted`` gave last is not wanted any more."""
        ...


class Local:
    """A folder that nobody shares."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wanted(self) -> str | None:
        return versions.wanted(self._folder)

    def want(self, version: str, edit: int) -> bool:
        versions.want(self._folder, version)
        return True


class Compiler:
    """Compiles the registry when it was edited, and when files that hang on it were changed.

    Attributes:
        registry: what was compiled last, or was in force at the start.
        refused: the mistakes are in the file ``settings.refused`` while there are any.

    Args:
        who: is named where the registry is filled. watched: files that are looked at beside the rulebook.
        taking_force: see TakingForce; what it raises before keeps the registry from being wanted.
        brought: file that remembers which rulebook was brought, so that a start does not bring it again, where another
            may have brought a newer one; None: every start brings its own.
    """

    registry: Registry

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        wanting: Wanting,
        *,
        who: str = "serve",
        watched: Sequence[Path] = (),
        taking_force: TakingForce = lambda _: contextlib.nullcontext(),
        brought: Path | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = RegistryStore(engine)
        self._wanting = wanting
        self._who = who
        self._watched = watched
        self._taking_force = taking_force
        self._seen = self._written()
        self._tried = (-1, self._seen)
        self._filled = False
        self._compiled = -1  # the edit that the registry in hand was compiled of
        self._brought_file = brought
        self._brought = _read(brought)  # the version of the rulebook that was read, and then wanted by us

    def begin(self, now: int) -> None:
        """With the version that was in force; the registry is compiled here only where there is none.

        Raises NoRegistry, RegistryErrors, DatabaseError: there is none, or it has mistakes, and no version to go on
        with.
        """
        before = self._in_force()
        try:
            self.fill(now)
            if before is None:
                newest = self._store.newest()
                self.compile()
                self._tried = (newest, self._seen)
        except (RegistryErrors, NoRegistry, DatabaseError) as error:
            if before is None:
                raise
            self.refuse(str(error))
        if before is not None:
            self.registry = before

    def fill(self, now: int) -> None:
        """Make the tables; an empty registry takes what the folder says that the settings name, which later is not
        looked at. Raises NoRegistry, RegistryErrors, DatabaseError, or OSError."""
        store_tables.upgrade(self._engine)
        folder = self._settings.registry
        if self._store.newest():
            return
        if folder is None:
            raise NoRegistry(self._how_to_fill())
        import_folder(
            self._store, folder, who=self._who, why="first start", now=now, origin="serve", replace=True
        )
        self._filled = True
        log.info("registry_imported", folder=str(folder))

    def compile(self) -> None:
        """Compile the registry; nothing of it is wanted before all that hangs on it is known to be right.

        Where the rulebook is wrong, or lacks what points name, the registry's edits take force with the rulebook
        that is in force. Points that name a template which that has not are judged as others of their kind: one
        slip does not hold up the edits of all others. Raises RegistryErrors with all of these, all the same.

        A rulebook is brought once: where others bring theirs too, the last that was changed stays in force.
        """
        before = self._rulebook_in_force()
        mistakes: list[Mistake] = []
        read: Rulebook | None = None
        try:
            read = rulebook = read_rulebook(self._settings.rulebook or SHIPPED)
        except RegistryErrors as error:
            if before is None:
                raise
            mistakes, rulebook = [*error.mistakes], before
        if before is not None and rulebook.version == self._brought:
            rulebook = before  # ours, or one that another has brought since
        if self._store.newest() != self._compiled:
            compiled = compile_source(self._store.load())
            edit = self._store.loaded
        else:
            compiled, edit = self.registry, self._compiled
        strange = strangers(compiled, rulebook)
        if before is None and strange:
            raise RegistryErrors(strange)
        if before is not None and len(fewer := strangers(compiled, before)) < len(strange):
            rulebook, mistakes, strange = before, [*mistakes, *strange], fewer
        mistakes += [*strange, *self._too_wide(compiled, rulebook)]
        with self._taking_force(compiled):
            version = configuration.save(self._settings.versions, compiled, rulebook)
            if self._wanting.want(version, edit) and rulebook is read:
                self._bring(rulebook.version)
            self.registry, self._compiled = compiled, edit
        if mistakes:
            raise RegistryErrors(mistakes)
        self._settings.refused.unlink(missing_ok=True)

    def _bring(self, version: str) -> None:
        """Remember it. Raises OSError."""
        if version != self._brought and self._brought_file is not None:
            fresh = self._brought_file.with_suffix(".new")
            fresh.write_text(version, "utf-8")
            fresh.replace(self._brought_file)
        self._brought = version

    def _too_wide(self, compiled: Registry, rulebook: Rulebook) -> list[Mistake]:
        """A mistake for each compound rule that looks wider than the cells that a cluster judges apart."""
        cluster = self._settings.cluster
        if cluster is None or cluster.shards == 1:
            return []
        problems = scopes(rulebook, compiled, cluster.shard_level)
        expected = f"a scope within a cell of level {cluster.shard_level!r} (`cluster.shard_level`)"
        return [Mistake(problem.where, 0, "scope", problem.text, expected) for problem in problems]

    def follow(self) -> None:
        """Compile anew after an edit, and when watched files have changed and then stood still.

        Mistakes are refused, and the version in force goes on. Raises OSError, DatabaseError, NoSuchVersion: try
        again.
        """
        seen = self._written()
        settled, self._seen = seen == self._seen, seen
        newest = self._store.newest()
        if not settled or (newest, seen) == self._tried:
            return
        begun = stopwatch()
        try:
            self.compile()
        except (RegistryErrors, PasswordsBroken) as error:
            self.refuse(str(error))
        except (OSError, DatabaseError, NoSuchVersion):
            raise  # the machine's fault: tried again
        except Exception as error:  # a fault of ours is told; the version in force goes on
            log.error("registry_failed", exc_info=error)
            self.refuse(f"{type(error).__name__}: {error}")
        else:
            log.info(
                "registry_compiled",
                version=self.registry.version,
                edit=newest,
                seconds=round(stopwatch() - begun, 2),
            )
        self._tried = (newest, seen)

    def refuse(self, mistakes: str) -> None:
        """Log them, and leave them where they are looked for. Raises OSError."""
        log.error("registry_refused", mistakes=mistakes.splitlines())
        refusal.write(self._settings.refused, mistakes)

    def compare_folder(self) -> None:
        """Say it if the folder that the settings name says something else than the registry."""
        if self._settings.registry is None or self._filled:
            return
        try:
            if not differs(self._store, self._settings.registry):
                return
        except (OSError, DatabaseError, RegistryErrors) as error:
            log.warning("registry_folder_not_read", why=str(error).splitlines()[0])
        except Exception as error:
            log.error("registry_folder_not_compared", exc_info=error)
        else:
            log.warning("registry_folder_differs", folder=str(self._settings.registry), use="the database")

    def _how_to_fill(self) -> str:
        if self._settings.cluster is None:
            return (
                "the registry is empty: give --registry FOLDER, or use `fenghuo registry import FOLDER --data "
                f"{self._settings.data}`"
            )
        return "the registry is empty: name a folder that fills it, as `registry` in the settings, and start again"

    def _rulebook_in_force(self) -> Rulebook | None:
        try:
            wanted = self._wanting.wanted()
            return configuration.load_rulebook(self._settings.versions, wanted) if wanted else None
        except (NoSuchVersion, BrokenVersion):  # of another Fenghuo
            return None

    def _in_force(self) -> Registry | None:
        """What an earlier run left in force; None if there is none, or none that this Fenghuo can read."""
        try:
            wanted = self._wanting.wanted()
            return configuration.load(self._settings.versions, wanted).registry if wanted else None
        except (NoSuchVersion, BrokenVersion) as error:
            log.warning("version_not_usable", why=str(error))
            return None

    def _written(self) -> Written:
        """Differs when the rulebook or a watched file was changed."""
        rulebook = self._settings.rulebook
        files = [*self._watched]
        if rulebook is not None:
            files += [rulebook, *sorted(rulebook.glob("*.yaml"))]
        found = []
        for path in files:
            with contextlib.suppress(FileNotFoundError):  # not there, or removed while we looked
                entry = path.stat()
                found.append((str(path), entry.st_mtime_ns, entry.st_size))
        return tuple(found)


def _read(file: Path | None) -> str:
    """What it says; "" where there is none yet. Raises OSError."""
    try:
        return file.read_text("utf-8") if file is not None else ""
    except FileNotFoundError:
        return ""
