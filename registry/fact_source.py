"""What may stand in the files of records (equipment.csv, licences.csv ...): their columns and their checks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.files import Table
from registry.mistakes import Mistakes
from registry.source import Column, Parts


@dataclass(frozen=True, slots=True)
class RecordTable:
    """One kind of record: a CSV file of this name in the folder, all columns text until they are judged."""

    columns: Mapping[str, Column]
    key: tuple[str, ...]  # the columns that tell one record from another, ("enterprise", "id")


TABLES: dict[str, RecordTable] = {}
"""By the stem of the file: "equipment" is equipment.csv. Every file may be left out."""


def check(
    tables: Mapping[str, Table],
    values: Mapping[str, Mapping[str, Sequence[Any]]],
    enterprises: Mapping[str, Parts],
    points: Collection[tuple[str, str]],
    mistakes: Mistakes,
) -> None:
    """What only several columns or files together can show; all by stem of the file.

    Args:
        values: columns as values, as each Column says; its default where a cell is empty or was a mistake.
        points: enterprise and id of every point.
    """
