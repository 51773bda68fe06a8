"""A process that is frozen in the middle of a transaction holds up no other for ever: on a real PostgreSQL."""

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, select, text

from alerting import tables
from deploy.dev.services import Postgres
from registry.database import DatabaseBusy, fetch, open_database, reading, writing
from tests.servers import new_database

pytestmark = pytest.mark.postgresql
LOCK = text("SELECT pg_advisory_xact_lock(9, 9)")
ONE = select(tables.alerts.c.id)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with new_database(postgres, tables.upgrade) as url:
        yield url


@pytest.fixture
def frozen(database: str) -> Iterator[Engine]:
    engine = open_database(database, thinking=0.2)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "ask",
    [lambda c: c.execute(ONE), lambda c: fetch(c, ONE, {}), lambda c: None],
    ids=["sql", "raw", "commit"],
)
def test_who_is_frozen_in_a_transaction_loses_its_locks_and_is_told_when_it_wakes(
    database: str, frozen: Engine, ask: Callable[[Connection], object]
) -> None:
    other, worked = open_database(database), []

    def frozen_while_another_works() -> None:
        with writing(frozen) as connection:
            connection.execute(LOCK)
            with writing(other) as theirs:
                theirs.execute(LOCK)
                worked.append(True)
            ask(connection)

    with pytest.raises(DatabaseBusy):
        frozen_while_another_works()
    assert worked
    with writing(frozen) as connection:
        connection.execute(LOCK)  # it goes on with a new connection
    other.dispose()


def test_who_thinks_for_less_is_left_alone_and_a_look_ends_as_well(frozen: Engine) -> None:
    pause = threading.Event()

    def look(seconds: float) -> None:
        with reading(frozen) as connection:
            fetch(connection, ONE, {})
            pause.wait(seconds)
            fetch(connection, ONE, {})

    look(0.05)
    with pytest.raises(DatabaseBusy):
        look(0.5)
    look(0.05)


def test_the_server_looks_for_a_client_that_has_gone(database: str) -> None:
    engine = open_database(database)
    with reading(engine) as connection:
        settings = "idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_keepalives_count"
        found = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in settings]
    assert found == ["5min", "5", "3"]
    engine.dispose()
