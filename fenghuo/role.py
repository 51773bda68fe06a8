"""A role of a cluster as a process: the only one of its name on a machine, known to the database, heard in the log."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

import structlog
from sqlalchemy import Engine, text

from fenghuo.settings import Cluster, Settings
from registry.database import reading

log = structlog.get_logger()

APPLICATION = "PGAPPNAME"
"""How PostgreSQL's client library is told as whom a process connects: it is seen in pg_stat_activity."""

_CONNECTED = text(
    "SELECT DISTINCT application_name FROM pg_stat_activity "
    "WHERE datname = current_database() AND starts_with(application_name, :role)"
)


class NameTaken(Exception):
    """Another one of this role and name runs on this machine; says how to mend it."""


class Role:
    """To be entered before anything else is done, and left at the end of the process.

    Args:
        name: another for each of this role with the same data folder; "" where it has none.
        alone: whether another of this name would write the same files.

    Raises, when entered: NameTaken; OSError: the data folder cannot be written.
    """

    def __init__(
        self, settings: Settings, cluster: Cluster, role: str, name: str = "", *, alone: bool = True
    ) -> None:
        self._settings, self._cluster = settings, cluster
        self._role, self._name, self._alone = role, name, alone
        self._lock: IO[str] | None = None
        self._stands = False

    def __enter__(self) -> "Role":
        data = self._settings.data
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._alone:
            self._lock = self._locked(data)
        announce(self._role)
        return self

    def _locked(self, data: Path) -> IO[str]:
        """The kernel lets go of it when the process ends, however that may be."""
        lock = (data / f"{self._role}{self._name and '-'}{self._name}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            named, mend = (f" named {self._name}", "--name") if self._name else ("", "`data`")
            raise NameTaken(
                f"a `fenghuo {self._role}`{named} runs with {data} already: give this one another {mend}"
            ) from error
        return lock

    def stands(self, **where: str) -> None:
        """Say that it has all that it needs; ``where``: what it works with besides the database, "" for nothing."""
        self._stands = True
        said = {"name": self._name, "pid": os.getpid(), **where, "database": self._cluster.database.url}
        log.info("role_started", role=self._role, **{key: one for key, one in said.items() if one != ""})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stands:
            named = {"name": self._name} if self._name else {}
            log.info("role_ended", role=self._role, pid=os.getpid(), **named)
        if self._lock is not None:
            self._lock.close()


def announce(role: str) -> None:
    """From here on this process, and those that it starts, connect to PostgreSQL under this role."""
    os.environ[APPLICATION] = f"fenghuo {role} {os.getpid()}@{socket.gethostname()}"[:63]  # it takes no more


def connected(engine: Engine, role: str) -> list[str]:
    """Which processes of a role have a connection to the database just now, as PID@HOST. Raises DatabaseError."""
    begins = f"fenghuo {role} "
    with reading(engine) as connection:
        names = connection.execute(_CONNECTED, {"role": begins}).scalars()
        return sorted(name.removeprefix(begins) for name in names)
