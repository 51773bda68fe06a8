"""A block: readings of one enterprise in columns, sorted by point and time, as they are kept; and their roll-ups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Qualities, Times, Values

Codes = NDArray[np.int32]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """n readings, sorted by point, then time, then as they came.

    points: ids, sorted. code: [n] index into these. time: device time; arrival: when it came; µs UTC.
    value: NaN where quality is BAD.
    """

    points: tuple[str, ...]
    code: Codes
    time: Times
    value: Values
    quality: Qualities
    arrival: Times

    def __len__(self) -> int:
        return len(self.code)

    def part(self, places: NDArray[np.intp]) -> "Block":
        """Some of its readings; points that have none may stay."""
        columns = [getattr(self, one.name)[places] for one in fields(self) if one.name != "points"]
        return Block(self.points, *columns)


@dataclass(frozen=True, slots=True, eq=False)
class RollUp:
    """n stretches of a minute or an hour of one point each, sorted by point, then time.

    points, code: as of a Block. time: when the stretch begins, µs UTC. least, greatest, mean, last: of the known
    values, NaN if there is none. last_time: of ``last``. count: of known values; bad: of readings without one.
    quality: the worst.
    """

    points: tuple[str, ...]
    code: Codes
    time: Times
    least: Values
    greatest: Values
    mean: Values
    last: Values
    last_time: Times
    count: Counts
    bad: Counts
    quality: Qualities

    def __len__(self) -> int:
        return len(self.code)

    def part(self, places: NDArray[np.intp]) -> "RollUp":
        """Some of its stretches; points that have none may stay."""
        columns = [getattr(self, one.name)[places] for one in fields(self) if one.name != "points"]
        return RollUp(self.points, *columns)


def block(
    points: Sequence[str], code: Codes, time: Times, value: Values, quality: Qualities, arrival: Times
) -> Block:
    """Readings in any order, those of one point in the order in which they came."""
    ids, code = _sorted_ids(points, code)
    order = np.lexsort((time, code))
    return Block(ids, code[order], time[order], value[order], quality[order], arrival[order])


def merged(blocks: Sequence[Block]) -> Block:
    """All their readings; of equal time, an earlier block's come first."""
    ids, code = _common([(one.points, one.code) for one in blocks])
    return block(
        ids,
        code,
        np.concatenate([one.time for one in blocks]),
        np.concatenate([one.value for one in blocks]),
        np.concatenate([one.quality for one in blocks]),
        np.concatenate([one.arrival for one in blocks]),
    )


def rolled_up(of: Block, step: int) -> RollUp:
    """A block in stretches of ``step`` µs, each beginning at a multiple of it."""
    known = ~np.isnan(of.value)
    return _combined(
        of.points,
        of.code,
        of.time // step * step,
        of.value,
        of.value,
        of.value,
        of.value,
        of.time,
        known.astype(np.int64),
        (~known).astype(np.int64),
        of.quality,
    )


def combined(parts: Sequence[RollUp]) -> RollUp:
    """Roll-ups of one step as one; a stretch that is in several is whole again."""
    ids, code = _sorted_ids(*_common([(one.points, one.code) for one in parts]))
    time, last_time = (
        np.concatenate(which) for which in zip(*((p.time, p.last_time) for p in parts), strict=True)
    )
    order = np.lexsort((last_time, time, code))
    columns = [
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("least", "greatest", "mean", "last", "last_time", "count", "bad", "quality")
    ]
    return _combined(ids, code[order], time[order], *columns)


def _combined(
    points: tuple[str, ...],
    code: Codes,
    time: Times,
    least: Values,
    greatest: Values,
    mean: Values,
    last: Values,
    last_time: Times,
    count: Counts,
    bad: Counts,
    quality: Qualities,
) -> RollUp:
    """Sorted by point and stretch, and within it by ``last_time``: one of each stretch."""
    if not len(code):
        return RollUp(points, code, time, least, greatest, mean, last, last_time, count, bad, quality)
    first = np.empty(len(code), np.bool_)
    first[0] = True
    first[1:] = (code[1:] != code[:-1]) | (time[1:] != time[:-1])
    begins = np.flatnonzero(first)
    counts = np.add.reduceat(count, begins)
    known = np.where(count > 0, np.arange(len(code)), -1)
    newest = np.maximum.reduceat(known, begins)  # the last place of each with a known value
    newest = np.where(newest < 0, begins, newest)
    sums = np.add.reduceat(np.where(count > 0, mean * count, 0.0), begins)
    with np.errstate(invalid="ignore"):
        means = sums / counts  # 0/0 is NaN: nothing known
    lows, highs = np.fmin.reduceat(least, begins), np.fmax.reduceat(greatest, begins)
    return RollUp(
        points,
        code[begins],
        time[begins],
        lows,
        highs,
        np.clip(means, lows, highs),  # of equal values it is that value, whatever rounding says
        last[newest],
        last_time[newest],
        counts,
        np.add.reduceat(bad, begins),
        np.maximum.reduceat(quality, begins),
    )


def _common(parts: Iterable[tuple[tuple[str, ...], Codes]]) -> tuple[list[str], Codes]:
    """Codes of several, each with ids of its own, as codes of the same ids."""
    place: dict[str, int] = {}
    codes = []
    for ids, code in parts:
        own = np.array([place.setdefault(id, len(place)) for id in ids], np.int32)
        codes.append(own[code] if len(own) else code)
    return list(place), np.concatenate(codes)


def _sorted_ids(ids: Sequence[str], code: Codes) -> tuple[tuple[str, ...], Codes]:
    """The ids that are used, in their order, and the codes for that."""
    used = sorted(np.unique(code).tolist(), key=lambda one: ids[one])
    rank = np.zeros(len(ids), np.int32)
    rank[used] = np.arange(len(used), dtype=np.int32)
    return tuple(ids[one] for one in used), rank[code]
