"""The serving role of a cluster: the API and a sender of notices, on PostgreSQL; any number of them."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace

import structlog
from confluent_kafka import KafkaException

from alerting import store
from alerting.desk import DatabaseBusy, DatabaseUnwritable, sources
from console.api import Dependencies
from fenghuo import prepared
from fenghuo.anchor import shared_anchor
from fenghuo.clock_socket import ControlledClock
from fenghuo.history_watch import HistoryWatch
from fenghuo.serving import Serving, serve
from fenghuo.settings import Cluster, Settings
from fenghuo.standstill import Illness, Standstill
from fenghuo.stopping import Stop
from fenghuo.values_keeper import ValuesKeeper
from fenghuo.version_follower import VersionFollower
from registry.clock import Clock, SystemClock, stopwatch
from registry.database import reading
from registry.model import Registry

log = structlog.get_logger()

STARTING = "it has just started, and has not seen a slot come forward yet"


class ClusterServing(Serving):
    """What the process holds; see Serving.

    Args:
        follower: has a registry already; closed with this.
    """

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        clock: Clock,
        follower: VersionFollower,
        registry: Registry,
    ) -> None:
        super().__init__(settings, clock, registry)
        self._follower = follower
        self._standstill = Standstill(cluster.slots, cluster.shards, stopwatch())
        self._stands_still = STARTING
        self._slots = {f"slot:{number}" for number in range(cluster.slots)}
        self._unread = False  # the database cannot be asked
        self._historians: HistoryWatch | None = None
        if settings.history.influx is not None and not settings.clock:
            self._historians = HistoryWatch(cluster, stopwatch())
        self._values = ValuesKeeper(cluster, settings.values, lambda: self.registry)

    def dependencies(self) -> Dependencies:
        """What the API stands on."""
        return replace(
            super().dependencies(),
            journal=None,
            status=lambda: None,
            standstill=lambda: self._stands_still,
        )

    def follow_registry(self) -> None:
        """Take over the version that is wanted."""
        newest = self._follower.registry
        if newest is not None and newest is not self.registry:
            self.set_registry(newest)

    def watch_judge(self, watch: float) -> None:
        """Tell the administrator of slots and shards that stand still; on a stepped clock all may."""
        if self.settings.clock:
            self._stands_still = ""
            return
        try:
            came, unheard = sources(self._own), self._unheard()
        except (DatabaseBusy, DatabaseUnwritable) as error:
            self._stands_still = "the database cannot be read"
            if not self._unread:
                log.error("sources_not_read", why=str(error))
            self._unread = True
            return
        if self._unread:
            log.info("sources_read_again")
        self._unread = False
        ills = self._standstill.look(came, watch)
        whys = [ill.why for ill in ills.values() if ill.why] + unheard
        self._stands_still = whys[0] if whys else "" if ills["system"].why is not None else STARTING
        self._tell(ills)

    def watch_history(self, watch: float) -> None:
        """Tell the administrator of slots whose readings no historian takes."""
        if self._historians is None:
            return
        try:
            why = self._historians.look(watch)
        except KafkaException as error:
            log.warning("historians_not_looked_at", why=str(error))  # that Kafka is away is told by others
            return
        self._tell({"system": Illness(why)}, "system.history")

    def _unheard(self) -> list[str]:
        """Of each slot whose collector does not hear the MQTT broker, why: it has told so, and goes on marking time."""
        with reading(self._own) as connection:
            opened = store.open_findings_of(connection, "system.broker")
        return [
            f"{one.subject} does not hear the broker: {'; '.join(one.evidence)}"
            for one in opened
            if one.subject in self._slots  # another number of slots leaves some behind
        ]

    def close(self) -> None:
        """Let go of all of it."""
        if self._historians is not None:
            self._historians.close()
        self._values.close()
        self._follower.close()
        super().close()


def run(settings: Settings, cluster: Cluster, name: str, stands: Callable[[], None]) -> None:
    """Run the serving role until SIGTERM; ``stands`` is called when it has all that it needs.

    Raises as prepared.follower, and ChannelError.
    """
    early = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, early.set)
    follower = prepared.follower(settings, cluster, early)
    if follower is None or follower.registry is None:
        return
    clock: Clock = SystemClock(shared_anchor())
    if settings.clock:
        clock = ControlledClock(settings.clock, f"api-{name}")
    serving = ClusterServing(settings, cluster, clock, follower, follower.registry)

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if early.is_set():
            return
        stands()
        await serve(serving, stop)

    try:
        asyncio.run(until_told())
    finally:
        serving.close()
