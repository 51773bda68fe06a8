"""What a city's registry costs: 130,000 enterprises, 503 of them with 200 points each, 300,000 pieces of equipment."""

import csv
import resource
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from registry import credit, store_tables
from registry.clock import DAY, SECOND, stopwatch
from registry.compile import compile_source
from registry.database import open_database
from registry.exchange import import_folder
from registry.store import Change, RegistryStore
from streams import configuration, rulebook_file
from streams.evaluator import Evaluator
from tests.folders import POINT_COLUMNS

T = TypeVar("T")

NOW = 20_500 * DAY  # 2026-02-16

VILLAGES, TOWNS, DISTRICTS = 3000, 150, 10


def run(quick: bool = False) -> dict[str, Any]:
    """Seconds, one run each: of the import and the edits, and what an edit costs supervisor and judge."""
    enterprises, guarded, points, equipment = (2000, 20, 50, 5000) if quick else (130_000, 503, 200, 300_000)
    figures: dict[str, Any] = {}

    def timed(figure: str, work: Callable[..., T], *of: object) -> T:
        begun = stopwatch()
        result = work(*of)
        figures[figure] = stopwatch() - begun
        return result

    with tempfile.TemporaryDirectory(dir=Path("build")) as temporary:
        folder = Path(temporary)
        codes = write(folder / "registry", enterprises, guarded, points, equipment)
        engine = open_database(folder / "registry.sqlite")
        store_tables.upgrade(engine)
        store = RegistryStore(engine)
        timed(
            "import, s",
            lambda: import_folder(
                store, folder / "registry", who="bench", why="all", now=NOW, origin="import", replace=True
            ),
        )

        def edit(kind: str, key: str, **fields: str) -> None:
            store.edit([Change(kind, key, fields)], who="bench", why="edit", now=NOW, origin="api")

        timed("an edit of one point, s", lambda: edit("point", f"{codes[0]}/P0", H="26"))
        timed("an edit of a person, everything checked, s", lambda: edit("person", "p3", name="王五"))
        source = timed("read and check at start, s", store.load)
        compiled = timed("compile at start, s", compile_source, source)
        rulebook = rulebook_file.shipped()
        versions = folder / "versions"
        version = timed("save at start, s", configuration.save, versions, compiled, rulebook)
        in_force = timed("judge at start: load, s", configuration.load, versions, version)
        evaluator = Evaluator(in_force, NOW)
        facts, told = 0, evaluator.advance(NOW)
        begun = stopwatch()
        while told:
            facts += len(told)
            told = evaluator.advance(evaluator.now + 1)
        figures["facts that are true at first"] = facts
        figures["telling 1,000 facts, ms"] = (stopwatch() - begun) * 1e6 / max(facts, 1)
        edits = {
            "a point": lambda: edit("point", f"{codes[0]}/P1", H="26"),
            "an inspection": lambda: edit("inspections", f"{codes[0]}/I-0", result="failed"),
        }
        for name, work in edits.items():
            work()
            source = timed(f"supervisor after an edit of {name}: read, s", store.load)
            compiled = timed(f"supervisor after an edit of {name}: compile, s", compile_source, source)
            version = timed(
                f"supervisor after an edit of {name}: save, s",
                configuration.save,
                versions,
                compiled,
                rulebook,
            )
            coming = timed(
                f"judge after an edit of {name}: load beside, s",
                configuration.load,
                versions,
                version,
                in_force.registry,
            )
            timed(
                f"judge after an edit of {name}: put in force, s",
                evaluator.reconfigure,
                coming,
                evaluator.now + SECOND,
            )
            in_force = coming
        engine.dispose()
        figures["compiled facts"] = len(compiled.facts)
    figures["memory of it all, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return figures


def write(folder: Path, enterprises: int, guarded: int, points: int, equipment: int) -> list[str]:
    """Write a registry folder and return the credit codes; the first ``guarded`` have points."""
    folder.mkdir()
    codes = [
        credit.complete(f"913702{number // 1_000_000:02d}MA0{number % 1_000_000:06d}"[:17])
        for number in range(enterprises)
    ]
    _yaml(folder / "registry.yaml", {"grid": [{"id": "city", "name": "海州市", "level": "city"}]})
    _csv(
        folder / "cells.csv",
        "id,name,level,parent",
        [
            *((f"d{n}", f"{n}区", "district", "city") for n in range(DISTRICTS)),
            *((f"t{n}", f"{n}镇", "town", f"d{n % DISTRICTS}") for n in range(TOWNS)),
            *((f"v{n}", f"{n}村", "village", f"t{n % TOWNS}") for n in range(VILLAGES)),
        ],
    )
    places = ["system", "city", *(f"t{n}" for n in range(TOWNS)), *codes[:guarded]]
    _yaml(
        folder / "people.yaml",
        [
            {"id": f"p{n}", "name": f"{n}号", "contacts": [{"channel": "phone", "address": f"138{n:08d}"}]}
            for n in range(len(places))
        ],
    )
    _yaml(folder / "duty.yaml", [{"place": place, "person": f"p{n}"} for n, place in enumerate(places)])
    _csv(
        folder / "enterprises.csv",
        "code,name,cell,industry,location,gateways,units",
        (
            (
                code,
                f"第{n}企业",
                f"v{n % VILLAGES}",
                "化工",
                "120.38,36.07",
                "gw1" * (n < guarded),
                "U1=一号;U2=二号",
            )
            for n, code in enumerate(codes)
        ),
    )
    _csv(
        folder / "points.csv",
        POINT_COLUMNS,
        (
            (code, "gw1", f"P{n}", "combustible_gas", "%LEL", 0, 100, 25, 20, 50, 45, "30s")
            for code in codes[:guarded]
            for n in range(points)
        ),
    )
    owned = [(codes[n % enterprises], n) for n in range(equipment)]
    _csv(
        folder / "equipment.csv",
        "enterprise,id,name,kind,unit,in_service",
        (
            (code, f"V-{n}", f"{n}号电梯", "lift", "U1", f"20{10 + n % 15}-0{1 + n % 9}-11")
            for code, n in owned
        ),
    )
    _csv(
        folder / "inspections.csv",
        "enterprise,id,equipment,kind,date,result,next",
        (
            (
                code,
                f"I-{n}",
                f"V-{n}",
                "periodic",
                f"2025-0{1 + n % 9}-1{n % 9}",
                "passed",
                f"2026-0{1 + n % 9}-1{n % 9}",
            )
            for code, n in owned
        ),
    )
    return codes


def _yaml(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")


def _csv(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
