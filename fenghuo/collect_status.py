"""What a collector of the cluster says of itself once a second: in a file, and to Prometheus."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of a slot that it has."""

    term: int
    version: str
    connected: bool
    listening: bool
    undelivered: int
    problem: str  # why it is not connected, "" if it is


class CollectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are since the start of the process; times are µs."""

    pid: int
    number: int  # how many times this process has written its status
    name: str
    owner: str  # as the leases call it
    time: int
    started: int
    version: str  # the newest that is loaded, "" if none
    edition: int
    slots: dict[int, SlotStatus]
    taking_over: list[int]  # slots that it has, and does not hear yet
    connected: bool  # all slots that it has
    listening: bool
    messages: int  # acknowledged, because they are in Kafka
    readings: int
    rounds: int
    dead: dict[str, int]  # dead letters by reason
    dropped: dict[str, int]  # messages left out for a reason, e.g. repeated
    undelivered: int  # records under way to Kafka
    kafka: str  # why Kafka does not take them, "" if it does
    database: str  # why the database does not answer, "" if it does
    untold: int  # findings about the system that the database does not have yet


def path(data: Path, name: str) -> Path:
    return data / f"collect-{name}.json"


def read(file: Path) -> CollectStatus | None:
    """The newest status, or None where no collector of this version has written one yet."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=CollectStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(file: Path, status: CollectStatus) -> None:
    """Replace the file at once, so that a reader sees the old or the new, never half. Raises OSError."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(status))
    fresh.replace(file)


class Metrics(Collector):
    """The newest status as Prometheus reads it."""

    def __init__(self) -> None:
        self.newest: CollectStatus | None = None

    def collect(self) -> Iterator[Metric]:
        said = self.newest
        if said is None:
            return
        for name, what, count in (
            ("fenghuo_collect_messages", "Messages that are in Kafka and acknowledged.", said.messages),
            ("fenghuo_collect_readings", "Readings that are in Kafka.", said.readings),
            ("fenghuo_collect_rounds", "Rounds that are in Kafka.", said.rounds),
        ):
            yield CounterMetricFamily(name, what, value=count)
        dead = CounterMetricFamily(
            "fenghuo_collect_dead_letters", "Dead letters by reason.", labels=["reason"]
        )
        for reason, count in said.dead.items():
            dead.add_metric([reason], count)
        yield dead
        yield GaugeMetricFamily("fenghuo_collect_slots", "Slots that it has.", value=len(said.slots))
        yield GaugeMetricFamily(
            "fenghuo_collect_undelivered", "Records under way to Kafka.", value=said.undelivered
        )
        listening = GaugeMetricFamily(
            "fenghuo_collect_listening", "Whether what is not heard is really silent.", labels=["slot"]
        )
        for slot, one in said.slots.items():
            listening.add_metric([str(slot)], one.listening)
        yield listening
