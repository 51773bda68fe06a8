"""The simulated city: the same scenario gives the same bytes and truth, and the product understands all of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from pydantic import BaseModel

from ingest.assemble import Assembler
from ingest.message import Message as Arrived
from registry.compile import compile_folder
from registry.model import Registry
from simulators import record, registry_files, scenario, scenario_file
from simulators.city import City
from simulators.physics import Physics
from simulators.record import RecordError, Sampler
from simulators.scenario import Change, Fault, Outage, Scenario
from simulators.score import Raised
from simulators.truth import Truth
from simulators.uplink import Kind

FOLDER = Path(__file__).parents[1] / "examples" / "scenarios"
SCENARIOS = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
STEPS = {"city-hour": 2}
"""So many are looked at; 60 of the others."""

SECOND = 1_000_000
MINUTE = 60 * SECOND

Part = TypeVar("Part", bound=BaseModel)
Payloads = list[tuple[int, str, str, bytes]]
Written = Callable[[str], Scenario]

EVERY = pytest.mark.parametrize("name", SCENARIOS)


@cache
def story(name: str) -> Scenario:
    return scenario_file.read(SCENARIOS[name])


@cache
def city(name: str) -> City:
    return City(story(name), name)


def payloads(city: City, steps: int) -> Payloads:
    return [
        (message.at, message.kind, message.topic, message.payload)
        for moment in islice(city.moments(), steps)
        for message in moment.messages
    ]


@cache
def sent(name: str) -> Payloads:
    return payloads(city(name), STEPS.get(name, 60))


def but(one: Part, **changes: object) -> Part:
    """The same with something else in its place."""
    return one.model_copy(update=changes)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Reads a scenario of a day at most: ``plants`` and ``timeline`` are YAML of this indentation."""

    def read(parts: str) -> Scenario:
        path = tmp_path / "story.yaml"
        lines = [line.removeprefix("        ") for line in parts.splitlines()]
        head = "title: {zh: 试验, en: A trial}\nabout: for tests\n"
        start = "" if "start:" in parts else "start: 2026-03-02T10:00:00+08:00\n"
        path.write_text(head + start + "\n".join(lines) + "\n", "utf-8")
        return scenario_file.read(path)

    return read


# -- the same again --------------------------------------------------------------------------------


@EVERY
def test_a_seed_gives_the_same_bytes_and_another_seed_gives_others(name: str):
    steps = STEPS.get(name, 60)
    assert sent(name), "something is sent"
    assert payloads(City(story(name), name), steps) == sent(name)
    assert payloads(city(name), steps) == sent(name), "each call begins anew"
    readings = [one for one in sent(name) if one[1] == Kind.READINGS]
    other = payloads(City(but(story(name), seed=story(name).seed + 1), name), steps)
    assert [one for one in other if one[1] == Kind.READINGS] != readings


@pytest.mark.parametrize(
    ("name", "later"), [("reactor-confirmed", 650), ("mine-fan-stop", 4600), ("toxic-leak", 1500)]
)
def test_a_remedy_changes_nothing_before_its_time(name: str, later: int):
    remedies = [event for event in story(name).timeline if isinstance(event, Change) and event.by]
    without = but(story(name), timeline=[event for event in story(name).timeline if event not in remedies])
    steps = min(event.at for event in remedies) // story(name).step
    assert payloads(City(without, name), steps) == payloads(city(name), steps)
    aided, alone = signals(Physics(story(name)), later), signals(Physics(nobody(story(name))), later)
    assert signals(Physics(story(name), remedies=False), later) == alone
    assert aided != alone
    assert aided[:steps] == alone[:steps]


def nobody(story: Scenario) -> Scenario:
    """The same where nobody does anything: no remedy, and nothing ends that people ended."""
    changes = [event for event in story.timeline if not getattr(event, "by", "")]
    lasting = [
        but(event, lasts=None, ended_by="") if getattr(event, "ended_by", "") else event for event in changes
    ]
    return but(story, timeline=lasting)


def signals(physics: Physics, steps: int) -> list[list[float]]:
    return [
        [
            value
            for signals in truth.signals.values()
            for values in signals.values()
            for value in values.tolist()
        ]
        for truth in islice(physics.run(), steps)
    ]


@pytest.mark.parametrize("name", ["clock-mad", "frozen-sensor"])
def test_what_is_true_does_not_hang_on_devices_gateways_or_who_listens(name: str):
    whole = story(name)
    devices = [event for event in whole.timeline if isinstance(event, Fault | Outage)]
    bare = but(
        whole,
        timeline=[event for event in whole.timeline if event not in devices],
        enterprises=[
            but(one, gateways={id: scenario.Gateway(every="10s", loss=0.5) for id in one.gateways})
            for one in whole.enterprises
        ],
    )
    truth = city(name).truth()
    hazards = [danger for danger in truth.dangers if not danger.hazard.startswith("blind.")]
    assert hazards, "something is dangerous in it"
    assert list(City(bare, name).truth().dangers) == hazards


# -- the product understands it --------------------------------------------------------------------


def compiled(name: str, folder: Path) -> Registry:
    registry_files.write(folder, story(name), city(name).points)
    return compile_folder(folder)


def behind(registry: Registry) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for point, gateway in zip(registry.points.id, registry.points.gateway.tolist(), strict=True):
        its = registry.gateways[gateway]
        found.setdefault((its.enterprise, its.id), set()).add(point)
    return found


@EVERY
def test_its_registry_has_no_mistakes_and_what_is_sent_is_understood(name: str, tmp_path: Path):
    registry = compiled(name, tmp_path)
    stations = {(one.enterprise, one.gateway): set(one.points) for one in city(name)._stations}
    assert behind(registry) == stations
    assert set(registry.enterprises) == set(city(name).codes.values())
    on_duty = {duty.place for duty in registry.duty}
    assert {*registry.enterprises, *registry.cells, "system"} == on_duty
    heard = understood(registry, sent(name))
    assert heard == {(*key, point) for key, points in stations.items() for point in points}


def understood(registry: Registry, messages: Payloads) -> set[tuple[str, str, str]]:
    """Which points the product heard, (enterprise, gateway, point), once it took all of these."""
    assembler = Assembler(registry)
    heard: set[tuple[str, str, str]] = set()
    for mid, (at, kind, topic, payload) in enumerate(messages):
        rounds, dead = assembler.assemble([Arrived(topic, payload, mid, retain=kind != Kind.READINGS)], at)
        assert not dead, (topic, payload[:200])
        for round_ in rounds:
            for row in round_.readings.row.tolist():
                its = registry.gateways[registry.points.gateway[row]]
                heard.add((its.enterprise, its.id, registry.points.id[row]))
    return heard


def test_a_registry_written_over_another_one_leaves_nothing_of_it(tmp_path: Path):
    compiled("winter-week-gas", tmp_path)
    assert "v53" in compiled("winter-week-gas", tmp_path).cells
    assert "v53" not in compiled("toxic-leak", tmp_path).cells


def test_what_a_plant_changes_of_its_points_is_in_the_registry(written: Written, tmp_path: Path):
    its = City(
        written("""\
        lasts: 2min
        step: 500ms
        enterprises:
          - id: chem
            name: 化工厂
            gateways: {a: {every: 4s, late: 0.1, late_by: 2500ms}, b: {every: 500ms}}
            plants:
              - kind: stirred_reactor
                units: [R-1, R-2]
                gateway: a
                without: ["TI-{unit}B", "FI-{unit}", "ZI-{unit}"]
                names: {PI-R-2: P-2}
                registry: {"*": {video: "https://video.example/{unit}"}, "TI-{unit}": {H: "88"}}
              - {kind: stirred_reactor, units: [R-3], gateway: b}
        """),
        "story",
    )
    registry_files.write(tmp_path / "registry", its.scenario, its.points)
    registry = compile_folder(tmp_path / "registry")
    points = registry.points
    row = {id: row for row, id in enumerate(points.id)}
    assert sorted(points.id) == sorted(
        [
            "TI-R-1",
            "PI-R-1",
            "LI-R-1",
            "TI-R-2",
            "P-2",
            "LI-R-2",
            "TI-R-3",
            "TI-R-3B",
            "PI-R-3",
            "LI-R-3",
            "FI-R-3",
            "ZI-R-3",
        ]
    )
    assert points.video[row["P-2"]] == "https://video.example/R-2"
    assert points.limit[row["TI-R-1"]][2:].tolist() == [88.0, 100.0]
    assert points.limit[row["TI-R-3"]][2:].tolist() == [90.0, 100.0]
    assert points.group[row["TI-R-1"]] == -1, "nobody is left for it to agree with"
    assert points.group[row["TI-R-3"]] == points.group[row["TI-R-3B"]] >= 0
    assert points.interval[row["TI-R-1"]] == 15 * SECOND, (
        "three readings, and what may be late, in whole seconds"
    )
    assert points.interval[row["TI-R-3"]] == 10 * SECOND, "as the index has it"


def test_copies_are_enterprises_of_their_own(written: Written, tmp_path: Path):
    its = City(
        written("""\
        lasts: 1min
        villages: 3
        enterprises:
          - {id: shop, name: "{n}号店", cell: "v{n}", copies: 3,
             plants: [{kind: restaurant, units: 2, title: "{unit} 号"}]}
          - {id: chem, name: 化工厂, code: 91370281MA3TR1101K, plants: [{kind: tank_farm, units: [T]}]}
        """),
        "story",
    )
    assert list(its.codes) == ["shop-1", "shop-2", "shop-3", "chem"]
    assert len(set(its.codes.values())) == 4
    registry_files.write(tmp_path / "registry", its.scenario, its.points)
    registry = compile_folder(tmp_path / "registry")
    found = {one.name: (one.cell, one.units) for one in registry.enterprises.values()}
    assert found["2号店"] == ("v02", (("01", "01 号"), ("02", "02 号")))
    assert found["化工厂"][0] == "gangdong"
    assert its.truth().enterprises == tuple(its.codes.values()), "the quiet ones too"
    shown = {(p.enterprise, p.columns["unit"], p.unit) for p in its.points if p.kind == "restaurant"}
    assert shown == {(f"shop-{n}", f"0{u}", 2 * n + u - 3) for n in (1, 2, 3) for u in (1, 2)}


# -- the timeline ----------------------------------------------------------------------------------


def seen(story: Scenario, kind: str, input: str, **options: bool) -> tuple[list[list[float]], Any]:
    """What the kind was told of an input at every step, a list for each unit; and its design."""
    physics = Physics(story, **options)
    told: list[list[float]] = []
    designs: list[Any] = []
    its = physics.kinds[kind]

    def measure(design: Any, state: Any, inputs: Any) -> Any:
        designs.append(design)
        told.append(inputs[input].tolist())
        return its.measure(design, state, inputs)

    physics.kinds[kind] = replace(its, measure=measure)
    for _ in physics.run():
        pass
    return [list(one) for one in zip(*told, strict=True)], designs[0]


def reactors(*events: str, units: str = "[R-1, R-2, S-1]", lasts: str = "20s") -> str:
    plants = f"[{{kind: stirred_reactor, units: {units}}}]"
    return f"""\
        lasts: {lasts}
        enterprises: [{{id: chem, name: 化工厂, plants: {plants}}}]
        timeline: [{", ".join(events)}]"""


def test_an_input_changes_at_once_or_little_by_little_and_goes_back(written: Written):
    found, _ = seen(
        written(reactors("{at: 5s, lasts: 3s, units: [R-1], set: {feed: 0.5}}")), "stirred_reactor", "feed"
    )
    assert found[0] == [1.0] * 5 + [0.5] * 4 + [1.0] * 12  # the last moment at which it is held is its end
    assert found[1] == found[2] == [1.0] * 21
    found, _ = seen(
        written(reactors("{at: 4s, over: 4s, lasts: 6s, units: [R-1], set: {feed: 0.6}}")),
        "stirred_reactor",
        "feed",
    )
    down = [1.0, 0.9, 0.8, 0.7, 0.6]
    assert found[0] == pytest.approx([1.0] * 4 + down + [0.6] * 2 + [0.7, 0.8, 0.9, 1.0] + [1.0] * 6)
    found, _ = seen(written(reactors("{at: 18s, units: [R-1], set: {feed: 0}}")), "stirred_reactor", "feed")
    assert found[0] == [1.0] * 18 + [0.0] * 3, "to the end"
    found, _ = seen(
        written(reactors("{at: 2s, over: 6s, lasts: 1s, units: [R-1], set: {feed: 0.4}}")),
        "stirred_reactor",
        "feed",
    )
    assert min(found[0]) == pytest.approx(0.4), "it gets there, however short it lasts"


def test_what_people_end_goes_on_where_nobody_acts(written: Written):
    its = written(
        reactors(
            "{at: 2s, lasts: 3s, units: [R-1], set: {feed: 0.5}, ended_by: operator}",
            "{at: 2s, lasts: 3s, units: [R-2], set: {feed: 0.5}}",
            "{at: 2s, lasts: 3s, units: [S-1], set: {feed: 0.5}, by: operator}",
        )
    )
    short = [1.0] * 2 + [0.5] * 4 + [1.0] * 15
    assert seen(its, "stirred_reactor", "feed")[0] == [short, short, short]
    alone, _ = seen(its, "stirred_reactor", "feed", remedies=False)
    assert alone == [[1.0] * 2 + [0.5] * 19, short, [1.0] * 21]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_later_event_wins_wherever_it_stands_in_the_file(written: Written, turn: int):
    events = [
        "{at: 5s, lasts: 20s, units: [R-1], set: {feed: 0.5}}",
        "{at: 10s, lasts: 4s, units: [R-1], set: {feed: 0.2}}",
    ]
    found, _ = seen(written(reactors(*events[::turn])), "stirred_reactor", "feed")
    assert found[0] == [1.0] * 5 + [0.5] * 5 + [0.2] * 5 + [0.5] * 6, (
        "and afterwards the earlier one holds again"
    )


@pytest.mark.parametrize(
    ("target", "hit"),
    [
        ("R-1", [0]),
        ("chem/R-1", [0]),
        ("R-*", [0, 1]),
        ("*/S-1", [2]),
        ("*", [0, 1, 2]),
        ("chem/?-1", [0, 2]),
    ],
)
def test_targets_may_have_stars(written: Written, target: str, hit: list[int]):
    event = f'{{at: 0, units: ["{target}", R-1], set: {{feed: 0.5}}}}'
    found, _ = seen(written(reactors(event, lasts="1s")), "stirred_reactor", "feed")
    assert [number for number, values in enumerate(found) if values == [0.5, 0.5]] == sorted({0, *hit})


def test_a_target_may_be_one_copy_and_units_of_several_kinds(written: Written):
    its = written("""\
        lasts: 1s
        enterprises:
          - {id: shop, name: "{n}", copies: 3, plants: [{kind: restaurant, units: 2}, {kind: tanker, units: [T]}]}
        timeline: [{at: 0, units: ["shop-2/*"], set: {outdoors: -5}}]""")
    assert [one[0] for one in seen(its, "restaurant", "outdoors")[0]] == [22, 22, -5, -5, 22, 22]
    assert [one[0] for one in seen(its, "tanker", "outdoors")[0]] == [22, -5, 22]


def test_designs_are_of_the_units_that_say_so(written: Written):
    its = written("""\
        lasts: 1s
        enterprises:
          - id: chem
            name: 化工厂
            plants:
              - {kind: stirred_reactor, units: 2, design: {volume: [90, 110], valve: 4}}
              - {kind: stirred_reactor, units: [R], design: {valve: 4, gain: 20}}""")
    _, design = seen(its, "stirred_reactor", "feed")
    assert np.asarray(design.volume).tolist() == [90, 110, 100]
    assert design.valve == 4.0, "one number where all are alike"
    assert np.asarray(design.gain).tolist() == [25, 25, 20]
    assert design.feed == 100.0


@pytest.mark.parametrize(
    ("start", "hour"),
    [("2026-03-02T10:00:00+08:00", 10), ("2026-03-02T20:30:00Z", 4.5), ("2026-03-02T00:00:00+08:00", 0)],
)
def test_a_day_begins_at_the_citys_own_hour(written: Written, start: str, hour: float):
    its = written(
        f"""\
        start: {start}
        lasts: 1s
        enterprises:
          - id: gas
            name: 燃气公司
            plants:
              - {{kind: gas_network, units: 1}}
              - {{kind: gas_network, units: [late], design: {{begins: 82800}}}}
              - {{kind: cold_store, units: 1}}""".replace(
            "kind: cold_store, units: 1", "kind: cold_store, units: [C]"
        )
    )
    assert np.asarray(seen(its, "gas_network", "leak")[1].begins).tolist() == [hour * 3600, 82_800]
    assert seen(its, "cold_store", "leak")[1].begins == hour * 3600


# -- what was true ---------------------------------------------------------------------------------


def test_a_danger_that_people_averted_is_judged_by_what_would_have_come():
    whole = story("tanker-fire")
    [aided] = [danger for danger in city("tanker-fire").truth().dangers if danger.hazard == "tank_pressure"]
    [alone] = [
        danger for danger in City(nobody(whole), "left").truth().dangers if danger.hazard == "tank_pressure"
    ]
    assert alone.harm is not None
    assert aided.ended is not None
    assert aided.ended < alone.harm, "it was averted"
    for what in ("earliest", "danger", "latest", "harm", "in_time"):
        assert getattr(aided, what) == getattr(alone, what), what


def test_harm_that_would_come_after_the_end_is_known_all_the_same():
    lasting, cut = (City(but(nobody(story("tanker-fire")), lasts=s * SECOND), "left") for s in (4500, 3900))
    [known, there] = [
        next(danger for danger in city.truth().dangers if danger.hazard == "tank_pressure")
        for city in (cut, lasting)
    ]
    assert known.harm == there.harm is not None
    assert there.harm > cut.scenario.start + cut.scenario.lasts
    assert known.latest == there.latest
    assert known.ended is None


BLIND = """\
        lasts: 10min
        enterprises:
          - id: chem
            name: 化工厂
            gateways: {gw1: {}, gw2: {}}
            plants:
              - {kind: stirred_reactor, units: [R-1]}
              - {kind: stirred_reactor, units: [R-2], gateway: gw2}
          - {id: quiet, name: 二厂, plants: [{kind: tank_farm, units: [T]}]}
        timeline:
          - {at: 1min, points: [TI-R-1, PI-R-1], fault: frozen, lasts: 5min, within: 2min}
          - {at: 1min, points: [TI-R-2], fault: dead, within: 3min}
          - {at: 2min, points: [LI-R-2], fault: offset, value: 3, lasts: 1min}
          - {at: 3min, points: [LI-R-1], fault: covered, lasts: 1min, within: 90s}
          - {at: 9min, points: [FI-R-1], fault: drift, value: 3, within: 5min}
          - {at: 4min, gateways: [gw2], outage: mad_clock, by_seconds: 9, lasts: 4min, within: 1min}
          - {at: 4min, gateways: [chem/gw1], outage: restart, lasts: 20s}
"""


def test_who_may_be_blind_for_so_long_is_in_danger_and_for_less_is_excused(written: Written):
    its = City(written(BLIND), "blind")
    truth = its.truth()
    code, begin, end = its.codes["chem"], truth.begin, truth.end
    assert end == begin + 10 * MINUTE + SECOND
    assert truth.enterprises == tuple(its.codes.values())
    found = {
        (one.hazard, one.points, one.gateway): (one.earliest, one.danger, one.latest, one.ended, one.unit)
        for one in truth.dangers
    }
    since = [begin + minute * MINUTE for minute in range(11)]
    behind_gw2 = ("TI-R-2", "TI-R-2B", "PI-R-2", "LI-R-2", "FI-R-2", "ZI-R-2")
    assert found == {
        ("blind.frozen", ("TI-R-1",), ""): (since[1], since[1], since[3], since[6], "R-1"),
        ("blind.frozen", ("PI-R-1",), ""): (since[1], since[1], since[3], since[6], "R-1"),
        ("blind.dead", ("TI-R-2",), ""): (since[1], since[1], since[4], None, "R-2"),
        ("blind.clock", (), "gw2"): (since[4], since[4], since[5], since[8], ""),
    }
    for _ in its.moments():
        pass
    assert its.truth() == truth, "whatever was sent or asked before"
    assert {one.enterprise for one in truth.dangers} == {code}
    assert {one.tier for one in truth.dangers} == {"IV"}
    excused = {(one.points, one.gateway): (one.begin, one.end) for one in truth.excused}
    assert excused == {
        (("LI-R-2",), ""): (since[2], since[3]),
        (("LI-R-1",), ""): (since[3], since[4]),  # over before it was too long
        (("FI-R-1",), ""): (since[9], end),  # and the run is
        (tuple(p.replace("R-2", "R-1") for p in behind_gw2), "gw1"): (since[4], since[4] + 20 * SECOND),
        (behind_gw2, "gw2"): (since[4], since[8]),
    }


# -- the record of a run ---------------------------------------------------------------------------


@pytest.fixture
def run(written: Written) -> tuple[City, Truth]:
    its = City(
        written(reactors("{at: 5s, points: [TI-R-1], fault: open_circuit, lasts: 2s}", units="[R-1]")), "run"
    )
    return its, its.truth()


def raised(truth: Truth) -> Raised:
    return Raised(
        id="a1",
        enterprise=truth.enterprises[0],
        rule="limit.high",
        subject="point:TI-R-1",
        points=("TI-R-1",),
        calls=((truth.begin, "III"),),
        tier="III",
        raised=truth.begin,
        since=truth.begin,
    )


def write(folder: Path, city: City, alerts: Sequence[Raised] = ()) -> None:
    """The record of a run with these alerts."""
    sampler = Sampler(city)
    for moment in city.moments():
        sampler.take(moment)
    record.write_truth(folder, city.truth())
    record.write(folder, alerts, sampler)


def test_a_record_is_read_as_it_was_written(run: tuple[City, Truth], tmp_path: Path):
    city, truth = run
    write(tmp_path, city, [raised(truth)])
    got, alerts, signals = record.read(tmp_path)
    assert got == truth
    assert list(alerts) == [raised(truth)]
    moments = list(city.moments())
    assert signals.time.tolist() == [moment.time for moment in moments]
    key = (city.points[0].code, city.points[0].id)
    assert key[1] == "TI-R-1"
    assert set(signals.values) == {(point.code, point.id) for point in city.points}
    np.testing.assert_array_equal(signals.values[key], [moment.readout.values[0] for moment in moments])
    assert np.isnan(signals.values[key]).sum() == 2
    assert signals.units[key] == "℃"


def test_a_long_run_is_sampled_evenly(
    run: tuple[City, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    city, truth = run
    monkeypatch.setattr(record, "SAMPLES", 8)
    write(tmp_path, city)
    seconds = (record.read(tmp_path)[2].time - truth.begin) // SECOND
    assert seconds.tolist() == [0, 3, 6, 9, 12, 15, 18]


def test_of_many_points_those_are_kept_to_which_something_happens(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(record, "FEW", 5)
    events = ("{at: 5s, points: [TI-R-2], fault: dead}", "{at: 5s, units: [S-1], set: {feed: 0.9}}")
    city = City(written(reactors(*events)), "run")
    write(tmp_path, city)
    kept = [point for _, point in record.read(tmp_path)[2].values]
    assert kept == ["TI-R-2", "TI-S-1", "TI-S-1B", "PI-S-1", "LI-S-1", "FI-S-1", "ZI-S-1"]
    write(tmp_path, City(but(city.scenario, timeline=[]), "calm"))
    assert record.read(tmp_path)[2].values == {}


@pytest.mark.parametrize("file", [record.TRUTH, record.RAISED, record.SIGNALS])
@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[1]", b"PK\x03\x04 no zip", b'{"scenario": 1}', "cut", "folder"]
)
def test_a_broken_record_says_which_file_and_why(
    run: tuple[City, Truth], tmp_path: Path, file: str, content: bytes | str | None
):
    city, truth = run
    write(tmp_path, city, [raised(truth)])
    path = tmp_path / file
    whole = path.read_bytes()
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "cut" else bytes(content))
    with pytest.raises(RecordError) as error:
        record.read(tmp_path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) > len(str(path)) + 5, "and why"
    assert ("simulate run" in str(error.value)) == (content is None)


def test_a_record_that_is_a_file_is_none(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="file"):
        record.read(tmp_path / "file")


def moments_of(story: Scenario) -> Iterator[int]:
    return (moment.time for moment in City(story, "x").moments())


def test_a_run_has_a_moment_for_each_step_from_its_start_to_its_end(written: Written):
    its = written(reactors(units="[R-1]", lasts="5s"))
    times: Sequence[int] = list(moments_of(its))
    assert [(time - its.start) // SECOND for time in times] == [0, 1, 2, 3, 4, 5]
