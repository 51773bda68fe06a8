"""`fenghuo simulate`: its commands as their user runs them, and what makes a scenario of alerts and people."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from typer.testing import Result

from alerting.alert import Alert, Answer, Condition, Notice, Role
from fenghuo import simulation
from fenghuo.clock_socket import ClockLost, ControlledClock, Stepper
from fenghuo.commands import simulate
from fenghuo.simulation import Simulation, behaviours
from registry.compile import compile_folder
from registry.model import Group, Registry
from simulators import people as persons
from simulators import record, scenario_file
from simulators.city import City
from simulators.people import Behaviour
from simulators.scenario import ScenarioError
from simulators.score import Raised
from streams.finding import Tier
from tests.build import PointSpec, code, make_registry
from tests.servers import needs_mosquitto
from tests.test_commands import run

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_772_416_800 * SECOND  # 2026-03-02 10:00 in Asia/Shanghai

STORY = """\
title: {zh: 试验, en: A trial}
about: for tests
start: 2026-03-02T10:00:00+08:00
lasts: 3min
step: 5s
enterprises:
  - id: chem
    name: 化工厂
    gateways: {gw1: {every: 5s}}
    plants:
      - {kind: stirred_reactor, units: [R-1]}
timeline:
  - {at: 30s, points: [TI-R-1], fault: open_circuit, lasts: 2min, within: 1min}
people:
  - {who: chem-operator, after: 20s, does: [confirm, act], act_after: 30s}
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STORY, "utf-8")
    return path


def city(path: Path) -> City:
    return City(scenario_file.read(path), path.stem)


def plain(result: Result) -> str:
    """What it said, on one line."""
    return " ".join((result.stdout + result.stderr).split())


# -- list and registry -----------------------------------------------------------------------------


def test_list_names_all_of_ours():
    result = run("simulate", "list")
    assert result.exit_code == 0
    ours = sorted(path.stem for path in simulate.SCENARIOS.glob("*.yaml"))
    assert len(ours) >= 20
    for name in ours:
        found = scenario_file.read(simulate.SCENARIOS / f"{name}.yaml")
        assert name in result.stdout
        assert found.title.en in plain(result)
        assert found.title.zh in plain(result)
    assert "720.0 h" in result.stdout, "the quiet month's"


def test_registry_writes_what_a_fenghuo_needs(tmp_path: Path, story: Path):
    result = run("simulate", "registry", story, tmp_path / "made" / "registry")
    assert result.exit_code == 0, result.stderr
    assert "6 points of 1 enterprises" in plain(result)
    registry = compile_folder(tmp_path / "made" / "registry")
    assert list(registry.points.id) == ["FI-R-1", "LI-R-1", "PI-R-1", "TI-R-1", "TI-R-1B", "ZI-R-1"]
    assert run("check", tmp_path / "made" / "registry").exit_code == 0
    assert run("simulate", "registry", "toxic-leak", tmp_path / "made").exit_code == 1, "it is not empty"
    assert run("simulate", "registry", "toxic-leak", tmp_path / "ours").exit_code == 0
    assert len(compile_folder(tmp_path / "ours").enterprises) == 1


@pytest.mark.parametrize("command", [("registry", "{}", "made"), ("run", "{}", "--folder", "made")])
def test_a_scenario_that_is_not_there_or_wrong_is_said_in_words(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = run("simulate", *(part.format("reactor-confirmd") for part in command))
    assert result.exit_code == 1
    assert "reactor-confirmd" in plain(result)
    assert "Ours are city-hour, clock-mad, " in plain(result)
    Path("wrong.yaml").write_text(
        STORY.replace("lasts: 3min", "lasts: soon").replace("reactor,", "factory,") + "a: [b]\n", "utf-8"
    )
    result = run("simulate", *(part.format("wrong.yaml") for part in command))
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["wrong.yaml:4", "wrong.yaml:11", "wrong.yaml:16"], (
        said
    )
    Path("sizes.yaml").write_text(STORY.replace("[R-1]}\n", "[R-1], design: {volume: 0}}\n", 1), "utf-8")
    result = run("simulate", *(part.format("sizes.yaml") for part in command))
    assert result.exit_code == 1
    assert result.stderr.startswith("sizes.yaml: stirred_reactor: design:")
    assert not Path("made").exists(), "nothing is written"


# -- run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--broker", "mqtt://127.0.0.1:1", "--speed", 10, "--data", "."),
        ("--broker", "mqtt://127.0.0.1:1"),
        ("--broker", "http://127.0.0.1:1", "--data", "."),
        ("--speed", -1),
    ],
)
def test_run_refuses_what_cannot_go_together(story: Path, tmp_path: Path, options: tuple[object, ...]):
    result = run("simulate", "run", story, "--folder", tmp_path / "runs", *options)
    assert result.exit_code == 2
    assert "Traceback" not in plain(result)


def test_run_takes_no_folder_that_holds_something_else(story: Path, tmp_path: Path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis").write_text("dear")
    result = run("simulate", "run", story, "--folder", tmp_path)
    assert result.exit_code == 1
    assert "holds something other than an earlier run" in plain(result)
    assert (tmp_path / "tiny" / "thesis").read_text() == "dear"


def test_run_needs_the_data_of_a_fenghuo_that_runs(story: Path, tmp_path: Path):
    options = ("--broker", "mqtt://127.0.0.1:1", "--data", tmp_path, "--folder", tmp_path / "runs")
    result = run("simulate", "run", story, *options)
    assert result.exit_code == 1
    assert f"{tmp_path} holds no data of `fenghuo serve`" in plain(result)


@pytest.mark.mosquitto
@needs_mosquitto
def test_run_lets_it_happen_and_writes_down_what_was_raised(story: Path, tmp_path: Path):
    folder = tmp_path / "runs"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / record.TRUTH).write_text("of a run before")
    (folder / "tiny" / "old").write_text("of a run before")
    result = run("simulate", "run", story, "--folder", folder)
    assert result.exit_code == 0, result.stderr
    assert "tiny" in result.stdout
    assert not (folder / "tiny" / "old").exists()
    truth, raised, signals = record.read(folder / "tiny")
    assert truth == city(story).truth()
    [alert] = raised
    assert (alert.rule, alert.points, alert.tier) == ("bad_quality", ("TI-R-1",), "IV")
    [danger] = truth.dangers
    assert danger.earliest <= alert.raised <= danger.latest
    assert alert.confirmed is not None
    assert 20 * SECOND <= alert.confirmed - alert.raised <= 30 * SECOND
    assert alert.ended is not None
    assert len(signals.time) == 37
    told = json.loads(run("simulate", "score", folder / "tiny", "--json", "--no-pictures").stdout)
    assert [(one["scenario"], one["detected"], one["missed"], one["false"]) for one in told] == [
        ("tiny", 1, 0, 0)
    ]


# -- score -----------------------------------------------------------------------------------------


@pytest.fixture
def recorded(story: Path, tmp_path: Path) -> Path:
    """The record of a run in which nothing was raised."""
    its = city(story)
    sampler = record.Sampler(its)
    for moment in its.moments():
        sampler.take(moment)
    (tmp_path / "tiny").mkdir()
    record.write_truth(tmp_path / "tiny", its.truth())
    record.write(tmp_path / "tiny", [], sampler)
    return tmp_path / "tiny"


def test_score_tells_of_what_was_missed(recorded: Path):
    result = run("simulate", "score", recorded, "--no-pictures")
    assert result.exit_code == 0
    assert "tiny: missed: blind.open_circuit of R-1" in plain(result)
    table = run("simulate", "score", recorded, recorded, "--markdown", "--no-pictures").stdout.splitlines()
    assert table[0].startswith("| scenario | seed |")
    assert len(table) == 4
    [one] = json.loads(run("simulate", "score", recorded, "--json", "--no-pictures").stdout)
    assert (one["scenario"], one["missed"], one["detected"]) == ("tiny", 1, 0)
    assert not (recorded / "score.png").exists()


def test_score_draws_a_picture(recorded: Path):
    pytest.importorskip("matplotlib")
    assert run("simulate", "score", recorded).exit_code == 0
    assert (recorded / "score.png").read_bytes().startswith(b"\x89PNG")


def test_score_says_what_a_folder_lacks(recorded: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    result = run("simulate", "score", recorded, tmp_path / "empty", "--no-pictures")
    assert result.exit_code == 1
    assert f"{tmp_path / 'empty' / record.TRUTH} is not there: `fenghuo simulate run` writes it" in plain(
        result
    )
    assert run("simulate", "score", tmp_path / "nowhere").exit_code == 1
    (recorded / record.RAISED).write_text("[{}]")
    result = run("simulate", "score", recorded)
    assert result.exit_code == 1
    assert str(recorded / record.RAISED) in plain(result)
    shutil.rmtree(recorded)
    recorded.write_text("a file")
    result = run("simulate", "score", recorded)
    assert (result.exit_code, str(recorded) in plain(result)) == (1, True)


# -- people ----------------------------------------------------------------------------------------


def with_people(path: Path, *entries: str) -> City:
    head = STORY.partition("people:\n")[0]
    path.write_text(head + "people:\n" + "".join(f"  - {entry}\n" for entry in entries), "utf-8")
    return city(path)


def test_the_first_entry_that_means_a_person_is_theirs(story: Path):
    its = with_people(
        story,
        "{who: chem-operator, after: 90s, spread: 10s, does: [confirm, act], act_after: 2min, misses: 0.1}",
        '{who: "*-duty", after: 1min, busy: 0.2, wrong_key: 0.3}',
        '{who: "*-o*", after: 5s}',
        "{who: donghai-duty, after: 1s}",
    )
    found = behaviours(its, ["admin", "chem-operator", "donghai-duty", "mine-operator"])
    assert found == {
        "chem-operator": Behaviour(90.0, 10.0, ("confirm", "act"), 120.0, 0.1),
        "donghai-duty": Behaviour(60.0, 0.0, ("confirm",), 600.0, busy=0.2, wrong_key=0.3),
        "mine-operator": Behaviour(5.0, 0.0, ("confirm",), 600.0),
    }
    with pytest.raises(ScenarioError, match="nobody is called 'Chem-operator'; there are chem-operator"):
        behaviours(with_people(story, "{who: Chem-operator, after: 1s}"), ["chem-operator"])


def test_windows_are_counted_from_the_start(story: Path):
    its = with_people(story, "{who: a, after: 1s, away: [[0, 1min], [2min, 1h]], offline: [[30s, 31s]]}")
    found = behaviours(its, ["a"])["a"]
    assert found.away == ((START, START + MINUTE), (START + 2 * MINUTE, START + 60 * MINUTE))
    assert found.offline == ((START + 30 * SECOND, START + 31 * SECOND),)


class Silent:
    """A product that raises nothing, and notes what it is asked."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.reached: list[tuple[int, int]] = []
        self.lines: list[tuple[str, str]] = []
        self.answers: list[persons.Answer] = []
        self.waiting: list[dict[str, str]] = []

    def reach(self, time: int, messages: object) -> None:
        self.reached.append((time, len(list(messages))))

    def rings(self) -> list[dict[str, str]]:
        rings, self.waiting = self.waiting, []
        return rings

    def line(self, person: str, line: str) -> None:
        self.lines.append((person, line))

    def answer(self, answer: persons.Answer) -> None:
        self.answers.append(answer)


def test_a_person_answers_when_they_are_due_and_has_their_line_told_of(story: Path):
    its = with_people(
        story, "{who: operator, after: 20s, does: [confirm, act], act_after: 42s, offline: [[150s, 160s]]}"
    )
    product = Silent(make_registry([PointSpec(id="TI-R-1")], people=[], duty=[]))
    product.registry.people["operator"] = product.registry.people.get("operator")
    simulated = Simulation(its, product)
    simulated.until(START + 10 * SECOND)
    product.waiting.append(
        {"id": "n1", "alert": "a1", "role": "asked", "person": "operator", "created": "2026-03-02T02:00:10Z"}
    )
    simulated.until(START + 180 * SECOND)
    assert [time for time, _ in product.reached] == list(range(START, START + 181 * SECOND, 5 * SECOND))
    verbs = [(answer.verb, answer.alert, (answer.at - START) // SECOND) for answer in product.answers]
    assert verbs == [("confirm", "a1", 35), ("act", "a1", 77)]
    assert product.lines == [("operator", "off"), ("operator", "free")]
    assert simulated.messages == sum(count for _, count in product.reached)


# -- what was raised -------------------------------------------------------------------------------

REGISTRY = make_registry(
    [PointSpec(id="T1", group="g"), PointSpec(id="T2", group="g"), PointSpec(id="T3")],
    groups=[Group(code(1), "g", 1.0, SECOND)],
)


def alert(subject: str = "point:T1", **changes: object) -> Alert:
    whole = Alert(
        id="a1", rule="limit.high", enterprise=code(1), subject=subject, cell="village-1", finding="f1",
        tier=Tier.III, level="H", condition=Condition.ACTIVE, answer=Answer.UNCONFIRMED, rung=2, step=3,
        raised=100, since=90, time=95, value=None, value_time=0, limit=None, unit="", clause="", version="",
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def notice(step: int, delivered: int, tier: Tier = Tier.III) -> Notice:
    return Notice(
        id=f"n{step}-{delivered}", alert="a1", step=step, person="p", role=Role.ASKED, tier=tier, channel="phone",
        address="p", language="zh", title="", text="", due=100, created=100, delivered=delivered,
    )  # fmt: skip


def raised(one: Alert, *notices: Notice) -> Raised:
    return simulation._raised(one, notices, REGISTRY)


def test_an_alert_calls_when_the_first_phone_rings_for_each_of_its_steps():
    found = raised(
        alert(tier=Tier.I, confirmed=330, ended=700),
        notice(1, 130), notice(1, 120), notice(2, 210, Tier.II), notice(3, 0), notice(6, 610),
        notice(7, 0, Tier.I), notice(7, 720, Tier.I),
    )  # fmt: skip
    assert found.calls == ((120, "III"), (210, "II"), (610, "III"), (720, "I")), (
        "nobody's phone rang for the third"
    )
    assert (found.raised, found.since, found.ended, found.confirmed, found.rung) == (100, 90, 700, 330, 2)
    assert (found.tier, found.late, found.points, found.gateway) == ("I", False, ("T1",), "")


def test_what_is_not_yet_is_none_and_what_called_nobody_is_late():
    found = raised(alert())
    assert (found.ended, found.confirmed, found.late, found.calls) == (None, None, True, ())
    tried = raised(alert(), notice(1, 0))
    assert (tried.late, tried.calls) == (False, ()), "it was to ring, and has not"


@pytest.mark.parametrize(
    "rule", ["silent", "bad_quality", "stuck", "disagreement", "clock", "gateway.offline"]
)
def test_an_alert_of_a_device_says_so(rule: str):
    assert raised(alert(rule=rule)).device
    assert not raised(alert()).device


@pytest.mark.parametrize(
    ("subject", "points", "gateway"),
    [
        ("point:T3", ("T3",), ""),
        ("point:a:b", ("a:b",), ""),
        ("gateway:gw1", (), "gw1"),
        ("group:g", ("T1", "T2"), ""),
        ("group:none", (), ""),
    ],
)
def test_the_points_or_gateway_of_its_subject(subject: str, points: tuple[str, ...], gateway: str):
    found = raised(alert(subject))
    assert (found.points, found.gateway) == (points, gateway)


def test_the_systems_own_alerts_are_none_of_a_city(story: Path):
    class Desk:
        registry = REGISTRY

        def alerts(self) -> list[Alert]:
            return [alert(id="a1"), alert("system", id="s1", enterprise="")]

        def notices(self, alert: str) -> list[Notice]:
            return [notice(1, 120)]

    assert [one.id for one in simulation.raised(Desk())] == ["a1"]


# -- the stepped clock -----------------------------------------------------------------------------


@pytest.fixture
def stepper() -> Iterator[Stepper]:
    with Stepper(START) as stepper:
        yield stepper


def clock(stepper: Stepper, name: str) -> ControlledClock:
    """A process's clock: it waits for the time, so that it has to come from another thread."""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(ControlledClock, stepper.address, name)
        while not made.done():
            stepper.hear(0.01)
        return made.result()


@pytest.fixture
def judge(stepper: Stepper) -> Iterator[ControlledClock]:
    its = clock(stepper, "judge")
    yield its
    its._socket.close()


def test_a_process_has_the_time_that_it_is_stepped_to(stepper: Stepper, judge: ControlledClock):
    assert (judge.now(), stepper.names) == (START, ["judge"])
    assert (judge.timeout(START), judge.timeout(START + 1)) == (0.0, None), "it waits for no wall clock"
    judge.poll()
    assert judge.now() == START
    stepper.step(START + 5 * SECOND)
    stepper.step(START + 9 * SECOND)
    judge.poll()
    assert judge.now() == START + 9 * SECOND
    assert list(judge.marks(START, START + 2 * SECOND)) == [START + SECOND, START + 2 * SECOND]
    with pytest.raises(ValueError, match="does not go back"):
        stepper.step(START)


def test_a_step_is_over_when_all_have_said_that_they_rest(stepper: Stepper, judge: ControlledClock):
    stepper.step(START + SECOND)
    assert not stepper.at_rest(["judge"])
    judge.rest()  # of the step before
    assert not stepper.at_rest(["judge"])
    judge.poll()
    judge.rest()
    assert stepper.at_rest(["judge"])
    assert not stepper.at_rest(["judge", "serving"])
    serving = clock(stepper, "serving")
    assert serving.now() == START + SECOND, "who comes later has the time at once"
    serving.rest()
    assert stepper.at_rest(["judge", "serving"])
    serving._socket.close()
    assert not stepper.at_rest(["judge", "serving"])
    assert stepper.names == ["judge"]
    stepper.step(START + SECOND)
    assert not stepper.at_rest(["judge"]), "to the same time is a step too"


def test_without_its_stepper_there_is_no_time(stepper: Stepper, judge: ControlledClock):
    stepper.close()
    with pytest.raises(ClockLost):
        judge.poll()
