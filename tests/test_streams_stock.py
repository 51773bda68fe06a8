"""What tanks hold together against what is permitted: each sentence of docs/point-rules.md by an example."""

from dataclasses import replace

from registry.clock import SECOND
from registry.model import Holding, Registry, Tank
from streams.engine import PointEngine
from tests.build import RULEBOOK, PointSpec, make_registry
from tests.site import ONE, START, Site, brief, when

NAN = float("nan")
FLAT = (0.0, 100.0), (0.0, 50.0)
SPHERE = (0.0, 50.0, 100.0), (0.0, 10.0, 50.0)


def registry(permitted: float = 60.0, declared: float = 0.0, version: str = "test-1") -> Registry:
    """Ammonia in two tanks, level in %: A holds half a tonne for each, B less in its lower half."""
    made = make_registry(
        [PointSpec(id="A", interval=9 * SECOND), PointSpec(id="B", range_high=110.0), PointSpec(id="C")],
        version=version,
    )
    rows = made.rows[ONE]
    tanks = (Tank(rows["A"], *FLAT), Tank(rows["B"], *SPHERE))
    holding = Holding(ONE, "nh3", "液氨", "R1", "7664-41-7", permitted, declared, tanks, "GB 18218-2018")
    return replace(made, holdings=(holding,))


def stored(**changed: float) -> Site:
    return Site(engine=PointEngine(registry(**changed), START, RULEBOOK))


def test_tanks_that_hold_more_together_than_is_permitted() -> None:
    site = stored(declared=10.0)
    assert site.hear(1, ("A", 1, 80.0), ("B", 1, 40.0)) == []
    [begun] = site.hear(2, ("B", 2, 62.5))
    assert (begun.rule, begun.subject, begun.name) == ("chemical.overstored", "chemical:nh3", "液氨")
    assert (begun.kind, begun.within, begun.clause) == ("7664-41-7", ("unit:R1",), "GB 18218-2018")
    assert (begun.value, begun.limit, begun.unit, begun.since) == (70.0, 60.0, "t", when(2))
    assert begun.evidence == ("A 40 t", "B 20 t")
    assert site.hear(3, ("A", 3, 59.0)) == []
    [ended] = site.hear(4, ("A", 4, 58.6))
    assert (ended.phase, round(ended.value or 0, 6)) == ("ended", 59.3)


def test_what_is_permitted_exactly_is_too_much_and_over_below_99_per_cent() -> None:
    site = stored()
    site.hear(1, ("B", 1, 50.0))
    assert brief(site.hear(2, ("A", 2, 100.0))) == ["2 chemical.overstored begun"]
    assert site.hear(3, ("A", 3, 98.8)) == []
    assert brief(site.hear(4, ("A", 4, 98.79))) == ["4 chemical.overstored ended"]


def test_less_is_known_only_where_every_tank_is() -> None:
    site = stored(permitted=40.0)
    assert brief(site.hear(1, ("A", 1, 90.0))) == ["1 chemical.overstored begun"], "whatever B holds"
    assert brief(site.hear(2, ("A", 2, 50.0))) == ["2 chemical.overstored unknown"]
    assert brief(site.hear(3, ("B", 3, 40.0))) == [
        "3 chemical.overstored resumed",
        "3 chemical.overstored ended",
    ]
    assert brief(site.hear(4, ("B", 4, 80.0))) == ["4 chemical.overstored begun"]
    assert brief(site.hear(5, ("B", 5, 120.0))) == ["5 range begun", "5 chemical.overstored unknown"]
    assert brief(site.hear(6, ("A", 6, 100.0))) == ["6 chemical.overstored resumed"]
    assert brief(site.hear(7, ("A", 7, NAN))) == ["7 chemical.overstored unknown"]


def test_a_tank_that_is_silent_is_not_known() -> None:
    site = stored()
    site.hear(0, ("A", 0, 80.0), ("B", 0, 100.0))
    said = [f for t in range(1, 12) for f in brief(site.hear(t, ("B", t, 100.0 - t)))]
    assert said == ["9 silent begun", "9 chemical.overstored unknown"]
    assert brief(site.hear(12, ("A", 12, 80.0))) == ["12 silent ended", "12 chemical.overstored resumed"]


def test_a_changed_permission_is_applied_from_the_next_reading_on() -> None:
    site = stored()
    site.hear(1, ("A", 1, 80.0), ("B", 1, 50.0))
    assert site.engine.reconfigure(registry(permitted=30.0, version="test-2"), RULEBOOK, when(2)) == []
    assert brief(site.hear(3, ("B", 3, 50.0))) == ["3 chemical.overstored begun"]
    none = replace(registry(version="test-3"), holdings=())
    assert brief(site.engine.reconfigure(none, RULEBOOK, when(4))) == ["4 chemical.overstored withdrawn"]


def test_ordinary_readings_only_leave_their_value(monkeypatch) -> None:
    site = stored()
    site.hear(1, ("A", 1, 40.0), ("B", 1, 50.0))
    looked_at = []
    evaluate = site.engine._stock._evaluate
    monkeypatch.setattr(site.engine._stock, "_evaluate", lambda *of: looked_at.append(of) or evaluate(*of))
    for second in range(2, 50):
        site.hear(second, ("A", second, 40.0 + second / 10), ("B", second, 50.0))
    assert looked_at == []
    assert brief(site.hear(50, ("A", 50, 100.0))) == ["50 chemical.overstored begun"]
