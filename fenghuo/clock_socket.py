"""The controlled clock: a process takes its time from a loopback socket, and a stepper moves it.

The protocol is lines of text. The stepper sends "NUMBER TIME" (µs); a process says its name once, and
each number back when it has read all that had arrived by then and done all that was due. So hours pass
in seconds through the real processes, and nothing ever waits for a wall clock.
"""

import contextlib
import select
import socket
from collections.abc import Iterable, Sequence
from types import TracebackType

from registry.clock import SECOND


class ClockLost(ConnectionError):
    """The stepper has gone: there is no time any more, so the process has to end."""


class ControlledClock:
    """The process's end: a Clock that stands still until it is stepped.

    Args:
        address: "127.0.0.1:PORT" of a Stepper.
        name: how the stepper knows this process, e.g. "judge".
    """

    def __init__(self, address: str, name: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(f"{name}\n".encode())
        self._buffer = b""
        self._now = 0
        self.asked = 0
        self._told = 0
        while not self._now:
            self._receive()
        self._socket.setblocking(False)

    def now(self) -> int:
        return self._now

    def timeout(self, until: int) -> float | None:
        return 0.0 if until <= self._now else None

    def marks(self, since: int, now: int) -> Sequence[int]:
        return range(since + SECOND, now + 1, SECOND)

    def fileno(self) -> int:
        return self._socket.fileno()

    def poll(self) -> None:
        """Take over a step that has arrived. Raises ClockLost when the stepper has gone."""
        with contextlib.suppress(BlockingIOError):
            self._receive()

    def rest(self) -> None:
        if self._told != self.asked:
            self._told = self.asked
            try:
                self._socket.sendall(b"%d\n" % self.asked)
            except OSError as error:
                raise ClockLost("the clock's stepper has gone") from error

    def _receive(self) -> None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ClockLost("the clock's stepper has gone") from error
        if not data:
            raise ClockLost("the clock's stepper has gone")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if lines:
            number, _, now = lines[-1].partition(b" ")
            self.asked, self._now = int(number), max(self._now, int(now))


class Stepper:
    """The other end: it holds the time of all processes that took their clock from it.

    Args:
        now: the time at which it stands at first, µs.
    """

    def __init__(self, now: int, port: int = 0) -> None:
        self.now = now
        self._number = 1
        self._listener = socket.create_server(("127.0.0.1", port))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._processes: dict[socket.socket, _Process] = {}

    def __enter__(self) -> "Stepper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for connection in self._processes:
            connection.close()
        self._listener.close()

    @property
    def names(self) -> list[str]:
        """The processes that hang on this clock now."""
        self.hear(0.0)
        return sorted(process.name for process in self._processes.values() if process.name)

    def step(self, now: int) -> None:
        """Move the time to ``now``, µs, or leave it there; does not wait."""
        if now < self.now:
            raise ValueError(f"a clock does not go back: {now} is before {self.now}")
        self.hear(0.0)
        self.now = now
        self._number += 1
        for connection in list(self._processes):
            self._send(connection)

    def at_rest(self, names: Iterable[str]) -> bool:
        """Whether all these processes hang on the clock and have done all that the last step brought."""
        self.hear(0.0)
        return {process.name for process in self._processes.values() if process.told == self._number} >= set(
            names
        )

    def hear(self, timeout: float) -> None:
        """Take in processes that come and what they say, waiting up to ``timeout`` s for the first."""
        while True:
            ready, _, _ = select.select([self._listener, *self._processes], [], [], timeout)
            if not ready:
                return
            timeout = 0.0
            for connection in ready:
                if connection is self._listener:
                    accepted, _ = self._listener.accept()
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._processes[accepted] = _Process()
                    self._send(accepted)
                else:
                    self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            connection.close()
            del self._processes[connection]
            return
        self._processes[connection].hear(data)

    def _send(self, connection: socket.socket) -> None:
        try:
            connection.sendall(b"%d %d\n" % (self._number, self.now))
        except ConnectionError:
            connection.close()
            del self._processes[connection]


class _Process:
    """What the stepper knows of one process."""

    def __init__(self) -> None:
        self.name = ""
        self.told = 0
        self._buffer = b""

    def hear(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self.name:
                self.told = max(self.told, int(line))
            else:
                self.name = line.decode()
