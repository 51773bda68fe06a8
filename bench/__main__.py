"""`make bench`: every benchmark in turn, one table, one JSON file."""

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import (
    cluster,
    codec,
    collect,
    compound,
    desk,
    end_to_end,
    engine,
    evaluate,
    history,
    history_influx,
    journal,
    registry,
)

BENCHES: dict[str, Callable[[bool], dict[str, Any]]] = {
    "codec": codec.run,
    "engine": engine.run,
    "compound": compound.run,
    "journal": journal.run,
    "history": history.run,
    "history_influx": history_influx.run,
    "desk": desk.run,
    "registry": registry.run,
    "end_to_end": end_to_end.run,
    "collect": collect.run,
    "evaluate": evaluate.run,
    "cluster": cluster.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], default=[], help="all if none is named")
    parser.add_argument("--quick", action="store_true", help="short runs, for trying it out")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
    }
    console = Console()
    for name in arguments.names or BENCHES:
        console.rule(name)
        results[name] = BENCHES[name](arguments.quick)
        table = Table("figure", "value")
        for figure, value in _flat(results[name]):
            table.add_row(figure, f"{value:,.3f}" if isinstance(value, float) else str(value))
        console.print(table)
    target = Path("build/bench.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1, ensure_ascii=False), "utf-8")
    console.print(f"written to {target}")


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


if __name__ == "__main__":
    main()
