"""The collector against a real mosquitto: nothing is lost, nothing stops it, and it knows when it is behind."""

import json
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.assemble import Assembler
from ingest.broker import ECHO_TOPIC, Account, Mosquitto, free_port, slot_accounts
from ingest.collector import Backlog, Collector
from ingest.message import Message
from registry.clock import SECOND, stopwatch
from tests.build import PointSpec, code, make_registry
from tests.servers import PASSWORD, User, mosquitto, needs_mosquitto, publisher

A = code(1)
READINGS = f"fenghuo/v1/{A}/gw1/readings"
STATUS = f"fenghuo/v1/{A}/gw1/status"
NOW = 1_795_248_005 * SECOND
WITHIN = 30.0  # seconds for anything that must happen
REGISTRY = make_registry({A: [PointSpec(id="A"), PointSpec(id="B")]})


class Poison(Properties):
    """Properties that say U+FEFF where "bbb" was said; paho would not pack them itself."""

    def pack(self) -> bytes:
        return super().pack().replace(b"bbb", "\ufeff".encode())


@contextmanager
def collecting(
    port: int,
    *,
    host: str = "127.0.0.1",
    user: str = "collector",
    password: str = PASSWORD,
    client: str | None = None,
    enterprises: Sequence[str] | None = None,
    in_flight: int = 2000,
    batch_bytes: int = 16 << 20,
) -> Iterator[Collector]:
    collector = Collector(
        host,
        port,
        user=user,
        password=password,
        client=client,
        enterprises=enterprises,
        in_flight=in_flight,
        batch_bytes=batch_bytes,
    )
    try:
        yield collector
        if collector.connected:
            leave(collector)
    finally:
        collector.close()


def leave(collector: Collector) -> None:
    """Close, and wait until the broker has read our last words: else the next one may overtake them."""
    with socket.socket(fileno=os.dup(collector.fileno())) as same:
        collector.close()
        same.setblocking(True)
        same.settimeout(WITHIN)
        while same.recv(65536):
            pass


def turn(collector: Collector, seconds: float = 0.05) -> list[Message]:
    writers = [collector.fileno()] if collector.wants_write() else []
    select.select([collector.fileno()], writers, [], seconds)
    collector.service()
    return collector.take()


def until(collector: Collector, done: Callable[[list[Message]], bool]) -> list[Message]:
    """Turn, acknowledging nothing, until it is done; all that was taken."""
    taken: list[Message] = []
    deadline = stopwatch() + WITHIN
    while not done(taken):
        assert stopwatch() < deadline, (collector.problem, collector.counts, len(taken))
        taken += turn(collector)
    return taken


def connect(collector: Collector) -> None:
    assert until(collector, lambda _: collector.connected) == []


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


def cut(collector: Collector) -> None:
    """Break the connection without a goodbye."""
    with socket.socket(fileno=os.dup(collector.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, [(A, "gw1")], publisher()) as server:
        yield server


@pytest.mark.mosquitto
@needs_mosquitto
class TestRealBroker:
    def test_what_is_acknowledged_does_not_come_again_and_the_rest_does(self, server: Mosquitto) -> None:
        messages = [(READINGS, str(number).encode()) for number in range(50)]
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                assert gateway.publish_all(messages) == {0}
            taken = until(collector, lambda taken: len(taken) == 50)
            assert [(message.topic, message.payload) for message in taken] == messages
            assert not any(message.dup for message in taken)
            collector.acknowledge(taken[:20])
        with collecting(server.port) as collector:
            again = until(collector, lambda taken: len(taken) == 30)
            assert payloads(again) == payloads(taken[20:])
            assert all(message.dup for message in again)
            collector.acknowledge(again)
        with collecting(server.port) as collector:
            assert until(collector, lambda _: collector.listening(NOW)) == []
            assert collector.counts["connected"] == 1

    def test_the_broker_keeps_what_comes_while_we_are_away(self, server: Mosquitto) -> None:
        with collecting(server.port) as collector:
            connect(collector)
            assert collector.counts["connected_anew"] == 1
        messages = [(READINGS, str(number).encode()) for number in range(3000)]
        with User(server, "publisher") as gateway:
            assert gateway.publish_all(messages) == {0}
        with collecting(server.port, in_flight=100) as collector:
            taken: list[Message] = []
            deadline = stopwatch() + WITHIN
            while not collector.listening(NOW):
                assert stopwatch() < deadline, collector.counts
                new = turn(collector)
                assert len(new) <= 100
                collector.acknowledge(new)
                taken += new
            assert payloads(taken) == [payload for _, payload in messages], "listening only after all of it"

    def test_no_more_than_may_be_unacknowledged(self, server: Mosquitto) -> None:
        with collecting(server.port, in_flight=10) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                gateway.publish_all((READINGS, str(number).encode()) for number in range(200))
            taken = until(collector, lambda taken: len(taken) >= 10)
            for _ in range(20):
                taken += turn(collector, 0.01)
            assert len(taken) == 10
            collector.acknowledge(taken[:4])
            assert len(until(collector, lambda more: len(more) >= 4)) == 4

    def test_after_a_break_repeats_are_known_and_nothing_is_lost(self, server: Mosquitto) -> None:
        """Journaled but not acknowledged: what a crash or a broken line leaves behind."""
        messages = [
            (READINGS, json.dumps({"time": f"2026-11-21T08:00:{n:02d}Z", "readings": {"A": n}}).encode())
            for n in range(40)
        ]
        assembler = Assembler(REGISTRY)
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                gateway.publish_all(messages[:30])
                taken = until(collector, lambda taken: len(taken) == 30)
                assembler.assemble(taken[:20], NOW)
                cut(collector)
                until(collector, lambda _: not collector.connected)
                collector.acknowledge(taken[:20])
                assert collector.counts["not_acknowledged"] == 20
                connect_again = until(collector, lambda again: len(again) == 30)
                gateway.publish_all(messages[30:])
            again = connect_again + until(collector, lambda new: len(new) == 10)
            rounds, dead = assembler.assemble(again, NOW)
            assert not dead
            assert [value for round in rounds for value in round.readings.value] == list(range(20, 40))
            assert assembler.dropped["repeated"] == 20
            collector.acknowledge(again)
        with collecting(server.port) as collector:
            assert until(collector, lambda _: collector.listening(NOW)) == []

    def test_repeats_keep_their_packet_id_when_we_or_the_broker_start_again(self, server: Mosquitto) -> None:
        """Journaled, then killed before the acknowledgement: the assembler knows repeats by the id."""
        same = [(STATUS, b'{"online": false}'), (STATUS, b'{"online": true}')] * 10
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                gateway.publish_all(same)
            first = until(collector, lambda taken: len(taken) == 20)
            journaled, _ = Assembler(REGISTRY).assemble(first[:12], NOW)
            known = b"".join(round.digests for round in journaled)
        for _ in range(2):
            with collecting(server.port) as collector:
                again = until(collector, lambda taken: len(taken) == 20)
            assert [(message.mid, message.payload) for message in again] == [
                (message.mid, message.payload) for message in first
            ]
            restarted = Assembler(REGISTRY, [known[n : n + 8] for n in range(0, len(known), 8)])
            rounds, _ = restarted.assemble(again, NOW)
            assert [said.online for round in rounds for said in round.status] == [False, True] * 4
            server.stop()
            server.start()

    def test_what_was_not_taken_when_the_line_broke_comes_once(self, server: Mosquitto) -> None:
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                gateway.publish_all([(READINGS, b"1"), (READINGS, b"2")])
            while collector.counts["messages"] < 2 + 1:  # and an echo
                select.select([collector.fileno()], [], [], 0.05)
                collector.service()
            cut(collector)
            while collector.connected:
                collector.service()
            assert collector.take() == []
            assert payloads(until(collector, lambda taken: len(taken) == 2)) == [b"1", b"2"]

    def test_a_broker_that_dies_is_found_again(self, tmp_path: Path) -> None:
        with mosquitto(tmp_path, [(A, "gw1")], publisher()) as server, collecting(server.port) as collector:
            connect(collector)
            assert not collector.lost
            server.kill()
            until(collector, lambda _: collector.lost)
            assert not collector.listening(NOW)
            until(collector, lambda _: collector.counts["connect_failed"] >= 2)
            server.start()
            until(collector, lambda _: collector.listening(NOW))
            assert not collector.lost
            with User(server, "publisher") as gateway:
                gateway.publish(READINGS, b"after")
            assert payloads(until(collector, lambda taken: len(taken) == 1)) == [b"after"]

    def test_a_refused_password_is_said_and_tried_again(self, server: Mosquitto) -> None:
        with collecting(server.port, password="wrong") as collector:
            until(collector, lambda _: collector.counts["connect_failed"] >= 2)
            assert "Not authorized" in collector.problem
            assert not collector.connected

    def test_retained_status_is_heard_anew_and_retained_readings_never(self, server: Mosquitto) -> None:
        with User(server, "publisher") as gateway:
            gateway.publish(STATUS, b"kept", retain=True)
            gateway.publish(READINGS, b"kept by mistake", retain=True)
        with collecting(server.port) as collector:
            first = until(collector, lambda _: collector.listening(NOW))
            assert [(message.topic, message.payload, message.retain) for message in first] == [
                (STATUS, b"kept", True)
            ]
            with User(server, "publisher") as gateway:
                gateway.publish(STATUS, b"live", retain=True)
            live = until(collector, lambda taken: len(taken) == 1)
            assert (live[0].payload, live[0].retain) == (b"live", False)
            collector.acknowledge([*first, *live])
        with collecting(server.port) as collector:
            assert until(collector, lambda _: collector.listening(NOW)) == []

    def test_a_last_will_arrives(self, server: Mosquitto) -> None:
        with collecting(server.port) as collector:
            connect(collector)
            User(server, f"{A}/gw1", will=(STATUS, b'{"online": false}')).vanish()
            assert payloads(until(collector, lambda taken: len(taken) == 1)) == [b'{"online": false}']

    def test_properties_that_paho_refuses_do_not_end_the_session(self, server: Mosquitto) -> None:
        """A broker passes a gateway's user properties on; U+FEFF in one is a malformed packet to paho."""
        poison = Poison(PacketTypes.PUBLISH)
        poison.UserProperty = ("a", "b" * 300)
        poison.ContentType = "text"
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, f"{A}/gw1") as gateway:
                assert gateway.publish(READINGS, b"poisoned", properties=poison) == 0
                assert gateway.publish(READINGS, b"next") == 0
            taken = until(collector, lambda taken: len(taken) == 2)
            assert payloads(taken) == [b"poisoned", b"next"]
            assert collector.counts["connected"] + collector.counts["connected_anew"] == 1

    def test_a_flood_of_rubbish_does_not_touch_the_good_readings(self, server: Mosquitto) -> None:
        rubbish = [
            (b"", ["not_json"]),
            (b"{", ["not_json"]),
            (b"\xff\xfe\x00", ["not_utf8"]),
            (b"[" * 50_000, ["not_json"]),
            (
                b'{"time": "2026-11-21T08:00:00Z", "readings": {"A": 1e999, "Z": 1}}',
                ["value_not_finite", "unknown_point"],
            ),
            (b'{"time": "1970-01-01T00:00:00Z", "readings": {"A": 7}}', ["time_absurd"]),
            (b"x" * (2 * 1024 * 1024), ["too_large"]),
        ]
        good = [
            json.dumps({"time": f"2026-11-21T08:00:{n % 60:02d}.{n:06d}Z", "readings": {"A": n}}).encode()
            for n in range(300)
        ]
        stream = [(READINGS, payload) for payload in good]
        expected: Counter[str] = Counter()
        for number in range(70):
            bad, reasons = rubbish[number % len(rubbish)]
            expected.update(reasons if number % 3 else ["unknown_gateway"])
            where = READINGS if number % 3 else f"fenghuo/v1/{A}/gw{number}/readings"
            stream.insert(number * 5, (where, bad))
        with collecting(server.port, in_flight=50) as collector:
            connect(collector)
            assembler = Assembler(REGISTRY)
            values: list[float] = []
            letters: Counter[str] = Counter()
            with User(server, "publisher") as gateway:
                for topic, payload in stream:
                    gateway.send(topic, payload)
                taken = 0
                deadline = stopwatch() + WITHIN
                while taken < len(stream):
                    assert stopwatch() < deadline, (taken, collector.counts, collector.problem)
                    messages = turn(collector)
                    rounds, dead = assembler.assemble(messages, NOW)
                    collector.acknowledge(messages)
                    taken += len(messages)
                    for letter in dead:
                        letters[letter.reason] += letter.count
                    values += [value for round in rounds for value in round.readings.value.tolist()]
            assert values == list(range(300))
            assert letters == expected
            assert collector.counts["connected"] + collector.counts["connected_anew"] == 1

    def test_an_echo_of_somebody_else_without_an_acknowledgement_ends_nothing(
        self, server: Mosquitto
    ) -> None:
        with collecting(server.port) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                gateway.send(ECHO_TOPIC, b"not ours", qos=0)
                until(collector, lambda _: collector.counts["messages"] >= 2)  # it, and our own first
                for _ in range(2):  # the broker reads an acknowledgement before it answers
                    gateway.publish(READINGS, b"after")
                    taken = until(collector, lambda taken: len(taken) == 1)
                    assert payloads(taken) == [b"after"]
                    collector.acknowledge(taken)
            assert collector.counts["connected"] + collector.counts["connected_anew"] == 1

    def test_empty_messages_without_acknowledgement_also_fill_a_batch(self, server: Mosquitto) -> None:
        with collecting(server.port, batch_bytes=2000) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:
                for _ in range(100):
                    gateway.send(READINGS, b"", qos=0)
                gateway.publish(READINGS, b"last")
                batches = []
                deadline = stopwatch() + WITHIN
                while sum(batches) < 101:
                    assert stopwatch() < deadline, batches
                    batches.append(len(turn(collector)))
            assert max(batches) <= 20

    def test_a_broker_that_refuses_the_echo_is_judged_by_the_window(self, tmp_path: Path) -> None:
        mute = Account("mute", PASSWORD, receive=("fenghuo/v1/#",))
        with (
            mosquitto(tmp_path, [], publisher(), mute) as server,
            collecting(server.port, user="mute") as collector,
        ):
            until(collector, lambda _: collector.listening(NOW))
            assert collector.counts["echo_refused"] >= 1


@pytest.mark.mosquitto
@needs_mosquitto
class TestSlots:
    """Sessions that hear some enterprises, and pass from process to process."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Mosquitto]:
        with mosquitto(tmp_path, [], publisher(), *slot_accounts(PASSWORD, 2)) as server:
            yield server

    def test_each_hears_its_own_enterprises_and_its_own_echo(self, server: Mosquitto) -> None:
        with ExitStack() as stack:
            first, second = (
                stack.enter_context(
                    collecting(server.port, user=user, client=user, enterprises=[code(1 + n), code(3 + n)])
                )
                for n, user in enumerate(("collector-0", "collector-1"))
            )
            until(first, lambda _: first.listening(NOW))
            until(second, lambda _: second.listening(NOW))
            with User(server, "publisher") as gateway:
                gateway.publish_all(
                    [(READINGS.replace(A, code(n)), str(n).encode()) for n in range(1, 6)]
                    + [(STATUS.replace(A, code(n)), b"status") for n in range(1, 6)]
                )
            for collector, own in ((first, b"13"), (second, b"24")):
                taken = until(collector, lambda taken: len(taken) == 4)
                assert b"".join(payloads(taken)[:2]) == own
                echoes = collector.counts["messages"] - 4
                assert collector._backlog._answered == 0
                assert 1 <= echoes <= 3, "those of the other one are not among them"

    def test_thousands_of_enterprises_that_change_while_connected(self, server: Mosquitto) -> None:
        many = [code(n) for n in range(1, 2001)]
        with collecting(
            server.port, user="collector-0", client="collector-0", enterprises=many[:1500]
        ) as collector:
            connect(collector)
            with User(server, "publisher") as gateway:

                def heard() -> list[bytes]:
                    gateway.publish_all(
                        [(READINGS.replace(A, many[n]), str(n).encode()) for n in (0, 499, 1499, 1999)]
                    )
                    gateway.publish(READINGS.replace(A, many[700]), b"last")
                    taken = until(collector, lambda taken: payloads(taken)[-1:] == [b"last"])
                    collector.acknowledge(taken)
                    return payloads(taken)[:-1]

                assert heard() == [b"0", b"499", b"1499"]
                collector.set_enterprises(many[500:])
                assert not collector.listening(NOW), "not all of them are subscribed to yet"
                until(collector, lambda _: collector.listening(NOW))
                assert heard() == [b"1499", b"1999"]
                cut(collector)
                until(collector, lambda _: not collector.connected)
                collector.set_enterprises(many[700:800])
                collector.resume()
                connect(collector)
                assert collector.counts["connected"] == 1
                assert heard() == [], "what goes while there is no connection goes with the next"

    def test_one_whose_session_another_may_have_stays_away_until_told(self, server: Mosquitto) -> None:
        session = {"user": "collector-0", "client": "collector-0", "enterprises": [A]}
        with collecting(server.port, **session) as first, collecting(server.port, **session) as second:
            connect(first)
            connect(second)
            until(first, lambda _: first.yielded)
            tries = first.counts.total()
            began = stopwatch()
            until(first, lambda _: stopwatch() > began + 0.5)
            assert first.counts.total() == tries
            assert (second.connected, second.yielded) == (True, False)
            first.resume()
            connect(first)
            assert not first.yielded
            until(second, lambda _: second.yielded)

    def test_a_local_one_comes_back_by_itself(self, server: Mosquitto) -> None:
        with (
            collecting(server.port) as first,
            collecting(server.port, user="collector") as second,
        ):
            connect(first)
            connect(second)
            until(first, lambda _: first.lost)
            connect(first)
            assert not first.yielded


def test_a_broker_that_is_not_there_delays_nothing() -> None:
    """The listener's queue is full, so that connecting hangs, and service goes on."""

    class Hasty(Collector):
        CONNECT_WITHIN = 0.3

    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        collector = Hasty("127.0.0.1", full.getsockname()[1])
        turns = 0
        deadline = stopwatch() + WITHIN
        while not collector.lost and stopwatch() < deadline:
            collector.service()
            assert not collector.wants_write()
            assert not collector.listening(NOW)
            select.select([collector.fileno()], [], [], 0.01)
            turns += 1
        assert collector.lost
        assert "timed out" in collector.problem
        assert turns > 3, "it would be one if service had waited"
        collector.close()


def test_a_refused_connection_is_tried_again_with_a_pause_that_grows() -> None:
    with collecting(free_port()) as collector:
        pauses = []
        deadline = stopwatch() + WITHIN
        while len(pauses) < 3 and stopwatch() < deadline:
            before = collector.counts.total()
            turn(collector, 0.01)
            if collector.counts.total() > before:
                pauses.append(collector._pause)
        assert pauses == sorted(set(pauses))
        assert len(pauses) == 3
        assert "refused" in collector.problem.lower()


def test_a_host_that_cannot_be_a_name_is_a_failure_to_connect() -> None:
    with collecting(1883, host="a..b") as collector:
        until(collector, lambda _: collector.counts["connect_failed"] >= 2)
        assert collector.lost
        assert "label" in collector.problem


def test_a_broker_that_answers_other_subscriptions_than_ours_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker, collecting(broker.getsockname()[1]) as collector:

        def wait_for(sock: socket.socket) -> socket.socket:
            until(collector, lambda _: bool(select.select([sock], [], [], 0)[0]))
            return sock

        line, _ = wait_for(broker).accept()
        with line:
            assert wait_for(line).recv(4096)[0] == 0x10, "CONNECT"
            line.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK: success
            subscribe = wait_for(line).recv(4096)
            assert subscribe[0] == 0x82, "SUBSCRIBE"
            line.sendall(b"\x90\x05" + subscribe[2:4] + b"\x00\x01\x01")  # SUBACK of two
            until(collector, lambda _: collector.lost)
        assert "refused our subscriptions: Granted QoS 1, Granted QoS 1" in collector.problem


class TestBacklog:
    def test_only_a_returned_echo_shows_that_we_caught_up(self) -> None:
        backlog = Backlog()
        assert not backlog.caught_up(0.0)
        backlog.connected(10.0)
        token = backlog.due(10.0)
        assert token
        assert backlog.due(14.9) is None, "one at a time"
        assert not backlog.caught_up(10.1)
        backlog.echo(b"another's")
        assert not backlog.caught_up(10.1)
        backlog.echo(token)
        assert backlog.caught_up(10.2)

    def test_asked_whether_all_is_read_only_an_echo_sent_since_then_says_yes(self) -> None:
        backlog = Backlog()
        backlog.connected(0.0)
        before = backlog.due(0.0)
        assert before
        assert not backlog.ask(1)
        since = backlog.due(0.1)
        assert since, "at once, although one is under way"
        backlog.echo(before)
        assert not backlog.ask(1), "what was published in between may still be on its way"
        backlog.echo(since)
        assert backlog.ask(1)
        assert backlog.ask(1)
        assert not backlog.ask(2)
        backlog.connected(1.0)
        assert not backlog.ask(1), "a new connection sends again what was not acknowledged"

    def test_an_echo_is_good_for_the_time_it_was_sent(self) -> None:
        backlog = Backlog()
        backlog.connected(0.0)
        token = backlog.due(0.0)
        assert token
        backlog.echo(token)
        assert backlog.due(0.9) is None
        assert backlog.caught_up(2.5)
        assert not backlog.caught_up(2.6), "the next one, sent at 1.0 at the latest, is overdue"
        assert not backlog.caught_up(30.0), "we were stalled: what waited at the broker is not read yet"
        late = backlog.due(30.0)
        assert late
        backlog.echo(late)
        assert backlog.caught_up(32.4)

    def test_an_echo_that_the_broker_has_dropped_is_given_up(self) -> None:
        backlog = Backlog()
        backlog.connected(0.0)
        dropped = backlog.due(0.0)
        assert dropped
        assert backlog.due(4.9) is None
        again = backlog.due(5.0)
        assert again
        assert again != dropped
        backlog.echo(dropped)
        assert not backlog.caught_up(5.1), "too late to say anything"
        backlog.echo(again)
        assert backlog.caught_up(5.1)

    def test_an_echo_of_an_earlier_connection_says_nothing(self) -> None:
        backlog = Backlog()
        backlog.connected(0.0)
        old = backlog.due(0.0)
        backlog.connected(5.0)
        assert not backlog.caught_up(5.0)
        new = backlog.due(5.0)
        assert old
        assert new
        backlog.echo(old)
        assert not backlog.caught_up(5.1)
        backlog.echo(new)
        assert backlog.caught_up(5.1)

    def test_without_echo_a_second_without_a_full_window(self) -> None:
        backlog = Backlog()
        backlog.connected(0.0)
        backlog.refused = True
        assert backlog.due(0.0) is None
        assert not backlog.caught_up(0.9)
        assert backlog.caught_up(1.0)
        backlog.window_full(5.0)
        assert not backlog.caught_up(5.9)
        assert backlog.caught_up(6.0)
        backlog.connected(7.0)
        assert not backlog.caught_up(7.9)
        assert backlog.caught_up(8.0), "who refused once is not asked again"
