"""Compiled versions in a folder: what comes back is what was saved, whole or not at all."""

import dataclasses
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from registry import packed, versions
from registry.clock import DAY, HOUR, SECOND, SystemClock
from registry.compile import compile_folder
from registry.model import FOREVER, Facts, Group, Holding, Points, Registry, Section, Tank
from tests.build import PointSpec, city_registry, code, make_facts, make_registry

MINE = Path(__file__).parent / "data" / "mine" / "registry"


def assert_equal(one: Registry, other: Registry) -> None:
    columns = {"points": Points, "facts": Facts}
    for field in dataclasses.fields(Registry):
        if field.name not in columns:
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    for name, of in columns.items():
        for field in dataclasses.fields(of):
            left, right = (getattr(getattr(each, name), field.name) for each in (one, other))
            if field.name == "digest":
                continue  # of the facts that are loaded only
            if isinstance(left, tuple):
                assert left == right, field.name
            else:
                assert left.dtype == right.dtype
                np.testing.assert_array_equal(left, right, err_msg=field.name)


@pytest.mark.parametrize(
    "registry",
    [
        pytest.param(compile_folder(MINE), id="mine"),
        pytest.param(city_registry(12, 5), id="city"),
        pytest.param(make_registry([]), id="without points"),
        pytest.param(
            make_registry(
                [
                    PointSpec(id=f"T{n}", H=80.0, on_delay={"H": SECOND}, unit="R1", group="g")
                    for n in range(3)
                ],
                groups=[Group(code(1), "g", 0.5, SECOND)],
            ),
            id="group",
        ),
        pytest.param(
            dataclasses.replace(
                make_registry([PointSpec(id="FI-1"), PointSpec(id="LI-1")]),
                sections=(Section(code(1), "L1", "管段", 0, 0, -1, 1, 12.5, 3e4, 1e3, 0.01, 60 * SECOND),),
                holdings=(
                    Holding(
                        code(1),
                        "NH3",
                        "液氨",
                        "R1",
                        "7664-41-7",
                        40.0,
                        0.0,
                        (Tank(1, (0.0, 5.0), (0.0, 50.0)),),
                    ),
                ),
                facts=Facts(
                    ("equipment.overdue",),
                    (code(1),),
                    ("equipment:V-1",),
                    ("I-1",),
                    *(("",) for _ in range(6)),
                    np.array([HOUR], np.int64),
                    np.array([FOREVER], np.int64),
                    np.array([np.nan]),
                    np.array([2.5]),
                ),
                edit="li.wei: entered I-1",
            ),
            id="records",
        ),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, registry: Registry) -> None:
    versions.save(tmp_path, registry)
    loaded = versions.load(tmp_path, registry.version)
    assert_equal(loaded, registry)
    assert loaded.rows == registry.rows
    assert packed.pack(loaded) == packed.pack(registry)


def test_facts_that_are_the_same_are_not_loaded_again(tmp_path: Path) -> None:
    overdue = ("equipment.overdue", "equipment:V-1", "boiler", DAY)
    first = dataclasses.replace(city_registry(2, 2), facts=make_facts(overdue))
    versions.save(tmp_path, first)
    versions.save(tmp_path, dataclasses.replace(first, version="r2", time_zone="Asia/Urumqi"))
    versions.save(tmp_path, dataclasses.replace(first, version="r3", facts=make_facts()))
    loaded = versions.load(tmp_path, first.version)
    assert versions.load(tmp_path, "r2", like=loaded).facts is loaded.facts
    assert versions.load(tmp_path, "r2", like=first).facts is not loaded.facts
    assert len(versions.load(tmp_path, "r3", like=loaded).facts) == 0


def test_a_loaded_registry_cannot_be_changed(tmp_path: Path) -> None:
    registry = city_registry(2, 2)
    versions.save(tmp_path, registry)
    for points in (versions.load(tmp_path, registry.version).points, compile_folder(MINE).points):
        with pytest.raises(ValueError, match="read-only"):
            points.limit[0, 0] = 1.0


def test_saving_again_changes_nothing(tmp_path: Path) -> None:
    registry = city_registry(2, 2)
    for _ in range(2):
        versions.save(tmp_path, registry)
        assert versions.present(tmp_path) == {registry.version}
        assert [path.name for path in tmp_path.iterdir()] == [f"{registry.version}.registry"]


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(versions.NoSuchVersion):
        versions.load(tmp_path, "abc")
    with pytest.raises(versions.NoSuchVersion):
        versions.want(tmp_path, "abc")
    assert versions.wanted(tmp_path) is None
    assert versions.present(tmp_path / "nowhere") == set()
    with pytest.raises(ValueError, match="no name"):
        versions.load(tmp_path, "../etc")


def test_every_broken_byte_is_noticed(tmp_path: Path) -> None:
    registry = make_registry([PointSpec(id="T", H=80.0)])
    versions.save(tmp_path, registry)
    path = tmp_path / f"{registry.version}.registry"
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            loaded = versions.load(tmp_path, registry.version)
        except versions.BrokenVersion:
            continue
        assert_equal(loaded, registry)  # a bit of the frame's header that says nothing
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(versions.BrokenVersion):
            versions.load(tmp_path, registry.version)


def test_a_file_under_another_name_is_not_taken(tmp_path: Path) -> None:
    registry = city_registry(2, 2)
    versions.save(tmp_path, registry)
    (tmp_path / f"{registry.version}.registry").rename(tmp_path / "other.registry")
    with pytest.raises(versions.BrokenVersion, match="holds version"):
        versions.load(tmp_path, "other")


def test_the_wanted_version_is_the_last_named(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        versions.save(tmp_path, make_registry([PointSpec(id="T")], version=name))
        versions.want(tmp_path, name)
        assert versions.wanted(tmp_path) == name
    assert versions.present(tmp_path) == {"one", "two"}


def aged(folder: Path, name: str, hours: float) -> None:
    """Let a file be as if written so many hours ago."""
    then = (SystemClock().now() - int(hours * HOUR)) * 1000
    os.utime(folder / name, ns=(then, then))


def test_discarding_keeps_what_is_used_wanted_or_about_to_be(tmp_path: Path) -> None:
    for hours, name in ((9, "old"), (8, "used"), (7, "wanted"), (5, "coming"), (0.9, "young")):
        versions.save(tmp_path, make_registry([PointSpec(id="T")], version=name))
        aged(tmp_path, f"{name}.registry", hours)
    assert versions.discard_all_but(tmp_path, {"used"}) == set(), "nothing was ever wanted"
    versions.want(tmp_path, "wanted")
    aged(tmp_path, "wanted", 6)
    assert versions.discard_all_but(tmp_path, {"used"}) == {"old.registry"}
    assert versions.present(tmp_path) == {"used", "wanted", "coming", "young"}
    aged(tmp_path, "wanted", 0)
    assert versions.discard_all_but(tmp_path, {"used"}) == {"coming.registry"}
    assert versions.present(tmp_path) == {"used", "wanted", "young"}


def test_a_version_that_is_wanted_again_is_not_discarded_between_its_save_and_its_naming(
    tmp_path: Path,
) -> None:
    for name in ("first", "second"):
        versions.save(tmp_path, make_registry([PointSpec(id="T")], version=name))
        aged(tmp_path, f"{name}.registry", 9)
        versions.want(tmp_path, name)
    versions.save(tmp_path, make_registry([PointSpec(id="T")], version="first"))
    aged(tmp_path, "wanted", -1)  # a wall that was set back since
    assert versions.discard_all_but(tmp_path, ()) == set()
    versions.want(tmp_path, "first")


def test_nothing_is_discarded_while_another_process_saves(tmp_path: Path) -> None:
    for name in ("first", "second"):
        versions.save(tmp_path, make_registry([PointSpec(id="T")], version=name))
        aged(tmp_path, f"{name}.registry", 9)
    versions.want(tmp_path, "second")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert versions.discard_all_but(tmp_path, ()) == set()
    os.close(descriptor)
    assert versions.discard_all_but(tmp_path, ()) == {"first.registry"}


def test_a_save_that_was_killed_leaves_the_old_version_and_no_litter(tmp_path: Path) -> None:
    registry = city_registry(2, 2)
    versions.save(tmp_path, registry)
    (tmp_path / "half.registry.tmp").write_bytes(b"half")
    assert versions.present(tmp_path) == {registry.version}
    versions.want(tmp_path, registry.version)
    assert not list(tmp_path.glob("*.tmp"))
    assert_equal(versions.load(tmp_path, registry.version), registry)


def test_a_full_disk_is_told_and_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = city_registry(2, 2)
    versions.save(tmp_path, registry)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        versions.save(tmp_path, registry)
    assert_equal(versions.load(tmp_path, registry.version), registry)


def test_a_whole_city_comes_back(tmp_path: Path) -> None:
    registry = city_registry()
    versions.save(tmp_path, registry)
    assert_equal(versions.load(tmp_path, registry.version), registry)
