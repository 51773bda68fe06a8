"""Readings as InfluxDB's line protocol, written by the column: no object per reading, pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from history.chunk import Chunk
from ingest.readings import BAD, GOOD, Readings, Rows, Times, Values
from registry.model import Registry

READINGS, QUALITY = "readings", "quality"
"""The measurements: values that are not bad; and 1 (uncertain) or 2 (bad) of what is not good."""

LATEST = (2**63 - 2) // 1000
EARLIEST = -LATEST
"""Times, µs, that InfluxDB can hold in ns: of the years 1677 to 2262. No gateway's message can say others; a journal
that somebody else wrote may."""

Places: TypeAlias = NDArray[np.int64]

_DIGITS = 4
_SCALE = 10**_DIGITS
_WHOLES = 10_000
_PIECES = pa.array(
    [
        ",",
        *("", *(f".{rest:0{_DIGITS}}".rstrip("0") for rest in range(1, _SCALE))),
        *(str(whole) for whole in range(_WHOLES)),
        *(f"-{whole}" for whole in range(_WHOLES)),
        *("1i", "2i"),
    ]
)
"""What lines are put together from, beside names and times. Most values are two of these, 81 and .25: it takes a
tenth of the time of writing out a float."""

_NOTHING = pa.array([], pa.string())

_COMMA, _REST, _WHOLE = 0, 1, 1 + _SCALE
_QUALITY = _WHOLE + 2 * _WHOLES - 1  # of quality 0; 1 and 2 follow

_SPECIAL = re.compile(r"[,= ]")
_UNWRITABLE = re.compile(r'\\(?:\Z|[,= "])|\n')
"""A backslash there would escape what follows it, and the protocol has no way to say that it does not. A new line
would begin another line; the registry takes no such ids, and here all lines with it depend on that."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Lines of one cell. body: UTF-8, each line with its newline; no line has another one in it.

    values, qualities: how many fields of each measurement are in them.
    """

    cell: str
    body: bytes
    values: int
    qualities: int


class Layout:
    """What a registry gives to every line: made once for each version, 0.1 s for 100,000 points.

    Args:
        level: of the grid, whose cells have a bucket each.

    Attributes:
        cells: ids of the cells that have points.
        unwritable: why, by row, for points that the protocol cannot name.
    """

    def __init__(self, registry: Registry, level: str) -> None:
        points = registry.points
        count = len(points)
        cell_of = {code: jurisdiction(registry, code, level) for code in registry.enterprises}
        enterprises = [gateway.enterprise for gateway in registry.gateways]
        codes = [enterprises[gateway] for gateway in points.gateway.tolist()]
        whose = [
            (cell_of[code], code, unit) for code, unit in zip(codes, points.unit, strict=True)
        ]  # by row: whose line it is in
        series = {key: number for number, key in enumerate(sorted(set(whose)))}
        self.registry = registry
        self.level = level
        self.cells = tuple(sorted({cell for cell, _, _ in series}))
        self.unwritable = {
            row: why
            for row, (id, unit) in enumerate(zip(points.id, points.unit, strict=True))
            if (why := _why_unwritable(id, unit))
        }
        self._nameable = np.ones(count, np.bool_)
        self._nameable[list(self.unwritable)] = False
        place = {cell: number for number, cell in enumerate(self.cells)}
        self._series: Places = np.array([series[key] for key in whose], np.int64)
        self._cell: Places = np.array([place[cell] for cell, _, _ in whose], np.int64)
        self._rank: Places = np.empty(count, np.int64)
        self._rank[np.argsort(self._series, kind="stable")] = np.arange(count)
        self._keys = pa.array([f"{escaped(id)}=" for id in points.id], pa.string())
        tags = [_tags(code, unit) for _, code, unit in series]
        self._heads = {
            measurement: pa.array([f"{measurement}{one} " for one in tags], pa.string())
            for measurement in (READINGS, QUALITY)
        }

    def writable(self, readings: Readings) -> NDArray[np.bool_] | None:
        """Which of them InfluxDB can hold: of points that have a name there, at times that it knows. None if all."""
        time = readings.time
        known = (time >= EARLIEST) & (time <= LATEST)
        if not self.unwritable and known.all():
            return None
        return known & self._nameable[readings.row]

    def cell(self, row: Rows) -> Places:
        """Where in ``cells`` the cell of each row is."""
        return self._cell[row]

    def order(self, row: Rows, time: Times) -> Places | None:
        """Where the readings of each line are, line after line, of several for a point and time only the last.

        None if that is how they stand already. Lines are ordered by cell, time, enterprise, unit.
        """
        since = int(time.min())
        span = int(time.max()) - since + 1
        if span * len(self.cells) * len(self._rank) < 2**63:
            moment = time - since
        else:  # a device that believes in another century
            _, moment = np.unique(time, return_inverse=True)
            span = len(row)
        key = (self._cell[row] * span + moment) * len(self._rank) + self._rank[row]
        if (key[1:] > key[:-1]).all():
            return None
        order = np.argsort(key)
        key = key[order]
        begins = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
        return order if len(begins) == len(order) else np.maximum.reduceat(order, begins)

    def rendered(
        self, measurement: str, fields: Readings, whole: Places, rest: Places, more: pa.StringArray
    ) -> "Iterator[_Part]":
        """By cell: its number, its lines, and how many fields they have.

        Args:
            fields: one for each, in the order of the lines.
            whole, rest: the pieces of its value, by their numbers in _PIECES, which ``more`` goes on from.
        """
        count = len(fields)
        if not count:
            return
        row, time = fields.row, fields.time
        series = self._series[row]
        begins = np.flatnonzero(
            np.concatenate(([True], (series[1:] != series[:-1]) | (time[1:] != time[:-1])))
        )
        lasts = np.append(begins[1:], count) - 1
        heads = self._heads[measurement].take(pa.array(series[begins]))
        stamps = pc.binary_join_element_wise(
            _PIECES.take(pa.array(rest[lasts])), " ", pa.array(time[lasts]).cast(pa.string()), "\n", ""
        )
        pieces = pa.concat_arrays([_PIECES, more, self._keys.take(pa.array(row)), heads, stamps])
        keys_at = len(_PIECES) + len(more)
        heads_at = keys_at + count
        which = np.empty((count, 4), np.int32)
        which[:, 0] = _COMMA
        which[begins, 0] = np.arange(heads_at, heads_at + len(begins))
        which[:, 1] = np.arange(keys_at, keys_at + count)
        which[:, 2] = whole
        which[:, 3] = rest
        which[lasts, 3] = np.arange(heads_at + len(begins), len(pieces))
        text = pieces.take(pa.array(which.reshape(-1)))  # its buffer is the lines, one after the other
        _, offsets, body = text.buffers()
        ends = np.frombuffer(offsets, np.int32)[4 * (lasts + 1)].astype(np.int64)
        cells = self._cell[row[begins]]
        bounds = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1], [True])))
        for first, after in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            start = int(ends[first - 1]) if first else 0
            content = body[start : int(ends[after - 1])].to_pybytes()
            yield int(cells[first]), content, int(lasts[after - 1] - begins[first]) + 1


def lines(chunk: Chunk, layout: Layout) -> list[Lines]:
    """The lines of a chunk, by cell; all readings of one enterprise, unit and time share one.

    Where the chunk has a point and time twice, the last one is written. A value that is not finite is bad quality
    and no value: the protocol has no infinity. What is not ``layout.writable`` is left out.

    Args:
        chunk: at most some millions of readings, so that its lines stay below 2 GB.
        layout: of the chunk's registry.
    """
    readings = chunk.readings
    writable = layout.writable(readings)
    if writable is not None:
        readings = _taken(readings, writable)
    if not len(readings):
        return []
    order = layout.order(readings.row, readings.time)
    if order is not None:
        readings = _taken(readings, order)
    quality = np.where(np.isfinite(readings.value), readings.quality, BAD)
    good, told = quality != BAD, quality != GOOD
    valued = readings if good.all() else _taken(readings, good)
    doubted = _taken(readings, told)
    states = _QUALITY + quality[told].astype(np.int64)
    return _by_cell(
        layout,
        layout.rendered(READINGS, valued, *_written(valued.value)),
        layout.rendered(QUALITY, doubted, states, np.full(len(states), _REST), _NOTHING),
    )


def jurisdiction(registry: Registry, enterprise: str, level: str) -> str:
    """Id of the cell whose bucket an enterprise's readings go to: of this level, else its topmost."""
    ancestors = registry.ancestors(registry.enterprises[enterprise].cell)
    return next((cell.id for cell in ancestors if cell.level == level), ancestors[-1].id)


_Part: TypeAlias = tuple[int, bytes, int]


def _taken(readings: Readings, which: Places | NDArray[np.bool_]) -> Readings:
    return Readings(readings.row[which], readings.time[which], readings.value[which], readings.quality[which])


def _by_cell(layout: Layout, valued: Iterator[_Part], doubted: Iterator[_Part]) -> list[Lines]:
    found = {cell: (body, count) for cell, body, count in valued}
    states = {cell: (body, count) for cell, body, count in doubted}
    nothing = (b"", 0)
    parts = (
        (cell, found.get(cell, nothing), states.get(cell, nothing)) for cell in sorted({*found, *states})
    )
    return [
        Lines(layout.cells[cell], body + more, values, qualities)
        for cell, (body, values), (more, qualities) in parts
    ]


def _written(value: Values) -> tuple[Places, Places, pa.StringArray]:
    """The pieces of finite values: exact, read back they are equal."""
    size = np.abs(value)
    with np.errstate(over="ignore"):
        scaled = np.rint(size * _SCALE)
    short = (scaled / _SCALE == size) & (scaled < _WHOLES * _SCALE)
    long = None if short.all() else ~short
    if long is not None:
        scaled[long] = 0
    number = scaled.astype(np.int32)
    whole = number // _SCALE
    rest = (number - whole * _SCALE).astype(np.int64) + _REST
    at = whole.astype(np.int64) + np.where(value < 0, _WHOLE + _WHOLES, _WHOLE)
    if long is None:
        return at, rest, _NOTHING
    more = pa.array(value[long]).cast(pa.string())
    at[long] = np.arange(len(_PIECES), len(_PIECES) + len(more))
    return at, rest, more


def _tags(enterprise: str, unit: str) -> str:
    return f",enterprise={escaped(enterprise)}" + (f",unit={escaped(unit)}" if unit else "")


def escaped(text: str) -> str:
    """Of a tag or of a field's key."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _why_unwritable(id: str, unit: str) -> str:
    if id == "time":
        return "InfluxDB takes no field of the name 'time'"
    if _UNWRITABLE.search(id) or _UNWRITABLE.search(unit):
        return "InfluxDB's line protocol cannot say a backslash at the end of an id, or before one of , = \""
    return ""
