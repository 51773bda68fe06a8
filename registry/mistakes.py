"""Mistakes in a registry: each with its place and what was expected there, all raised at once."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to mend; they sort by file and line. The line counts from 1; a whole file is line 1."""

    file: str  # relative to the folder; of what lies in the database: its kind and key
    line: int  # 0 in the database
    field: str  # key path or column, "" for the file or the row itself
    problem: str
    expected: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{spot(self.file, self.line)}: {field}{self.problem}; expected {self.expected}"


class Mistakes:
    """Gathers the mistakes of one reading."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def add(self, file: str, line: int, field: str, problem: str, expected: str) -> None:
        self.found.append(Mistake(file, line, field, problem, expected))


class RegistryErrors(Exception):
    """What is no registry. ``mistakes``: all that is wrong with it, by file and line."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(map(str, self.mistakes)))


def spot(file: str, line: int) -> str:
    """A line of a file; or a record of the database, which has none."""
    return f"{file}:{line}" if line else file
