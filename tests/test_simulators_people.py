"""Simulated people answer as their behaviour says, one seed one way; and the phone exchange meets calls by address."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.people import BUSY_FOR, NOTICED_AFTER, SECOND, Answer, Behaviour, People
from tests.phones import ROOT, Phone

START = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z
MINUTE = 60 * SECOND


def ring(
    id: str = "n1", *, alert: str = "a1", role: str = "asked", person: str = "wang", at: int = START
) -> dict[str, Any]:
    """A notice's JSON, written at ``at``."""
    created = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return {
        "id": id,
        "alert": alert,
        "step": 1,
        "role": role,
        "person": person,
        "address": "13800000001",
        "repeat": False,
        "created": created.isoformat().replace("+00:00", "Z"),
    }


def people(seed: int = 1, **behaviour: Any) -> People:
    return People({"wang": Behaviour(**behaviour)}, seed)


def kinds(answers: Any) -> list[tuple[str, str]]:
    return [(answer.verb, answer.key) for answer in answers]


def test_a_ring_is_confirmed_and_acted_on_after_the_behaviours_times():
    answers = people(after=60, spread=20, does=("confirm", "act"), act_after=600).heard(ring(), START)
    assert kinds(answers) == [("confirm", "1"), ("act", "3")]
    assert START + 40 * SECOND <= answers[0].at <= START + 80 * SECOND
    assert answers[1].at - answers[0].at == 600 * SECOND
    assert {(a.person, a.alert) for a in answers} == {("wang", "a1")}
    assert all(a.note for a in answers)


def test_without_spread_it_is_to_the_second_and_what_is_not_done_is_not_answered():
    assert people(after=5, spread=0, does=("take-over",)).heard(ring(), START)[0].at == START + 5 * SECOND
    assert people(does=()).heard(ring(), START) == []
    assert People({}, 1).heard(ring(), START) == ()


def test_answers_are_of_the_seed_and_the_rings_id_alone():
    behaviour = {"after": 60, "spread": 50, "misses": 0.3, "wrong_key": 0.3, "does": ("confirm", "act")}
    rings = [ring(f"n{i}", alert=f"a{i}") for i in range(200)]
    forward, backward, other = people(**behaviour), people(**behaviour), people(2, **behaviour)
    said = {r["id"]: list(forward.heard(r, START)) for r in rings}
    again = {r["id"]: list(backward.heard(r, START)) for r in reversed(rings)}
    assert said == again
    assert said != {r["id"]: list(other.heard(r, START)) for r in rings}
    missed = sum(not answers for answers in said.values())
    wrong = sum(bool(answers) and answers[0].verb == "" for answers in said.values())
    assert 35 < missed < 85
    assert 20 < wrong < 65


def test_another_process_draws_the_same():
    script = (
        "from simulators.people import *;"
        "p = People({'wang': Behaviour(after=60, spread=50, busy=0.5)}, 1);"
        f"print(p.heard({ring()!r}, {START})[0].at, p.line('wang', {START}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    here = people(after=60, spread=50, busy=0.5)
    assert said == [str(here.heard(ring(), START)[0].at), here.line("wang", START)]


def test_a_wrong_key_is_noticed_and_tried_again():
    wrong, right = people(wrong_key=1.0, after=10, spread=0).heard(ring(), START)
    assert (wrong.verb, wrong.note, wrong.at) == ("", "", START + 10 * SECOND)
    assert wrong.key not in "123"
    assert right.verb == "confirm"
    assert NOTICED_AFTER[0] * SECOND <= right.at - wrong.at <= NOTICED_AFTER[1] * SECOND


def test_who_is_only_told_answers_nothing():
    assert people(does=("take-over", "act"), wrong_key=1.0).heard(ring(role="told"), START) == []


def test_a_confirmed_alert_is_confirmed_again_only_when_it_has_changed():
    wang = people(after=60, spread=0)
    confirmed = wang.heard(ring("n1"), START)[0].at
    assert wang.heard(ring("n2", at=START + 30 * SECOND), START + 30 * SECOND) == (), "about to confirm"
    assert wang.heard(ring("n1"), confirmed + MINUTE) == (), "the same notice again"
    assert wang.heard(ring("n3", at=confirmed), confirmed + MINUTE) == (), "written before they confirmed"
    assert len(wang.heard(ring("n4", alert="a2"), confirmed + MINUTE)) == 1, "another alert"
    later = confirmed + 5 * MINUTE
    assert kinds(wang.heard(ring("n5", at=later), later)) == [("confirm", "1")]


def test_who_is_dealing_with_it_does_not_deal_with_it_twice():
    wang = people(after=60, spread=0, does=("confirm", "act"), act_after=3600)
    assert len(wang.heard(ring("n1"), START)) == 2
    later = START + 30 * MINUTE
    assert kinds(wang.heard(ring("n2", at=later), later)) == [("confirm", "1")]
    much_later = START + 90 * MINUTE
    assert kinds(wang.heard(ring("n3", at=much_later), much_later)) == [("confirm", "1"), ("act", "3")]


@pytest.mark.parametrize("window", ["away", "offline"])
def test_nothing_is_heard_in_a_window_from_its_beginning_to_before_its_end(window: str):
    def heard(at: int) -> int:
        return len(people(after=0, spread=0, **{window: ((START, START + MINUTE),)}).heard(ring(), at))

    assert [heard(START + at) for at in (-1, 0, MINUTE - 1, MINUTE)] == [1, 0, 0, 1]


def test_an_answer_without_a_network_is_lost_and_the_next_ring_is_answered():
    wang = people(after=60, spread=0, offline=((START + 30 * SECOND, START + 5 * MINUTE),))
    assert wang.heard(ring("n1"), START) == [], "the network is gone when they answer"
    later = START + 6 * MINUTE
    assert len(wang.heard(ring("n2", at=later - SECOND), later)) == 1


def test_a_line_is_off_without_a_network_and_busy_by_chance_for_a_while():
    offline = people(offline=((START, START + MINUTE),), busy=1.0)
    assert [offline.line("wang", START + at) for at in (0, MINUTE)] == ["off", "busy"]
    assert people(busy=0.0).line("wang", START) == "free"
    assert people(busy=1.0).line("zhao", START) == "free", "nobody knows zhao"
    slot = round(BUSY_FOR * SECOND)
    half = people(busy=0.5)
    lines = [half.line("wang", START + i * slot) for i in range(200)]
    assert 60 < lines.count("busy") < 140, "who tries again gets through"
    assert [half.line("wang", START + i * slot + slot - 1) for i in range(200)] == lines


@given(
    st.builds(
        Behaviour,
        after=st.floats(0, 1e5),
        spread=st.floats(0, 1e5),
        does=st.lists(st.sampled_from(["confirm", "take-over", "act"]), max_size=3).map(tuple),
        misses=st.floats(0, 1),
        wrong_key=st.floats(0, 1),
    ),
    st.text(max_size=20),
    st.integers(0, 2**64),
)
def test_answers_come_in_order_and_never_before_the_ring(behaviour: Behaviour, id: str, seed: int):
    answers = People({"wang": behaviour}, seed).heard(ring(id), START)
    times = [answer.at for answer in answers]
    assert times == sorted(times)
    assert all(isinstance(answer, Answer) and answer.at >= START for answer in answers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"misses": 1.1},
        {"busy": -0.1},
        {"wrong_key": float("nan")},
        {"after": -1},
        {"act_after": float("nan")},
        {"away": ((2, 1),)},
        {"does": ("shout",)},
    ],
)
def test_an_impossible_behaviour_is_an_error(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r".+"):
        Behaviour(**wrong)


# -- the phone exchange ----------------------------------------------------------------------------


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "rings.jsonl") as phone:
        yield phone


def call(phone: Phone, address: str, id: str = "n1", path: str = "/ring") -> int:
    """The status that a call to the address is answered with."""
    quoted = address.replace("/", "%2F")  # not the +: another way of writing the same address
    return httpx.post(
        f"{phone.url}{path}/{quoted}", json=ring(id) | {"address": address}, trust_env=False
    ).status_code


def get(phone: Phone, path: str) -> httpx.Response:
    return httpx.get(phone.url + path, trust_env=False)


@pytest.mark.parametrize(("mode", "status"), [("busy", 503), ("off", 504)])
def test_a_busy_line_and_a_lost_network_do_not_ring(phone: Phone, mode: str, status: int):
    phone.mode(mode)
    assert call(phone, "138") == status
    assert phone.rings() == []
    phone.mode("ok")
    assert call(phone, "138") == 200
    assert len(phone.rings()) == 1


def test_an_address_has_its_own_mode_before_that_of_all(phone: Phone):
    phone.mode("busy", "138")
    phone.mode("off", "+86/139")
    assert [call(phone, address) for address in ("138", "+86/139", "137")] == [503, 504, 200]
    assert call(phone, "138", path="/another/hook") == 503
    phone.mode("error:500")
    phone.mode("ok", "138")
    assert [call(phone, address) for address in ("138", "137")] == [200, 500]
    assert [get(phone, path).json() for path in ("/mode", "/mode/138", "/mode/137")] == [
        "error:500",
        "ok",
        "",
    ]
    phone.mode("", "138")
    phone.mode("", "nobody")
    assert call(phone, "138") == 500
    assert get(phone, "/mode/138").json() == ""
    assert [r["address"] for r in phone.rings()] == ["137", "138"]


def test_modes_that_are_none_change_nothing(phone: Phone):
    phone.mode("busy", "138")
    for path in ("/mode", "/mode/138"):
        answer = httpx.post(phone.url + path, content="sleepy", trust_env=False)
        assert answer.status_code == 400
    assert httpx.post(f"{phone.url}/mode", content="", trust_env=False).status_code == 400
    assert call(phone, "138") == 503
    assert call(phone, "137") == 200


def test_rings_are_read_on_from_where_one_was(phone: Phone):
    for number in range(3):
        call(phone, "138", f"n{number}")
    assert [r["id"] for r in get(phone, "/rings").json()] == ["n0", "n1", "n2"]
    assert [r["id"] for r in get(phone, "/rings?after=1").json()] == ["n1", "n2"]
    assert get(phone, "/rings?after=3").json() == get(phone, "/rings?after=9").json() == []
    call(phone, "138", "甲\u2028乙")
    assert [r["id"] for r in get(phone, "/rings?after=3").json()] == ["甲\u2028乙"]
    assert [get(phone, f"/rings?after={wrong}").status_code for wrong in ("-1", "x", "1.5")] == [
        400,
        400,
        400,
    ]
    phone.kill()
    phone.start()
    assert [r["id"] for r in get(phone, "/rings?after=2").json()] == ["n2", "甲\u2028乙"]
