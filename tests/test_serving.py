"""The serving process from inside: what it says of the judge, and that none of its parts takes another along."""

from fenghuo.system_findings import SystemFindings
from streams.finding import Phase

NOW = 1_795_334_400_000_000  # 2026-11-22T08:00:00Z


def test_what_is_not_known_neither_begins_nor_ends_a_finding() -> None:
    system = SystemFindings()
    assert system.holds("system.judge", NOW, None) == []
    [begun] = system.holds("system.judge", NOW, "it says nothing")
    assert system.holds("system.judge", NOW + 1, None) == []
    [ended] = system.holds("system.judge", NOW + 2, "")
    assert (begun.phase, ended.phase, ended.id) == (Phase.BEGUN, Phase.ENDED, begun.id)
