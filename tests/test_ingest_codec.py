"""The native codec: every form of docs/wire-format.md, and every kind of bad input with its reason."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import ADVICE, Decoded, GatewayPoints, Limits, Problem, Reason, parse_time
from ingest.native import CACHED, Native, status
from ingest.readings import BAD, GOOD, UNCERTAIN
from registry.clock import DAY, SECOND
from tests.build import PointSpec, code, make_registry

NOW = 1_795_248_005 * SECOND  # 2026-11-21T08:00:05Z
T = "2026-11-21T08:00:00.000Z"
TIME = 1_795_248_000 * SECOND
NAMES = ("TI-1101", "PI-1102", "GD-2001", "GD-2002")
REGISTRY = make_registry(
    {code(1): [*(PointSpec(id=id) for id in NAMES), PointSpec(id="FI-3001", gateway="gw2")]}
)
ROW = {id: row for row, id in enumerate(NAMES)}
WIRE_FORMAT = (Path(__file__).parent.parent / "docs" / "wire-format.md").read_text("utf-8")


def codec(limits: Limits | None = None) -> Native:
    return Native(GatewayPoints(REGISTRY, 0), limits or Limits())


def decode(payload: object) -> Decoded:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return codec().decode(raw, NOW)


def readings(decoded: Decoded) -> list[tuple[str, int, float | None, int]]:
    """Readings as plain tuples; None for NaN, so that they compare."""
    return [
        (NAMES[row], part.time, None if math.isnan(value) else value, int(quality))
        for part in decoded.columns
        for row, value, quality in zip(
            part.row.tolist(),
            part.value.tolist(),
            np.where(np.isnan(part.value), BAD, GOOD) if part.quality is None else part.quality,
            strict=True,
        )
    ]


def reasons(decoded: Decoded) -> list[str]:
    return [problem.reason for problem in decoded.problems]


def test_rows_with_and_without_quality() -> None:
    decoded = decode(
        {
            "time": T,
            "readings": {
                "TI-1101": 81.2,
                "PI-1102": {"value": 1, "quality": "uncertain"},
                "GD-2001": {"value": 3.0, "quality": "bad"},
                "GD-2002": None,
            },
        }
    )
    assert readings(decoded) == [
        ("TI-1101", TIME, 81.2, GOOD),
        ("PI-1102", TIME, 1.0, UNCERTAIN),
        ("GD-2001", TIME, None, BAD),
        ("GD-2002", TIME, None, BAD),
    ]
    assert not decoded.problems


def test_columns_in_any_order_with_qualities() -> None:
    decoded = decode(
        {
            "time": T,
            "points": ["GD-2002", "TI-1101", "PI-1102"],
            "values": [1, None, 2.5],
            "qualities": ["uncertain", "good", "bad"],
        }
    )
    assert readings(decoded) == [
        ("GD-2002", TIME, 1.0, UNCERTAIN),
        ("TI-1101", TIME, None, BAD),
        ("PI-1102", TIME, None, BAD),
    ]


def test_each_element_of_a_list_stands_for_itself() -> None:
    decoded = decode(
        [
            {"time": T, "readings": {"TI-1101": 1.0}},
            17,
            {"time": "yesterday", "readings": {"TI-1101": 2.0}},
            {"time": T, "points": ["PI-1102"], "values": [3.0]},
            {"readings": {"TI-1101": 4.0}},
        ]
    )
    assert [value for _, _, value, _ in readings(decoded)] == [1.0, 3.0]
    assert reasons(decoded) == [Reason.WRONG_SHAPE, Reason.TIME_UNREADABLE, Reason.TIME_MISSING]


def test_good_half_is_kept() -> None:
    decoded = decode(
        b'{"time": "2026-11-21T08:00:00Z", "readings": {"TI-1101": 1.5, "X-1": 2, "FI-3001": 3,'
        b'"PI-1102": NaN, "GD-2001": "7", "GD-2002": {"value": 8, "quality": "fine"}}}'
    )
    assert readings(decoded) == [("TI-1101", TIME, 1.5, GOOD)]
    details = {problem.reason: problem.detail for problem in decoded.problems}
    assert details == {
        Reason.UNKNOWN_POINT: "X-1",
        Reason.WRONG_GATEWAY: "FI-3001 (belongs to gw2)",
        Reason.VALUE_NOT_FINITE: "PI-1102: nan",
        Reason.VALUE_NOT_NUMBER: "GD-2001: '7'",
        Reason.QUALITY_UNKNOWN: "GD-2002: 'fine'",
    }


@pytest.mark.parametrize("form", ["rows", "columns"])
def test_unknown_points_cost_only_themselves_on_the_fast_path(form: str) -> None:
    ids, values = ["X-1", "TI-1101", "X-2", "GD-2001"], [1.0, 2.0, 3.0, 4.0]
    message = {"time": T}
    message |= (
        {"readings": dict(zip(ids, values, strict=True))}
        if form == "rows"
        else {"points": ids, "values": values, "qualities": ["good", "good", "bad", "uncertain"]}
    )
    decoded = decode(message)
    assert [(id, value) for id, _, value, _ in readings(decoded)] == [("TI-1101", 2.0), ("GD-2001", 4.0)]
    assert decoded.problems == [Problem(Reason.UNKNOWN_POINT, "X-1, X-2")]


def test_last_of_a_repeated_point_counts() -> None:
    columns = decode({"time": T, "points": ["TI-1101", "PI-1102", "TI-1101"], "values": [1, 2, 3]})
    assert sorted(readings(columns)) == [("PI-1102", TIME, 2.0, GOOD), ("TI-1101", TIME, 3.0, GOOD)]
    assert reasons(columns) == [Reason.DUPLICATE_POINT]
    rows = decode(b'{"time": "%s", "readings": {"TI-1101": 1, "TI-1101": 3}}' % T.encode())
    assert readings(rows) == [("TI-1101", TIME, 3.0, GOOD)]
    slowly = decode(b'{"time": "%s", "readings": {"TI-1101": 1, "TI-1101": 3, "PI-1102": true}}' % T.encode())
    assert readings(slowly) == [("TI-1101", TIME, 3.0, GOOD)]
    assert set(reasons(slowly)) == {Reason.DUPLICATE_POINT, Reason.VALUE_NOT_NUMBER}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"\xff\xfe{}", Reason.NOT_UTF8),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON),
        (b"{" * 100_000, Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b'{"time": "' + b"9" * 10_000 + b'", "readings": {}}', Reason.TIME_UNREADABLE),
        (
            b'{"time": "%s", "readings": {"TI-1101": %s}}' % (T.encode(), b"9" * 10_000),
            Reason.VALUE_NOT_FINITE,
        ),
        (b'{"time": "%s", "readings": {"TI-1101": -1e999}}' % T.encode(), Reason.VALUE_NOT_FINITE),
        (b'{"time": "%s", "readings": {"\\ud800": 1}}' % T.encode(), Reason.UNKNOWN_POINT),
        (b'{"time": "%s", "readings": {"a\\u0000b\\n": 1}}' % T.encode(), Reason.UNKNOWN_POINT),
        (b"null", Reason.WRONG_SHAPE),
        (b'"text"', Reason.WRONG_SHAPE),
        (b"[[]]", Reason.WRONG_SHAPE),
        (b'{"time": "%s", "readings": []}' % T.encode(), Reason.WRONG_SHAPE),
        (b'{"time": "%s", "points": "TI-1101", "values": [1]}' % T.encode(), Reason.WRONG_SHAPE),
        (b'{"time": "%s", "points": [1], "values": [1]}' % T.encode(), Reason.WRONG_SHAPE),
        (b'{"time": "%s", "points": ["TI-1101"]}' % T.encode(), Reason.WRONG_SHAPE),
        (
            b'{"time": "%s", "points": ["TI-1101"], "values": [1], "qualities": []}' % T.encode(),
            Reason.WRONG_SHAPE,
        ),
        (b'{"time": "%s", "readings": {"TI-1101": 1}, "values": [1]}' % T.encode(), Reason.WRONG_SHAPE),
        (b'{"time": "%s", "readings": {"TI-1101": [1]}}' % T.encode(), Reason.VALUE_NOT_NUMBER),
        (
            b'{"enterprise": 5, "time": "%s", "readings": {"TI-1101": 1}}' % T.encode(),
            Reason.ENTERPRISE_MISMATCH,
        ),
        (b'{"time": "2026-11-22T08:00:06Z", "readings": {"TI-1101": 1}}', Reason.TIME_ABSURD),
        (b'{"time": "0001-01-01T00:00:00+14:00", "readings": {"TI-1101": 1}}', Reason.TIME_ABSURD),
    ],
    ids=lambda value: value.decode("latin-1")[:40] if isinstance(value, bytes) else value,
)
def test_bad_input_is_named(payload: bytes, reason: Reason) -> None:
    decoded = codec().decode(payload, NOW)
    assert not readings(decoded)
    assert reasons(decoded) == [reason]
    assert decoded.problems[0].detail.encode("utf-8").isascii() or decoded.problems[0].detail.isprintable()
    assert len(decoded.problems[0].detail) < 300


def test_empty_messages_are_no_fault() -> None:
    for payload in ([], {"time": T, "readings": {}}, {"time": T, "points": [], "values": []}):
        decoded = decode(payload)
        assert not decoded.columns
        assert not decoded.problems


def test_naming_the_right_enterprise_and_gateway_is_no_fault() -> None:
    decoded = decode({"enterprise": code(1), "gateway": "gw1", "time": T, "readings": {"TI-1101": 1}})
    assert readings(decoded) == [("TI-1101", TIME, 1.0, GOOD)]


def test_too_many_readings() -> None:
    payload = json.dumps([{"time": T, "readings": {"TI-1101": 1, "PI-1102": 2}}] * 3).encode()
    assert reasons(codec(Limits(readings=5)).decode(payload, NOW)) == [Reason.TOO_MANY_READINGS]
    assert len(readings(codec(Limits(readings=6)).decode(payload, NOW))) == 6


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-11-21T08:00:00Z", TIME),
        ("2026-11-21T16:00:00+08:00", TIME),
        ("2026-11-21T08:00:00.000001Z", TIME + 1),
        ("2026-11-21T08:00:00.123456999Z", TIME + 123_456),
        ("2000-01-01T00:00:00Z", 946_684_800 * SECOND),
    ],
)
def test_time_is_exact_to_the_microsecond(text: str, micros: int) -> None:
    assert parse_time(text, NOW) == micros


@given(st.integers(946_684_800 * SECOND, NOW + DAY))
def test_every_microsecond_survives(micros: int) -> None:
    text = str(np.datetime64(micros, "us")) + "Z"
    assert parse_time(text, NOW) == micros


def test_caches_are_bounded_and_right() -> None:
    one = codec()
    for round in range(5 * CACHED):
        ids = [*NAMES[round % 4 :], f"X-{round}"]
        for message in (
            {"time": T, "points": ids, "values": [float(round)] * len(ids)},
            {"time": T, "readings": dict.fromkeys(ids, float(round))},
        ):
            decoded = one.decode(json.dumps(message).encode(), NOW)
            assert [(id, value) for id, _, value, _ in readings(decoded)] == [
                (id, float(round)) for id in ids[:-1]
            ]
    assert len(one._by_ids) <= CACHED
    assert len(one._by_text) <= CACHED


POINT_IDS = st.sampled_from([*NAMES, "FI-3001", "X-1", "X-2"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60) | st.none()
WORDS = st.sampled_from(["good", "uncertain", "bad"])
CELLS = NUMBERS | st.fixed_dictionaries({}, optional={"value": NUMBERS, "quality": WORDS})
TIMES = st.sampled_from([T, "2026-11-21T16:00:01+08:00", "2026-11-21", "1999-01-01T00:00:00Z"])
NAMED = {"enterprise": st.sampled_from([code(1), code(2)]), "gateway": st.just("gw1")}


@st.composite
def columnar(draw: st.DrawFn) -> dict[str, object]:
    ids = draw(st.lists(POINT_IDS, max_size=6))
    packet: dict[str, object] = {
        "time": draw(TIMES),
        "points": ids,
        "values": draw(st.lists(NUMBERS, min_size=len(ids), max_size=len(ids) + draw(st.integers(0, 1)))),
    }
    if draw(st.booleans()):
        packet["qualities"] = draw(st.lists(WORDS, min_size=len(ids), max_size=len(ids)))
    return packet


ROWS = st.fixed_dictionaries(
    {"time": TIMES, "readings": st.dictionaries(POINT_IDS, CELLS, max_size=6)}, optional=NAMED
)
PACKETS = ROWS | columnar()


@given(PACKETS | st.lists(PACKETS, max_size=4))
def test_the_fast_path_says_what_the_slow_path_says(message: object) -> None:
    payload = json.dumps(message).encode()
    one = codec()
    fast = one._fast(payload, NOW)
    slow = one._slow(payload, NOW)
    if fast is not None:
        assert readings(fast) == readings(slow)
        assert fast.problems == slow.problems


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from([*NAMES, T]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.sampled_from(["time", "readings", "points", "values", "qualities", "value", *NAMES]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_no_payload_whatever_raises(payload: bytes) -> None:
    decoded = codec().decode(payload, NOW)
    for part in decoded.columns:
        assert (
            len(part.row) == len(part.value) == (len(part.row) if part.quality is None else len(part.quality))
        )
        assert not np.isinf(part.value).any()
        if part.quality is not None:
            assert ((part.quality == BAD) == np.isnan(part.value)).all()
    for problem in decoded.problems:
        problem.detail.encode("utf-8")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"online": true}', True),
        (b' {"online":false, "since": 5} ', False),
        (b'{"online": 1}', None),
        (b'{"online": "true"}', None),
        (b"online", None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_status(payload: bytes, says: bool | None) -> None:
    told = status(payload)
    if says is None:
        assert isinstance(told, Problem)
        assert told.reason == Reason.WRONG_SHAPE
    else:
        assert told is says


def test_every_reason_says_how_to_mend_it_and_is_in_the_docs() -> None:
    assert set(ADVICE) == set(Reason)
    for reason in Reason:
        assert f"`{reason}`" in WIRE_FORMAT


def test_the_examples_of_the_docs_are_decoded() -> None:
    examples = re.findall(r"```json\n(.*?)```", WIRE_FORMAT, re.DOTALL)
    assert len(examples) == 6
    for example in examples:
        payload = example.encode()
        if b"online" in payload:
            assert status(payload) is True
            continue
        decoded = decode(payload)
        assert not decoded.problems, example
        assert decoded.columns, example
        assert {part.time for part in decoded.columns} <= {TIME, TIME + SECOND}


def test_the_bad_examples_of_the_docs_are_refused_for_the_reason_given() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\{.*\}?)`", WIRE_FORMAT, re.MULTILINE)
    assert len(rows) == 17
    for reason, payload in rows:
        assert reasons(decode(payload.encode())) == [reason], payload
