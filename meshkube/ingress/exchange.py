"""One request on its way: from the rule it matched, over a pod's connection, to its answer.

Knows no parsing: the client's side is a `Downstream`, in whatever version of HTTP, the pod's side
an `Upstream`. Everything is a callback of the event loop; nothing here waits.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from meshkube.ingress.endpoints import Balancer, Endpoint
from meshkube.ingress.problems import Problem
from meshkube.ingress.route import Route
from meshkube.ingress.sides import Downstream, PodSide

if TYPE_CHECKING:
    from meshkube.ingress.proxy import Proxy
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream


KEPT = 16_384
"""Bytes of a request, its head too, that are kept until it is answered: it may be sent again."""


class Exchange:
    """The state of one request."""

    __slots__ = (
        "deadline",
        "downstream",
        "endpoint",
        "last_failure",
        "method",
        "over",
        "parts",
        "proxy",
        "request_done",
        "route",
        "sent",
        "size",
        "started",
        "status",
        "tried",
        "upgrade",
        "upstream",
    )

    def __init__(
        self,
        proxy: Proxy,
        downstream: Downstream,
        route: Route,
        head: bytes,
        method: bytes,
        upgrade: bytes,
    ) -> None:
        self.proxy = proxy
        self.downstream = downstream
        self.route = route
        self.sent = head
        """What the pod was sent, as long as that is all of the request so far."""
        self.method = method
        self.upgrade = upgrade
        self.started = now = monotonic()
        self.deadline = now + proxy.response_timeout
        self.upstream: PodSide | None = None
        self.endpoint: Endpoint | None = None
        self.tried: tuple[Endpoint, ...] = ()
        self.last_failure = ""
        """How the last of the pods tried failed: `could not be reached`."""
        self.status = 0
        self.size = 0
        """Of the response's body so far, where it did not come whole."""
        self.request_done = True
        self.over = False
        self.parts: list[bytes] | None = None

    # The request

    def start(self, body: bytes, done: bool) -> None:
        """Sends the head and what has come of the body; `done` when that is all of it."""
        if body:
            self.sent += body
        if not done:
            self.request_done = False
            self.deadline = self.started + self._send_timeout
        elif self.route.policy is not None:
            self.deadline = self.started + self._response_timeout
        self._choose()

    def more(self, data: bytes, done: bool) -> None:
        """The request's body goes on, framed as it came."""
        self._note(data, done)
        if self.upstream is not None:
            self.upstream.transport.write(data)

    def more_unframed(self, data: bytes, framed: bytes, done: bool, trailers: bytes) -> None:
        """`more` for a body that came as `data` and `trailers`, and whose chunks in HTTP/1.1 would
        be `framed`."""
        self._note(framed, done)
        if self.upstream is not None:
            self.upstream.write_body(data, framed, done, trailers)

    def _note(self, framed: bytes, done: bool) -> None:
        if self.sent and self.parts is None and len(self.sent) + len(framed) <= KEPT:
            self.sent += framed
        elif self.upstream is not None:
            self.sent = b""
        else:
            self.parts = self.parts or []
            self.parts.append(framed)
        if done:
            self.request_done = True
        self.deadline = monotonic() + (self._response_timeout if done else self._send_timeout)

    @property
    def _response_timeout(self) -> float:
        policy = self.route.policy
        own = policy.read_timeout if policy is not None else None
        return self.proxy.settings.response_timeout if own is None else own

    @property
    def _read_timeout(self) -> float:
        policy = self.route.policy
        own = policy.read_timeout if policy is not None else None
        return self.proxy.settings.body_timeout if own is None else own

    @property
    def _send_timeout(self) -> float:
        policy = self.route.policy
        own = policy.send_timeout if policy is not None else None
        return self.proxy.settings.body_timeout if own is None else own

    def _choose(self) -> None:
        proxy = self.proxy
        backend = self.route.backend
        if not backend.addresses:
            self._fail(503, backend.problem)
            return
        balancer = backend.balancer
        if balancer is None or balancer.addresses is not backend.addresses:
            balancer = proxy.pool.balancer(backend)
        endpoint = self._pick(balancer)
        if endpoint is None:
            if self.tried:
                self._fail(502, self._why_all_failed())
            else:
                most = proxy.settings.pod_requests
                reason = f"each pod of service {backend.key} has {most} requests under way"
                self._fail(503, reason)
            return
        endpoint.active += 1
        self.endpoint = endpoint
        idle = endpoint.idle
        if idle and not self.tried:
            upstream: Upstream = idle.pop()
            fresh_since = self.started - proxy.settings.upstream_fresh
            if self.method in _IDEMPOTENT or upstream.idle_since > fresh_since:
                self.upstream = upstream
                upstream.exchange = self
                upstream.transport.write(self.sent)
                return
            idle.append(upstream)
        proxy.pool.connect(endpoint, self)
        if not self.request_done and self.upstream is None and not self.over:
            self.downstream.pause_body()

    def _pick(self, balancer: Balancer) -> Endpoint | None:
        return balancer.pick(self.started, self.tried)

    @property
    def connect_timeout(self) -> float:
        """Seconds for one attempt to connect."""
        return self.proxy.settings.connect_timeout

    @property
    def _retries(self) -> int:
        return self.proxy.settings.retries

    def _send(self, upstream: PodSide) -> None:
        self.upstream = upstream
        upstream.exchange = self
        upstream.transport.write(self.sent)

    def connected(self, upstream: PodSide) -> None:
        """The connection that was asked for is there."""
        if self.over:
            upstream.release(True)
            return
        self._send(upstream)
        if self.parts:
            self.sent = b""
            upstream.transport.write(b"".join(self.parts))
            self.parts = None
        if not self.request_done:
            self.downstream.resume_body()

    def connect_failed(self, reason: str) -> None:
        """Nothing was sent, so the next pod may be asked whatever the method is."""
        if not self.over:
            self._try_another(f"could not be connected to: {reason}")

    def refused_by_pod(self, reason: str, *, reused: bool) -> None:
        """The pod has done nothing with the request, so it may be sent again whatever the method
        is: to the same pod where only a `reused` connection has come to its end."""
        endpoint = self.endpoint
        if self.over or endpoint is None:
            return
        if not self.sent or self.status:
            self._leave()
            self._fail(502, f"pod {endpoint} {reason}")
        elif reused and endpoint.address in self.route.backend.addresses:
            self.upstream = None
            self.proxy.note_retry(self, f"pod {endpoint} {reason}")
            self.proxy.pool.connect(endpoint, self)
        else:
            self._try_another(reason)

    def pod_left(self) -> None:
        """The pod was taken out of its Service with the request still unanswered. It may be gone,
        with nobody left to say so: ask another, if there is one and that is safe."""
        upstream = self.upstream
        if self.over or upstream is None or not self._repeatable or upstream.answering:
            return
        others = self.route.backend.addresses
        tried = {endpoint.address for endpoint in (upstream.endpoint, *self.tried)}
        if not tried.issuperset(others):
            upstream.exchange = None
            upstream.transport.abort()
            self._try_another("left its Service before it answered")

    @property
    def _repeatable(self) -> bool:
        """All of the request is at hand, and sending it twice does no harm."""
        return bool(self.sent) and self.request_done and self.method in _IDEMPOTENT

    def _try_another(self, failure: str) -> None:
        endpoint = self._leave()
        assert endpoint is not None
        self.tried += (endpoint,)
        self.last_failure = failure
        if len(self.tried) > self._retries:
            self._fail(502, self._why_all_failed())
            return
        self.proxy.note_retry(self, f"pod {endpoint} {failure}")
        self._choose()

    def _why_all_failed(self) -> str:
        service = self.route.backend.key
        last = f"{self.tried[-1]} {self.last_failure}"
        if len(self.tried) == 1:
            return f"the only pod of service {service}, {last}"
        pods = ", ".join(str(endpoint) for endpoint in self.tried)
        return f"no pod of service {service} answered: {last} (tried {pods})"

    # The response

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        self.status = head.status
        self.size = len(data) - start
        if end:
            self._count(monotonic())
        else:
            self.deadline = monotonic() + self._read_timeout
        self.downstream.respond(head, length, data, start, end)

    def respond_whole(self, head: ResponseHead, data: bytes, now: float) -> None:
        """The usual response: `data` is all of it, with a length, and came in one piece."""
        self.status = status = head.status
        self.upstream = None
        self.over = True
        if self.endpoint is not None:
            self.endpoint.active -= 1
        seconds = now - self.started
        self.route.stats.count(status, seconds)
        if self.proxy.sampled:
            self.size = len(data) - head.size
            self.proxy.log_access(self, seconds)
        self.downstream.respond_whole(head, data)

    def respond_more(self, data: bytes, end: bool) -> None:
        self.size += len(data)
        if end:
            self._count(monotonic())
        else:
            self.deadline = monotonic() + self._read_timeout
        self.downstream.more(data, end)

    def interim(self, head: ResponseHead) -> None:
        self.deadline = monotonic() + self._response_timeout
        self.sent = b""
        self.downstream.interim(head)

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        self.status = head.status
        self._count(monotonic())
        self.downstream.tunnel(head, upstream, first)

    def upstream_failed(
        self, status: int, reason: str, *, silent: bool = False, reused: bool = False
    ) -> None:
        """The pod's connection ended or broke the protocol. `silent`: not one byte of a response
        came, so an idempotent request is sent again: to the same pod where it had only closed a
        `reused` connection, otherwise to another."""
        if self.over:
            return
        endpoint = self.endpoint
        if self.status:
            self._leave()
            self._count(monotonic(), broken=True)
            self.downstream.broken(self._problem(502, f"pod {endpoint} {reason}"))
            return
        if not (silent and self._repeatable and endpoint is not None):
            self._leave()
            self._fail(status, f"pod {endpoint} {reason}")
        elif reused and endpoint.address in self.route.backend.addresses:
            self.upstream = None
            self.proxy.note_retry(self, f"pod {endpoint} {reason}")
            self.proxy.pool.connect(endpoint, self)
        else:
            if not reused:
                endpoint.failed(monotonic(), self.proxy.settings)
            self._try_another(reason)

    def pause_response(self) -> None:
        """The client reads too slowly."""
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_response(self) -> None:
        if self.upstream is not None:
            self.upstream.transport.resume_reading()
        self.deadline = monotonic() + self._read_timeout

    # The end

    def expire(self) -> None:
        """The deadline has passed."""
        upstream, endpoint = self.upstream, self.endpoint
        if upstream is None or self.over:
            return
        if self.status:
            reason = f"the response made no progress for {self._read_timeout:g} s"
            self.cancel(broken=True)
            self.downstream.broken(self._problem(504, reason))
        elif self.request_done:
            self._drop_upstream()
            seconds = f"{self._response_timeout:g} s"
            self._fail(504, f"pod {endpoint} did not answer within {seconds}")
        else:
            stuck = upstream.write_paused
            self._drop_upstream()
            seconds = f"{self._send_timeout:g} s"
            if stuck:
                self._fail(504, f"pod {endpoint} took nothing of the request for {seconds}")
            else:
                self._fail(408, f"the client sent nothing of the request's body for {seconds}")

    def cancel(self, broken: bool = True) -> None:
        """The client is gone, or refused: stop whatever the pod does for it."""
        if self.over:
            return
        self._drop_upstream()
        self._count(monotonic(), broken=broken)

    def refuse(self, status: int, reason: str) -> None:
        """The request turned out to be bad after its beginning had been sent."""
        if self.over:
            return
        self._drop_upstream()
        if self.status:
            self._count(monotonic(), broken=True)
            self.downstream.broken(self._problem(status, reason))
        else:
            self._fail(status, reason)

    def _problem(self, status: int, reason: str) -> Problem:
        return Problem(status, reason, self.route)

    def _fail(self, status: int, reason: str) -> None:
        self.status = status
        self._count(monotonic())
        self.downstream.fail(self._problem(status, reason))

    def _leave(self) -> Endpoint | None:
        """Lets go of the pod; the request itself may go on elsewhere."""
        endpoint = self.endpoint
        if endpoint is not None:
            endpoint.active -= 1
            self.endpoint = None
        self.upstream = None
        return endpoint

    def _drop_upstream(self) -> None:
        upstream = self.upstream
        self._leave()
        if upstream is not None:
            upstream.exchange = None
            upstream.transport.abort()

    def _count(self, now: float, broken: bool = False) -> None:
        self.over = True
        if self.endpoint is not None:
            self.endpoint.active -= 1
        seconds = now - self.started
        self.route.stats.count(0 if broken else self.status, seconds)
        if self.proxy.sampled:
            self.proxy.log_access(self, seconds)


# Sending one of these twice does no harm (RFC 9110, section 9.2.2).
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"})
