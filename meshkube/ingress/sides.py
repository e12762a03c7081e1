"""The two sides of an exchange: whoever asks, and the pod, in whatever version of HTTP. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshkube.ingress.endpoints import Endpoint
    from meshkube.ingress.exchange import Exchange
    from meshkube.ingress.problems import Problem
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream


class Downstream(Protocol):
    """The client's side of an exchange."""

    takes_chunks: bool
    """Whether a chunked body may be handed over in its framing, as it came."""

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        """The response begins. `length` is of its body: bytes, `CHUNKED` (then what there is of the
        body is framed if `takes_chunks`) or `UNTIL_CLOSE`. `data` is what came, the body from
        `start` on."""

    def respond_whole(self, head: ResponseHead, data: bytes) -> None:
        """`respond` for the usual response: `data` is all of it, and its head gives a length."""

    def more(self, data: bytes, end: bool) -> None:
        """The body goes on."""

    def trailers(self, block: bytes) -> None:
        """Header lines to follow the body, said before its end. Where the body is framed they are
        in it."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx response."""

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        """The pod agreed to switch protocols: from here both sides are pipes."""

    def fail(self, problem: Problem) -> None:
        """There is no response: say why."""

    def reply(self, status: int, block: bytes, body: bytes) -> None:
        """A response of the ingress' own: header lines, and a body."""

    def broken(self, problem: Problem) -> None:
        """The response stops before its end: the client must be able to tell."""

    def pause_body(self) -> None:
        """The pod cannot take more of the request's body for now."""

    def resume_body(self) -> None:
        """It can again."""

    def describe(self) -> dict[str, str]:
        """The request's facts, for a log line: `client`, `method`, `host`, `path`, `protocol` and
        `request_id`."""

    def header(self, name: bytes) -> str:
        """A header of the request; empty where it has none."""


class PodTransport(Protocol):
    """Where the request's bytes go: framed as in HTTP/1.1, whatever the pod speaks."""

    def write(self, data: bytes, /) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...


class PodSide(Protocol):
    """The pod's side of an exchange: a connection, or one of the streams on it."""

    endpoint: Endpoint
    exchange: Exchange | None
    write_paused: bool
    """The pod does not keep up with the request's body."""

    @property
    def transport(self) -> PodTransport: ...

    def write_body(self, data: bytes, framed: bytes, end: bool, trailers: bytes) -> None:
        """More of a body of no known length, perhaps its end: as `data` and `trailers`, or in
        chunks as `framed`, whichever this side speaks."""

    @property
    def answering(self) -> bool:
        """Whether some of the response is there."""

    def release(self, reusable: bool) -> None:
        """Back to the pool, or closed."""
