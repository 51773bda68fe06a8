"""Passes: cuts a batch so that no point appears twice in a pass, and each point's order is kept."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streams.sieve import Index


def passes(row: Index) -> Iterator[NDArray[np.intp]]:
    """Places in the batch: first those of every point's first reading, then of every second one, and so on."""
    if (row[1:] > row[:-1]).all():
        yield np.arange(len(row))
        return
    order = np.argsort(row, kind="stable")
    rows = row[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    by_rank = order[np.argsort(rank, kind="stable")]
    yield from np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])
