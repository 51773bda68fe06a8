"""What the doctor says of a cluster, from real servers: what does not run, who has what, and how far behind."""

import os
import re
import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec.structs import replace
from structlog.testing import capture_logs
from typer.testing import CliRunner

from alerting.desk import note_sources
from deploy.dev.services import InfluxDb, Kafka, Postgres
from fenghuo import role, status
from fenghuo.__main__ import app
from fenghuo.cluster_historian import HistorianStatus, SlotStatus
from fenghuo.commands import doctor, doctor_cluster
from fenghuo.kafka_watch import KafkaWatch
from fenghuo.settings import History, Influx, Settings
from ingest import leases
from ingest.broker import free_port
from ingest.topics import Topics
from registry.clock import SECOND, SystemClock
from registry.database import open_database, reading
from tests import clusters
from tests.build import PointSpec, make_registry
from tests.phones import until
from tests.servers import new_organisation

pytestmark = [pytest.mark.kafka, pytest.mark.postgresql]
WORDS = {doctor.GOOD: "good", doctor.DOUBTFUL: "look", doctor.BAD: "bad"}


def examined(settings: Settings) -> dict[str, tuple[str, str]]:
    assert settings.cluster is not None
    found = doctor_cluster.examine(settings, settings.cluster, SystemClock().now())
    return {one.what: (WORDS[one.verdict], one.said) for one in found}


def test_what_does_not_run_is_said_and_then_who_has_what(
    kafka: Kafka, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with clusters.settings_of(kafka, postgres, tmp_path, slots=3, listen=listen) as settings:
        until(lambda: "workers" in examined(settings), 60)  # a new Kafka takes a while to know of groups
        said = examined(settings)
        assert said["broker"][0] == "bad"
        assert said["topics"] == ("good", "all 6 are as they should be")
        assert said["workers"][0] == said["desks"][0] == "bad"
        assert "none runs" in said["desks"][1]
        assert said["slots"] == ("bad", "nobody collects for 0, 1, 2: run `fenghuo collect SETTINGS`")
        assert said["slots judged"] == ("bad", "never judged: 0, 1, 2")
        assert said["registry"][0] == said["registrars"][0] == said["APIs"][0] == "bad"

        clusters.publish(settings, make_registry([PointSpec(id="TI-1", H=80.0)]))
        database = open_database(settings.desk_database)
        leases.keep(database, "east-1", 3, 60.0)
        now = SystemClock().now()
        note_sources(database, {"readings/0": now, "readings/1": now - 60 * SECOND, "compound/0": now})
        database.dispose()
        assert settings.cluster is not None
        producer = Producer({"bootstrap.servers": kafka.servers})
        producer.produce(Topics(settings.cluster.topics).findings, b"x", partition=0)
        producer.flush(10)
        said = examined(settings)
        assert said["desks"][1].startswith("none runs: 0 of them; 1 records behind, the most of it in ")
        assert said["slots"][0] == "good"
        assert said["slots"][1].startswith("east-1 has 0, 1, 2 till ")
        verdict, words = said["slots judged"]
        assert verdict == "bad"
        assert re.match(r"never judged: 2; the furthest behind is 1, by [67]\d\.\d s$", words)
        assert said["shards judged"][0] == "good"
        assert said["registry"][0] == "good"
        assert said["duty"][0] == "good"
        assert said["channels"][0] == "bad"

        for one in ("registrar", "api"):
            with monkeypatch.context() as environment:
                environment.setenv(role.APPLICATION, "")
                role.announce(one)
                database = open_database(settings.desk_database)
                with reading(database):
                    said = examined(settings)
                database.dispose()
            me = f"1 of them: {os.getpid()}@{socket.gethostname()}"
            assert said["registrars"][1].startswith(me if one == "registrar" else "none runs")
            assert said["APIs"][1].startswith(me if one == "api" else "none runs")
        assert said["APIs"][0] == "look"
        assert "does not answer" in said["APIs"][1]

        run = settings.data / "run.json"
        settings.save(run)
        done = CliRunner().invoke(app, ["doctor", str(run)])
        assert (done.exit_code, "never judged" in done.stdout) == (1, True)
        done = CliRunner().invoke(
            app, ["token", "create", "x", "--scope", "system", "--data", str(settings.data)]
        )
        assert (done.exit_code, len(done.stdout.split())) == (0, 1)


@pytest.mark.influxdb
def test_how_far_historians_are_behind_is_said_and_what_is_wrong_with_influxdb(
    kafka: Kafka, postgres: Postgres, influxdb: InfluxDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_influx(settings: Settings, **more: object) -> Settings:
        influx = {
            "url": influxdb.url,
            "organisation": organisation,
            "token_file": influxdb.token_file,
            **more,
        }
        return settings.model_copy(update={"history": History(influx=Influx.model_validate(influx))})

    organisation, wrong = new_organisation(influxdb), tmp_path / "wrong.token"
    wrong.write_text("none")
    with clusters.settings_of(kafka, postgres, tmp_path, slots=3) as settings:
        assert settings.cluster is not None
        assert not {"historians", "influxdb"} & set(examined(settings)), "none is wanted"
        topics = Topics(settings.cluster.topics)
        producer = Producer({"bootstrap.servers": kafka.servers})
        for slot in (0, 2, 2):
            producer.produce(topics.readings, b"x", partition=slot)
        producer.flush(10)
        chosen = with_influx(settings)
        said = examined(chosen)
        behind = f"none runs: 0 of them; 3 records behind, the most of it in {topics.readings} 2: 2"
        assert said["historians"] == ("bad", behind)
        consumer = Consumer({"bootstrap.servers": kafka.servers, "group.id": topics.history})
        consumer.commit(offsets=[TopicPartition(topics.readings, 2, 2)], asynchronous=False)
        consumer.close()
        said = examined(chosen)
        assert said["historians"][1].endswith(f"1 records behind, the most of it in {topics.readings} 0: 1")
        assert said["influxdb"] == ("good", f"{influxdb.url} answers, and takes our token")

        here = {"lost": 0, "refused": 0}
        slot = SlotStatus(behind=0, time=0, version="", problem="")
        word = HistorianStatus(
            pid=1, number=1, name="a", time=0, started=0, slots={0: slot, 2: slot}, counts=here, problem=""
        )
        ill = {2: replace(slot, problem="no bucket")}
        for number, (change, verdict, words) in enumerate(
            (
                ({}, "good", "has 0, 2"),
                ({"slots": {}}, "good", "has no slot"),
                ({"counts": {"lost": 7, "refused": 0}}, "look", "7 records were gone from Kafka"),
                ({"counts": {"lost": 0, "refused": 9}}, "look", "InfluxDB refused 9 fields since"),
                ({"counts": {"lost": 0, "refused": 9}}, "look", "data/history-a3/slot-*/influx.sqlite"),
                ({"slots": word.slots | ill, "problem": "no bucket"}, "bad", "takes nothing of 2: no bucket"),
                ({"problem": "Kafka is away"}, "bad", "Kafka is away"),
            )
        ):
            status.write(settings.data / f"historian-a{min(number, 3)}.json", replace(word, **change))
            found = examined(chosen)[f"historian a{min(number, 3)}"]
            assert (found[0], words in found[1]) == (verdict, True), found
        os.utime(settings.data / "historian-a0.json", (0, 0))
        (settings.data / "historian-a1.json").write_text("{}")
        said = examined(chosen)
        assert "historian a0" not in said, "it has ended"
        assert said["historian a1"][0] == "look"
        assert "historian-a1.json: Object missing required field" in said["historian a1"][1]

        for more, words in (
            ({"url": f"http://127.0.0.1:{free_port()}"}, "cannot be reached: see `history.influx.url`"),
            ({"token_file": wrong}, "refuses the token: it is read from `history.influx.token_file`"),
            ({"organisation": "nobody's"}, "see `history.influx.organisation`"),
            ({"token_file": tmp_path / "none"}, "history.influx.token_file: [Errno 2] No such file"),
        ):
            found = examined(with_influx(settings, **more))["influxdb"]
            assert (found[0], words in found[1]) == ("bad", True), found
        monkeypatch.setattr("fenghuo.extras.find_spec", lambda _: None)
        found = examined(chosen)["influxdb"]
        assert found[0] == "look"
        assert found[1].endswith("influxdb_client missing; to get it: pip install 'fenghuo[influx]'")


def test_servers_that_are_away_are_said(
    kafka: Kafka, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fenghuo.topics.WITHIN", 0.3)
    monkeypatch.setattr("fenghuo.kafka_watch.LOOK", 0)
    with clusters.settings_of(kafka, postgres, tmp_path) as settings:
        assert settings.cluster is not None
        url = f"postgresql://nobody@127.0.0.1:{free_port()}/x"
        database = settings.cluster.database.model_copy(update={"url": url})
        update = {"kafka": f"127.0.0.1:{free_port()}", "database": database}
        away = settings.model_copy(update={"cluster": settings.cluster.model_copy(update=update)})
        said = examined(away)
        assert said["kafka"][0] == said["database"][0] == "bad"
        assert said["kafka"][1].startswith(f"cluster.kafka: {away.cluster.kafka}: ")
        assert "does not answer" in said["kafka"][1]
        assert said["database"][1].startswith(f"cluster.database.url: {url}: ")

        with capture_logs() as logs:
            watch = KafkaWatch(away.cluster)
            assert not any(watch.answers(wanted=wanted) for wanted in (True, False, True))
            watch._cluster, watch._client, watch._next = (
                settings.cluster,
                KafkaWatch(settings.cluster)._client,
                0,
            )
            assert all(watch.answers(wanted=wanted) for wanted in (True, False, True))
        assert [log["event"] for log in logs] == ["kafka_away", "kafka_back"]

        file = settings.data / "away.json"
        away.save(file)
        done = CliRunner().invoke(app, ["prepare", str(file)])
        assert done.exit_code == 1
        assert done.output.startswith(f"{file}: cluster.database.url: {url}: ")


def test_a_database_that_does_not_let_us_in_is_a_mistake_of_the_settings(
    kafka: Kafka, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FENGHUO_DATABASE_PASSWORD", raising=False)
    with clusters.settings_of(kafka, postgres, tmp_path) as settings:
        assert settings.cluster is not None
        right = settings.cluster.database
        assert right.password_file is not None
        file, wrong = tmp_path / "run.json", tmp_path / "wrong"
        wrong.write_text("wrong", "utf-8")
        for key, value in (
            ("password_file", wrong),
            ("password_file", None),
            ("url", right.url + "x"),
            ("url", right.url.replace("developer@", "nobody@")),
        ):
            database = right.model_copy(update={key: value})
            cluster = settings.cluster.model_copy(update={"database": database})
            settings.model_copy(update={"cluster": cluster}).save(file)
            for command in ("desk", "registrar", "prepare"):
                done = CliRunner().invoke(app, [command, str(file)])
                assert done.exit_code == 2
                [line] = done.output.splitlines()
                meant = (
                    "password_file" if "nobody" in str(value) else key
                )  # which it is, PostgreSQL does not tell
                assert line.startswith(f"{file}: cluster.database.{meant}: "), line


def test_without_anything_to_look_at_it_says_what_to_give() -> None:
    done = CliRunner().invoke(app, ["doctor"], env={"FENGHUO_DATA": ""})
    assert (done.exit_code, "--data" in done.output) == (2, True)
