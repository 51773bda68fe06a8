"""How packets of values become a topic and bytes: the seam at which further protocols join."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson

from simulators.plant import Floats

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PAYLOAD = 1024 * 1024
"""Most bytes of a message (docs/wire-format.md)."""

READINGS = 50_000
"""Most readings of a message (docs/wire-format.md)."""


def iso(time: int) -> str:
    """µs UTC as the wire format writes it, to the millisecond where that is all there is to say."""
    moment = EPOCH + timedelta(microseconds=time)
    text = moment.isoformat(timespec="microseconds" if time % 1000 else "milliseconds")
    return text.replace("+00:00", "Z")


class Points:
    """A list of point ids, and its JSON text, made once for all the packets that name these points."""

    __slots__ = ("ids", "text")

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        self.text = orjson.Fragment(orjson.dumps(self.ids))


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """Values of several points at one time (µs UTC, by the device's clock); NaN could not be measured."""

    time: int
    points: Points
    values: Floats


class Encoding(Protocol):
    """A protocol: what a gateway publishes under its own topic, fenghuo/v1/ENTERPRISE/GATEWAY/."""

    def readings(self, packets: Sequence[Packet]) -> tuple[str, bytes]:
        """The last level of the topic, and the payload of one message with these packets, oldest first."""
        ...

    def status(self, online: bool) -> tuple[str, bytes]:
        """The same of the retained message that says whether the gateway is online."""
        ...

    def most(self, points: Points) -> int:
        """The bytes that a message with one packet of these points cannot exceed."""
        ...


class _Native(ABC):
    """What both forms of native JSON share; one packet is an object, several are a list of them."""

    def readings(self, packets: Sequence[Packet]) -> tuple[str, bytes]:
        objects = [self._object(packet) for packet in packets]
        document = objects[0] if len(objects) == 1 else objects
        return "readings", orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def status(self, online: bool) -> tuple[str, bytes]:
        return "status", orjson.dumps({"online": online})

    def most(self, points: Points) -> int:
        return (
            100 + len(orjson.dumps(points.text)) + 26 * len(points.ids)
        )  # a float has 24 characters at most

    @abstractmethod
    def _object(self, packet: Packet) -> dict[str, Any]: ...


class Rows(_Native):
    """``{"time": ..., "readings": {point: value}}``."""

    def _object(self, packet: Packet) -> dict[str, Any]:
        values = packet.values.tolist()
        return {"time": iso(packet.time), "readings": dict(zip(packet.points.ids, values, strict=True))}


class Columns(_Native):
    """``{"time": ..., "points": [...], "values": [...]}``."""

    def _object(self, packet: Packet) -> dict[str, Any]:
        return {"time": iso(packet.time), "points": packet.points.text, "values": packet.values}


FORMS: dict[str, Encoding] = {"rows": Rows(), "columns": Columns()}
"""The encoding of each form that an uplink may have."""
