"""From messages to rounds: order, status, repeats, and dead letters that stop nothing."""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import assemble, dead_letters
from ingest.assemble import Assembler
from ingest.codec import Decoded, GatewayPoints, Limits, Reason
from ingest.message import Message
from ingest.readings import BAD, GOOD, DeadLetter, GatewayStatus, Round
from registry.clock import SECOND
from tests.build import PointSpec, code, make_registry

NOW = 1_795_248_005 * SECOND
TIME = 1_795_248_000 * SECOND
ONE, TWO = code(1), code(2)
REGISTRY = make_registry(
    {
        ONE: [PointSpec(id="A"), PointSpec(id="B"), PointSpec(id="C", gateway="gw2")],
        TWO: [PointSpec(id="A"), PointSpec(id="D")],
    }
)
ROW = REGISTRY.rows


def topic(enterprise: str = ONE, gateway: str = "gw1", kind: str = "readings") -> str:
    return f"fenghuo/v1/{enterprise}/{gateway}/{kind}"


def readings(second: int, *, to: str | None = None, dup: bool = False, **values: object) -> Message:
    time = f"2026-11-21T08:00:{second:02d}Z"
    return Message(
        topic() if to is None else to, json.dumps({"time": time, "readings": values}).encode(), dup=dup
    )


def online(says: object, *, to: str | None = None) -> Message:
    return Message(to or topic(kind="status"), json.dumps({"online": says}).encode())


def told(rounds: Sequence[Round]) -> list[tuple[int, int, float, int]]:
    return [
        reading
        for round in rounds
        for reading in zip(
            round.readings.row.tolist(),
            round.readings.time.tolist(),
            round.readings.value.tolist(),
            round.readings.quality.tolist(),
            strict=True,
        )
    ]


def counted(dead: Sequence[DeadLetter]) -> Counter[tuple[str, str]]:
    """How many were refused, by topic and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for letter in dead:
        counts[letter.topic, letter.reason] += letter.count
    return counts


def only(dead: Sequence[DeadLetter]) -> DeadLetter:
    assert len(dead) == 1
    return dead[0]


def test_readings_that_came_together_are_one_round_in_their_order() -> None:
    rounds, dead = Assembler(REGISTRY).assemble(
        [
            readings(1, A=1.0, B=2.0),
            readings(2, to=topic(TWO), D={"value": 5.0, "quality": "uncertain"}, A=None),
            readings(0, A=3.0),
        ],
        NOW,
        listening=False,
    )
    assert not dead
    round = rounds[0]
    assert (len(rounds), round.time, round.listening, round.version) == (1, NOW, False, None)
    assert round.readings.row.tolist() == [
        ROW[ONE]["A"],
        ROW[ONE]["B"],
        ROW[TWO]["D"],
        ROW[TWO]["A"],
        ROW[ONE]["A"],
    ]
    assert round.readings.time.tolist() == [TIME + SECOND] * 2 + [TIME + 2 * SECOND] * 2 + [TIME]
    assert round.readings.value[:3].tolist() == [1.0, 2.0, 5.0]
    assert np.isnan(round.readings.value[3])
    assert round.readings.quality.tolist() == [GOOD, GOOD, 1, BAD, GOOD]
    assert [column.dtype for column in (round.readings.row, round.readings.time)] == [np.int32, np.int64]
    assert [column.dtype for column in (round.readings.value, round.readings.quality)] == [
        np.float64,
        np.uint8,
    ]
    assert len(round.digests) == 3 * 8


def test_a_status_cuts_the_round_only_after_readings() -> None:
    gw1, gw2 = (REGISTRY.gateway_index[ONE, gateway] for gateway in ("gw1", "gw2"))
    rounds, dead = Assembler(REGISTRY).assemble(
        [
            online(True),
            online(False, to=topic(gateway="gw2", kind="status")),
            readings(1, A=1.0),
            readings(2, A=2.0),
            online(False),
            readings(3, A=3.0),
        ],
        NOW,
    )
    assert not dead
    assert [round.status for round in rounds] == [
        (GatewayStatus(gw1, True), GatewayStatus(gw2, False)),
        (GatewayStatus(gw1, False),),
    ]
    assert [round.readings.value.tolist() for round in rounds] == [[1.0, 2.0], [3.0]]
    assert [len(round.digests) for round in rounds] == [0, 6 * 8]


def test_no_messages_no_round_and_only_bad_ones_a_mark_with_their_digests() -> None:
    assembler = Assembler(REGISTRY)
    assert assembler.assemble([], NOW) == ([], [])
    rounds, dead = assembler.assemble([Message(topic(), b"{"), Message(topic(), b"[")], NOW)
    assert [(len(round.readings), round.status, len(round.digests)) for round in rounds] == [(0, (), 16)]
    assert [(letter.reason, letter.count) for letter in dead] == [("not_json", 2)]


@pytest.mark.parametrize(
    ("where", "reason", "names"),
    [
        ("", Reason.TOPIC, ""),
        ("fenghuo/v1/echo", Reason.TOPIC, "echo"),
        (f"fenghuo/v2/{ONE}/gw1/readings", Reason.TOPIC, "v2"),
        (f"fenghuo/v1/{ONE}/gw1/readings/more", Reason.TOPIC, "more"),
        (topic(kind="events"), Reason.TOPIC, "events"),
        (topic("91330000"), Reason.CREDIT_CODE, "8 characters"),
        (topic(ONE[:-1] + ("0" if ONE[-1] != "0" else "1")), Reason.CREDIT_CODE, "check character"),
        (topic(code(3)), Reason.UNKNOWN_ENTERPRISE, code(3)),
        (topic(gateway="gw9"), Reason.UNKNOWN_GATEWAY, "gw9"),
        (topic(gateway="gw9", kind="status"), Reason.UNKNOWN_GATEWAY, "gw9"),
        ("\ufffd", Reason.TOPIC, ""),
        ("a\ud800\n", Reason.TOPIC, ""),
    ],
)
def test_topics_that_nobody_may_speak_on(where: str, reason: Reason, names: str) -> None:
    rounds, dead = Assembler(REGISTRY).assemble([readings(1, to=where, A=1.0), readings(1, A=2.0)], NOW)
    letter = only(dead)
    assert (letter.time, letter.reason) == (NOW, reason)
    assert names in letter.detail
    (letter.topic + letter.detail).encode("utf-8")
    assert [value for _, _, value, _ in told(rounds)] == [2.0]


def test_one_dead_letter_for_each_reason_with_all_that_it_is_about() -> None:
    elements = [
        {"time": "2026-11-21T08:00:01Z", "readings": {"X": 1, "C": 2, "A": "3"}},
        {"time": "2026-11-21T08:00:02Z", "readings": {"Y": 1, "A": 4}},
    ]
    payload = json.dumps(elements).encode() + b" " * 300
    rounds, dead = Assembler(REGISTRY).assemble([Message(topic(), payload)], NOW)
    assert told(rounds) == [(ROW[ONE]["A"], TIME + 2 * SECOND, 4.0, GOOD)]
    details = {letter.reason: letter.detail for letter in dead}
    assert set(details) == {"unknown_point", "wrong_gateway", "value_not_number"}
    assert details["unknown_point"].startswith("X, Y (add")
    assert "C (belongs to gw2)" in details["wrong_gateway"]
    assert {letter.head for letter in dead} == {payload[:256]}


def test_a_flood_of_one_kind_is_one_dead_letter_that_says_how_many() -> None:
    flood = [Message(topic(), b"rubbish %d" % number) for number in range(5000)]
    rounds, dead = Assembler(REGISTRY).assemble([*flood[:2500], readings(1, A=1.0), *flood[2500:]], NOW)
    letter = only(dead)
    assert (letter.reason, letter.head, letter.count) == ("not_json", b"rubbish 0", 5000)
    assert [value for _, _, value, _ in told(rounds)] == [1.0]


def test_a_flood_on_many_topics_is_bounded_and_still_counted_by_reason() -> None:
    nobody = [Message(topic(gateway=f"gw{number}"), b"{}") for number in range(100, 1000)]
    _, dead = Assembler(REGISTRY).assemble([*nobody, Message(topic(), b"{"), Message("elsewhere", b"")], NOW)
    assert len(dead) == dead_letters.LETTERS + 3
    assert counted(dead[dead_letters.LETTERS :]) == {
        ("#", "unknown_gateway"): 800,
        ("#", "not_json"): 1,
        ("#", "topic"): 1,
    }
    assert sum(letter.count for letter in dead) == 902


def test_too_large() -> None:
    large = readings(1, A=1.0)
    assembler = Assembler(REGISTRY, limits=Limits(payload=len(large.payload) - 1))
    rounds, dead = assembler.assemble([large, Message(topic(), large.payload.replace(b" ", b""))], NOW)
    assert only(dead).reason == Reason.TOO_LARGE
    assert len(told(rounds)) == 1


def test_a_status_that_says_nothing_is_a_dead_letter() -> None:
    rounds, dead = Assembler(REGISTRY).assemble([online("yes"), Message(topic(kind="status"), b"")], NOW)
    assert [(letter.reason, letter.count) for letter in dead] == [("wrong_shape", 2)]
    assert rounds[0].status == ()


def test_a_repeat_is_dropped_only_if_flagged_and_known() -> None:
    first, other = readings(1, A=1.0), readings(2, A=2.0)
    again = first._replace(dup=True)
    assembler = Assembler(REGISTRY)
    before, _ = assembler.assemble([first], NOW)
    rounds, dead = assembler.assemble([again, other], NOW)
    assert [value for _, _, value, _ in told(rounds)] == [2.0]
    assert not dead
    assert assembler.dropped["repeated"] == 1
    assert len(told(assembler.assemble([first], NOW)[0])) == 1, "a gateway may say the same again"

    restarted = Assembler(REGISTRY, [before[0].digests])
    assert told(restarted.assemble([again], NOW)[0]) == []
    assert len(told(restarted.assemble([again._replace(topic=topic(TWO))], NOW)[0])) == 1


def test_a_repeat_of_a_message_of_the_same_round_is_dropped() -> None:
    first = readings(1, A=1.0)
    rounds, _ = Assembler(REGISTRY).assemble([first, first._replace(dup=True)], NOW)
    assert len(told(rounds)) == 1


def test_a_message_that_says_the_same_again_is_no_repeat_even_if_flagged() -> None:
    """The line breaks after three messages were sent and two were read: the third comes flagged."""
    gateway = REGISTRY.gateway_index[ONE, "gw1"]
    assembler = Assembler(REGISTRY)
    assembler.assemble([online(False)._replace(mid=1), online(True)._replace(mid=2)], NOW)
    again = [
        online(True)._replace(mid=2, dup=True, connection=1),
        online(False)._replace(mid=3, dup=True, connection=1),
    ]
    rounds, _ = assembler.assemble(again, NOW)
    assert [round.status for round in rounds] == [(GatewayStatus(gateway, False),)]


def test_memory_of_repeats_is_bounded_and_keeps_the_newest() -> None:
    assembler = Assembler(REGISTRY, memory=10)
    messages = [readings(second, A=float(second)) for second in range(60)]
    for message in messages:
        assembler.assemble([message], NOW)
    again, _ = assembler.assemble([message._replace(dup=True) for message in messages], NOW)
    kept = [value for _, _, value, _ in told(again)]
    assert kept == [float(second) for second in range(len(kept))]
    assert 60 - 20 <= len(kept) <= 60 - 10


def test_a_new_registry_is_in_force_from_the_next_call() -> None:
    assembler = Assembler(REGISTRY)
    message = readings(1, A=1.0, E=2.0)
    assert only(assembler.assemble([message], NOW)[1]).reason == Reason.UNKNOWN_POINT
    fresh = make_registry({ONE: [PointSpec(id="E"), PointSpec(id="A")]}, version="test-2")
    assembler.set_registry(fresh)
    rounds, dead = assembler.assemble([message], NOW)
    assert not dead
    assert [row for row, *_ in told(rounds)] == [fresh.rows[ONE]["A"], fresh.rows[ONE]["E"]]
    gone, dead = assembler.assemble([readings(1, to=topic(TWO), A=1.0)], NOW)
    assert only(dead).reason == Reason.UNKNOWN_ENTERPRISE
    assert not told(gone)


def test_a_fault_of_a_codec_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty:
        def __init__(self, points: GatewayPoints, limits: Limits) -> None: ...

        def decode(self, payload: bytes, now: int) -> Decoded:
            raise ZeroDivisionError("on\ud800 purpose")

    monkeypatch.setitem(assemble.CODECS, "events", Faulty)
    rounds, dead = Assembler(REGISTRY).assemble(
        [Message(topic(kind="events"), b"!"), readings(1, A=1.0)], NOW
    )
    assert only(dead).reason == Reason.CODEC_FAILED
    assert "ZeroDivisionError" in only(dead).detail
    assert len(told(rounds)) == 1


GOOD_MESSAGES = st.builds(
    lambda second, values, enterprise: readings(second, to=topic(enterprise), **values),
    st.integers(0, 59),
    st.dictionaries(st.sampled_from(["A", "B", "D"]), st.floats(-1e6, 1e6), max_size=3),
    st.sampled_from([ONE, TWO]),
)
STATUSES = st.builds(online, st.booleans())
RUBBISH = st.builds(
    Message,
    st.sampled_from([topic(), topic(kind="status"), topic(TWO), topic("x"), "fenghuo/v1/#"])
    | st.text(max_size=20),
    st.binary(max_size=40),
    dup=st.booleans(),
)


@given(st.lists(GOOD_MESSAGES | STATUSES | RUBBISH, max_size=12), st.data())
def test_it_does_not_matter_which_messages_came_together(
    messages: list[Message], data: st.DataObject
) -> None:
    """Nothing in one message touches another: cut anywhere, the same comes out in the same order."""
    cut = data.draw(st.integers(0, len(messages)))
    together, dead = Assembler(REGISTRY).assemble(messages, NOW)
    apart = Assembler(REGISTRY)
    first, dead_first = apart.assemble(messages[:cut], NOW)
    second, dead_second = apart.assemble(messages[cut:], NOW)
    np.testing.assert_equal(told(together), told([*first, *second]))
    assert [s for round in together for s in round.status] == [
        s for round in [*first, *second] for s in round.status
    ]
    assert counted(dead) == counted(dead_first) + counted(dead_second)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
LEVELS = ANY_TEXT | st.sampled_from(["fenghuo", "v1", ONE, TWO, "gw1", "gw2", "readings", "status", "#", "+"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.just("2026-11-21T08:00:01Z"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            ANY_TEXT
            | st.sampled_from(["time", "readings", "points", "values", "qualities", "online", "A", "value"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
ANYTHING = st.builds(
    Message,
    st.sampled_from([topic(), topic(TWO), topic(kind="status")])
    | ANY_TEXT
    | st.lists(LEVELS, max_size=6).map("/".join)
    | st.tuples(LEVELS, LEVELS, LEVELS).map(lambda levels: "/".join(["fenghuo", "v1", *levels])),
    st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
    mid=st.integers(0, 65535),
    dup=st.booleans(),
)


@settings(max_examples=200)
@given(st.lists(ANYTHING, min_size=1, max_size=8))
def test_whatever_arrives_is_a_round_and_letters_that_can_be_written(messages: list[Message]) -> None:
    assembler = Assembler(REGISTRY)
    rounds, dead = assembler.assemble([*messages, readings(1, A=7.0)], NOW)
    assert told(rounds)[-1] == (ROW[ONE]["A"], TIME + SECOND, 7.0, GOOD)
    for letter in dead:
        (letter.topic + letter.detail).encode("utf-8")
        assert letter.reason in set(Reason) - {Reason.CODEC_FAILED}
        assert len(letter.topic) <= 256
        assert len(letter.head) <= 256


def test_a_fault_of_ours_in_any_step_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(assemble, "status", faulty)
    monkeypatch.setattr(assemble.credit, "check", faulty)
    rounds, dead = Assembler(REGISTRY).assemble(
        [online(True), readings(1, to=topic("nobody"), A=1.0), readings(1, A=2.0)], NOW
    )
    assert [letter.reason for letter in dead] == [Reason.CODEC_FAILED] * 2
    assert [value for _, _, value, _ in told(rounds)] == [2.0]
