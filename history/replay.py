"""History as rounds, as far as it still knows them: for a backtest over more than the journal holds.

What is not kept is not in them: what gateways said of themselves, and when we did not listen. Where nothing at all
arrived for DEAF, we are taken not to have listened.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

from history.reader import Reader
from ingest.readings import Readings, Round, Times
from registry.clock import HOUR, MINUTE, SECOND
from registry.model import Registry

STEP = 10 * MINUTE
"""How much is in memory at a time, µs of device time."""

DEAF = 10 * MINUTE
"""The longest time without any reading in which there are time marks, µs."""


def rounds(reader: Reader, registry: Registry, begin: int, end: int) -> Iterator[Round]:
    """What was measured from begin and arrived before end (µs), in its order of arrival, with a time mark a second.

    Args:
        registry: in whose rows they are; points that it does not have are left out.

    Raises FileNotFoundError: there is no history.
    """
    waiting, arrival = (
        Readings.empty(),
        np.empty(0, np.int64),
    )  # arrived after the step that they were measured in
    last: int | None = None
    for step in (*_steps(reader, registry, begin, end), end):  # at the end there is only what still waits
        parts = [(waiting, arrival)]
        until = min(end, step + STEP)
        for enterprise, rows in registry.rows.items() if step < end else ():
            table = reader.readings(enterprise, list(rows), max(begin, step), until)
            if table.num_rows:
                parts.append(_readings(table, rows))
        whole, arrival = Readings.joined([one for one, _ in parts]), np.concatenate([one for _, one in parts])
        order = np.argsort(arrival, kind="stable")
        whole, arrival = _taken(whole, order), arrival[order]
        cut = int(np.searchsorted(arrival, until))
        for time, readings in _by_arrival(_taken(whole, slice(0, cut)), arrival[:cut]):
            if last is not None and time - last <= DEAF:
                yield from (Round(mark) for mark in range(last + SECOND, time, SECOND))
            last = max(time, last or 0)
            yield Round(last, readings=readings)
        waiting, arrival = _taken(whole, slice(cut, None)), arrival[cut:]


def _steps(reader: Reader, registry: Registry, begin: int, end: int) -> Iterator[int]:
    """The beginnings of the steps in which there may be something."""
    hours = {hour for code in registry.enterprises for hour in reader.hours(code, begin, end)}
    steps = (step for hour in sorted(hours) for step in range(hour, hour + HOUR, STEP))
    yield from (step for step in steps if begin - STEP < step < end)


def _readings(table: pa.Table, rows: dict[str, int]) -> tuple[Readings, Times]:
    points = table.column("point").dictionary_encode().combine_chunks()
    row = np.array([rows[point] for point in points.dictionary.to_pylist()], np.int32)
    time, value, quality, arrival = (
        table.column(name).to_numpy() for name in ("time", "value", "quality", "arrival")
    )
    return Readings(row[points.indices.to_numpy()], time, value, quality), arrival


def _taken(readings: Readings, places: slice | Times) -> Readings:
    return Readings(
        readings.row[places], readings.time[places], readings.value[places], readings.quality[places]
    )


def _by_arrival(readings: Readings, arrival: Times) -> Iterator[tuple[int, Readings]]:
    """What arrived together, by its time of arrival."""
    cuts = [0, *(np.flatnonzero(np.diff(arrival)) + 1).tolist(), len(arrival)]
    for begin, end in pairwise(cuts):
        if begin < end:
            yield int(arrival[begin]), _taken(readings, slice(begin, end))
