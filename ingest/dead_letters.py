"""Dead letters in a flood: one stands for all that are like it, so that rubbish fills no disk."""

from collections.abc import Iterable
from dataclasses import replace

from ingest.readings import DeadLetter

LETTERS = 100
"""Dead letters kept apart, each for a topic and a reason; beyond them there is one for each reason."""

OTHERS = "#"
"""In place of a topic: several. No message can have it, and no enterprise may see its dead letters."""


def merged(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """The first for each topic and reason, each counting for how many it stands."""
    kept: dict[tuple[str, str], DeadLetter] = {}
    for letter in letters:
        place = letter.topic, letter.reason
        if place not in kept and len(kept) >= LETTERS:
            letter = replace(letter, topic=OTHERS)
            place = OTHERS, letter.reason
        first = kept.get(place)
        kept[place] = letter if first is None else replace(first, count=first.count + letter.count)
    return list(kept.values())
