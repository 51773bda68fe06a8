"""What gateways make of a readout: packets at their own times by their own clocks, and the ways to lose them."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simulators.instruments import MUTE, Indices, Readout
from simulators.plant import Floats
from simulators.protocol import FORMS, PAYLOAD, READINGS, Packet, Points

SECOND = 1_000_000
MS = 1000
AT_ONCE = 200
"""Most packets that a gateway puts into one list message."""

NEVER = -(1 << 62)

KINDS = ("dead", "restart", "hung", "split", "clock")
"""What can be wrong with a gateway."""


class Kind(StrEnum):
    """What a message is for. LOST is none: the connection goes without a word."""

    READINGS = "readings"
    ONLINE = "online"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker at ``at`` (µs, true time).

    topic: all of it. ONLINE is retained. LOST has the topic and payload of the last will, which the broker
    publishes.
    """

    at: int
    enterprise: str
    gateway: str
    kind: Kind
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Uplink:
    """How a gateway sends. Times in seconds, chances from 0 to 1.

    every: a packet of the readout at each multiple of ``every``; where no readout is made then, of the next
    one. form: "rows" or "columns".
    batch: packets are collected and sent as one list message once in so long; 0 sends each by itself.
    exception: send by exception: only points that moved by more than their deadband since they were last
    sent, or were last sent ``heartbeat`` or longer ago, or came to have or to lack a value. The deadband is
    so many times the point's resolution. None sends all.
    loss, doubled, late: chances that a message never leaves, is sent twice, leaves ``late_by`` later; they
    do not touch what was kept while the network was cut.
    clock_offset: how far the clock is ahead. clock_drift: how fast it gains, ppm since the first step.

    Raises:
        ValueError: a value that cannot be.
    """

    every: float = 1.0
    form: str = "columns"
    batch: float = 0.0
    exception: float | None = None
    heartbeat: float = 60.0
    loss: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_by: float = 0.0
    clock_offset: float = 0.0
    clock_drift: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r}; expected one of {', '.join(FORMS)}")
        if self.every < 1e-3 or self.batch < 0 or self.late_by < 0 or self.heartbeat <= 0:
            raise ValueError("every is at least 1 ms, heartbeat more than 0, batch and late_by not negative")
        if not all(0 <= chance <= 1 for chance in (self.loss, self.doubled, self.late)):
            raise ValueError("a chance is from 0 to 1")


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that is wrong with a gateway from begin until before end (µs).

    kind: "dead" has no power: the broker publishes its last will, and what it kept is gone. "restart" is the same
    but short; both say online when they are back.
    "hung" stays connected, sends nothing and keeps nothing. "split" has no network: it measures on, and sends
    what it kept when it is back. "clock": the time jumps by ``by`` seconds; with ``mad`` each packet's
    time is off by a random amount within +-by.

    Raises:
        ValueError: no such kind, or it ends before it begins.
    """

    kind: str
    begin: int
    end: int
    by: float = 0.0
    mad: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault of a gateway is called {self.kind!r}; there are {', '.join(KINDS)}")
        if self.end < self.begin:
            raise ValueError(f"{self.kind} ends before it begins")

    @property
    def cut(self) -> bool:
        """The broker does not hear the gateway's connection."""
        return self.kind in ("dead", "restart", "split")

    @property
    def forgetful(self) -> bool:
        """The gateway measures nothing and keeps nothing."""
        return self.kind in ("dead", "restart", "hung")


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """One gateway: whose it is, which points it sends, how, and what goes wrong with it.

    first: place of its first point in the flat arrays; the others follow. points: their ids.
    """

    enterprise: str
    gateway: str
    first: int
    points: tuple[str, ...]
    uplink: Uplink = Uplink()
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class _Event:
    """An outage begins (side 0) or ends (side 1); of those at one time, beginnings come first."""

    at: int
    side: int
    station: int
    place: int  # among the station's outages


class Uplinks:
    """All gateways of a city.

    ``step`` gets a readout and says what goes to the broker. Chances are drawn for all gateways at once, whether
    they send or not, so that what befalls one does not change another.

    Args:
        stations: no two with a point in common; points that nobody has are not sent.
        resolution: of all points, [p]; needed where there is an ``exception``.
        random: what chances are drawn from; nobody else may draw from it.

    Raises:
        ValueError: stations that share points, a gateway too big for one message, or an exception without
            the resolution.
    """

    def __init__(
        self, stations: Sequence[Station], random: Generator, *, resolution: Floats | None = None
    ) -> None:
        n = len(stations)
        self.stations = tuple(stations)
        self._random = random
        uplinks = [station.uplink for station in stations]
        self._bounds = [(s.first, s.first + len(s.points)) for s in stations]
        self.count = max((end for _, end in self._bounds), default=0)
        self._owner = np.full(self.count, n, np.intp)  # n: nobody's
        self._points = [Points(station.points) for station in stations]
        self._encoding = [FORMS[uplink.form] for uplink in uplinks]
        for g, (begin, end) in enumerate(self._bounds):
            who = f"{stations[g].enterprise}/{stations[g].gateway}"
            if begin < 0 or np.any(self._owner[begin:end] != n):
                raise ValueError(f"{who}: has points that another gateway has")
            if end - begin > READINGS or self._encoding[g].most(self._points[g]) > PAYLOAD:
                raise ValueError(f"{who}: {end - begin} points may not fit into one message")
            self._owner[begin:end] = g
        self._every = _micros(uplink.every for uplink in uplinks)
        self._batch = _micros(uplink.batch for uplink in uplinks)
        self._batches = self._batch > 0
        self._offset = _micros(uplink.clock_offset for uplink in uplinks)
        self._drift = np.array([uplink.clock_drift for uplink in uplinks]) * 1e-6
        self._chances = np.array([[u.loss, u.doubled, u.late] for u in uplinks]).reshape(n, 3).T
        self._late_by = _micros(uplink.late_by for uplink in uplinks).tolist()
        self._exceptions = np.array([uplink.exception is not None for uplink in uplinks], np.bool_)
        if self._exceptions.any():
            self._deadband = np.zeros(self.count)
            self._heartbeat = np.append(_micros(uplink.heartbeat for uplink in uplinks), 0)[self._owner]
            self._sent = np.zeros(self.count)
            self._sent_at = np.full(self.count, NEVER)
            for g, (begin, end) in enumerate(self._bounds):
                self._deadband[begin:end] = self._deadband_of(stations[g], resolution)
        self._events = sorted(
            (
                _Event(at, side, g, place)
                for g, station in enumerate(stations)
                for place, outage in enumerate(station.outages)
                for side, at in enumerate((outage.begin, outage.end))
            ),
            reverse=True,
        )
        self._active: list[dict[int, Outage]] = [{} for _ in stations]
        self._connected = [True] * n
        self._measuring = np.ones(n, np.bool_)
        self._jump = np.zeros(n, np.int64)
        self._mad = np.zeros(n)
        self._first: int | None = None
        self._slot = self._batch_slot = np.zeros(n, np.int64)
        self._kept: list[list[Packet]] = [[] for _ in stations]
        self._late: list[tuple[int, int, Message]] = []  # a heap
        self._delayed = 0
        self._mute: dict[int, tuple[bytes, Indices, Points]] = {}

    def step(self, t: int, readout: Readout) -> list[Message]:
        """What goes to the broker since the last step until t (µs), in order of ``at``. t always goes on.

        The first step says online for all that are connected.
        """
        if len(readout.values) < self.count:
            raise ValueError(f"{len(readout.values)} values for {self.count} points")
        messages, returned = self._turn(t)
        while self._late and self._late[0][0] <= t:
            messages.append(heapq.heappop(self._late)[2])
        for g in returned:
            if self._connected[g]:
                messages += self._messages(g, t, self._take(g))
        lots = self._random.random((4, len(self.stations)))
        fates: NDArray[np.bool_] = (lots[:3] < self._chances).T
        unlucky: list[bool] = np.any(fates, axis=1).tolist()
        slot = t // self._every
        due = (slot != self._slot) & self._measuring
        self._slot = slot
        times = self._times(t, lots[3]).tolist()
        parts = self._parts(t, readout, due)
        for g in np.flatnonzero(due).tolist():
            begin, end = self._bounds[g]
            points, values = self._points[g], readout.values[begin:end]
            if g in parts:
                keep, points = parts[g]
                if not len(keep):
                    continue
                values = values[keep]
            if self._batches[g] or not self._connected[g]:
                self._kept[g].append(
                    Packet(times[g], points, values.copy())
                )  # a view keeps the whole readout
                continue
            sent = self._messages(g, t, [Packet(times[g], points, values)])
            messages += self._befall(g, sent, fates[g]) if unlucky[g] else sent
        if self._batches.any():
            slot = t // np.where(self._batches, self._batch, 1)
            for g in np.flatnonzero(self._batches & (slot != self._batch_slot)).tolist():
                if self._connected[g]:
                    messages += self._befall(g, self._messages(g, t, self._take(g)), fates[g])
            self._batch_slot = slot
        messages.sort(key=lambda message: message.at)
        return messages

    # -- what befalls a gateway ----------------------------------------------------------------

    def _turn(self, t: int) -> tuple[list[Message], list[int]]:
        """Let outages begin and end; what is said of it, and who has the network back."""
        begun = self._first is not None
        if not begun:
            self._first = t
            self._slot = (t - 1) // self._every
            self._batch_slot = (t - 1) // np.where(self._batches, self._batch, 1)
        messages: list[Message] = []
        returned: list[int] = []
        while self._events and self._events[-1].at <= t:
            event = self._events.pop()
            g, active = event.station, self._active[event.station]
            if event.side == 0:
                active[event.place] = self.stations[g].outages[event.place]
            else:
                del active[event.place]
            connected = not any(other.cut for other in active.values())
            measuring = not any(other.forgetful for other in active.values())
            if connected != self._connected[g]:
                self._connected[g] = connected
                if begun:
                    messages.append(self._status(g, event.at, Kind.ONLINE if connected else Kind.LOST))
                    if connected:
                        returned.append(g)
            if self._measuring[g] and not measuring:
                self._forget(g)
            self._measuring[g] = measuring
            clocks = [other for other in active.values() if other.kind == "clock"]
            self._jump[g] = sum(round(other.by * SECOND) for other in clocks if not other.mad)
            self._mad[g] = sum(other.by for other in clocks if other.mad) * SECOND
        if not begun:
            messages += [
                self._status(g, t, Kind.ONLINE) for g, connected in enumerate(self._connected) if connected
            ]
        return messages, returned

    def _forget(self, g: int) -> None:
        self._kept[g] = []
        if self._exceptions[g]:
            begin, end = self._bounds[g]
            self._sent_at[begin:end] = NEVER

    def _befall(self, g: int, messages: list[Message], fate: NDArray[np.bool_]) -> list[Message]:
        """What of these messages leaves now, now that chance has spoken."""
        lost, doubled, late = fate.tolist()
        if lost:
            return []
        if doubled:
            messages = [message for message in messages for _ in range(2)]
        if not late:
            return messages
        for message in messages:
            at = self._leaves(g, message.at, message.at + self._late_by[g])
            if at is not None:
                self._delayed += 1
                heapq.heappush(self._late, (at, self._delayed, replace(message, at=at)))
        return []

    def _leaves(self, g: int, t: int, at: int) -> int | None:
        """When a message leaves that waits from t until at; None if the gateway forgets it before."""
        for outage in sorted(self.stations[g].outages, key=lambda outage: outage.begin):
            if outage.forgetful and t < outage.begin <= at:
                return None
            if outage.cut and outage.begin <= at < outage.end:
                at = outage.end
        return at

    # -- what is sent --------------------------------------------------------------------------

    def _times(self, t: int, lots: Floats) -> NDArray[np.int64]:
        """What the devices' clocks say at t, to the millisecond."""
        assert self._first is not None
        wrong = self._drift * (t - self._first) + self._mad * (2 * lots - 1)
        return (t + self._offset + self._jump + np.rint(wrong).astype(np.int64)) // MS * MS

    def _parts(self, t: int, readout: Readout, due: NDArray[np.bool_]) -> dict[int, tuple[Indices, Points]]:
        """Which points, for the gateways that do not send all of theirs."""
        parts: dict[int, tuple[Indices, Points]] = {}
        mute = readout.state[: self.count] == MUTE
        if mute.any():
            for g in np.unique(self._owner[mute]).tolist():
                if g < len(due) and due[g] and not self._exceptions[g]:
                    parts[g] = self._heard(g, mute)
        if self._exceptions.any():
            values = readout.values[: self.count]
            send = np.abs(values - self._sent) > self._deadband
            send |= np.isnan(values) != np.isnan(self._sent)
            send |= t - self._sent_at >= self._heartbeat
            send &= ~mute
            send &= np.append(due, False)[self._owner]
            np.copyto(self._sent, values, where=send)
            np.copyto(self._sent_at, t, where=send)
            for g in np.flatnonzero(due & self._exceptions).tolist():
                begin, end = self._bounds[g]
                keep = np.flatnonzero(send[begin:end])
                if len(keep) < end - begin:
                    parts[g] = keep, Points([self._points[g].ids[place] for place in keep.tolist()])
        return parts

    def _heard(self, g: int, mute: NDArray[np.bool_]) -> tuple[Indices, Points]:
        """The points of a gateway that are not mute; instruments stay mute for long, so this is remembered."""
        begin, end = self._bounds[g]
        silent = mute[begin:end].tobytes()
        known = self._mute.get(g)
        if known is None or known[0] != silent:
            keep = np.flatnonzero(~mute[begin:end])
            known = silent, keep, Points([self._points[g].ids[place] for place in keep.tolist()])
            self._mute[g] = known
        return known[1:]

    def _take(self, g: int) -> list[Packet]:
        """What the gateway kept; it keeps it no longer."""
        kept, self._kept[g] = self._kept[g], []
        return kept

    def _messages(self, g: int, t: int, packets: list[Packet]) -> list[Message]:
        """These packets in as few messages as may be, oldest first."""
        station = self.stations[g]
        return [
            Message(
                t, station.enterprise, station.gateway, Kind.READINGS, self._topic(station, suffix), payload
            )
            for part in _runs(packets)
            for suffix, payload in self._fitting(g, part)
        ]

    def _fitting(self, g: int, packets: list[Packet]) -> list[tuple[str, bytes]]:
        suffix, payload = self._encoding[g].readings(packets)
        if len(payload) <= PAYLOAD:
            return [(suffix, payload)]
        half = len(packets) // 2  # one packet always fits
        return self._fitting(g, packets[:half]) + self._fitting(g, packets[half:])

    def _status(self, g: int, at: int, kind: Kind) -> Message:
        station = self.stations[g]
        suffix, payload = self._encoding[g].status(kind is Kind.ONLINE)
        return Message(at, station.enterprise, station.gateway, kind, self._topic(station, suffix), payload)

    @staticmethod
    def _topic(station: Station, suffix: str) -> str:
        return f"fenghuo/v1/{station.enterprise}/{station.gateway}/{suffix}"

    @staticmethod
    def _deadband_of(station: Station, resolution: Floats | None) -> Floats | float:
        exception = station.uplink.exception
        if exception is None:
            return 0.0
        if resolution is None:
            raise ValueError(f"{station.gateway}: a deadband in multiples of resolution, and no resolution")
        return exception * resolution[station.first : station.first + len(station.points)]


def _runs(packets: list[Packet]) -> list[list[Packet]]:
    """Parts with no more packets and readings than a message may have."""
    runs: list[list[Packet]] = []
    readings = READINGS
    for packet in packets:
        readings += len(packet.values)
        if readings > READINGS or len(runs[-1]) == AT_ONCE:
            runs.append([])
            readings = len(packet.values)
        runs[-1].append(packet)
    return runs


def _micros(seconds: Iterable[float]) -> NDArray[np.int64]:
    return np.array([round(value * SECOND) for value in seconds], np.int64)
