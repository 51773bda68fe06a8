"""A scenario's file: whatever is wrong with it is said at once, with its line, and never by a traceback."""

import json
from pathlib import Path

import pytest

from registry import credit as product_credit
from simulators import credit, scenario, scenario_file
from simulators.city import City
from simulators.scenario import Change, ScenarioError
from simulators.scenario_values import LONGEST, duration

SCENARIOS = sorted((Path(__file__).parents[1] / "examples" / "scenarios").glob("*.yaml"))
SCHEMA = Path(__file__).parents[1] / "docs" / "scenario.schema.json"

STORY = """\
title: {zh: 试验, en: A trial}
about: for tests
start: 2026-03-02T10:00:00+08:00
lasts: 2min
enterprises:
  - id: chem
    name: 化工厂
    plants:
      - {kind: stirred_reactor, units: [R-1]}
timeline:
  - {at: 10s, units: [R-1], set: {cooling: 0.5}}
"""
"""Line 6 begins the enterprise, 9 the plant, 11 the event."""

UNITS = "units: [R-1]}"
EVENT = "{at: 10s, units: [R-1], set: {cooling: 0.5}}"
CODE = "91370281MA3TR1101K"


def mistakes(folder: Path, text: str | bytes) -> list[str]:
    """What is said of a file, a mistake an entry: "LINE: place: what was expected"; nothing of one that is right."""
    path = folder / "story.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        City(scenario_file.read(path), "story")
    except ScenarioError as error:
        return [line.removeprefix(f"{path}:").strip() for line in str(error).splitlines()]
    return []


def changed(old: str, new: str) -> str:
    assert STORY.count(old) == 1, old
    return STORY.replace(old, new)


def of_gateway(settings: str) -> str:
    return changed("    plants:", f"    gateways: {{gw1: {{{settings}}}}}\n    plants:")


def of_plant(more: str) -> str:
    return changed(UNITS, f"units: [R-1], {more}}}")


def of_enterprise(line: str) -> str:
    return changed("    name: 化工厂", f"    name: 化工厂\n    {line}")


def event(text: str) -> str:
    return changed(EVENT, text)


def beside(enterprise: str) -> str:
    return changed(
        "timeline:", f"  - {{{enterprise}, name: 二厂, plants: [{{kind: tank_farm, units: 1}}]}}\ntimeline:"
    )


def test_the_story_of_these_tests_is_right(tmp_path: Path):
    assert mistakes(tmp_path, STORY) == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_ours_are_right(path: Path):
    assert scenario_file.read(path).title.zh


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # the file itself
        ("", 1, "expected a mapping with the keys title, about"),
        ("- a\n- b\n", 1, "expected a mapping with the keys title, about"),
        ("a story\n", 1, "expected a mapping"),
        ("title: {zh: 试验\nabout: x\n", 2, "not YAML"),
        ("about:\n\t- x\n", 2, "not YAML"),
        (STORY + "---\na: 1\n", 12, "not YAML"),
        (STORY + "[a]: 1\n", 12, "not YAML"),
        (STORY + "villages: !!int many\n", 12, "neither anchor, alias nor tag"),
        (event("&a [*a]"), 11, "neither anchor, alias nor tag"),
        (STORY + "lasts: 3min\n", 12, "lasts: is there twice"),
        (changed("{zh: 试验,", "{zh: 试验, zh: 考验,"), 1, "title.zh: is there twice"),
        (event("{at: 1s, units: [R-1], set: {cooling: 0.5, cooling: 0.6}}"), 11, "set.cooling: is there twice"),
        (STORY + "colour: red\n", 12, "colour: unknown key; there are title, about, seed"),
        (STORY + "1: red\n", 1, "Keys should be strings"),
        (changed("about: for tests\n", ""), 1, "about: Field required"),
        (changed("en: A trial", "en: 5"), 1, "title.en: Input should be a valid string"),
        # times
        (changed("start: 2026-03-02T10:00:00+08:00", "start: 2026-03-02T10:00:00"), 3, "with its zone"),
        (changed("start: 2026-03-02T10:00:00+08:00", "start: 2026-13-02T10:00:00+08:00"), 3, "with its zone"),
        (changed("start: 2026-03-02T10:00:00+08:00", "start: 2026-03-02"), 3, "with its zone"),
        (changed("start: 2026-03-02T10:00:00+08:00", "start: yesterday"), 3, "with its zone"),
        (changed("start: 2026", "start: 1969"), 3, "from 2000 to 2099"),
        (changed("start: 2026", "start: 9999"), 3, "from 2000 to 2099"),
        *(
            (changed("lasts: 2min", f"lasts: {wrong}"), 4, "lasts: expected a duration")
            for wrong in ("-2min", "120", "2 min", "2m", "0", "false", "[2min]", "367d", "9" * 400 + "d", "２min")
        ),
        (changed("lasts: 2min", "lasts: 2min\nstep: 0"), 5, "step: expected a duration of more than 0"),
        (changed("lasts: 2min", "lasts: 2min\nstep: 2min"), 5, "step: expected from 100ms to 1min"),
        (changed("lasts: 2min", "lasts: 2min\nstep: 99ms"), 5, "step: expected from 100ms to 1min"),
        (changed("lasts: 2min", "lasts: 2min\nseed: -1"), 5, "seed: Input should be greater"),
        (changed("lasts: 2min", "lasts: 2min\nseed: yes"), 5, "seed: Input should be a valid integer"),
        (changed("lasts: 2min", "lasts: 2min\nregistry: nowhere"), 5, "registry: no folder 'nowhere'"),
        # enterprises
        (beside("id: chem"), 10, "enterprises.1.id: chem is another enterprise too"),
        (
            beside("id: chem-2").replace("id: chem\n", "id: chem\n    copies: 3\n"),
            11,
            "chem-2 is another enterprise too",
        ),
        (of_enterprise("copies: 0"), 8, "copies: Input should be greater than or equal to 1"),
        (of_enterprise(f"code: {CODE}\n    copies: 2"), 8, "code: 2 copies cannot have one code"),
        (of_enterprise("code: 91370281MA3TR11011"), 8, "code: expected 18 digits and capitals"),
        (of_enterprise("code: chem"), 8, "code: expected 18 digits and capitals"),
        (
            beside(f"id: b, code: {CODE}").replace("id: chem\n", f"id: chem\n    code: {CODE}\n"),
            11,
            f"enterprises.1.code: {CODE} is another enterprise's code too",
        ),
        (of_enterprise("cell: moon"), 8, "cell: no cell 'moon'; there are beishan, donghai"),
        (STORY.replace("name: 化工厂", 'name: 化工厂\n    cell: "v{n}"\n    copies: 3') + "villages: 2\n", 8, "'v03'"),
        (changed(f"      - {{kind: stirred_reactor, {UNITS}\n", "      []\n"), 8, "plants: List should have"),
        # gateways
        (of_plant("gateway: gw9"), 9, "gateway: no gateway 'gw9'; there are gw1"),
        (of_enterprise("gateways: {gw1: {}, gw2: {}}"), 8, "gateways.gw2: no plant sends by it"),
        (of_enterprise("gateways: {}"), 10, "gateway: no gateway 'gw1'; there are none"),
        (of_enterprise("gateways: {gw1: }"), 8, "gateways.gw1: expected a mapping with the keys every, form"),
        (of_gateway("every: 0"), 8, "every: expected a duration of more than 0"),
        (of_gateway("every: 1500ms"), 8, "every: expected a multiple of the scenario's step"),
        (of_gateway("heartbeat: 0"), 8, "heartbeat: expected a duration of more than 0"),
        (of_gateway("form: xml"), 8, "form: Input should be 'rows' or 'columns'"),
        (of_gateway("loss: 1.5"), 8, "loss: Input should be less than or equal to 1"),
        (of_gateway("loss: '0.5'"), 8, "loss: Input should be a valid number"),
        (of_gateway("exception: .inf"), 8, "exception: Input should be a finite number"),
        (of_gateway("clock: {offset: .nan}"), 8, "clock.offset: Input should be a finite number"),
        (of_gateway("clock: {offset: 1.0e+12}"), 8, "clock.offset: Input should be less than"),
        (of_gateway("clock: {drift: 1.0e+12}"), 8, "clock.drift: Input should be less than"),
        # plants
        (changed("stirred_reactor", "reactor"), 9, "no kind of plant is called 'reactor'; there are coal_face"),
        *(
            (changed(UNITS, f"units: {wrong}}}"), 9, "units: expected a list of ids, or how many, from 1 to 9999")
            for wrong in ("0", "-3", "[]", "R-1", "true", "10000")
        ),
        (changed(UNITS, "units: [1101]}"), 9, "units.0: Input should be a valid string"),
        (changed(UNITS, "units: [R/1]}"), 9, "units.0: String should match pattern"),
        (changed(UNITS, "units: [R-1, R-1]}"), 9, "units: R-1 is there twice"),
        (changed(UNITS, f"{UNITS}\n      - {{kind: tank_farm, units: [R-1]}}"), 10, "R-1 is a unit of another plant"),
        (of_plant("names: {TI-R-1: PI-R-1}"), 9, "two points have the id PI-R-1: rename one by `names`"),
        (of_plant('names: {"TI-{unit}": T-1}'), 9, "no point 'TI-{unit}'; there are FI-R-1, LI-R-1"),
        (of_plant("without: [XX]"), 9, "without.0: no point 'XX'; stirred_reactor has TI-{unit}"),
        (of_plant('without: ["*"]'), 9, "without.0: no point '*'"),
        (
            of_plant('without: ["TI-{unit}", "TI-{unit}B", "PI-{unit}", "LI-{unit}", "FI-{unit}", "ZI-{unit}"]'),
            9,
            "no point is left",
        ),
        (of_plant("design: {size: 3}"), 9, "design.size: stirred_reactor has no such size; it has activation"),
        (of_plant("design: {volume: [1, 2]}"), 9, "design.volume: expected one number, or one for each of 1 units"),
        *(
            (of_plant(f"design: {{volume: {wrong}}}"), 9, "design.volume: expected a number, or a list with one")
            for wrong in ("[]", "big", ".nan", "true", "[x]")
        ),
        (
            of_plant("design: {full: 80}").replace("stirred_reactor", "tank_farm"),
            9,
            "design.full: tank_farm has no such size",
        ),
        (of_plant("registry: {XX: {H: '1'}}"), 9, "registry.XX: no point 'XX'"),
        (of_plant("registry: {'*': {H: 95}}"), 9, "registry.*.H: Input should be a valid string"),
        (of_plant("registry: {'*': {signal: level}}"), 9, "registry.*.signal: is not the registry's to say"),
        (of_plant("registry: {'*': {range_low: low}}"), 9, "registry.*.range_low: expected a number"),
        (of_plant("registry: {'*': {range_high: ''}}"), 9, "registry.*.range_high: expected a number"),
        (of_plant("registry: {'*': {interval: soon}}"), 9, "registry.*.interval: expected a duration"),
        (of_plant("registry: {'*': {group_delay: ''}}"), 9, "registry.*.group_delay: expected a value"),
        # events
        (event("soon"), 11, "an event needs `set` (units), `fault` (points), `outage` (gateways) or `enter` (records)"),
        (event(""), 11, "an event needs `set`"),
        (event("{at: 10s, units: [R-1]}"), 11, "an event needs `set`"),
        (event("{at: 1s, units: [R-1], set: {feed: 1}, fault: dead}"), 11, "fault: unknown key; there are at"),
        (event("{at: 10s, units: [R-1], set: {}}"), 11, "set: Dictionary should have at least 1 item"),
        (event("{at: 10s, units: [], set: {feed: 0}}"), 11, "units: List should have at least 1 item"),
        (event("{at: 10s, units: [R-1, R-9], set: {feed: 0}}"), 11, "units.1: no unit 'R-9'; there are chem/R-1"),
        (event("{at: 10s, units: [R-1], set: {heat: 1}}"), 11, "set.heat: stirred_reactor has no input 'heat'; it has"),
        (event("{at: 10s, units: [R-1], set: {feed: 1.3}}"), 11, "set.feed: stirred_reactor: 1.3 is not from 0 to 1.2"),
        (event("{at: 10s, units: [R-1], set: {feed: .nan}}"), 11, "set.feed: Input should be a finite number"),
        (event("{at: 10s, units: [R-1], set: {feed: yes}}"), 11, "set.feed: Input should be a valid number"),
        (event("{at: -1s, units: [R-1], set: {feed: 0}}"), 11, "at: expected a duration"),
        (event("{at: 2min, units: [R-1], set: {feed: 0}}"), 11, "at: expected a time before the end"),
        (event("{at: 1s, lasts: 0, units: [R-1], set: {feed: 0}}"), 11, "lasts: expected a duration of more than 0"),
        (event("{at: 1s, points: [PI-R-1, XX], fault: dead}"), 11, "points.1: no point 'XX'; there are chem/FI-R-1"),
        (event("{at: 1s, points: [PI-R-1], fault: lost}"), 11, "fault: Input should be 'frozen', 'dead'"),
        (event("{at: 1s, points: [PI-R-1], fault: covered, share: 2}"), 11, "share: Input should be less than"),
        (event("{at: 1s, points: [PI-R-1], fault: drift}"), 11, "value: expected by how much the point is wrong"),
        (event("{at: 1s, points: [PI-R-1], fault: offset, value: .inf}"), 11, "value: Input should be a finite"),
        (event("{at: 1s, gateways: [gw1, gw2], outage: dead}"), 11, "gateways.1: no gateway 'gw2'; there are chem/gw1"),
        (event("{at: 1s, gateways: [gw1], outage: broken}"), 11, "outage: Input should be 'dead', 'hung'"),
        (event("{at: 1s, gateways: [gw1], outage: clock}"), 11, "by_seconds: expected by how much the gateway is"),
        (event("{at: 1s, gateways: [gw1], outage: clock, by_seconds: 1.0e+15}"), 11, "by_seconds: Input should be"),
        (
            beside("id: b, gateways: {gw1: {}}").replace(EVENT, "{at: 1s, gateways: [gw1], outage: dead}"),
            12,
            "gw1 is of b, chem: expected ENTERPRISE/gw1",
        ),
        (
            event("{at: 1s, points: [PI-R-1], fault: dead}\n  - {at: 1s, points: ['*'], fault: dead}"),
            12,
            "PI-R-1: the same begins there in the same second already",
        ),
        # people
        (STORY + "people: [{who: x, after: 1s, does: [sleep]}]\n", 12, "does.0: Input should be 'confirm'"),
        (STORY + "people: [{who: x, after: 1s, does: []}]\n", 12, "does: List should have at least 1 item"),
        (STORY + "people: [{who: x, after: 1s, misses: -1}]\n", 12, "misses: Input should be greater"),
        (STORY + "people: [{who: x, after: 1s, away: [[2min, 1min]]}]\n", 12, "away.0: expected an end that is later"),
        (STORY + "people: [{who: x, after: 1s, offline: [[2min]]}]\n", 12, "offline.0.1: Field required"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, words: str):
    said = mistakes(tmp_path, text)
    assert any(one.startswith(f"{line}: ") and words in one for one in said), said


def test_every_mistake_is_said_at_once_in_the_order_of_the_file(tmp_path: Path):
    wrong = STORY.replace("lasts: 2min", "lasts: soon\ncolour: red")
    wrong = wrong.replace("stirred_reactor, units: [R-1]", "reactor, units: 0, gateway: gw 1")
    wrong = wrong.replace("cooling: 0.5", "cooling: hot") + "people: [{after: 1s}]\nabout: again\n"
    said = mistakes(tmp_path, wrong)
    assert [int(one.partition(":")[0]) for one in said] == [4, 5, 10, 10, 12, 13, 14], said


def test_every_mistake_of_the_timeline_is_said_at_once(tmp_path: Path):
    more = [
        "{at: 1h, units: [X], set: {feed: 0}}",
        "{at: 1s, points: [X], fault: dead}",
        "{at: 1s, gateways: [X], outage: dead}",
        "{at: 1s, units: [R-1], set: {feed: 9, heat: 1}}",
    ]
    said = mistakes(tmp_path, STORY + "".join(f"  - {one}\n" for one in more))
    assert [int(one.partition(":")[0]) for one in said] == [12, 12, 13, 14, 15, 15], said


def test_sizes_with_which_a_plant_cannot_be_are_refused(tmp_path: Path):
    assert (
        "stirred_reactor: design: these sizes cannot be"
        in mistakes(tmp_path, of_plant("design: {volume: 0}"))[0]
    )
    pipes = STORY.replace(
        "stirred_reactor, units: [R-1]", "pipeline, units: [L-1, L-2], design: {length: [20000, 40000]}"
    )
    pipes = pipes.replace(EVENT, "{at: 1s, units: [L-1], set: {pump: 0.9}}")
    assert "pipeline: design: these sizes cannot be: a wave" in mistakes(tmp_path, pipes)[0]
    one = (
        of_plant("design: {passage: 30}")
        .replace("stirred_reactor", "tank_farm")
        .replace("cooling", "outflow")
    )
    assert mistakes(tmp_path, one) == []
    two = one.replace("passage: 30}}", "passage: 30}}\n      - {kind: tank_farm, units: [R-2]}")
    assert "passage has to be the same for all units" in mistakes(tmp_path, two)[0]


def test_a_gateway_with_more_points_than_a_message_takes_is_refused(tmp_path: Path):
    said = mistakes(
        tmp_path, changed(UNITS, "units: 9999}").replace("units: [R-1], set", "units: ['01'], set")
    )
    assert "may not fit into one message" in said[0]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"title: \x00\n", b"[" * 5000, b"seed: " + b"9" * 5000])
def test_what_is_no_text_at_all_is_no_scenario(tmp_path: Path, content: bytes):
    [said, *_] = mistakes(tmp_path, content)
    assert "not YAML" in said


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path):
    with pytest.raises(OSError, match="nowhere"):
        scenario_file.read(tmp_path / "nowhere.yaml")


def test_durations():
    assert [duration(text) for text in (0, "0", "500ms", "1.5s", "2min", "1h", "366d")] == [
        0, 0, 500_000, 1_500_000, 120_000_000, 3_600_000_000, LONGEST,
    ]  # fmt: skip


def test_what_is_left_out_has_its_usual_value(tmp_path: Path):
    (tmp_path / "story.yaml").write_text(STORY, "utf-8")
    found = scenario_file.read(tmp_path / "story.yaml")
    [enterprise] = found.enterprises
    assert (found.seed, found.step, found.villages, found.people) == (1, 1_000_000, 0, [])
    assert (enterprise.copies, enterprise.cells, list(enterprise.gateways)) == (1, ["gangdong"], ["gw1"])
    [change] = found.timeline
    assert isinstance(change, Change)
    assert (change.at, change.lasts, change.over, change.by) == (10_000_000, None, 0, "")


def test_a_credit_code_is_valid_where_the_product_takes_it():
    codes = [credit.made_up(number) for number in (1, 2, 503, 99_999)]
    swapped = [code[:10] + code[11] + code[10] + code[12:] for code in codes]
    for code in (
        *codes,
        *swapped,
        CODE,
        CODE.lower(),
        CODE[:-1],
        "",
        "91370281MA3TR110IK",
        "9137O281MA3TR1101K",
    ):
        assert credit.valid(code) == (product_credit.check(code) is None), code
    assert all(credit.valid(code) for code in codes)


def test_the_published_schema_is_the_one_that_files_are_read_by():
    assert SCHEMA.read_text("utf-8") == json.dumps(scenario.schema(), indent=1, ensure_ascii=False) + "\n"


def test_the_schema_says_durations_as_they_are_written():
    kinds = scenario.schema()["$defs"]
    assert kinds["Gateway"]["properties"]["every"]["type"] == "string"
    assert {one["type"] for one in kinds["Plant"]["properties"]["units"]["anyOf"]} == {"array", "integer"}
    assert kinds["Plant"]["additionalProperties"] is False


def test_the_pages_example_is_a_scenario(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "scenarios.md").read_text("utf-8")
    [example] = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    path = tmp_path / "example.yaml"
    path.write_text(example, "utf-8")
    truth = City(scenario_file.read(path), "example").truth()
    assert {danger.hazard for danger in truth.dangers} >= {"flammable_gas", "blind.covered"}
