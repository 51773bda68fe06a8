"""Credit codes that are valid in form (GB 32100-2015), for enterprises that are made up."""

DIGITS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Without I, O, S, V and Z (GB 32100-2015, 5.2)."""


def made_up(number: int) -> str:
    """The code of the made-up enterprise of this number, 1–99,999."""
    body = f"91370200MA3{number:05d}X"
    total = sum(DIGITS.index(digit) * pow(3, at, 31) for at, digit in enumerate(body))
    return body + DIGITS[-total % 31]
