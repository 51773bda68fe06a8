"""The picture of a run shows its dangers and alerts, is the same every time, and prints no boxes for characters."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from msgspec.structs import replace

from simulators import plot as plot_module
from simulators.plot import COLOURS, MOST, Key, NoPlots, Signals, panels, plot
from simulators.score import Raised, score
from simulators.truth import MINUTE, Danger, Stretch, Tier, Truth

PLANT, OTHER = "91370281MA3TR1101K", "91370281MA3TR2202X"
BEGIN = 1_767_571_200_000_000  # 2026-01-05T00:00:00Z
END = BEGIN + 360 * MINUTE


def at(minute: int) -> int:
    return BEGIN + minute * MINUTE


def danger(
    identity: str = "d", tier: Tier = "II", points: tuple[str, ...] = ("TI-1", "TI-2"), **more: object
):
    return Danger(
        id=identity,
        enterprise=PLANT,
        unit="R-1101",
        hazard="runaway",
        zh="反应失控",
        en="runaway",
        tier=tier,
        points=points,
        earliest=at(100),
        danger=at(120),
        latest=at(200),
        ended=at(220),
        why="test",
        **more,
    )


def truth(*dangers: Danger, excused: tuple[Stretch, ...] = ()) -> Truth:
    return Truth(
        scenario="化工 $\\frac$ \U0001f525",
        seed=1,
        begin=BEGIN,
        end=END,
        enterprises=(PLANT, OTHER),
        dangers=dangers,
        excused=excused,
    )


def alert(identity: str, minute: int, points: tuple[str, ...] = ("TI-1",), **more: object) -> Raised:
    return Raised(
        id=identity,
        enterprise=PLANT,
        rule="limit.high",
        subject="test",
        points=points,
        calls=((at(minute), "IV"), (at(minute + 15), "II")),
        tier="II",
        raised=at(minute),
        since=at(minute),
        **more,
    )


def signals(*points: str, unit: str = "℃") -> Signals:
    time = BEGIN + np.arange(0, 360 * MINUTE, MINUTE // 2)
    values = 77 + np.sin(np.arange(time.size) / 40)
    values[600:650] = np.nan
    keys: list[Key] = [(PLANT, point) for point in points]
    return Signals(time, dict.fromkeys(keys, values), dict.fromkeys(keys, unit))


EXCUSED = Stretch(enterprise=PLANT, points=("TI-2",), begin=at(240), end=at(260), why="test")


def draw(path: Path, whole: Truth, raised: list[Raised], measured: Signals) -> bytes:
    plot(path, whole, raised, measured, score(whole, raised))
    return path.read_bytes()


def share(path: Path, colour: str, alpha: float) -> float:
    """How much of the picture has the colour, that much of it on white."""
    mixed = alpha * np.array(to_rgb(colour)) + 1 - alpha
    return float(np.mean(np.abs(imread(path)[:, :, :3] - mixed).max(axis=2) < 0.01))


def test_the_same_run_is_the_same_picture(tmp_path: Path) -> None:
    whole = truth(danger(gateway="gw1"), excused=(EXCUSED,))
    raised = [
        alert("a", 110),
        alert("b", 20),
        alert("c", 95, ("TI-2",)),
        alert("d", 245, ("TI-2",)),
        alert("e", 150, (), gateway="gw1"),
        alert("f", 130, late=True),
    ]
    first = draw(tmp_path / "a.png", whole, raised, signals("TI-1", "TI-2"))
    assert first.startswith(b"\x89PNG")
    assert struct.unpack(">II", first[16:24]) == (1200, 570)
    assert draw(tmp_path / "b.png", whole, raised, signals("TI-1", "TI-2")) == first
    assert draw(tmp_path / "c.png", whole, raised[:-2], signals("TI-1", "TI-2")) != first


@pytest.mark.parametrize("tier", COLOURS)
def test_a_danger_is_shaded_in_the_colour_of_its_tier_and_stronger_when_people_must_act(
    tmp_path: Path, tier: Tier
) -> None:
    draw(tmp_path / "a.png", truth(danger(tier=tier, points=("TI-1",))), [], signals("TI-1"))
    for other, colour in COLOURS.items():
        light, strong = share(tmp_path / "a.png", colour, 0.14), share(tmp_path / "a.png", colour, 0.36)
        if other == tier:
            assert strong == pytest.approx(5 * light, rel=0.25)  # 100 minutes and 20
            assert strong > 0.1
        else:
            assert light == strong == 0


def test_without_a_chinese_font_the_picture_is_in_english_and_has_no_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot_module, "CHINESE", ())
    whole = truth(danger(points=("温度",)))
    draw(
        tmp_path / "a.png", whole, [], signals("温度")
    )  # a missing character would be a warning, and so an error
    letters = plot_module._Letters.found()
    assert letters.name(whole.dangers[0]) == "runaway"
    assert letters.only("温度 TI-1 ℃") == "?? TI-1 ℃"


def test_with_a_chinese_font_a_danger_has_both_its_names(tmp_path: Path) -> None:
    letters = plot_module._Letters.found()
    if not letters.chinese:
        pytest.skip("this machine has no font with Chinese characters")
    assert letters.name(danger()) == "反应失控 runaway"
    assert letters.only("温度 反应失控") == "温度 反应失控"


def test_a_point_that_was_never_measured_has_its_panel(tmp_path: Path) -> None:
    time = signals("TI-1").time
    nothing = Signals(time, {(PLANT, "TI-1"): np.full(time.size, np.nan)})
    assert draw(tmp_path / "a.png", truth(danger()), [alert("a", 110)], nothing)


def test_every_danger_has_a_panel_before_any_has_two_and_alerts_and_disturbances_come_after() -> None:
    whole = truth(
        danger("d", points=("A1", "A2", "unknown")),
        danger("e", points=("B1", "B2")),
        excused=(EXCUSED,),
    )
    measured = signals("X", "TI-2", "TI-1", "B2", "B1", "A2", "A1", "C", "D")
    raised = [alert("a", 20), alert("late", 20, ("D",), late=True)]
    points = [point for _, point in panels(whole, raised, measured)]
    assert points == ["A1", "B1", "A2", "B2", "TI-1", "TI-2"]
    assert len(points) == MOST
    assert [point for _, point in panels(truth(), [], measured)] == ["X", "TI-2", "TI-1", "B2", "B1", "A2"]


def test_a_danger_that_only_its_gateway_shows_is_drawn_on_the_points_that_are_excused_with_it(
    tmp_path: Path,
) -> None:
    dead = danger(points=(), gateway="gw1", tier="I")
    behind = Stretch(
        enterprise=PLANT, points=("TI-2",), gateway="gw1", begin=at(100), end=at(220), why="test"
    )
    whole, measured = truth(dead, excused=(EXCUSED, behind)), signals("TI-1", "TI-2", "TI-3")
    rang = alert("a", 110, (), gateway="gw1")
    assert panels(truth(dead, excused=(behind,)), [alert("c", 20)], measured)[0] == (PLANT, "TI-2")
    drawn = draw(tmp_path / "a.png", whole, [rang], measured)
    again = alert("b", 150, (), gateway="gw1")
    assert draw(tmp_path / "b.png", whole, [rang, again], measured) != drawn
    elsewhere = truth(dead, excused=(EXCUSED, replace(behind, gateway="gw2")))
    assert draw(tmp_path / "c.png", elsewhere, [rang], measured) != drawn


def test_an_alert_that_called_nobody_is_not_drawn(tmp_path: Path) -> None:
    whole, measured = truth(danger()), signals("TI-1")
    silent = replace(alert("a", 110), calls=())
    assert draw(tmp_path / "a.png", whole, [silent], measured) == draw(
        tmp_path / "b.png", whole, [], measured
    )


def test_the_picture_says_what_became_of_every_danger() -> None:
    whole = truth(
        danger("fast", points=("F",), in_time=False, harm=at(200)),
        danger("low", "I", points=("L",)),
        danger("late", points=("A",)),
        danger("told", points=("T",)),
        danger("missed", points=("M",)),
    )
    raised = [alert("f", 110, ("F",)), alert("l", 110, ("L",)), alert("t", 110, ("T",))]
    raised.append(alert("a", 201, ("A",)))
    seen = score(whole, raised)
    assert [plot_module._outcome(one) for one in seen.dangers] == [
        "too fast to act, warned after 10.0 min",
        "too low, first alert after 10.0 min",
        "late, first alert after 101.0 min",
        "detected after 25.0 min",
        "missed",
    ]
    assert plot_module._title(whole, seen).endswith(
        "; dangers: 1 detected, 1 too low, 1 too fast, 1 late, 1 missed"
    )


def test_there_must_be_something_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no signal"):
        draw(tmp_path / "a.png", truth(), [], signals())


def test_without_matplotlib_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoPlots, match=r"pip install -e '\.\[plots\]'"):
        draw(tmp_path / "a.png", truth(danger()), [], signals("TI-1"))
