"""Tiers: how bad each level of each rule is, until the rulebook says otherwise (design section 7)."""

from streams.finding import Tier

GASES = frozenset({"combustible_gas", "methane", "toxic_gas"})
"""Kinds whose second level is one tier worse (GB/T 50493-2019: level 2 calls for action)."""


def tier(level: str, kind: str) -> Tier:
    """Tier of a finding of a point rule: by the limit reached ("" for rules without limits) and the kind."""
    if level == "HH" and kind in GASES:
        return Tier.II
    return Tier.III if level in ("HH", "LL") else Tier.IV
