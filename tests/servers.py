"""Real servers for the tests: mosquitto as we ship it and its users, Kafka, PostgreSQL, InfluxDB."""

import queue
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import TypeVar

import httpx
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy import Engine

from deploy.dev.services import InfluxDb, Kafka, Postgres, Server, ServerMissing, new_folder
from ingest.broker import (
    Account,
    BrokerFailed,
    Mosquitto,
    collector_account,
    find_mosquitto,
    free_port,
    gateway_account,
)
from ingest.demo_broker import Iotcore
from registry.database import open_database

PASSWORD = "test-only"
"""Every account of a test's broker has this password."""

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None, reason="mosquitto is missing; to get it: apt-get install mosquitto"
)
"""Use together with ``pytest.mark.mosquitto``."""

lacking: set[str] = {needs_mosquitto.kwargs["reason"]}
"""Why tests are skipped for want of a server: what the gate does not allow."""


S = TypeVar("S", bound=Server)
_numbers = count(1)


@contextmanager
def running(make: Callable[[Path], S]) -> Iterator[S]:
    """A server of its own, ended with its files; the test is skipped where it is missing."""
    folder = new_folder()
    server = make(folder / "server")
    try:
        try:
            server.start()
        except ServerMissing as missing:
            lacking.add(str(missing))
            pytest.skip(str(missing))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One Kafka for all tests: each makes topics of its own."""
    with running(Kafka) as server:
        yield server


def new_topic(server: Kafka, partitions: int = 1, **settings: str) -> str:
    """The name of a new topic, which no other test uses."""
    name = f"topic-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": server.servers})
    [made] = admin.create_topics([NewTopic(name, partitions, config=settings)]).values()
    made.result(30)
    return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests: each has a database of its own. Commits do not wait for the disk."""
    with running(lambda folder: Postgres(folder, lasting=False)) as server:
        yield server


@pytest.fixture(scope="session")
def influxdb() -> Iterator[InfluxDb]:
    """One InfluxDB for all tests: each makes an organisation of its own."""
    with running(InfluxDb) as server:
        yield server


def new_organisation(server: InfluxDb) -> str:
    """The name of a new organisation, which no other test uses; the server's token may do anything in it."""
    name = f"organisation-{next(_numbers)}"
    rights = {"Authorization": f"Token {server.token}"}
    made = httpx.post(f"{server.url}/api/v2/orgs", json={"name": name}, headers=rights, timeout=30)
    made.raise_for_status()
    return name


@contextmanager
def new_database(server: Postgres, upgrade: Callable[[Engine], None]) -> Iterator[str]:
    """The URL of a database with its tables, and nothing in them: one that no other test uses meanwhile."""
    free = _free_databases(server, upgrade)
    name, tables = free.pop() if free else _create(server, upgrade)
    try:
        yield server.url(name)
    finally:
        with _connection(server, name) as connection:
            connection.execute("SET lock_timeout = '10s'")
            connection.execute(_EMPTY)
            if _tables(connection) == tables:  # else a test has made more of it than others expect
                free.append((name, tables))


_EMPTY = """
DO $$ BEGIN EXECUTE (
    SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT LIKE '%_version'
); END $$
"""
"""To empty a database takes 20 ms; to copy one takes 200."""


@cache
def _free_databases(server: Postgres, upgrade: Callable[[Engine], None]) -> list[tuple[str, list[str]]]:
    return []


def _create(server: Postgres, upgrade: Callable[[Engine], None]) -> tuple[str, list[str]]:
    """Its name, and which tables it has."""
    name = f"test{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    engine = open_database(server.url(name))
    upgrade(engine)
    engine.dispose()
    with _connection(server, name) as connection:
        return name, _tables(connection)


def _connection(server: Postgres, name: str) -> psycopg.Connection[tuple[str, ...]]:
    return psycopg.connect(server.url(name).replace("+psycopg", ""))


def _tables(connection: psycopg.Connection[tuple[str, ...]]) -> list[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [name for (name,) in found]


@contextmanager
def mosquitto(
    folder: Path,
    gateways: Sequence[tuple[str, str]] = (),
    *more: Account,
    port: int | None = None,
    packet_limit: int = 4 * 1024 * 1024,
) -> Iterator[Mosquitto]:
    """A running broker with the shipped access rules, stopped at the end.

    Args:
        folder: where its files go; give the same folder and port to get the same sessions again.
        gateways: (enterprise, gateway id) that may connect, as user "enterprise/gateway".
        more: further accounts, e.g. ``publisher()`` for a load generator that speaks for all gateways.

    The collector's account is always there. Every password is ``PASSWORD``. The broker makes the user's
    name its client id, so one account can have one connection at a time: give each connection its own.
    """
    accounts = [collector_account(PASSWORD), *(gateway_account(*gateway, PASSWORD) for gateway in gateways)]
    accounts += more
    for attempt in range(5):
        server = Mosquitto(folder / "mosquitto", port or free_port(), accounts, packet_limit=packet_limit)
        try:
            server.start()
            break
        except BrokerFailed:  # a free port can be taken before mosquitto has it
            if port is not None or attempt == 4:
                raise
    try:
        yield server
    finally:
        server.stop()


def publisher(user: str = "publisher") -> Account:
    """An account that may publish anything and read anything: for load generators and for looking on."""
    return Account(user, PASSWORD, publish=("fenghuo/v1/#",), receive=("fenghuo/v1/#",))


class User:
    """An MQTT 5 client of a test: connects at once, and says with which reason code things ended.

    Attributes:
        refused: reason code of a refused connection, else None.
        heard: (topic, payload) of all that was received.
        ended: set when the connection is over.
    """

    WITHIN = 10.0  # seconds for any answer of the broker

    def __init__(
        self,
        server: Mosquitto | Iotcore,
        user: str | None,
        *,
        password: str | None = PASSWORD,
        client_id: str = "",
        will: tuple[str, bytes] | None = None,
        clean_start: bool = True,
    ) -> None:
        self.refused: int | None = None
        self.heard: list[tuple[str, bytes]] = []
        self.ended = threading.Event()
        self._answers: queue.Queue[int] = queue.Queue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if user is not None:
            self._client.username_pw_set(user, password)
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)
        self._client.on_connect = lambda *a: self._answers.put(a[3].value)
        self._client.on_subscribe = lambda *a: self._answers.put(a[3][0].value)
        self._client.on_publish = lambda *a: self._answers.put(a[3].value)
        self._client.on_message = lambda *a: self.heard.append((a[2].topic, bytes(a[2].payload)))
        self._client.on_disconnect = lambda *a: self.ended.set()
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 0 if clean_start else 3600
        self._client.connect(server.host, server.port, clean_start=clean_start, properties=session)
        self._client.loop_start()
        reason = self._answers.get(timeout=self.WITHIN)
        if reason >= 128:
            self.refused = reason
            self.close()

    def publish(
        self, topic: str, payload: bytes | str, *, retain: bool = False, properties: Properties | None = None
    ) -> int:
        """Publish with QoS 1; the reason code of the acknowledgement."""
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self._answers.get(timeout=self.WITHIN)

    def send(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Publish and wait for nothing."""
        self._client.publish(topic, payload, qos=qos)

    def publish_all(self, messages: Iterable[tuple[str, bytes]]) -> set[int]:
        """Publish many at once; the set of their reason codes."""
        count = 0
        for topic, payload in messages:
            self._client.publish(topic, payload, qos=1)
            count += 1
        return {self._answers.get(timeout=self.WITHIN) for _ in range(count)}

    def subscribe(self, topic: str) -> int:
        self._client.subscribe(topic, qos=1)
        return self._answers.get(timeout=self.WITHIN)

    def vanish(self) -> None:
        """Be gone without goodbye, as at a power cut: the broker publishes the will."""
        sock = self._client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> "User":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
