"""What a role of a cluster waits for at its start: the database, its tables, the topics, a registry."""

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
from registry.database import DatabaseBusy, DatabaseUnwritable, newest_form, open_database

LOOK = 0.25
"""Seconds of real time between two looks."""

log = structlog.get_logger()


class TablesOld(Exception):
    """The database's tables are missing or old; says how to mend it."""


def follower(settings: Settings, cluster: Cluster, stop: threading.Event) -> VersionFollower | None:
    """The registry that is wanted, and those after it, once all is there; None if it was stopped before.

    Without Kafka it goes on: deadlines and answers need none.

    Raises:
        TopicsUnfit, TablesOld: `fenghuo prepare` mends it. DatabaseTooNew, OSError.
    """
    with ExitStack() as undo:
        database = open_database(cluster.database.address)
        undo.callback(database.dispose)
        ready = _tables_ready(database, stop)
        if ready is None:
            return None
        if not ready:
            raise TablesOld("the database's tables are missing or old: run `fenghuo prepare SETTINGS`")
        try:
            topics.require(cluster)
        except KafkaAway as error:
            log.error("kafka_away", why=str(error))
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


def _tables_ready(database: Engine, stop: threading.Event) -> bool | None:
    """Whether the tables have their newest form, once the database can be asked; None if stopped before."""
    told = ""
    while True:
        try:
            return newest_form(database, MIGRATIONS) and store_tables.newest_form(database)
        except (DatabaseBusy, DatabaseUnwritable) as error:
            if str(error) != told:
                told = str(error)
                log.error("database_away", why=told)
            if stop.wait(LOOK):
                return None
