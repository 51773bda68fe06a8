"""Alerts are scored by the truth alone: what was told of in time, too low, late or never, and what rang for nothing."""

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.score import HEADER, Raised, Score, markdown, score, span, table
from simulators.truth import EARLY, GRACE, MINUTE, SECOND, Danger, Stretch, Tier, Truth, quiet

PLANT, OTHER = "91370281MA3TR1101K", "91370281MA3TR2202X"
HOUR = 60 * MINUTE
END = 24 * HOUR
TIERS: tuple[Tier, ...] = ("IV", "III", "II", "I")

_number = count()


def danger(identity: str = "d", **changed: object) -> Danger:
    """Could be known at 10:00, dangerous from 10:05 to 11:00, of use until 10:30."""
    usual = {
        "enterprise": PLANT,
        "unit": "R-1",
        "hazard": "runaway",
        "zh": "反应失控",
        "en": "runaway",
        "tier": "II",
        "points": ("TI-1", "TI-2"),
        "earliest": 10 * HOUR,
        "danger": 10 * HOUR + 5 * MINUTE,
        "latest": 10 * HOUR + 30 * MINUTE,
        "ended": 11 * HOUR,
        "why": "test",
    }
    return Danger(id=identity, **(usual | changed))


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


def alert(*calls: tuple[int, Tier], points: tuple[str, ...] = ("TI-1",), **more: object) -> Raised:
    """An alert that calls people at these moments; one that calls nobody must say when it was raised."""
    raised = more.get("raised", calls[0][0] if calls else None)
    usual = {
        "id": f"a{next(_number)}",
        "enterprise": PLANT,
        "rule": "limit.high",
        "subject": "/".join(points),
        "tier": max((tier for _, tier in calls), key=TIERS.index, default="IV"),
        "raised": raised,
        "since": raised,
    }
    return Raised(points=points, calls=calls, **(usual | more))


def at(hour: int, minute: float = 0) -> int:
    return hour * HOUR + round(minute * MINUTE)


def counts(one: Score) -> dict[str, int]:
    names = ("detected", "too_low", "too_fast", "late", "missed")
    names += ("attributed", "excused", "early", "false", "recorded")
    return {name: getattr(one, name) for name in names if getattr(one, name)}


def test_a_danger_is_detected_by_an_alert_of_its_tier_in_time() -> None:
    one = score(truth(danger()), [alert((at(10, 30), "II"), rule="rate.high")])
    assert counts(one) == {"detected": 1, "attributed": 1}
    [danger_score] = one.dangers
    assert (danger_score.outcome, danger_score.delay_s, danger_score.delay_to_tier_s) == (
        "detected",
        1800,
        1800,
    )
    assert (danger_score.alerts, danger_score.rule, danger_score.subject) == (1, "rate.high", "TI-1")
    assert one.alerts[0].dangers == ("d",)


def test_a_worsening_detects_a_danger_that_was_seen_too_low_at_first() -> None:
    one = score(truth(danger()), [alert((at(10, 1), "IV"), (at(10, 4), "III"), (at(10, 20), "I"))])
    assert counts(one) == {"detected": 1, "attributed": 1}
    assert (one.dangers[0].delay_s, one.dangers[0].delay_to_tier_s, one.dangers[0].alerts) == (60, 1200, 1)
    assert one.alerts[0].tier == "I"


def test_two_alerts_together_detect_a_danger() -> None:
    low, high = alert((at(10, 1), "IV")), alert((at(10, 20), "II"), points=("TI-2",))
    one = score(truth(danger()), [low, high])
    assert counts(one) == {"detected": 1, "attributed": 2}
    assert (one.dangers[0].alerts, one.dangers[0].subject) == (2, "TI-1")


@pytest.mark.parametrize("tiers", [[(at(10, 1), "III")], [(at(10, 1), "III"), (at(10, 30) + 1, "II")]])
def test_a_danger_seen_in_time_but_not_at_its_tier_in_time_is_too_low(tiers: list[tuple[int, Tier]]) -> None:
    one = score(truth(danger()), [alert(*tiers)])
    assert counts(one) == {"too_low": 1, "attributed": 1}
    assert one.dangers[0].delay_to_tier_s == (None if len(tiers) == 1 else pytest.approx(1800, abs=0.01))


@pytest.mark.parametrize("moment", [at(10, 30) + 1, 11 * HOUR + GRACE - 1])
def test_a_danger_first_seen_when_an_alert_is_of_no_more_use_is_late(moment: int) -> None:
    one = score(truth(danger()), [alert((moment, "I"))])
    assert counts(one) == {"late": 1, "attributed": 1}
    assert one.max_delay_s == (moment - 10 * HOUR) / SECOND


FAST = danger("fast", in_time=False, harm=at(10, 4), danger=at(10, 2), latest=at(10, 4))


@pytest.mark.parametrize(
    ("calls", "outcome", "delays"),
    [
        ([(at(10, 4), "I")], "too_fast", (240, 240)),
        ([(at(10, 1), "IV")], "too_fast", (60, None)),
        ([(at(10, 4) + 1, "I")], "late", (240.000001, 240.000001)),
        ([], "missed", (None, None)),
    ],
)
def test_where_harm_comes_sooner_than_people_could_act_they_can_only_be_warned(
    calls: list[tuple[int, Tier]], outcome: str, delays: tuple[float | None, float | None]
) -> None:
    one = score(truth(FAST), [alert(*calls)] if calls else [])
    assert counts(one) == {outcome: 1} | ({"attributed": 1} if calls else {})
    assert one.dangers[0].outcome == outcome
    assert (one.dangers[0].delay_s, one.dangers[0].delay_to_tier_s) == delays


def test_an_alert_that_no_phone_rang_for_tells_of_nothing() -> None:
    for moment, verdict in ((at(10, 1), "attributed"), (at(9, 55), "early"), (at(2), "false")):
        one = score(truth(danger()), [alert(raised=moment, tier="I")])
        assert counts(one) == {"missed": 1, verdict: 1}
        assert (one.dangers[0].alerts, one.alerts[0].dangers, one.alerts[0].tier) == (0, (), "I")


def test_a_danger_is_told_of_when_a_phone_rings_not_when_the_alert_is_raised() -> None:
    one = score(truth(danger()), [alert((at(10, 31), "I"), raised=at(10, 1))])
    assert counts(one) == {"late": 1, "attributed": 1}


def test_a_worsening_that_calls_nobody_does_not_count() -> None:
    one = score(truth(danger()), [alert((at(10, 1), "III"), tier="I")])
    assert counts(one) == {"too_low": 1, "attributed": 1}
    assert (one.dangers[0].delay_to_tier_s, one.alerts[0].tier) == (None, "I")
    before = alert((at(2), "IV"), tier="I", confirmed=at(2, 5))
    assert counts(score(truth(danger()), [before])) == {"missed": 1, "false": 1}


def test_a_danger_that_did_not_end_is_heard_until_the_end_of_the_run() -> None:
    one = score(truth(danger(ended=None)), [alert((END - 1, "I"))])
    assert counts(one) == {"late": 1, "attributed": 1}


@pytest.mark.parametrize(
    "elsewhere",
    [
        alert((11 * HOUR + GRACE, "I")),
        alert((at(10, 10), "I"), points=("TI-9",)),
        alert((at(10, 10), "I"), enterprise=OTHER),
        alert((at(10, 10), "I"), points=(), gateway="gw1"),
        alert((at(10, 0) - EARLY - 1, "I"), confirmed=at(10)),
    ],
    ids=["later", "other point", "other enterprise", "gateway", "much earlier"],
)
def test_an_alert_at_another_time_or_place_misses_the_danger_and_is_false(elsewhere: Raised) -> None:
    one = score(truth(danger()), [elsewhere])
    assert counts(one) == {"missed": 1, "false": 1}
    assert (one.dangers[0].delay_s, one.dangers[0].rule, one.dangers[0].alerts) == (None, "", 0)
    assert one.median_delay_s is None


def test_an_alert_of_its_gateway_is_of_a_danger() -> None:
    dead = danger(hazard="blind.gateway", gateway="gw1", tier="III")
    silence = alert((at(10, 3), "III"), points=(), gateway="gw1", device=True)
    assert counts(score(truth(dead), [silence])) == {"detected": 1, "attributed": 1}
    other = alert((at(10, 3), "III"), points=(), gateway="gw2", device=True)
    assert counts(score(truth(dead), [other])) == {"missed": 1, "false": 1}


@pytest.mark.parametrize("device", [True, False])
def test_of_a_dead_gateway_only_its_own_alert_tells_and_those_of_its_points_are_excused(
    device: bool,
) -> None:
    dead = danger(hazard="blind.gateway", points=(), gateway="gw1", tier="IV")
    behind = Stretch(
        enterprise=PLANT, points=("TI-1", "TI-2"), begin=10 * HOUR, end=11 * HOUR, why="its gateway is dead"
    )
    whole = truth(dead, excused=(behind,))
    points = [
        alert((at(10, 3), "IV"), device=device),
        alert((11 * HOUR + GRACE - 1, "IV"), points=("TI-2",), device=device),
    ]
    assert counts(score(whole, points)) == {"missed": 1, "excused": 2}
    assert counts(score(truth(dead), points)) == {"missed": 1, "false": 2}
    gateway = alert((at(10, 5), "IV"), points=(), gateway="gw1", device=True)
    one = score(whole, [*points, gateway])
    assert counts(one) == {"detected": 1, "attributed": 1, "excused": 2}
    assert (one.dangers[0].delay_s, one.dangers[0].alerts) == (300, 1)


def test_an_alert_about_a_device_tells_of_no_danger_of_the_plant_and_is_excused_beside_it() -> None:
    inside = [alert((moment, "I"), device=True) for moment in (10 * HOUR, 11 * HOUR + GRACE - 1)]
    one = score(truth(danger()), inside)
    assert counts(one) == {"missed": 1, "excused": 2}
    assert [alert_score.dangers for alert_score in one.alerts] == [(), ()]
    outside = [
        alert((10 * HOUR - 1, "I"), device=True),
        alert((11 * HOUR + GRACE, "I"), device=True),
        alert((at(10, 1), "I"), points=("TI-9",), device=True),
    ]
    assert counts(score(truth(danger()), outside)) == {"missed": 1, "false": 3}


@pytest.mark.parametrize("device", [True, False])
def test_a_point_that_is_blind_is_told_of_by_any_alert_of_it(device: bool) -> None:
    blind = danger(hazard="blind.frozen", tier="IV")
    one = score(truth(blind), [alert((at(10, 3), "IV"), device=device)])
    assert counts(one) == {"detected": 1, "attributed": 1}


def test_an_alert_shortly_before_is_early_and_counts_from_when_the_danger_could_be_known_if_it_is_on() -> (
    None
):
    whole = truth(danger())
    before = 10 * HOUR - EARLY
    for confirmed in (None, before + 1):
        one = score(whole, [alert((before, "II"), confirmed=confirmed)])
        assert counts(one) == {"detected": 1, "early": 1}
        assert (one.dangers[0].delay_s, one.alerts[0].dangers) == (0, ("d",))
    gone = score(whole, [alert((before, "II"), ended=10 * HOUR)])
    assert counts(gone) == {"missed": 1, "early": 1}


def test_what_rang_for_another_danger_and_still_waits_for_somebody_counts() -> None:
    toxic = danger("toxic", earliest=9 * HOUR, danger=9 * HOUR, latest=10 * HOUR, tier="III")
    calls: list[tuple[int, Tier]] = [(at(9, 1), "III"), (at(9, 30), "II")]
    one = score(truth(toxic, danger()), [alert(*calls)])
    assert counts(one) == {"detected": 2, "attributed": 1}
    assert one.alerts[0].dangers == ("toxic", "d")
    known = score(truth(toxic, danger()), [alert(*calls, confirmed=at(9, 40))])
    assert counts(known) == {"detected": 1, "missed": 1, "attributed": 1}
    assert known.alerts[0].dangers == ("toxic",)


def test_what_rang_long_before_counts_only_while_nobody_has_confirmed_it() -> None:
    whole = truth(danger())
    for confirmed in (None, 10 * HOUR + 1):
        one = score(whole, [alert((at(2), "II"), confirmed=confirmed)])
        assert counts(one) == {"detected": 1, "false": 1}
        assert (one.dangers[0].delay_s, one.alerts[0].dangers) == (0, ("d",))
    for confirmed in (at(2, 5), 10 * HOUR):
        one = score(whole, [alert((at(2), "II"), confirmed=confirmed)])
        assert counts(one) == {"missed": 1, "false": 1}
    gone = score(whole, [alert((at(2), "II"), ended=10 * HOUR)])
    assert counts(gone) == {"missed": 1, "false": 1}


@pytest.mark.parametrize(("again", "delay_s"), [(at(10, 10), 600), (10 * HOUR - 1, 0), (at(10) - EARLY, 0)])
def test_what_rang_for_nothing_and_was_confirmed_counts_only_once_it_calls_again(
    again: int, delay_s: float
) -> None:
    whole = truth(danger())
    assert counts(score(whole, [alert((at(2), "II"), confirmed=at(2, 5))])) == {"missed": 1, "false": 1}
    one = score(whole, [alert((at(2), "IV"), (again, "II"), confirmed=at(2, 5))])
    assert counts(one) == {"detected": 1, "false": 1}
    assert (one.dangers[0].delay_s, one.dangers[0].delay_to_tier_s) == (delay_s, delay_s)


def test_a_disturbance_excuses_the_alerts_of_its_points_or_gateway_and_no_others() -> None:
    stretch = Stretch(
        enterprise=PLANT, points=("TI-1",), gateway="gw1", begin=2 * HOUR, end=3 * HOUR, why="test"
    )
    whole = truth(excused=(stretch,))
    inside = [
        alert((2 * HOUR, "II")),
        alert((3 * HOUR + GRACE - 1, "IV")),
        alert((at(2, 5), "IV"), points=(), gateway="gw1"),
    ]
    assert counts(score(whole, inside)) == {"excused": 3}
    outside = [
        alert((2 * HOUR - 1, "II")),
        alert((3 * HOUR + GRACE, "IV")),
        alert((at(2, 5), "IV"), points=("TI-2",)),
        alert((at(2, 5), "IV"), enterprise=OTHER),
    ]
    assert counts(score(whole, outside)) == {"false": 4}


def test_what_was_only_recorded_is_no_alert() -> None:
    one = score(truth(danger()), [alert((at(10, 1), "II"), late=True), alert((at(2), "II"), late=True)])
    assert counts(one) == {"missed": 1, "recorded": 2}
    assert one.alerts == ()


def test_alarms_are_the_early_and_false_alerts_of_each_operator_and_day() -> None:
    stretch = Stretch(enterprise=OTHER, points=("TI-2",), begin=2 * HOUR, end=3 * HOUR, why="test")
    whole = msgspec.structs.replace(truth(danger(), excused=(stretch,)), end=2 * END)
    wrong = [
        alert((at(9, 55), "IV")),  # early
        *(alert((at(13, minute), "IV"), points=("TI-9",)) for minute in range(3)),
        alert((at(10, 10), "IV"), points=("TI-9",)),  # false, though not in quiet time
        alert((at(2), "IV"), enterprise=OTHER),
    ]
    right = [
        alert((at(10, 1), "II")),
        alert((at(2, 10), "IV"), points=("TI-2",), enterprise=OTHER),
        alert((at(2), "IV"), late=True),
    ]
    one = score(whole, [*wrong, *right])
    assert counts(one) == {
        "detected": 1,
        "attributed": 1,
        "excused": 1,
        "early": 1,
        "false": 5,
        "recorded": 1,
    }
    assert one.alarms_per_day == pytest.approx(6 / 2 / 2)
    assert one.most_alarms_per_day == pytest.approx(5 / 2)


def test_without_early_and_false_alerts_the_rate_of_alarms_is_nought() -> None:
    everywhere = tuple(
        Stretch(enterprise=enterprise, points=("TI-1",), begin=0, end=END, why="test")
        for enterprise in (PLANT, OTHER)
    )
    for whole, some in ((truth(excused=everywhere), [alert((at(2), "IV"))]), (truth(), [])):
        one = score(whole, some)
        assert (one.alarms_per_day, one.most_alarms_per_day) == (0, 0)
    nobody = Truth(scenario="test", seed=1, begin=0, end=END, enterprises=(), dangers=(), excused=())
    assert score(nobody, []).alarms_per_day == 0


def test_delays_are_of_all_dangers_that_had_an_alert() -> None:
    dangers = [danger(str(number), points=(f"TI-{number}",)) for number in range(4)]
    alerts = [alert((at(10, 10 * number), "II"), points=(f"TI-{number}",)) for number in (1, 2, 4)]
    one = score(truth(*dangers), alerts[:2])
    assert (one.median_delay_s, one.max_delay_s, one.missed) == (900, 1200, 2)


def test_alerts_that_cannot_be_of_this_run_are_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        score(truth(), [alert((1, "IV"), id="a"), alert((2, "IV"), id="a")])
    with pytest.raises(ValueError, match="does not know"):
        score(truth(), [alert((1, "IV"), enterprise="91370281MA3TR9999Z")])


minutes = st.integers(0, END // MINUTE - 1)
some_points = st.lists(st.sampled_from(["TI-1", "TI-2", "TI-3"]), min_size=1, max_size=3, unique=True).map(
    tuple
)
enterprises = st.sampled_from([PLANT, OTHER])


@st.composite
def dangers(draw: st.DrawFn, identity: str) -> Danger:
    """Of points, or of a gateway, which is known by its own silence alone."""
    earliest, lasts, use = draw(minutes), draw(st.integers(0, 300)), draw(st.integers(0, 300))
    points = draw(some_points | st.just(()))
    return danger(
        identity,
        enterprise=draw(enterprises),
        hazard=draw(st.sampled_from(["runaway", "blind.frozen"])) if points else "blind.gateway",
        tier=draw(st.sampled_from(TIERS)),
        points=points,
        gateway="" if points else "gw1",
        earliest=earliest * MINUTE,
        danger=earliest * MINUTE,
        latest=(earliest + use) * MINUTE,
        ended=draw(st.none() | st.just((earliest + lasts) * MINUTE)),
        in_time=draw(st.booleans()),
    )


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    stretches = st.builds(
        lambda enterprise, points, begin, lasts: Stretch(
            enterprise=enterprise,
            points=points,
            begin=begin * MINUTE,
            end=(begin + lasts) * MINUTE,
            why="test",
        ),
        enterprises,
        some_points,
        minutes,
        st.integers(1, 120),
    )
    some = [draw(dangers(str(number))) for number in range(draw(st.integers(0, 4)))]
    return truth(*some, excused=tuple(draw(st.lists(stretches, max_size=3))))


@st.composite
def alerts(draw: st.DrawFn) -> list[Raised]:
    some = []
    for number in range(draw(st.integers(0, 8))):
        raised, *moments = sorted(draw(st.lists(minutes, min_size=1, max_size=4)))
        last = moments[-1] if moments else raised
        confirmed = draw(st.none() | st.integers(raised, last + 300))
        ended = draw(st.none() | st.integers(last, last + 300))
        some.append(
            alert(
                *((moment * MINUTE, draw(st.sampled_from(TIERS))) for moment in moments),
                points=draw(some_points | st.just(())),
                gateway=draw(st.sampled_from(["", "gw1"])),
                device=draw(st.booleans()),
                enterprise=draw(enterprises),
                raised=raised * MINUTE,
                confirmed=None if confirmed is None else confirmed * MINUTE,
                ended=None if ended is None else ended * MINUTE,
                id=str(number),
                late=draw(st.booleans()),
            )
        )
    return some


@given(truths(), alerts(), st.randoms())
def test_the_order_of_the_alerts_does_not_matter(whole: Truth, some: list[Raised], random) -> None:
    mixed = list(some)
    random.shuffle(mixed)
    assert score(whole, mixed) == score(whole, some)


@given(truths())
def test_a_perfect_product_tells_of_all_and_rings_for_nothing(whole: Truth) -> None:
    perfect = [
        alert(
            (one.earliest, one.tier),
            points=one.points,
            gateway=one.gateway,
            device=one.hazard.startswith("blind."),
            enterprise=one.enterprise,
        )
        for one in whole.dangers
    ]
    one = score(whole, perfect)
    assert one.attributed == len(whole.dangers)
    for told, was in zip(one.dangers, whole.dangers, strict=True):
        assert told.outcome == ("detected" if was.in_time else "too_fast")
        assert told.delay_to_tier_s == 0
    assert one.early == one.false == one.excused == 0
    assert one.alarms_per_day == one.most_alarms_per_day == 0


@given(truths())
def test_a_product_that_never_rings_misses_all(whole: Truth) -> None:
    one = score(whole, [])
    assert counts(one) == ({"missed": len(whole.dangers)} if whole.dangers else {})


@given(truths(), alerts(), some_points, enterprises, st.data())
def test_an_alert_confirmed_in_quiet_time_is_one_false_alert_and_changes_nothing_else(
    whole: Truth, some: list[Raised], points: tuple[str, ...], enterprise: str, data
) -> None:
    free = quiet(whole, enterprise)
    if not free:
        return
    begin, end = data.draw(st.sampled_from(free))
    moment = data.draw(st.integers(begin, end - 1))
    tier = data.draw(st.sampled_from(TIERS))
    more = alert((moment, tier), points=points, enterprise=enterprise, confirmed=moment)
    before, after = score(whole, some), score(whole, [*some, more])
    assert after.false == before.false + 1
    assert after.dangers == before.dangers
    assert after.alarms_per_day > before.alarms_per_day


@given(truths(), alerts())
def test_every_danger_has_one_outcome_and_every_alert_one_verdict(whole: Truth, some: list[Raised]) -> None:
    one = score(whole, some)
    assert one.detected + one.too_low + one.too_fast + one.late + one.missed == len(whole.dangers)
    assert one.attributed + one.excused + one.early + one.false + one.recorded == len(some)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Score) == one


@given(truths(), alerts())
def test_another_alert_never_makes_a_danger_worse_off(whole: Truth, some: list[Raised]) -> None:
    order = ["missed", "late", "too_fast", "too_low", "detected"]
    if some:
        fewer, more = score(whole, some[:-1]), score(whole, some)
        for less, now in zip(fewer.dangers, more.dangers, strict=True):
            assert order.index(now.outcome) >= order.index(less.outcome)


def test_the_table_has_a_row_for_each_run() -> None:
    seen = score(truth(danger()), [alert((at(10, 5), "II")), alert((at(2), "IV"), confirmed=at(3))])
    unseen = msgspec.structs.replace(score(truth(danger()), []), scenario="a|b")
    assert table([seen]) == [
        ("test", "1", "1", "1", "0", "0", "0", "0", "5.0 min", "5.0 min", "0", "1", "0.50", "1.00"),
    ]
    assert len(table([seen])[0]) == len(HEADER)
    lines = markdown([seen, unseen]).splitlines()
    assert lines[0].startswith("| scenario | seed | dangers |")
    assert lines[1].startswith("| --- | ---: | ---: |")
    assert lines[3].startswith(r"| a\|b | 1 | 1 | 0 | 0 | 0 | 0 | 1 | – | – |")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.4, "0 s"), (119, "119 s"), (750, "12.5 min"), (11520, "3.2 h")]
)
def test_a_delay_reads_as_people_say_it(seconds: float | None, text: str) -> None:
    assert span(seconds) == text
