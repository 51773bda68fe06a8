"""Batch rules: what the rules have in common that judge a whole batch at once, each point's readings in their order."""

from abc import ABC, abstractmethod

import numpy as np

from ingest.readings import Times, Values
from streams.episodes import Book
from streams.passes import passes
from streams.sieve import Index, Mask
from streams.state import NEVER, Rows


class BatchRule(ABC):
    """``has``: which points have the rule, [n]. Where none of a batch has, it costs next to nothing."""

    has: Mask

    def judge(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings in order, NaN where unknown; place is their number in the round."""
        mine = self.has[row]
        if mine.any():
            place, row, time, value = place[mine], row[mine], time[mine], value[mine]
            for one in passes(row):
                self._pass(place[one], row[one], time[one], value[one], book)

    @abstractmethod
    def _pass(self, place: Index, row: Index, time: Times, value: Values, book: Book) -> None:
        """Readings of which no two are of one point."""


class ReferenceRule(BatchRule):
    """One that holds each reading against an earlier one of its point: its value, and since when."""

    def __init__(self, has: Mask) -> None:
        self.has = has
        self.rows = Rows(len(has), since=np.int64(NEVER), value=np.float64(np.nan))
        self._since: Times = self.rows["since"]
        self._value: Values = self.rows["value"]

    def prune(self) -> None:
        """Where there is no rule (any more), there is no reference."""
        self._since[~self.has] = NEVER
        self._value[~self.has] = np.nan
