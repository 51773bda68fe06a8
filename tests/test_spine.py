"""The mission in its own words: from a reading on MQTT to a person who answers, through the real processes."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from alerting.alert import Answer, Condition, Role
from fenghuo.rehearsal import Rehearsal
from registry.clock import MINUTE, SECOND
from streams.finding import Tier
from tests.servers import needs_mosquitto

pytestmark = [pytest.mark.mosquitto, needs_mosquitto]

MINE = Path(__file__).parent / "data" / "mine"
TEN = 1_767_578_400 * SECOND  # 2026-01-05 10:00 in Asia/Shanghai


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Rehearsal]:
    with Rehearsal(tmp_path, MINE / "registry", TEN) as rehearsal:
        yield rehearsal


def code(mine: Rehearsal) -> str:
    return next(iter(mine.registry.enterprises))


def methane(mine: Rehearsal, value: float) -> None:
    mine.publish(code(mine), "gw1", mine.now, {"MM116": value})
    mine.settle()


def test_methane_rises_and_nobody_answers(mine: Rehearsal) -> None:
    methane(mine, 0.6)
    mine.step(TEN + 30 * SECOND)
    methane(mine, 1.6)

    [alert] = mine.alerts()
    assert (alert.tier, alert.level, alert.value, alert.limit) == (Tier.II, "HH", 1.6, 1.5)
    assert alert.condition is Condition.ACTIVE
    assert alert.answer is Answer.UNCONFIRMED

    # the operator is asked and the district's officer is told, in the same instant
    first = mine.notices(alert.id)
    assert {notice.role for notice in first} == {Role.ASKED, Role.TOLD}
    assert len({notice.created for notice in first}) == 1
    mine.settle_notices()
    assert {ring["id"] for ring in mine.rings()} == {notice.id for notice in first}

    # five minutes later the next rung is asked, and so on to the city
    rungs = []
    for _ in range(5):
        mine.step(mine.now + 5 * MINUTE)
        rungs.append(mine.alerts()[0].rung)
    assert rungs[:4] == [1, 2, 3, 4]
    assert mine.alerts()[0].answer is Answer.UNCONFIRMED
    assert not any(step.late for step in mine.steps(alert.id))
    mine.settle_notices()
    assert not any(ring["repeat"] for ring in mine.rings())


def test_the_operator_confirms_in_three_minutes_and_records_what_was_done(mine: Rehearsal) -> None:
    methane(mine, 1.6)
    [alert] = mine.alerts()
    operator = next(n.person for n in mine.notices(alert.id) if n.role is Role.ASKED)
    officer = next(n.person for n in mine.notices(alert.id) if n.role is Role.TOLD)

    mine.step(TEN + 2 * MINUTE)
    assert mine.answer("confirm", alert.id, officer)["outcome"] == "seen"
    assert mine.alerts()[0].answer is Answer.UNCONFIRMED
    mine.step(TEN + 3 * MINUTE)
    assert mine.answer("confirm", alert.id, operator)["outcome"] == "confirmed"
    assert mine.answer("confirm", alert.id, operator)["outcome"] == "again"

    mine.step(TEN + 10 * MINUTE)
    assert mine.alerts()[0].rung == 0, "a confirmed alert does not climb"
    mine.answer("act", alert.id, operator, "power cut, fan checked")
    methane(mine, 0.5)
    closed = next(a for a in mine.alerts() if a.id == alert.id)
    assert (closed.condition, closed.answer) == (Condition.ENDED, Answer.ACTED)
    assert closed.closed


def test_a_stranger_cannot_confirm(mine: Rehearsal) -> None:
    methane(mine, 1.6)
    [alert] = mine.alerts()
    stranger = next(
        person for person in mine.registry.people if person not in {n.person for n in mine.notices(alert.id)}
    )
    with pytest.raises(httpx.HTTPStatusError) as refused:
        mine.answer("confirm", alert.id, stranger)
    assert refused.value.response.status_code == 403
    assert mine.alerts()[0].answer is Answer.UNCONFIRMED


def test_a_sensor_that_goes_quiet_clears_nothing(mine: Rehearsal) -> None:
    methane(mine, 1.6)
    mine.step(TEN + 10 * MINUTE)
    assert {(a.rule, a.condition) for a in mine.alerts()} >= {("limit.high", Condition.UNKNOWN)}
    assert any(a.rule in ("gateway.offline", "silent") for a in mine.alerts())


@pytest.mark.parametrize("victim", ["judge", "serving"])
def test_killed_in_the_middle_the_alerts_are_the_same(tmp_path: Path, victim: str) -> None:
    def story(folder: Path, *, kill: bool) -> list[object]:
        with Rehearsal(folder, MINE / "registry", TEN) as mine:
            methane(mine, 0.6)
            mine.step(TEN + 30 * SECOND)
            methane(mine, 1.2)
            if kill:
                mine.kill(victim)
            mine.step(TEN + 60 * SECOND)
            methane(mine, 1.7)
            if kill:
                mine.kill(victim)
            for _ in range(3):
                mine.step(mine.now + 5 * MINUTE)
            mine.settle_notices()
            return [
                (
                    alert,
                    [(s.event, s.time, s.actor) for s in mine.steps(alert.id)],
                    len(mine.notices(alert.id)),
                )
                for alert in mine.alerts()
            ]

    assert story(tmp_path / "killed", kill=True) == story(tmp_path / "undisturbed", kill=False)
