"""Facts by the calendar and by edits: begun, ended, corrected under the same id, however it is cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.clock import DAY
from registry.model import FOREVER, Facts, Registry
from streams import facts as module
from streams.facts import FactEngine
from streams.finding import Finding, Phase
from tests.build import code, make_registry

ON = {Phase.BEGUN, Phase.RESUMED}


def registry(*stretches: tuple[str, str, int, int], edit: str = "", version: str = "v1") -> Registry:
    """Of facts (subject, record, begins, ends), all overdue vessels."""
    rows = sorted(stretches, key=lambda row: row[:2])
    n = len(rows)
    facts = Facts(
        rule=("equipment.overdue",) * n,
        enterprise=(code(1),) * n,
        subject=tuple(row[0] for row in rows),
        record=tuple(row[1] for row in rows),
        name=("压力容器",) * n,
        kind=("fixed_pressure_vessel",) * n,
        unit=("R1",) * n,
        level=("",) * n,
        clause=("特种设备安全法 40",) * n,
        engineering_unit=("",) * n,
        begins=np.array([row[2] for row in rows], np.int64),
        ends=np.array([row[3] for row in rows], np.int64),
        value=np.full(n, np.nan),
        limit=np.full(n, np.nan),
    )
    return replace(make_registry([], version=version), facts=facts, edit=edit)


def said(findings: list[Finding]) -> list[tuple[str, int, str, int]]:
    return [(finding.subject, finding.seq, str(finding.phase), finding.time) for finding in findings]


def test_a_fact_begins_and_ends_by_the_calendar() -> None:
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, 5 * DAY)), DAY)
    assert engine.advance(2 * DAY) == []
    assert engine.next_deadline() == 3 * DAY
    (begun,) = engine.advance(3 * DAY)
    assert (begun.phase, begun.since, begun.tier, begun.within) == (Phase.BEGUN, 3 * DAY, None, ("unit:R1",))
    assert said(engine.advance(9 * DAY)) == [("equipment:V-1", 2, "ended", 5 * DAY)]
    assert engine.next_deadline() is None


def test_what_was_true_before_the_first_start_is_told_with_its_own_time() -> None:
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER)), 9 * DAY)
    assert said(engine.advance(9 * DAY)) == [("equipment:V-1", 1, "begun", 3 * DAY)]


def test_an_inspection_entered_late_corrects_under_the_same_id_with_a_trace() -> None:
    """Overdue since day 3; on day 9 somebody enters that it was inspected on day 5."""
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER)), 0)
    (begun,) = engine.advance(4 * DAY)
    later = registry(("equipment:V-1", "I-1", 3 * DAY, 5 * DAY), edit="li.wei: entered I-2", version="v2")
    corrected, ended = engine.reconfigure(later, 9 * DAY)
    assert said([corrected, ended]) == [
        ("equipment:V-1", 2, "corrected", 9 * DAY),
        ("equipment:V-1", 3, "ended", 5 * DAY),
    ]
    assert begun.id == corrected.id == ended.id
    assert corrected.evidence == ("li.wei: entered I-2",)
    assert ended.version == "v2"


def test_what_never_was_ends_at_its_beginning() -> None:
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER)), 0)
    engine.advance(4 * DAY)
    assert said(engine.reconfigure(registry(), 9 * DAY)) == [
        ("equipment:V-1", 2, "corrected", 9 * DAY),
        ("equipment:V-1", 3, "ended", 3 * DAY),
    ]


def test_an_edit_taken_back_resumes_under_the_same_id() -> None:
    overdue = registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER))
    engine = FactEngine(overdue, 0)
    engine.advance(4 * DAY)
    engine.reconfigure(registry(), 5 * DAY)
    assert said(engine.reconfigure(overdue, 6 * DAY)) == [
        ("equipment:V-1", 4, "corrected", 6 * DAY),
        ("equipment:V-1", 5, "resumed", 6 * DAY),
    ]


def test_what_is_put_off_begins_when_it_comes() -> None:
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER)), 0)
    engine.advance(4 * DAY)
    engine.reconfigure(registry(("equipment:V-1", "I-1", 8 * DAY, FOREVER)), 5 * DAY)
    assert said(engine.advance(9 * DAY)) == [("equipment:V-1", 4, "begun", 8 * DAY)]


def test_an_edit_of_another_record_says_nothing() -> None:
    one = ("equipment:V-1", "I-1", 3 * DAY, FOREVER)
    engine = FactEngine(registry(one), 0)
    engine.advance(4 * DAY)
    assert said(engine.reconfigure(registry(one, ("equipment:V-2", "I-9", 1, FOREVER)), 5 * DAY)) == [
        ("equipment:V-2", 1, "begun", 1)
    ]


def test_facts_that_are_the_very_same_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FactEngine(registry(("equipment:V-1", "I-1", 3 * DAY, FOREVER)), 4 * DAY)
    monkeypatch.delattr(FactEngine, "_index")
    told = engine.reconfigure(replace(engine.registry, version="v2"), 5 * DAY)
    assert [(finding.phase, finding.version) for finding in told] == [(Phase.BEGUN, "v1")]
    assert engine.registry.version == "v2"


def test_a_correction_names_its_own_edit_though_others_came_before_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    vessels = [(f"equipment:V-{n}", "I", DAY, FOREVER) for n in range(2)]
    engine = FactEngine(registry(*vessels), DAY)
    engine.advance(DAY)
    told = engine.reconfigure(registry(edit="li: retired the vessels"), 2 * DAY)
    told += engine.reconfigure(replace(engine.registry, edit="wang: set-point of P1"), 2 * DAY + 1)
    corrected = [finding.evidence for finding in told if finding.phase is Phase.CORRECTED]
    assert corrected == [("li: retired the vessels",)] * 2


def test_a_city_that_falls_due_at_once_is_told_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    engine = FactEngine(registry(*((f"equipment:V-{n}", "I", DAY, FOREVER) for n in range(25))), 0)
    portions, now = [], DAY
    while (due := engine.next_deadline()) is not None:
        now = max(now, due)
        portions.append(len(engine.advance(now)))
    assert portions == [10, 10, 5]
    assert now < DAY + 10  # one after the other, a microsecond apart


def test_what_was_due_to_end_and_is_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    engine = FactEngine(registry(("V-1", "I-1", 0, 1), ("V-1", "I-2", 0, FOREVER)), 0)
    engine.advance(0)
    told = engine.reconfigure(registry(), 1)
    while (due := engine.next_deadline()) is not None:
        told += engine.advance(due)
    assert sum(finding.phase is Phase.ENDED for finding in told) == 2


TIMES = st.integers(0, 12)
STRETCHES = st.dictionaries(
    st.tuples(st.sampled_from(("V-1", "V-2", "V-3")), st.sampled_from(("I-1", "I-2"))),
    st.tuples(TIMES, st.integers(1, 12) | st.just(FOREVER)),
    max_size=6,
).map(
    lambda rows: [
        (subject, record, begins, ends if ends == FOREVER else begins + ends)
        for (subject, record), (begins, ends) in rows.items()
    ]
)
SAME = "same"
"""An edit of something else: the facts are the very same object."""
EDITS = st.none() | st.just(SAME) | STRETCHES
STORIES = st.lists(st.tuples(st.integers(0, 3), EDITS, st.booleans()), max_size=10)


@given(STRETCHES, STORIES, st.sampled_from((1, 2, 1000)))
def test_what_is_open_is_what_is_true_however_often_it_is_restarted(
    first: list[tuple[str, str, int, int]],
    story: list[tuple[int, list[tuple[str, str, int, int]] | str | None, bool]],
    batch: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", batch)
        now, rows, version = 0, first, "v1"
        engine, twin = FactEngine(registry(*rows), 0), FactEngine(registry(*rows), 0)
        told: dict[str, Finding] = {}
        open_: set[tuple[str, int]] = set()

        def hear(findings: list[Finding], of_twin: list[Finding]) -> None:
            assert findings == of_twin
            for finding in findings:
                last = told.get(finding.id)
                assert finding.seq == (last.seq + 1 if last else 1)
                assert finding.arrival == now
                if finding.phase in ON:
                    assert finding.id not in open_
                    open_.add(finding.id)
                elif finding.phase is Phase.ENDED:
                    open_.remove(finding.id)
                told[finding.id] = finding

        for step, edit, restart in story:
            now += step
            if edit is None:
                hear(engine.advance(now), twin.advance(now))
            elif isinstance(edit, str):
                version = "v2"
                other = replace(engine.registry, version=version)
                hear(engine.reconfigure(other, now), twin.reconfigure(registry(*rows, version=version), now))
            else:
                rows = edit
                other = registry(*rows, version=version)
                hear(engine.reconfigure(other, now), twin.reconfigure(other, now))
            if restart:
                engine = FactEngine.restore(registry(*rows, version=version), engine.snapshot())
            assert engine.next_deadline() == twin.next_deadline()
        while (due := engine.next_deadline()) is not None and due <= now + 1:
            now = due
            hear(engine.advance(now), twin.advance(now))
        true = {(s, r, b) for s, r, b, e in rows if b <= now < e}
        assert {(told[id].subject, told[id].since) for id in open_} == {(s, b) for s, _, b in true}
        assert len(open_) == len(true)
