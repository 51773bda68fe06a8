"""A scenario that happens to a product, told in the words of the mission; times are those of the city's clock."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from alerting.alert import Alert
from deploy.dev.services import Kafka, Postgres
from fenghuo import simulation
from fenghuo.simulation import Product, Simulation, Whole
from registry.clock import SECOND
from registry.compile import compile_folder
from simulators import registry_files, scenario_file
from simulators.city import City
from simulators.score import Raised, Score, score
from simulators.uplink import Message
from streams import rulebook_file
from streams.configuration import Configuration
from streams.point_shard import Layout
from tests.cluster_rehearsal import cluster_rehearsal
from tests.disks import fill
from tests.world.core import Core
from tests.world.sharded import Sharded

SCENARIOS = Path(__file__).parents[2] / "examples" / "scenarios"
ZONE = ZoneInfo("Asia/Shanghai")
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def city(name: str) -> City:
    """The city of one of our scenarios."""
    path = SCENARIOS / f"{name}.yaml"
    return City(scenario_file.read(path), name)


class World:
    """A city, its people and a product that guards them.

    ``product`` is a Whole (real broker, processes, journal, database) or a Core (none of these); what is told
    of either holds for both.
    """

    def __init__(self, city: City, product: Product) -> None:
        self.city = city
        self.product = product
        self.simulation = Simulation(city, product)

    # -- time ------------------------------------------------------------------------------------

    def time(self, clock: str) -> int:
        """µs of "10:05" or "10:05:30" on the day on which the scenario begins; "+1 08:00" is on the next."""
        days, _, hours = clock.rpartition(" ")
        start = (EPOCH + timedelta(microseconds=self.city.scenario.start)).astimezone(ZONE)
        parts = [int(part) for part in hours.split(":")]
        moment = start.replace(hour=parts[0], minute=parts[1], second=parts[2] if len(parts) > 2 else 0)
        moment += timedelta(days=int(days or 0))
        return (moment - EPOCH) // timedelta(microseconds=1)

    def until(self, clock: str) -> None:
        """Let the city live until its clock says so."""
        self.simulation.until(self.time(clock))

    def to_the_end(self) -> None:
        """Let the whole scenario happen."""
        for _ in self.simulation.moments():
            pass

    # -- what came of it ---------------------------------------------------------------------------

    def alerts(self, rule: str = "", of: str = "") -> list[Alert]:
        """Alerts of enterprises, of a rule and of a subject ("point:TI-1", or its last part) if these are given."""
        return [
            alert
            for alert in self.product.alerts()
            if alert.enterprise
            and (not rule or alert.rule == rule)
            and (not of or of in (alert.subject, alert.subject.partition(":")[2]))
        ]

    def alert(self, rule: str = "", of: str = "") -> Alert:
        """The only one."""
        [found] = self.alerts(rule, of)
        return found

    def called(self, alert: Alert) -> dict[str, str]:
        """Everybody who was called for an alert: the first time, on the city's clock."""
        first: dict[str, int] = {}
        for notice in self.product.notices(alert.id):
            first[notice.person] = min(first.get(notice.person, notice.created), notice.created)
        return {person: self.clock(at) for person, at in sorted(first.items(), key=lambda item: item[1])}

    def clock(self, time: int) -> str:
        """A time as the city's clock shows it: "10:05:30"."""
        return (EPOCH + timedelta(microseconds=time)).astimezone(ZONE).strftime("%H:%M:%S")

    def raised(self) -> list[Raised]:
        return simulation.raised(self.product)

    def score(self) -> Score:
        raised = self.raised()  # first: the truth takes minutes, in which the city says nothing
        return score(self.city.truth(), raised)

    def same(self) -> list[tuple[object, ...]]:
        """What has to be the same of every alert whenever the same scenario happens."""
        return sorted(
            (a.id, a.rule, a.enterprise, a.subject, a.tier, a.level, a.since, a.time, a.raised, a.rung)
            for a in self.alerts()
        )

    # -- faults ------------------------------------------------------------------------------------

    @property
    def whole(self) -> Whole:
        assert isinstance(self.product, Whole), "only a whole product can be broken"
        return self.product

    def kill(self, process: str, at: str = "") -> None:
        """kill -9 "judge", "serving" or "broker", now or the next time that a point is passed (Whole.POINTS)."""
        self._at(at, lambda: self.whole.rehearsal.kill(process))

    def stall(self, process: str, seconds: float, at: str = "") -> None:
        """Let a process stand still for so long, in real time."""

        def stop() -> None:
            pid = self.whole.rehearsal.kill(process, signal.SIGSTOP)
            threading.Timer(seconds, os.kill, (pid, signal.SIGCONT)).start()

        self._at(at, stop)

    def fill(self, disk: Path, seconds: float, at: str = "") -> None:
        """Leave no room on a disk (a small one: a tmpfs of the test's own) for so long, in real time."""

        self._at(at, lambda: threading.Timer(seconds, fill(disk).unlink).start())

    @contextmanager
    def dropping(self, share: float, seed: int = 1) -> Iterator[None]:
        """The network loses this share of the messages."""
        draw = random.Random(seed)
        with self._network(lambda messages: [m for m in messages if draw.random() >= share]):
            yield

    @contextmanager
    def disordering(self, seed: int = 1) -> Iterator[None]:
        """The network delivers what is sent at one moment in any order, and some of it a moment later."""
        draw = random.Random(seed)
        held: list[Message] = []

        def shuffle(messages: Sequence[Message]) -> Sequence[Message]:
            waiting = [*held, *messages]
            draw.shuffle(waiting)
            cut = draw.randrange(len(waiting) + 1)
            held[:] = waiting[cut:]
            return waiting[:cut]

        with self._network(shuffle):
            yield

    @contextmanager
    def gathering(self, seconds: float) -> Iterator[None]:
        """From the first on, the network delivers only every so many seconds; what it holds at the end, never."""
        held: list[Message] = []
        delivered = float("-inf")

        def gather(messages: Sequence[Message]) -> Sequence[Message]:
            nonlocal delivered
            held.extend(messages)
            if not held or held[-1].at < delivered + seconds * SECOND:
                return ()
            gathered = held[:]
            held.clear()
            delivered = gathered[-1].at
            return gathered

        with self._network(gather):
            yield

    @contextmanager
    def _network(self, does: Callable[[Sequence[Message]], Sequence[Message]]) -> Iterator[None]:
        self.simulation.network = does
        try:
            yield
        finally:
            self.simulation.network = None

    def _at(self, point: str, fault: Callable[[], object]) -> None:
        if point:
            self.whole.at(point, fault)
        else:
            fault()


@contextmanager
def whole(name: str, folder: Path, **options: object) -> Iterator[World]:
    """A scenario through the real processes."""
    its = city(name)
    with simulation.whole(its, folder, _registry(its), **options) as product:
        yield World(its, product)


@contextmanager
def core(name: str, folder: Path) -> Iterator[World]:
    """A scenario through the pure core alone."""
    its = city(name)
    product = Core(*_given(its, folder))
    try:
        yield World(its, product)
    finally:
        product.close()


@cache
def expected(name: str, gathered: float = 0.0) -> list[tuple[object, ...]]:
    """What the pure core alone makes of a scenario, as ``same``: reckoned once for all that are compared with it.

    Args:
        gathered: as of World.gathering.
    """
    with TemporaryDirectory() as folder, core(name, Path(folder)) as world, world.gathering(gathered):
        world.to_the_end()
        return world.same()


@contextmanager
def sharded(name: str, folder: Path, layout: Layout, fate: random.Random | None = None) -> Iterator[World]:
    """A scenario through the pure core, cut up as a cluster does."""
    its = city(name)
    product = Sharded(*_given(its, folder), layout, fate)
    try:
        yield World(its, product)
    finally:
        product.close()
    assert fate is None or product.deaths, "nothing died: that shows nothing"


@contextmanager
def clustered(
    name: str, folder: Path, kafka: Kafka, postgres: Postgres, **options: object
) -> Iterator[World]:
    """A scenario through the real roles of a cluster, on real servers."""
    its = city(name)
    registry = _registry(its)
    if registry is None:
        registry = folder / "registry"
        registry_files.write(registry, its.scenario, its.points)
    with (
        cluster_rehearsal(folder, registry, its.scenario.start, kafka, postgres, **options) as rehearsal,
        Whole(rehearsal) as product,
    ):
        yield World(its, product)


def _given(its: City, folder: Path) -> tuple[Configuration, int, Path, Path]:
    """What a product of the pure core alone needs."""
    registry = _registry(its)
    if registry is None:
        registry = folder / "registry"
        registry_files.write(registry, its.scenario, its.points)
    configuration = Configuration.of(compile_folder(registry), rulebook_file.read(rulebook_file.SHIPPED))
    return configuration, its.scenario.start, folder / "desk.sqlite", registry


def _registry(its: City) -> Path | None:
    return SCENARIOS / its.scenario.registry if its.scenario.registry else None
