"""What the annotations of a rule do to a request, in a person's words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from meshkube.api.types import Object
from meshkube.ingress.annotations import PLAIN, Policy
from meshkube.ingress.features import Affinity, Canary, Cors, ExternalAuth, Limits, NextUpstream
from meshkube.ingress.passwords import NoUsers, users_of
from meshkube.ingress.route import Route

Lines = Iterator[tuple[str, str]]
# They have lines of their own.
_APART = (
    "affinity balance basic_auth canary cors external_auth fallback hash_by limits next_upstream"
)


def features(route: Route, secret: Callable[[str], Object | None]) -> Lines:
    """Headings and what they say, in the order in which a request meets them. `secret` finds a
    Secret by `namespace/name`."""
    policy = route.policy
    if policy is None:
        return
    simple = _simple(policy)
    if simple:
        yield "annotations", simple
    if policy.cors is not None:
        yield "cors", _cors(policy.cors)
    if policy.limits is not None:
        yield "limit", _limits(policy.limits)
    if policy.basic_auth is not None:
        key = f"{route.ingress.partition('/')[0]}/{policy.basic_auth.secret}"
        try:
            users = len(users_of(secret(key), policy.basic_auth.secret_type))
            yield "guard", f"a password of Secret {key} ({users} users)"
        except NoUsers as error:
            yield "guard", f"nobody comes in: Secret {key} {error}"
    if policy.external_auth is not None:
        yield "guard", _external(policy.external_auth)
    for canary in route.canaries:
        if canary.own.canary is not None:
            share = _canary(canary.own.canary)
            yield "canary", f"{share} to {canary.backend} of Ingress {canary.ingress}"
    yield from _choice(policy)
    if policy.next_upstream is not None:
        yield "retry", _next(policy.next_upstream)
    if route.fallback is not None:
        codes = ", ".join(map(str, sorted(policy.error_codes)))
        when = "without a pod" + (f", and for its answers {codes}" if codes else "")
        state = "" if route.fallback.backend.addresses else f" ({route.fallback.backend.problem})"
        yield "fallback", f"service {route.fallback.backend}{state}, {when}"


def _simple(policy: Policy) -> str:
    found = []
    for field in fields(Policy):
        value = getattr(policy, field.name)
        if field.name not in _APART.split() and value != getattr(PLAIN, field.name):
            found.append(f"{field.name}={_shown(value)}")
    return ", ".join(found)


def _shown(value: Any) -> str:
    if is_dataclass(value):
        given = ((field.name, getattr(value, field.name)) for field in fields(value))
        return "+".join(f"{name}:{_shown(each)}" for name, each in given if each)
    if isinstance(value, (tuple, frozenset)):
        return "+".join(map(str, sorted(value) if isinstance(value, frozenset) else value))
    return str(value)


def _cors(cors: Cors) -> str:
    return f"pages of {', '.join(cors.origins)} may ask with {', '.join(cors.methods)}"


def _limits(limits: Limits) -> str:
    parts = [
        f"{count} requests a {unit} ({count * limits.burst} more at once)"
        for count, unit in ((limits.rps, "second"), (limits.rpm, "minute"))
        if count
    ]
    if limits.connections:
        parts.append(f"{limits.connections} requests at one time")
    exempt = f", but for {', '.join(map(str, limits.exempt))}" if limits.exempt else ""
    return f"{' and '.join(parts)} for each client{exempt}, then 429"


def _external(wanted: ExternalAuth) -> str:
    signin = f", 401 leads to {wanted.signin}" if wanted.signin else ""
    return f"{wanted.method} {wanted.url} must say 2xx{signin}"


def _canary(canary: Canary) -> str:
    parts = []
    if canary.header:
        value = canary.header_value or canary.header_pattern or "always"
        parts.append(f"with header {canary.header}: {value}")
    if canary.cookie:
        parts.append(f"with cookie {canary.cookie}=always")
    parts.append(f"{100 * canary.weight / canary.total:g} % of the others")
    return ", ".join(parts) if len(parts) > 1 else f"{100 * canary.weight / canary.total:g} %"


def _choice(policy: Policy) -> Lines:
    if policy.affinity is not None:
        yield "choice", _affinity(policy.affinity)
    if policy.hash_by:
        yield "choice", f"the pod that {policy.hash_by} belongs to (consistent hash)"
    elif policy.balance != PLAIN.balance:
        yield "choice", "the pod with the fewest requests under way"


def _affinity(affinity: Affinity) -> str:
    return f"the pod that cookie {affinity.name} names, while it serves"


def _next(wanted: NextUpstream) -> str:
    words = " ".join(sorted(wanted.conditions)) if wanted.conditions else "error timeout"
    tries = "" if wanted.tries is None else f", {wanted.tries or 'all'} pods at most"
    return f"another pod after {words}{tries}"
