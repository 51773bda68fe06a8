"""For tests: a simulated phone exchange as a real process, and waiting for what real processes do."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

ROOT = Path(__file__).parent.parent


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits for real processes; fails when the deadline passes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Phone:
    """A phone exchange of its own process; ``log`` outlives it."""

    def __init__(self, log: Path, mode: str = "ok", port: int = 0) -> None:
        self.log = log
        self.port = port
        self.start(mode)

    def start(self, mode: str = "ok") -> None:
        """Starts it, after a death on the same port again."""
        command = [sys.executable, "-m", "simulators.phone", "--log", str(self.log), "--mode", mode]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def mode(self, mode: str, address: str = "") -> None:
        """Of all calls, or of those to one address."""
        path = f"/mode/{quote(address, safe='')}" if address else "/mode"
        httpx.post(self.url + path, content=mode, trust_env=False).raise_for_status()

    def rings(self) -> list[dict[str, Any]]:
        """Every ring that anybody heard, in order, read from the log."""
        if not self.log.exists():
            return []
        return [
            msgspec.json.decode(line) for line in self.log.read_bytes().split(b"\n")[:-1]
        ]  # not one that is being written

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> "Phone":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
