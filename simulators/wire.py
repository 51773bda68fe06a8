"""A bare MQTT publisher on a socket: CONNECT once, then bytes out and PUBACKs in, and nothing else."""

import socket
import struct
from contextlib import closing, suppress

CONNACK, PUBACK, PINGRESP, DISCONNECT = 0x20, 0x40, 0xD0, 0xE0
PING = b"\xc0\x00"
RECEIVE_MAXIMUM = 0x21
PASSING = {0x88, 0x89, 0x8B, 0x8D, 0x98}
"""Reasons to be cut off that pass: unavailable, busy, shutting down, too long silent, an administrator's hand."""
LONGEST = 65535
"""The longest keepalive that MQTT knows, 18 hours: "for ever" is refused by mosquitto from 2.0.12 on."""
PROPERTY_SIZES = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
"""Bytes of the CONNACK properties that have a fixed size (MQTT 5, 2.2.2.2)."""


class Refused(ConnectionError):
    """The broker refused the connection or a message, or hung up."""


class HungUp(Refused):
    """The connection is over, and a new one may do better."""


class Connection:
    """A connected publisher; the socket does not block.

    Args:
        protocol: 4 for MQTT 3.1.1, 5 for MQTT 5. client: client id.
        will: topic and payload of the last will, QoS 1 and retained.
        keepalive: seconds; who is silent for half as long again is taken for lost. 0: LONGEST.

    Raises:
        Refused: with the broker's reason code. OSError: nobody answers there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client: str,
        user: str,
        password: str,
        protocol: int,
        patience: float,
        will: tuple[str, bytes] | None = None,
        keepalive: int = 0,
    ) -> None:
        self.protocol = protocol
        self.receive_maximum = 65535
        self._rest = b""
        self.socket = socket.create_connection((host, port), timeout=patience)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(_connect(protocol, client, user, password, will, keepalive))
            self._connack(client)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: memoryview) -> int:
        """Bytes that the kernel took, 0 if its buffer is full.

        Raises:
            HungUp: the connection is over.
        """
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except ConnectionError as error:
            raise HungUp(f"the broker hung up: {error}") from error

    def acknowledged(self) -> int:
        """How many PUBACKs have come in since the last call.

        Raises:
            Refused: a message was refused. HungUp: the connection is over.
        """
        return len(self.acknowledgements())

    def acknowledgements(self) -> list[int]:
        """The packet ids of the PUBACKs that have come in since the last call.

        Raises:
            Refused: a message was refused. HungUp: the connection is over.
        """
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except ConnectionError as error:
            raise HungUp(f"the broker hung up: {error}") from error
        if not data:
            raise HungUp("the broker hung up")
        data = self._rest + data
        ids: list[int] = []
        at = 0
        while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:  # no packet here is over 127 bytes
            kind, size = data[at], data[at + 1]
            if kind == PUBACK:
                if size > 2 and data[at + 4] >= 0x80:
                    raise Refused(f"the broker refuses a message: reason code {data[at + 4]:#x}")
                ids.append(data[at + 2] << 8 | data[at + 3])
            elif kind == DISCONNECT:
                reason = data[at + 2] if size else 0
                kind_of = HungUp if reason in PASSING else Refused
                raise kind_of(f"the broker disconnects: reason code {reason:#x}")
            elif kind != PINGRESP:
                raise Refused(f"the broker sends a packet that nobody asked for: {kind:#x}")
            at += 2 + size
        self._rest = data[at:]
        return ids

    def close(self) -> None:
        """Say DISCONNECT and hang up."""
        self.socket.setblocking(True)
        self.socket.settimeout(1.0)
        with closing(self.socket), suppress(OSError):  # a broker that has gone needs no goodbye
            self.socket.sendall(b"\xe0\x00")

    def _connack(self, client: str) -> None:
        head = self._exactly(2)
        body = self._exactly(head[1])
        if head[0] != CONNACK or len(body) < 2:
            raise Refused(f"{client}: not an MQTT broker")
        if body[1]:
            kind_of = HungUp if body[1] in PASSING else Refused
            raise kind_of(f"{client}: the broker refuses the connection: code {body[1]:#x}")
        if self.protocol == 5:
            at = 3  # one byte of property length: brokers' CONNACKs are far shorter than 128 bytes
            while at < len(body):
                key = body[at]
                if key == RECEIVE_MAXIMUM:
                    self.receive_maximum = int.from_bytes(body[at + 1 : at + 3], "big")
                at += 1 + PROPERTY_SIZES.get(key, 0)
                if key not in PROPERTY_SIZES:  # text: two bytes of length before it
                    at += 2 + int.from_bytes(body[at : at + 2], "big")

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise HungUp("the broker hung up while connecting")
            data += more
        return data


def publish(protocol: int, topic: str, payload: bytes, id: int, *, retain: bool = False) -> bytes:
    """A PUBLISH of QoS 1; id: 1–65535, not that of another that has no PUBACK."""
    head = _text(topic.encode()) + struct.pack(">H", id) + (b"\0" if protocol == 5 else b"")
    return (b"\x33" if retain else b"\x32") + _length(len(head) + len(payload)) + head + payload


def _connect(
    protocol: int, client: str, user: str, password: str, will: tuple[str, bytes] | None, keepalive: int
) -> bytes:
    """CONNECT with a clean session."""
    keepalive = keepalive or LONGEST
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0) | (0x2C if will else 0)
    none = b"\0" if protocol == 5 else b""  # no properties
    body = struct.pack(">H4sBBH", 4, b"MQTT", protocol, flags, keepalive) + none + _text(client.encode())
    if will:
        body += none + _text(will[0].encode()) + _text(will[1])
    for text in filter(None, (user, password)):
        body += _text(text.encode())
    return b"\x10" + _length(len(body)) + body


def _text(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _length(size: int) -> bytes:
    """MQTT's variable byte integer."""
    data = bytearray()
    while size > 127:
        data.append(size & 127 | 128)
        size >>= 7
    data.append(size)
    return bytes(data)
