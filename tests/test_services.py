"""The servers of developers and tests: started for real, found missing in one line, ended without a trace."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from deploy.dev import services
from deploy.dev.services import InfluxDb, Kafka, Postgres, ServerFailed, ServerMissing
from fenghuo.settings import Broker as SettingsBroker
from fenghuo.settings import Database, Influx
from tests.servers import needs_mosquitto, new_topic, running

ROOT = Path(__file__).parents[1]


def command(*arguments: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.dev.services", *arguments, "--state", str(state)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- Kafka -------------------------------------------------------------------------------------------


def write(server: Kafka, topic: str, *records: tuple[bytes, bytes]) -> list[tuple[bytes, int, int]]:
    """Key, partition and offset of each record, when all in-sync replicas have it."""
    done: list[tuple[bytes, int, int]] = []

    def delivered(error: KafkaError | None, record: Message) -> None:
        assert error is None, error
        done.append((record.key(), record.partition(), record.offset()))

    settings = {"bootstrap.servers": server.servers, "acks": "all", "enable.idempotence": True}
    producer = Producer(settings)
    for key, value in records:
        producer.produce(topic, value, key, on_delivery=delivered)
    assert producer.flush(30) == 0
    return done


def read(server: Kafka, topic: str, records: int) -> list[tuple[bytes, bytes, int, int]]:
    settings = {"bootstrap.servers": server.servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    found: list[tuple[bytes, bytes, int, int]] = []
    try:
        while len(found) < records:
            some = consumer.consume(records - len(found), timeout=30)
            assert some, f"only {len(found)} of {records} records came back"
            for record in some:
                assert record.error() is None
                found.append((record.key(), record.value(), record.partition(), record.offset()))
    finally:
        consumer.close()
    return found


@pytest.mark.kafka
def test_kafka_gives_back_what_it_has_acknowledged_in_the_order_of_each_key(kafka: Kafka) -> None:
    topic = new_topic(kafka, 4)
    records = [(f"91{n % 10}".encode(), f"round {n}".encode()) for n in range(100)]
    written = write(kafka, topic, *records)
    found = read(kafka, topic, 100)
    assert sorted(written) == sorted((key, partition, offset) for key, _, partition, offset in found)
    for key in {key for key, _ in records}:
        assert [value for k, value, *_ in found if k == key] == [value for k, value in records if k == key]
        assert len({partition for k, _, partition, _ in found if k == key}) == 1
    assert len({partition for _, _, partition, _ in found}) > 1


@pytest.mark.kafka
def test_a_topic_that_nobody_made_is_an_error(kafka: Kafka) -> None:
    """It would have one partition, and a retention that nobody chose."""
    errors: list[KafkaError | None] = []
    settings = {"bootstrap.servers": kafka.servers, "topic.metadata.propagation.max.ms": 0}
    producer = Producer(settings)
    producer.produce("nobody-made-it", b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    [error] = errors
    assert error is not None
    assert error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


@pytest.mark.long
@pytest.mark.kafka
def test_a_killed_kafka_has_what_it_acknowledged_when_it_is_started_again() -> None:
    with running(Kafka) as server:
        topic = new_topic(server)
        written = write(server, topic, *[(b"a", b"%d" % n) for n in range(1000)])
        server.kill()
        server.start()
        assert [value for _, value, _, _ in read(server, topic, len(written))] == [
            b"%d" % n for n in range(1000)
        ]


# -- InfluxDB ----------------------------------------------------------------------------------------


def rights(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


@pytest.mark.influxdb
def test_influxdb_lets_nobody_in_without_its_token_which_only_its_owner_reads(influxdb: InfluxDb) -> None:
    buckets = f"{influxdb.url}/api/v2/buckets"
    assert httpx.get(buckets, headers=rights(influxdb.token)).status_code == 200
    assert httpx.get(buckets, headers=rights("x" * len(influxdb.token))).status_code == 401
    assert httpx.get(buckets).status_code == 401
    assert influxdb.token_file.stat().st_mode & 0o077 == 0
    assert not httpx.get(f"{influxdb.url}/api/v2/setup").json()["allowed"]


@pytest.mark.influxdb
def test_influxdb_has_its_token_and_its_data_when_it_is_started_again() -> None:
    with running(InfluxDb) as server:
        token = server.token
        where = {"org": server.ORGANISATION, "bucket": "first"}
        write = f"{server.url}/api/v2/write"
        httpx.post(write, params=where, headers=rights(token), content="a b=1 1").raise_for_status()
        server.stop()
        server.start()
        assert server.token == token
        flux = {"query": 'from(bucket: "first") |> range(start: 0)'}
        place = f"{server.url}/api/v2/query"
        found = httpx.post(place, params=where, json=flux, headers=rights(token)).raise_for_status()
        assert "1970-01-01T00:00:00.000000001Z,1,b,a" in found.text


# -- `make services` ---------------------------------------------------------------------------------


@needs_mosquitto
@pytest.mark.mosquitto
@pytest.mark.postgresql
@pytest.mark.kafka
@pytest.mark.influxdb
@pytest.mark.usefixtures("kafka", "postgres", "influxdb")  # skipped where they are missing
def test_the_command_starts_them_says_where_and_ends_them(tmp_path: Path) -> None:
    state = tmp_path / "services.json"
    try:
        began = command("start", "--slots", "3", state=state)
        assert (began.returncode, began.stderr) == (0, "")
        known = json.loads(state.read_text("utf-8"))
        pids = [one["pid"] for one in known["servers"].values()]
        assert list(known["servers"]) == ["kafka", "postgresql", "mosquitto", "influxdb"]
        assert all(
            one["where"] in began.stdout and one["log"] in began.stdout for one in known["servers"].values()
        )
        assert state.stat().st_mode & 0o077 == 0, "it holds passwords"
        assert all(alive(pid) for pid in pids), "they outlive the command"

        topics = AdminClient({"bootstrap.servers": known["servers"]["kafka"]["where"]}).list_topics(
            timeout=10
        )
        assert len(topics.brokers) == 1
        where, _, secret = known["servers"]["postgresql"]["where"].partition(", password_file ")
        database = Database(url=where, password_file=secret)  # as settings take it
        url = database.address.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as connection:
            settings = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding")
            assert [connection.execute(f"SHOW {name}").fetchone() for name in settings] == [
                *[("on",)] * 3,
                ("UTF8",),
            ]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace("developer:", "developer:not"))
        where, users = known["servers"]["mosquitto"]["where"].split(", password_file ")
        assert "collector-0 to collector-2 (" in users
        broker = SettingsBroker(url=where, password_file=users.split(",")[0])
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.username_pw_set("collector-2", broker.password)
        client.connect(broker.host, broker.port)
        while not client.is_connected():
            assert not client.loop(timeout=10)
        client.disconnect()
        url, organisation, secret = re.split(
            ", organisation |, token_file ", known["servers"]["influxdb"]["where"]
        )
        access = Influx(url=url, organisation=organisation, token_file=secret).access
        with access.client() as influx:
            assert [one.name for one in influx.organizations_api().find_organizations()] == ["fenghuo"]

        once_more = command("start", state=state)
        assert once_more.returncode == 0
        assert [one["pid"] for one in json.loads(state.read_text("utf-8"))["servers"].values()] == pids
        assert "HAS ENDED" not in once_more.stdout
        os.kill(pids[2], signal.SIGKILL)
        while alive(pids[2]):
            time.sleep(0.01)
        assert f"pid {pids[2]}, HAS ENDED" in command("start", state=state).stdout
    finally:
        ended = command("stop", state=state)
    assert ended.stdout == "Ended: kafka, postgresql, mosquitto, influxdb.\n"
    assert not any(alive(pid) for pid in pids)
    assert not Path(known["folder"]).exists()
    assert command("stop", state=state).stdout == "No services run.\n"


def test_a_pid_that_another_process_has_now_is_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "services.json"
    folder = tmp_path / "servers"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        one = {"pid": other.pid, "signal": int(signal.SIGTERM), "where": "", "log": "", "seconds": 0}
        state.write_text(json.dumps({"folder": str(folder), "servers": {"kafka": one}}), "utf-8")
        assert command("stop", state=state).returncode == 0
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0


# -- what is missing ---------------------------------------------------------------------------------


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)


def test_without_java_it_says_so_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "services.json"
    ran = command("start", "kafka", state=state, PATH=str(tmp_path), JAVA_HOME="", TMPDIR=str(tmp_path))
    assert ran.returncode == 1
    assert ran.stderr == "Java 17 is missing for Kafka; to get it: apt-get install openjdk-17-jre-headless\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "enough"), [("1.8.0_422", False), ("11.0.24", False), ("17.0.15", True), ("25", True)]
)
def test_a_java_that_is_too_old_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, enough: bool
) -> None:
    script(tmp_path, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if enough:
        assert services.find_java() == str(tmp_path / "java")
    else:
        with pytest.raises(ServerMissing, match="Java 17 is missing"):
            services.find_java()


def test_without_postgresql_and_maven_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(services, "POSTGRES_PLACES", ())
    monkeypatch.setattr(services, "BUILD", tmp_path / "build")
    with pytest.raises(ServerMissing, match="apt-get install postgresql"):
        services.find_postgres()
    with pytest.raises(ServerMissing, match="apt-get install maven"):
        services.kafka_jars()


def test_jars_that_are_not_those_we_know_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "BUILD", tmp_path / "build")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    into = 'for word; do case "$word" in -DoutputDirectory=*) mkdir -p "${word#*=}"; echo x > "${word#*=}/'
    script(tmp_path, "mvn", f'{into}kafka_2.13-4.3.1.jar";; esac; done')
    with pytest.raises(ServerFailed, match=r"kafka_2\.13-4\.3\.1\.jar"):
        services.kafka_jars()
    assert list((tmp_path / "build").iterdir()) == []
    script(tmp_path, "mvn", "echo '[ERROR] no route to host'; exit 1")
    with pytest.raises(ServerMissing, match="no route to host"):
        services.kafka_jars()


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that is all there is, with a Go that builds in an instant, and an empty cache."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "cat", "chmod", "sleep"):
        (programs / name).symlink_to(shutil.which(name) or "")
    for name in ("cargo", "cc"):
        script(programs, name, "exit 0")
    built = f'echo "$@" >> {tmp_path}/calls; sleep 0.2\n'
    script(
        programs,
        "go",
        'if [ "$1" = version ]; then echo go version go1.24.1 linux/amd64; exit; fi\n'
        f'{built}while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo built > "$2"; fi; shift; done',
    )
    monkeypatch.setattr(services, "BUILDERS", ())
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("FENGHUO_CACHE", str(tmp_path / "cache"))
    return programs


def test_influxdb_is_built_once_whoever_needs_it(
    go: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor() as pool:
        found = set(pool.map(lambda _: services.influxd(), range(3)))
    [program] = found
    assert program.read_text("utf-8") == "built\n"
    calls = (tmp_path / "calls").read_text("utf-8").splitlines()
    assert [call.rpartition("/")[2] for call in calls] == ["pkg-config", "influxd"]
    assert "-X main.version=v2.7.12" in calls[1]
    told = capsys.readouterr()
    assert (told.out, told.err.count("InfluxDB is built, once, into")) == ("", 1)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"influxd-v2.7.12.lock", program.name}
    script(go, "go", "exit 1")
    assert services.influxd() == program


def test_another_recipe_is_another_program(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = services.influxd()
    monkeypatch.setattr(services, "_LINKED", ("-race",))
    assert services.influxd() != first


def test_without_what_builds_influxdb_it_says_what_to_install(go: Path, tmp_path: Path) -> None:
    script(go, "go", "echo go version go1.19.8 linux/amd64")
    with pytest.raises(
        ServerMissing, match=r"^Go 1\.24 \(here is 1\.19\) is missing, .*apt-get install golang-go"
    ):
        services.influxd()
    script(go, "go", "echo go version go1.24.1 linux/amd64")
    (go / "cc").unlink()
    with pytest.raises(ServerMissing, match=r"C compiler is missing.*apt-get install gcc"):
        services.influxd()
    (go / "cargo").unlink()
    with pytest.raises(ServerMissing, match=r"^Rust is missing.*apt-get install cargo"):
        services.influxd()
    (go / "go").unlink()
    with pytest.raises(ServerMissing, match=r"^Go 1\.24 is missing, which builds InfluxDB"):
        services.influxd()
    assert not (tmp_path / "cache").exists()


def test_where_influxdb_cannot_be_built_go_says_why_and_nothing_is_left(go: Path, tmp_path: Path) -> None:
    fails = 'echo "go: downloading x" >&2; echo "error: no route" >&2; exit 1'
    script(go, "go", f'[ "$1" = version ] && echo go1.24 && exit; {fails}')
    with pytest.raises(ServerMissing, match="Go cannot build it: error: no route"):
        services.influxd()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["influxd-v2.7.12.lock"]


@pytest.mark.postgresql
def test_a_server_that_ends_at_once_says_why(postgres: Postgres) -> None:
    taken = Postgres(postgres.folder.parent / "second", postgres.port)
    with pytest.raises(ServerFailed, match=r"(?s)postgresql ended with status 1; .*Address already in use"):
        taken.start()
