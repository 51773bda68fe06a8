"""What was refused: the mistakes for which an edit or a rulebook is not in force, left for whoever tells of them."""

from pathlib import Path


def write(file: Path, mistakes: str) -> None:
    """Leave them, a line each. Raises OSError."""
    fresh = file.with_suffix(".new")
    fresh.write_text(mistakes, "utf-8")
    fresh.replace(file)  # somebody may be reading it


def first(file: Path) -> str:
    """The first of them, and how many more there are; "" if nothing was refused. Raises OSError."""
    try:
        mistakes = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ""
    more = f" (+ {len(mistakes) - 1})" if len(mistakes) > 1 else ""
    return f"{mistakes[0] if mistakes else 'refused'}{more}"
