"""The registrar: compiles a cluster's registry and rulebook after every change, and publishes what should take force.

Any number may run: the version of the newest edit is wanted, whoever compiled it, with the rulebook that was changed
last on any of their machines.
"""

import threading
from pathlib import Path

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from alerting import store
from alerting.desk import Desk
from fenghuo import refusal
from fenghuo.attempts import Attempts
from fenghuo.compiler import Compiler, NoRegistry
from fenghuo.prepared import database_away, tables
from fenghuo.settings import Cluster, Settings
from registry import shared_versions
from registry.clock import HOUR, Clock, SystemClock
from registry.database import DatabaseBusy, DatabaseError, open_database, reading
from registry.mistakes import RegistryErrors
from registry.model import Registry
from registry.shared_versions import Wanted
from registry.versions import BrokenVersion, NoSuchVersion
from streams.system_findings import SystemFindings

WATCH = 0.25
"""Seconds of real time between two looks at registry and rulebook."""

DISCARD = HOUR
"""Time between two looks for versions that nobody needs any more, µs."""

log = structlog.get_logger()


class Registrar:
    """A process of its own, in one thread.

    Raises OSError where a password or its data folder cannot be read; it does not ask for the database before it runs.
    """

    def __init__(self, settings: Settings, cluster: Cluster, clock: Clock | None = None) -> None:
        self._settings, self._cluster = settings, cluster
        self._clock = clock or SystemClock()
        settings.data.mkdir(parents=True, exist_ok=True)
        settings.data.chmod(0o700)  # people's numbers are in there
        self._engine = open_database(settings.registry_database)
        shared = _Shared(self._engine, settings.versions, self._clock)
        brought = settings.data / "registrar-rulebook"
        self._compiler = Compiler(settings, self._engine, shared, who="registrar", brought=brought)
        said_by_database = (DatabaseError, DBAPIError, self._engine.dialect.loaded_dbapi.Error)
        versions = (NoSuchVersion, BrokenVersion)
        self._attempts = Attempts("registrar", OSError, *said_by_database, *versions, NoRegistry)
        self._begun = False
        self._refused = ""  # of the folder that fills the registry
        self._system: SystemFindings | None = None  # what is open has yet to be read
        self._discarded = self._clock.now()

    def ready(self, stop: threading.Event) -> bool:
        """Wait until the database can be asked; False if stopped before. Raises TablesOld, DatabaseTooNew."""
        return tables(self._cluster, self._engine, stop)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A database that is away, or an empty registry, is waited for."""
        while not stop.is_set():
            self.step()
            stop.wait(WATCH)

    def step(self) -> None:
        """One look at what has changed. To compile a whole city may take half a minute."""
        self._attempts.attempt("registry", self._look)
        self._attempts.attempt("tell", self._tell)
        self._attempts.attempt("discard", self._discard)

    def compile_once(self) -> Wanted:
        """Make the tables, fill an empty registry, compile and publish.

        Raises NoRegistry, RegistryErrors, DatabaseError, NoSuchVersion, BrokenVersion, OSError. Where only the
        rulebook or templates have mistakes, RegistryErrors says them, and the registry is published all the same.
        """
        self._compiler.fill(self._clock.now())
        self._compiler.compile()
        wanted = shared_versions.wanted(self._engine)
        assert wanted is not None  # it was published, or a newer one was
        return wanted

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _look(self) -> None:
        try:
            self._follow()
        except DatabaseBusy as error:
            raise DatabaseBusy(database_away(self._cluster, error)) from error

    def _follow(self) -> None:
        if not self._begun:
            try:
                self._compiler.fill(self._clock.now())
            except RegistryErrors as error:
                if str(error) != self._refused:
                    self._refused = str(error)
                    self._compiler.refuse(self._refused)
                raise NoRegistry(f"{self._settings.registry} has mistakes; it is read again") from error
            self._begun = True
        self._compiler.follow()

    def _tell(self) -> None:
        """The administrator of mistakes: as the local judge does, but into the desk's database."""
        registry: Registry | None = getattr(self._compiler, "registry", None)
        if registry is None:
            return  # nobody is known whom it could be told
        now, why = self._clock.now(), refusal.first(self._settings.refused)
        try:
            if self._system is None:
                with reading(self._engine) as connection:
                    opened = store.open_system_findings(connection)
                self._system = SystemFindings(opened, "registrar")
            if findings := self._system.holds("system.configuration", now, why):
                Desk(self._engine, registry).round(findings, None, now)
        except BaseException:
            self._system = None  # said again at the next look
            raise

    def _discard(self) -> None:
        """Versions that nothing which Kafka still keeps was judged by."""
        now = self._clock.now()
        if not self._begun or now - self._discarded < DISCARD:
            return
        kept = int(2 * self._cluster.retention_hours * HOUR)  # Kafka drops whole files, and so late
        keep = shared_versions.in_force_since(self._engine, now - kept)
        if gone := shared_versions.discard_all_but(self._engine, keep, now):
            log.info("versions_discarded", parts=gone)
        self._discarded = now


class _Shared:
    """Wanted is what the cluster's database says; the folder of versions is this machine's copy."""

    def __init__(self, engine: Engine, folder: Path, clock: Clock) -> None:
        self._engine, self._folder, self._clock = engine, folder, clock
        self._edition = 0  # that was wanted last, as far as we know

    def wanted(self) -> str | None:
        found = shared_versions.wanted(self._engine)
        self._edition = found.edition if found is not None else 0
        if found is None:
            return None
        shared_versions.fetch(self._engine, self._folder, found.version)
        return found.version

    def want(self, version: str, edit: int) -> bool:
        edition = shared_versions.publish(
            self._engine, self._folder, version, self._clock.now(), edit=edit, after=self._edition
        )
        wanted = shared_versions.wanted(self._engine)
        if wanted is None or wanted.version != version:
            log.info("version_outdated", version=version, edit=edit)
            return False
        if edition != self._edition:
            log.info("version_published", version=version, edition=edition, edit=edit)
        return True


def compile_once(settings: Settings) -> Wanted:
    """What a cluster's database wants after its tables are made, and its registry is filled, compiled and published.

    Raises as Registrar.compile_once; ValueError if the settings are of no cluster.
    """
    if settings.cluster is None:
        raise ValueError("the settings have no `cluster`")
    registrar = Registrar(settings, settings.cluster)
    try:
        return registrar.compile_once()
    finally:
        registrar.close()
