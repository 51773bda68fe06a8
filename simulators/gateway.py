"""A plant's gateway over real MQTT: publishes native JSON at times that it is given, and hears every PUBACK."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators.protocol import iso


class GatewayError(RuntimeError):
    """The broker refused the gateway or one of its messages, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value that has a quality of its own: "good", "uncertain" or "bad"."""

    value: float | None
    quality: str


Value = float | Sample | None
"""None is a value that could not be measured."""


def rows(time: int, values: Mapping[str, Value]) -> dict[str, Any]:
    """A packet in the form ``{"time": ..., "readings": {point: value}}``."""
    return {"time": iso(time), "readings": {point: _plain(value) for point, value in values.items()}}


def columns(time: int, points: Sequence[str], values: Sequence[float | None]) -> dict[str, Any]:
    """A packet in the columnar form ``{"time": ..., "points": [...], "values": [...]}``."""
    if len(points) != len(values):
        raise ValueError(f"{len(points)} points and {len(values)} values")
    return {"time": iso(time), "points": list(points), "values": list(values)}


class Gateway:
    """One gateway's connection: MQTT 5, QoS 1, its own user, a last will on its status topic.

    It knows no clock: each packet carries the time that it is given. At most ``window`` messages are
    without their PUBACK; then ``publish`` waits. A lost connection is made again by itself, what had no
    PUBACK is sent again, and the retained status says online again.

    Args:
        host, port: the broker. enterprise: credit code. gateway: the gateway's id.
        user, password: of the broker; the default user is "ENTERPRISE/GATEWAY".
        window: most messages without a PUBACK.
        patience: seconds of real time to wait for the broker before giving up.
    """

    def __init__(
        self,
        host: str,
        port: int,
        enterprise: str,
        gateway: str,
        *,
        user: str | None = None,
        password: str | None = None,
        window: int = 100,
        patience: float = 30.0,
    ) -> None:
        if window < 1:
            raise ValueError("the window holds at least one message")
        self.host, self.port = host, port
        self.topic = f"fenghuo/v1/{enterprise}/{gateway}"
        self.window = window
        self.patience = patience
        self._changed = threading.Condition()
        self._sent = 0
        self._acknowledged = 0
        self._connected = False
        self._failure = ""
        user = user or f"{enterprise}/{gateway}"
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=user.replace("/", "."), protocol=MQTTProtocolVersion.MQTTv5
        )
        if password is not None:
            self._client.username_pw_set(user, password)
        self._client.will_set(f"{self.topic}/status", orjson.dumps({"online": False}), qos=1, retain=True)
        self._client.max_inflight_messages_set(min(window, 65535))
        self._client.reconnect_delay_set(1, 5)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    @property
    def acknowledged(self) -> int:
        """Messages that the broker has acknowledged, the status among them."""
        return self._acknowledged

    def connect(self) -> None:
        """Connect and say online.

        Raises:
            GatewayError: refused, or no answer in time. OSError: nobody listens there.
        """
        self._client.connect(self.host, self.port, keepalive=30)
        self._client.loop_start()
        try:
            self._wait(lambda: self._connected)
        except GatewayError:
            self._client.disconnect()
            self._client.loop_stop()
            raise

    def publish(self, packets: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Send one packet, or a list of them in one message; waits while the window is full.

        Raises:
            GatewayError: the broker refused an earlier message, or acknowledges nothing for too long.
        """
        self._wait(lambda: self._sent - self._acknowledged < self.window)
        self._send(f"{self.topic}/readings", orjson.dumps(packets), retain=False)

    def flush(self) -> None:
        """Wait until every message has its PUBACK.

        Raises:
            GatewayError: the broker refused one, or does not acknowledge in time.
        """
        self._wait(lambda: self._acknowledged == self._sent)

    def close(self) -> None:
        """Wait for every PUBACK, say offline, and disconnect.

        Raises:
            GatewayError: the broker refused a message, or does not acknowledge in time; it is disconnected.
        """
        try:
            self.flush()
            self._send(f"{self.topic}/status", orjson.dumps({"online": False}), retain=True)
            self.flush()
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def lose(self) -> None:
        """Go without a word of its own, so that the broker publishes the last will."""
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        self._client.loop_stop()

    def __enter__(self) -> "Gateway":
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.lose()

    def _send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        with self._changed:
            self._sent += 1
        result = self._client.publish(topic, payload, qos=1, retain=retain).rc
        if result not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise GatewayError(f"{topic}: {result.name}")  # without a connection it is queued

    def _wait(self, done: Callable[[], bool]) -> None:
        with self._changed:
            in_time = self._changed.wait_for(lambda: self._failure or done(), self.patience)
        if self._failure:
            raise GatewayError(self._failure)
        if not in_time:
            raise GatewayError(f"{self.topic}: no answer from {self.host}:{self.port} in {self.patience} s")

    def _on_connect(
        self, client: Client, _: object, flags: ConnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        with self._changed:
            if reason.is_failure:
                self._failure = f"{self.topic}: the broker refuses the connection: {reason}"
            self._changed.notify_all()
        if not reason.is_failure:
            self._send(f"{self.topic}/status", orjson.dumps({"online": True}), retain=True)
            with self._changed:
                self._connected = True
                self._changed.notify_all()

    def _on_disconnect(
        self, client: Client, _: object, flags: DisconnectFlags, reason: ReasonCode, properties: object
    ) -> None:
        with self._changed:
            self._connected = False
            self._changed.notify_all()

    def _on_publish(
        self, client: Client, _: object, mid: int, reason: ReasonCode, properties: Properties
    ) -> None:
        with self._changed:
            self._acknowledged += 1
            if reason.is_failure:
                self._failure = f"{self.topic}: the broker refuses a message: {reason}"
            self._changed.notify_all()


def _plain(value: Value) -> object:
    if isinstance(value, Sample):
        return {"value": value.value, "quality": value.quality}
    return value
