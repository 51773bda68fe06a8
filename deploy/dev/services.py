"""Kafka, PostgreSQL, mosquitto and InfluxDB as processes, for developers and tests without a container engine."""

import argparse
import fcntl
import json
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ingest.broker import (
    COLLECTOR,
    LOOPBACK,
    Account,
    Mosquitto,
    collector_account,
    die_with_parent,
    find_mosquitto,
    free_port,
    slot_accounts,
    slot_user,
    write_private,
)
from ingest.broker_login import BrokerAway, BrokerRefuses, log_in
from registry.clock import stopwatch

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
STATE = BUILD / "services.json"
"""What `start` started, for `stop`: the folder and each server's pid."""

POM = Path(__file__).parent / "kafka" / "pom.xml"
JARS = Path(__file__).parent / "kafka" / "jars.sha256"
"""What every jar must be, as sha256sum says it: what another registry hands out under the same name is refused."""

INFLUXDB = Path(__file__).parent / "influxdb"
"""A Go module that names InfluxDB, and by go.sum what each of its 1,400 files must be."""

_LINKED = (
    "-tags",
    "sqlite_foreign_keys,sqlite_json",
    "-trimpath",
    "-ldflags",
    "-s -w -X main.version={version}",
)
_BUILT = {"GOFLAGS": "-mod=readonly", "RUSTUP_TOOLCHAIN": "stable"}  # not the old Rust that it asks for

BUILDERS = ("/usr/local/go/bin", "~/.cargo/bin")
"""Where Go and Rust are that no package brought, whether or not they are on the PATH."""

GO = (1, 21)  # one that fetches the newer Go that go.mod asks for, unless it is told not to
JAVA = 17  # Kafka 4 needs it, or a newer one
POSTGRES_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
DEVELOPER = "developer"
"""The account of whom `start` tells: it may do anything."""

SLOTS = 8
"""Slots of a cluster whose collectors have accounts at the broker, unless more are asked for; as in its settings."""

_moment = Event()  # never set: a pause


class ServerMissing(RuntimeError):
    """A server is not on this machine; the text says in one line what is missing and how to get it."""


class ServerFailed(RuntimeError):
    """A server did not start; the text ends with the last lines of its log."""


def find_java() -> str:
    """The path of a Java that Kafka runs on. Raises ServerMissing."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found:
        said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
        version = re.search(r'version "(\d+)', said)
        if version and int(version[1]) >= JAVA:
            return found
    raise ServerMissing(
        f"Java {JAVA} is missing for Kafka; to get it: apt-get install openjdk-17-jre-headless"
    )


def find_postgres() -> Path:
    """The folder of PostgreSQL's programs, the newest there is: Debian puts them in no PATH. Raises ServerMissing."""
    places = [folder for pattern in POSTGRES_PLACES for folder in Path("/").glob(pattern[1:])]
    if on_path := shutil.which("initdb"):
        places.append(Path(on_path).resolve().parent)
    with_server = [folder for folder in places if (folder / "postgres").exists()]
    if not with_server:
        raise ServerMissing("PostgreSQL is missing; to get it: apt-get install postgresql")
    return max(with_server, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))])


def kafka_jars() -> Path:
    """The folder of Kafka's jars; fetched by Maven where they are not yet, and checked. Raises ServerMissing."""
    lock = JARS.read_bytes()
    folder = BUILD / f"kafka-{sha256(lock).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerMissing("Maven is missing, which fetches Kafka; to get it: apt-get install maven")
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="kafka-") as name:
        fetched = Path(name) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"]
        command = [maven, "-q", "-B", "-f", str(POM), *goal]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = next((line for line in done.stdout.splitlines() if "ERROR" in line), "it says nothing")
            raise ServerMissing(f"Kafka's jars are missing, and Maven cannot fetch them: {first}")
        wanted = {name: digest for digest, name in map(str.split, lock.decode().splitlines())}
        there = {jar.name: sha256(jar.read_bytes()).hexdigest() for jar in fetched.glob("*.jar")}
        if wrong := sorted(name for name, _ in wanted.items() ^ there.items()):
            raise ServerFailed(f"Maven fetched other jars than {JARS.name} names: {', '.join(wrong)}")
        try:
            fetched.rename(folder)
        except OSError:  # another process was as quick
            if not folder.is_dir():
                raise
    return folder


def find_go() -> tuple[str, str]:
    """The path of a Go that can build InfluxDB, and the PATH on which it finds what it needs. Raises ServerMissing."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *map(os.path.expanduser, BUILDERS)))
    lacking = "is missing, which builds InfluxDB; to get it:"
    go = shutil.which("go", path=path)
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout if go else ""
    version = re.search(r"go(\d+)\.(\d+)", said)
    if go is None or version is None or (int(version[1]), int(version[2])) < GO:
        there = f" (here is {version[1]}.{version[2]})" if version else ""
        raise ServerMissing(f"Go 1.24{there} {lacking} apt-get install golang-go, where that is new enough")
    if shutil.which("cargo", path=path) is None:
        raise ServerMissing(f"Rust {lacking} apt-get install cargo, where that is 1.72 or newer")
    if shutil.which("cc", path=path) is None:
        raise ServerMissing(f"A C compiler {lacking} apt-get install gcc libc6-dev")
    return go, path


def influxd() -> Path:
    """The program of InfluxDB; built where it is not yet, once for all work trees. Raises ServerMissing."""
    parts = {name: (INFLUXDB / name).read_bytes() for name in ("go.mod", "go.sum", "tools.go")}
    version = re.search(rb"influxdb/v2 (v[0-9.]+)", parts["go.mod"])
    assert version is not None
    name, digest = f"influxd-{version[1].decode()}", _digest(*parts.values())
    given = os.environ.get("FENGHUO_CACHE")
    cache = Path(given) if given else Path.home() / ".cache" / "fenghuo"
    program = cache / f"{name}-{platform.machine()}-{digest}"
    if program.exists():
        return program
    go, path = find_go()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{name}.lock"):
        if program.exists():  # another process was as quick
            return program
        print(
            f"InfluxDB is built, once, into {cache}: that takes 5 to 15 minutes.", file=sys.stderr, flush=True
        )
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{name}-") as folder:
            for part, content in parts.items():
                Path(folder, part).write_bytes(content)
            _build_influxd(go, path, Path(folder), version[1].decode())
            Path(folder, "influxd").rename(program)
    return program


def _build_influxd(go: str, path: str, folder: Path, version: str) -> None:
    """In a folder with the module. Raises ServerMissing."""
    helper, wrapper = folder / "pkg-config", folder / "rustc"
    wrapper.write_text('#!/bin/sh\nexec "$@" --cap-lints allow\n', "utf-8")  # old code, which denies warnings
    wrapper.chmod(0o700)
    environment = {
        **os.environ,
        **_BUILT,
        **{"PATH": path, "PKG_CONFIG": str(helper), "RUSTC_WRAPPER": str(wrapper)},
    }
    linked = [part.format(version=version) for part in _LINKED]
    steps = (
        [go, "build", "-o", str(helper), "github.com/influxdata/pkg-config"],
        [go, "build", *linked, "-o", "influxd", "github.com/influxdata/influxdb/v2/cmd/influxd"],
    )
    for step in steps:
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
            last = next((line for line in lines if "error" in line.lower()), lines[-1]).strip()
            raise ServerMissing(f"InfluxDB is missing, and Go cannot build it: {last}")


def _digest(*parts: bytes) -> str:
    """Of the recipe by which InfluxDB is built."""
    return sha256(b"".join((*parts, repr((_LINKED, _BUILT)).encode()))).hexdigest()[:12]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Only one process at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Server:
    """A server's process on a loopback port: started, awaited until it answers, ended by its pid.

    Args:
        folder: where its files are; made if missing. The same folder and port give the same server again.
    """

    NAME = ""
    START_WITHIN = 60.0  # seconds; a busy machine of two cores is slow
    STOP_WITHIN = 20.0
    STOP_BY = signal.SIGTERM

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self.host = LOOPBACK
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def where(self) -> str:
        """How a client finds it, for people."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, *, outlive: bool = False) -> None:
        """Start it and wait until it answers.

        Args:
            outlive: it goes on when we end; else it dies with the thread that started it (on Linux).

        Raises:
            ServerMissing: it is not on this machine. ServerFailed: it ended, or does not answer in time.
        """
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.prepared()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if outlive else die_with_parent(),
                **self.user(),
            )
        began = stopwatch()
        while not self.answers():
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                if stopwatch() - began < self.START_WITHIN:
                    continue
                problem = f"does not answer within {self.START_WITHIN:.0f} s"
            else:
                problem = f"ended with status {self._process.returncode}"
            self.kill()
            raise ServerFailed("\n".join((f"{self.NAME} {problem}; {self.log} says at last:", *self.tail())))

    def stop(self) -> None:
        """End it in its own way; killed if that takes too long."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.STOP_BY)
            try:
                self._process.wait(self.STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> list[str]:
        return self.log.read_text("utf-8", "replace").splitlines()[-10:]

    def prepared(self) -> list[str]:
        """Make what it needs before it starts, once; its command. Raises as ``start``."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it does what a client asks."""
        raise NotImplementedError

    def user(self) -> dict[str, Any]:
        """As whom it runs, for Popen."""
        return {}

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """A step of the preparation. Raises ServerFailed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            **self.user(),
        )
        if done.returncode:
            raise ServerFailed(f"{self.NAME}: {' '.join(command)}\n{done.stdout}{done.stderr}")


class Kafka(Server):
    """One node of Apache Kafka that is broker and controller. It makes no topic by itself."""

    NAME = "kafka"

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self._controller = free_port()

    @property
    def servers(self) -> str:
        """For a client's bootstrap.servers."""
        return self.where

    def prepared(self) -> list[str]:
        java, jars = find_java(), f"{kafka_jars()}/*"
        settings = self.folder / "server.properties"
        if not settings.exists():
            settings.write_text(
                "".join(f"{name}={value}\n" for name, value in self._settings().items()), "utf-8"
            )
            tool = ["-Xmx256m", "-cp", jars, "kafka.tools.StorageTool", "format", "-c", str(settings)]
            self.run([java, *tool, "-t", str(uuid.uuid4())])
        memory = ["-Xms128m", "-Xmx512m"]
        logging = [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        return [java, *memory, *logging, "-cp", jars, "kafka.Kafka", str(settings)]

    def answers(self) -> bool:
        client = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=0.5).brokers)  # none while it is not open to clients
        except KafkaException:
            return False

    def _settings(self) -> dict[str, object]:
        controller = f"{self.host}:{self._controller}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.where},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.where}",
            "log.dirs": self.folder / "data",
            "broker.session.timeout.ms": 4000,  # after a kill it waits so long for its own former life to end
            "broker.heartbeat.interval.ms": 500,
            "auto.create.topics.enable": "false",  # a topic with the wrong settings is worse than an error
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,  # 50 of them cost seconds at the first consumer
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.cleaner.backoff.ms": 1000,  # tests wait for compaction
            "num.network.threads": 2,
            "num.io.threads": 2,
        }


class Postgres(Server):
    """A cluster of PostgreSQL with one superuser, who needs a password: others on this machine do not get in.

    Args:
        lasting: a commit waits for the disk, as it does in earnest. Without, tests are quicker, and only
            what survives a power cut is not shown.
    """

    NAME = "postgresql"
    STOP_BY = signal.SIGINT  # "fast": a client that stays connected does not hold it up

    def __init__(self, folder: Path, port: int | None = None, *, lasting: bool = True) -> None:
        super().__init__(folder, port)
        self._lasting = lasting
        self._password = secrets.token_urlsafe(18)

    @property
    def where(self) -> str:
        """As settings name it: the password is in a file of its own."""
        url = f"postgresql://{DEVELOPER}@{self.host}:{self.port}/postgres"
        return f"{url}, password_file {self._secret}"

    @property
    def _secret(self) -> Path:
        return self.folder / "password"

    def url(self, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{DEVELOPER}:{self._password}@{self.host}:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """Run a statement that no transaction may hold, such as CREATE DATABASE."""
        with self._connection() as connection:
            connection.execute(statement)

    def prepared(self) -> list[str]:
        programs, data = find_postgres(), self.folder / "data"
        if not data.exists():
            write_private(self._secret, self._password)
            if "user" in self.user():
                os.chown(self.folder, self.user()["user"], self.user()["group"])
                os.chown(self._secret, self.user()["user"], self.user()["group"])
            who = ["-U", DEVELOPER, "-A", "scram-sha-256", f"--pwfile={self._secret}"]
            how = ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
            self.run([str(programs / "initdb"), "-D", str(data), *who, *how])
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "fsync": "on" if self._lasting else "off",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(data), *flags]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def user(self) -> dict[str, Any]:
        """It refuses to run as root: then it runs as its package's user, or as nobody."""
        if os.getuid() != 0:
            return {}
        for name in ("postgres", "nobody"):
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        raise ServerMissing("PostgreSQL does not run as root, and here is no user postgres or nobody")

    def _connection(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=DEVELOPER,
            password=self._password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )


class Broker(Server):
    """mosquitto as we ship it, with the collectors' accounts and one that may do anything.

    Args:
        slots: so many slots of a cluster have an account.
    """

    NAME = "mosquitto"

    def __init__(self, folder: Path, port: int | None = None, *, slots: int = SLOTS) -> None:
        super().__init__(folder, port)
        self._slots = slots
        self._password = secrets.token_urlsafe(18)
        self._name = f"{DEVELOPER}-awaits"  # a user has one connection: `answers` must end no other's

    @property
    def where(self) -> str:
        users = (
            f"{DEVELOPER}, {COLLECTOR}, {slot_user(COLLECTOR, 0)} to {slot_user(COLLECTOR, self._slots - 1)}"
        )
        return (
            f"mqtt://{self.host}:{self.port}, password_file {self._secret}, users {users} (for more: SLOTS=N)"
        )

    @property
    def _secret(self) -> Path:
        return self.folder / "password"

    def prepared(self) -> list[str]:
        program = find_mosquitto()
        if program is None:
            raise ServerMissing("mosquitto is missing; to get it: apt-get install mosquitto")
        write_private(self._secret, self._password)
        everything = ("fenghuo/v1/#",)
        developer = Account(DEVELOPER, self._password, publish=everything, receive=everything)
        accounts = [collector_account(self._password), *slot_accounts(self._password, self._slots), developer]
        accounts.append(Account(self._name, self._password))
        mosquitto = Mosquitto(self.folder, self.port, accounts, executable=program)
        mosquitto.write()
        return [program, "-c", str(mosquitto.config)]

    def answers(self) -> bool:
        try:
            log_in(self.host, self.port, self._name, self._password)
        except (BrokerAway, BrokerRefuses):
            return False
        return True


class InfluxDb(Server):
    """InfluxDB 2 without its pages, with an organisation and a token that may do anything."""

    NAME = "influxdb"
    ORGANISATION = "fenghuo"
    QUIET = ("--reporting-disabled", "--ui-disabled")

    @property
    def where(self) -> str:
        """As settings name it."""
        return f"{self.url}, organisation {self.ORGANISATION}, token_file {self.token_file}"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def token(self) -> str:
        """There once it is started."""
        return self.token_file.read_text("utf-8")

    def prepared(self) -> list[str]:
        program = influxd()
        if not self.token_file.exists():
            write_private(self.token_file, secrets.token_urlsafe(32))
        places = {name: self.folder / name for name in ("bolt", "sqlite", "engine")}
        files = [f"--{name}-path={place}" for name, place in places.items()]
        return [str(program), "run", f"--http-bind-address={self.host}:{self.port}", *files, *self.QUIET]

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK and self._set_up()
        except httpx.TransportError:
            return False

    def _set_up(self) -> bool:
        """Whether the organisation and its token are there; makes them."""
        place = f"{self.url}/api/v2/setup"
        if not httpx.get(place, timeout=5).json()["allowed"]:
            return True
        first = {"username": DEVELOPER, "org": self.ORGANISATION, "bucket": "first", "token": self.token}
        return httpx.post(place, json=first, timeout=30).status_code == httpx.codes.CREATED


SERVERS: dict[str, Callable[[Path, int], Server]] = {
    Kafka.NAME: lambda folder, _: Kafka(folder),
    Postgres.NAME: lambda folder, _: Postgres(folder),
    Broker.NAME: lambda folder, slots: Broker(folder, slots=slots),
    InfluxDb.NAME: lambda folder, _: InfluxDb(folder),
}
"""By name: made in a folder, for so many slots."""


def new_folder() -> Path:
    """A temporary folder for servers: another user (PostgreSQL's) gets through it, and sees nothing."""
    folder = Path(tempfile.mkdtemp(prefix="fenghuo-"))
    folder.chmod(0o711)
    return folder


def start(names: Sequence[str], state: Path = STATE, slots: int = SLOTS) -> int:
    """Start them for a developer, say where each is, and leave them running. Exit status.

    Args:
        slots: so many slots of a cluster have accounts at mosquitto.
    """
    if state.exists():
        known = json.loads(state.read_text("utf-8"))
        if any(_runs(one, known) for one in known["servers"].values()):
            print("These run already; `make services-stop` ends them.")
            _say(known)
            return 0
        shutil.rmtree(known["folder"], ignore_errors=True)
    folder, started = new_folder(), dict[str, Server]()
    known = {"folder": str(folder), "servers": {}}
    try:
        for name in names:
            began = stopwatch()
            server = started[name] = SERVERS[name](folder / name, slots)
            server.start(outlive=True)
            known["servers"][name] = {
                "pid": server.pid,
                "signal": int(server.STOP_BY),
                "where": server.where,
                "log": str(server.log),
                "seconds": round(stopwatch() - began, 1),
            }
            state.parent.mkdir(exist_ok=True)
            write_private(state, json.dumps(known, indent=1))
    except (ServerMissing, ServerFailed, KeyboardInterrupt) as error:
        for server in started.values():
            server.stop()
        state.unlink(missing_ok=True)
        print(str(error) or "stopped", file=sys.stderr)
        if not isinstance(error, ServerFailed):
            shutil.rmtree(folder)
        return 1
    _say(known)
    return 0


def stop(state: Path = STATE) -> int:
    """End what ``start`` started, by pid, and remove its files. Exit status."""
    if not state.exists():
        print("No services run.")
        return 0
    known = json.loads(state.read_text("utf-8"))
    waiting = list(known["servers"].values())
    began, told = stopwatch(), False
    while waiting := [one for one in waiting if _runs(one, known)]:
        late = stopwatch() - began > Server.STOP_WITHIN
        for one in waiting if late or not told else ():
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(one["pid"], signal.SIGKILL if late else one["signal"])
        told = True
        _moment.wait(0.05)
    shutil.rmtree(known["folder"], ignore_errors=True)
    state.unlink()
    print(f"Ended: {', '.join(known['servers'])}.")
    return 0


def _say(known: Mapping[str, Any]) -> None:
    for name, one in known["servers"].items():
        ended = "" if _runs(one, known) else ", HAS ENDED"
        print(f"{name:<11} {one['where']}")
        print(f"{'':<11} pid {one['pid']}{ended}, answered after {one['seconds']} s, log {one['log']}")


def _runs(one: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether the process runs and is ours: its command names our folder. Others get the same pid later."""
    pid, folder = one["pid"], str(known["folder"])
    try:
        return folder in Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:  # it has ended, or this system has no /proc
        if Path("/proc/self").exists():
            return False
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    return folder in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.services", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    starting = ways.add_parser("start", help="start servers and leave them running")
    starting.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(SERVERS)}; else all")
    starting.add_argument("--slots", type=int, default=SLOTS, help="accounts of collectors at mosquitto")
    ways.add_parser("stop", help="end what was started")
    for way in ways.choices.values():
        way.add_argument("--state", type=Path, default=STATE, help="the file that remembers what runs")
    given = parser.parse_args()
    if given.way == "stop":
        return stop(given.state)
    if unknown := set(given.names) - set(SERVERS):
        parser.error(f"no server {', '.join(sorted(unknown))}; expected some of {', '.join(SERVERS)}")
    return start(given.names or list(SERVERS), given.state, given.slots)


if __name__ == "__main__":
    sys.exit(main())
