"""A whole cluster on one machine, at the load of a city: how soon an alert is in PostgreSQL, and what each role uses.

Every figure is checked before it is told: the desk must hold exactly the findings that the generator says were in it.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from alerting import tables
from bench.collect import Servers, servers
from bench.end_to_end import Differs, memory
from fenghuo.desk import DeskStatus
from fenghuo.evaluate import EvaluateStatus, status_file
from fenghuo.rehearsal import processor
from registry.clock import stopwatch
from registry.database import open_database, reading
from tests.build import city_registry


class Roles:
    """Workers and a desk beside the collector that is there."""

    def __init__(self, on: Servers, workers: int) -> None:
        self.on = on
        self._names = [f"worker-{number}" for number in range(workers)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self._names:
            self._start("evaluate", name)
        self._start("desk", "bench")

    def _start(self, role: str, name: str) -> None:
        command = [sys.executable, "-m", "fenghuo", role, str(self.on.file), "--name", name]
        with (self.on.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "FENGHUO_BROKER_PASSWORD": "bench"}
            )

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(30)

    def wait(self, what: str, done: Callable[[], bool], patience: float = 120) -> None:
        end = stopwatch() + patience
        while not done():
            if stopwatch() > end:
                raise Differs(f"{what}: not within {patience} s")
            threading.Event().wait(0.05)

    def desk(self) -> DeskStatus | None:
        return _said(self.on.settings.data / "desk-bench.json", DeskStatus)

    def worker(self, name: str) -> EvaluateStatus | None:
        return _said(status_file(self.on.settings.data, name), EvaluateStatus)

    def working(self) -> bool:
        """Whether all slots are judged, by all workers."""
        said = [self.worker(name) for name in self._names]
        return self.desk() is not None and all(one is not None and one.readings for one in said)

    def memory(self) -> dict[str, float]:
        """Resident megabytes of our own roles."""
        pids = {"collect": self.on.process.pid, "desk": self._processes["bench"].pid}
        pids |= {name: said.pid for name in self._names if (said := self.worker(name))}
        return {name: round(memory(pid)) for name, pid in pids.items()}

    def cpu(self) -> dict[str, float]:
        """Seconds of processor that each has used."""
        on = self.on
        found = {"collect": processor(on.process.pid), "desk": processor(self._processes["bench"].pid)}
        found["evaluate"] = sum(processor(said.pid) for name in self._names if (said := self.worker(name)))
        found |= {"mosquitto": processor(on.broker.pid or 0), "kafka": processor(on.kafka.pid or 0)}
        master = on.postgres.pid or 0
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        found["postgresql"] = processor(master)
        for child in children:
            with suppress(FileNotFoundError):  # it ended while we looked
                found["postgresql"] += processor(int(child))
        return found

    def findings(self) -> tuple[int, int]:
        """How many findings of limits the desk has, and how many of them are over."""
        table = tables.findings.c
        query = select(func.count(), func.count().filter(table.phase == "ended")).where(
            table.rule.like("limit.%")
        )
        assert self.on.settings.cluster is not None
        engine = open_database(self.on.settings.cluster.database.address)
        with reading(engine) as connection:
            begun, ended = connection.execute(query).one()
        engine.dispose()
        return begun, ended


@contextmanager
def roles(workers: int) -> Iterator[Roles]:
    with servers(city_registry(503, 200)) as running:
        made = Roles(running, workers)
        try:
            made.wait("all judge", made.working)
            yield made
        finally:
            made.close()


def city(workers: int, seconds: float, mode: str) -> dict[str, Any]:
    """503 enterprises x 200 points x 1 Hz."""
    with roles(workers) as running:
        load = ("--form", "rows", "--rate", "100600")
        running.on.load(*load, "--for", "3")  # every point heard
        before, cpu = running.findings(), running.cpu()
        sent = running.on.load(
            *load, "--mode", mode, "--for", str(seconds), "--settle", "10", "--one-in", "1000"
        )
        expected = before[0] + sent.begun, before[1] + sent.ended
        running.wait("the findings that were sent", lambda: running.findings() >= expected)
        after = running.cpu()
        if running.findings() != expected:
            raise Differs(f"{running.findings()} findings; expected {expected}")
        threading.Event().wait(1.5)  # until the desk has said so
        said = running.desk()
        assert said is not None
        million = sent.readings / 1e6
        return {
            "readings": sent.readings,
            "alerts": sent.begun,
            "publish_to_alert_ms": {
                "p50": said.alert_ms.p50,
                "p99": said.alert_ms.p99,
                "worst": said.alert_ms.worst,
            },
            "desk_round_ms": {"p50": said.round_ms.p50, "p99": said.round_ms.p99},
            "generator_lateness_p99_ms": sent.lateness.p99 if sent.lateness else None,
            "memory_mb": running.memory(),
            "cores": {name: round((now - cpu[name]) / sent.seconds, 3) for name, now in after.items()},
            "cpu_s_per_million": {name: round((now - cpu[name]) / million, 2) for name, now in after.items()},
        }


def run(quick: bool = False) -> dict[str, Any]:
    """All of it; about five minutes, or one and a half if quick."""
    seconds = 15.0 if quick else 45.0
    return {
        "one worker, spread": city(1, seconds, "spread"),
        "two workers, spread": city(2, seconds, "spread"),
        "one worker, burst": city(1, seconds, "burst"),
    }


def _said(file: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
