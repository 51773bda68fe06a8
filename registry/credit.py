"""The unified social credit code of an organisation (GB 32100-2015): checking one, completing one."""

from operator import mul

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015, 4.2: digits and capitals without I, O, S, V, Z; a character's value is its place here."""

LENGTH = 18

_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_WEIGHTS = tuple(pow(3, place, 31) for place in range(LENGTH - 1))
_DIVISION = slice(2, 8)  # the administrative division, six digits (GB/T 2260)


def check(code: str) -> str | None:
    """Say what is wrong with a code, or None if it is valid.

    Any single wrong character and any two swapped unequal neighbours change the check character:
    31 is a prime and neighbouring weights differ. The organisation code within (characters 9–17,
    GB 11714) is not checked again: codes that were reassigned do not all keep to it.
    """
    if len(code) != LENGTH:
        return f"has {len(code)} characters, not {LENGTH}"
    for place, character in enumerate(code, 1):
        if character not in _VALUE:
            hint = ": it must be a capital" if character.upper() in _VALUE else ""
            return f"has {character!r} at place {place}, which no credit code may have{hint}"
    if not code[_DIVISION].isdecimal():
        return f"has {code[_DIVISION]!r} at places 3–8, where the six digits of the division belong"
    right = _check_character(code[:-1])
    return None if code[-1] == right else f"has the check character {code[-1]!r} where {right!r} is right"


def complete(first: str) -> str:
    """The valid code that begins with these 17 characters. Raises ValueError if none does."""
    if len(first) != LENGTH - 1 or not set(first) <= _VALUE.keys():
        raise ValueError(f"{first!r} is not {LENGTH - 1} characters of {ALPHABET}")
    code = first + _check_character(first)
    if problem := check(code):
        raise ValueError(f"{code!r} {problem}")
    return code


def _check_character(first: str) -> str:
    total = sum(map(mul, map(_VALUE.__getitem__, first), _WEIGHTS))
    return ALPHABET[-total % 31]
