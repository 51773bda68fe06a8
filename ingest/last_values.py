"""Last values: each point's newest value in a memory-mapped file, written by the judge, read by anyone."""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ingest.readings import Qualities, Times, Values

_HEADER = np.dtype([("magic", "S8"), ("seq", "<i8"), ("rows", "<i8"), ("version", "S40")])
_MAGIC = b"FHLAST1"
_TRIES = 100


class NoLastValues(Exception):
    """There is no readable table: the judge has not written one yet, or it is not ours."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One consistent copy of consecutive rows: newest (µs, event time), value (NaN: bad or never), quality."""

    newest: Times
    value: Values
    quality: Qualities


class LastValues:
    """Two copies of the table in one file, written in turn; ``seq`` says how many writes are complete.

    The newest complete copy is number ``seq % 2``. A write goes to the other one, so a writer killed at any
    moment leaves a whole copy behind, and a reader's copy is whole if ``seq`` is the same after as before.
    One writer, any number of readers. A new registry version gets a new file under the same name.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        try:
            with path.open("r+b" if write else "rb") as file:
                self._map = mmap.mmap(
                    file.fileno(), 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
                )
        except (FileNotFoundError, ValueError) as error:  # ValueError: the file is empty
            raise NoLastValues(f"{path.name}: {error}") from error
        if len(self._map) < _HEADER.itemsize:
            raise NoLastValues(f"{path.name} is too short")
        self._header = np.frombuffer(self._map, _HEADER, 1)
        rows = int(self._header["rows"][0])
        if self._header["magic"][0] != _MAGIC or len(self._map) != _size(rows):
            raise NoLastValues(f"{path.name} is not a table of last values")
        self.rows = rows
        self.version = bytes(self._header["version"][0]).decode()
        self._copies = tuple(_copy(self._map, rows, index) for index in (0, 1))

    @classmethod
    def create(cls, path: Path, version: str, rows: int) -> Self:
        """A new table of never heard points for the writer; replaces an older one in one step."""
        fresh = path.with_suffix(".new")
        header = np.array([(_MAGIC, 0, rows, version.encode())], _HEADER)
        if bytes(header["version"][0]) != version.encode():
            raise ValueError(
                f"registry version {version!r} is longer than {_HEADER['version'].itemsize} bytes"
            )
        with fresh.open("wb") as file:
            file.write(header.tobytes())
            os.posix_fallocate(file.fileno(), 0, _size(rows))  # a sparse file would kill us on a full disk
        table = cls(fresh, write=True)
        table._copies[0].value[:] = np.nan
        os.replace(fresh, path)
        return table

    @classmethod
    def open(cls, path: Path) -> Self:
        """The present table, to read. Raises NoLastValues."""
        return cls(path, write=False)

    def write(
        self, newest: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint8]
    ) -> None:
        """All rows, [rows] each; seen by readers as one. Only for the table's creator."""
        seq = int(self._header["seq"][0])
        copy = self._copies[(seq + 1) % 2]
        copy.newest[:] = newest
        copy.value[:] = value
        copy.quality[:] = quality
        self._header["seq"] = seq + 1

    def read(self, start: int = 0, stop: int | None = None) -> Look:
        """Rows from start to before stop, as they stood together at one write.

        Raises:
            NoLastValues: the writer was faster for so long that no consistent copy could be had.
        """
        rows = slice(start, stop)
        for _ in range(_TRIES):
            seq = int(self._header["seq"][0])
            copy = self._copies[seq % 2]
            look = Look(copy.newest[rows].copy(), copy.value[rows].copy(), copy.quality[rows].copy())
            if int(self._header["seq"][0]) == seq:
                return look
        raise NoLastValues("the table changes faster than it can be read")

    def close(self) -> None:
        """Gives the file back; the arrays are gone with it."""
        del self._copies, self._header
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _row_bytes(rows: int) -> int:
    """Bytes of one copy, so that the next one's times are aligned to 8."""
    return rows * 16 + -(-rows // 8) * 8


def _size(rows: int) -> int:
    return _HEADER.itemsize + 2 * _row_bytes(rows)


def _copy(buffer: mmap.mmap, rows: int, index: int) -> Look:
    at = _HEADER.itemsize + index * _row_bytes(rows)
    return Look(
        np.frombuffer(buffer, np.int64, rows, at),
        np.frombuffer(buffer, np.float64, rows, at + rows * 8),
        np.frombuffer(buffer, np.uint8, rows, at + rows * 16),
    )
