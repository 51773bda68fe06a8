"""Reading a registry folder: its files as texts, each with the place that it has in its file."""

from collections.abc import Iterable, Mapping
from csv import field_size_limit
from difflib import get_close_matches
from pathlib import Path

from registry import fact_source
from registry.checks import Raw, check
from registry.checks import Source as Source
from registry.files import FileReader, Table, YamlFile
from registry.mistakes import Mistakes, RegistryErrors
from registry.records import enterprises_of
from registry.source import CELL_COLUMNS, ENTERPRISE_COLUMNS, POINT_COLUMNS, Column

LISTS = {
    "person": ("people.yaml", "a list of people"),
    "duty": ("duty.yaml", "a list of who is on duty where"),
    "enterprise": ("enterprises.yaml", "a list of enterprises"),
}
FILES = (
    "registry.yaml",
    *(name for name, _ in LISTS.values()),
    *("points.csv", "cells.csv", "enterprises.csv", "points"),
)


SHEETS = (".csv", ".xlsx", ".xls", ".et")
"""Endings of what Excel and WPS write."""

field_size_limit(1 << 24)
"""Characters of a cell of a CSV file: the boundary of a district has many more than the usual 131,072."""


def read(folder: Path) -> Source:
    """Read and check a registry folder (docs/registry.md). Raises RegistryErrors with every mistake."""
    mistakes = Mistakes()
    source = check(read_files(folder, mistakes), mistakes)
    if source is None:
        raise RegistryErrors(mistakes.found)
    return source


def read_files(folder: Path, mistakes: Mistakes, *, some: bool = False) -> Raw:
    """All files of a folder as texts.

    Args:
        some: any file may be missing; else only those that docs/registry.md says.

    Raises:
        RegistryErrors: it is no folder.
    """
    if not _strangers(folder, mistakes):
        raise RegistryErrors(mistakes.found)
    files = FileReader(folder, mistakes)
    raw = Raw()

    def yaml(kind: str, name: str, expected: str, optional: bool) -> list[YamlFile]:
        if optional and not (folder / name).exists():
            return []
        file = files.yaml(name, expected)
        if file is not None and file.lines:
            return [file]
        raw.unread.add(kind)
        return []

    def csv(kind: str, columns: Mapping[str, Column], names: Iterable[str]) -> Table:
        required = [name for name, column in columns.items() if column.required]
        table = Table({name: [] for name in columns})
        for name in names:
            if not files.csv(table, name, required):
                raw.unread.add(kind)
        return table

    for settings in yaml("settings", "registry.yaml", "the grid of cells", some):
        raw.settings = settings
    rows = csv("enterprise", ENTERPRISE_COLUMNS, _present(folder, "enterprises.csv"))
    optional = {"enterprise": (folder / "enterprises.csv").exists()}
    lists = {kind: yaml(kind, *file, some or optional.get(kind, False)) for kind, file in LISTS.items()}
    raw.people, raw.duty = [*lists["person"]], [*lists["duty"]]
    raw.enterprises = [*lists["enterprise"], enterprises_of(rows)]
    raw.cells = csv("cell", CELL_COLUMNS, _present(folder, "cells.csv"))
    points = [*_present(folder, "points.csv"), *_present(folder / "points", "*.csv", "points/")]
    raw.points = csv("point", POINT_COLUMNS, points if points or some else ["points.csv"])
    for stem, kind in fact_source.TABLES.items():
        raw.records[stem] = csv(stem, kind.columns, _present(folder, f"{stem}.csv"))
    raw.left_out = rows.left_out.union(
        *(table.left_out for table in (raw.cells, raw.points, *raw.records.values()))
    )
    return raw


def _strangers(folder: Path, mistakes: Mistakes) -> bool:
    """A file whose name is nearly one of ours would be passed over in silence. Whether the folder is one."""
    ours = [*FILES, *(f"{stem}.csv" for stem in fact_source.TABLES)]
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        mistakes.add(str(folder), 1, "", f"cannot be read: {error.strerror}", "a folder")
        return False
    for name in names:
        likely = get_close_matches(name.lower(), ours, 1, 0.85)
        if name.lower().endswith(SHEETS):  # a copy, or not saved as CSV
            likely += [our for our in ours if our.endswith(".csv") and name.lower().startswith(our[:-4])]
        if likely and name not in ours and not _aside(name):
            mistakes.add(name, 1, "", "is not read", f"the name {likely[0]}, or one unlike it")
    if not mistakes.found and not set(names) & set(ours):
        mistakes.add(str(folder), 1, "", "has no file of a registry", f"some of {', '.join(ours)}")
    points = folder / "points"
    if points.exists() and not points.is_dir():
        mistakes.add("points", 1, "", "is not read", "a folder of CSV files")
    for path in sorted(points.iterdir()) if points.is_dir() else ():
        if not path.name.endswith(".csv") and not _aside(path.name):
            mistakes.add(f"points/{path.name}", 1, "", "is not read", "a name that ends with .csv")
    return True


def _aside(name: str) -> bool:
    """What editors and office programs leave beside a file."""
    return name.startswith((".", "~$")) or name.endswith(("~", ".bak"))


def _present(folder: Path, pattern: str, prefix: str = "") -> list[str]:
    return [f"{prefix}{path.name}" for path in sorted(folder.glob(pattern)) if not _aside(path.name)]
