"""Blocks and roll-ups as Parquet files: columns, encodings, and that a file is whole or not there."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from history.block import Block, Codes, Counts, RollUp
from ingest.readings import Qualities, Times, Values

ROWS = 1 << 16
"""Of a row group: a reader of one point reads few others."""

LEVEL = 3
"""Of zstd: higher ones cost more than they save here."""

PART = ".part"
"""How the name of a file ends that is not whole yet."""

MOMENT = pa.timestamp("us", "UTC")

MS = 1000
"""µs: so exactly it is kept when a reading arrived. More would cost a byte a reading."""

COLUMNS = {"time": "DELTA_BINARY_PACKED", "delay": "BYTE_STREAM_SPLIT"}
"""How the columns of a block are encoded that are not dictionaries: times rise evenly, and what a packet took to arrive
is the same for all its points, which zstd sees where the bytes stand beside each other."""

ROLLED = {"time": "DELTA_BINARY_PACKED", "last_time": "DELTA_BINARY_PACKED"}


def write_block(path: Path, one: Block) -> int:
    """Its size in bytes, once it is durable. Its times of arrival are kept to the ms. Raises OSError."""
    table = pa.table(
        {
            "point": _points(one.points, one.code),
            "time": pa.array(one.time, MOMENT),
            "value": _known(one.value),
            "quality": pa.array(one.quality),
            "delay": pa.array((one.arrival - one.time) // MS),
        }
    )
    return _write(path, table, COLUMNS)


def read_block(path: Path) -> Block:
    """Raises OSError, pyarrow.ArrowInvalid (no Parquet)."""
    table = _read(path)
    time = _times(table, "time")
    return Block(
        *_codes(table), time, _values(table, "value"), _qualities(table), time + _counts(table, "delay") * MS
    )


def write_roll_up(path: Path, one: RollUp) -> int:
    """As write_block."""
    table = pa.table(
        {
            "point": _points(one.points, one.code),
            "time": pa.array(one.time, MOMENT),
            "min": _known(one.least),
            "max": _known(one.greatest),
            "mean": _known(one.mean),
            "last": _known(one.last),
            "last_time": pa.array(one.last_time, MOMENT),
            "count": pa.array(one.count),
            "bad": pa.array(one.bad),
            "quality": pa.array(one.quality),
        }
    )
    return _write(path, table, ROLLED)


def read_roll_up(path: Path) -> RollUp:
    """As read_block."""
    table = _read(path)
    points, code = _codes(table)
    return RollUp(
        points,
        code,
        time=_times(table, "time"),
        least=_values(table, "min"),
        greatest=_values(table, "max"),
        mean=_values(table, "mean"),
        last=_values(table, "last"),
        last_time=_times(table, "last_time"),
        count=_counts(table, "count"),
        bad=_counts(table, "bad"),
        quality=_qualities(table),
    )


def _write(path: Path, table: pa.Table, encodings: dict[str, str]) -> int:
    """Whoever looks into the folder sees the whole file or none; on return it outlasts a power cut."""
    _make(path.parent)
    part = path.with_suffix(PART)
    with part.open("wb") as file:
        parquet.write_table(
            table,
            file,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=[name for name in table.column_names if name not in encodings],
            column_encoding=encodings,
            row_group_size=ROWS,
            store_schema=False,
        )
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    part.replace(path)
    _sync(path.parent)
    return size


def _make(folder: Path) -> None:
    """It, and those that it is in, durably."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> pa.Table:
    return parquet.read_table(path, read_dictionary=["point"], partitioning=None)


def _points(ids: tuple[str, ...], code: NDArray[np.int32]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(code), pa.array(ids, pa.string()))


def _known(values: Values) -> pa.Array:
    """NaN as null: the statistics of a Parquet file tell nothing of NaN, and readers take that for its absence."""
    return pa.array(values, mask=np.isnan(values))


def _codes(table: pa.Table) -> tuple[tuple[str, ...], Codes]:
    column = table.column("point").unify_dictionaries()
    ids = column.chunk(0).dictionary.to_pylist()
    return tuple(ids), np.concatenate([part.indices.to_numpy() for part in column.chunks])


def _times(table: pa.Table, name: str) -> Times:
    times: Times = table.column(name).to_numpy().astype(np.int64)
    return times


def _values(table: pa.Table, name: str) -> Values:
    values: Values = table.column(name).to_numpy()
    return values


def _counts(table: pa.Table, name: str) -> Counts:
    counts: Counts = table.column(name).to_numpy()
    return counts


def _qualities(table: pa.Table) -> Qualities:
    qualities: Qualities = table.column("quality").to_numpy()
    return qualities
