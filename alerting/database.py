"""The desk's database: engines with the pragmas that make a commit durable, transactions, migrations."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Dialect, Engine, Insert, Update, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"


class DeskError(Exception):
    """Base of all that the desk raises."""


class DeskBusy(DeskError):
    """Another process holds the database; nothing was done, try again."""


class DeskUnwritable(DeskError):
    """The database cannot be written (full, read-only or broken disk); nothing was done."""


# SQLite's primary result codes, and PostgreSQL's SQLSTATEs, by what they mean to us.
_BUSY = {
    *(5, 6, 15),  # busy, locked, a race for the WAL's locks
    *("40001", "40P01", "55P03"),  # serialization, deadlock, lock not available
    "23505",  # two desks began the same at once: the second finds it when it tries again
}
_UNWRITABLE = {8, 10, 13, 14, "25006", "53100"}  # read-only, I/O error, full, cannot open; the same there


def open_database(where: Path | str, *, busy: float = 5.0) -> Engine:
    """An engine on the desk's database.

    Args:
        where: a SQLite file, or a SQLAlchemy URL (``sqlite:///...``, ``postgresql+psycopg://...``).
        busy: seconds to wait for another process's transaction before DeskBusy.
    """
    engine = create_engine(f"sqlite:///{where}" if isinstance(where, Path) else where)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None  # BEGIN is ours: the driver's would not be IMMEDIATE
            connection.execute(f"PRAGMA busy_timeout = {int(busy * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get("reading", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: committed at the end of the block, or nothing is done.

    Raises:
        DeskBusy: another process holds the database.
        DeskUnwritable: the disk is full, read-only or broken.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise _meaning(error.orig or error) from error


_LOOK: dict[str, dict[str, Any]] = {
    "sqlite": {"reading": True},
    "postgresql": {"isolation_level": "REPEATABLE READ"},  # else every statement would see another state
}
"""What makes a transaction one consistent look."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent look at the database that keeps nobody from writing (SQLite's WAL, MVCC elsewhere).

    Raises:
        DeskBusy, DeskUnwritable: as ``writing``.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**_LOOK.get(engine.dialect.name, {}))
    except DBAPIError as error:
        raise _meaning(error.orig or error) from error


def execute_many(connection: Connection, statement: Insert | Update, rows: Sequence[dict[str, Any]]) -> None:
    """Run a statement for each of the rows, which have equal keys, two or more; nothing to do for none.

    SQLAlchemy words the statement, once for each database; the plain values then go straight to the driver,
    which halves the time of a round of many alerts.
    """
    if rows:
        text, in_order = _worded(statement, connection.dialect, tuple(rows[0]))
        connection.exec_driver_sql(text, list(map(in_order, rows)) if in_order else rows)


@lru_cache(maxsize=64)
def _worded(
    statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]
) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]] | None]:
    """The statement in a database's SQL, and what puts a row's values in order; None if they go by name."""
    compiled = statement.compile(dialect=dialect, column_keys=list(keys))
    order = getattr(compiled, "positiontup", None)
    return str(compiled), itemgetter(*order) if order else None


class Watch(Generic[T]):
    """Something read of the database, read again only when the database may have changed.

    SQLite counts the commits of other connections; so the watch has a connection of its own, and looking
    costs a few microseconds. Elsewhere it is read every time.
    """

    def __init__(self, engine: Engine, read: Callable[[Connection], T]) -> None:
        self._engine = engine
        self._read = read
        self._seen: tuple[int, T] | None = None
        self._connection: PoolProxiedConnection | None = None

    def look(self) -> T:
        """What ``read`` gives now.

        Raises:
            DeskBusy: another process holds the database.
            DeskUnwritable: anything else is wrong with it.
        """
        try:
            version = self._version()
            seen = self._seen
            if seen is None or version is None or seen[0] != version:
                with reading(self._engine) as connection:
                    seen = (version or 0, self._read(connection))
                self._seen = seen
        except DeskError:
            raise
        except (DBAPIError, self._engine.dialect.loaded_dbapi.Error) as error:
            raise DeskUnwritable(str(error)) from error
        return seen[1]

    def _version(self) -> int | None:
        if self._engine.dialect.name != "sqlite":
            return None
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
            cursor = self._connection.cursor()
            cursor.execute("PRAGMA data_version")
            row = cursor.fetchone()
            cursor.close()
        except sqlite3.Error as error:
            raise _meaning(error) from error
        return int(row[0]) if row else None


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest form, in one transaction; does nothing if they have it."""
    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _meaning(error: BaseException) -> BaseException:
    """What a driver's error means to the desk: busy, unwritable, or (neither) the error itself."""
    code: int | str | None = getattr(error, "sqlstate", None)
    if isinstance(error, sqlite3.Error):
        code = error.sqlite_errorcode & 0xFF
    if code in _BUSY:
        return DeskBusy(str(error))
    if code in _UNWRITABLE:
        return DeskUnwritable(str(error))
    return error
