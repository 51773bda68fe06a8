"""The simulated gateway over a real broker: statuses, refusals, its window, and a broker that goes and comes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from ingest.broker import Mosquitto
from simulators.gateway import Gateway, GatewayError, Sample, columns, iso, rows
from tests.build import code
from tests.servers import PASSWORD, mosquitto, needs_mosquitto, publisher

PLANT = code(1)
STATUS = f"fenghuo/v1/{PLANT}/gw1/status"
READINGS = f"fenghuo/v1/{PLANT}/gw1/readings"
TIME = 1_800_000_000_123_000


class Listener:
    """Hears everything; ``wait`` gives what has come on a topic once there are so many."""

    def __init__(self, port: int) -> None:
        self.heard: list[MQTTMessage] = []
        self.changed = threading.Condition()
        self.ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
        self.client.username_pw_set("listener", PASSWORD)
        self.client.on_message = self._hear
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("fenghuo/v1/#", qos=1)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _hear(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        with self.changed:
            self.heard.append(message)
            self.changed.notify_all()

    def on(self, topic: str) -> list[object]:
        return [orjson.loads(message.payload) for message in self.heard if message.topic == topic]

    def wait(self, topic: str, count: int) -> list[object]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.on(topic)) >= count, 15)
            return self.on(topic)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, [(PLANT, "gw1")], publisher("listener")) as server:
        yield server


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    listener = Listener(broker.port)
    yield listener
    listener.client.disconnect()
    listener.client.loop_stop()


def gateway(broker: Mosquitto, *, patience: float = 10.0, **more: object) -> Gateway:
    given = {"password": PASSWORD, **more}
    return Gateway("127.0.0.1", broker.port, PLANT, "gw1", patience=patience, **given)


pytestmark = [pytest.mark.mosquitto, needs_mosquitto]


def test_it_says_online_sends_both_forms_and_says_offline(broker: Mosquitto, listener: Listener):
    with gateway(broker) as gw:
        gw.publish(rows(TIME, {"A": 1.5, "B": None, "C": Sample(2.0, "uncertain")}))
        gw.publish([columns(TIME + 1, ["A", "B"], [1.0, None]), rows(TIME + 1_000_000, {"A": 2.0})])
    assert listener.wait(READINGS, 2) == [
        {
            "time": "2027-01-15T08:00:00.123Z",
            "readings": {"A": 1.5, "B": None, "C": {"value": 2.0, "quality": "uncertain"}},
        },
        [
            {"time": "2027-01-15T08:00:00.123001Z", "points": ["A", "B"], "values": [1.0, None]},
            {"time": "2027-01-15T08:00:01.123Z", "readings": {"A": 2.0}},
        ],
    ]
    assert listener.wait(STATUS, 2) == [{"online": True}, {"online": False}]
    assert iso(TIME) == "2027-01-15T08:00:00.123Z"


def test_its_status_is_retained_and_its_will_speaks_when_it_is_lost(broker: Mosquitto, listener: Listener):
    gw = gateway(broker)
    gw.connect()
    gw.flush()
    assert listener.wait(STATUS, 1) == [{"online": True}]
    gw.lose()
    assert listener.wait(STATUS, 2) == [{"online": True}, {"online": False}]
    listener.client.disconnect()
    listener.client.loop_stop()
    after = Listener(broker.port)  # one who comes later hears the last word at once
    assert after.wait(STATUS, 1) == [{"online": False}]
    assert after.heard[0].retain
    after.client.disconnect()
    after.client.loop_stop()


def test_a_wrong_password_and_a_foreign_topic_are_said(broker: Mosquitto):
    with pytest.raises(GatewayError, match="refuses the connection"):
        gateway(broker, password="wrong").connect()
    foreign = Gateway(
        "127.0.0.1", broker.port, code(2), "gw1", user=f"{PLANT}/gw1", password=PASSWORD, patience=10
    )
    with pytest.raises(GatewayError, match="refuses a message"), foreign:
        foreign.flush()  # told here, or while it still says hello


def test_it_waits_while_its_window_is_full_and_gives_up_in_the_end(broker: Mosquitto):
    gw = gateway(broker, window=3, patience=1.0)
    gw.connect()
    gw.flush()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            gw.publish(rows(TIME, {"A": 1.0}))
        with pytest.raises(GatewayError, match="no answer"):
            gw.publish(rows(TIME, {"A": 1.0}))
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    gw.flush()
    gw.close()
    assert gw.acknowledged == 5  # online, three readings, offline


def test_what_was_not_acknowledged_is_sent_when_the_broker_is_back(broker: Mosquitto, tmp_path: Path):
    gw = gateway(broker, patience=30.0)
    gw.connect()
    gw.publish(rows(TIME, {"A": 1.0}))
    gw.flush()
    broker.stop()
    for number in range(5):
        gw.publish(rows(TIME + number, {"A": 2.0}))
    broker.start()
    gw.flush()
    gw.close()
    assert gw.acknowledged >= 1 + 1 + 5 + 1
