"""The connections of many gateways to a real broker, all in one thread: messages out, PUBACKs in, wills left behind."""

import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from simulators.protocol import FORMS
from simulators.uplink import Kind, Message
from simulators.wire import PING, Connection, HungUp, Refused, publish

WINDOW = 100
"""Most messages of a gateway without a PUBACK, if the broker does not ask for fewer."""

AGAIN = 0.2
"""Seconds until a broker that was not there is tried again."""

MQTT_5 = 5
"""The version in which a broker says so when it refuses a message."""


class LinesError(RuntimeError):
    """The broker refused a gateway or one of its messages, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class _Publication:
    topic: str
    payload: bytes
    retain: bool


class _Line:
    """One gateway's connection, or the wish for one, and what has no PUBACK yet."""

    def __init__(self, enterprise: str, gateway: str) -> None:
        self.enterprise = enterprise
        self.gateway = gateway
        self.connection: Connection | None = None
        self.online: _Publication | None = None  # what it said when it came
        self.waiting: deque[_Publication] = deque()
        self.unacknowledged: dict[int, _Publication] = {}
        self.rest = memoryview(b"")  # of the packet that the kernel took only in part
        self.id = 0
        self.window = WINDOW
        self.spoke = 0.0

    @property
    def user(self) -> str:
        return f"{self.enterprise}/{self.gateway}"

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + len(self.unacknowledged)


class Lines:
    """Publishes the messages of ``simulators.uplink``, each over its gateway's own MQTT 5 connection.

    A gateway connects when its first message is sent, as user ENTERPRISE/GATEWAY with the last will of
    docs/wire-format.md. Everything goes with QoS 1, statuses retained. A broken connection is made again; it
    says online again, and then what had no PUBACK. Something happens only inside of the calls: call
    ``flush`` at least once a step.

    Args:
        host, port: the broker. passwords: by credit code and gateway id.
        patience: seconds to wait for the broker before giving up.
        keepalive: seconds, see wire.Connection. By default the longest, so that a simulation may stand still.
    """

    def __init__(
        self,
        host: str,
        port: int,
        passwords: Callable[[str, str], str],
        *,
        patience: float = 30.0,
        keepalive: int = 0,
    ) -> None:
        self.host, self.port = host, port
        self.patience = patience
        self.keepalive = keepalive
        self._passwords = passwords
        self._lines: dict[tuple[str, str], _Line] = {}
        self._by_descriptor: dict[int, _Line] = {}
        self._broken: dict[_Line, None] = {}  # in the order in which they broke
        self._try_at = self._ping_at = 0.0
        self._failure = ""  # why the broker was not there
        self._poll = select.epoll()
        self.acknowledged = 0
        self.outstanding = 0  # messages that have no PUBACK

    def send(self, message: Message) -> None:
        """Send a message, or keep it until the broker takes it.

        It waits while many messages of the gateway have no PUBACK. LOST waits for those of all earlier messages of
        the gateway; then it is just gone.

        Raises:
            LinesError: refused, or no answer in time.
        """
        key = message.enterprise, message.gateway
        line = self._lines.get(key)
        if message.kind is Kind.LOST:
            if line is not None:
                self._remove(line)
            return
        if line is None:
            line = self._lines[key] = _Line(*key)
            self._broken[line] = None
            self._mend()
        publication = _Publication(message.topic, message.payload, message.kind is not Kind.READINGS)
        line.waiting.append(publication)
        self.outstanding += 1
        if message.kind is Kind.ONLINE:
            line.online = publication
        self._push(line)
        self._until(lambda: len(line.waiting) <= line.window, self.patience)

    def flush(self, patience: float | None = None) -> None:
        """Wait until every message has its PUBACK, for at most so many seconds.

        Raises:
            LinesError: refused, or no answer in time.
        """
        self._hear(0.0)
        self._until(lambda: not self.outstanding, self.patience if patience is None else patience)

    def close(self) -> None:
        """Disconnect all gateways without a further word: no will is published."""
        for line in self._lines.values():
            self._hang_up(line, goodbye=True)
        self._lines.clear()
        self._broken.clear()
        self._poll.close()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _until(self, done: Callable[[], bool], patience: float) -> None:
        deadline = time.monotonic() + patience
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                late = [line.user for line in self._lines.values() if line.outstanding]
                raise LinesError(
                    f"no answer from {self.host}:{self.port} in {patience:g} s: {self.outstanding} messages of "
                    f"{len(late)} gateways wait ({late[0]} ...)"
                    + (f"; {self._failure}" if self._failure else "")
                )
            self._hear(min(left, AGAIN))

    def _hear(self, patience: float) -> None:
        """Take what comes in for at most so long, and do what has become possible by it."""
        if self._broken:
            self._mend()
        if self.keepalive:
            self._ping()
        for descriptor, event in self._poll.poll(patience, max(1, len(self._by_descriptor))):
            line = self._by_descriptor[descriptor]
            if event & select.EPOLLOUT:
                self._poll.modify(descriptor, select.EPOLLIN)
            try:
                assert line.connection is not None
                for id in line.connection.acknowledgements() if event & ~select.EPOLLOUT else ():
                    del line.unacknowledged[id]
                    self.acknowledged += 1
                    self.outstanding -= 1
            except HungUp as error:
                self._break(line, error)
            except Refused as error:
                raise LinesError(f"{line.user}: {error}") from error
            else:
                self._push(line)

    def _push(self, line: _Line) -> None:
        """Send what waits, as far as window and kernel let us."""
        while line.connection is not None:
            if not line.rest:
                if not line.waiting or len(line.unacknowledged) >= line.window:
                    return
                publication = line.waiting.popleft()
                line.id = line.id % 65535 + 1
                line.unacknowledged[line.id] = publication
                topic, payload, retain = publication.topic, publication.payload, publication.retain
                line.rest = memoryview(publish(MQTT_5, topic, payload, line.id, retain=retain))
            try:
                out = line.connection.send(line.rest)
            except HungUp as error:
                self._break(line, error)
                return
            line.rest = line.rest[out:]
            if self.keepalive and out:
                line.spoke = time.monotonic()
            if line.rest:
                descriptor = line.connection.socket.fileno()
                self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)
                return

    def _ping(self) -> None:
        now = time.monotonic()
        if now < self._ping_at:
            return
        self._ping_at = now + self.keepalive / 4
        for line in list(self._by_descriptor.values()):
            if now - line.spoke > self.keepalive / 2 and not line.rest:
                line.rest = memoryview(PING)
                line.spoke = now
                self._push(line)

    def _mend(self) -> None:
        """Connect who has no connection, if the broker is there."""
        if time.monotonic() < self._try_at:
            return
        for line in list(self._broken):
            will = FORMS["columns"].status(False)
            try:
                connection = Connection(
                    self.host,
                    self.port,
                    client=line.user.replace("/", "."),
                    user=line.user,
                    password=self._passwords(line.enterprise, line.gateway),
                    protocol=MQTT_5,
                    patience=self.patience,
                    will=(f"fenghuo/v1/{line.user}/{will[0]}", will[1]),
                    keepalive=self.keepalive,
                )
            except Refused as error:
                if not isinstance(error, HungUp):
                    raise LinesError(f"{line.user}: {error}") from error
                self._not_there(error)
                return
            except OSError as error:
                self._not_there(error)
                return
            del self._broken[line]
            line.connection = connection
            line.window = min(WINDOW, connection.receive_maximum)
            descriptor = connection.socket.fileno()
            self._by_descriptor[descriptor] = line
            self._poll.register(descriptor, select.EPOLLIN)
            self._push(line)

    def _not_there(self, error: OSError) -> None:
        self._failure = str(error)
        self._try_at = time.monotonic() + AGAIN

    def _break(self, line: _Line, error: HungUp) -> None:
        """The connection is over: all that has no PUBACK waits again, after a word of being online."""
        self._failure = str(error)
        self._hang_up(line, goodbye=False)
        again = list(line.unacknowledged.values())
        if line.online is not None and line.online not in (*again, *line.waiting):
            again.insert(0, line.online)
            self.outstanding += 1
        line.waiting.extendleft(reversed(again))
        line.unacknowledged.clear()
        line.rest = memoryview(b"")
        self._broken[line] = None

    def _remove(self, line: _Line) -> None:
        self._until(lambda: not line.outstanding, self.patience)
        self._hang_up(line, goodbye=False)
        self._broken.pop(line, None)
        del self._lines[line.enterprise, line.gateway]

    def _hang_up(self, line: _Line, *, goodbye: bool) -> None:
        connection, line.connection = line.connection, None
        if connection is None:
            return
        descriptor = connection.socket.fileno()
        self._poll.unregister(descriptor)
        del self._by_descriptor[descriptor]
        if goodbye:
            connection.close()
        else:
            connection.socket.close()
