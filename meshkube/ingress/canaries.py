"""Whether a request goes to the canary of its rule. Pure.

Precedence as ingress-nginx documents it: header, then cookie, then weight.
"""

from __future__ import annotations

from meshkube.api.custom.patterns import compiled
from meshkube.ingress.features import Canary
from meshkube.ingress.policies import Asked


def takes(canary: Canary, asked: Asked, draw: float) -> bool:
    """`draw` is from 0 to (not with) 1."""
    for verdict in (_by_header(canary, asked), _by_cookie(canary, asked)):
        if verdict is not None:
            return verdict
    return draw * canary.total < canary.weight


def _by_header(canary: Canary, asked: Asked) -> bool | None:
    """None where the header says nothing."""
    if not canary.header:
        return None
    value = asked.header(canary.header)
    if canary.header_value:
        return True if value == canary.header_value else None
    if canary.header_pattern:
        return True if value and compiled(canary.header_pattern).search(value) else None
    return _verdict(value)


def _by_cookie(canary: Canary, asked: Asked) -> bool | None:
    return _verdict(asked.cookie(canary.cookie)) if canary.cookie else None


def _verdict(word: str) -> bool | None:
    return {"always": True, "never": False}.get(word)
