"""Credit codes: real ones pass, and no single slip of the pen does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import credit

firsts = st.builds(
    lambda head, division, rest: f"{head}{division}{rest}",
    st.text(credit.ALPHABET, min_size=2, max_size=2),
    st.text("0123456789", min_size=6, max_size=6),
    st.text(credit.ALPHABET, min_size=9, max_size=9),
)


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91440300708461136T"])
def test_published_codes_are_valid(code: str) -> None:
    assert credit.check(code) is None


@given(firsts, st.integers(0, 17), st.sampled_from(credit.ALPHABET))
def test_every_single_wrong_character_is_noticed(first: str, place: int, character: str) -> None:
    code = credit.complete(first)
    assert credit.check(code) is None
    wrong = code[:place] + character + code[place + 1 :]
    assert (credit.check(wrong) is None) == (wrong == code)


@given(firsts, st.integers(0, 16))
def test_every_swap_of_neighbours_is_noticed(first: str, place: int) -> None:
    code = credit.complete(first)
    swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
    assert (credit.check(swapped) is None) == (swapped == code)


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    reason = credit.check(text)
    assert reason is None or reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "has 0 characters"),
        ("91350100m000100Y43", "must be a capital"),
        ("91350100I000100Y43", "'I' at place 9"),
        ("9135A100M000100Y43", "six digits"),
        ("91350100M000100Y44", "'3' is right"),
        ("９1350100M000100Y43", "at place 1"),
    ],
)
def test_the_reason_says_where(code: str, reason: str) -> None:
    assert reason in (credit.check(code) or "")


@pytest.mark.parametrize("first", ["", "91350100M000100Y4I", "91350100M000100YI", "9135A100M000100Y4"])
def test_what_cannot_be_completed_is_refused(first: str) -> None:
    with pytest.raises(ValueError, match=r"is not 17|six digits"):
        credit.complete(first)
