"""Claims: which notices a sender has under way, so that of several senders one at a time sends each.

On PostgreSQL a claim is an advisory lock of a connection of its own: it ends with the process that has it, whatever
ended that, and no clock is asked. A process that lives but stands still asks nothing, and loses them too. SQLite's
database has one sender, to which all of it belongs.
"""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, TextClause, text

from registry.clock import stopwatch
from registry.database import understood

STANDING = 15.0
"""Seconds of real time after which a sender that asks nothing any more loses its claims."""

ASKING = 1.0
"""Seconds of real time after which ``keep`` asks something, though nothing is to be asked."""


class Claims(Protocol):
    """All raise DatabaseBusy and DatabaseUnwritable: it is not known what is ours."""

    def keep(self, ours: Collection[str]) -> None:
        """These are ours, and no others: those of a lost connection are claimed again, if nobody has.

        Whoever has claims calls it every few seconds: who does not, for STANDING, is taken for dead.
        """
        ...

    def take(self, notices: Sequence[str]) -> list[str]:
        """Those that nobody else has: they are ours from now on."""
        ...

    def close(self) -> None:
        """Nothing is ours any more."""
        ...


def claims_on(engine: Engine) -> Claims:
    """The claims of a sender on this database."""
    return _Shared(engine) if engine.dialect.name == "postgresql" else _Alone()


class _Alone:
    """Nobody else sends."""

    def keep(self, ours: Collection[str]) -> None:
        pass

    def take(self, notices: Sequence[str]) -> list[str]:
        return list(notices)

    def close(self) -> None:
        pass


_TAKE = text(
    "SELECT id, pg_try_advisory_lock(hashtextextended(id, 0)) FROM unnest(CAST(:ids AS text[])) AS id"
)
_LET_GO = text("SELECT pg_advisory_unlock(hashtextextended(id, 0)) FROM unnest(CAST(:ids AS text[])) AS id")
_SIGN_OF_LIFE = text("SELECT 1 WHERE CAST(:ids AS text[]) IS NOT NULL")


class _Shared:
    """Locks are counted by connection: each is taken once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._held: set[str] = set()
        self._asked = 0.0  # when last

    def keep(self, ours: Collection[str]) -> None:
        self.take([notice for notice in ours if notice not in self._held])
        if over := sorted(self._held - set(ours)):
            self._ask(_LET_GO, over)
            self._held -= set(over)
        if self._connection is not None and stopwatch() - self._asked >= ASKING:
            self._ask(_SIGN_OF_LIFE, [])

    def take(self, notices: Sequence[str]) -> list[str]:
        asked = sorted({notice for notice in notices if notice not in self._held})
        if asked:
            self._held |= {row[0] for row in self._ask(_TAKE, asked) if row[1]}
        return [notice for notice in notices if notice in self._held]

    def close(self) -> None:
        self._held = set()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, query: TextClause, ids: list[str]) -> list[tuple[Any, ...]]:
        try:
            with understood(self._engine):
                if self._connection is None:
                    connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                    connection.detach()  # it is closed for good, and no other gets it with its locks
                    self._connection = connection
                    connection.exec_driver_sql(f"SET idle_session_timeout = {int(STANDING * 1000)}")
                self._asked = stopwatch()
                return [tuple(row) for row in self._connection.execute(query, {"ids": ids})]
        except BaseException:
            self.close()  # the locks are gone with it
            raise
