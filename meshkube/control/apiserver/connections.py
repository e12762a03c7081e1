"""The listener's connections: heads that never end are cut off, what is no HTTP gets a Status."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from meshkube.api import errors
from meshkube.control.apiserver.http import failure

log = logging.getLogger(__name__)

HEAD_SECONDS = 32.0
"""So long a request's head may take to come (as in kube-apiserver)."""
LARGEST_HEAD_LINE = 1024 * 1024
"""Bytes of a request line or of one header: long selectors and tokens are usual."""


class Connections(web.Server):
    """`web.Server` whose connections are ours."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=self._loop,
            max_line_size=LARGEST_HEAD_LINE,
            max_field_size=LARGEST_HEAD_LINE,
            **self._kwargs,
        )


class _Connection(web.RequestHandler):
    __slots__ = ("_slow",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._slow: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._head_came()
        elif self._slow is None and self._waiter is not None:
            self._expect_head()  # the first bytes of the next head

    def _expect_head(self) -> None:
        self._slow = self._loop.call_later(HEAD_SECONDS, self._too_slow)

    def _head_came(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _too_slow(self) -> None:
        self._slow = None
        log.debug("a request's head took too long")
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refuses is the client's fault: no line in the log for it."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        text = " ".join((message or "not an HTTP request").split())
        response = failure(errors.bad_request(text[:300]))
        response.force_close()
        return response
