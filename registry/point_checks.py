"""The checks of points that look at several columns; vectorised, because they run over whole cities."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.files import Document, Table, mappings, text
from registry.mistakes import Mistakes, spot
from registry.model import LEVELS
from registry.source import Parts

Mask = NDArray[np.bool_]


class PointChecks:
    """The rows of all point files: their places, and their columns as values (NaN where there is none)."""

    def __init__(self, table: Table, values: Mapping[str, Sequence[Any]], mistakes: Mistakes) -> None:
        self.table = table
        self.values = values
        self.mistakes = mistakes

    def references(self, enterprises: Mapping[str, Parts]) -> None:
        """Gateway, unit and group are names within the row's enterprise."""
        for column, parts in (("gateway", "gateways"), ("unit", "units"), ("group", "groups")):
            pairs = list(zip(self.values["enterprise"], self.values[column], strict=True))
            strange = {
                (code, name)
                for code, name in set(pairs)
                if name and code in enterprises and name not in getattr(enterprises[code], parts)
            }
            for row, pair in enumerate(pairs if strange else ()):
                if pair in strange:
                    there = ", ".join(sorted(getattr(enterprises[pair[0]], parts)))
                    expected = f"one of {there}" if there else f"none: the enterprise has no {parts}"
                    self._add(row, column, f"is {pair[1]!r}, which its enterprise does not have", expected)

    def unique(self) -> None:
        """An enterprise has a point once, in whichever file and behind whichever gateway."""
        first: dict[tuple[str, str], int] = {}
        pairs = zip(self.values["enterprise"], self.values["point"], strict=True)
        for row, pair in enumerate(pairs):
            before = first.setdefault(pair, row)
            if before != row and None not in pair:
                there = spot(*self.table.places[before])
                self._add(row, "point", f"{pair[1]!r} is at {there} too", "every point once")

    def groups(self, enterprises: Document) -> None:
        """A group's points must be two or more, of one engineering unit, or they could never agree or differ."""
        columns = (self.values[name] for name in ("enterprise", "group", "engineering_unit"))
        members = [(code, group, unit) for code, group, unit in zip(*columns, strict=True) if group]
        count = Counter((code, group) for code, group, _ in members)
        units = Counter((code, group) for code, group, unit in set(members) if unit is not None)
        groups = {
            (*place, "groups", *inner): (text(entry.get("code")), text(group.get("id")))
            for place, entry in mappings(enterprises.data)
            for inner, group in mappings(entry.get("groups", ""))
        }
        strays = count.keys() - set(groups.values())  # reported already; each may be meant for any of these:
        unsure = {group for code, group in strays if code is None} | {code for code, _ in strays}
        for where, key in groups.items():
            if count[key] < 2:
                if unsure.isdisjoint(key):
                    problem = "has one point" if count[key] else "has no point"
                    self.mistakes.add(*enterprises.where(where), problem, "two points or more")
            elif units[key] > 1:
                problem = "has points of several engineering units"
                self.mistakes.add(*enterprises.where(where), problem, "one engineering unit")

    def limits(self) -> None:
        """LL < L < H < HH, within the physical range, each with a reset that can be reached."""
        low, high = self._array("range_low"), self._array("range_high")
        inverted = low >= high
        self._report(
            inverted,
            "range_low",
            lambda row: f"{low[row]:g} is not below range_high {high[row]:g}",
            "range_low < range_high",
        )
        low, high = np.where(inverted, np.nan, low), np.where(inverted, np.nan, high)
        nearest_below = np.full(len(self.table), np.nan)
        for level in LEVELS:
            limit = self._array(level)
            self._order(level, limit, nearest_below)
            nearest_below = np.fmax(nearest_below, limit)
            self._in_range(level, limit, low, high)
        L, H = self._array("L"), self._array("H")
        lowest_high, highest_low = np.fmin(H, self._array("HH")), np.fmax(L, self._array("LL"))
        for level in LEVELS:
            limit, reset = self._array(level), self._array(f"{level}_reset")
            itself = ~self._given(f"{level}_reset")  # then the limit is its own reset
            if level in ("H", "HH"):
                too_far = (reset <= np.fmax(highest_low, low)) | (itself & (limit == low))
                self._reset(level, limit, reset, reset > limit, too_far, "below")
            else:
                too_far = (reset >= np.fmin(lowest_high, high)) | (itself & (limit == high))
                self._reset(level, limit, reset, reset < limit, too_far, "above")
            for column in (f"{level}_reset", f"{level}_on_delay", f"{level}_off_delay"):
                self._needs(column, level)

    def rules(self) -> None:
        """A rate needs its time and a time its rate; a tolerance of standing still needs its time."""
        self._needs("rate", "rate_over")
        self._needs("rate_over", "rate")
        self._needs("stuck_within", "stuck_after")
        self._needs("state_delay", "alarm_state")
        self._needs("ahead", "ahead_over")
        self._needs("ahead_over", "ahead")

    def _order(self, level: str, limit: NDArray[np.float64], below: NDArray[np.float64]) -> None:
        self._report(
            limit <= below,
            level,
            lambda row: f"{limit[row]:g} is not above {below[row]:g}, a lower limit",
            "LL < L < H < HH",
        )

    def _in_range(
        self, level: str, limit: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> None:
        self._report(
            (limit < low) | (limit > high),
            level,
            lambda row: f"{limit[row]:g} is outside the range {low[row]:g} to {high[row]:g}",
            "a limit within the physical range",
        )

    def _reset(
        self,
        level: str,
        limit: NDArray[np.float64],
        reset: NDArray[np.float64],
        wrong_side: Mask,
        too_far: Mask,
        side: str,
    ) -> None:
        def problem(row: int) -> str:
            given = "is left out" if np.isnan(reset[row]) else f"{reset[row]:g}"
            return f"{given} for {level} {limit[row]:g}"

        column = f"{level}_reset"
        self._report(wrong_side, column, problem, f"a value at {level} or {side} it")
        expected = "a value that is reached within the physical range and before the limits of the other side"
        self._report(too_far & ~wrong_side, column, problem, expected)

    def _needs(self, column: str, other: str) -> None:
        alone = self._given(column) & ~self._given(other)
        self._report(alone, column, lambda row: f"is given without {other}", f"{other} too")

    def _report(self, where: Mask, column: str, problem: Callable[[int], str], expected: str) -> None:
        for row in np.flatnonzero(where).tolist():
            self._add(row, column, problem(row), expected)

    def _add(self, row: int, column: str, problem: str, expected: str) -> None:
        file, line = self.table.places[row]
        self.mistakes.add(file, line, column, problem, expected)

    def _given(self, column: str) -> Mask:
        """Which rows say something there, whether or not it can be understood."""
        return np.array([bool(cell.strip()) for cell in self.table.columns[column]], bool)

    def _array(self, column: str) -> NDArray[np.float64]:
        return np.array(self.values[column], np.float64)
