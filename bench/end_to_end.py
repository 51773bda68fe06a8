"""The whole machine: load generator, mosquitto, judge and desk on real sockets and a real disk, QoS 1.

Every figure is checked before it is told: readings judged and findings made must be those that the
generator says were in what it sent.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from sqlalchemy import func, select

import registry.versions
from alerting import tables
from alerting.tables import upgrade
from console import tokens
from fenghuo import status
from fenghuo.rehearsal import processor
from fenghuo.settings import Broker, Settings
from ingest.broker import Account, Mosquitto, collector_account, free_port
from registry.clock import SystemClock, stopwatch
from registry.database import open_database, reading
from registry.model import Registry
from simulators.load import Report
from streams import configuration, rulebook_file
from tests.build import city_registry

CONNECTIONS = 8


class Differs(AssertionError):
    """What came out is not what was sent: no figure is told."""


@dataclass
class Machine:
    """A running judge and serving process over a real broker."""

    settings: Settings
    broker: Mosquitto
    registry: Registry
    folder: Path

    def __post_init__(self) -> None:
        self.run_file = self.folder / "run.json"
        self.settings.save(self.run_file)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        environment = {**os.environ, "FENGHUO_BROKER_PASSWORD": "bench"}
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", f"fenghuo.{name}", str(self.run_file)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        log.close()

    def said(self) -> status.Status | None:
        said = status.read(self.settings.status)
        return said if said is not None and said.pid == self.processes["judge"].pid else None

    def wait(self, what: str, done: Callable[[status.Status], bool], patience: float = 120) -> status.Status:
        end = stopwatch() + patience
        while stopwatch() < end:
            said = self.said()
            if said is not None and done(said):
                return said
            if self.processes["judge"].poll() is not None:
                raise Differs(f"the judge has died:\n{(self.folder / 'judge.log').read_text()[-2000:]}")
            threading.Event().wait(0.02)
        raise Differs(f"{what}: not within {patience} s; status: {self.said()}")

    def cpu(self) -> dict[str, float]:
        """Seconds of processor that each has used."""
        pids = {name: process.pid for name, process in self.processes.items()}
        pids["broker"] = self.broker.pid or 0
        return {name: processor(pid) for name, pid in pids.items()}

    def load(self, *arguments: str) -> Report:
        """Run the load generator in its own process."""
        fleet = self.folder / "fleet.json"
        points = list(self.registry.rows[next(iter(self.registry.enterprises))])
        fleet.write_text(
            json.dumps({"enterprises": list(self.registry.enterprises), "gateway": "gw1", "points": points})
        )
        command = [
            sys.executable,
            "-m",
            "simulators.load",
            "--fleet",
            str(fleet),
            "--port",
            str(self.broker.port),
        ]
        command += ["--connections", str(CONNECTIONS), "--user", "load-{connection}", *arguments]
        environment = {**os.environ, "FENGHUO_LOAD_PASSWORD": "bench"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise Differs(f"the generator failed: {done.stderr[-2000:]}")
        return msgspec.json.decode(done.stdout, type=Report)

    def check(self, sent: Report, said: status.Status, before: tuple[int, int]) -> None:
        """Raises Differs unless the desk holds exactly the findings that were sent."""
        begun, ended = (now - then for now, then in zip(self.findings(), before, strict=True))
        if (begun, ended) != (sent.begun, sent.ended):
            raise Differs(f"begun {begun}, ended {ended}; sent {sent.begun} and {sent.ended}")
        if said.dead or any(said.dropped.values()):
            raise Differs(f"dead letters {said.dead}, dropped {said.dropped}")

    def findings(self) -> tuple[int, int]:
        """How many findings of limits the desk has, and how many of them are over."""
        table = tables.findings.c
        query = select(func.count(), func.count().filter(table.phase == "ended")).where(
            table.rule.like("limit.%")
        )
        engine = open_database(self.settings.data / "desk.sqlite")
        with reading(engine) as connection:
            begun, ended = connection.execute(query).one()
        engine.dispose()
        return begun, ended


@contextmanager
def machine(
    compiled: Registry, *, serving: bool = False, broker_port: int = 0, **options: Any
) -> Iterator[Machine]:
    """Broker, judge and, if asked for, the serving process, in a folder of their own on the real disk."""
    with tempfile.TemporaryDirectory(dir=Path("build")) as name:
        folder = Path(name).resolve()
        loaders = [Account(f"load-{n}", "bench", ("fenghuo/v1/#",)) for n in range(1, CONNECTIONS + 1)]
        broker = Mosquitto(
            folder / "broker", broker_port or free_port(), [collector_account("bench"), *loaders]
        )
        broker.start()
        settings = Settings(
            registry=folder,
            data=folder / "data",
            listen=f"127.0.0.1:{free_port()}",
            broker=Broker(url=f"mqtt://127.0.0.1:{broker.port}"),
            **options,
        )
        settings.data.mkdir()
        version = configuration.save(settings.versions, compiled, rulebook_file.read(rulebook_file.SHIPPED))
        registry.versions.want(settings.versions, version)
        database = open_database(settings.data / "desk.sqlite")
        upgrade(database)
        database.dispose()
        running = Machine(settings, broker, compiled, folder)
        try:
            running.start("judge")
            if serving:
                running.start("serving")
            running.wait("listening", lambda said: said.listening)
            yield running
        finally:
            for process in running.processes.values():
                process.terminate()
                process.wait(30)
            broker.stop()


def sustained(compiled: Registry, form: str, rate: float, seconds: float) -> dict[str, Any]:
    """An open loop at ``rate`` readings/s: kept up if all is judged within a second of the end."""
    with machine(compiled) as running:
        running.load(
            "--form", form, "--rate", "100600", "--for", "2", "--one-in", "1000000"
        )  # every point heard
        first = running.wait("warm", lambda said: said.readings >= 100_600)
        before, cpu, clock = running.findings(), running.cpu(), SystemClock()
        sent = running.load("--form", form, "--rate", str(rate), "--for", str(seconds), "--settle", "10")
        done = running.wait("all judged", lambda said: said.readings - first.readings >= sent.readings)
        behind = (clock.now() - sent.last) / 1e6
        said = running.wait("desk", lambda said: said.absorbed == said.offset and not said.waiting)
        running.check(sent, said, before)
        used = {name: round(after - cpu[name], 2) for name, after in running.cpu().items()}
        return {
            "asked_per_s": rate,
            "sent_per_s": round(sent.readings / sent.seconds),
            "all_judged_after_last_sent_s": round(behind, 2),
            "readings": sent.readings,
            "lateness_p99_ms": sent.lateness.p99 if sent.lateness else None,
            "cores": {name: round(seconds_used / sent.seconds, 2) for name, seconds_used in used.items()},
            "generator_cores": round(sent.cpu / sent.seconds, 2),
            "journal_bytes_per_reading": round(done.journal_bytes / max(1, done.readings), 2),
        }


def city(compiled: Registry, mode: str, seconds: float, *, heavy: bool = False) -> dict[str, Any]:
    """503 enterprises x 200 points x 1 Hz."""
    with machine(compiled, serving=True) as running:
        running.load("--form", "rows", "--rate", "100600", "--for", "2", "--one-in", "1000000")
        first = running.wait("warm", lambda said: said.readings >= 100_600)
        stop = threading.Event()
        query = threading.Thread(target=_heavy_queries, args=(running, stop))
        if heavy:
            query.start()
        before, cpu = running.findings(), running.cpu()
        sent = running.load(
            "--form", "rows", "--rate", "100600", "--mode", mode, "--for", str(seconds), "--settle", "10"
        )
        running.wait("all judged", lambda said: said.readings - first.readings >= sent.readings)
        said = running.wait("desk", lambda said: said.absorbed == said.offset and not said.waiting)
        used = {name: round((after - cpu[name]) / sent.seconds, 3) for name, after in running.cpu().items()}
        stop.set()
        if heavy:
            query.join()
        running.check(sent, said, before)
        return {
            "readings": sent.readings,
            "alerts": sent.begun,
            "cores": used,
            "publish_to_alert_ms": {
                "p50": said.alert_ms.p50,
                "p99": said.alert_ms.p99,
                "worst": said.alert_ms.worst,
            },
            "judge_turn_ms": {"p50": said.round_ms.p50, "p99": said.round_ms.p99},
            "judge_turns_per_s": round(said.round_ms.count / sent.seconds),
            "generator_lateness_p99_ms": sent.lateness.p99 if sent.lateness else None,
            "judge_memory_mb": round(memory(running.processes["judge"].pid), 1),
            "journal_bytes_per_reading": round(said.journal_bytes / max(1, said.readings), 2),
        }


def restart(compiled: Registry, seconds: float) -> dict[str, Any]:
    """kill -9 after a snapshot and so many seconds of the city's journal; until it listens again."""
    with machine(compiled, snapshot_every=100_000.0) as running:
        running.load("--form", "rows", "--rate", "100600", "--for", str(seconds), "--one-in", "1000")
        running.processes["judge"].kill()
        running.processes["judge"].wait()
        watch = stopwatch()
        running.start("judge")
        running.wait("first status", lambda said: True)
        return {"journal_seconds": seconds, "recovered_after_s": round(stopwatch() - watch, 2)}


def run(quick: bool = False) -> dict[str, Any]:
    """All of it; about eight minutes, or one if quick."""
    Path("build").mkdir(exist_ok=True)
    compiled = city_registry(503, 200)
    seconds = 12.0 if quick else 25.0
    results: dict[str, Any] = {}
    rates = {"columns": (1_000_000, 1_500_000, 2_000_000), "rows": (500_000, 750_000, 1_000_000)}
    for form, tried in rates.items():
        for rate in tried[:1] if quick else tried:
            results[f"{form}_{rate // 1000}k"] = sustained(compiled, form, float(rate), seconds)
    for name, mode, heavy in (
        ("city_spread", "spread", False),
        ("city_spread_heavy_query", "spread", True),
        ("city_burst", "burst", False),
    ):  # long enough that one alert in a hundred is not the first
        results[name] = city(compiled, mode, seconds if quick else 60.0, heavy=heavy)
    results["restart"] = restart(compiled, 10.0 if quick else 60.0)
    return results


def _heavy_queries(running: Machine, stop: threading.Event) -> None:
    """Ask for long lists of alerts, one after another, until told to stop."""
    engine = open_database(running.settings.data / "desk.sqlite")
    token = tokens.create(engine, name="bench", scope="system", person="", now=SystemClock().now())
    engine.dispose()
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30) as client:
        while not stop.wait(0.05):
            client.get(
                f"http://{running.settings.listen}/api/v1/alerts", params={"limit": "200"}
            ).raise_for_status()


def memory(pid: int) -> float:
    """Resident megabytes of its own (what it shares with files on disk not counted)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
