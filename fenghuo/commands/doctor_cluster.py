"""What `fenghuo doctor` looks at of a cluster: its servers, topics, who has which slot, and how far behind what is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TypeVar

import httpx
import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine, func, select

import registry.versions
from alerting import desk, tables
from console.api import PREFIX
from fenghuo import prepared, role, topics
from fenghuo.commands.doctor import (
    BAD,
    DOUBTFUL,
    GOOD,
    Finding,
    broker_answers,
    of_registry,
    refused_by_influxdb,
)
from fenghuo.extras import lacking
from fenghuo.settings import Cluster, Influx, Settings, SettingsError
from fenghuo.standstill import DEAD
from ingest import lease_tables
from ingest.broker_login import BrokerAway, BrokerRefuses, log_in
from ingest.topics import Topics
from registry import shared_versions, store_tables
from registry.clock import SECOND, stopwatch
from registry.database import DatabaseError, open_database, reading
from registry.migrating import newest_form
from streams.configuration import load_rulebook

LAG = 10_000
"""Records behind the newest from which on a group is said to lag."""

SHOWN = 5

MOVING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
"""What Kafka says of a group whose place is just being found: of every group of a new Kafka, at first."""

AGAIN = 0.2
"""Seconds before it is asked again."""

ANSWER = 3.0
"""Seconds for an answer of InfluxDB."""

SILENT = 10 * SECOND
"""A historian of this machine that has said nothing for so long has ended, µs: it says something each second."""

_moment = Event()  # never set: a pause

T = TypeVar("T")


def examine(settings: Settings, cluster: Cluster, now: int) -> Iterator[Finding]:
    """All that a doctor looks at; ``now`` is the wall's time, µs."""
    begun = stopwatch()
    yield _broker(settings)
    try:
        yield from _kafka(settings, cluster)
    except topics.KafkaAway as error:
        yield Finding("kafka", BAD, prepared.kafka_away(cluster, error))
    if settings.history.influx is not None:
        yield from _influxdb(settings, settings.history.influx, now)
    try:
        prepared.let_in(cluster)
    except prepared.NotLetIn as error:
        yield Finding("database", BAD, str(error))
        return
    database = open_database(cluster.database.address, busy=2)
    try:
        yield from _database(settings, cluster, database, now + round((stopwatch() - begun) * SECOND))
    except DatabaseError as error:
        yield Finding("database", BAD, prepared.database_away(cluster, error))
    finally:
        database.dispose()


def _broker(settings: Settings) -> Finding:
    """Whether the MQTT broker lets collectors in, or us as one."""
    found, broker = broker_answers(settings), settings.broker
    if found.verdict != GOOD or broker is None:
        return found
    try:
        log_in(broker.host, broker.port, broker.user, broker.password)
    except (BrokerAway, BrokerRefuses, OSError) as error:
        keys = "(broker.user, broker.password_file)"
        return Finding("broker", BAD, f"{broker.url} does not let {broker.user} in {keys}: {error}")
    return Finding("broker", GOOD, f"{broker.url} lets {broker.user} in")


def _kafka(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    mistakes = topics.differences(cluster)
    if mistakes:
        for mistake in mistakes:
            yield Finding("topics", BAD, mistake)
    else:
        yield Finding("topics", GOOD, f"all {len(topics.wanted(cluster))} are as they should be")
    try:
        topics.require(cluster)
    except topics.TopicsUnfit:
        return  # what follows would count partitions that are not there
    names = Topics(cluster.topics)
    client = AdminClient({"bootstrap.servers": cluster.kafka, "log_level": 0})
    readings = [TopicPartition(names.readings, slot) for slot in range(cluster.slots)]
    findings = [TopicPartition(names.findings, shard) for shard in range(cluster.shards)]
    try:
        yield _group(client, cluster, "workers", names.evaluate, [*readings, *findings])
        yield _group(client, cluster, "desks", names.desk, findings)
        if settings.history.influx is not None:
            yield _group(client, cluster, "historians", names.history, readings)
        for table in ("points", "compound"):
            yield _changelog(names.changelog(table), cluster)
    except (KafkaException, TimeoutError) as error:
        raise topics.KafkaAway(str(error)) from error


def _influxdb(settings: Settings, influx: Influx, now: int) -> Iterator[Finding]:
    """Whether it answers us, and how the historians of this machine are: only their machines know more of others."""
    if why := lacking("influx"):
        yield Finding("influxdb", DOUBTFUL, f"it cannot be asked from here: {why}")
        return
    from history.influx_access import FAILURES

    try:
        access = influx.access
    except SettingsError as error:
        yield Finding("influxdb", BAD, str(error))
        return
    try:
        with access.client(ANSWER) as client:
            client.buckets_api().find_buckets(org=access.organisation, limit=1)
    except FAILURES as error:
        yield Finding("influxdb", BAD, access.why(error))
    else:
        yield Finding("influxdb", GOOD, f"{access.url} answers, and takes our token")
    for path in sorted(settings.data.glob("historian-*.json")):
        if now - path.stat().st_mtime_ns // 1000 < SILENT:  # else it has ended
            yield _historian(settings, path.stem.removeprefix("historian-"), path)


def _historian(settings: Settings, name: str, path: Path) -> Finding:
    """One of this machine, as it says of itself."""
    from fenghuo.cluster_historian import HistorianStatus

    what = f"historian {name}"
    try:
        said = msgspec.json.decode(path.read_bytes(), type=HistorianStatus)
    except (msgspec.DecodeError, OSError) as error:
        return Finding(what, DOUBTFUL, f"what it says of itself cannot be read: {path}: {error}")
    ill = sorted(number for number, one in said.slots.items() if one.problem)
    if said.problem:
        return Finding(what, BAD, f"takes nothing of {_some(ill)}: {said.problem}" if ill else said.problem)
    text = f"has {_some(sorted(said.slots)) or 'no slot'}"
    if lost := said.counts["lost"]:
        text += f"; {lost:,} records were gone from Kafka before it came to them"
    if refused := said.counts["refused"]:
        text += f"; {refused_by_influxdb(refused, settings.data / f'history-{name}' / 'slot-*')}"
    return Finding(what, DOUBTFUL if lost or refused else GOOD, text)


def _group(
    client: AdminClient, cluster: Cluster, what: str, group: str, partitions: list[TopicPartition]
) -> Finding:
    asked = ConsumerGroupTopicPartitions(group, partitions)
    count = len(_settled(lambda: client.describe_consumer_groups([group])).members)
    found = _settled(lambda: client.list_consumer_group_offsets([asked])).topic_partitions
    held = {(one.topic, one.partition): one.offset for one in found}
    behind = {
        place: max(0, newest - (held[place] if held.get(place, -1) >= 0 else oldest))
        for place, (oldest, newest) in _offsets(cluster, partitions).items()
    }
    worst = max(behind, key=lambda place: behind[place])
    said = f"{count} of them; {sum(behind.values()):,} records behind"
    if behind[worst]:
        said += f", the most of it in {worst[0]} {worst[1]}: {behind[worst]:,}"
    if not count:
        return Finding(what, BAD, f"none runs: {said}")
    return Finding(what, DOUBTFUL if sum(behind.values()) > LAG else GOOD, said)


def _settled(ask: Callable[[], Mapping[str, Future[T]]]) -> T:
    """What Kafka says of a group, once its place is found. Raises KafkaException, TimeoutError."""
    begun = stopwatch()
    while True:
        [answer] = ask().values()
        try:
            return answer.result(topics.WITHIN)
        except KafkaException as error:
            if error.args[0].code() not in MOVING or stopwatch() - begun > topics.WITHIN:
                raise
        _moment.wait(AGAIN)


def _changelog(topic: str, cluster: Cluster) -> Finding:
    count = {one.name: one.partitions for one in topics.wanted(cluster)}[topic]
    partitions = [TopicPartition(topic, number) for number in range(count)]
    offsets = sum(newest - oldest for oldest, newest in _offsets(cluster, partitions).values())
    said = f"{offsets:,} offsets from first to newest, most of them compacted away if it is old"
    return Finding(f"state ({topic})", GOOD, said)


def _offsets(cluster: Cluster, partitions: list[TopicPartition]) -> dict[tuple[str, int], tuple[int, int]]:
    """The oldest, and the one after the newest, of each."""
    consumer = Consumer({"bootstrap.servers": cluster.kafka, "group.id": "fenghuo-doctor", "log_level": 0})
    try:
        return {
            (one.topic, one.partition): consumer.get_watermark_offsets(one, timeout=topics.WITHIN)
            for one in partitions
        }
    finally:
        consumer.close()


def _database(settings: Settings, cluster: Cluster, database: Engine, now: int) -> Iterator[Finding]:
    ready = newest_form(database, tables.MIGRATIONS) and store_tables.newest_form(database)
    if not (ready and lease_tables.ready(database)):
        yield Finding("database", BAD, "its tables are missing or old: run `fenghuo prepare SETTINGS`")
        return
    yield Finding("database", GOOD, "its tables have their newest form")
    yield _registrar(role.connected(database, "registrar"))
    yield _api(settings, role.connected(database, "api"))
    yield _slots(cluster, database)
    yield from _sources(cluster, desk.sources(database), now)
    wanted = shared_versions.wanted(database)
    if wanted is None:
        yield Finding("registry", BAD, "no version was ever wanted: run `fenghuo registrar SETTINGS`")
        return
    with TemporaryDirectory() as folder:
        try:
            shared_versions.fetch(database, Path(folder), wanted.version)
            compiled = registry.versions.load(Path(folder), wanted.version)
            load_rulebook(Path(folder), wanted.version)
        except (registry.versions.NoSuchVersion, registry.versions.BrokenVersion, OSError) as error:
            yield Finding("registry", BAD, f"the wanted version cannot be loaded: {error}")
            return
    yield Finding("registry", GOOD, f"version {wanted.version} is wanted, the edition {wanted.edition}")
    yield from of_registry(compiled, settings, now)


def _registrar(processes: list[str]) -> Finding:
    if not processes:
        lacking = "none runs: what is edited takes no force; run `fenghuo registrar SETTINGS`"
        return Finding("registrars", BAD, lacking)
    return Finding("registrars", GOOD, _named(processes))


def _api(settings: Settings, processes: list[str]) -> Finding:
    """Whether any runs, and how it is with the one that listens where these settings say: others are elsewhere."""
    if not processes:
        return Finding("APIs", BAD, "none runs: nobody is notified; run `fenghuo api SETTINGS`")
    where = f"http://{settings.listen}{PREFIX}/ready"
    try:
        answer = httpx.get(where, timeout=3, trust_env=False)
    except httpx.TransportError as error:
        said = f"{where} (`listen`) does not answer: {error}"
        return Finding("APIs", DOUBTFUL, f"{_named(processes)}; {said}")
    if not answer.is_success:
        return Finding("APIs", DOUBTFUL, f"{_named(processes)}; {where} says: {answer.text[:200]}")
    return Finding("APIs", GOOD, f"{_named(processes)}; {where}: ready")


def _named(processes: list[str]) -> str:
    return f"{len(processes)} of them: {_some(processes)}"


def _slots(cluster: Cluster, database: Engine) -> Finding:
    table = lease_tables.slots.c
    query = select(table.slot, table.owner, table.until, func.now()).where(table.slot < cluster.slots)
    with reading(database) as connection:
        rows = connection.execute(query.order_by(table.slot)).all()
    until: dict[str, datetime] = {}
    owned: dict[str, list[int]] = {}
    for slot, owner, ends, present in rows:
        if owner and ends >= present:
            owned.setdefault(owner, []).append(slot)
            until[owner] = ends
    free = sorted(set(range(cluster.slots)) - {slot for own in owned.values() for slot in own})
    parts = [f"{owner} has {_some(own)} till {until[owner]:%H:%M:%S}" for owner, own in sorted(owned.items())]
    said = "; ".join(parts)
    if free:
        lacking = f"nobody collects for {_some(free)}: run `fenghuo collect SETTINGS`"
        return Finding("slots", BAD, "; ".join((lacking, *parts)))
    return Finding("slots", GOOD, said)


def _sources(cluster: Cluster, came: dict[str, int], now: int) -> Iterator[Finding]:
    for kind, count, what in (("readings", cluster.slots, "slots"), ("compound", cluster.shards, "shards")):
        never = [number for number in range(count) if f"{kind}/{number}" not in came]
        times = {n: came[f"{kind}/{n}"] for n in range(count) if n not in never}
        behind = {number: (now - time) / SECOND for number, time in times.items()}
        dead = [number for number, seconds in behind.items() if seconds > DEAD]
        said = []
        if never:
            said.append(f"never judged: {_some(never)}")
        if behind:
            worst = max(behind, key=lambda number: behind[number])
            said.append(f"the furthest behind is {worst}, by {behind[worst]:.1f} s")
        if len(dead) > 1:
            said.append(f"behind by more than {DEAD:.0f} s: {_some(dead)}")
        yield Finding(f"{what} judged", BAD if never or dead else GOOD, "; ".join(said))


def _some(many: Sequence[int | str]) -> str:
    more = f" and {len(many) - SHOWN} more" if len(many) > SHOWN else ""
    return ", ".join(map(str, many[:SHOWN])) + more
