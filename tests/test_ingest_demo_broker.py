"""iotcore, the broker of a demo without mosquitto: enough of MQTT 5 for the collector to lose nothing."""

import select
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.broker import Mosquitto, collector_account, free_port, gateway_account
from ingest.collector import Collector
from ingest.demo_broker import Iotcore, embedded
from ingest.message import Message
from registry.clock import stopwatch
from simulators.gateway import Gateway, rows
from tests.build import code
from tests.servers import PASSWORD, User, publisher

A = code(1)
READINGS = f"fenghuo/v1/{A}/gw1/readings"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Iotcore]:
    accounts = [collector_account(PASSWORD), gateway_account(A, "gw1", PASSWORD), publisher()]
    server = Iotcore(tmp_path / "iotcore", free_port(), accounts)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def until(collector: Collector, done: Callable[[list[Message]], bool]) -> list[Message]:
    taken: list[Message] = []
    deadline = stopwatch() + 30
    while not done(taken):
        assert stopwatch() < deadline, (collector.problem, collector.counts, taken)
        writers = [collector.fileno()] if collector.wants_write() else []
        select.select([collector.fileno()], writers, [], 0.05)
        collector.service()
        taken += collector.take()
    return taken


def test_it_keeps_a_session_while_we_are_away_and_sends_again_what_is_not_acknowledged(
    server: Iotcore,
) -> None:
    payloads = [str(number).encode() for number in range(40)]
    collector = Collector(server.host, server.port, password=PASSWORD)
    until(collector, lambda _: collector.listening(0))
    with User(server, f"{A}/gw1", client_id="gateway") as gateway:
        assert gateway.publish_all((READINGS, payload) for payload in payloads[:20]) == {0}
        taken = until(collector, lambda taken: len(taken) == 20)
        echoes = collector.counts["messages"] - 20
        until(collector, lambda _: collector.counts["messages"] >= 20 + echoes + 2)
        collector.acknowledge(taken[:5])
        until(collector, lambda _: not collector.wants_write())
        assert collector.counts["disconnected"] == 0, "it ends a connection that acknowledges out of order"
        collector.close()
        assert gateway.publish_all((READINGS, payload) for payload in payloads[20:]) == {0}
    collector = Collector(server.host, server.port, password=PASSWORD)
    again = until(collector, lambda again: len(again) >= 35)
    assert [message.payload for message in again] == payloads[5:]
    assert not any(message.dup for message in again), "it says so now: mend what is said of it"
    collector.close()


def test_large_payloads_pass_and_a_wrong_password_does_not(server: Iotcore) -> None:
    collector = Collector(server.host, server.port, password=PASSWORD)
    until(collector, lambda _: collector.connected)
    with User(server, "publisher", client_id="publisher") as gateway:
        gateway.publish(READINGS, b"x" * 2_000_000)
    assert len(until(collector, lambda taken: len(taken) == 1)[0].payload) == 2_000_000
    collector.close()
    stranger = Collector(server.host, server.port, password="wrong")
    until(stranger, lambda _: stranger.counts["connect_failed"] >= 2)
    assert stranger.counts["connected_anew"] == 0
    stranger.close()


def test_its_passwords_are_its_owners_only(server: Iotcore) -> None:
    assert stat.S_IMODE(server.config.stat().st_mode) == 0o600


def test_mosquitto_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.demo_broker.find_mosquitto", lambda: None)
    assert isinstance(embedded(tmp_path, 1, []), Iotcore)
    monkeypatch.setattr("ingest.broker.find_mosquitto", lambda: "/somewhere")
    monkeypatch.setattr("ingest.demo_broker.find_mosquitto", lambda: "/somewhere")
    assert isinstance(embedded(tmp_path, 1, []), Mosquitto)


def test_a_gateway_as_it_is_speaks_to_it(server: Iotcore) -> None:
    """It refuses client ids with a slash, and a client that then comes again with the same id breaks it."""
    with Gateway(server.host, server.port, A, "gw1", password=PASSWORD, patience=10) as gateway:
        gateway.publish(rows(1_767_578_400_000_000, {"P-1": 1.0}))
        gateway.flush()
        assert gateway.acknowledged >= 2
