"""The load generator: a fleet of gateways as fast as asked, and exactly what a judge must find in what it sent.

    python -m simulators.load --fleet fleet.json --port 1883 --rate 100600 --mode spread --for 30

``fleet.json`` names who sends; a bench writes it from its registry:

    {"enterprises": ["91370200MA0001XX0A", ...], "gateway": "gw1", "points": ["P-0001", ...],
     "limits": {"LL": 10, "L": 20, "H": 80, "HH": 90, "on_delay": 2000000, "off_delay": 5000000}}

Every enterprise has the same points with the same limits (delays in µs). The password is read from the
environment variable FENGHUO_LOAD_PASSWORD, or each user's from a file of lines ``USER PASSWORD``, such as a
Fenghuo with a broker of its own keeps in its data folder.

Open loop (``--rate``): every message has its scheduled time, which is its device time too, and is sent then
or as soon after as the socket takes it; lateness is measured against the schedule, so nothing is omitted
while the broker stalls. Closed loop (``--rate 0``): as fast as the broker acknowledges. A round is one
reading of every point. The report counts rounds that were sent whole, and acknowledged.
"""

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.excursions import Excursions, Expected, Limits
from simulators.packets import FORMS, Fleet, Packets
from simulators.wire import Connection

MS = 1000
AHEAD = 2
"""Rounds that may be under way at once in a closed loop."""

LATE = 100.0
"""Milliseconds behind the schedule (p99) from which on the schedule was not kept."""

BUSY = 0.9
"""Share of the time from which on a single thread has no time left."""

TELL = 0.25
"""Seconds between two words about how far we are."""


class Stalled(RuntimeError):
    """The broker has acknowledged nothing for longer than we are patient."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles in milliseconds."""

    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was sent and acknowledged.

    begun, ended: findings of limits that a judge must come to, no more and no fewer; pending_*: readings
    that start, and that complete or cancel, a delay. seconds: from the first schedule to the last
    PUBACK, or to the end of the last round's time.
    first, last: device times, µs UTC. lateness: from schedule to the last byte with the kernel (open loop
    only). acknowledged_after: from schedule to PUBACK; in a closed loop from the last byte sent.
    cpu: seconds of processor that this process used. cpu_waited: seconds in which it was ready to run, and
    others had the processor (0 where the kernel does not tell). held: times that something was due and the
    broker did not take it: its socket full, or as many messages without PUBACK as the window holds.
    """

    form: str
    mode: str
    rate: float
    connections: int
    rounds: int
    messages: int
    readings: int
    payload_bytes: int
    pending_begun: int
    pending_ended: int
    begun: int
    ended: int
    first: int
    last: int
    seconds: float
    readings_per_second: float
    lateness: Spread | None
    acknowledged_after: Spread
    cpu: float
    cpu_waited: float
    held: int

    @property
    def bottleneck(self) -> str:
        """Why the schedule was not kept: "generator", "machine" (others had the processor), "broker" (or what
        is behind it), or "" if it was kept or there was none."""
        if self.lateness is None or (
            self.lateness.p99 <= LATE and self.readings_per_second >= 0.99 * self.rate
        ):
            return ""
        if self.cpu >= BUSY * self.seconds:
            return "generator"
        return "broker" if self.held and self.cpu + self.cpu_waited < BUSY * self.seconds else "machine"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Account:
    """How to log in. user may hold {enterprise}, {gateway} and {connection} (1, 2 ...): each connection needs
    a user of its own where the broker makes it the client id. passwords: by user, where they have not all
    the same.
    """

    user: str = "{enterprise}/{gateway}"
    password: str = ""
    passwords: Mapping[str, str] | None = None

    def password_of(self, user: str) -> str:
        """Raises ValueError: it has none."""
        if self.passwords is None:
            return self.password
        if user not in self.passwords:
            raise ValueError(f"there is no password for {user}")
        return self.passwords[user]


def run(
    fleet: Fleet,
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    account: Account | None = None,
    form: str = "columns",
    batch: int = 200,
    rate: float = 0.0,
    mode: str = "spread",
    duration: float = 10.0,
    settle: float = 0.0,
    connections: int = 0,
    window: int = 1000,
    protocol: int = 4,
    one_in: int = 1000,
    lasting: int = 4,
    levels: Sequence[str] = ("H", "L"),
    start: int | None = None,
    seed: int = 1,
    patience: float = 60.0,
    ready: Callable[[], None] = lambda: None,
    progress: Callable[[float], None] = lambda done: None,
) -> Report:
    """Send for ``duration`` seconds and wait for every PUBACK.

    Args:
        form, batch, protocol, levels: see Packets. one_in, lasting: see Excursions.
        rate: readings a second for the whole fleet, 0 for a closed loop. The time of a round is cut to whole
            milliseconds, so a little more may be sent.
        mode: "spread", messages evenly over the time of a round; "burst", all at its beginning.
        settle: seconds at the end in which nothing new begins, so that every excursion can end: twice the
            on-delay, the off-delay and a second are enough.
        connections: how many share the fleet's messages; 0 is one for each enterprise.
        window: messages of a connection without a PUBACK.
        start: device time of the first round, µs UTC; now if left out.
        ready: called when all is built and connected, just before the first message.
        progress: told now and then which part of all is sent and acknowledged, 0–1.

    Raises:
        Refused: the broker refuses us. Stalled: it no longer answers. OSError: it is not there.
        ValueError: the settings contradict each other, or a user has no password.
    """
    if mode not in ("spread", "burst"):
        raise ValueError(f"mode {mode!r}; expected spread or burst")
    account = account or Account()
    packets = Packets(fleet, form=form, batch=batch, levels=levels, protocol=protocol, seed=seed)
    excursions = Excursions(
        packets.readings, fleet.limits, one_in=one_in, lasting=lasting, levels=levels, seed=seed
    )
    period = int(packets.readings / rate * 1000) * MS if rate else 0
    if rate and not period:
        raise ValueError("a round would take less than a millisecond: more enterprises or points are needed")
    bounds = _bounds(packets, len(fleet.enterprises), connections)
    with ExitStack() as stack:
        lanes = []
        for number, (first, last) in enumerate(bounds, 1):
            enterprise = fleet.enterprises[packets.owners[first]]
            user = account.user.format(enterprise=enterprise, gateway=fleet.gateway, connection=number)
            connection = Connection(
                host,
                port,
                client=user,
                user=user,
                password=account.password_of(user),
                protocol=protocol,
                patience=patience,
            )
            stack.callback(connection.close)
            lanes.append(_Lane(connection, first, last - first, min(window, connection.receive_maximum)))
        ready()
        sender = _Sender(packets, excursions, lanes, period, mode == "spread", start, patience, progress)
        cpu, waited = time.process_time(), _waited()
        sender.send(duration, settle)
        cpu, waited = time.process_time() - cpu, _waited() - waited
    return _report(sender, excursions.expected, form, mode, rate, cpu, waited)


class _Lane:
    """A connection and how far it has got; its messages are a contiguous part of every round."""

    def __init__(self, connection: Connection, first: int, count: int, window: int) -> None:
        self.connection = connection
        self.first = first  # index in the round of its first message
        self.count = count  # messages a round
        self.window = window
        self.due = 0  # messages that may go out, of all rounds
        self.sent = 0
        self.partly = 0  # bytes of the next message that are out already
        self.acknowledged = 0


class _Round:
    """When each message of a round was scheduled, sent and acknowledged, in seconds of this process."""

    def __init__(self, scheduled: NDArray[np.float64]) -> None:
        self.scheduled = scheduled
        self.sent = np.empty_like(scheduled)
        self.acknowledged = np.empty_like(scheduled)
        self.unsent = self.open = len(scheduled)


class _Sender:
    """The loop: prepares rounds when they are due, and moves bytes out and PUBACKs in."""

    def __init__(
        self,
        packets: Packets,
        excursions: Excursions,
        lanes: list[_Lane],
        period: int,
        spread: bool,
        start: int | None,
        patience: float,
        progress: Callable[[float], None],
    ) -> None:
        self.packets = packets
        self.excursions = excursions
        self.lanes = lanes
        self.period = period
        self.start = start
        self.patience = patience
        self.held = 0
        self.rounds = 0
        self.first = self.last = 0  # device times
        self.began = self.ended = 0.0
        self.lateness: list[NDArray[np.float32]] = []
        self.acknowledged_after: list[NDArray[np.float32]] = []
        messages = packets.messages
        self._offsets = (
            np.arange(messages) * period // messages // MS * MS if spread else np.zeros(messages, np.int64)
        )
        self._offset_list: list[int] = self._offsets.tolist()
        self._lane_of = [lane for lane in lanes for _ in range(lane.count)]
        self._open: dict[int, _Round] = {}
        self._unreleased = 0  # messages of the newest round that are not yet due
        self._outstanding = 0  # messages without a PUBACK
        self._acknowledged = 0  # messages
        self._progress = progress
        self._tell_at = 0.0
        self._waiting: dict[_Lane, None] = {}  # in this order: have something due, may be able to send
        self._poll = select.epoll()
        self._by_descriptor = {lane.connection.socket.fileno(): lane for lane in lanes}
        self._wants_out: set[int] = set()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.EPOLLIN)

    def send(self, duration: float, settle: float) -> None:
        now = time.time_ns() // 1000
        self.began = self._heard = time.perf_counter()
        if (
            self.start is None
        ):  # device times are whole milliseconds: so is the schedule that lateness is told by
            wall = now // MS * MS
            self.began -= (now - wall) / 1e6
        else:
            wall = self.start // MS * MS
        self.first = wall
        rounds = ceil(duration * 1e6 / self.period) if self.period else None
        try:
            while True:
                elapsed = self._elapsed()
                self._release(elapsed)
                over = elapsed >= duration * 1e6 if rounds is None else self.rounds >= rounds
                if not over and not self._unreleased and elapsed >= self._next_due() and not self._full():
                    device = wall + (self.rounds * self.period if self.period else elapsed // MS * MS)
                    self._prepare(device, begin=device - wall < (duration - settle) * 1e6)
                    self._release(elapsed)
                self._flush()
                if over and not self._open:
                    break
                self._hear(self._idle(over))
                if elapsed >= self._tell_at:
                    self._tell_at = elapsed + TELL * 1e6
                    whole = rounds * self.packets.messages if rounds else 0
                    self._progress(self._acknowledged / whole if whole else elapsed / (duration * 1e6))
        finally:
            self._poll.close()
        self.ended = time.perf_counter()

    def _elapsed(self) -> int:
        """µs since the first round was due."""
        return int((time.perf_counter() - self.began) * 1e6)

    def _next_due(self) -> int:
        """When the next round is due, in µs since the first."""
        if self.period:
            return self.rounds * self.period
        return self.last - self.first + MS if self.rounds else 0

    def _full(self) -> bool:
        """As many rounds are under way as there are buffers (open loop) or as may be (closed loop)."""
        unsent = sum(1 for round in self._open.values() if round.unsent)
        return unsent >= (self.packets.variants if self.period else AHEAD)

    def _prepare(self, device: int, *, begin: bool) -> None:
        """Put the next round into its buffer."""
        for points, state in self.excursions.round(device, begin=begin):
            self.packets.change(points, state)
        number = self.rounds
        ids = np.empty(self.packets.messages, np.int64)
        for lane in self.lanes:
            ids[lane.first : lane.first + lane.count] = number * lane.count + np.arange(lane.count)
        self.packets.prepare(number, device + self._offsets, ids % 65535 + 1)
        base = self.began + number * self.period / 1e6 if self.period else time.perf_counter()
        self._open[number] = _Round(base + self._offsets / 1e6)
        self.rounds += 1
        self.last = device + self._offset_list[-1]
        self._unreleased = self.packets.messages

    def _release(self, elapsed: int) -> None:
        """Let those messages of the newest round go whose time has come."""
        into = elapsed - (self.rounds - 1) * self.period
        while self._unreleased:
            message = self.packets.messages - self._unreleased
            if self.period and self._offset_list[message] > into:
                break
            lane = self._lane_of[message]
            lane.due += 1
            self._unreleased -= 1
            self._waiting[lane] = None

    def _flush(self) -> None:
        """Let every lane send that may have something to send."""
        while self._waiting:
            lane = next(iter(self._waiting))
            del self._waiting[lane]
            self._send(lane)

    def _send(self, lane: _Lane) -> None:
        """Send what is due, until the lane has to wait for its PUBACKs, its socket or the schedule."""
        starts = self.packets.starts
        while lane.sent < (most := min(lane.due, lane.acknowledged + lane.window)):
            number, place = divmod(lane.sent, lane.count)
            upto = min(lane.count, place + most - lane.sent)
            begin, end = lane.first + place, lane.first + upto
            view = self.packets.views[number % self.packets.variants]
            at = starts[begin] + lane.partly
            out = lane.connection.send(view[at : starts[end]])
            if not out:
                descriptor = lane.connection.socket.fileno()
                self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)
                self._wants_out.add(descriptor)
                self.held += 1
                return
            reached = begin
            while reached < end and starts[reached + 1] <= at + out:
                reached += 1
            lane.partly = at + out - starts[reached]
            round = self._open[number]
            round.sent[begin:reached] = time.perf_counter()
            round.unsent -= reached - begin
            lane.sent += reached - begin
            self._outstanding += reached - begin
        self.held += lane.sent < lane.due

    def _idle(self, over: bool) -> float:
        """Seconds until the schedule has something for us."""
        if self._unreleased:
            message = self.packets.messages - self._unreleased
            due = (self.rounds - 1) * self.period + self._offset_list[message]
        elif over or self._full():
            return 0.1  # only the broker can wake us
        else:
            due = self._next_due()
        return max(0.0, (due - self._elapsed()) / 1e6)

    def _hear(self, idle: float) -> None:
        """Take PUBACKs, for at most ``idle`` seconds."""
        events = self._poll.poll(max(0.0, idle - 0.001))
        if not events and 0 < idle < 0.001:  # epoll counts in whole milliseconds
            time.sleep(idle)
        now = time.perf_counter()
        for descriptor, event in events:
            lane = self._by_descriptor[descriptor]
            if event & ~select.EPOLLOUT:
                count = lane.connection.acknowledged()
                if count:
                    self._acknowledge(lane, count, now)
                    self._heard = now
                    if lane.sent < lane.due and descriptor not in self._wants_out:
                        self._waiting[lane] = None
            if event & select.EPOLLOUT:
                self._poll.modify(descriptor, select.EPOLLIN)
                self._wants_out.discard(descriptor)
                self._waiting[lane] = None
        if not self._outstanding:
            self._heard = now
        if now - self._heard > self.patience:
            raise Stalled(f"the broker has acknowledged nothing for {self.patience:.0f} s")

    def _acknowledge(self, lane: _Lane, count: int, now: float) -> None:
        while count:
            number, place = divmod(lane.acknowledged, lane.count)
            several = min(count, lane.count - place)
            round = self._open[number]
            round.acknowledged[lane.first + place : lane.first + place + several] = now
            round.open -= several
            lane.acknowledged += several
            self._acknowledged += several
            self._outstanding -= several
            count -= several
            if not round.open:
                del self._open[number]
                since = round.scheduled if self.period else round.sent
                self.lateness.append((round.sent - round.scheduled).astype(np.float32))
                self.acknowledged_after.append((round.acknowledged - since).astype(np.float32))


def _bounds(packets: Packets, enterprises: int, connections: int) -> list[tuple[int, int]]:
    """First and one past the last message of each connection; an enterprise's messages stay together."""
    count = min(connections or enterprises, enterprises)
    firsts = [int(np.searchsorted(packets.owners, -(-i * enterprises // count))) for i in range(count)]
    return list(zip(firsts, [*firsts[1:], packets.messages], strict=True))


def _waited() -> float:
    """Seconds that this process has waited for a processor so far (Linux: sched-stats, /proc/<pid>/schedstat)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # a kernel built without
        return 0.0


def _report(
    sender: _Sender, expected: Expected, form: str, mode: str, rate: float, cpu: float, waited: float
) -> Report:
    seconds = max(sender.ended - sender.began, sender.rounds * sender.period / 1e6)
    readings = sender.rounds * sender.packets.readings
    return Report(
        form=form,
        mode=mode,
        rate=rate,
        connections=len(sender.lanes),
        rounds=sender.rounds,
        messages=sender.rounds * sender.packets.messages,
        readings=readings,
        payload_bytes=sender.rounds * sender.packets.payload_bytes,
        **expected.as_dict(),
        first=sender.first,
        last=sender.last,
        seconds=seconds,
        readings_per_second=readings / seconds,
        lateness=_spread(sender.lateness) if sender.period else None,
        acknowledged_after=_spread(sender.acknowledged_after),
        cpu=cpu,
        cpu_waited=waited,
        held=sender.held,
    )


def _spread(parts: list[NDArray[np.float32]]) -> Spread:
    p50, p99, most = (np.quantile(np.concatenate(parts), [0.5, 0.99, 1.0]) * 1000).tolist()
    return Spread(p50, p99, most)


def read_fleet(path: Path) -> Fleet:
    """The fleet of a JSON file.

    Raises:
        ValueError: it is not such a file. OSError: it cannot be read.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        limits = data.get("limits", {})
        return Fleet(
            tuple(data["enterprises"]),
            data.get("gateway", "gw1"),
            tuple(data["points"]),
            Limits(**{**limits, **({"normal": tuple(limits["normal"])} if "normal" in limits else {})}),
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a fleet: {error!r}") from None


def read_passwords(path: Path) -> dict[str, str]:
    """The passwords by user, of a file of lines ``USER PASSWORD``; remarks begin with #.

    Raises:
        ValueError: it is not such a file. OSError: it cannot be read.
    """
    lines = [line.split() for line in path.read_text("utf-8").splitlines()]
    known = [words for words in lines if words and not words[0].startswith("#")]
    if any(len(words) != 2 for words in known):
        raise ValueError(f"{path}: expected lines of USER PASSWORD")
    return dict(known)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 only if all was sent and acknowledged."""
    parser = argparse.ArgumentParser(
        prog="python -m simulators.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fleet", type=Path, required=True, help="JSON file of who sends")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument(
        "--user",
        default=Account().user,
        help="may hold {enterprise}, {gateway}, {connection}; default %(default)s",
    )
    parser.add_argument("--passwords", type=Path, help="file of lines USER PASSWORD")
    parser.add_argument("--form", choices=FORMS, default="columns")
    parser.add_argument("--batch", type=int, default=200, help="readings a message (%(default)s)")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="readings a second in all; 0: as fast as accepted"
    )
    parser.add_argument("--mode", choices=("spread", "burst"), default="spread")
    parser.add_argument("--for", dest="duration", type=float, default=10.0, help="seconds (%(default)s)")
    parser.add_argument("--settle", type=float, default=0.0, help="quiet seconds at the end (%(default)s)")
    parser.add_argument("--connections", type=int, default=0, help="0: one for each enterprise")
    parser.add_argument("--window", type=int, default=1000, help="unacknowledged messages of a connection")
    parser.add_argument("--protocol", type=int, choices=(4, 5), default=4, help="4: MQTT 3.1.1, 5: MQTT 5")
    parser.add_argument(
        "--one-in", type=int, default=1000, help="readings for each that moves a pending limit"
    )
    parser.add_argument(
        "--lasting", type=int, default=4, help="one excursion in so many outlasts its on-delay"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hold", action="store_true", help='print "ready", begin when a line comes in')
    parser.add_argument("--progress", action="store_true", help='print "progress 0.25" and so on under way')
    given = parser.parse_args(arguments)
    ours = ("fleet", "user", "passwords", "hold", "progress")
    settings = {key: value for key, value in vars(given).items() if key not in ours}
    try:
        report = run(
            read_fleet(given.fleet),
            account=Account(
                given.user,
                os.environ.get("FENGHUO_LOAD_PASSWORD", ""),
                read_passwords(given.passwords) if given.passwords else None,
            ),
            ready=_hold if given.hold else lambda: None,
            progress=_tell if given.progress else lambda done: None,
            **settings,
        )
    except (Stalled, OSError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.as_dict(), indent=2))
    return 0


def _hold() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _tell(done: float) -> None:
    print(f"progress {done:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
