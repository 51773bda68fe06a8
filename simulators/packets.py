"""Prebuilt MQTT PUBLISH packets of a whole round, whose times, ids and values are patched in place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulators.excursions import NORMAL, Limits
from simulators.wire import publish

FORMS = ("columns", "rows", "objects")
"""columns: points and values apart; rows: {"P-0001": 49.87}; objects: {"P-0001": {"value": .., "quality": ..}}."""

TIME = "2000-01-01T00:00:00.000"
WIDTH = 5
"""Characters of every value, so that one takes another's place."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who sends: every enterprise has one gateway of this name with these points."""

    enterprises: tuple[str, ...]
    gateway: str
    points: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)


class Packets:
    """All messages of a round, one after the other in one buffer, and several buffers taken in turn.

    Each buffer has values of its own, so that no two rounds in a row are alike. Points are numbered through
    the messages: enterprise by enterprise, each in the order of ``Fleet.points``.

    Args:
        form: one of FORMS. batch: readings a message. levels: what states 1, 2 ... of a point stand for.
        protocol: 4 for MQTT 3.1.1, 5 for MQTT 5.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        form: str = "columns",
        batch: int = 200,
        levels: Sequence[str] = ("H", "L"),
        protocol: int = 4,
        variants: int = 8,
        seed: int = 1,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form {form!r}; expected one of {', '.join(FORMS)}")
        text = bytearray()
        starts, ids, times, sizes, payloads = [0], [], [], [], []
        slots: list[int] = []
        owners: list[int] = []
        for owner, enterprise in enumerate(fleet.enterprises):
            for first in range(0, len(fleet.points), batch):
                points = fleet.points[first : first + batch]
                payload, time_at, values_at = _payload(form, points)
                topic = f"fenghuo/v1/{enterprise}/{fleet.gateway}/readings"
                text += publish(protocol, topic, payload, 0)
                starts.append(len(text))
                begin = len(text) - len(payload)
                ids.append(begin - (3 if protocol == 5 else 2))  # MQTT 5 has its empty properties in between
                times.append(begin + time_at)
                slots += [begin + at for at in values_at]
                sizes.append(len(points))
                payloads.append(len(payload))
                owners.append(owner)
        self.messages = len(sizes)
        self.readings = sum(sizes)
        self.payload_bytes = sum(payloads)
        self.starts = starts  # message i is bytes starts[i] to starts[i + 1]
        self.owners = owners  # index of the enterprise of each message
        self.variants = variants
        self._id_at = np.array(ids)[:, None] + np.arange(2)
        self._time_at = np.array(times)[:, None] + np.arange(len(TIME))
        self._slot_at = np.array(slots)[:, None] + np.arange(WIDTH)
        self._normal = _normal_values(fleet.limits, variants, self.readings, seed)
        self._beyond = _digits([fleet.limits.beyond(level) for level in levels])
        self._state = np.zeros(self.readings, np.uint8)
        self._dirty: list[NDArray[np.intp]] = [np.empty(0, np.intp)] * variants
        self._buffers = np.tile(np.frombuffer(bytes(text), np.uint8), (variants, 1))
        for buffer, normal in zip(self._buffers, self._normal, strict=True):
            buffer[self._slot_at] = normal
        self.views = [memoryview(buffer) for buffer in self._buffers]

    def change(self, points: NDArray[np.int64], state: int) -> None:
        """From the next prepared round on these points are NORMAL, or beyond the limit of their state."""
        self._state[points] = state

    def prepare(self, round: int, times: NDArray[np.int64], ids: NDArray[np.int64]) -> memoryview:
        """The bytes of a round, in the buffer whose turn it is; all that was in there must have been sent.

        times: device time of each message, µs UTC, cut to the millisecond. ids: packet ids, 1–65535.
        """
        turn = round % self.variants
        buffer = self._buffers[turn]
        stamps = np.datetime_as_string(times.astype("datetime64[us]").astype("datetime64[ms]"))
        buffer[self._time_at] = stamps.astype(f"S{len(TIME)}").view(np.uint8).reshape(-1, len(TIME))
        buffer[self._id_at] = ids.astype(">u2").view(np.uint8).reshape(-1, 2)
        was = self._dirty[turn]
        buffer[self._slot_at[was]] = self._normal[turn][was]
        out = np.flatnonzero(self._state != NORMAL)
        buffer[self._slot_at[out]] = self._beyond[self._state[out] - 1]
        self._dirty[turn] = out
        return self.views[turn]


def _payload(form: str, points: Sequence[str]) -> tuple[bytes, int, list[int]]:
    """The JSON of a message, where its time begins and where each value begins."""
    text = f'{{"time":"{TIME}Z",'
    time_at = text.index(TIME)
    blank = "0" * WIDTH
    at = []
    if form == "columns":
        names = ",".join(f'"{point}"' for point in points)
        text += f'"points":[{names}],"values":['
        for number in range(len(points)):
            text += "," if number else ""
            at.append(len(text.encode()))
            text += blank
        return (text + "]}").encode(), time_at, at
    before, after = (":", "") if form == "rows" else (':{"value":', ',"quality":"good"}')
    text += '"readings":{'
    for number, point in enumerate(points):
        text += f'{"," if number else ""}"{point}"{before}'
        at.append(len(text.encode()))
        text += blank + after
    return (text + "}}").encode(), time_at, at


def _normal_values(limits: Limits, variants: int, points: int, seed: int) -> NDArray[np.uint8]:
    """A level for each point and a little noise on it in each variant, as digits [variants, points, WIDTH]."""
    random = np.random.default_rng(seed)
    low, high = limits.normal
    margin = (high - low) / 20
    level = random.uniform(low + margin, high - margin, points)
    values = level + random.uniform(-margin, margin, (variants, points))
    return _digits(values.ravel().tolist()).reshape(variants, points, WIDTH)


def _digits(values: Sequence[float]) -> NDArray[np.uint8]:
    """Each value in WIDTH characters of JSON, [n, WIDTH]."""
    if any(value < 0 or value >= 1000 for value in values):
        raise ValueError("values of the load lie from 0 to below 1000")
    texts = [f"{value:.4f}"[:WIDTH] for value in values]
    return np.array(texts, f"S{WIDTH}").view(np.uint8).reshape(-1, WIDTH)
