"""An exchange for a route with a policy: everything beyond plain proxying that lasts as long as
the request does. Routes without a policy pay nothing for it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import formatdate
from time import monotonic, time
from typing import TYPE_CHECKING, TypeAlias

from meshkube.ingress import canaries, compression, cors
from meshkube.ingress.admission import give, limiter_of
from meshkube.ingress.choosing import Pick, badge, bound, hashed, least
from meshkube.ingress.dressing import affinity_cookie, rewritten, with_block, without
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.http1 import field_value
from meshkube.ingress.policies import Answer, Asked, Denial, Passed, within
from meshkube.ingress.problems import Problem
from meshkube.ingress.variables import filled

if TYPE_CHECKING:
    from meshkube.ingress.annotations import Policy
    from meshkube.ingress.endpoints import Balancer, Endpoint
    from meshkube.ingress.limiting import Limiter
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.route import Route
    from meshkube.ingress.sides import Downstream

log = logging.getLogger(__name__)

Guard: TypeAlias = Callable[[], Awaitable[Answer | Passed]]


def exchange_for(
    proxy: Proxy, downstream: Downstream, route: Route, asked: Asked, head: bytes, upgrade: bytes
) -> ManagedExchange:
    """The exchange of a request that `judge` let through."""
    for canary in route.canaries:
        wanted = canary.own.canary
        if wanted is not None and canaries.takes(wanted, asked, random.random()):
            route = canary
            break
    return ManagedExchange(proxy, downstream, route, asked, head, upgrade)


class ManagedExchange(Exchange):
    """One request under a policy."""

    __slots__ = (
        "_asked",
        "_at_fallback",
        "_chosen",
        "_error_lines",
        "_extra",
        "_guards",
        "_head",
        "_limiter",
        "_policy",
    )

    def __init__(
        self, proxy: Proxy, downstream: Downstream, route: Route, asked: Asked, head: bytes,
        upgrade: bytes,
    ) -> None:  # fmt: skip
        method = asked.method.encode()
        if proxy.settings.gzip:
            accepted = compression.accepts(asked.header("accept-encoding"))
            downstream = compression.Compressed(downstream, accepted, method == b"HEAD")
        super().__init__(proxy, downstream, route, head, method, upgrade)
        policy = route.policy
        assert policy is not None
        self._policy: Policy = policy
        self._asked = asked
        self._head = head
        self._at_fallback = False
        self._chosen = _pick_of(policy, asked)
        self._limiter: Limiter | None = None
        self._extra = b""
        """Header lines for the client that a guard has given."""
        self._error_lines = cors.headers(policy.cors, asked) if policy.cors is not None else b""
        self._guards = proxy.guards_of(route, asked)

    # The request

    def start(self, body: bytes, done: bool) -> None:
        self._take_place()
        if not self._guards:
            super().start(body, done)
            return
        self.sent += body
        self.request_done = done
        if not done:
            self.downstream.pause_body()
        self.proxy.spawn(self._pass_guards())

    async def _pass_guards(self) -> None:
        for guard in self._guards:
            try:
                verdict = await guard()
            except Exception:
                log.exception("a guard failed", extra={"ingress": self.route.ingress})
                verdict = Denial(500, "the ingress failed: its log says how")
            if self.over:
                return
            if not isinstance(verdict, Passed):
                self._answer(verdict)
                return
            self.sent = _passed(self.sent, verdict)
            self._extra += verdict.for_client
        self._go_on()

    def _go_on(self) -> None:
        """Every guard has let the request through."""
        if self.parts:
            self.sent += b"".join(self.parts)
            self.parts = None
        now = monotonic()
        wait = self._response_timeout if self.request_done else self._send_timeout
        self.deadline = now + wait
        self._choose()
        if self.upstream is not None and not self.request_done:
            self.downstream.resume_body()

    def _answer(self, answer: Answer) -> None:
        self.status = answer.status
        self._count(monotonic())
        answer = replace(answer, lines=answer.lines + self._error_lines)
        give(self.downstream, answer, self.route)

    def _choose(self) -> None:
        fallback = self.route.fallback
        if not self.route.backend.addresses and fallback is not None:
            self.route = fallback
            self._at_fallback = True
        super()._choose()

    def _pick(self, balancer: Balancer) -> Endpoint | None:
        if self._chosen is None:
            return balancer.pick(self.started, self.tried)
        return self._chosen(balancer, self.started, self.tried)

    # Other pods

    @property
    def connect_timeout(self) -> float:
        own = self._policy.connect_timeout
        return self.proxy.settings.connect_timeout if own is None else own

    @property
    def _retries(self) -> int:
        wanted = self._policy.next_upstream
        if wanted is None or wanted.tries is None:
            return self.proxy.settings.retries
        return wanted.tries - 1 if wanted.tries else len(self.route.backend.addresses)

    def _wants_another(self, condition: str) -> bool:
        """Whether another pod may be asked after this condition."""
        wanted = self._policy.next_upstream
        if wanted is None:
            return condition in ("error", "invalid_header")
        if wanted.timeout and monotonic() - self.started >= wanted.timeout:
            return False
        words = wanted.conditions
        return condition in (("error", "timeout") if words is None else words)

    @property
    def _repeatable(self) -> bool:
        wanted = self._policy.next_upstream
        if wanted is not None and "non_idempotent" in (wanted.conditions or ()):
            return bool(self.sent) and self.request_done
        return super()._repeatable

    def _try_another(self, failure: str) -> None:
        if self._wants_another("error"):
            super()._try_another(failure)
            return
        endpoint = self._leave()
        self._fail(502, f"pod {endpoint} {failure}")

    def expire(self) -> None:
        late = self.upstream is not None and not self.over and not self.status
        if late and self._policy.next_upstream is not None and self._repeatable:
            others = len(self.route.backend.addresses) > len(self.tried) + 1
            if others and self._wants_another("timeout"):
                self._ask_another(f"did not answer within {self._response_timeout:g} s")
                self.deadline = monotonic() + self._response_timeout
                return
        super().expire()

    def _ask_another(self, failure: str) -> None:
        upstream = self.upstream
        if upstream is not None:
            upstream.exchange = None
            upstream.transport.abort()
        super()._try_another(failure)

    # The response

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        if not self._replaced(head):
            super().respond(self._dressed(head), length, data, start, end)

    def respond_whole(self, head: ResponseHead, data: bytes, now: float) -> None:
        self.upstream = None
        if not self._replaced(head):
            super().respond_whole(self._dressed(head), data, now)
            self._give_place()

    def _replaced(self, head: ResponseHead) -> bool:
        """Whether the response is not for the client: another pod, or the one for errors, is
        asked in its place."""
        status = head.status
        policy = self._policy
        if status < 400 or self.over or not self.request_done:
            return False
        wanted = policy.next_upstream
        if wanted is not None and status in wanted.statuses and self._repeatable:
            others = len(self.route.backend.addresses) > len(self.tried) + 1
            enough = len(self.tried) >= self._retries
            if others and not enough and self._wants_another(f"http_{status}"):
                self._ask_another(f"answered with {status}")
                return True
        if status in policy.error_codes and not self._at_fallback:
            return self._ask_for_page(status)
        return False

    def _ask_for_page(self, status: int) -> bool:
        """The default backend makes a page of the error; without one, we do."""
        fallback = self.route.fallback
        served = self.route
        self._drop_upstream()
        if fallback is None or not fallback.backend.addresses:
            self._fail(status, f"service {served.backend.key} answered with {status}")
            return True
        service = served.backend
        namespace, _, name = served.ingress.partition("/")
        asked = self._asked
        lines = [
            "GET / HTTP/1.1",
            f"Host: {asked.host}",
            f"X-Code: {status}",
            f"X-Format: {asked.header('accept')}",
            f"X-Original-URI: {asked.target}",
            f"X-Namespace: {namespace}",
            f"X-Ingress-Name: {name}",
            f"X-Service-Name: {service.service}",
            f"X-Service-Port: {service.port}",
            f"X-Request-ID: {field_value(self._head, b'x-request-id').decode('latin-1')}",
        ]
        self.sent = "\r\n".join((*lines, "", "")).encode("latin-1", "replace")
        self.method = b"HEAD" if self.method == b"HEAD" else b"GET"
        self.route, self.tried, self._chosen = fallback, (), None
        self._at_fallback = True
        self.deadline = monotonic() + self._response_timeout
        self._choose()
        return True

    def _dressed(self, head: ResponseHead) -> ResponseHead:
        policy = self._policy
        block = head.kept
        if policy.cors is not None and self._error_lines:
            block = without(block, cors.HEADERS)
        if policy.rewrites is not None:
            block = rewritten(block, policy.rewrites)
        block += self._error_lines + self._extra + self._cookie()
        return head if block is head.kept else with_block(head, block)

    def _cookie(self) -> bytes:
        """The line that binds the client to the pod that answers, where it is not so yet."""
        affinity = self._policy.affinity
        if affinity is None or self.endpoint is None:
            return b""
        given = self._asked.cookie(affinity.name)
        value = badge(self.endpoint)
        known = given and any(
            badge_of == given for badge_of in _badges(self.route.backend.balancer)
        )
        if given == value or (known and not affinity.change_on_failure):
            return b""
        date = formatdate(time() + affinity.expires, usegmt=True) if affinity.expires else ""
        agent = self._asked.header("user-agent") if affinity.conditional_samesite else ""
        return affinity_cookie(affinity, value, self.route.path, self._asked.https, agent, date)

    def _problem(self, status: int, reason: str) -> Problem:
        return Problem(status, reason, self.route, self._error_lines)

    # Limits

    def _take_place(self) -> None:
        limits = self._policy.limits
        if limits is None or not limits.connections or within(self._asked.client, limits.exempt):
            return
        self._limiter = limiter_of(self.proxy.limiters, self.route.ingress, limits)
        self._limiter.begin(self._asked.client)

    def _give_place(self) -> None:
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.end(self._asked.client)

    def _count(self, now: float, broken: bool = False) -> None:
        super()._count(now, broken)
        self._give_place()


def _passed(sent: bytes, verdict: Passed) -> bytes:
    """The request as a guard wants it: what it says of the client is not the client's to say."""
    if not verdict.lines and not verdict.drop:
        return sent
    line, _, rest = sent.partition(b"\r\n")
    block, _, body = rest.partition(b"\r\n\r\n")
    block = without(block + b"\r\n", verdict.drop)
    return b"%b\r\n%b%b\r\n%b" % (line, verdict.lines, block, body)


def _badges(balancer: Balancer) -> list[str]:
    return [badge(endpoint) for endpoint in balancer.endpoints]


def _pick_of(policy: Policy, asked: Asked) -> Pick | None:
    if policy.affinity is not None:
        given = asked.cookie(policy.affinity.name)
        if given:
            return bound(given)
    if policy.hash_by:
        return hashed(filled(policy.hash_by, asked))
    return None if policy.balance == "round_robin" else least
