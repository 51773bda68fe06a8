"""A danger is what the stages of the physics say it was, with and without the help of people."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.plant import Hazard, Stage
from simulators.truth import (
    APART,
    EARLY,
    GRACE,
    MINUTE,
    Danger,
    Stretch,
    Truth,
    Unit,
    Watcher,
    decode,
    derived,
    encode,
    heard,
    quiet,
)

PLANT, OTHER = "91370281MA3TR1101K", "91370281MA3TR2202X"
RUNAWAY = Hazard("runaway", "反应失控", "runaway", "II", ("temperature",), response=600.0, source="test")
UNITS = [
    Unit(PLANT, "R-1", {"runaway": ("TI-1A", "TI-1B")}),
    Unit(PLANT, "R-2", {"runaway": ("TI-2",)}),
    Unit(OTHER, "R-3", {"runaway": ("TI-3",)}),
]
END = 240 * MINUTE
SAFE, VISIBLE, DANGER, HARM = Stage


def watched(*changes: tuple[int, Stage], unit: int = 0) -> Watcher:
    """A watcher of three units that is told every minute; one unit has these changes, (minute, stage)."""
    watcher = Watcher(["runaway"], len(UNITS))
    stages, to_come = np.zeros(len(UNITS), np.int8), dict(changes)
    for minute in range(END // MINUTE):
        stages[unit] = to_come.get(minute, stages[unit])
        watcher.tell(minute * MINUTE, {"runaway": stages})
    return watcher


def told(actual: Watcher, unaided: Watcher) -> tuple[tuple[Danger, ...], tuple[Stretch, ...]]:
    return derived([RUNAWAY], UNITS, actual, unaided, END)


def test_what_people_averted_is_a_danger_by_when_harm_would_have_come_without_them() -> None:
    unaided = watched((10, VISIBLE), (20, DANGER), (50, HARM))
    [danger], [tail] = told(watched((10, VISIBLE), (20, DANGER), (40, VISIBLE), (70, SAFE)), unaided)
    assert danger == Danger(
        id=f"{PLANT}/R-1/runaway/1",
        enterprise=PLANT,
        unit="R-1",
        hazard="runaway",
        zh="反应失控",
        en="runaway",
        tier="II",
        points=("TI-1A", "TI-1B"),
        earliest=10 * MINUTE,
        danger=20 * MINUTE,
        latest=40 * MINUTE,
        ended=40 * MINUTE,
        harm=50 * MINUTE,
        why="The moment at which harm would have come had nobody acted, less the 10 min that people need.",
    )
    assert (tail.begin, tail.end, tail.points) == (40 * MINUTE, 70 * MINUTE, ("TI-1A", "TI-1B"))


def test_where_people_had_less_time_than_they_need_they_can_be_warned_until_the_harm() -> None:
    run = watched((10, VISIBLE), (15, DANGER), (19, HARM))
    [danger], excused = told(run, run)
    assert (danger.latest, danger.harm, danger.ended) == (19 * MINUTE, 19 * MINUTE, None)
    assert not danger.in_time
    assert "sooner" in danger.why
    assert excused == ()


@pytest.mark.parametrize(("harm", "latest"), [(20, 10), (25, 15), (31, 21)])
def test_harm_less_the_time_that_people_need_is_the_last_moment_also_before_they_must_act(
    harm: int, latest: int
) -> None:
    run = watched((10, VISIBLE), (20, DANGER), (harm, HARM))
    [danger], _ = told(run, run)
    assert (danger.latest, danger.harm, danger.in_time) == (latest * MINUTE, harm * MINUTE, True)
    assert "10 min that people need" in danger.why


def test_harm_at_once_is_visible_danger_and_harm_in_one_moment() -> None:
    run = watched((10, HARM))
    [danger], _ = told(run, run)
    assert danger.earliest == danger.danger == danger.harm == danger.latest == 10 * MINUTE
    assert not danger.in_time


def test_a_warning_of_harm_that_was_too_fast_is_of_use_no_longer_than_the_danger_lasts() -> None:
    [danger], _ = told(
        watched((10, VISIBLE), (12, DANGER), (14, SAFE)), watched((10, VISIBLE), (12, DANGER), (19, HARM))
    )
    assert (danger.latest, danger.ended, danger.harm) == (14 * MINUTE, 14 * MINUTE, 19 * MINUTE)
    assert not danger.in_time


@pytest.mark.parametrize(("calm", "latest"), [(90, 90 * MINUTE), (None, END)])
def test_a_danger_without_harm_can_be_told_of_as_long_as_it_lasts(calm: int | None, latest: int) -> None:
    run = watched((10, VISIBLE), (20, DANGER), *([] if calm is None else [(calm, SAFE)]))
    [danger], _ = told(run, run)
    assert (danger.latest, danger.harm) == (latest, None)


@pytest.mark.parametrize("unaided", [(90, SAFE), (90, HARM)])
def test_to_tell_of_a_danger_that_people_have_ended_is_of_no_more_use(unaided: tuple[int, Stage]) -> None:
    [danger], _ = told(
        watched((10, VISIBLE), (20, DANGER), (40, SAFE)), watched((10, VISIBLE), (20, DANGER), unaided)
    )
    assert (danger.latest, danger.ended) == (40 * MINUTE, 40 * MINUTE)
    assert danger.in_time
    assert "no more use" in danger.why


def test_what_people_averted_before_it_was_a_danger_was_one() -> None:
    unaided = watched((10, VISIBLE), (30, DANGER), (60, HARM))
    [danger], excused = told(watched((10, VISIBLE), (25, SAFE)), unaided)
    assert (danger.earliest, danger.danger, danger.latest) == (10 * MINUTE, 30 * MINUTE, 25 * MINUTE)
    assert (danger.ended, danger.harm) == (25 * MINUTE, 60 * MINUTE)
    assert excused == ()


def test_what_was_only_visible_is_excused() -> None:
    run = watched((10, VISIBLE), (20, SAFE), unit=2)
    assert told(run, run) == (
        (),
        (
            Stretch(
                enterprise=OTHER,
                points=("TI-3",),
                begin=10 * MINUTE,
                end=20 * MINUTE,
                why="runaway could be seen and receded before people had to act",
            ),
        ),
    )


def test_what_is_visible_until_the_end_is_excused_until_the_end() -> None:
    run = watched((10, VISIBLE))
    [stretch] = told(run, run)[1]
    assert (stretch.begin, stretch.end) == (10 * MINUTE, END)


@pytest.mark.parametrize(("apart", "count"), [(APART // MINUTE - 1, 1), (APART // MINUTE, 2)])
def test_times_of_being_visible_that_are_hardly_apart_are_one_danger(apart: int, count: int) -> None:
    again = 30 + apart
    run = watched((10, VISIBLE), (20, DANGER), (30, SAFE), (again, VISIBLE), (again + 5, DANGER), (90, SAFE))
    dangers, _ = told(run, run)
    assert len(dangers) == count
    assert dangers[0].earliest == 10 * MINUTE
    assert dangers[-1].ended == 90 * MINUTE


def test_a_second_danger_has_its_own_harm_where_without_people_the_first_had_come_to_harm() -> None:
    unaided = watched((10, VISIBLE), (20, DANGER), (50, HARM))
    actual = watched((10, DANGER), (40, SAFE), (100, DANGER), (130, HARM))
    first, second = told(actual, unaided)[0]
    assert (first.harm, second.harm) == (50 * MINUTE, 130 * MINUTE)


def test_units_and_hazards_have_their_own_dangers_in_the_order_of_time() -> None:
    hazards = [
        RUNAWAY,
        Hazard("overpressure", "超压", "overpressure", "III", ("pressure",), response=60.0, source="test"),
    ]
    units = [
        Unit(unit.enterprise, unit.unit, unit.points | {"overpressure": (f"PI-{unit.unit}",)})
        for unit in UNITS
    ]
    run = Watcher([hazard.name for hazard in hazards], 3)
    run.tell(MINUTE, {"runaway": np.int8([0, 0, 2]), "overpressure": np.int8([0, 0, 0])})
    run.tell(2 * MINUTE, {"runaway": np.int8([2, 0, 2]), "overpressure": np.int8([0, 2, 0])})
    dangers, _ = derived(hazards, units, run, run, END)
    assert [(danger.hazard, danger.unit, danger.points, danger.tier) for danger in dangers] == [
        ("runaway", "R-3", ("TI-3",), "II"),
        ("runaway", "R-1", ("TI-1A", "TI-1B"), "II"),
        ("overpressure", "R-2", ("PI-R-2",), "III"),
    ]


courses = st.dictionaries(st.integers(0, END // MINUTE - 1), st.sampled_from(Stage), max_size=12)


@given(courses, courses)
def test_an_alert_is_of_use_until_people_have_no_more_time_or_the_danger_is_over(
    actual: dict[int, Stage], unaided: dict[int, Stage]
) -> None:
    for danger in told(watched(*actual.items()), watched(*unaided.items()))[0]:
        bounds = [END if danger.ended is None else danger.ended]
        if danger.harm is not None:
            needed = danger.harm - round(RUNAWAY.response * 1_000_000)
            assert danger.in_time == (needed >= danger.earliest)
            bounds.append(needed if danger.in_time else danger.harm)
        assert danger.in_time or danger.harm is not None
        assert danger.latest == min(bounds)
        assert danger.latest >= danger.earliest


@given(st.lists(st.lists(st.sampled_from(Stage), min_size=3, max_size=3), max_size=30))
def test_the_watcher_keeps_every_change_of_every_unit_and_nothing_else(rounds: list[list[Stage]]) -> None:
    watcher = Watcher(["runaway"], 3)
    reused = np.zeros(3, np.int8)
    for time, stages in enumerate(rounds):
        reused[:] = stages
        watcher.tell(time, {"runaway": reused})
    for unit in range(3):
        courses = [SAFE, *(stages[unit] for stages in rounds)]
        changes = [(time, now) for time, now in enumerate(courses[1:]) if now != courses[time]]
        assert watcher.changes("runaway").get(unit, []) == changes


def test_a_watcher_is_told_forwards_and_of_all_its_units() -> None:
    watcher = Watcher(["runaway"], 3)
    watcher.tell(5, {"runaway": np.zeros(3, np.int8)})
    with pytest.raises(ValueError, match="not after"):
        watcher.tell(5, {"runaway": np.zeros(3, np.int8)})
    with pytest.raises(ValueError, match="shape"):
        watcher.tell(6, {"runaway": np.zeros(1, np.int8)})
    with pytest.raises(KeyError):
        watcher.tell(7, {})


def truth(*dangers: Danger, excused: tuple[Stretch, ...] = ()) -> Truth:
    return Truth(
        scenario="test",
        seed=1,
        begin=0,
        end=END,
        enterprises=(PLANT, OTHER),
        dangers=dangers,
        excused=excused,
    )


def danger(identity: str = "d", *, earliest: int = 60, ended: int | None = 90, **more: object) -> Danger:
    return Danger(
        id=identity,
        enterprise=PLANT,
        unit="R-1",
        hazard="runaway",
        zh="反应失控",
        en="runaway",
        tier="II",
        points=("TI-1A",),
        earliest=earliest * MINUTE,
        danger=(earliest + 5) * MINUTE,
        latest=(earliest + 20) * MINUTE,
        ended=None if ended is None else ended * MINUTE,
        why="test",
        **more,
    )


def test_it_is_quiet_where_no_danger_and_no_disturbance_is_near() -> None:
    stretch = Stretch(enterprise=PLANT, points=("TI-2",), begin=0, end=10 * MINUTE, why="test")
    whole = truth(danger(), danger("e", earliest=200, ended=None), excused=(stretch,))
    assert quiet(whole, PLANT) == [
        (10 * MINUTE + GRACE, 60 * MINUTE - EARLY),
        (90 * MINUTE + GRACE, 200 * MINUTE - EARLY),
    ]
    assert quiet(whole, OTHER) == [(0, END)]


def test_it_is_not_quiet_in_a_long_danger_after_a_short_one() -> None:
    whole = truth(danger(earliest=60, ended=200), danger("e", earliest=70, ended=75))
    assert quiet(whole, PLANT) == [(0, 60 * MINUTE - EARLY), (200 * MINUTE + GRACE, END)]


times = st.integers(0, END // MINUTE - 1)


@given(st.lists(st.tuples(times, times, st.booleans()), max_size=6), times)
def test_a_moment_is_quiet_or_near_to_something(parts: list[tuple[int, int, bool]], minute: int) -> None:
    dangers = [
        danger(str(number), earliest=first, ended=first + lasts)
        for number, (first, lasts, dangerous) in enumerate(parts)
        if dangerous
    ]
    excused = tuple(
        Stretch(
            enterprise=PLANT,
            points=("TI-1A",),
            begin=first * MINUTE,
            end=(first + lasts) * MINUTE,
            why="test",
        )
        for first, lasts, dangerous in parts
        if not dangerous
    )
    whole, now = truth(*dangers, excused=excused), minute * MINUTE
    near = [(heard(whole, one)[0] - EARLY, heard(whole, one)[1]) for one in dangers]
    near += [heard(whole, stretch) for stretch in excused]
    free = quiet(whole, PLANT)
    assert any(begin <= now < end for begin, end in free) == all(
        not begin <= now < end for begin, end in near
    )
    assert free == sorted(free)
    assert all(0 <= begin < end <= END for begin, end in free)


def test_a_truth_is_the_same_after_it_was_written_down() -> None:
    whole = truth(
        danger(gateway="gw1", harm=None),
        danger("e", earliest=200, ended=None),
        excused=(Stretch(enterprise=PLANT, points=("TI-2",), gateway="gw1", begin=0, end=5, why="test"),),
    )
    assert decode(encode(whole)) == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seed"', b'"sede"'),
        (b'"II"', b'"V"'),
        (b'"why"', b'"reason": "", "why"'),
        (b'"latest": 4800000000', b'"latest": 1'),
    ],
)
def test_what_is_no_truth_is_refused(old: bytes, new: bytes) -> None:
    text = encode(truth(danger()))
    assert old in text
    with pytest.raises(msgspec.ValidationError):
        decode(text.replace(old, new))


def test_dangers_have_their_own_ids_and_lie_in_the_run_and_in_its_enterprises() -> None:
    with pytest.raises(ValueError, match="same id"):
        truth(danger(), danger())
    with pytest.raises(ValueError, match="between"):
        truth(danger(earliest=240, ended=None))
    with pytest.raises(ValueError, match="91370281MA3TR9999Z"):
        truth(excused=(Stretch(enterprise="91370281MA3TR9999Z", points=(), begin=0, end=1, why="test"),))
