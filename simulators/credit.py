"""Credit codes that are valid in form (GB 32100-2015), for enterprises that are made up."""

DIGITS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Without I, O, S, V and Z (GB 32100-2015, 5.2)."""


def made_up(number: int) -> str:
    """The code of the made-up enterprise of this number, 1–99,999."""
    body = f"91370200MA3{number:05d}X"
    return body + _check(body)


def valid(code: str) -> bool:
    """Whether this is 18 characters, six digits for the division among them, the last as the others want it."""
    return (
        len(code) == 18
        and set(code) <= set(DIGITS)
        and code[2:8].isdecimal()
        and code[-1] == _check(code[:-1])
    )


def _check(body: str) -> str:
    total = sum(DIGITS.index(digit) * pow(3, at, 31) for at, digit in enumerate(body))
    return DIGITS[-total % 31]
