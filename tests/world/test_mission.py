"""The mission in the words of those who live it: scenarios through the pure core, and through the real processes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from alerting.alert import Answer, Condition, Role
from streams.finding import Tier
from tests.disks import small_disk
from tests.servers import needs_mosquitto
from tests.world.world import World, core, whole

Open = Callable[[str], World]


@pytest.fixture(
    params=[
        pytest.param(core, id="core"),
        pytest.param(whole, id="whole", marks=[pytest.mark.mosquitto, needs_mosquitto]),
    ]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a scenario by its name."""
    make: Callable[[str, Path], AbstractContextManager[World]] = request.param
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(make(name, tmp_path))


def test_a_reactor_overheats_and_nobody_answers(opened: Open) -> None:
    """Its cooling sinks from 10:05; the alert climbs a rung every five minutes, to the top that its tier has."""
    world = opened("reactor-unanswered")
    world.until("10:05:10")
    assert world.alerts() == []

    world.until("10:06:45")
    runaway = world.alert("compound.runaway", of="R-1101")
    assert (runaway.tier, runaway.level) == (Tier.I, "cooling-lost"), (
        "before any limit of the temperature is reached"
    )
    assert not world.alerts("limit.high", of="TI-R-1101")

    world.until("10:08")
    alert = world.alert("limit.high", of="TI-R-1101")
    assert (alert.tier, alert.condition, alert.answer) == (Tier.III, Condition.ACTIVE, Answer.UNCONFIRMED)
    called = world.called(alert)
    assert set(called) == {"chem-operator", "donghai-duty"}
    worsened = max(n.created for n in world.product.notices(alert.id) if n.role is Role.TOLD)

    world.until("10:13")
    assert "gangdong-duty" in world.called(world.alert("limit.high", of="TI-R-1101")), "the village, next"
    world.until("10:45")
    alert = world.alert("limit.high", of="TI-R-1101")
    times = [
        n.created for n in world.product.notices(alert.id) if n.role is Role.ASKED and n.created > worsened
    ]
    assert [round((time - worsened) / 60e6) for time in times[:3]] == [5, 10, 15]
    assert list(world.called(alert))[2:] == ["gangdong-duty", "gangkou-duty"], "and then the district, asked"
    assert (alert.rung, alert.answer) == (3, Answer.UNCONFIRMED)
    assert "haizhou-duty" not in world.called(alert), "a yellow alert stays in the district"
    assert "haizhou-duty" in world.called(runaway), "a red one goes to the city"


def test_a_reactor_overheats_and_its_operator_confirms_in_three_minutes(opened: Open) -> None:
    world = opened("reactor-confirmed")
    world.until("10:09")
    alert = world.alert("limit.high", of="TI-R-1101")
    assert alert.answer is Answer.UNCONFIRMED
    world.until("10:11")
    alert = world.alert("limit.high", of="TI-R-1101")
    assert (alert.answer, alert.holder, alert.rung) == (Answer.CONFIRMED, "chem-operator", 0)
    assert 179e6 <= alert.confirmed - alert.raised <= 200e6
    world.to_the_end()
    assert {a.rung for a in world.alerts()} == {0}, "nobody else is called"
    assert {a.answer for a in world.alerts()} == {Answer.CONFIRMED, Answer.ACTED}
    assert {a.answer for a in world.alerts() if a.tier >= Tier.III} == {Answer.ACTED}
    score = world.score()
    assert {danger.outcome for danger in score.dangers} == {"detected"}
    assert (score.early, score.false) == (0, 0)


@pytest.mark.mosquitto
@needs_mosquitto
def test_the_fan_stops_and_the_same_is_told_whatever_dies(tmp_path: Path) -> None:
    """The judge is killed before, while and after it judges, and the sender once: the alerts are the same."""
    (tmp_path / "core").mkdir()
    with core("mine-fan-stop", tmp_path / "core") as undisturbed:
        undisturbed.to_the_end()
        wanted = undisturbed.same()
        score = undisturbed.score()
    assert [danger.outcome for danger in score.dangers] == ["detected", "detected"]
    assert score.false == 0

    with whole("mine-fan-stop", tmp_path / "whole") as world:
        world.until("10:08")
        world.kill("judge", at="acknowledged")
        world.until("10:12")
        world.kill("judge", at="stepped")
        world.stall("serving", 1.0, at="acknowledged")
        world.until("10:20")
        world.kill("serving", at="judged")
        world.until("10:25")
        world.kill("judge", at="judged")
        world.to_the_end()
        assert world.same() == wanted
        assert not any(ring["repeat"] for ring in world.whole.rehearsal.rings()), (
            "and nobody was called twice"
        )


@pytest.mark.mosquitto
@needs_mosquitto
def test_ammonia_leaks_while_the_disk_is_full_and_the_same_is_told(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    with core("toxic-leak", tmp_path / "core") as undisturbed:
        undisturbed.to_the_end()
        wanted = undisturbed.same()
    with (
        small_disk(tmp_path / "disk", "64m") as disk,
        whole("toxic-leak", disk, journal_reserve=1 << 20) as world,
    ):
        world.until("15:15:10")
        world.fill(disk, 2.0, at="acknowledged")
        world.until("15:16")
        world.fill(disk, 2.0, at="stepped")
        world.to_the_end()
        assert world.same() == wanted
        told = {alert.rule for alert in world.product.alerts() if not alert.enterprise}
        assert told & {"system.journal", "system.desk"}, "and an administrator is told of the disk"


def test_a_network_that_loses_and_mixes_messages_hides_no_danger(tmp_path: Path) -> None:
    with core("mine-fan-stop", tmp_path) as world:
        with world.dropping(0.2), world.disordering():
            world.until("10:20")
        world.to_the_end()
        score = world.score()
    assert [danger.outcome for danger in score.dangers] == ["detected", "detected"]
