"""When a value will reach a limit: told in time on a slope, and never by noise."""

from random import Random

import pytest

from registry.clock import MINUTE, SECOND
from tests.build import PointSpec
from tests.site import Site, brief, when

S = SECOND
NAN = float("nan")


def forecast(**rules: object) -> PointSpec:
    usual = {"L": 20.0, "H": 80.0, "HH": 90.0, "ahead": 10 * MINUTE, "ahead_over": 5 * MINUTE}
    return PointSpec(id="A", **(usual | rules))


def test_a_slope_that_reaches_a_limit_within_the_time_ahead() -> None:
    site = Site(forecast())
    told = [f for second in range(0, 1300, 5) for f in site.hear(second, ("A", second, 50.0 + second / 40))]
    assert brief(told) == [
        "600 time_to_limit begun H",
        "1200 limit.high begun H",
        "1200 time_to_limit worsened HH",
    ]
    begun = told[0]
    assert (begun.value, begun.limit, begun.unit, begun.since) == (10.0, 10.0, "min", when(600))
    assert begun.evidence == ("H 80 °C", "+1.5 °C/min", "100%")
    assert begun.tier == 1, "a forecast has the tier of its rule, not that of the limit it speaks of"


def test_down_it_is_the_low_limit_and_it_is_over_when_the_slope_is_gone() -> None:
    site = Site(forecast())
    fall = [max(50.0 - second / 40, 35.0) for second in range(0, 1500, 5)]
    told = site.values(*fall, first=0, every=5)
    assert told[0] == "600 time_to_limit begun L"
    assert [words.split()[2] for words in told] == ["begun", "ended"]
    assert 600 < float(told[1].split()[0]) <= 900


def test_wild_values_and_noise_do_not_hide_a_slope() -> None:
    random = Random(1)
    rise = [
        50.0 + t / 40 + random.gauss(0, 0.4) - (30.0 if random.random() < 0.05 else 0) for t in range(900)
    ]
    site = Site(forecast(L=NAN, H=NAN, HH=80.0))
    [begun, *_] = site.values(*rise, first=0)
    assert begun.split()[1:] == ["time_to_limit", "begun", "HH"]
    assert 560 <= float(begun.split()[0]) <= 680


@pytest.mark.parametrize("every", [1, 5, 30])
@pytest.mark.parametrize("noise", [0.05, 0.5, 2.0])
def test_noise_is_no_slope(every: int, noise: float) -> None:
    for seed in range(10):
        random = Random(seed)
        values = [78.0 - 3 * noise + random.gauss(0, noise) for _ in range(0, 3600, every)]
        said = Site(forecast(H=80.0 + noise, HH=90.0)).values(*values, first=0, every=every)
        assert [words for words in said if "time_to_limit" in words] == []


def test_a_slope_about_the_least_does_not_chatter() -> None:
    random = Random(3)
    site = Site(forecast())
    rise = [50.0 + 0.02 * t + random.gauss(0, 0.3) for t in range(1400)]
    said = [words.split()[2] for words in site.values(*rise, first=0) if "time_to_limit" in words]
    assert said == ["begun"]


def test_an_unknown_value_makes_it_unknown_and_a_gap_clears_nothing() -> None:
    site = Site(forecast())
    rise = [50.0 + t / 40 for t in range(0, 700, 5)]
    assert site.values(*rise, first=0, every=5) == ["600 time_to_limit begun H"]
    assert brief(site.hear(700, ("A", 700, NAN))) == ["700 time_to_limit unknown H"]
    [resumed] = site.hear(760, ("A", 760, 69.0))
    assert (resumed.phase, resumed.value) == ("resumed", None)
    assert brief(site.hear(1400, ("A", 1400, 69.0))) == ["1400 time_to_limit ended H"]


def test_where_time_goes_back_the_samples_begin_anew() -> None:
    site, said = Site(forecast(HH=NAN)), []
    for t in range(0, 900, 5):
        said += brief(site.hear(t, ("A", t + (40 if t < 500 else 0), 50.0 + t / 40)))
    assert said == ["515 clock begun", "520 clock ended", "695 time_to_limit begun H"], (
        "ten samples, 20 s apart"
    )


def test_ten_samples_are_needed() -> None:
    said = Site(forecast()).values(*[50.0 + 2 * n for n in range(20)], first=0, every=40)
    assert [words for words in said if "time_to_limit" in words] == []
