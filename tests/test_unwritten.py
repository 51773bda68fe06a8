"""What has been judged and is not yet journaled keeps its order, and a failed round stays alone."""

from fenghuo.unwritten import Unwritten
from ingest.readings import Round


def test_rounds_of_one_time_are_journaled_as_one() -> None:
    waiting = Unwritten()
    assert not waiting
    assert not waiting.due(0.0)
    for time in (1, 1, 1, 2):
        waiting.add(Round(time, digests=b"%8d" % time), [], apart=False)
    assert waiting
    assert waiting.due(0.0)
    assert not waiting.due(1000.0)
    assert [(r.time, len(r.digests)) for r in waiting.joined()] == [(1, 24), (2, 8)]


def test_a_round_over_which_the_engine_failed_is_replayed_as_it_was_lived() -> None:
    waiting = Unwritten()
    for digest, apart in (
        (b"1", False),
        (b"2", True),
        (b"3", False),
        (b"4", False),
        (b"5", True),
        (b"6", True),
    ):
        waiting.add(Round(1, digests=digest), [], apart=apart)
    assert [r.digests for r in waiting.joined()] == [b"1", b"2", b"34", b"5", b"6"]
