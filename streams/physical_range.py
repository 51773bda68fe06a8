"""Physical range: a value that the sensor cannot have measured. It ends with the next value in range.

Left open by the contract, and decided so: rate, stuck and disagreement take a value out of range as no value.
"""

import numpy as np

from ingest.readings import Values
from registry.model import Registry
from streams.episodes import CLOSED, RANGE, Book
from streams.sieve import LARGEST


class PhysicalRange:
    def __init__(self, registry: Registry) -> None:
        points = registry.points
        self._unit = points.engineering_unit
        self.has = ~(np.isnan(points.range_low) & np.isnan(points.range_high))
        self.low: Values = np.where(np.isnan(points.range_low), -LARGEST, points.range_low)
        self.high: Values = np.where(np.isnan(points.range_high), LARGEST, points.range_high)

    def judge(self, row: int, time: int, value: float, book: Book) -> bool:
        """One reading in order, NaN if unknown. Whether it is out of range."""
        low, high = float(self.low[row]), float(self.high[row])
        out = value < low or value > high
        if value != value:
            book.unknown(RANGE, row, time)
            return False
        book.known(RANGE, row, time, value)
        is_open = book.flag[RANGE][row] != CLOSED
        if out and not is_open:
            limit = low if value < low else high
            book.begin(RANGE, row, time, time, value=value, limit=limit, unit=self._unit[row])
        elif is_open and not out:
            book.end(RANGE, row, time, value)
        return out

    def troubled(self, row: int, book: Book) -> bool:
        """Whether any known reading may be news."""
        return bool(book.flag[RANGE][row] != CLOSED)
