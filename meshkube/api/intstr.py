"""Values that are a number or a percentage (`maxSurge: 25%`, `targetPort: http`).

Source: the Kubernetes API reference, "IntOrString".
"""

from __future__ import annotations

import re
from typing import Any

NOT_A_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', "
    " or '93%', regex used for validation is '[0-9]+%')"
)
_PERCENT = re.compile(r"[0-9]+%", re.ASCII)


def scaled(value: int | str, total: int, round_up: bool) -> int:
    """`value` itself, or that percentage of `total`, rounded up or down to a whole number.
    Raises `ValueError` for text that is no percentage."""
    if isinstance(value, int):
        return int(value)
    share = percent(value) * total
    return -(-share // 100) if round_up else share // 100


def percent(text: str) -> int:
    """25 for `25%`. Raises `ValueError`."""
    if not text.endswith("%"):
        raise ValueError("invalid value for IntOrString: invalid type: string is not a percentage")
    if not _PERCENT.fullmatch(text):
        raise ValueError(f'invalid value for IntOrString: invalid value "{text}": not a number')
    return int(text[:-1])


def is_percent(value: Any) -> bool:
    """True for text such as `25%`."""
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def percent_faults(value: int | str, *, at_most_100: bool = False) -> list[str]:
    """What is wrong with a field that must be a number >= 0 or a percentage, in the words that
    follow `Invalid value: ...: `. Empty where nothing is."""
    if isinstance(value, int):
        return [] if value >= 0 else ["must be greater than or equal to 0"]
    if not is_percent(value):
        return [NOT_A_PERCENT]
    if at_most_100 and percent(value) > 100:
        return ["must not be greater than 100%"]
    return []
