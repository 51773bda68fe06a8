"""YAML and CSV as plain text values with the line of each, so that every mistake can be pointed at.

Nothing is guessed: ``NO``, ``20:00`` and ``0012`` stay the text that was written, in YAML as in CSV; the
field that they are for says what they must be.
"""

import csv
import sys
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import accumulate, compress
from pathlib import Path
from typing import TypeAlias

import yaml
from yaml.events import Event

from registry.mistakes import Mistakes

Data: TypeAlias = str | list["Data"] | dict[str, "Data"]
Place: TypeAlias = tuple[str | int, ...]
"""Where in a YAML file: keys and indexes from the top."""

DEEPEST = 50
"""More levels than this are a slip of the keyboard, not a grid."""

_TOGETHER = 4096
"""Rows taken over at once: a city's as lists of cells would fill the memory."""

_Loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader


Where: TypeAlias = tuple[str, int, str]
"""File, line and field as people are told them. Of a record of the database: what it is called, 0, the field."""


class Document:
    """Data, every scalar as text, and where each place of it was written."""

    data: Data

    def where(self, place: Place) -> Where:
        """What people are told of this place."""
        raise NotImplementedError


@dataclass
class YamlFile(Document):
    """A YAML file, with the line of each place in it."""

    file: str
    data: Data = ""
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of this place, or of the innermost one around it."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def where(self, place: Place) -> Where:
        return self.file, self.line(place), spell(place)

    def without(self, places: Collection[Place]) -> "YamlFile":
        """The same without these items of its lists."""
        lines: dict[Place, int] = {}

        def kept(data: Data, old: Place, new: Place) -> Data:
            if old in self.lines:
                lines[new] = self.lines[old]
            if isinstance(data, dict):
                return {key: kept(value, (*old, key), (*new, key)) for key, value in data.items()}
            if isinstance(data, list):
                items: list[Data] = []
                for index, item in enumerate(data):
                    if (*old, index) not in places:
                        items.append(kept(item, (*old, index), (*new, len(items))))
                return items
            return data

        return YamlFile(self.file, kept(self.data, (), ()), lines)


@dataclass
class Listed(Document):
    """A list whose items were each written in a place of their own: rows of a CSV file, or records."""

    data: list[Data]
    places: list[tuple[str, int]]  # of each item: file and line, or a record's name and 0

    def where(self, place: Place) -> Where:
        [index, *inner] = place
        assert isinstance(index, int)
        return (*self.places[index], spell(tuple(inner)))


class Joined(Document):
    """Several lists as one."""

    def __init__(self, parts: Sequence[Document]) -> None:
        self._parts = parts
        lists = [part.data if isinstance(part.data, list) else [] for part in parts]
        self.data = [item for items in lists for item in items]
        self._begins = list(accumulate(map(len, lists[:-1]), initial=0))

    def where(self, place: Place) -> Where:
        [index, *inner] = place
        assert isinstance(index, int)
        part = bisect_right(self._begins, index) - 1
        return self._parts[part].where((index - self._begins[part], *inner))


@dataclass
class Table:
    """Rows of one or more CSV files of one shape, by column, with the place of every row."""

    columns: dict[str, list[str]]
    places: list[tuple[str, int]] = field(default_factory=list)  # file and line of each row
    left_out: set[tuple[str, int]] = field(default_factory=set)  # those of rows of too many cells, or too few

    def __len__(self) -> int:
        return len(self.places)

    def extend(self, rows: Sequence[dict[str, Data]]) -> None:
        """Add the cells of rows whose places are there already; what is no text counts as not given."""
        said = set().union(*rows)
        nothing = ("",) * len(rows)
        for column, cells in self.columns.items():
            cells.extend([sys.intern(text(row.get(column))) for row in rows] if column in said else nothing)

    def kept(self, mask: Sequence[bool]) -> "Table":
        """The rows for which the mask is true."""
        columns = {name: list(compress(values, mask)) for name, values in self.columns.items()}
        return Table(columns, list(compress(self.places, mask)))

    def append(
        self, header: Sequence[str], rows: Sequence[list[str]], places: Sequence[tuple[str, int]]
    ) -> None:
        """Add rows of these columns; the other columns get "". Equal texts are kept once."""
        given = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
        nothing = ("",) * len(rows)
        for column, values in self.columns.items():
            values.extend(map(sys.intern, given.get(column, nothing)))
        self.places.extend(places)


class FileReader:
    """Reads the files of one folder and gathers all that is wrong with them."""

    def __init__(self, folder: Path, mistakes: Mistakes) -> None:
        self.folder = folder
        self._mistakes = mistakes
        self._add = mistakes.add

    def yaml(self, name: str, expected: str) -> YamlFile | None:
        """A YAML file of the folder; None, and a mistake, if it cannot be read."""
        text = self._text(name, expected)
        if text is None:
            return None
        document = YamlFile(name)
        try:
            self._document(document, yaml.parse(text, Loader=_Loader), expected)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._not_yaml(name, mark.line + 1 if mark else 1, error.problem or "cannot be read")
        except yaml.reader.ReaderError as error:
            line = text.encode().count(b"\n", 0, error.position) + 1
            self._not_yaml(name, line, f"has the control character {error.character!r}")
        except (ValueError, OverflowError) as error:  # PyYAML lets these out for escapes beyond Unicode
            self._not_yaml(name, 1, str(error))
        else:
            return document
        return None

    def csv(self, table: Table, name: str, required: Collection[str]) -> bool:
        """Append the rows of a CSV file to the table, whose columns are all that it may have.

        Returns whether its rows were understood; if not, there is a mistake.
        """
        text = self._text(name, "a CSV file")
        if text is None:
            return False
        reader = csv.reader(StringIO(text, newline=""), strict=True)
        header: list[str] = []
        rows: list[list[str]] = []
        places: list[tuple[str, int]] = []
        line, sound = 1, True
        try:
            for cells in reader:
                start, line = line, reader.line_num + 1
                if not any(cells):
                    continue
                if not header:
                    header = [cell.strip() for cell in cells]
                    while len(header) > 1 and not header[-1]:  # Excel adds empty columns
                        header.pop()
                    if not self._header(name, start, header, table.columns, required):
                        return False
                elif len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
                    self._add(name, start, "", f"has {len(cells)} cells", f"{len(header)}, like the header")
                    table.left_out.add((name, start))
                    sound = False
                else:
                    rows.append(cells[: len(header)])
                    places.append((name, start))
                    if len(rows) == _TOGETHER:
                        table.append(header, rows, places)
                        rows, places = [], []
        except csv.Error as error:
            self._add(name, line, "", f"is not CSV: {error}", "cells between commas, quotes doubled")
            sound = False
        if header:
            table.append(header, rows, places)
        elif sound:
            self._add(name, 1, "", "is empty", f"a header with the columns {', '.join(required)}")
        return sound and bool(header)

    def _header(
        self, name: str, line: int, header: list[str], known: Collection[str], required: Collection[str]
    ) -> bool:
        before = len(self._mistakes.found)
        for place, column in enumerate(header):
            if column not in known:
                self._add(name, line, column, "unknown column", f"one of {', '.join(known)}")
            elif column in header[:place]:
                self._add(name, line, column, "is there twice", "every column once")
        for column in required:
            if column not in header:
                self._add(name, line, column, "column is missing", f"the columns {', '.join(required)}")
        return len(self._mistakes.found) == before

    def _text(self, name: str, expected: str) -> str | None:
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            self._add(name, 1, "", "is missing", expected)
        except OSError as error:
            self._add(name, 1, "", f"cannot be read: {error.strerror}", expected)
        else:
            try:
                return content.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = content.count(b"\n", 0, error.start) + 1
                self._add(
                    name, line, "", "is not UTF-8", "UTF-8 (in Excel or WPS: save as “CSV UTF-8”, not GBK)"
                )
        return None

    def _document(self, document: YamlFile, events: Iterator[Event], expected: str) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if document.lines:
                    line = _line(event)
                    self._add(document.file, line, "", "begins a second document", "one document a file")
                    return
                document.data = self._node(document, next(events), events, ())
        if not document.lines:
            self._add(document.file, 1, "", "is empty", expected)

    def _node(self, document: YamlFile, event: Event, events: Iterator[Event], place: Place) -> Data:
        """The node that begins with this event as plain data; lines of places are noted on the way."""
        line = _line(event)
        document.lines.setdefault(place, line)
        if len(place) > DEEPEST:
            mark = yaml.Mark(document.file, 0, line - 1, 0, None, 0)
            raise yaml.MarkedYAMLError(problem=f"nested over {DEEPEST} deep", problem_mark=mark)
        tag = getattr(event, "tag", None)
        if getattr(event, "anchor", None) is not None:
            self._add(document.file, line, spell(place), "is an anchor or alias", "the value written out")
        elif tag is not None:
            self._add(document.file, line, spell(place), f"has the tag {tag}", "a value without a tag")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Data] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._node(document, event, events, (*place, len(items))))
            return items
        if isinstance(event, yaml.MappingStartEvent):
            pairs: dict[str, Data] = {}
            while not isinstance(event := next(events), yaml.MappingEndEvent):
                self._pair(document, event, events, place, pairs)
            return pairs
        return getattr(event, "value", "")

    def _pair(
        self,
        document: YamlFile,
        event: Event,
        events: Iterator[Event],
        place: Place,
        pairs: dict[str, Data],
    ) -> None:
        line = _line(event)
        aside = YamlFile(document.file)  # for what has no place of its own
        key = self._node(aside, event, events, ())
        if isinstance(key, str) and key not in pairs:
            document.lines[*place, key] = line
            pairs[key] = self._node(document, next(events), events, (*place, key))
            return
        if isinstance(key, str):
            before = document.line((*place, key))
            self._add(document.file, line, spell((*place, key)), f"is on line {before} too", "every key once")
        else:
            self._add(document.file, line, spell(place), "has a key that is no text", "a plain key")
        self._node(aside, next(events), events, ())

    def _not_yaml(self, name: str, line: int, problem: str) -> None:
        expected = "YAML; blanks, not tabs; text with : # % or quotes in it quoted"
        self._add(name, line, "", f"is not YAML: {problem}", expected)


def spell(place: Place) -> str:
    """A place as people write it: ``[3].contacts[0].address``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def mappings(data: Data) -> Iterator[tuple[Place, dict[str, Data]]]:
    """The mappings of a list, each with its place; nothing where the shape is another."""
    for index, item in enumerate(data if isinstance(data, list) else []):
        if isinstance(item, dict):
            yield (index,), item


def text(data: Data | None) -> str:
    """The data if it is a text, else ""."""
    return data if isinstance(data, str) else ""


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
