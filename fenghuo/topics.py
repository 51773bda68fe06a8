"""The cluster's topics: which there must be; made where they are missing, and never changed where they are not."""

from collections.abc import Iterator, Sequence
from threading import Event
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata

from fenghuo.settings import Cluster
from ingest.topics import Topics
from registry.clock import stopwatch

LARGEST = 16 << 20
"""Bytes of the largest record: a round of readings, the findings of one, a checkpoint of an enterprise's engine."""

WITHIN = 10.0
"""Seconds for an answer of Kafka."""

COMPARED = (
    *("cleanup.policy", "retention.ms", "max.message.bytes", "min.compaction.lag.ms"),
    "min.insync.replicas",
)
"""Settings of a topic without which records may be lost or refused."""

AGAIN = 0.1
"""Seconds between two looks at a topic that has no leader yet."""

_moment = Event()  # never set: a pause

MINUTE, HOUR = 60_000, 3_600_000  # ms, as Kafka counts

log = structlog.get_logger()


class KafkaAway(Exception):
    """Kafka cannot be reached just now, or refuses us; the text says where it was looked for."""


class TopicsUnfit(Exception):
    """Topics are missing, or have another number of partitions: no role can work with them. Says how to mend it."""


class Topic(NamedTuple):
    """A topic as it is to be made."""

    name: str
    partitions: int
    settings: dict[str, str]


class _There(NamedTuple):
    """A topic as it is."""

    partitions: int
    replicas: int  # of the partition that has the fewest
    settings: dict[str, str]


def wanted(cluster: Cluster) -> list[Topic]:
    """All topics that the cluster needs."""
    topics = Topics(cluster.topics)
    lasting, compacted = _lasting(cluster), _compacted(cluster)
    return [
        Topic(topics.readings, cluster.slots, lasting),
        Topic(topics.findings, cluster.shards, lasting),
        Topic(topics.dead, cluster.slots, lasting),
        Topic(topics.values, cluster.slots, compacted),
        Topic(topics.changelog("points"), cluster.slots, compacted),
        Topic(topics.changelog("compound"), cluster.shards, compacted),
    ]


def _lasting(cluster: Cluster) -> dict[str, str]:
    retention = round(cluster.retention_hours * HOUR)
    return {
        **_every(cluster),
        "cleanup.policy": "delete",
        "retention.ms": str(retention),
        "segment.ms": str(max(MINUTE, min(HOUR, retention // 4))),  # it is dropped in whole segments
    }


def _compacted(cluster: Cluster) -> dict[str, str]:
    """Only the newest record of a key is kept. What is younger than a minute stays: a worker that had lost its
    partitions may write an old state once more, and who reads must find the newer one beside it."""
    return {
        **_every(cluster),
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(MINUTE),
        "max.compaction.lag.ms": str(HOUR),
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(10 * MINUTE),  # what is still being written is never compacted
        "segment.bytes": str(128 << 20),
    }


def _every(cluster: Cluster) -> dict[str, str]:
    return {
        "max.message.bytes": str(LARGEST),
        # The age of a record is counted on the broker's clock: a client's may be wrong, or stepped.
        "message.timestamp.type": "LogAppendTime",
        # What was acknowledged is on so many machines, one of which may be away: Kafka's default is one in all.
        "min.insync.replicas": str(max(1, cluster.replicas - 1)),
    }


def prepare(cluster: Cluster) -> list[str]:
    """Make the topics that are missing; returns their names. Raises KafkaAway."""
    client = _client(cluster)
    there = _partitions(client, wanted(cluster))
    missing = [topic for topic in wanted(cluster) if topic.name not in there]
    if not missing:
        return []
    new = [
        NewTopic(topic.name, topic.partitions, cluster.replicas, config=topic.settings) for topic in missing
    ]
    made = []
    for name, future in client.create_topics(new, operation_timeout=WITHIN).items():
        try:
            future.result(WITHIN)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another was as quick
                raise KafkaAway(f"topic {name} cannot be made: {error.args[0].str()}") from error
        except TimeoutError as error:
            raise KafkaAway(f"topic {name} cannot be made: no answer from {cluster.kafka}") from error
        else:
            made.append(name)
    return made


def require(cluster: Cluster) -> None:
    """Nothing where every topic is there with its number of partitions.

    Raises:
        TopicsUnfit: not so; says how to mend it. KafkaAway: that cannot be known now.
    """
    if mistakes := list(_misfits(wanted(cluster), _partitions(_client(cluster), wanted(cluster)))):
        raise TopicsUnfit("\n".join(mistakes))


def differences(cluster: Cluster) -> list[str]:
    """What of the topics is missing, or otherwise than the settings say, each in a sentence. Raises KafkaAway."""
    client = _client(cluster)
    topics = wanted(cluster)
    there = _described(client, topics)
    mistakes = list(_misfits(topics, {name: (one.partitions, one.replicas) for name, one in there.items()}))
    for topic in topics:
        if topic.name not in there:
            continue
        one = there[topic.name]
        if one.replicas < cluster.replicas:
            mistakes.append(
                f"topic {topic.name} keeps {one.replicas} copies of a partition, and `cluster.replicas` says "
                f"{cluster.replicas}: add some with kafka-reassign-partitions"
            )
        for key in COMPARED:
            meant, found = topic.settings.get(key), one.settings.get(key)
            if meant is not None and meant != found:
                mistakes.append(
                    f"topic {topic.name} has {key}={found}, expected {meant}: kafka-configs --alter --entity-type "
                    f"topics --entity-name {topic.name} --add-config {key}={meant}"
                )
    return mistakes


def _misfits(topics: Sequence[Topic], there: dict[str, tuple[int, int]]) -> Iterator[str]:
    for topic in topics:
        if topic.name not in there:
            yield f"topic {topic.name} is missing: `fenghuo prepare SETTINGS` makes it"
        elif (found := there[topic.name][0]) != topic.partitions:
            yield (
                f"topic {topic.name} has {found} partitions, and the settings ask for {topic.partitions} "
                "(`cluster.slots`, `cluster.shards`): their number says which enterprise is where, so it holds from "
                "their making on. Put the number back, or take other topics with another name (`cluster.topics`)"
            )


def _client(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.kafka, "log_level": 0})


def _partitions(client: AdminClient, wanted: Sequence[Topic]) -> dict[str, tuple[int, int]]:
    """Partitions, and copies of each, of every topic there is; a new one has no leader for a moment.

    Raises KafkaAway.
    """
    names, begun = {topic.name for topic in wanted}, stopwatch()
    while True:
        try:
            topics = client.list_topics(timeout=WITHIN).topics
        except KafkaException as error:
            raise KafkaAway(f"Kafka does not answer: {error.args[0].str()}") from error
        ill = [f"{name}: {one.error}" for name, one in topics.items() if name in names and _is_ill(one)]
        if not ill:
            break
        if stopwatch() - begun > WITHIN:
            raise KafkaAway(f"topics cannot be looked at just now: {', '.join(ill)}")
        _moment.wait(AGAIN)
    return {
        name: (
            len(topic.partitions),
            min((len(one.replicas) for one in topic.partitions.values()), default=0),
        )
        for name, topic in topics.items()
        if topic.error is None
    }


def _is_ill(topic: TopicMetadata) -> bool:
    return topic.error is not None and topic.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART


def _described(client: AdminClient, topics: Sequence[Topic]) -> dict[str, _There]:
    there = _partitions(client, topics)
    asked = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics if topic.name in there]
    found = {}
    for resource, future in client.describe_configs(asked).items() if asked else ():
        try:
            settings = future.result(WITHIN)
        except (KafkaException, TimeoutError) as error:
            raise KafkaAway(f"Kafka does not describe topic {resource.name}: {error}") from error
        values = {key: str(entry.value) for key, entry in settings.items()}
        found[resource.name] = _There(*there[resource.name], values)
    return found
