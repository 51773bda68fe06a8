"""State of the rules: named arrays over the same rows, that can be carried over, packed and loaded."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

NEVER = -(2**63)
"""A time that has not been yet, µs: earlier than any other."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """One array: the rows that differ from blank (empty: all rows), and their values, as raw bytes."""

    rows: bytes
    values: bytes


class Rows:
    """Arrays of equal length, each with the value that means "nothing yet".

    Args:
        size: number of rows.
        blank: by name, the blank value of one row: a NumPy scalar, or an array where a row has several.
    """

    def __init__(self, size: int, **blank: Any) -> None:
        self._blank = {name: np.asarray(value) for name, value in blank.items()}
        self._arrays: dict[str, NDArray[Any]] = {}
        for name, value in self._blank.items():
            self._arrays[name] = np.empty((size, *value.shape), value.dtype)
            self._arrays[name][...] = value

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def clear(self, row: int) -> None:
        """Nothing yet in this row."""
        for name, array in self._arrays.items():
            array[row] = self._blank[name]

    def carry(self, old: "Rows", here: NDArray[np.intp], there: NDArray[np.intp]) -> None:
        """Take rows ``there`` of another as rows ``here`` of this."""
        for name, array in self._arrays.items():
            array[here] = old[name][there]

    def pack(self) -> dict[str, Packed]:
        return {name: self._pack(name, array) for name, array in self._arrays.items()}

    def _pack(self, name: str, array: NDArray[Any]) -> Packed:
        bits = f"u{array.itemsize}"  # bitwise, so that NaN equals NaN
        differs = array.view(bits) != self._blank[name].view(bits)
        if array.ndim > 1:
            differs = differs.any(axis=tuple(range(1, array.ndim)))
        rows = np.flatnonzero(differs).astype(np.int32)
        if len(rows) > len(array) // 2:
            return Packed(b"", array.tobytes())
        return Packed(rows.tobytes(), array[rows].tobytes()) if len(rows) else Packed(b"", b"")

    def load(self, packed: dict[str, Packed]) -> None:
        """Undo :meth:`pack`. Raises KeyError, IndexError or ValueError where it does not fit."""
        for name, array in self._arrays.items():
            rows = np.frombuffer(packed[name].rows, np.int32)
            values = np.frombuffer(packed[name].values, array.dtype)
            if len(rows):
                array[rows] = values.reshape(len(rows), *array.shape[1:])
            elif len(values):
                array[...] = values.reshape(array.shape)
