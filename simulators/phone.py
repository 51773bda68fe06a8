"""A phone exchange for tests and the demo: it writes down every ring, and can be slow, dead or die ringing.

    python -m simulators.phone --port 8099 --log rings.jsonl --mode ok

A ring is a `POST` to any path but /mode with the notice as JSON; it stands on disk before it is answered.
`GET /rings` gives all of them, `GET /rings?after=N` those that came after the first N. `GET /mode` and
`POST /mode` (the mode as text) read and change what calls meet; `/mode/ADDRESS` does so for the calls of which
ADDRESS is the last part of the path, before the mode of all, until "" is posted there. Modes of single addresses
do not outlive the process.

    ok               answers at once
    slow:SECONDS     rings, then lets the caller wait
    dead             takes the call and never answers, nothing rings
    busy             does not ring, answers 503: somebody else is on the line
    off              does not ring, answers 504: the phone's network is lost
    die-after-ring   rings, then the whole process is gone before it answers
    lose-reply       rings, then hangs up without an answer
    error:STATUS     does not ring, answers that HTTP status
    ring-error:STATUS  rings, and answers that HTTP status all the same
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGEST = 1 << 20
"""Bytes of the largest request that is read."""

WITHOUT_RINGING = {"busy": 503, "off": 504}
"""Modes in which nothing rings, and what they answer."""


class Exchange(ThreadingHTTPServer):
    """The phone's state: its modes, and the log that survives it."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int, log: Path, mode: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.log = log
        self.mode = checked(mode)
        self.modes: dict[str, str] = {}  # of single addresses
        self.writing = threading.Lock()

    def ring(self, ring: dict[str, object]) -> None:
        """On disk when it returns."""
        line = json.dumps(ring, ensure_ascii=False) + "\n"
        with self.writing, self.log.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rings(self, after: int = 0) -> list[dict[str, object]]:
        """All rings but the first ``after``."""
        if not self.log.exists():
            return []
        with self.writing, self.log.open("rb") as file:  # no ring is half written meanwhile
            return [json.loads(line) for line in islice(file, after, None)]


def checked(mode: str) -> str:
    """The mode itself; raises ValueError where there is no such mode."""
    name, _, argument = mode.partition(":")
    if name == "slow":
        float(argument)
    elif name in ("error", "ring-error"):
        int(argument)
    elif mode not in ("ok", "dead", "die-after-ring", "lose-reply", *WITHOUT_RINGING):
        raise ValueError(f"no such mode: {mode}")
    return mode


def address(path: str) -> str:
    """Whom a call to this path is for: its last part."""
    return unquote(urlsplit(path).path.rpartition("/")[2])


class Handler(BaseHTTPRequestHandler):
    server: Exchange
    timeout = 60

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/rings":
            after = parse_qs(url.query).get("after", ["0"])[-1]
            if after.isdecimal():
                self.answer(200, self.server.rings(int(after)))
            else:
                self.answer(400, f"after: a number of rings, not {after}")
        elif url.path == "/mode":
            self.answer(200, self.server.mode)
        elif url.path.startswith("/mode/"):
            self.answer(200, self.server.modes.get(address(url.path), ""))
        else:
            self.answer(404, "no such page")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        if length > LARGEST:
            self.answer(413, "too long")
            return
        body = self.rfile.read(length)
        if self.path == "/mode" or self.path.startswith("/mode/"):
            self.change(body.decode().strip())
        else:
            self.call(body)

    def change(self, mode: str) -> None:
        """Of all calls, or of those to one address."""
        try:
            if self.path == "/mode":
                self.server.mode = checked(mode)
            elif mode:
                self.server.modes[address(self.path)] = checked(mode)
            else:
                self.server.modes.pop(address(self.path), None)
        except ValueError as error:
            self.answer(400, str(error))
        else:
            self.answer(200, mode)

    def call(self, body: bytes) -> None:
        said = self.server.modes.get(address(self.path), self.server.mode)
        mode, _, argument = said.partition(":")
        if mode == "dead":
            self.connection.settimeout(None)
            with contextlib.suppress(ConnectionResetError):
                self.rfile.read(1)  # until the caller gives up
            return
        if mode in WITHOUT_RINGING:
            self.answer(WITHOUT_RINGING[mode], mode)
            return
        if mode == "error":
            self.answer(int(argument), "as told")
            return
        ring = json.loads(body)
        ring["heard"] = time.time()
        ring["path"] = self.path
        ring["key"] = self.headers.get("Idempotency-Key", "")
        ring["timestamp"] = self.headers.get("X-Fenghuo-Timestamp", "")
        ring["signature"] = self.headers.get("X-Fenghuo-Signature", "")
        ring["body"] = body.decode()
        self.server.ring(ring)
        if mode == "die-after-ring":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "lose-reply":
            return
        if mode == "slow":
            time.sleep(float(argument))
        self.answer(int(argument) if mode == "ring-error" else 200, "rung")

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content, ensure_ascii=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError) as error:
            print(f"the caller hung up: {error}", file=sys.stderr)

    def log_message(self, format: str, *args: object) -> None:
        """Rings are in the log; nothing else is worth a line."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A simulated phone exchange on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one, and prints it")
    parser.add_argument("--log", type=Path, required=True, help="JSONL file of every ring")
    parser.add_argument("--mode", default="ok", help="see python -m pydoc simulators.phone")
    arguments = parser.parse_args()
    exchange = Exchange(arguments.port, arguments.log, arguments.mode)
    print(exchange.server_address[1], flush=True)
    exchange.serve_forever()


if __name__ == "__main__":
    main()
