"""The commands as their user runs them: what they print, what they refuse in plain words, and their exit status."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fenghuo.__main__ import app
from ingest.broker import free_port
from registry.clock import stopwatch

MINE = Path(__file__).parent / "data" / "mine" / "registry"


def run(*arguments: object, **environment: str) -> Result:
    """The command in a wide terminal; an exception that is not an exit is a fault of ours."""
    wide = {"COLUMNS": "250", "NO_COLOR": "1", "FENGHUO_TOKEN": "", **environment}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=wide)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# -- serve -------------------------------------------------------------------------------------------


def serve_until(line: str, *arguments: object) -> str:
    """Start `fenghuo serve`, wait until it has said a line with this in it, and end it; all that it said."""
    command = [sys.executable, "-m", "fenghuo", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        end = stopwatch() + 30
        for text in process.stderr:
            said += text
            if line in text or stopwatch() > end:
                break
        process.send_signal(signal.SIGTERM)
        return said + process.stderr.read()


def test_serve_says_loudly_that_nobody_can_be_reached_and_that_others_can_listen(tmp_path: Path) -> None:
    options = ("--registry", MINE, "--data", tmp_path / "data", "--broker", "mqtt://127.0.0.1:1")
    said = serve_until("process_started", *options, "--listen", f"0.0.0.0:{free_port()}")
    assert "WARNING  no notice can reach 6 of the people on duty: System administrator (admin), " in said
    assert "Configure a channel that their contacts use (phone)" in said
    assert "without TLS" in said


def test_serve_says_nothing_of_the_kind_where_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        f"registry: {MINE}\ndata: data\nlisten: 127.0.0.1:{free_port()}\nbroker: {{url: 'mqtt://127.0.0.1:1'}}\n"
        "channels: {phone: {url: 'http://127.0.0.1:1', secret_file: secret}}\n",
        "utf-8",
    )
    (tmp_path / "secret").write_text("secret", "utf-8")
    assert "WARNING" not in serve_until("process_started", tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "registry: Field required"),
        (("nowhere.yaml",), "nowhere.yaml: cannot be read"),
        (("--registry", MINE, "--data", "d", "--listen", "8420"), "listen: expected HOST:PORT"),
        (("--registry", MINE, "--data", "d", "--broker", "localhost"), "broker.url: expected mqtt://"),
        (("--registry", "nowhere", "--data", "d"), "nowhere:1: cannot be read: No such file or directory"),
        (("--registry", MINE, "--data", "/proc/nowhere"), "No such file or directory: '/proc/nowhere'"),
    ],
)
def test_serve_refuses_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
