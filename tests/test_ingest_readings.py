"""Joining rounds: what is journaled as one says what the several said."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.readings import GatewayStatus, Readings, Round, joined


def readings(rows: list[int]) -> Readings:
    count = len(rows)
    return Readings(
        np.array(rows, np.int32),
        np.arange(count, dtype=np.int64),
        np.arange(count, dtype=np.float64),
        np.zeros(count, np.uint8),
    )


ROUNDS = st.lists(
    st.builds(
        Round,
        st.integers(0, 2),
        st.booleans(),
        st.none() | st.none() | st.just("v1"),
        st.just(()) | st.just((GatewayStatus(1, True),)),
        st.lists(st.integers(0, 9), max_size=3).map(readings),
        st.binary(min_size=8, max_size=8),
    ),
    max_size=12,
)


@given(ROUNDS)
def test_joined_rounds_say_the_same_in_the_same_order(rounds: list[Round]) -> None:
    whole = joined(rounds)
    assert b"".join(r.digests for r in whole) == b"".join(r.digests for r in rounds)
    for column in ("row", "time", "value", "quality"):
        np.testing.assert_array_equal(
            np.concatenate([np.empty(0), *(getattr(r.readings, column) for r in whole)]),
            np.concatenate([np.empty(0), *(getattr(r.readings, column) for r in rounds)]),
        )

    def said(some: list[Round]) -> list[tuple[int, bool, int]]:
        return [(r.time, r.listening, row) for r in some for row in r.readings.row.tolist()]

    assert said(whole) == said(rounds)
    assert [(r.time, r.status) for r in whole if r.status] == [(r.time, r.status) for r in rounds if r.status]
    assert [r.version for r in whole if r.version] == [r.version for r in rounds if r.version]


def test_only_neighbours_of_one_time_without_status_are_joined() -> None:
    plain, later = Round(1, readings=readings([1])), Round(2, readings=readings([2]))
    told = Round(1, status=(GatewayStatus(1, True),), readings=readings([3]))
    assert [len(r.readings) for r in joined([plain, plain, later, plain])] == [2, 1, 1]
    assert [len(r.readings) for r in joined([plain, told, told, plain, plain])] == [1, 1, 1, 2]
    assert len(joined([Round(1, version="v1"), Round(1, version="v1")])) == 2
