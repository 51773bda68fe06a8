"""The embedded history: what arrived is read back, whole and once, however it was cut, joined, late or interrupted."""

import math
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from history import catalogue, parquet_file, store
from history.block import Block, block, combined, merged, rolled_up
from history.catalogue import BY_HOUR, BY_MINUTE, READINGS, Catalogue, CatalogueDamaged
from history.chunk import Chunk
from history.home import HomeAway
from history.reader import Reader
from history.source import chunks, end
from history.store import Keep, ParquetHome
from ingest.journal import Journal
from ingest.readings import BAD, GOOD, UNCERTAIN, Readings, Round
from registry.clock import DAY, HOUR, MINUTE, SECOND
from registry.model import Registry
from tests.build import PointSpec, code, make_registry

POINTS = ("A", "B", "压力-1")
REGISTRY = make_registry(
    {code(1): [PointSpec(id=id) for id in POINTS], code(2): [PointSpec(id="A"), PointSpec(id="C")]}
)
OTHER = make_registry(
    {code(1): [PointSpec(id="0-first"), *[PointSpec(id=id) for id in POINTS]], code(2): [PointSpec(id="C")]},
    version="test-2",
)
"""Here the same points are in other rows."""

START = 1_767_225_600 * SECOND  # 2026-01-01 00:00 UTC
NAN = math.nan

Said = tuple[str, str, int, float, int, int]
"""Enterprise, point, time, value (None where it is not known), quality, arrival."""


def chunk(said: Sequence[Said], offset: int, registry: Registry = REGISTRY, time: int = 0) -> Chunk:
    """As the journal gives it: one round, offset ``offset``."""
    rows = [registry.rows[enterprise][point] for enterprise, point, *_ in said]
    readings = Readings(
        np.array(rows, np.int32),
        np.array([time for _, _, time, *_ in said], np.int64),
        np.array([value for *_, value, _, _ in said], np.float64),
        np.array([quality for *_, quality, _ in said], np.uint8),
    )
    arrival = np.array([arrival for *_, arrival in said], np.int64)
    return Chunk(offset, offset, registry, readings, arrival, time or int(arrival.max(initial=START)))


def told(folder: Path) -> list[tuple[object, ...]]:
    """All readings that history has."""
    reader = Reader(folder)
    found: list[tuple[object, ...]] = []
    for enterprise in (code(1), code(2)):
        table = reader.readings(enterprise, [*POINTS, "C", "0-first"], 0, START + 10_000 * DAY).to_pydict()
        found += [(enterprise, *row) for row in zip(*table.values(), strict=True)]
    reader.close()
    return sorted(repr(one) for one in found)


def wanted(said: Sequence[Said]) -> list[str]:
    return sorted(repr(one) for one in said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def home(folder: Path) -> Iterator[ParquetHome]:
    home = ParquetHome(folder)
    yield home
    home.close()


def at(second: float) -> int:
    return START + round(second * SECOND)


def steady(seconds: int, *, begin: int = 0, enterprise: str = code(1), point: str = "A") -> list[Said]:
    """A reading a second, each 20 ms on the way."""
    return [
        (enterprise, point, at(begin + s), round(20 + 5 * math.sin(s / 60), 1), GOOD, at(begin + s) + 20_000)
        for s in range(seconds)
    ]


# -- blocks, roll-ups and files ----------------------------------------------------------------------


def test_a_block_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 200_000  # several row groups
    value = np.where(rng.random(n) < 0.1, NAN, np.round(rng.normal(50, 10, n), 2))
    time = START + rng.integers(0, HOUR, n)
    quality = np.where(np.isnan(value), BAD, rng.integers(0, 2, n)).astype(np.uint8)
    one = block(
        POINTS,
        rng.integers(0, 3, n).astype(np.int32),
        time,
        value,
        quality,
        time + rng.integers(0, 99, n) * 1000,
    )
    parquet_file.write_block(tmp_path / "a" / "b.parquet", one)
    back = parquet_file.read_block(tmp_path / "a" / "b.parquet")
    assert back.points == one.points
    for name in ("code", "time", "value", "quality", "arrival"):
        np.testing.assert_array_equal(getattr(back, name), getattr(one, name), err_msg=name)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.parquet"]


@given(st.data())
@settings(max_examples=100)
def test_roll_ups_of_parts_are_together_the_roll_up_of_the_whole(data: st.DataObject) -> None:
    values = st.sampled_from([1.0, 2.5, -3.0, NAN])
    one = st.tuples(st.integers(0, 2), st.integers(0, 200), values)
    rows = data.draw(st.lists(one, min_size=1, max_size=60, unique_by=lambda row: row[:2]))
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4).map(sorted))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True) if a < b]
    whole = rolled_up(_block(rows), MINUTE)
    again = combined([rolled_up(_block(part), MINUTE) for part in parts])
    model = {}
    for point, second, value in sorted(rows):
        model.setdefault((POINTS[point], at(second) // MINUTE * MINUTE), []).append((at(second), value))
    for roll_up in (whole, again):
        assert [(roll_up.points[c], t) for c, t in zip(roll_up.code, roll_up.time, strict=True)] == sorted(
            model
        )
        for place, key in enumerate(sorted(model)):
            known = [(t, v) for t, v in model[key] if v == v]
            assert roll_up.count[place] == len(known)
            assert roll_up.bad[place] == len(model[key]) - len(known)
            if known:
                values_ = [v for _, v in known]
                assert (roll_up.least[place], roll_up.greatest[place]) == (min(values_), max(values_))
                assert roll_up.mean[place] == pytest.approx(sum(values_) / len(values_), abs=1e-12)
                assert (roll_up.last_time[place], roll_up.last[place]) == max(known)
            else:
                assert np.isnan([roll_up.least[place], roll_up.greatest[place], roll_up.mean[place]]).all()


def _block(rows: Sequence[tuple[int, int, float]]) -> Block:
    time = np.array([at(second) for _, second, _ in rows])
    value = np.array([value for *_, value in rows])
    quality = np.where(np.isnan(value), BAD, GOOD).astype(np.uint8)
    return block(POINTS, np.array([point for point, *_ in rows], np.int32), time, value, quality, time)


def test_blocks_under_other_ids_become_one() -> None:
    a = _block([(0, 1, 1.0), (2, 1, 2.0)])
    b = _block([(1, 1, 3.0), (0, 0, 4.0)])
    whole = merged([a, b])
    assert [(whole.points[c], v) for c, v in zip(whole.code, whole.value, strict=True)] == [
        ("A", 4.0), ("A", 1.0), ("B", 3.0), ("压力-1", 2.0)
    ]  # fmt: skip


# -- the home ----------------------------------------------------------------------------------------


def test_what_arrived_is_read_back_by_point_and_time(home: ParquetHome, folder: Path) -> None:
    said = [*steady(5), *steady(5, enterprise=code(2), point="C"), (code(1), "B", at(2), NAN, BAD, at(3))]
    home.append(chunk(said, 1))
    assert (home.position, home.taken) == (0, 1)
    home.flush()
    assert home.position == 1
    assert told(folder) == wanted(said)
    reader = Reader(folder)
    table = reader.readings(code(1), ["A"], at(1), at(3)).to_pydict()
    assert table["time"] == [at(1), at(2)]
    assert reader.readings(code(2), ["A"], 0, at(9)).num_rows == 0
    assert reader.readings(code(3), ["A"], 0, at(9)).num_rows == 0


def test_time_alone_makes_what_waits_durable(home: ParquetHome, folder: Path) -> None:
    home.append(chunk(steady(5), 1))
    home.append(chunk([], 2, time=at(10)))
    assert home.position == 0
    home.append(chunk([], 3, time=at(5) + store.AGE))
    assert home.position == 2
    assert len(told(folder)) == 5


def test_points_keep_their_names_when_a_new_version_moves_their_rows(home: ParquetHome, folder: Path) -> None:
    said = steady(3), steady(3, begin=3), [(code(1), "0-first", at(7), 1.0, GOOD, at(7))]
    home.append(chunk(said[0], 1))
    home.append(chunk(said[1] + said[2], 2, OTHER))
    home.flush()
    assert told(folder) == wanted([*said[0], *said[1], *said[2]])


def settle(home: ParquetHome) -> None:
    while home.maintain():
        pass


def test_an_hour_that_is_over_becomes_one_file_and_roll_ups(
    home: ParquetHome, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "GRACE", 0.0)
    said = steady(2 * 3600)
    for number in range(0, len(said), 100):
        home.append(chunk(said[number : number + 100], number + 1))
        settle(home)
    home.append(chunk([], 9_000, time=at(2 * 3600) + store.SETTLE))
    home.flush()
    settle(home)
    hours = catalogue.listed(folder, code(1), 0, at(1e6), READINGS)
    assert [(file.span, file.rows) for file in hours] == [(at(0), 3600), (at(3600), 3600)]
    assert sum(file.rows for file in catalogue.listed(folder, code(1), 0, at(1e6), BY_MINUTE)) == 120
    assert sum(file.rows for file in catalogue.listed(folder, code(1), 0, at(1e6), BY_HOUR)) == 2
    assert told(folder) == wanted(said)
    home.append(chunk([], 9_001, time=at(3 * 3600) + store.SETTLE))
    settle(home)
    there = {path.relative_to(folder) for path in folder.rglob("*.parquet")}
    assert len(there) == 2 + 2 + 2  # what was joined is off the disk
    assert (folder / "readings" / code(1) / "2026-01-01" / f"01-{hours[1].id}.parquet").is_file()


def test_what_comes_late_is_beside_what_was_finished(home: ParquetHome, folder: Path) -> None:
    said = steady(3600)
    home.append(chunk(said, 1, time=at(3600) + store.SETTLE))
    settle(home)
    late = [(code(1), "A", at(1800.001), 99.0, GOOD, at(6000))]
    home.append(chunk(late, 2))
    home.flush()
    reader = Reader(folder)
    for _ in range(2):
        assert told(folder) == wanted([*said, *late])
        [course] = reader.courses(code(1), ["A"], at(0), at(86_400), 24).points.values()
        assert (course.greatest.max(), course.count.sum()) == (99.0, 3601)
        home.append(chunk([], 3, time=at(2 * 3600) + store.SETTLE))
        settle(home)


def test_a_month_becomes_one_file(home: ParquetHome, folder: Path) -> None:
    for number, hour in enumerate(range(0, 24 * 33, 12), 1):
        said = [
            (code(1), "A", at(hour * 3600 + m * 60), float(hour), GOOD, at(hour * 3600 + m * 60))
            for m in range(60)
        ]
        home.append(chunk(said, number))
        settle(home)
    home.flush()
    files = catalogue.listed(folder, code(1), 0, at(31 * 86_400) - 1, BY_MINUTE)
    assert [file.rows for file in files] == [31 * 2 * 60]
    reader = Reader(folder)
    [course] = reader.courses(code(1), ["A"], at(0), at(33 * 86_400), 33).points.values()
    assert course.count.tolist() == [120] * 33


def test_retention_takes_what_is_old_and_nothing_else(folder: Path) -> None:
    home = ParquetHome(folder, Keep(readings=2, minute=5, hour=0))
    for day in range(8):
        home.append(chunk(steady(60, begin=day * 86_400), day + 1))
        home.append(chunk([], day + 1, time=at(day * 86_400 + 7200)))
        settle(home)
    days = [
        (time - START) // DAY
        for time in Reader(folder).readings(code(1), ["A"], 0, at(1e7)).to_pydict()["time"]
    ]
    assert sorted(set(days)) == [6, 7]
    rolled = Reader(folder).courses(code(1), ["A"], at(0), at(8 * 86_400), 8 * 1440).points["A"]
    assert sorted({(time - START) // DAY for time in rolled.time.tolist()}) == [3, 4, 5, 6, 7]
    rolled = Reader(folder).courses(code(1), ["A"], at(0), at(8 * 86_400), 8).points["A"]
    assert rolled.count.tolist() == [60] * 8
    home.close()


# -- how a point went --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "kind"), [(100_000, READINGS), (1000, READINGS), (180, BY_MINUTE), (2, BY_HOUR)]
)
def test_no_peak_disappears_at_any_width(home: ParquetHome, folder: Path, width: int, kind: str) -> None:
    said = steady(3 * 3600)
    said[5000] = (*said[5000][:3], 500.0, *said[5000][4:])
    said[9000] = (*said[9000][:3], -500.0, *said[9000][4:])
    for number in range(0, len(said), 1000):
        home.append(chunk(said[number : number + 1000], number + 1))
    home.append(chunk([], 20_000, time=at(2 * 3600) + store.SETTLE))  # the third hour is not finished
    home.flush()
    settle(home)
    courses = Reader(folder).courses(code(1), ["A", "B"], at(0), at(3 * 3600), width)
    course = courses.points["A"]
    assert courses.kind == kind
    assert len(course) <= width + 1
    assert len(courses.points["B"]) == 0
    assert (course.greatest.max(), course.least.min()) == (500.0, -500.0)
    assert course.count.sum() == 3 * 3600
    mean = sum(value for *_, value, _, _ in said) / len(said)
    assert (course.mean * course.count).sum() / course.count.sum() == pytest.approx(mean)
    assert course.last[-1] == said[-1][3]


def test_what_has_no_value_is_counted_and_is_no_peak(home: ParquetHome, folder: Path) -> None:
    said = steady(600)
    for second in range(60, 180):
        said[second] = (code(1), "A", at(second), NAN, BAD, at(second))
    home.append(chunk(said, 1, time=at(3600) + store.SETTLE))
    for _ in range(2):
        home.flush()
        course = Reader(folder).courses(code(1), ["A"], at(0), at(600), 10).points["A"]
        assert course.count.tolist() == [60, 0, 0, *[60] * 7]
        assert course.bad.tolist() == [0, 60, 60, *[0] * 7]
        assert np.isnan([course.greatest[1], course.last[2]]).all()
        assert course.greatest[0] < 30
        assert course.quality.tolist() == [0, 2, 2, *[0] * 7]
        settle(home)


def test_an_answer_is_whole_while_files_are_joined_and_finished(folder: Path) -> None:
    """Nothing is counted twice, or missing, because it goes into the roll-ups while it is asked for."""
    ready, done = threading.Event(), threading.Event()

    def write() -> None:
        try:
            fill()
        finally:
            ready.set()
            done.set()

    def fill() -> None:
        home = ParquetHome(folder)
        for number in range(40):
            home.append(chunk(steady(90, begin=number * 90), number + 1))
            home.flush()
        ready.set()
        home.append(chunk([], 41, time=at(3600) + store.SETTLE))
        settle(home)
        for hour in range(2, 40):  # each late reading of another hour is finished by itself
            home.append(chunk([(code(2), "C", at(hour), 1.0, GOOD, at(hour * 3600))], 40 + hour))
            home.append(chunk([], 40 + hour, time=at(hour * 3600) + store.SETTLE))
            home.flush()
            settle(home)
        home.close()

    writer = threading.Thread(target=write)
    writer.start()
    ready.wait(30)
    reader = Reader(folder)
    while not done.is_set():
        for width in (3600, 60, 1):
            assert reader.courses(code(1), ["A"], at(0), at(3600), width).points["A"].count.sum() == 3600
    writer.join()
    reader.close()


# -- what goes wrong ---------------------------------------------------------------------------------


def test_a_disk_that_is_full_loses_nothing(
    home: ParquetHome, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.append(chunk(steady(5), 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(HomeAway, match="No space left"):
            home.flush()
    assert home.position == 0
    home.append(chunk(steady(5, begin=5), 2))
    home.flush()
    assert told(folder) == wanted(steady(10)[:5] + steady(5, begin=5))
    settle(home)
    assert not list(folder.rglob("*.part"))


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_nearly_full_is_left_to_others_and_what_is_old_goes(folder: Path) -> None:
    home = ParquetHome(folder, Keep(readings=2))
    home.append(chunk(steady(60), 1, time=at(7200)))
    home.flush()
    settle(home)
    home.close()
    home = ParquetHome(folder, Keep(readings=2), spare=1 << 60)
    home.append(chunk(steady(60, begin=5 * 86_400), 2, time=at(5 * 86_400 + 60)))
    with pytest.raises(HomeAway, match="the disk is nearly full"):
        home.flush()
    home.relieve()
    assert told(folder) == []  # older than it is kept for
    home.close()


@pytest.mark.parametrize(
    "damage", [lambda whole: b"PAR1 no more", lambda whole: whole[:60] + bytes(60) + whole[120:]]
)
def test_a_damaged_file_is_said_and_the_rest_is_read(
    home: ParquetHome, folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    for number in range(2):
        home.append(chunk(steady(500, begin=500 * number), number + 1))
        home.flush()
    damaged = min(folder.rglob("*.parquet"))
    damaged.write_bytes(damage(damaged.read_bytes()))
    assert told(folder) == wanted(steady(500, begin=500))
    home.append(chunk([], 3, time=at(3600) + store.SETTLE))
    settle(home)
    assert home.counts["damaged"] == 1
    assert told(folder) == wanted(steady(500, begin=500))
    [course] = Reader(folder).courses(code(1), ["A"], at(0), at(3600), 10).points.values()
    assert course.count.sum() == 500


def test_roll_ups_are_shown_though_all_that_is_not_in_them_yet_is_damaged(
    home: ParquetHome, folder: Path
) -> None:
    home.append(chunk(steady(3600), 1))
    home.append(chunk([], 2, time=at(3600) + store.SETTLE))
    settle(home)
    home.append(chunk(steady(60, begin=3600 + 600), 3))
    home.flush()
    [newest] = catalogue.listed(folder, code(1), at(3600), at(7200), READINGS)
    newest.path(folder).write_bytes(b"PAR1 no more")
    courses = Reader(folder).courses(code(1), ["A"], at(0), at(7200), 2)
    assert (courses.kind, courses.lost, courses.points["A"].count.tolist()) == (BY_HOUR, 1, [3600])


def test_time_without_readings_is_history_too(home: ParquetHome, folder: Path) -> None:
    for hour in range(3):
        home.append(chunk([], hour + 1, time=at(3600 * hour)))
    assert home.position == 2
    assert catalogue.reached(folder) == (2, at(3600))


def test_large_files_are_joined_no_more(home: ParquetHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LARGE", 100)
    monkeypatch.setattr(store, "MANY", 3)
    said = [steady(20, begin=20 * number) for number in range(40)]
    for number, some in enumerate(said, 1):
        home.append(chunk(some, number))
        home.flush()
    for _ in range(100):
        if not home.maintain():
            break
    else:
        pytest.fail("it never comes to an end")
    assert told(home.folder) == wanted([one for some in said for one in some])


def test_a_file_that_somebody_removed_takes_no_other_along(home: ParquetHome, folder: Path) -> None:
    for number in range(2):
        home.append(chunk(steady(5, begin=5 * number), number + 1))
        home.flush()
    min(folder.rglob("*.parquet")).unlink()
    assert told(folder) == wanted(steady(5, begin=5))


def test_what_is_no_catalogue_is_not_used(folder: Path) -> None:
    folder.mkdir()
    (folder / catalogue.NAME).write_bytes(b"something else" * 100)
    with pytest.raises(CatalogueDamaged, match="restore its folder from a backup"):
        ParquetHome(folder)


def test_files_whose_catalogue_is_gone_are_not_written_over(home: ParquetHome, folder: Path) -> None:
    home.append(chunk(steady(5), 1))
    home.flush()
    home.close()
    for part in folder.glob(f"{catalogue.NAME}*"):
        part.unlink()
    with pytest.raises(CatalogueDamaged, match=r"it is missing.*restore its folder from a backup"):
        ParquetHome(folder)
    assert not (folder / catalogue.NAME).exists()


def test_one_of_another_fenghuo_is_not_used(home: ParquetHome, folder: Path) -> None:
    home.close()
    with sqlite3.connect(folder / catalogue.NAME) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(CatalogueDamaged, match="another Fenghuo"):
        ParquetHome(folder)


def test_there_is_no_history_yet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no history"):
        Reader(tmp_path).hours(code(1), 0, 1)


class Died(BaseException):
    """The process, here."""


class AnyHistory(RuleBasedStateMachine):
    """Readings in any order, flushed, joined, finished, killed amid any of it and begun again, against a plain list."""

    @initialize()
    def begin(self) -> None:
        self.tmp = tempfile.TemporaryDirectory()
        self.folder = Path(self.tmp.name)
        self.patch = pytest.MonkeyPatch()
        for name, value in (("MANY", 2), ("LARGE", 12), ("GRACE", 0.0)):
            self.patch.setattr(store, name, value)
        self.home = ParquetHome(self.folder)
        self.said: list[tuple[int, Said]] = []
        self.offset, self.now = 0, START

    @rule(
        seconds=st.lists(st.integers(-7200, 0), min_size=1, max_size=5),
        passes=st.integers(0, 3000),
        point=st.sampled_from([(code(1), "A"), (code(1), "B"), (code(2), "C")]),
        value=st.sampled_from([1.0, NAN, 7.5]),
        registry=st.sampled_from([REGISTRY, OTHER]),
    )
    def arrives(
        self, seconds: list[int], passes: int, point: tuple[str, str], value: float, registry: Registry
    ) -> None:
        self.now += passes * SECOND
        self.offset += 1
        quality = BAD if value != value else UNCERTAIN
        said = [(*point, self.now + second * SECOND, value, quality, self.now) for second in seconds]
        self.said += [(self.offset, one) for one in said]
        self.home.append(chunk(said, self.offset, registry))

    @rule()
    def flushes(self) -> None:
        self.home.flush()

    @rule(jobs=st.integers(1, 30))
    def maintains(self, jobs: int) -> None:
        for _ in range(jobs):
            self.home.maintain()

    @rule(durable=st.integers(0, 12), commits=st.integers(0, 4))
    def is_killed_amid_its_work(self, durable: int, commits: int) -> None:
        """At one of the times that it waits for the disk, or at a commit of the catalogue, before or after it."""
        left = {"fsync": durable, "commit": commits}
        fsync, commit = os.fsync, Catalogue._commit

        def dying_fsync(descriptor: int) -> None:
            left["fsync"] -= 1
            if left["fsync"] < 0:
                raise Died
            fsync(descriptor)

        @contextmanager
        def dying_commit(its: Catalogue) -> Iterator[None]:
            left["commit"] -= 1
            with commit(its):
                yield
                if left["commit"] == -1 and durable % 2:
                    raise Died
            if left["commit"] == -1:
                raise Died

        with pytest.MonkeyPatch.context() as patch, suppress(Died):
            patch.setattr(os, "fsync", dying_fsync)
            patch.setattr(Catalogue, "_commit", dying_commit)
            self.home.flush()
            for _ in range(10):
                self.home.maintain()
        self.home.close()
        self.home = ParquetHome(self.folder)
        for offset in range(self.home.position + 1, self.offset + 1):  # the journal has them
            self.home.append(chunk([one for at, one in self.said if at == offset], offset))

    @precondition(lambda self: self.said)
    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        durable = [one for offset, one in self.said if offset <= self.home.position]
        assert told(self.folder) == wanted(durable)
        reader = Reader(self.folder)
        for point in ("A", "B"):
            mine = [one for one in durable if one[:2] == (code(1), point)]
            for width in (40, 2000):
                course = reader.courses(code(1), [point], START - DAY, START + 2 * DAY, width).points[point]
                assert course.count.sum() == sum(one[3] == one[3] for one in mine)
                assert course.bad.sum() == sum(one[3] != one[3] for one in mine)
        reader.close()

    def teardown(self) -> None:
        if not hasattr(self, "home"):
            return
        while self.home.maintain():
            pass
        counted = {
            file.path(self.folder)
            for enterprise in (code(1), code(2))
            for file in catalogue.listed(self.folder, enterprise, 0, 1 << 62, READINGS, BY_MINUTE, BY_HOUR)
        }
        there = {path for path in self.folder.rglob("*") if path.suffix in (".parquet", ".part")}
        self.home.close()
        self.patch.undo()
        self.tmp.cleanup()
        assert there == counted, "no file is forgotten on the disk"


AnyHistory.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestAnyHistory = AnyHistory.TestCase


# -- the journal as chunks -----------------------------------------------------------------------------


def test_chunks_of_a_journal_with_a_gap_are_of_the_version_in_force_behind_it(tmp_path: Path) -> None:
    """Whether the beginning is gone or the middle: no reading is taken for another point's."""
    registries = {registry.version: registry for registry in (REGISTRY, OTHER)}

    def one(value: float, registry: Registry, hour: float) -> Round:
        row = np.array([registry.rows[code(1)]["A"]], np.int32)
        readings = Readings(row, np.array([at(hour * 3600)]), np.array([float(value)]), np.zeros(1, np.uint8))
        return Round(at(hour * 3600), readings=readings)

    with Journal(tmp_path / "journal", reserve=0) as journal:
        for hour, (registry, changes) in enumerate(
            [(REGISTRY, True), (OTHER, True), (OTHER, False), (REGISTRY, True)]
        ):
            begins = [Round(at(hour * 3600), version=registry.version)] if changes else []
            journal.append([*begins, one(hour, registry, hour + 0.1), one(hour, registry, hour + 0.2)])
    files = sorted((tmp_path / "journal").glob("*.sqlite"))
    assert len(files) == 4

    def heard(after: int) -> list[tuple[str, float]]:
        return [
            (chunk.registry.points.id[row], value)
            for chunk in chunks(tmp_path / "journal", after, registries.__getitem__)
            for row, value in zip(chunk.readings.row.tolist(), chunk.readings.value.tolist(), strict=True)
        ]

    assert heard(0) == [("A", hour) for hour in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert end(tmp_path / "journal") == 11
    files[1].unlink()
    assert heard(0) == [("A", hour) for hour in (0, 0, 2, 2, 3, 3)]
    files[0].unlink()
    for after in (0, 4):
        assert heard(after) == [("A", hour) for hour in (2, 2, 3, 3)]
