"""What templates give to points, and what they leave as it is."""

import math
from dataclasses import fields

import numpy as np

from registry.clock import SECOND
from registry.model import Points, Registry
from streams.rulebook import Rulebook, Template
from streams.templates import GIVEN, effective
from tests.build import PointSpec, make_registry

S = SECOND
GAS = Template(
    name="combustible_gas",
    kind="combustible_gas",
    engineering_unit="%LEL",
    given={
        **{"H": 25.0, "HH": 50.0, "H_reset": 20.0, "on_delay": 3.0 * S, "HH_on_delay": 1.0 * S},
        **{"off_delay": 10.0 * S, "interval": 60.0 * S, "rate": 5.0, "rate_over": 10.0 * S},
        **{"stuck_after": 600.0 * S, "stuck_within": 0.1, "ahead": 300.0 * S, "ahead_over": 120.0 * S},
        **{"alarm_state": 1.0, "state_delay": 5.0 * S},
    },
    clause="GB/T 50493-2019",
)
RULEBOOK = Rulebook(tiers={}, templates={"combustible_gas": GAS})


def given(*points: PointSpec, rulebook: Rulebook = RULEBOOK) -> Points:
    return effective(make_registry(points), rulebook).points


def gas(**rules: object) -> PointSpec:
    return PointSpec(**{"id": "A", "kind": "combustible_gas", "engineering_unit": "%LEL", **rules})


def test_a_point_that_says_nothing_is_given_everything() -> None:
    points = given(gas())
    assert repr(points.limit[0].tolist()) == "[nan, nan, 25.0, 50.0]"
    assert repr(points.reset[0].tolist()) == "[nan, nan, 20.0, 50.0]"
    assert points.on_delay[0].tolist() == [3 * S, 3 * S, 3 * S, S]
    assert points.off_delay[0].tolist() == [10 * S] * 4
    assert points.clause == ("GB/T 50493-2019",)
    assert points.interval[0] == 60 * S
    assert (points.rate[0], points.rate_over[0]) == (5.0, 10 * S)
    assert (points.stuck_after[0], points.stuck_within[0]) == (600 * S, 0.1)
    assert (points.ahead[0], points.ahead_over[0]) == (300 * S, 120 * S)
    assert (points.alarm_state[0], points.state_delay[0]) == (1.0, 5 * S)


def test_a_points_own_word_stands() -> None:
    own = gas(
        **{
            "L": 1.0,
            "on_delay": {"L": S},
            "off_delay": 2 * S,
            "interval": 5 * S,
            "rate": 1.0,
            "rate_over": S,
        },
        **{"stuck_after": S, "ahead": S, "ahead_over": 2 * S, "alarm_state": 0.0, "clause": "mine"},
    )
    before, after = make_registry([own]).points, given(own)
    for field in fields(Points):
        one, other = getattr(before, field.name), getattr(after, field.name)
        assert np.array_equal(
            one, other, equal_nan=field.name in ("limit", "reset", "range_low", "range_high")
        )


def test_what_is_measured_in_another_unit_is_not_given() -> None:
    points = given(gas(engineering_unit="ppm"))
    assert np.isnan(points.limit).all()
    assert np.isnan(points.reset).all()
    assert math.isnan(points.rate[0])
    assert points.stuck_after[0] == 0
    assert points.clause == ("",)
    assert points.interval[0] == 60 * S
    assert points.alarm_state[0] == 1.0


def test_a_point_may_name_another_template_than_its_kind() -> None:
    slow = Template(name="slow", kind="combustible_gas", given={"interval": 600.0 * S})
    rulebook = Rulebook(tiers={}, templates={"combustible_gas": GAS, "slow": slow})
    points = given(gas(), gas(id="B", template="slow"), gas(id="C", kind="other"), rulebook=rulebook)
    assert points.interval.tolist() == [60 * S, 600 * S, 0]
    assert np.isnan(points.limit[1:]).all()


def test_a_template_that_there_is_not_counts_as_none() -> None:
    points = given(gas(template="combustible_gas.tunel"), gas(id="B"))
    assert points.limit[0].tolist()[2:] == points.limit[1].tolist()[2:] == [25.0, 50.0]
    assert points.template == ("", "")


def test_the_registry_itself_stays_as_it_was() -> None:
    registry: Registry = make_registry([gas(), PointSpec(id="B")])
    assert effective(registry, RULEBOOK).version == registry.version
    assert np.isnan(registry.points.limit).all()
    assert registry.points.interval.tolist() == [0, 0]
    assert effective(registry, Rulebook(tiers={}, templates={"flow": GAS})) is registry
    nothing = Template(name="combustible_gas", kind="combustible_gas")
    assert effective(registry, Rulebook(tiers={}, templates={"combustible_gas": nothing})) is registry


def test_what_may_be_given_is_known_by_name() -> None:
    assert GAS.given.keys() <= GIVEN
