"""Reads a scenario from a YAML file, and says on which line each of its mistakes stands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from simulators.scenario import Scenario, ScenarioError
from simulators.scenario_values import Place


class _Loader(yaml.SafeLoader):
    """Plain YAML: no anchors, no tags, and times are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 the base's own kind of attribute
        first: [found for found in resolvers if found[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(
                problem="expected neither anchor, alias nor tag", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def read(path: Path) -> Scenario:
    """The scenario of a file.

    Raises:
        ScenarioError: it is none; every mistake with its line. OSError: it cannot be read.
    """
    lines: dict[Place, int] = {}
    mistakes: list[tuple[int, str]] = []
    try:
        loader = _Loader(path.read_text("utf-8"))
        node = loader.get_single_node()
        data = loader.construct_document(node) if node else None
        twice: set[Place] = set()
        for place, line in _lines(node):
            if place in lines:
                twice.add(place)
                if place[:-1] not in twice:
                    mistakes.append((line, f"{_spelt(place)}is there twice"))
            lines.setdefault(place, line)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{path}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{path}: not YAML: {error}") from None
    try:
        found = Scenario.model_validate(data)
    except ValidationError as error:
        mistakes += [_mistake(lines, one["loc"], one["msg"]) for one in error.errors()]
    else:
        if found.registry and not (path.parent / found.registry).is_dir():
            mistakes.append((lines["registry",], f"registry: no folder {found.registry!r} beside this file"))
        if not mistakes:
            return found
    raise ScenarioError("\n".join(f"{path}:{line}: {text}" for line, text in sorted(set(mistakes))))


def _mistake(lines: Mapping[Place, int], place: Place, text: str) -> tuple[int, str]:
    if len(place) > 2 and place[0] == "timeline":
        place = (*place[:2], *place[3:])  # without the tag of the union
    known = next((place[:end] for end in range(len(place), -1, -1) if place[:end] in lines), ())
    return lines.get(known, 1), f"{_spelt(place)}{text}"


def _spelt(place: Place) -> str:
    return ".".join(str(part) for part in place) + (": " if place else "")


def _lines(node: Any, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """Where in the file each key and entry stands; a key that is there twice comes twice."""
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from list(_lines(value, (*place, key.value)))[1:]
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines(value, (*place, number))
