"""What becomes of a request for a route with a policy, in whatever version of HTTP it came.

Two steps: `judge` answers it at once where that needs no pod, and `exchange_for` begins the
exchange that does all the policy asks for.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from meshkube.ingress import cors
from meshkube.ingress.limiting import Limiter
from meshkube.ingress.policies import Answer, Asked, Denial, Redirect, decide, within
from meshkube.ingress.problems import Problem
from meshkube.ingress.route import Route

if TYPE_CHECKING:
    from meshkube.ingress.annotations import Policy
    from meshkube.ingress.features import Limits
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.sides import Downstream

LIMITED = 429
"""ingress-nginx answers with 503 until a setting says 429, which is what HTTP calls this."""


def judge(proxy: Proxy, route: Route, asked: Asked) -> Answer | None:
    """The answer that the policy gives by itself; None where a pod is to be asked."""
    policy = route.policy
    assert policy is not None
    answer: Answer | None = decide(policy, asked, proxy.https_port)
    if answer is None and policy.cors is not None:
        preflight = cors.preflight(policy.cors, asked)
        if preflight is not None:
            return preflight
    if answer is None and policy.limits is not None:
        answer = _limited(proxy, route, policy, asked)
    if answer is not None and policy.cors is not None:
        answer = replace(answer, lines=answer.lines + cors.headers(policy.cors, asked))
    return answer


def give(downstream: Downstream, answer: Answer, route: Route) -> None:
    """Tells the client."""
    if isinstance(answer, Denial):
        problem = Problem(answer.status, answer.reason, route, answer.lines)
        downstream.fail(problem)
    elif isinstance(answer, Redirect):
        location = b"Location: %b\r\n" % answer.location.encode("latin-1", "replace")
        downstream.reply(answer.status, location + answer.lines, b"")
    else:
        downstream.reply(answer.status, answer.lines, answer.body)


def _limited(proxy: Proxy, route: Route, policy: Policy, asked: Asked) -> Denial | None:
    limits = policy.limits
    assert limits is not None
    if within(asked.client, limits.exempt):
        return None
    limiter = limiter_of(proxy.limiters, route.ingress, limits)
    refusal = limiter.refusal(asked.client, monotonic())
    if refusal is None:
        return None
    name, wait = refusal
    # Nobody knows when a request that is under way will be over: in a second it is worth a try.
    lines = b"Retry-After: %d\r\n" % (int(wait) + 1)
    reason = f"the client at {asked.client} is over the limit of {name}"
    return Denial(LIMITED, reason, lines)


def limiter_of(limiters: dict[str, Limiter], ingress: str, limits: Limits) -> Limiter:
    """What the clients of an Ingress have used of its limits; begun anew when these change."""
    limiter = limiters.get(ingress)
    if limiter is None or limiter.limits != limits:
        limiter = limiters[ingress] = Limiter(limits)
    return limiter
