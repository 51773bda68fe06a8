"""A rehearsal: a whole Fenghuo with broker, phone and a stepped clock, for the demo and for tests.

The processes are the real ones. The clock moves only when it is stepped, and a step is over when all
that was published and all that fell due has been absorbed by the desk. So hours pass in seconds, and
the same story gives exactly the same alerts.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx
import msgspec
import yaml

from alerting import sender
from console import tokens
from console.scope import Scope
from fenghuo import status
from fenghuo.clock_socket import Stepper
from fenghuo.desk_reader import DeskReader
from ingest.broker import die_with_parent, free_port, gateway_user
from ingest.last_values import LastValues, NoLastValues
from registry import versions
from registry.clock import Clock, SystemClock, stopwatch
from registry.compile import compile_folder, compile_source
from registry.database import open_database, reading
from registry.exchange import import_folder
from registry.model import Registry
from registry.store import Change, RegistryStore
from simulators.gateway import Gateway, GatewayError, Value, rows

PATIENCE = 30.0
"""Seconds of real time after which a step that does not come to an end is an error."""

PROCESSES = ("judge", "serving")
TICK = 1.0 / os.sysconf("SC_CLK_TCK")
PHONE_SECRET = "FENGHUO_PHONE_SECRET"


class NotAbsorbed(TimeoutError):
    """The processes did not absorb in time what was published; the message says what is missing."""


class Rehearsal(DeskReader):
    """Start it in a ``with``; then publish, step, and look.

    Args:
        folder: where data, logs and settings are put; made if missing.
        registry_folder: who and what exists at first.
        start: the time at which the clock stands at first, µs; None runs on the machine's own clock.
        environment: further variables for the processes.
        options: further settings, as in docs/settings.md.
    """

    def __init__(
        self,
        folder: Path,
        registry_folder: Path,
        start: int | None,
        environment: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.registry_folder = registry_folder
        self.registry: Registry = compile_folder(registry_folder)
        self.stepper = Stepper(start) if start is not None else None
        self.processes = PROCESSES  # that hang on the clock
        self._clock: Clock = SystemClock()
        self.broker_port = free_port()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.http = httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=PATIENCE)
        self.rings_file = folder / "rings.jsonl"
        self._rings: list[dict[str, object]] = []
        self._rings_read = 0  # bytes
        self._environment = {PHONE_SECRET: "rehearsal", **(environment or {})}
        self._options = options
        self._has_api = True
        self._gateways: dict[tuple[str, str], Gateway] = {}
        self._unsettled = False
        self._expected: dict[int, int] = {}  # row: time of its newest reading, where nothing else tells
        self._serve: subprocess.Popen[bytes] | None = None
        self._phone: subprocess.Popen[str] | None = None
        super().__init__(self.data / "desk.sqlite")

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> "Rehearsal":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.start_phone()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_phone(self, port: int = 0, mode: str = "ok") -> None:
        """Start the simulated phone exchange, in a process of its own."""
        command = [
            "-m",
            "simulators.phone",
            "--port",
            str(port),
            "--mode",
            mode,
            "--log",
            str(self.rings_file),
        ]
        self._phone = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we end the others
            preexec_fn=die_with_parent(),
        )
        assert self._phone.stdout is not None
        self.phone_port = int(self._phone.stdout.readline())

    def start(self, *, api: bool = True) -> None:
        """Start `fenghuo serve` and wait until both of its processes are there (and the API answers)."""
        settings = self.folder / "fenghuo.yaml"
        content = {
            "registry": str(self.registry_folder.resolve()),
            "data": str(self.data.resolve()),
            "listen": self.url.removeprefix("http://"),
            "broker_port": self.broker_port,
            "channels": {
                "phone": {"url": f"http://127.0.0.1:{self.phone_port}/ring", "secret_env": PHONE_SECRET}
            },
            "clock": self.stepper.address if self.stepper else "",
            "journal_reserve": 1 << 20,
            "history": {"embedded": False},
            **self._options,
        }
        settings.write_text(yaml.safe_dump(content), "utf-8")
        with (self.folder / "serve.log").open("ab") as log:
            self._serve = subprocess.Popen(
                [sys.executable, "-m", "fenghuo", "serve", str(settings)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._has_api = api
        self._await("start", self._started)
        self._await("the judge's session at the broker", self._subscribed)
        self.settle()

    def stop(self) -> None:
        """End `fenghuo serve` as an operator would; `start` starts it again with the same data."""
        if self._serve is not None:
            _end(self._serve)

    def _started(self) -> bool:
        """Whether both processes are there: they hang on the clock, and the API answers."""
        if self.stepper is not None and self.stepper.names != list(self.processes):
            return False
        if not self._has_api:
            return True
        try:
            return self.http.get("/api/v1/ready" if self.stepper is None else "/api/v1/health").is_success
        except httpx.TransportError:
            return False

    def _subscribed(self) -> bool:
        """Whether the judge hears the broker, which keeps nothing for one that has never been there."""
        said = status.read(self.data / "judge.json")
        return said is not None and said.pid == self._judge() and said.connected

    def close(self) -> None:
        """End everything, in the order in which it was started last."""
        for gateway in self._gateways.values():
            with contextlib.suppress(GatewayError):  # the broker may be gone; the rest must end all the same
                gateway.close()
        self._gateways.clear()
        self.stop()
        if self._phone is not None:
            _end(self._phone)
        if self._phone is not None and self._phone.stdout is not None:
            self._phone.stdout.close()
        super().close()
        self.http.close()
        if self.stepper is not None:
            self.stepper.close()

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to "judge", "serving" or "broker"; returns its pid. The supervisor starts it anew, and lets
        what keeps dying wait: so here its start is waited for."""
        self._await(f"the start of {name}", lambda: self._find(name) is not None)
        pid = self.pid(name)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            # Not a zombie either: while one of its threads is left, its sockets still look alive.
            self._await(f"the end of {name}", lambda: not Path(f"/proc/{pid}").exists())
        return pid

    def pid(self, name: str) -> int:
        """The process id of "judge", "serving" or "broker". Raises ProcessLookupError."""
        found = self._find(name)
        if found is None:
            raise ProcessLookupError(f"no {name} runs")
        return found

    def _find(self, name: str) -> int | None:
        wanted = {
            "judge": b"fenghuo.judge",
            "serving": b"fenghuo.serving",
            "historian": b"fenghuo.historian",
            "broker": b"mosquitto",
        }[name]
        for child in _children(self.supervisor):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
                if wanted in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
        return None

    def processor(self) -> dict[str, float]:
        """Seconds of processor that each process has used; those of one that died are gone with it."""
        return {name: processor(self.pid(name)) for name in (*PROCESSES, "broker")}

    @property
    def supervisor(self) -> int:
        """The process id of `fenghuo serve` itself."""
        assert self._serve is not None, "not started"
        return self._serve.pid

    # -- the plants' side ------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The time of the processes, µs."""
        return self.stepper.now if self.stepper is not None else self._clock.now()

    def password(self, enterprise: str, gateway: str) -> str:
        """The password that the broker gave to a gateway."""
        return password(self.data, enterprise, gateway)

    def gateway(self, enterprise: str, gateway: str) -> Gateway:
        """The simulated gateway, connected."""
        key = (enterprise, gateway)
        if key not in self._gateways:
            password = self.password(enterprise, gateway)
            self._gateways[key] = Gateway(
                "127.0.0.1", self.broker_port, enterprise, gateway, password=password
            )
            self._gateways[key].connect()
        return self._gateways[key]

    def publish(self, enterprise: str, gateway: str, time: int, values: Mapping[str, Value]) -> None:
        """Publish one batch of values measured at ``time``, µs; does not wait."""
        self.gateway(enterprise, gateway).publish(rows(time, values))
        self._unsettled = True
        if self.stepper is not None:
            return
        row_of = self.registry.rows[enterprise]
        for point in values:
            row = row_of[point]
            self._expected[row] = max(self._expected.get(row, 0), min(time, self.now))

    # -- the registry ----------------------------------------------------------------------------

    def import_registry(self, folder: Path, *, who: str = "admin", why: str = "rehearsal") -> None:
        """Import a whole folder in place of what is there, and wait until that is in force.

        Raises RegistryErrors; then nothing is changed.
        """
        with self._registry_store() as store:
            import_folder(store, folder, who=who, why=why, now=self.now, replace=True)
        self._await_registry()

    def edit_registry(self, changes: Sequence[Change], *, who: str = "admin", why: str = "rehearsal") -> None:
        """Make an edit, and wait until it is in force. Raises RegistryErrors; then nothing is changed."""
        with self._registry_store() as store:
            store.edit(changes, who=who, why=why, now=self.now, origin="command")
        self._await_registry()

    @contextlib.contextmanager
    def _registry_store(self) -> Iterator[RegistryStore]:
        engine = open_database(self._registry_database())
        try:
            yield RegistryStore(engine)
        finally:
            engine.dispose()

    def _registry_database(self) -> Path | str:
        return self.data / "registry.sqlite"

    def _await_registry(self) -> None:
        with self._registry_store() as store:
            self.registry = compile_source(store.load())
        self._await(
            "the registry in force",
            lambda: versions.part(self.said().version, versions.REGISTRY) == self.registry.version,
        )

    # -- time ------------------------------------------------------------------------------------

    def step(self, to: int) -> None:
        """Move the clock to ``to``, µs, and wait until all that this brought is done."""
        if self.stepper is None:
            raise RuntimeError("this rehearsal runs on the machine's own clock")
        if self._unsettled:
            self.settle()
        self.stepper.step(to)
        self._rest()

    def settle(self) -> None:
        """Wait until the processes have absorbed what was published and done what is due."""
        for gateway in self._gateways.values():
            gateway.flush()
        self._unsettled = False
        if self.stepper is not None:
            self.stepper.step(self.now)
            self._rest()
        else:
            self._await("the readings published", self._absorbed)

    def _rest(self) -> None:
        """Wait until all processes, perhaps started anew, say that all is done that was asked for."""
        stepper = self.stepper
        assert stepper is not None
        self._await("all processes at rest", lambda: stepper.at_rest(self.processes))

    def settle_notices(self) -> None:
        """Wait until every notice that is due has been sent, or put off by a channel that fails."""
        self._await("the notices due", self._sent)

    def said(self) -> status.Status:
        """What the judge says of itself; it says so once a second, so wait with settle_status first."""
        said = status.read(self.data / "judge.json")
        if said is None:
            raise NotAbsorbed("the judge has not said anything yet")
        return said

    def settle_desk(self) -> None:
        """Wait until the desk has taken all that the judge has found."""
        self.settle_status()
        self._await(
            "the desk", lambda: not self.said().waiting and self.said().absorbed == self.said().offset
        )

    def wait_for(self, what: str, happened: Callable[[], bool]) -> None:
        """Wait, in real time, until something is so; NotAbsorbed names it if it never is."""
        self._await(what, happened)

    def await_judge(self) -> None:
        """Wait until the judge, perhaps killed and started anew, is at work."""
        self._await("the judge", lambda: (said := self.said()).pid == self._judge() and said.listening)

    def _judge(self) -> int:
        try:
            return self.pid("judge")
        except ProcessLookupError:
            return -1

    def phone_mode(self, mode: str, *, address: str = "") -> None:
        """Let the phone exchange, or one telephone there, be "ok", "dead", "slow:SECONDS" ... (simulators/phone.py)."""
        url = f"http://127.0.0.1:{self.phone_port}/mode" + (f"/{address}" if address else "")
        httpx.post(url, content=mode, trust_env=False).raise_for_status()

    def settle_status(self) -> None:
        """Wait until the judge has written a status that holds all it has done."""

        def written() -> tuple[int, int]:
            said = status.read(self.data / "judge.json")
            return (said.pid, said.number) if said is not None else (0, 0)

        before = written()
        self._await("the judge's status", lambda: written() != before)

    def _absorbed(self) -> bool:
        if not self._expected:
            return True
        try:
            values = LastValues.open(self.data / "values").read()
        except NoLastValues:
            return False
        for row in [row for row, time in self._expected.items() if values.newest[row] >= time]:
            del self._expected[row]
        return not self._expected

    def _sent(self) -> bool:
        with reading(self.database) as connection:
            return sender.idle(connection, self.now)

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        end = stopwatch() + PATIENCE
        while not done():
            if self.stepper is not None:
                self.stepper.hear(0.002)
            else:
                select.select([], [], [], 0.01)
            if ended := self._ended():
                raise NotAbsorbed(f"{ended} has ended:\n{self.log_tail()}")
            if stopwatch() > end:
                raise NotAbsorbed(f"{what}: not within {PATIENCE} s\n{self.log_tail()}")

    def _ended(self) -> str:
        """What has ended though it should run; "" if nothing has."""
        return "fenghuo serve" if self._serve is not None and self._serve.poll() is not None else ""

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that the processes have logged."""
        return "\n".join((self.folder / "serve.log").read_text("utf-8").splitlines()[-lines:])

    # -- looking ---------------------------------------------------------------------------------

    def token(self, person: str, scope: str = "system") -> str:
        """A token of the API for a person."""
        return tokens.create(
            self.database, name=person, scope=Scope.parse(scope), person=person, now=self.now
        )

    def answer(self, verb: str, alert: str, person: str, note: str = "") -> dict[str, object]:
        """A person answers through the API: "confirm", "take-over" or "act". Returns the receipt."""
        reply = self.http.post(
            f"/api/v1/alerts/{alert}/{verb}",
            json={"note": note},
            headers={"Authorization": f"Bearer {self.token(person)}"},
        )
        reply.raise_for_status()
        return dict(reply.json())

    def rings(self) -> list[dict[str, object]]:
        """What the phone exchange heard, in order."""
        if self.rings_file.exists():
            with self.rings_file.open("rb") as file:
                file.seek(self._rings_read)
                *lines, rest = file.read().split(b"\n")
                self._rings_read = file.tell() - len(rest)
            self._rings += [msgspec.json.decode(line) for line in lines]
        return list(self._rings)


def password(data: Path, enterprise: str, gateway: str) -> str:
    """The password that a broker of our own gave to a gateway; ``data`` is the product's folder.

    Raises:
        LookupError: it gave it none. OSError: there is no such broker.
    """
    lines = (data / "broker" / "passwords").read_text("utf-8").splitlines()
    known = dict(line.split() for line in lines if line and not line.startswith("#"))
    if (user := gateway_user(enterprise, gateway)) not in known:
        raise LookupError(f"{data} knows no gateway {user}: does it serve the scenario's registry?")
    return known[user]


def processor(pid: int) -> float:
    """Seconds of processor that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children(parent: int) -> Iterator[int]:
    """The process ids of a process's children."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if int(fields[1]) == parent:
                yield int(entry.name)
