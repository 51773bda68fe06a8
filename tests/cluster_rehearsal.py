"""A rehearsal of a whole cluster: every role a real process, on real servers, under the stepped clock."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import msgspec
import yaml

from deploy.dev.services import Kafka, Postgres
from fenghuo import collect_status, evaluate, settings
from fenghuo.rehearsal import PHONE_SECRET, Rehearsal
from fenghuo.settings import Cluster
from ingest.broker import die_with_parent, slot_accounts
from registry import versions
from registry.compile import compile_source
from registry.database import open_database
from tests.clusters import alone, database_of, upgrade
from tests.servers import PASSWORD, mosquitto, new_database, publisher

API, COLLECT, DESK = "api-1", "collect-1", "desk-1"
WITHIN = 60.0
"""Seconds that a role is given to end."""


class ClusterRehearsal(Rehearsal):
    """As a Rehearsal; roles are named "collect-1", "evaluate-1", "desk-1", "api-1" and "registrar".

    Args:
        start: as of a Rehearsal.
        workers, collectors: how many there are. cluster: settings of the cluster, laid over the tests' own; without a
            stepper, compound rules wait for nobody for longer than the product's default.
    """

    def __init__(
        self,
        folder: Path,
        registry_folder: Path,
        start: int | None,
        kafka: Kafka,
        database: str,
        *,
        workers: int = 1,
        collectors: int = 1,
        **cluster: object,
    ) -> None:
        super().__init__(folder, registry_folder, start)
        self.database.dispose()
        self.database = open_database(database)
        self.processes = (API, COLLECT, DESK)
        self._kafka, self._url = kafka, database
        self._workers = [f"evaluate-{number}" for number in range(1, workers + 1)]
        self._collectors = [f"collect-{number}" for number in range(1, collectors + 1)]
        patience = {} if start is None else {"patience": 86_400.0}
        self._cluster = {"slots": 3, "checkpoint": 0.5, "topics": alone(), **patience, **cluster}
        self._roles: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    @property
    def cluster(self) -> Cluster:
        """What all roles are told."""
        cluster = settings.load(self.settings_file).cluster
        assert cluster is not None
        return cluster

    @property
    def settings_file(self) -> Path:
        return self.folder / "fenghuo.yaml"

    def start(self, *, api: bool = True) -> None:
        accounts = slot_accounts(PASSWORD, int(str(self._cluster["slots"])))
        gateways = [(gateway.enterprise, gateway.id) for gateway in self.registry.gateways]
        self.broker = self._stack.enter_context(
            mosquitto(self.folder, gateways, *accounts, publisher(), port=self.broker_port)
        )
        self._write_settings()
        self._run("prepare")
        self.start_role("registrar")
        self.start_role(*self._collectors, *self._workers, DESK, API)
        self._has_api = api
        self._await("start", self._started)
        self._await("the collectors' sessions at the broker", self._subscribed)
        self.settle()

    def _write_settings(self) -> None:
        self.data.mkdir(exist_ok=True)
        (self.folder / "broker.secret").write_text(PASSWORD, "utf-8")
        content = {
            "registry": str(self.registry_folder.resolve()),
            "data": str(self.data.resolve()),
            "listen": self.url.removeprefix("http://"),
            "broker": {"url": f"mqtt://127.0.0.1:{self.broker_port}", "password_file": "broker.secret"},
            "channels": {
                "phone": {"url": f"http://127.0.0.1:{self.phone_port}/ring", "secret_env": PHONE_SECRET}
            },
            "clock": self.stepper.address if self.stepper else "",
            "cluster": {
                "kafka": self._kafka.servers,
                "database": database_of(self._url, self.folder).model_dump(mode="json"),
                **self._cluster,
            },
        }
        self.settings_file.write_text(yaml.safe_dump(content), "utf-8")

    def _run(self, command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "fenghuo", command, str(self.settings_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start_role(self, *names: str) -> None:
        for name in names:
            role, _, number = name.partition("-")
            command = [sys.executable, "-m", "fenghuo", role, str(self.settings_file)]
            with (self.folder / "serve.log").open("ab") as log:
                self._roles[name] = subprocess.Popen(
                    [*command, "--name", number] if number else command,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._environment},
                    start_new_session=True,
                    preexec_fn=die_with_parent(),
                )

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a role (to a worker's own process); it is not started again by itself, but a worker."""
        pid = self.pid(name)
        os.kill(pid, number)
        if number == signal.SIGKILL and not name.startswith("evaluate"):
            self._roles.pop(name).wait(WITHIN)
        return pid

    def lose(self, worker: str) -> None:
        """End a worker for good, as its machine would: what keeps it alive dies with it."""
        keeper = self._roles.pop(worker)
        keeper.send_signal(signal.SIGSTOP)
        try:
            os.kill(_child(keeper.pid), signal.SIGKILL)
        finally:
            keeper.kill()
            keeper.wait(WITHIN)

    def pid(self, name: str) -> int:
        """The process id of a role; of a worker, that of the process that judges."""
        own = self._roles[name].pid
        if not name.startswith("evaluate"):
            return own
        return _child(own)

    def stop(self) -> None:
        """End all roles, in the order in which readings flow, and the broker."""
        for role in self._roles.values():
            role.send_signal(signal.SIGTERM)
        for role in self._roles.values():
            try:
                role.wait(WITHIN)
            except subprocess.TimeoutExpired:
                role.kill()
                role.wait()
        self._roles.clear()
        self._stack.close()

    def step(self, to: int) -> None:
        """Move the clock; waits only until the collector has taken it over, for all else lies behind that in Kafka."""
        stepper = self.stepper
        if stepper is None:
            raise RuntimeError("this rehearsal runs on the machine's own clock")
        if self._unsettled:
            self.settle()
        stepper.step(to)
        self._await("the collector at rest", lambda: stepper.at_rest((COLLECT,)))
        self._unsettled = True

    def settle_notices(self) -> None:
        if self._unsettled:
            self.settle()
        super().settle_notices()

    def password(self, enterprise: str, gateway: str) -> str:
        return PASSWORD

    def _ended(self) -> str:
        return ", ".join(name for name, role in self._roles.items() if role.poll() is not None)

    def _started(self) -> bool:
        if self.stepper is not None and self.stepper.names != sorted(self.processes):
            return False
        try:
            return not self._has_api or self.http.get("/api/v1/health").is_success
        except httpx.TransportError:
            return False

    def collector(self, name: str = COLLECT) -> collect_status.CollectStatus | None:
        """What a collector says of itself."""
        said = collect_status.read(collect_status.path(self.data, name.partition("-")[2]))
        role = self._roles.get(name)
        return said if said is not None and role is not None and said.pid == role.pid else None

    def worker(self, name: str) -> evaluate.EvaluateStatus | None:
        """What a worker says of itself."""
        try:
            said = evaluate.status_file(self.data, name.partition("-")[2]).read_bytes()
            decoded = msgspec.json.decode(said, type=evaluate.EvaluateStatus)
            return decoded if decoded.pid == self.pid(name) else None
        except (FileNotFoundError, ProcessLookupError):
            return None

    def owned(self, worker: str) -> list[int]:
        """The slots that a worker has by now."""
        said = self.worker(worker)
        return sorted(said.readings) if said is not None else []

    def shares(self) -> dict[str, int]:
        """How many slots each collector has and hears."""
        said = {name: self.collector(name) for name in self._collectors}
        return {name: len(one.slots) for name, one in said.items() if one is not None and one.connected}

    def _subscribed(self) -> bool:
        """Whether the slots are shared out among all collectors, and all are heard."""
        shares = self.shares()
        return len(shares) == len(self._collectors) and sum(shares.values()) == self._cluster["slots"]

    def _registry_database(self) -> str:
        return self._url

    def _await_registry(self) -> None:
        with self._registry_store() as store:
            self.registry = compile_source(store.load())
        wanted = self.registry.version

        def in_force() -> bool:
            said = self.collector()
            return said is not None and {
                versions.part(slot.version, versions.REGISTRY) for slot in said.slots.values()
            } == {wanted}

        self._await("the registry in force", in_force)
        self.settle()


def _child(keeper: int) -> int:
    """The process that a worker's keeper keeps alive. Raises ProcessLookupError."""
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    if not children:
        raise ProcessLookupError("no worker runs")
    return int(children[0])


@contextmanager
def cluster_rehearsal(
    folder: Path,
    registry_folder: Path,
    start: int | None,
    kafka: Kafka,
    postgres: Postgres,
    **options: object,
) -> Iterator[ClusterRehearsal]:
    """One on a database of its own; not started."""
    with new_database(postgres, upgrade) as url:
        yield ClusterRehearsal(folder, registry_folder, start, kafka, url, **options)
