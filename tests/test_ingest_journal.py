"""The journal: append, read, recover, rotate, retain; and random histories against a plain list."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest import journal_file
from ingest.journal import (
    Journal,
    JournalDamaged,
    JournalLocked,
    Lost,
    dead_letters,
    read,
    usage,
    version_at,
)
from ingest.journal_reader import dead_letter_id
from ingest.readings import DeadLetter, Round
from registry.clock import HOUR, MINUTE
from tests.test_ingest_pack import messages, same

FOREVER = 1 << 60


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal", reserve=0) as journal:
        yield journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.sqlite"))


def offsets(folder: Path, after: int = 0) -> list[int]:
    return [offset for offset, _ in read(folder, after)]


def letter(time: int, topic: str = "t", reason: str = "not_json") -> DeadLetter:
    return DeadLetter(time, topic, reason, "expected an object", b"{")


# -- append, read, recover ---------------------------------------------------------------------------


def test_a_new_journal_is_empty(journal: Journal, folder: Path) -> None:
    assert (journal.last_offset, journal.last_time, journal.version) == (0, 0, None)
    assert journal.first_offset == 1
    assert list(journal.read(0)) == []
    assert journal.append([]) == 0


def test_what_is_appended_is_read_back_by_another_connection(journal: Journal, folder: Path) -> None:
    rounds = [replace(messages(1), time=time) for time in (1, 1, 2)]
    assert journal.append(rounds[:2]) == 2
    assert journal.append(rounds[2:]) == 3
    back = list(read(folder, 0))
    assert [offset for offset, _ in back] == [1, 2, 3]
    assert all(same(a, b) for (_, a), b in zip(back, rounds, strict=True))
    assert offsets(folder, 2) == [3]
    assert offsets(folder, 9) == []


def test_a_reader_that_waits_at_the_end_goes_on_across_a_rotation(journal: Journal, folder: Path) -> None:
    journal.append([Round(1), Round(2)])
    reader = read(folder, 0)
    assert next(reader)[0] == 1
    journal.append([Round(3)])
    journal.append([Round(HOUR)])
    assert [offset for offset, _ in reader] == [2, 3, 4]


def test_it_opens_where_it_ended(journal: Journal, folder: Path) -> None:
    journal.append([Round(5), Round(7, version="v1"), Round(8)], [letter(5), letter(6)])
    journal.close()
    with Journal(folder, reserve=0) as again:
        assert (again.last_offset, again.last_time, again.version) == (3, 8, "v1")
        assert again.append([Round(8)], [letter(8)]) == 4
        assert [id_ for id_, _ in dead_letters(folder, limit=9)] == [3, 2, 1]


def test_an_offset_that_the_desk_knows_is_never_given_again(folder: Path) -> None:
    with Journal(folder, reserve=0) as journal:
        journal.append([Round(1, version="v1")])
    with Journal(folder, reserve=0, after=10) as journal:
        assert (journal.last_offset, journal.version) == (10, "v1")
        assert journal.append([Round(2)]) == 11
    with Journal(folder, reserve=0, after=5) as journal:
        assert journal.last_offset == 11
        assert journal.missing == (Lost(1, 1, 2, 10),)
        assert offsets(folder) == [1, 11]


@pytest.mark.parametrize("times", [[4], [6, 5]])
def test_time_does_not_go_backwards(journal: Journal, folder: Path, times: list[int]) -> None:
    journal.append([Round(5)])
    with pytest.raises(ValueError, match="backwards"):
        journal.append([Round(time) for time in times])
    assert journal.append([Round(5)]) == 2
    assert offsets(folder) == [1, 2]


def test_recent_digests_are_those_of_the_newest_messages(journal: Journal, folder: Path) -> None:
    names = [bytes([n]) * 8 for n in range(6)]
    journal.append([Round(1, digests=names[0] + names[1]), Round(2, digests=names[2])])
    journal.append([Round(HOUR, digests=names[3]), Round(HOUR), Round(HOUR, digests=names[4])])
    assert journal.recent_digests(2) == [names[3], names[4]]
    assert journal.recent_digests(4) == names[:5]
    assert journal.recent_digests(99) == names[:5]


# -- files ---------------------------------------------------------------------------------------------


def test_each_hour_of_arrival_is_a_file(journal: Journal, folder: Path) -> None:
    for time in (HOUR - 1, HOUR, 2 * HOUR - 1, 5 * HOUR):
        journal.append([Round(time)])
    assert files(folder) == [f"{n:020}.sqlite" for n in (1, 2, 4)]
    assert offsets(folder) == [1, 2, 3, 4]
    assert not list(folder.glob(f"{1:020}.sqlite-*")), "a finished file stands alone"


def test_one_append_is_in_one_file(journal: Journal, folder: Path) -> None:
    journal.append([Round(1)])
    journal.append([Round(HOUR), Round(3 * HOUR)])
    journal.append([Round(3 * HOUR)])
    assert files(folder) == [f"{n:020}.sqlite" for n in (1, 2, 4)]


def test_a_reader_inside_a_finished_file_does_not_hold_up_the_writer(journal: Journal, folder: Path) -> None:
    journal.append([Round(1), Round(2)])
    reader = read(folder, 0)
    next(reader)
    journal.append([Round(HOUR)])
    assert list(folder.glob(f"{1:020}.sqlite-*")), "not sealed while it is read"
    assert [offset for offset, _ in reader] == [2, 3]
    journal.retain(absorbed=0, history=None, max_age=FOREVER, max_bytes=FOREVER, now=HOUR)
    assert not list(folder.glob(f"{1:020}.sqlite-*"))


def test_versions_are_known_by_offset_and_by_what_is_left(journal: Journal, folder: Path) -> None:
    journal.append([Round(1, version="a"), Round(2), Round(3, version="b")])
    journal.append([Round(HOUR)])
    journal.append([Round(2 * HOUR, version="c")])
    assert [version_at(folder, offset) for offset in range(7)] == [None, "a", "a", "b", "b", "c", "c"]
    assert journal.versions_used() == {"a", "b", "c"}
    journal.retain(absorbed=5, history=None, max_age=0, max_bytes=FOREVER, now=2 * HOUR)
    assert journal.versions_used() == {"b", "c"}
    journal.close()
    with Journal(folder, reserve=0) as again:
        assert again.versions_used() == {"b", "c"}


def test_a_second_writer_is_told_who_is_first(journal: Journal, folder: Path) -> None:
    with pytest.raises(JournalLocked, match=str(os.getpid())):
        Journal(folder, reserve=0)
    journal.close()
    Journal(folder, reserve=0).close()


# -- dead letters --------------------------------------------------------------------------------------


def test_dead_letters_come_newest_first_in_pages_across_files(journal: Journal, folder: Path) -> None:
    journal.append([Round(1)], [letter(1), letter(2, "u", "too_large")])
    journal.append([], [letter(3)])
    journal.append([Round(HOUR)], [letter(HOUR, "u")])
    everything = dead_letters(folder, limit=9)
    assert [(id_, dead.time) for id_, dead in everything] == [(4, HOUR), (3, 3), (2, 2), (1, 1)]
    assert dead_letters(folder, limit=2) == everything[:2]
    assert dead_letters(folder, limit=2, before=3) == everything[2:]
    assert dead_letters(folder, limit=2, before=0) == []
    flood = replace(letter(HOUR + 1, "u", "too_large"), count=5000)
    journal.append([], [flood])
    assert dead_letters(folder, limit=1) == [(5, flood)]


def test_a_dead_letter_is_found_by_its_time_and_its_place_among_those_of_that_time(
    journal: Journal, folder: Path
) -> None:
    journal.append([Round(1)], [letter(1, "a/x"), letter(1, "b/x"), letter(1, "a/x"), letter(2, "a/x")])
    assert [dead_letter_id(folder, time=1, place=place) for place in (1, 2, 3, 4)] == [3, 2, 1, 0]
    found = [dead_letter_id(folder, time=1, place=n, topic_prefixes=["a/"]) for n in (1, 2, 3)]
    assert found == [3, 1, 0]


def test_a_city_has_more_topics_than_an_expression_may_have_terms(journal: Journal, folder: Path) -> None:
    journal.append([Round(1)], [letter(1, "fenghuo/v1/E0007/gw/x"), letter(1, "fenghuo/v1/E2000/gw/x")])
    prefixes = ["elsewhere/", *(f"fenghuo/v1/E{number:04}/" for number in range(2000))]
    [(_, found)] = dead_letters(folder, limit=9, topic_prefixes=prefixes)
    assert found.topic == "fenghuo/v1/E0007/gw/x"


def test_dead_letters_can_be_kept_to_topics(journal: Journal, folder: Path) -> None:
    topics = ["fenghuo/v1/A/gw/readings", "fenghuo/v1/A_/gw", "fenghuo/v1/B/gw", "fenghuo/v1/A%"]
    journal.append([], [letter(n, topic) for n, topic in enumerate(topics)])

    def seen(*prefixes: str) -> list[str]:
        return [dead.topic for _, dead in dead_letters(folder, limit=9, topic_prefixes=prefixes)]

    assert seen("fenghuo/v1/A/") == topics[:1]
    assert seen("fenghuo/v1/A/", "fenghuo/v1/B/") == [topics[2], topics[0]]
    assert seen("fenghuo/v1/A_") == topics[1:2]
    assert seen() == []


def test_a_dead_letter_with_an_impossible_character_is_kept(journal: Journal, folder: Path) -> None:
    journal.append([], [DeadLetter(1, "t\ud800\0", "not_json", "found '\udfff'", b"\xff\0")])
    ((_, dead),) = dead_letters(folder, limit=1)
    assert (dead.topic, dead.detail, dead.head) == ("t\\ud800\0", "found '\\udfff'", b"\xff\0")


# -- foreign and damaged files -------------------------------------------------------------------------


def fill(folder: Path) -> list[Path]:
    with Journal(folder, reserve=0) as journal:
        for hour in range(3):
            journal.append([replace(messages(4, seed=n), time=hour * HOUR) for n in range(5)])
    return [folder / name for name in files(folder)]


@pytest.mark.parametrize("name", ["notes.sqlite", "00000000000000000099.sqlite"])
def test_a_foreign_file_is_named(folder: Path, name: str) -> None:
    fill(folder)
    with sqlite3.connect(folder / name) as foreign:
        foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    with pytest.raises(JournalDamaged, match=rf"{name}: not a file of a journal\. Move it out"):
        Journal(folder, reserve=0)


def test_a_file_that_is_not_a_database_is_named(folder: Path) -> None:
    (path, *_) = fill(folder)
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(JournalDamaged, match=r"is not a database\. .*restore the file"):
        Journal(folder, reserve=0)


def test_a_renamed_file_says_its_name(folder: Path) -> None:
    paths = fill(folder)
    paths[1].rename(folder / f"{7:020}.sqlite")
    with pytest.raises(JournalDamaged, match=f"Rename it to {6:020}.sqlite"):
        Journal(folder, reserve=0)


def test_a_newer_format_is_named(folder: Path) -> None:
    paths = fill(folder)
    with sqlite3.connect(paths[-1]) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalDamaged, match="format 99"):
        Journal(folder, reserve=0)


@pytest.mark.parametrize("keep", [0, 4096, 10_000])
def test_a_truncated_file_is_named(folder: Path, keep: int) -> None:
    paths = fill(folder)
    os.truncate(paths[-1], keep)
    with pytest.raises(JournalDamaged, match=paths[-1].name):
        Journal(folder, reserve=0)


def test_a_rotten_round_is_named_when_it_is_read(folder: Path) -> None:
    paths = fill(folder)
    with sqlite3.connect(paths[1]) as db:
        ((blob,),) = db.execute("SELECT blob FROM round WHERE offset = 7").fetchall()
        db.execute("UPDATE round SET blob = ? WHERE offset = 7", (blob[:-9] + b"!" + blob[-8:],))
    db.close()
    seen: list[int] = []
    with pytest.raises(JournalDamaged, match=rf"{paths[1].name}: round 7"):
        seen.extend(offset for offset, _ in read(folder, 0))
    assert offsets(folder, 7) == list(range(8, 16))


def test_a_file_moved_away_is_a_gap_that_is_reported(folder: Path) -> None:
    paths = fill(folder)
    paths[1].unlink()
    with Journal(folder, reserve=0) as journal:
        assert journal.missing == (Lost(0, HOUR, 6, 10),)
        assert offsets(folder) == [*range(1, 6), *range(11, 16)]
        assert journal.append([Round(2 * HOUR)]) == 16


def test_the_newest_file_moved_away_is_a_gap_that_is_reported_at_once(folder: Path) -> None:
    paths = fill(folder)
    paths[-1].unlink()
    for _ in range(2):
        with Journal(folder, reserve=0, after=15) as journal:
            assert [(lost.first_offset, lost.last_offset) for lost in journal.missing] == [(11, 15)]
            assert journal.last_offset == 15


def test_all_files_moved_away_is_a_gap_that_is_reported(folder: Path) -> None:
    for path in fill(folder):
        path.unlink()
    with Journal(folder, reserve=0, after=15) as journal:
        assert journal.missing == (Lost(0, 0, 1, 15),)
        assert journal.append([Round(2 * HOUR)]) == 16


def test_what_a_killed_rotation_leaves_is_cleared(folder: Path) -> None:
    paths = fill(folder)
    half_made = folder / f"{16:020}.sqlite.new"
    orphan = folder / f"{0:020}.sqlite-wal"
    for leftover in (half_made, folder / f"{half_made.name}-journal", orphan):
        leftover.write_bytes(b"half")
    (folder / "notes-wal").write_bytes(b"not ours")
    with Journal(folder, reserve=0) as journal:
        assert journal.last_offset == 15
        assert files(folder) == [path.name for path in paths]
        assert not half_made.exists()
        assert not orphan.exists()
        assert (folder / "notes-wal").exists()


# -- retention -----------------------------------------------------------------------------------------


def hours(journal: Journal, count: int) -> None:
    """Two rounds an hour: offsets 1 and 2 in the first file, 3 and 4 in the second ..."""
    for hour in range(count):
        journal.append([replace(messages(2, seed=hour), time=hour * HOUR + n * MINUTE) for n in (1, 2)])


def test_old_files_go_once_everyone_has_them(journal: Journal, folder: Path) -> None:
    hours(journal, 5)
    keep = {"max_age": HOUR, "max_bytes": FOREVER, "now": 4 * HOUR + 2 * MINUTE}
    assert journal.retain(absorbed=3, history=None, **keep) is None
    assert journal.first_offset == 3, "the second file holds offset 4, which the desk lacks"
    assert journal.retain(absorbed=10, history=5, **keep) is None
    assert journal.first_offset == 5, "history lacks offset 6"
    assert journal.retain(absorbed=10, history=10, **keep) is None
    assert journal.first_offset == 7, "the fourth is not old enough"
    assert offsets(folder) == [7, 8, 9, 10]


def test_the_budget_drops_what_only_history_lacks_and_names_it(journal: Journal, folder: Path) -> None:
    hours(journal, 5)
    keep = {"max_age": FOREVER, "now": 5 * HOUR}
    size = usage(folder).bytes // 5
    assert journal.retain(absorbed=10, history=0, max_bytes=10 * size, **keep) is None
    lost = journal.retain(absorbed=6, history=1, max_bytes=1, **keep)
    assert lost == Lost(2 * MINUTE, 2 * HOUR + 2 * MINUTE, 2, 6)
    assert journal.first_offset == 7, "beyond what the desk has absorbed nothing goes, whatever the budget"
    lost = journal.retain(absorbed=10, history=8, max_bytes=1, **keep)
    assert lost is None
    assert offsets(folder) == [9, 10], "the newest file stays"


def test_a_dropped_file_takes_nothing_from_one_who_is_reading_it(journal: Journal, folder: Path) -> None:
    hours(journal, 3)
    reader = read(folder, 0)
    assert next(reader)[0] == 1
    journal.retain(absorbed=6, history=None, max_age=0, max_bytes=1, now=3 * HOUR)
    assert [offset for offset, _ in reader] == [2, 5, 6]


def test_usage_says_how_long_it_lasts(journal: Journal, folder: Path) -> None:
    assert usage(folder).bytes_per_hour is None
    hours(journal, 3)
    for seen in (usage(folder, 10**9), journal.usage(10**9)):
        assert seen.bytes == sum(path.stat().st_size for path in folder.glob("*.sqlite*"))
        rate = seen.bytes / (2 + 1 / 60)
        assert seen.bytes_per_hour == pytest.approx(rate)
        assert seen.hours == pytest.approx(10**9 / rate)
    assert usage(folder, 1 << 60).hours == pytest.approx((seen.bytes + seen.free) / rate, rel=0.01)


def test_readers_need_no_journal(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert list(read(nowhere, 0)) == []
    assert dead_letters(nowhere, limit=1) == []
    assert version_at(nowhere, 1) is None


# -- another process -----------------------------------------------------------------------------------

_FOLLOW = """
import sys
from pathlib import Path
from ingest.journal import read
after, last = 0, int(sys.argv[2])
while after < last:
    for offset, round_ in read(Path(sys.argv[1]), after):
        assert offset == after + 1, (offset, after)
        assert round_.time == offset * 60_000_000 and len(round_.readings) == 20
        after = offset
print(after)
"""


def test_another_process_follows_the_writer(journal: Journal, folder: Path) -> None:
    last = 300  # six files
    follower = subprocess.Popen(
        [sys.executable, "-c", _FOLLOW, str(folder), str(last)], stdout=subprocess.PIPE, text=True
    )
    for offset in range(1, last + 1):
        journal.append([replace(messages(1, 20), time=offset * MINUTE)])
    out, _ = follower.communicate(timeout=60)
    assert (follower.returncode, out) == (0, f"{last}\n")
    assert len(files(folder)) == 6


# -- random histories against a list -------------------------------------------------------------------


@dataclass
class Part:
    """One file, as a plain list."""

    first: int
    rounds: list[Round] = field(default_factory=list)
    dead: list[tuple[int, DeadLetter]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.rounds) - 1


class Histories(RuleBasedStateMachine):
    """Append, reopen, retain and read in any order; the journal holds what plain lists hold."""

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        self.journal = Journal(self.folder, reserve=0)
        self.parts = [Part(1)]
        self.time = 0  # of the newest round
        self.dead = 0
        self.version: str | None = None

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.place.cleanup()

    @rule(
        steps=st.lists(st.sampled_from([0, 1, MINUTE, HOUR, 3 * HOUR]), max_size=4),
        readings=st.integers(1, 30),
        version=st.none() | st.sampled_from("abc"),
        dead=st.integers(0, 2),
    )
    def append(self, steps: list[int], readings: int, version: str | None, dead: int) -> None:
        rounds = []
        for step in steps:
            self.time += step
            rounds.append(replace(messages(1, readings), time=self.time, version=version))
            self.version = version or self.version
        letters = [letter(self.time + n) for n in range(dead)]
        newest = self.parts[-1]
        if rounds and newest.rounds and rounds[0].time // HOUR > newest.rounds[0].time // HOUR:
            newest = Part(newest.last + 1)
            self.parts.append(newest)
        newest.rounds += rounds
        newest.dead += enumerate(letters, self.dead + 1)
        self.dead += dead
        assert self.journal.append(rounds, letters) == newest.last

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.folder, reserve=0)
        assert self.journal.missing == ()

    @rule(
        absorbed=st.integers(0, 30), behind=st.integers(0, 30), hours=st.integers(0, 9), tight=st.booleans()
    )
    def retain(self, absorbed: int, behind: int, hours: int, tight: bool) -> None:
        history = max(0, absorbed - behind)
        lost = self.journal.retain(
            absorbed=absorbed,
            history=history,
            max_age=hours * HOUR,
            max_bytes=0 if tight else FOREVER,
            now=self.time,
        )
        unseen: list[tuple[int, int]] = []
        while len(self.parts) > 1 and self.parts[0].last <= absorbed:
            oldest = self.parts[0]
            had = oldest.last <= history
            if not (tight or (had and oldest.rounds[-1].time < self.time - hours * HOUR)):
                break
            del self.parts[0]
            unseen += [(n, r.time) for n, r in enumerate(oldest.rounds, oldest.first) if n > history]
        if unseen:
            (first, first_time), (last, last_time) = unseen[0], unseen[-1]
            assert lost == Lost(first_time, last_time, first, last)
        else:
            assert lost is None

    @rule(after=st.integers(0, 40))
    def read(self, after: int) -> None:
        back = list(read(self.folder, after))
        kept = [(n, r) for part in self.parts for n, r in enumerate(part.rounds, part.first) if n > after]
        assert [n for n, _ in back] == [n for n, _ in kept]
        assert all(same(a, b) for (_, a), (_, b) in zip(back, kept, strict=True))

    @rule(limit=st.integers(0, 5), before=st.none() | st.integers(1, 20))
    def dead_letters(self, limit: int, before: int | None) -> None:
        kept = [item for part in self.parts for item in part.dead if before is None or item[0] < before]
        assert dead_letters(self.folder, limit=limit, before=before) == kept[::-1][:limit]

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "journal"):
            ends = (self.journal.first_offset, self.journal.last_offset, self.journal.last_time)
            assert ends == (self.parts[0].first, self.parts[-1].last, self.time)
            assert self.journal.version == self.version
            kept = {
                version
                for path in self.folder.glob("*.sqlite")
                for (version,) in journal_file.query(path, "SELECT version FROM version")
            }
            assert self.journal.versions_used() == kept
            assert files(self.folder) == [f"{part.first:020}.sqlite" for part in self.parts]


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=25)
