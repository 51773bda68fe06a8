"""The lifecycle's table: total, without dead rows, and what each part of it promises."""

from itertools import product

import pytest
from msgspec.structs import replace

from alerting import words
from alerting.alert import Alert, Answer, Condition, Outcome, Role
from alerting.lifecycle import (
    ANSWERED,
    CLOSE_AFTER,
    DEADLINES,
    NEVER_CONFIRMED,
    ROWS,
    STATES,
    SYSTEM,
    TABLE,
    Call,
    Event,
    Guard,
    Happening,
    Policy,
    Result,
    Standing,
    State,
    deadline,
    diagram,
    next_due,
    outcome,
    state_of,
    step,
)
from registry.clock import DAY, HOUR, MINUTE, SECOND
from streams.episodes import RULES
from streams.finding import Finding, Phase, Tier

T = 1_795_248_000 * SECOND
PLACES = ("plant", "town", "district")
POLICY = Policy(5 * MINUTE, 30 * MINUTE, 20 * MINUTE, "district", PLACES, (True, True, True))
ACTIVE, UNKNOWN, ENDED = Condition
UNCONFIRMED, CONFIRMED, ACTED = Answer
FINDING_EVENTS = [Event(phase) for phase in Phase] + [Event.REOPENED]
PEOPLE_EVENTS = [Event.CONFIRM, Event.TAKE_OVER, Event.ACT]


def finding(phase: Phase = Phase.BEGUN, tier: Tier | None = Tier.III, time: int = T, seq: int = 1) -> Finding:
    return Finding(
        id="f1",
        seq=seq,
        rule="limit.high",
        enterprise="plant",
        subject="point:TI-1",
        phase=phase,
        since=T,
        time=time,
        arrival=time,
        level="HH",
        tier=tier,
        value=91.0,
        limit=90.0,
    )


def do(
    alert: Alert | None,
    event: Event,
    now: int = T,
    policy: Policy = POLICY,
    tier: Tier = Tier.III,
    **more: object,
) -> Result:
    """One step of an alert; the happening is made to fit the event."""
    if event in FINDING_EVENTS:
        phase = Phase.BEGUN if event is Event.REOPENED else Phase(event)
        happening = Happening(event, finding=finding(phase, tier, now), cell="town")
    elif event in DEADLINES:
        happening = Happening(event, due=int(more.pop("due", now)))
    else:
        happening = Happening(event, person="ann", asked=True, note="done")
    result = step(alert, happening._replace(**more), lambda _: policy, now)
    assert result is not None
    return result


def raised(tier: Tier = Tier.III) -> Alert:
    return do(None, Event.BEGUN, tier=tier).alert


def in_state(state: State, tier: Tier = Tier.III) -> Alert | None:
    """An alert put into a state by hand, whether or not it can get there."""
    if state.standing is Standing.NEW:
        return None
    alert = replace(raised(tier), condition=state.condition, confirm_due=0)
    if state.condition is ENDED:
        alert = replace(alert, ended=T)
    if state.standing is Standing.CLOSED:
        return replace(alert, answer=ACTED, closed=T, close_reason=ANSWERED)
    if state.standing is not Standing.UNCONFIRMED:
        return replace(alert, answer=Answer(state.standing), holder="bob", confirmed=T)
    return alert


def test_every_state_and_event_has_its_row() -> None:
    assert len(STATES) == 11
    for pair in product(STATES, Event):
        rows = ROWS[pair]
        assert rows, f"{pair[0]}, {pair[1]}: not in the table"
        assert not rows[-1].guards, f"{pair[0]}, {pair[1]}: nothing applies where the guards do not hold"
        assert all(row.guards for row in rows[:-1]), f"{pair[0]}, {pair[1]}: rows behind one without a guard"


def test_no_row_is_dead() -> None:
    used = {id(row) for rows in ROWS.values() for row in rows}
    assert [row for row in TABLE if id(row) not in used] == []


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_step_is_total_and_keeps_the_invariants(state: State) -> None:
    """Every event, tier, standing of the person and rota, in every state that can be."""
    if state == State(ENDED, Standing.ACTED):
        return  # cannot be: what has ended and was acted upon is closed (shown below)
    mannings = ((True, True, True), (False, False, True), (True, False, False), (False, False, False))
    for event, before, tier, asked, manned in product(Event, Tier, Tier, (True, False), mannings):
        alert = in_state(state, before)
        policy = POLICY._replace(manned=manned)
        if event in FINDING_EVENTS:
            phase = Phase.BEGUN if event is Event.REOPENED else Phase(event)
            happening = Happening(event, finding=finding(phase, tier, T + SECOND))
        elif event in DEADLINES:
            happening = Happening(event, due=T)
        else:
            happening = Happening(event, person="ann", asked=asked)
        result = step(alert, happening, lambda _, policy=policy: policy, T + SECOND)
        if alert is None and (result is None or event not in FINDING_EVENTS):
            assert result is None
            continue
        assert result is not None
        after, record, calls = result
        assert after.step == record.step == (alert.step if alert else 0) + 1
        if alert is None or not alert.closed:
            assert after.tier >= (alert.tier if alert else tier), "the tier fell while the alert was open"
        assert (after.condition is ENDED) == (after.ended > 0)
        if after.closed:
            assert next_due(after) == 0
            assert after.close_reason
        else:
            rung_events = (Event.CONFIRM_DUE, Event.ACTION_DUE, Event.RETURN_DUE)
            restarted = alert is None or alert.closed or after.answer is not alert.answer or calls
            if after.answer is UNCONFIRMED and (restarted or event in rung_events[:1]):
                ends_itself = after.condition is ENDED and after.tier is Tier.IV
                assert ends_itself or after.confirm_due > T + SECOND, "nobody would ever ask again"
            if after.answer is CONFIRMED and restarted and event in PEOPLE_EVENTS:
                assert after.holder == "ann"
        if any(call.role is Role.ASKED for call in calls):
            assert after.answer is UNCONFIRMED
            assert not after.closed


def test_what_can_be_reached() -> None:
    """Walk the table from the beginning: all states but "ended, acted" can be reached; closed is no dead end."""
    policies = [POLICY, POLICY._replace(manned=(True, False, False))]
    seen: dict[tuple[State, Tier], Alert] = {}
    waiting = [raised(tier) for tier in Tier]
    while waiting:
        alert = waiting.pop()
        key = state_of(alert), alert.tier
        if key in seen:
            continue
        seen[key] = alert
        for event, tier, policy, asked in product(Event, Tier, policies, (True, False)):
            if event in DEADLINES and not getattr(alert, event):
                continue
            more = {} if event in FINDING_EVENTS else {"due": T} if event in DEADLINES else {"asked": asked}
            waiting.append(do(alert, event, T + SECOND, policy, tier, **more).alert)
    states = {state for state, _ in seen}
    assert states == set(STATES) - {STATES[0], State(ENDED, Standing.ACTED)}


def test_raised_asks_the_operator_and_tells_the_district_at_once() -> None:
    alert, record, calls = do(None, Event.BEGUN)
    assert (alert.condition, alert.answer, alert.rung, alert.step) == (ACTIVE, UNCONFIRMED, 0, 1)
    assert alert.confirm_due == T + 5 * MINUTE
    assert calls == (Call(Role.ASKED, "plant"), Call(Role.TOLD, "district"))
    assert (record.event, record.actor, record.late) == ("begun", "engine", 0)


def test_a_finding_absorbed_late_says_so() -> None:
    in_time = step(None, Happening(Event.BEGUN, finding=finding()), lambda _: POLICY, T + 2 * SECOND)
    late = step(None, Happening(Event.BEGUN, finding=finding()), lambda _: POLICY, T + 3 * SECOND)
    assert in_time is not None
    assert late is not None
    assert (in_time.step.late, late.step.late) == (0, 3 * SECOND)
    assert late.alert.confirm_due == T + 3 * SECOND + 5 * MINUTE  # people get their five minutes


def test_empty_rungs_are_passed_over_and_named() -> None:
    alert, record, calls = do(None, Event.BEGUN, policy=POLICY._replace(manned=(False, False, True)))
    assert alert.rung == 2
    assert calls[0] == Call(Role.ASKED, "district")
    assert record.detail.nobody == ("plant", "town")


def test_with_nobody_at_all_the_administrators_are_asked_and_it_is_tried_again_soon() -> None:
    nobody = POLICY._replace(manned=(False, False, False), told="")
    alert, record, calls = do(None, Event.BEGUN, policy=nobody)
    assert calls == (Call(Role.ASKED, SYSTEM),)
    assert record.detail.nobody == PLACES
    again = do(alert, Event.CONFIRM_DUE, alert.confirm_due, policy=nobody, due=alert.confirm_due)
    assert again.calls == (Call(Role.ASKED, SYSTEM),)
    assert again.alert.confirm_due == T + 10 * MINUTE, "whoever comes on duty waits half an hour"
    later = do(again.alert, Event.CONFIRM_DUE, again.alert.confirm_due, due=again.alert.confirm_due)
    assert [call.place for call in later.calls] == ["town"]


def test_the_ladder_climbs_and_asks_the_top_again() -> None:
    alert, asked = raised(), []
    for _ in range(4):
        alert, _, calls = do(alert, Event.CONFIRM_DUE, alert.confirm_due, due=alert.confirm_due)
        asked.append(calls[0].place)
    assert asked == ["town", "district", "district", "district"]
    assert alert.rung == 2
    assert alert.confirm_due == T + 15 * MINUTE + 2 * 20 * MINUTE


def test_where_nobody_is_on_duty_higher_up_those_below_are_asked_again() -> None:
    policy = POLICY._replace(manned=(True, False, False))
    alert = do(None, Event.BEGUN, policy=policy).alert
    again = do(alert, Event.CONFIRM_DUE, alert.confirm_due, policy, due=alert.confirm_due)
    assert (again.alert.rung, again.calls) == (0, (Call(Role.ASKED, "plant"),))
    assert again.step.detail.nobody == ("district", "town")
    assert again.alert.confirm_due == alert.confirm_due + 20 * MINUTE


def test_down_for_hours_the_climbs_keep_their_times_and_missed_askings_are_counted() -> None:
    alert, now, steps = raised(), T + 10 * HOUR, []
    while happening := deadline(alert, now):
        result = step(alert, happening, lambda _: POLICY, now)
        assert result is not None
        alert = result.alert
        steps.append(result.step)
    assert [s.due - T for s in steps] == [5 * MINUTE, 10 * MINUTE, 15 * MINUTE]
    assert all(s.late == now - s.due for s in steps)
    assert steps[-1].detail.missed == (now - steps[-1].due) // (20 * MINUTE)
    assert now < alert.confirm_due <= now + 20 * MINUTE


def test_worsening_cancels_the_confirm_and_easing_keeps_the_tier() -> None:
    alert = do(raised(Tier.IV), Event.CONFIRM, T + SECOND).alert
    assert (alert.answer, alert.holder, alert.confirm_due) == (CONFIRMED, "ann", 0)
    worse = do(alert, Event.WORSENED, T + MINUTE, tier=Tier.II)
    assert (worse.alert.tier, worse.alert.answer, worse.alert.holder) == (Tier.II, UNCONFIRMED, "")
    assert worse.alert.confirm_due == T + 6 * MINUTE
    assert worse.calls == (
        Call(Role.ASKED, person="ann"),
        Call(Role.ASKED, "plant"),
        Call(Role.TOLD, "district"),
    )
    eased = do(worse.alert, Event.EASED, T + 2 * MINUTE, tier=Tier.IV)
    assert (eased.alert.tier, eased.alert.confirm_due, eased.calls) == (Tier.II, T + 6 * MINUTE, ())
    same = do(eased.alert, Event.WORSENED, T + 3 * MINUTE, tier=Tier.II)
    assert (same.alert.confirm_due, same.calls) == (T + 6 * MINUTE, ())


def test_worsening_high_up_the_ladder_asks_all_who_were_asked_and_goes_on_from_there() -> None:
    alert = raised()
    for _ in range(2):
        alert = do(alert, Event.CONFIRM_DUE, alert.confirm_due, due=alert.confirm_due).alert
    higher = POLICY._replace(places=(*PLACES, "city"), manned=(True, False, True, True))
    worse = do(alert, Event.WORSENED, T + 11 * MINUTE, higher, Tier.II)
    assert (worse.alert.rung, worse.alert.confirm_due) == (2, T + 16 * MINUTE)
    assert worse.calls == (
        Call(Role.ASKED, "plant"),
        Call(Role.ASKED, "district"),
        Call(Role.TOLD, "district"),
    )
    assert worse.step.detail.nobody == ("town",)
    climbs = do(worse.alert, Event.CONFIRM_DUE, T + 16 * MINUTE, higher, due=T + 16 * MINUTE)
    assert [call.place for call in climbs.calls] == ["city"]


def test_worsening_with_nobody_left_on_the_rungs_so_far_goes_higher() -> None:
    worse = do(raised(), Event.WORSENED, T + MINUTE, POLICY._replace(manned=(False, False, True)), Tier.II)
    assert (worse.alert.rung, worse.calls[0]) == (2, Call(Role.ASKED, "district"))


def test_unknown_never_clears() -> None:
    alert = do(raised(), Event.UNKNOWN, T + SECOND).alert
    assert (alert.condition, alert.confirm_due) == (UNKNOWN, T + 5 * MINUTE)
    alert = do(do(alert, Event.CONFIRM).alert, Event.ACT).alert
    assert (alert.condition, alert.answer, alert.closed) == (UNKNOWN, ACTED, 0)
    assert do(alert, Event.RESUMED).alert.condition is ACTIVE
    ended = do(raised(), Event.ENDED, T + MINUTE).alert
    assert do(ended, Event.UNKNOWN, T + 2 * MINUTE).alert.condition is ENDED  # nor does it undo an end


def test_ended_but_unconfirmed_keeps_its_clock() -> None:
    alert = do(raised(), Event.ENDED, T + MINUTE).alert
    assert (alert.condition, alert.closed, alert.confirm_due) == (ENDED, 0, T + 5 * MINUTE)
    alert = do(alert, Event.CONFIRM, T + 2 * MINUTE).alert
    assert (alert.closed, alert.action_due) == (0, T + 32 * MINUTE)
    alert = do(alert, Event.ACT, T + 3 * MINUTE).alert
    assert (alert.closed, alert.close_reason, alert.answer) == (T + 3 * MINUTE, ANSWERED, ACTED)


def test_tier_iv_closes_with_the_confirm_or_by_itself_after_a_day() -> None:
    ended = do(raised(Tier.IV), Event.ENDED, T + MINUTE).alert
    assert do(ended, Event.CONFIRM, T + 2 * MINUTE).alert.closed == T + 2 * MINUTE
    assert ended.close_due == T + MINUTE + CLOSE_AFTER
    closed = do(ended, Event.CLOSE_DUE, ended.close_due, due=ended.close_due).alert
    assert (closed.closed, closed.close_reason) == (T + MINUTE + DAY, NEVER_CONFIRMED)


def test_tier_iv_that_has_ended_rings_nobody_again_until_it_begins_again() -> None:
    alert = do(raised(Tier.IV), Event.ENDED, T + MINUTE, tier=Tier.IV).alert
    alone = POLICY._replace(places=("plant",), manned=(True,))
    due = do(alert, Event.CONFIRM_DUE, alert.confirm_due, alone, due=alert.confirm_due)
    assert (due.calls, due.alert.confirm_due, next_due(due.alert)) == ((), 0, T + MINUTE + CLOSE_AFTER)
    again = do(due.alert, Event.REOPENED, T + 8 * MINUTE, alone, Tier.IV)
    assert [call.role for call in again.calls] == [Role.ASKED, Role.TOLD]
    assert (again.alert.confirm_due, again.alert.close_due) == (T + 13 * MINUTE, 0)


def test_tier_iv_needs_no_action() -> None:
    alert = do(raised(Tier.IV), Event.CONFIRM).alert
    assert (alert.action_due, alert.return_due) == (0, T + 20 * MINUTE)


def test_withdrawn_is_no_answer() -> None:
    alert = do(raised(), Event.WITHDRAWN, T + SECOND).alert
    assert (alert.condition, alert.answer, alert.closed) == (ENDED, UNCONFIRMED, 0)


@pytest.mark.parametrize("condition", [ACTIVE, UNKNOWN, ENDED])
def test_confirmed_without_action_comes_back(condition: Condition) -> None:
    alert = do(
        replace(raised(), condition=condition, ended=T if condition is ENDED else 0), Event.CONFIRM
    ).alert
    back = do(alert, Event.ACTION_DUE, alert.action_due, due=alert.action_due)
    assert (back.alert.answer, back.alert.holder, back.alert.rung) == (UNCONFIRMED, "", 0)
    assert back.alert.confirm_due == alert.action_due + 5 * MINUTE
    assert back.calls == (Call(Role.ASKED, person="ann"), Call(Role.ASKED, "plant"))


def test_acted_but_still_active_comes_back() -> None:
    alert = do(do(raised(), Event.CONFIRM).alert, Event.ACT, T + MINUTE).alert
    assert (alert.action_due, alert.return_due) == (0, T + 21 * MINUTE)
    back = do(alert, Event.RETURN_DUE, alert.return_due, due=alert.return_due).alert
    assert (back.answer, back.acted, back.confirm_due) == (UNCONFIRMED, 0, T + 26 * MINUTE)


def test_confirmed_where_no_action_is_waited_for_comes_back_all_the_same() -> None:
    alert = do(raised(Tier.IV), Event.CONFIRM, policy=POLICY._replace(action_within=0)).alert
    assert (alert.action_due, alert.return_due) == (0, T + 20 * MINUTE)


def test_reopened() -> None:
    ended = do(raised(), Event.ENDED, T + MINUTE).alert
    again = do(ended, Event.REOPENED, T + 2 * MINUTE)
    assert (again.alert.condition, again.alert.answer, again.alert.ended) == (ACTIVE, UNCONFIRMED, 0)
    assert (again.alert.confirm_due, again.alert.reopened, again.calls) == (T + 5 * MINUTE, 1, ())

    confirmed = do(ended, Event.CONFIRM, T + MINUTE).alert
    again = do(confirmed, Event.REOPENED, T + 2 * MINUTE)
    assert (again.alert.answer, again.alert.holder) == (CONFIRMED, "ann")
    assert again.calls == (Call(Role.TOLD, person="ann"),)

    closed = do(confirmed, Event.ACT, T + 2 * MINUTE).alert
    again = do(closed, Event.REOPENED, T + 3 * MINUTE, tier=Tier.IV)
    assert (again.alert.closed, again.alert.close_reason, again.alert.answer) == (0, "", UNCONFIRMED)
    assert again.alert.tier is Tier.IV  # it was closed: this is a lesser one
    assert again.calls == (
        Call(Role.ASKED, person="ann"),
        Call(Role.ASKED, "plant"),
        Call(Role.TOLD, "district"),
    )


@pytest.mark.parametrize("answer", [Event.CONFIRM, Event.TAKE_OVER])
def test_beginning_again_held_by_someone_who_cannot_be_reached_asks_anew(answer: Event) -> None:
    held = do(do(raised(), Event.ENDED, T + MINUTE).alert, answer, T + 2 * MINUTE).alert
    gone = POLICY._replace(reaches=lambda person: person != "ann")
    again = do(held, Event.REOPENED, T + 3 * MINUTE, gone)
    assert again.calls == (Call(Role.ASKED, "plant"), Call(Role.TOLD, "district"))
    assert (again.alert.answer, again.alert.holder) == (UNCONFIRMED, "")
    assert (again.alert.confirm_due, again.alert.action_due) == (T + 8 * MINUTE, 0)


@pytest.mark.parametrize("tier", Tier)
def test_where_no_action_is_waited_for_an_answer_closes_what_has_ended(tier: Tier) -> None:
    policy = POLICY._replace(action_within=0)
    answered = do(raised(tier), Event.CONFIRM, T + MINUTE, policy, tier).alert
    closed = do(answered, Event.ENDED, T + 2 * MINUTE, policy, tier).alert
    assert (closed.closed, closed.close_reason, next_due(closed)) == (T + 2 * MINUTE, ANSWERED, 0)
    ended = do(raised(tier), Event.ENDED, T + MINUTE, policy, tier).alert
    for answer in (Event.CONFIRM, Event.TAKE_OVER):
        assert do(ended, answer, T + 2 * MINUTE, policy, tier).alert.closed == T + 2 * MINUTE


def test_reopening_stops_the_close_clock() -> None:
    ended = do(raised(Tier.IV), Event.ENDED, T + MINUTE, tier=Tier.IV).alert
    assert ended.close_due
    assert do(ended, Event.REOPENED, T + 2 * MINUTE, tier=Tier.IV).alert.close_due == 0


def test_answers_of_people() -> None:
    alert = raised()
    told = do(alert, Event.CONFIRM, asked=False)
    assert (told.alert.answer, told.step.detail.seen, told.alert.confirm_due) == (
        UNCONFIRMED,
        True,
        T + 5 * MINUTE,
    )
    taken = do(alert, Event.TAKE_OVER, asked=False, person="carl").alert
    assert (taken.answer, taken.holder, taken.confirm_due) == (CONFIRMED, "carl", 0)
    handed = do(taken, Event.TAKE_OVER, T + SECOND, person="dora")
    assert (handed.alert.holder, handed.calls) == ("dora", (Call(Role.TOLD, person="carl"),))
    assert handed.alert.action_due == taken.action_due  # a hand-over gains no time
    acted = do(alert, Event.ACT).alert
    assert (acted.answer, acted.holder) == (ACTED, "ann")
    second = do(taken, Event.ACT, T + SECOND, person="ann").alert
    assert (second.answer, second.holder) == (ACTED, "carl")


@pytest.mark.parametrize(
    ("standing", "event", "asked", "expected"),
    [
        (Standing.UNCONFIRMED, Event.CONFIRM, True, Outcome.CONFIRMED),
        (Standing.UNCONFIRMED, Event.CONFIRM, False, Outcome.SEEN),
        (Standing.CONFIRMED, Event.CONFIRM, True, Outcome.AGAIN),
        (Standing.ACTED, Event.CONFIRM, True, Outcome.AGAIN),
        (Standing.CONFIRMED, Event.CONFIRM, False, Outcome.SEEN),
        (Standing.CLOSED, Event.CONFIRM, True, Outcome.CLOSED),
        (Standing.CLOSED, Event.ACT, False, Outcome.CLOSED),
        (Standing.UNCONFIRMED, Event.TAKE_OVER, False, Outcome.TAKEN_OVER),
        (Standing.UNCONFIRMED, Event.ACT, True, Outcome.ACTED),
        (Standing.CONFIRMED, Event.ACT, False, Outcome.SEEN),
    ],
)
def test_what_a_person_is_answered(standing: Standing, event: Event, asked: bool, expected: Outcome) -> None:
    assert outcome(State(ACTIVE, standing), Happening(event, person="ann", asked=asked)) is expected


def test_deadlines_that_fall_together_have_an_order() -> None:
    alert = replace(raised(Tier.IV), condition=ENDED, ended=T, confirm_due=T + 1, close_due=T + 1)
    assert deadline(alert, T) is None
    assert deadline(alert, T + 1) == Happening(Event.CONFIRM_DUE, due=T + 1)


def test_the_diagram_is_drawn_from_the_table() -> None:
    drawn = diagram()
    assert drawn.startswith("stateDiagram-v2\n")
    for line in (
        "active --> unknown: unknown",
        "active --> ended: ended, withdrawn",
        f"unconfirmed --> confirmed: confirm [{Guard.ASKED}] / hold, action clock",
        f"unconfirmed --> unconfirmed: confirm_due [{Guard.HIGHER}] / climb, confirm clock",
        "unconfirmed --> closed: close_due [ended] / close",
    ):
        assert f"        {line}\n" in drawn
    assert drawn.count("{") == drawn.count("}")
    assert {standing for standing in Standing if f" {standing}" not in drawn} == set()


# -- words of findings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "text"), [("°C", "7.2 °C"), ("1", "7.2"), ("", "7.2"), ("1/s", "7.2/s"), ("%", "7.2 %")]
)
def test_what_has_no_unit_is_read_without_one(unit: str, text: str) -> None:
    assert words.quantity(7.2, unit) == text


@pytest.mark.parametrize("rule", RULES)
def test_every_point_rule_has_words(rule: str) -> None:
    for language in words.LANGUAGES:
        assert words.rule(rule, "", language) != words.say("rule.other", language, rule=rule)
