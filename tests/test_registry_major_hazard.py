"""GB 18218-2018: critical quantities, S, R and level, against examples worked by hand."""

import csv
from pathlib import Path

import pytest

from registry.major_hazard import Measure, alpha, categories, judge, level, measure, substance, substances

TABLES = Path(__file__).parents[1] / "registry" / "tables"


def test_the_tables_are_whole() -> None:
    assert [row.number for row in substances()] == list(range(1, 86))
    assert len(categories()) == 24
    with (TABLES / "gb18218_2018_table3.csv").open(encoding="utf-8") as file:
        gases = list(csv.DictReader(file))
    assert len(gases) == 14
    for gas in gases:
        row = substance(gas["cas"], "")
        assert row is not None, gas["name"]
        assert gas["name"] in row.names


@pytest.mark.parametrize(
    ("cas", "name", "symbols", "expected"),
    [
        ("7664-41-7", "", (), Measure(10, 2)),  # ammonia: tables 1 and 3
        ("", "液氨", (), Measure(10, 2)),
        ("7782-50-5", "液氯", (), Measure(5, 4)),
        ("75-44-5", "光气", (), Measure(0.3, 20)),
        ("67-56-1", "甲醇", ("W5.1",), Measure(500, 1.5)),  # its own Q; beta of the category
        ("67-56-1", "甲醇", (), Measure(500, None)),
        ("630-08-0", "一氧化碳", ("J3", "W2"), Measure(20, 2)),  # as coal gas, table 1, 13; beta by name
        ("123-38-6", "丙醛", ("W5.3",), Measure(1000, 1)),
        ("1-23-4", "", ("J1", "W11"), Measure(5, 4)),  # the smaller Q, the larger beta
        ("9004-70-0", "硝化纤维素(含水≥25%)", (), Measure(50, None)),  # the name tells which of six rows
        ("9004-70-0", "collodion", (), Measure(1, None)),  # else the strictest
        ("6484-52-2", "硝酸铵(含可燃物≤0.2%)", (), Measure(50, None)),
        ("6484-52-2", "硝酸铵", (), Measure(5, None)),
        ("8006-14-2", "LNG", ("W2",), Measure(50, 1.5)),  # one row, two CAS numbers
        ("74-98-6", "丙烷", ("W2",), Measure(50, 1.5)),
        ("", "天然气", ("W2",), Measure(50, 1.5)),
        ("", "硝酸铵肥料", (), Measure(200, None)),
        ("7732-18-5", "水", (), None),
    ],
)
def test_how_a_substance_is_weighed(
    cas: str, name: str, symbols: tuple[str, ...], expected: Measure | None
) -> None:
    assert measure(cas, name, symbols) == expected


def test_a_category_that_the_tables_do_not_have() -> None:
    with pytest.raises(KeyError):
        measure("", "x", ("W99",))


@pytest.mark.parametrize(
    ("people", "expected"),
    [(0, 0.5), (1, 1.0), (29, 1.0), (30, 1.2), (49, 1.2), (50, 1.5), (99, 1.5), (100, 2.0), (9999, 2.0)],
)
def test_alpha_by_people(people: int, expected: float) -> None:
    assert alpha(people) == expected


@pytest.mark.parametrize(
    ("r", "expected"), [(100, 1), (99.9, 2), (50, 2), (49.9, 3), (10, 3), (9.99, 4), (0.5, 4)]
)
def test_level_by_r(r: float, expected: int) -> None:
    assert level(r) == expected


def weighed(q: float, cas: str, *symbols: str) -> tuple[float, float, float]:
    found = measure(cas, "", symbols)
    assert found is not None
    assert found.beta is not None
    return q, found.critical, found.beta


def test_an_ammonia_refrigeration_plant() -> None:
    """40 t of ammonia, 60 people near.

    S = 40/10 = 4. R = 1.5 × (2 × 40/10) = 1.5 × 8 = 12: 50 > 12 ≥ 10, level 3.
    """
    judgement = judge([weighed(40, "7664-41-7")], 60)
    assert (judgement.s, judgement.r, judgement.level) == (4, 12, 3)


def test_a_tank_farm_of_liquids_and_gas() -> None:
    """Methanol 1,200 t (W5.3), benzene 150 t (W5.3), liquefied petroleum gas 200 t (W2), 120 people near.

    S = 1200/500 + 150/50 + 200/50 = 2.4 + 3 + 4 = 9.4.
    R = 2 × (1 × 2.4 + 1 × 3 + 1.5 × 4) = 2 × 11.4 = 22.8: 50 > 22.8 ≥ 10, level 3.
    """
    farm = [
        weighed(1200, "67-56-1", "W5.3"),
        weighed(150, "71-43-2", "W5.3"),
        weighed(200, "68476-85-7", "W2"),
    ]
    judgement = judge(farm, 120)
    assert judgement.s == pytest.approx(9.4)
    assert judgement.r == pytest.approx(22.8)
    assert judgement.level == 3


def test_a_chlorine_store() -> None:
    """80 t of chlorine. S = 80/5 = 16; beta 4: 4 × 16 = 64.

    Nobody near: R = 0.5 × 64 = 32, level 3. 10 people: 1 × 64 = 64, level 2. 100: 2 × 64 = 128, level 1.
    """
    chlorine = [weighed(80, "7782-50-5")]
    assert [(judge(chlorine, people).r, judge(chlorine, people).level) for people in (0, 10, 100)] == [
        (32, 3),
        (64, 2),
        (128, 1),
    ]


def test_small_quantities_together_may_be_a_major_hazard() -> None:
    """Ammonia 5 t and chlorine 2.5 t, 1 person near: S = 5/10 + 2.5/5 = 1, which is one.

    R = 1 × (2 × 0.5 + 4 × 0.5) = 3, level 4. With 2.4 t of chlorine S = 0.98, which is none.
    """
    both = [weighed(5, "7664-41-7"), weighed(2.5, "7782-50-5")]
    assert (judge(both, 1).s, judge(both, 1).r, judge(both, 1).level) == (1, 3, 4)
    less = judge([weighed(5, "7664-41-7"), weighed(2.4, "7782-50-5")], 1)
    assert less.s == pytest.approx(0.98)
    assert less.level is None
