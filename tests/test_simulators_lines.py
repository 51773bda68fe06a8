"""Many gateways' connections in one thread over a real broker: wills, farewells, and a broker that dies."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from ingest.broker import Mosquitto
from simulators.lines import Lines, LinesError
from simulators.uplink import Kind, Message
from simulators.wire import Connection, HungUp, Refused, publish
from tests.build import code
from tests.servers import PASSWORD, User, mosquitto, needs_mosquitto, publisher

PLANT = code(1)
GATEWAYS = 40
ON, OFF = b'{"online":true}', b'{"online":false}'

pytestmark = [pytest.mark.mosquitto, needs_mosquitto]


class Listener:
    """Hears everything, and keeps its session while the broker is away."""

    def __init__(self, port: int) -> None:
        self.heard: list[MQTTMessage] = []
        self.changed = threading.Condition()
        self.ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        self.client.username_pw_set("listener", PASSWORD)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_connect = lambda *_: self.client.subscribe("fenghuo/v1/#", qos=1)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _hear(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        with self.changed:
            self.heard.append(message)
            self.changed.notify_all()

    def on(self, gateway: str, kind: str = "readings") -> list[bytes]:
        topic = f"fenghuo/v1/{PLANT}/{gateway}/{kind}"
        return [bytes(message.payload) for message in self.heard if message.topic == topic]

    def wait(self, gateway: str, kind: str, count: int) -> list[bytes]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.on(gateway, kind)) >= count, 15)
            return self.on(gateway, kind)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    gateways = [(PLANT, f"gw{g}") for g in range(GATEWAYS)]
    with mosquitto(tmp_path, gateways, publisher("listener"), publisher("late")) as server:
        yield server


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    listener = Listener(broker.port)
    yield listener
    listener.client.disconnect()
    listener.client.loop_stop()


@pytest.fixture
def lines(broker: Mosquitto) -> Iterator[Lines]:
    with Lines("127.0.0.1", broker.port, lambda *_: PASSWORD, patience=20.0) as lines:
        yield lines


def message(kind: Kind, gateway: int = 0, payload: bytes = b"") -> Message:
    suffix = "readings" if kind is Kind.READINGS else "status"
    payload = payload or (ON if kind is Kind.ONLINE else OFF)
    return Message(0, PLANT, f"gw{gateway}", kind, f"fenghuo/v1/{PLANT}/gw{gateway}/{suffix}", payload)


def readings(gateway: int, number: int, size: int = 10) -> Message:
    return message(Kind.READINGS, gateway, f"{number:0{size}d}".encode())


def numbers(payloads: list[bytes]) -> list[int]:
    return [int(payload) for payload in payloads]


def retained(broker: Mosquitto, count: int = 1) -> set[bytes]:
    """What so many statuses say to somebody who comes only now."""
    with User(broker, "late") as late:
        late.subscribe("fenghuo/v1/+/+/status")
        deadline = time.monotonic() + 10
        while len(late.heard) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(late.heard) == count
        return {payload for _, payload in late.heard}


def test_many_gateways_send_in_order_and_each_status_is_retained(
    broker: Mosquitto, lines: Lines, listener: Listener
):
    for gateway in range(GATEWAYS):
        lines.send(message(Kind.ONLINE, gateway))
    for number in range(50):
        for gateway in range(GATEWAYS):
            lines.send(readings(gateway, number))
    lines.flush()
    assert (lines.acknowledged, lines.outstanding) == (51 * GATEWAYS, 0)
    for gateway in range(GATEWAYS):
        assert listener.wait(f"gw{gateway}", "status", 1) == [ON]
        assert numbers(listener.wait(f"gw{gateway}", "readings", 50)) == list(range(50))
    assert retained(broker, GATEWAYS) == {ON}


def test_who_is_lost_leaves_its_will_after_its_last_word(broker: Mosquitto, lines: Lines, listener: Listener):
    lines.send(message(Kind.ONLINE))
    for number in range(300):
        lines.send(readings(0, number))
    lines.send(message(Kind.LOST))
    assert lines.outstanding == 0
    assert listener.wait("gw0", "status", 2) == [ON, OFF]
    assert [m.topic.rsplit("/", 1)[1] for m in listener.heard] == ["status"] + ["readings"] * 300 + ["status"]
    assert retained(broker) == {OFF}
    lines.send(message(Kind.LOST))  # of one who is not connected: nothing
    lines.send(message(Kind.ONLINE))
    lines.flush()
    assert listener.wait("gw0", "status", 3) == [ON, OFF, ON]


def test_closing_leaves_no_will(lines: Lines, listener: Listener):
    lines.send(message(Kind.ONLINE))
    lines.flush()
    listener.wait("gw0", "status", 1)
    lines.close()
    with Lines("127.0.0.1", lines.port, lambda *_: PASSWORD) as later:
        later.send(message(Kind.ONLINE, 1))
        later.flush()
        listener.wait("gw1", "status", 1)
    assert listener.on("gw0", "status") == [ON]


def test_it_waits_while_a_window_is_full(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulators.lines.WINDOW", 3)
    with Lines("127.0.0.1", broker.port, lambda *_: PASSWORD, patience=0.5) as lines:
        lines.send(message(Kind.ONLINE))
        lines.flush()
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            for number in range(6):
                lines.send(readings(0, number))
            with pytest.raises(LinesError, match="no answer"):
                lines.send(readings(0, 6))
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        lines.flush(10.0)
        assert lines.acknowledged == 8


def test_large_messages_go_out_in_parts(lines: Lines, listener: Listener):
    lines.send(message(Kind.ONLINE))
    for number in range(10):
        lines.send(readings(0, number, 1_000_000))
    lines.flush()
    expected = [f"{number:01000000d}".encode() for number in range(10)]
    assert listener.wait("gw0", "readings", 10) == expected


def test_what_a_broker_that_was_killed_did_not_acknowledge_is_sent_to_the_next(
    broker: Mosquitto, lines: Lines, listener: Listener
):
    for gateway in range(GATEWAYS):
        lines.send(message(Kind.ONLINE, gateway))
        lines.send(readings(gateway, 0))
    lines.flush()
    for gateway in range(GATEWAYS):  # what it has acknowledged and not handed on dies with it
        listener.wait(f"gw{gateway}", "readings", 1)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)  # it takes what comes, and never answers
    for number in range(1, 8):
        for gateway in range(GATEWAYS):
            lines.send(readings(gateway, number))
    assert lines.outstanding == 7 * GATEWAYS
    broker.kill()
    for gateway in range(GATEWAYS):
        lines.send(readings(gateway, 8))
    with pytest.raises(LinesError, match=r"no answer.*gateways wait.*refused"):
        lines.flush(0.5)
    listener.ready.clear()
    broker.start()
    assert listener.ready.wait(10)
    lines.flush()
    assert lines.outstanding == 0
    for gateway in range(GATEWAYS):
        heard = numbers(listener.wait(f"gw{gateway}", "readings", 9))
        assert sorted(set(heard)) == list(range(9))
        assert heard[-8:] == list(range(1, 9))
        assert listener.wait(f"gw{gateway}", "status", 2)[-1] == ON
        words = [m.topic.rsplit("/", 1)[1] for m in listener.heard if f"/gw{gateway}/" in m.topic]
        assert words[-9:] == ["status"] + ["readings"] * 8  # it says first that it is back


def test_a_gateway_that_was_displaced_comes_back(broker: Mosquitto, lines: Lines, listener: Listener):
    lines.send(message(Kind.ONLINE))
    lines.flush()
    with User(broker, f"{PLANT}/gw0") as other:
        assert listener.wait("gw0", "status", 2) == [ON, OFF]
        lines.send(readings(0, 1))
        lines.flush()
        assert other.ended.wait(10)
    assert listener.wait("gw0", "status", 3) == [ON, OFF, ON]
    assert numbers(listener.wait("gw0", "readings", 1)) == [1]


def test_a_wrong_password_is_said(broker: Mosquitto):
    with (
        Lines("127.0.0.1", broker.port, lambda *_: "wrong") as lines,
        pytest.raises(LinesError, match=r"gw1: .*refuses the connection"),
    ):
        lines.send(message(Kind.ONLINE, 1))


def test_a_message_that_is_too_large_is_said_and_not_sent_for_ever(tmp_path: Path):
    with (
        mosquitto(tmp_path, [(PLANT, "gw0")], packet_limit=1024) as small,
        Lines("127.0.0.1", small.port, lambda *_: PASSWORD, patience=5.0) as lines,
    ):
        lines.send(message(Kind.ONLINE))
        lines.send(readings(0, 1, 5000))
        with pytest.raises(LinesError, match="gw0: the broker disconnects: reason code 0x95"):
            lines.flush()


def test_a_message_that_the_broker_refuses_is_said(lines: Lines):
    foreign = Message(0, PLANT, "gw0", Kind.READINGS, f"fenghuo/v1/{PLANT}/gw1/readings", b"{}")
    lines.send(foreign)
    with pytest.raises(LinesError, match="gw0: the broker refuses a message"):
        lines.flush()


def test_it_gives_up_when_nobody_is_there():
    with Lines("127.0.0.1", 1, lambda *_: PASSWORD, patience=0.5) as lines:
        lines.send(message(Kind.ONLINE))
        with pytest.raises(LinesError, match=r"no answer from 127.0.0.1:1 in 0.5 s: 1 messages"):
            lines.flush()


def test_it_keeps_its_silent_gateways_alive(broker: Mosquitto, listener: Listener):
    with (
        Lines("127.0.0.1", broker.port, lambda *_: PASSWORD, keepalive=1) as alive,
        Lines("127.0.0.1", broker.port, lambda *_: PASSWORD, keepalive=1) as forgotten,
    ):
        alive.send(message(Kind.ONLINE, 0))
        forgotten.send(message(Kind.ONLINE, 1))
        forgotten.flush()
        ends = time.monotonic() + 20
        while time.monotonic() < ends and len(listener.on("gw1", "status")) < 2:
            time.sleep(0.1)
            alive.flush()
        assert listener.on("gw1", "status") == [ON, OFF]  # nobody called flush
        assert listener.on("gw0", "status") == [ON]


@pytest.mark.parametrize(("reason", "hope"), [(0x8B, True), (0x89, True), (0x8E, False), (0x95, False)])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_broker_that_shuts_down_or_is_busy_is_worth_another_try(reason: int, hope: bool, at_once: bool):
    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            if at_once:
                peer.sendall(bytes([0x20, 3, 0, reason, 0]))
            else:
                peer.sendall(bytes([0x20, 3, 0, 0, 0, 0xE0, 1, reason]))
            peer.recv(1000)

    def listen() -> None:
        port = server.getsockname()[1]
        connection = Connection("127.0.0.1", port, client="c", user="", password="", protocol=5, patience=5.0)
        with closing(connection.socket):
            connection.socket.setblocking(True)
            connection.acknowledged()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Refused, match=f"{reason:#x}") as raised:
            listen()
        thread.join(10)
    assert isinstance(raised.value, HungUp) == hope


@pytest.mark.parametrize("size", [0, 100, 127, 128, 16_000, 20_000, 2_100_000])
def test_a_publish_packet_is_what_mqtt_says(size: int):
    packet = publish(5, "a/b", b"x" * size, 0x1234, retain=True)
    assert packet[0] == 0x33
    length = shift = 0
    place = 1
    while True:
        length |= (packet[place] & 127) << shift
        shift += 7
        place += 1
        if packet[place - 1] < 128:
            break
    assert length == len(packet) - place
    assert packet[place:] == b"\x00\x03a/b\x12\x34\x00" + b"x" * size
    assert publish(4, "a/b", b"x", 1) == b"\x32\x08\x00\x03a/b\x00\x01x"
