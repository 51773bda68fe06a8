"""What a role of a cluster waits for at its start: the database, its tables, the topics, a registry."""

import os
import threading
from contextlib import ExitStack

import structlog
from sqlalchemy import Engine

from alerting.tables import MIGRATIONS
from fenghuo import topics
from fenghuo.settings import Cluster, Settings
from fenghuo.topics import KafkaAway
from fenghuo.version_follower import VersionFollower
from registry import store_tables
from registry.database import (
    DatabaseBusy,
    DatabaseError,
    DatabaseUnwritable,
    open_database,
    reading,
)
from registry.migrating import newest_form

LOOK = 0.25
"""Seconds of real time between two looks."""

log = structlog.get_logger()


REFUSALS = {
    "password authentication failed": ("password_file", "it does not hold the password of that user"),
    "no password supplied": ("password_file", "it is missing or empty, and the database wants a password"),
    '" does not exist': ("url", "there is no such user or database: docs/cluster.md says how they are made"),
    "no pg_hba.conf entry": ("url", "pg_hba.conf of the server does not let that user in from here"),
}
"""How PostgreSQL says that it does not let us in, and what to mend: a key of ``cluster.database``, and how. A server
that speaks another language is taken for one that is away, and its words are said."""


class TablesOld(Exception):
    """The database's tables are missing or old; says how to mend it."""


class NotLetIn(Exception):
    """The database answers, and does not let us in: the settings are wrong. Says which, in one line."""


def let_in(cluster: Cluster) -> None:
    """Ask the database whether it lets us in; one that does not answer may come yet. Raises NotLetIn."""
    database = open_database(cluster.database.address)
    try:
        with reading(database) as connection:
            connection.exec_driver_sql("SELECT 1")
    except DatabaseError as error:
        for said, (key, mend) in REFUSALS.items():
            if said in str(error):
                if key == "password_file" and os.environ.get("FENGHUO_DATABASE_PASSWORD"):
                    mend += " (FENGHUO_DATABASE_PASSWORD is set, and comes first)"
                raise NotLetIn(f"cluster.database.{key}: {mend}; {_one_line(error)}") from error
    finally:
        database.dispose()


def database_away(cluster: Cluster, error: Exception) -> str:
    """Why the database cannot be asked, by the key of the settings where it is not connected to, in one line."""
    said = _one_line(error)
    if "connection" not in said and "resolve host" not in said:
        return said  # it is there, and others hold it
    mend = "is that the place, and does PostgreSQL run there?"
    return f"cluster.database.url: {cluster.database.url}: {mend} {said}"


def kafka_away(cluster: Cluster, why: object) -> str:
    """Why Kafka cannot be asked, by the key of the settings, in one line."""
    return f"cluster.kafka: {cluster.kafka}: is that the place, and does Kafka run there? {_one_line(why)}"


def _one_line(said: object) -> str:
    return " ".join(str(said).split())


def follower(settings: Settings, cluster: Cluster, stop: threading.Event) -> VersionFollower | None:
    """The registry that is wanted, and those after it, once all is there; None if it was stopped before.

    Without Kafka it goes on: deadlines and answers need none.

    Raises:
        TopicsUnfit, TablesOld: `fenghuo prepare` mends it. DatabaseTooNew, OSError.
    """
    with ExitStack() as undo:
        database = open_database(cluster.database.address)
        undo.callback(database.dispose)
        if not tables(cluster, database, stop):
            return None
        try:
            topics.require(cluster)
        except KafkaAway as error:
            log.error("topics_not_looked_at", why=kafka_away(cluster, error))
        following = VersionFollower(database, settings.versions)
        undo.callback(following.close)
        told = False
        while following.wait(LOOK) is None:
            if stop.is_set():
                return None
            if not told:
                told = True
                log.warning("no_registry_yet", why=following.why)
        undo.pop_all()  # the follower lets go of the database
        return following


def tables(cluster: Cluster, database: Engine, stop: threading.Event) -> bool:
    """Wait until the database can be asked; whether it was before we were stopped. Raises TablesOld, DatabaseTooNew."""
    away = False
    while True:
        try:
            ready = newest_form(database, MIGRATIONS) and store_tables.newest_form(database)
        except (DatabaseBusy, DatabaseUnwritable) as error:
            if not away:
                away = True
                log.error("database_away", why=database_away(cluster, error))
            if stop.wait(LOOK):
                return False
        else:
            if away:
                log.info("database_back")
            if not ready:
                raise TablesOld("the database's tables are missing or old: run `fenghuo prepare SETTINGS`")
            return True
