"""The collector: a persistent MQTT 5 session whose messages are acknowledged only when we say so.

No thread of paho's runs: the owner's loop waits on ``fileno`` and calls ``service`` and ``take``. Only
the blocking part of connecting has a short thread of its own, so that a broker that cannot be reached
delays nothing.
"""

import contextlib
import secrets
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Any, TypeVar

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.broker import COLLECTOR, ECHO_TOPIC, echo_topic
from ingest.message import Message
from registry.clock import stopwatch

__all__ = ["Backlog", "Collector", "Message"]

READINGS = "fenghuo/v1/{enterprise}/+/readings"
STATUS = "fenghuo/v1/{enterprise}/+/status"

FILTERS = 500
"""Topic filters in a packet at most: brokers bound the size of one."""

ONCE = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
NEVER = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)

T = TypeVar("T")

OVERHEAD = 100
"""Bytes of memory that a message takes beside topic and payload: an empty one is not free."""

FOREVER = 0xFFFFFFFF
"""Session expiry interval that means "never" (MQTT 5, 3.1.2.11.2)."""


class Backlog:
    """Whether we have read what the broker holds for us. Pure: told real seconds on any rising scale.

    The collector sends itself an echo a second. A broker hands a session its messages in order, so an
    echo that has come back was behind everything that was queued when it was sent. A broker that does
    not let us send one is judged by less: by our in-flight window not having been full for a second.
    """

    EVERY = 1.0
    VALID = 2.5
    """Seconds for which a returned echo is good: the next one may be 1.5 s overdue, on a busy machine."""

    LOST = 2 * VALID
    """Seconds after which an echo is given up: a broker whose queue is full may drop it."""

    def __init__(self) -> None:
        self.refused = False
        self._token = b""
        self._sent = self._returned = self._full = float("-inf")
        self._asked = self._answered = 0

    def connected(self, at: float) -> None:
        """A connection began: nothing is known of what waits at the broker.

        Who refused once is not asked again: mosquitto ends the connection of one that it refuses.
        """
        self._token = b""
        self._sent = self._returned = float("-inf")
        self._full = at
        self._answered = 0

    def due(self, at: float) -> bytes | None:
        """The echo to send now, or None."""
        if self.refused or at - self._sent < (self.LOST if self._token else self.EVERY):
            return None
        self._token, self._sent = secrets.token_bytes(8), at
        return self._token

    def ask(self, number: int) -> bool:
        """Whether we have read all that the broker held when this number was first asked for."""
        if number != self._asked:
            self._asked = number
            self._token, self._sent = b"", float("-inf")  # an echo sent before then does not answer it
        return self.refused or self._answered == number

    def echo(self, token: bytes) -> None:
        """An echo arrived; one given up, of an earlier connection or of another collector says nothing."""
        if token == self._token:
            self._token, self._returned, self._answered = b"", self._sent, self._asked

    def window_full(self, at: float) -> None:
        """As many messages as may be unacknowledged had arrived: there may be more."""
        self._full = at

    def caught_up(self, at: float) -> bool:
        return at - self._full >= 1.0 if self.refused else at - self._returned <= self.VALID


class _Client(Client):
    """Paho's client with its own way of reading a PUBLISH, the one packet that comes in numbers.

    Paho decodes the properties of each message, which takes half of its time, and ends the connection
    where it does not like one (U+FEFF in a user property, which brokers pass on): the broker would send
    that message again, for ever, and one gateway could silence all. We need no property: skip them.
    """

    received: Callable[[bytes, bytes, int, int, bool, bool], None]

    def _handle_publish(self) -> MQTTErrorCode:
        """MQTT 5, 3.3. The packet is everything after the remaining length."""
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        qos = command >> 1 & 3
        try:
            topic_end = 2 + (packet[0] << 8 | packet[1])
            at = topic_end + 2 if qos else topic_end
            mid = packet[at - 2] << 8 | packet[at - 1] if qos else 0
            length = shift = 0
            while True:
                byte = packet[at]
                length |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
        except IndexError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        topic, payload = bytes(packet[2:topic_end]), bytes(memoryview(packet)[at + length :])
        self.received(topic, payload, mid, qos, bool(command & 8), bool(command & 1))
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class _State(Enum):
    DOWN = auto()
    CONNECTING = auto()  # the thread is at work
    OPEN = auto()  # connected by TCP, not yet subscribed
    UP = auto()


class Collector:
    """Receives readings and status of all gateways from one broker.

    Args:
        host, port: the broker.
        user, password: our account there; the user's name is also our client id, and so our session's.
        client: another client id, of a session that passes from process to process. When a connection ends, another
            may have taken it over (not every broker says so): we stay away until ``resume``. It has an echo topic of
            its own (ingest.broker.echo_topic).
        enterprises: whom to hear; None: all.
        in_flight: messages that the broker may send us before we have acknowledged any.
        batch_bytes: bytes of memory, roughly, that messages may take before reading pauses until ``take``.

    Use from one thread. A turn of the owner's loop: wait until ``fileno`` is readable (or writable, if
    ``wants_write``) or a quarter of a second is over; ``service``; ``take``; make what was taken
    durable; ``acknowledge`` in the same order. What is never acknowledged is sent again after a reconnect, flagged
    ``dup``. ``counts`` counts what happened; ``problem`` says why there is no connection; ``yielded``
    that we stay away.
    """

    KEEPALIVE = 60  # seconds
    BACK_OFF = (0.1, 5.0)  # seconds: first pause, longest pause
    CONNECT_WITHIN = 5.0  # seconds

    def __init__(
        self,
        host: str,
        port: int = 1883,
        *,
        user: str = COLLECTOR,
        password: str = "",
        client: str | None = None,
        enterprises: Iterable[str] | None = None,
        in_flight: int = 2000,
        batch_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.problem = "not connected yet"
        self.yielded = False
        self._passes = client is not None
        self._echo_topic = ECHO_TOPIC if client is None else echo_topic(client)
        self._enterprises = ["+"] if enterprises is None else list(dict.fromkeys(enterprises))
        self._asked: dict[int, int] = {}  # packet id of a subscription under way: filters in it
        self._gone: set[str] = set()  # filters that the session may still have, and should not
        self._leaving: dict[int, list[str]] = {}  # packet id of what ends subscriptions: filters in it
        self._settling = 0  # the packet after whose answer we have subscribed to all
        self._in_flight = in_flight
        self._batch_bytes = batch_bytes
        self._state = _State.DOWN
        self._connection = 0
        self._arrived: list[Message] = []
        self._arrived_bytes = 0
        self._unacknowledged = 0
        self._echoes: deque[list[int]] = deque()  # packet id, messages before it that are not acknowledged
        self._backlog = Backlog()
        self._attempt_at = 0.0
        self._pause = self.BACK_OFF[0]
        self._thread: threading.Thread | None = None
        self._failure = ""
        self._tried = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._client = self._make_client(host, port, user, password, client or user)

    # -- for the owner's loop ------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Connected and subscribed."""
        return self._state is _State.UP

    @property
    def lost(self) -> bool:
        """There is no connection, although it was tried: nothing will arrive until it is back."""
        return self._state in (_State.DOWN, _State.CONNECTING) and self._tried

    def listening(self, now: int) -> bool:
        """Connected, and caught up with the broker: a point that is not heard now is really silent.

        ``now`` is not used: whether we keep up is a matter of real time, under any clock.
        """
        return self.connected and not self._asked and self._backlog.caught_up(stopwatch())

    def has_read(self, number: int) -> bool:
        """Whether ``take`` has given, or gives next, all that the broker held when this number was first
        asked for; or there is no broker that could give it."""
        return self._backlog.ask(number) or self.lost

    def fileno(self) -> int:
        """What to wait for: the broker's socket, or the end of the attempt to connect."""
        sock = self._socket()
        return self._wake_read.fileno() if sock is None else sock.fileno()

    def wants_write(self) -> bool:
        return self._socket() is not None and self._client.want_write()

    def service(self) -> None:
        """Do what input and output are due; never blocks."""
        at = stopwatch()
        if self._state is _State.CONNECTING:
            self._finish_connecting(at)
        elif self._state is _State.DOWN and at >= self._attempt_at and not self.yielded:
            self._begin_connecting()
        if self._socket() is None:
            return
        self._client.loop_misc()
        self._read()
        if self._state is _State.UP and (token := self._backlog.due(at)) is not None:
            self._client.publish(self._echo_topic, token, qos=1)
        self._write()

    def take(self) -> list[Message]:
        """All messages that have arrived, in their order."""
        taken, self._arrived, self._arrived_bytes = self._arrived, [], 0
        return taken

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker that these need not be kept. Those of an earlier connection cannot be told:
        their numbers have passed to others; the broker sends them again, flagged ``dup``."""
        for message in messages:
            if message.connection != self._connection:
                self.counts["not_acknowledged"] += 1
            elif message.qos:
                self._client.ack(message.mid, message.qos)
                self._unacknowledged -= 1
                self._acknowledge_echo(1)
        self._write()

    def set_enterprises(self, enterprises: Iterable[str]) -> None:
        """Hear these from now on, and no others; not for a collector that hears all.

        Of those that go, the session at the broker is told at once, or when there is a connection again. That is
        remembered by this collector alone: where another process takes the session over before it was told, what
        was subscribed to stays so, and their messages come and are dead letters.
        """
        before, self._enterprises = self._enterprises, list(dict.fromkeys(enterprises))
        known, kept = set(before), set(self._enterprises)
        self._gone |= {topic for topic, _ in _filters(known - kept)}
        self._gone -= {topic for topic, _ in _filters(kept)}
        if self._state is not _State.UP and not self._asked:
            return  # once it is connected, it subscribes to all of them
        self._unsubscribe()
        self._subscribe(_filters(e for e in self._enterprises if e not in known))
        self._write()

    def resume(self) -> None:
        """Connect again: the session is known to be still ours."""
        self.yielded = False

    def close(self) -> None:
        """Leave; the broker keeps the session and what is not acknowledged."""
        if self._thread is not None:
            self._thread.join(self.CONNECT_WITHIN)
        if self._socket() is not None:
            self._client.disconnect()
            self._write()
        self._state = _State.DOWN
        self._attempt_at = float("inf")
        self._wake_read.close()
        self._wake_write.close()

    # -- connecting ----------------------------------------------------------------------------

    def _make_client(self, host: str, port: int, user: str, password: str, client_id: str) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.username_pw_set(user, password or None)
        client.connect_timeout = self.CONNECT_WITHIN
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.received = self._received
        client.on_socket_register_write = _nothing  # so that paho queues what is to be sent: see _write
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = FOREVER
        properties.ReceiveMaximum = self._in_flight
        client.connect_async(host, port, self.KEEPALIVE, clean_start=False, properties=properties)
        return client

    def _socket(self) -> socket.socket | None:
        """The socket to the broker, if it is ours to use: not while the thread makes it."""
        if self._state in (_State.DOWN, _State.CONNECTING):
            return None
        return self._client.socket()  # type: ignore[return-value]

    def _begin_connecting(self) -> None:
        def connect() -> None:
            self._failure = ""
            try:
                self._client.reconnect()
            except (OSError, ValueError) as error:  # refused, no route, too late; no name can be like this
                self._failure = str(error) or type(error).__name__
            self._wake_write.send(b"!")

        self._state = _State.CONNECTING
        self._thread = threading.Thread(target=connect, name="mqtt-connect", daemon=True)
        self._thread.start()

    def _finish_connecting(self, at: float) -> None:
        if self._thread is None or self._thread.is_alive():
            return
        self._thread.join()
        self._thread = None
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(64)
        if self._failure or self._client.socket() is None:
            self._down(self._failure or "the attempt to connect ended without a connection")
            return
        self._state = _State.OPEN
        if (sock := self._socket()) is not None:
            # Else what is small waits up to 40 ms for the broker's kernel to acknowledge the small before it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _down(self, why: str) -> None:
        """No connection; try again after a pause that doubles."""
        self.counts["disconnected" if self._state is _State.UP else "connect_failed"] += 1
        self.yielded = self._passes and self._state is not _State.CONNECTING
        self._state = _State.DOWN
        self._connection += 1
        self._tried = True
        self.problem = why
        self._attempt_at = stopwatch() + self._pause
        self._pause = min(self._pause * 2, self.BACK_OFF[1])
        self._arrived.clear()  # not taken, so not acknowledged: the broker sends it again
        self._arrived_bytes = self._unacknowledged = 0
        self._echoes.clear()
        self._asked.clear()
        self._leaving.clear()

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:  # paho closes the socket and tells on_disconnect
            self._failure = f"the broker refused: {reason}"
            return
        self.counts["connected" if flags.session_present else "connected_anew"] += 1
        self._backlog.connected(stopwatch())
        self._unsubscribe()
        self._settling = self._subscribe([*_filters(self._enterprises), (self._echo_topic, NEVER)])

    def _subscribe(self, filters: list[tuple[str, SubscribeOptions]]) -> int:
        """Ask for these, a packet after another; the last one's id."""
        mid = 0
        for chunk in _chunks(filters):
            _, asked = self._client.subscribe(chunk)
            mid = asked or 0
            self._asked[mid] = len(chunk)
        return mid

    def _unsubscribe(self) -> None:
        for filters in _chunks(sorted(self._gone)):
            _, mid = self._client.unsubscribe(filters)
            self._leaving[mid or 0] = filters

    def _on_unsubscribe(
        self, client: Client, _: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._gone.difference_update(self._leaving.pop(mid, ()))

    def _on_subscribe(
        self, client: Client, _: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        asked = self._asked.pop(mid, 0)
        last = (
            mid == self._settling and self._state is _State.OPEN
        )  # it ends with the echo, which may be refused
        refused = [reason for reason in (reasons[:-1] if last else reasons) if reason.is_failure]
        if refused or len(reasons) != asked:
            told = ", ".join(str(reason) for reason in (refused or reasons)[:3])
            self._failure = f"the broker refused our subscriptions: {told}"
            client.disconnect()
            return
        if not last:
            return
        self._backlog.refused |= reasons[-1].is_failure
        self._state = _State.UP
        self._pause = self.BACK_OFF[0]
        self.problem = ""

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._down(self._failure or f"disconnected: {reason}")
        self._failure = ""

    # -- messages ------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read until nothing more is there; paho reads one packet a call.

        Never more than may be unacknowledged: mosquitto 2.0 sends more than we said we would take.
        """
        while (
            self._unacknowledged < self._in_flight
            and self._arrived_bytes < self._batch_bytes
            and self._socket() is not None
        ):
            before = self.counts["messages"]
            self._client.loop_read()
            if self.counts["messages"] == before:
                break
        else:
            self._backlog.window_full(stopwatch())

    def _received(
        self, topic_bytes: bytes, payload: bytes, mid: int, qos: int, dup: bool, retain: bool
    ) -> None:
        self.counts["messages"] += 1
        topic = topic_bytes.decode("utf-8", "replace")
        if topic == self._echo_topic:
            self._backlog.echo(payload)
            if qos:
                self._echoes.append([mid, self._unacknowledged])
                self._acknowledge_echo(0)
            return
        self._arrived_bytes += len(topic_bytes) + len(payload) + OVERHEAD
        self._unacknowledged += qos > 0
        self._arrived.append(Message(topic, payload, mid, qos, dup, retain, self._connection))

    def _acknowledge_echo(self, acknowledged: int) -> None:
        """Acknowledge an echo when all before it are: the order of arrival is binding (MQTT 5, 4.6)."""
        for echo in self._echoes:
            echo[1] -= acknowledged
        while self._echoes and self._echoes[0][1] <= 0:
            self._client.ack(self._echoes.popleft()[0], 1)

    def _on_publish(
        self, client: Client, _: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._backlog.refused = True
            self.counts["echo_refused"] += 1

    def _write(self) -> None:
        """Write what is queued. Paho writes each acknowledgement by itself; the cork joins them."""
        sock = self._socket()
        if sock is None or not self._client.want_write():
            return
        _cork(sock, True)
        self._client.loop_write()
        if self._socket() is sock:
            _cork(sock, False)


def _filters(enterprises: Iterable[str]) -> list[tuple[str, SubscribeOptions]]:
    """What their gateways send; a gateway's status, which is retained, only where the session does not know it."""
    return [
        (form.format(enterprise=enterprise), options)
        for enterprise in enterprises
        for form, options in ((READINGS, NEVER), (STATUS, ONCE))
    ]


def _chunks(filters: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(filters), FILTERS):
        yield filters[start : start + FILTERS]


def _cork(sock: socket.socket, on: bool) -> None:
    """Hold small packets back until uncorked, where the system can (Linux)."""
    if hasattr(socket, "TCP_CORK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def _nothing(*_: object) -> None:
    """For a callback whose being there is all that counts."""
