"""The cluster's topics on a real Kafka: made once, as they are meant, and what is otherwise is said."""

from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.dev.services import Kafka
from fenghuo.settings import Cluster, Database
from fenghuo.topics import KafkaAway, TopicsUnfit, differences, prepare, require, wanted
from ingest.broker import free_port
from tests.phones import until

pytestmark = pytest.mark.kafka
DATABASE = Database(url="postgresql://somebody@127.0.0.1:1/nothing")


def cluster(server: Kafka, **more: object) -> Cluster:
    prefix = f"t{uuid4().hex[:8]}"
    return Cluster.model_validate(
        {"kafka": server.servers, "database": DATABASE, "topics": prefix, "slots": 3, "shards": 2, **more}
    )


def test_they_are_made_once_and_are_as_meant(kafka: Kafka) -> None:
    ours = cluster(kafka, retention_hours=2)
    assert len(differences(ours)) == 6
    with pytest.raises(TopicsUnfit, match="fenghuo prepare"):
        require(ours)
    assert sorted(prepare(ours)) == sorted(topic.name for topic in wanted(ours))
    assert prepare(ours) == []
    assert differences(ours) == []
    require(ours)
    there = AdminClient({"bootstrap.servers": kafka.servers}).list_topics(timeout=10).topics
    kinds = {topic.name.removeprefix(ours.topics): topic for topic in wanted(ours)}
    partitions = {kind: len(there[topic.name].partitions) for kind, topic in kinds.items()}
    of_slots = dict.fromkeys((".readings", ".dead", ".values", "-evaluate-points-changelog"), 3)
    assert partitions == {**of_slots, ".findings": 2, "-evaluate-compound-changelog": 2}
    policies = {topic.settings["cleanup.policy"] for kind, topic in kinds.items() if "changelog" in kind}
    assert policies == {"compact"}


def test_what_is_otherwise_is_said_and_left_as_it_is(kafka: Kafka) -> None:
    ours = cluster(kafka)
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    findings, values = f"{ours.topics}.findings", f"{ours.topics}.values"
    others = [NewTopic(findings, 1, config={"retention.ms": "60000"}), NewTopic(values, 3)]
    for made in admin.create_topics(others).values():
        made.result(30)
    assert len(prepare(ours)) == 4
    until(lambda: "is missing" not in " ".join(differences(ours)))  # Kafka lists new ones a little later
    said = differences(ours)
    assert [line.split(" has ")[1].split(",")[0] for line in said] == [
        "1 partitions",
        "retention.ms=60000",
        "max.message.bytes=1048588",
        "cleanup.policy=delete",
        "max.message.bytes=1048588",
        "min.compaction.lag.ms=0",
    ]
    assert findings in said[0]
    assert values in said[3]
    with pytest.raises(TopicsUnfit, match=r"has 1 partitions, and the settings ask for 2") as unfit:
        require(ours)
    assert "retention" not in str(unfit.value), "with that a role can work"
    more = Cluster.model_validate({**ours.model_dump(), "replicas": 2})
    assert "keeps 1 copies" in " ".join(differences(more))
    most = Cluster.model_validate({**ours.model_dump(), "replicas": 3})
    assert sum("min.insync.replicas=1, expected 2" in line for line in differences(most)) == 6


@pytest.mark.parametrize(("replicas", "fewest"), [(1, "1"), (2, "1"), (3, "2")])
def test_one_machine_may_be_away_and_what_is_acknowledged_is_on_the_others(
    replicas: int, fewest: str
) -> None:
    ours = Cluster.model_validate({"kafka": "k:1", "database": DATABASE, "replicas": replicas})
    assert {topic.settings["min.insync.replicas"] for topic in wanted(ours)} == {fewest}


def test_kafka_away_is_said(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fenghuo.topics.WITHIN", 0.3)
    away = cluster(kafka, kafka=f"127.0.0.1:{free_port()}")
    for ask in (prepare, differences, require):
        with pytest.raises(KafkaAway, match="does not answer"):
            ask(away)
