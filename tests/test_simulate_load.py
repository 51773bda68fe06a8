"""`fenghuo simulate load` drives a real Fenghuo, and tells figures only if exactly what was sent was judged."""

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fenghuo.commands import simulate_load
from fenghuo.rehearsal import Rehearsal
from registry.clock import SECOND
from registry.compile import compile_folder
from simulators import load_registry
from simulators.credit import made_up
from simulators.excursions import Limits
from simulators.gateway import Gateway, rows
from simulators.load import Report
from simulators.packets import Fleet
from tests.servers import PASSWORD, mosquitto, needs_mosquitto
from tests.test_commands import run

SMALL = ("--enterprises", 10, "--points", 100, "--hz", 20)
READINGS = 10 * 100 * 20
"""A second."""

LIMITS = Limits(on_delay=SECOND // 5, off_delay=SECOND // 2)
"""So that findings begin and end in short runs."""


@pytest.fixture(autouse=True, scope="module")
def hasty() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate_load, "LIMITS", LIMITS)
        yield


@pytest.fixture(scope="module")
def fenghuo(hasty: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One that runs by itself, on the registry that the command writes."""
    folder = tmp_path_factory.mktemp("fenghuo")
    assert run("simulate", "load", *SMALL, "--registry", folder / "registry").exit_code == 0
    with Rehearsal(folder, folder / "registry", None) as running:
        yield running


def drive(running: Rehearsal, *more: object) -> tuple[int, dict, str]:
    broker = f"mqtt://127.0.0.1:{running.broker_port}"
    arguments = ("simulate", "load", *SMALL, "--broker", broker, "--data", running.data, "--json", *more)
    result = run(*arguments)
    return result.exit_code, json.loads(result.stdout or "{}"), result.stderr


def after_sending(monkeypatch: pytest.MonkeyPatch, then: Callable[[Report], Report | None]) -> None:
    """Once the generator has sent, something happens that it knows nothing of."""
    generate = simulate_load._generate

    def altered(*arguments: object) -> Report:
        report = generate(*arguments)
        return then(report) or report

    monkeypatch.setattr(simulate_load, "_generate", altered)


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_fenghuo_of_its_own_judges_exactly_what_is_sent(tmp_path: Path):
    folder = tmp_path / "load"
    arguments = ("simulate", "load", *SMALL, "--for", 2, "--burst", "--columnar", "--folder", folder)
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    sent, judged = told["generator"], told["judged"]
    assert (sent["form"], sent["mode"], sent["connections"]) == ("columns", "burst", 10)
    assert sent["readings"] == judged["readings"] == 2 * READINGS
    assert sent["begun"] == judged["begun"] > 0
    assert sent["ended"] == judged["ended"]
    assert judged["alert_ms"]["count"] == judged["begun"]
    assert told["differences"] == []
    assert simulate_load._is_ours(folder)
    (folder / "notes.txt").touch()
    result = run(*arguments)
    assert result.exit_code == 2
    assert "left alone" in result.stderr


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_load_leaves_nothing_to_the_next_in_which_all_that_differs_is_told_and_no_figure(
    fenghuo: Rehearsal, monkeypatch: pytest.MonkeyPatch
):
    code, told, said = drive(fenghuo, "--for", 2)
    assert code == 0, (told, said)
    assert told["judged"]["readings"] == told["generator"]["readings"] == 2 * READINGS
    assert told["judged"]["begun"] == told["judged"]["ended"] > 0

    def another(sent: Report) -> Report:
        password = fenghuo.password(made_up(3), "gw1")
        with Gateway("127.0.0.1", fenghuo.broker_port, made_up(3), "gw1", password=password) as gateway:
            gateway.publish(rows(sent.last + SECOND, {"P-0001": 50.0, "P-9999": 1.0}))
        return dataclasses.replace(sent, begun=sent.begun + 1)

    after_sending(monkeypatch, another)
    code, told, _ = drive(fenghuo, "--for", 2)
    assert code == 1
    judged, begun, dead = told["differences"]
    assert judged == "readings judged: 40,001 instead of 40,000"
    assert begun.startswith("findings begun: ")
    assert dead.startswith("dead letters (")
    assert told["generator"] is told["judged"] is None
    code, _, said = drive(fenghuo, "--for", 1)
    assert code == 2
    assert "1.55 s at the end are quiet" in said


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_judge_that_was_killed_is_told_and_no_figure(fenghuo: Rehearsal, monkeypatch: pytest.MonkeyPatch):
    after_sending(monkeypatch, lambda _: fenghuo.kill("judge", signal.SIGKILL) and None)
    broker = f"mqtt://127.0.0.1:{fenghuo.broker_port}"
    result = run("simulate", "load", *SMALL, "--for", 2, "--broker", broker, "--data", fenghuo.data)
    assert result.exit_code == 1
    assert "started anew" in result.stderr
    assert "readings/s" not in result.output
    fenghuo.await_judge()


@pytest.mark.mosquitto
@needs_mosquitto
def test_a_registry_or_password_of_others_is_said(fenghuo: Rehearsal):
    broker = f"mqtt://127.0.0.1:{fenghuo.broker_port}"
    result = run(
        "simulate", "load", "--enterprises", 11, "--points", 100, "--broker", broker, "--data", fenghuo.data
    )
    assert result.exit_code == 1
    assert "does not hold 100 of the 1,100 points" in result.stderr
    result = run("simulate", "load", *SMALL, "--broker", broker, FENGHUO_LOAD_PASSWORD="wrong")
    assert result.exit_code == 1
    assert "wrong password, or a registry without this gateway" in result.stderr


@pytest.mark.mosquitto
@needs_mosquitto
def test_any_broker_will_do_and_then_it_tells_of_itself_only(tmp_path: Path):
    gateways = [(made_up(number), "gw1") for number in range(1, 11)]
    with mosquitto(tmp_path, gateways) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        result = run("simulate", "load", *SMALL, "--for", 1, "--broker", url, FENGHUO_LOAD_PASSWORD=PASSWORD)
    assert result.exit_code == 0, result.stderr
    assert "20,000 in 1.0 s" in result.stdout
    assert "was it the bottleneck" in result.stdout
    assert "judged" not in result.stdout
    result = run("simulate", "load", *SMALL, "--broker", url)
    assert result.exit_code == 1
    assert f"{url}: [Errno 111] Connection refused" in result.stderr


def test_limits_that_are_not_the_loads_are_noticed(tmp_path: Path):
    fleet = Fleet((made_up(1), made_up(2)), "gw1", ("P-0001", "P-0002"))
    load_registry.write(tmp_path, fleet)
    compiled = compile_folder(tmp_path)
    assert simulate_load._unfit(compiled, fleet) == ""
    assert "limits" in simulate_load._unfit(compiled, dataclasses.replace(fleet, limits=Limits(HH=91.0)))
    assert "limits" in simulate_load._unfit(compiled, dataclasses.replace(fleet, limits=LIMITS))
    assert "such as P-0003" in simulate_load._unfit(compiled, dataclasses.replace(fleet, points=("P-0003",)))


def test_nothing_of_others_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "registry.yaml").touch()
    assert run("simulate", "load", "--registry", tmp_path).exit_code == 2
    assert run("simulate", "load", "--folder", tmp_path).exit_code == 2
    assert run("simulate", "load", "--data", tmp_path).exit_code == 2
    assert run("simulate", "load", "--broker", "nonsense").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["registry.yaml"]
    monkeypatch.setattr(simulate_load, "find_mosquitto", lambda: None)
    result = run("simulate", "load", "--folder", tmp_path / "new")
    assert result.exit_code == 1
    assert "mosquitto is not installed" in result.stderr
