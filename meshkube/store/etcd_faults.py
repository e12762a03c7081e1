"""What etcd's errors mean to us: pure.

The texts and codes are those of etcd's `api/v3rpc/rpctypes`; the gateway puts both into JSON.
"""

from __future__ import annotations

import enum
from typing import Any

import orjson

_UNAUTHENTICATED = 16
_PERMISSION_DENIED = 7
_INVALID = 3


class Fault(enum.Enum):
    """What to do about an error."""

    NOT_DONE = enum.auto()
    """It was turned away before anything happened: any request may be sent again."""
    UNKNOWN = enum.auto()
    """It may have taken effect: only a read may be sent again."""
    TOKEN = enum.auto()
    """The token has ended: get another one, then send it again."""
    COMPACTED = enum.auto()
    FUTURE = enum.auto()
    REFUSED = enum.auto()
    """It will never be done: not permitted, no such service."""
    TOO_LARGE = enum.auto()
    """More than this etcd takes in one request; nothing happened."""
    FULL = enum.auto()
    """etcd's database has reached its quota; nothing happened."""


_BY_TEXT = {
    "required revision has been compacted": Fault.COMPACTED,
    "required revision is a future revision": Fault.FUTURE,
    "database space exceeded": Fault.FULL,
    "invalid auth token": Fault.TOKEN,
    "revision of auth store is old": Fault.TOKEN,
    "revision in header is old": Fault.TOKEN,
    "user name is empty": Fault.TOKEN,
    "too many requests": Fault.NOT_DONE,
    "etcdserver: no leader": Fault.NOT_DONE,
    "request is too large": Fault.TOO_LARGE,
    "message larger than max": Fault.TOO_LARGE,
}


class EtcdError(Exception):
    """etcd answered with an error."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def read_error(status: int, body: bytes) -> EtcdError:
    """The error in an answer that is not a success."""
    try:
        content = orjson.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return _foreign(status)
    return error_in(content)


def error_in(content: dict[str, Any]) -> EtcdError:
    """The error in a JSON object of the gateway: of an answer, or of a line of a stream."""
    inner = content.get("error")
    if isinstance(inner, dict):
        content = inner
    message = str(content.get("message") or inner or "unknown error")
    code = content.get("code") or content.get("grpc_code") or 0
    return EtcdError(_fault(message, code), message)


def _fault(message: str, code: int) -> Fault:
    for text, fault in _BY_TEXT.items():
        if text in message:
            return fault
    if code == _UNAUTHENTICATED:
        return Fault.TOKEN
    return Fault.REFUSED if code in (_PERMISSION_DENIED, _INVALID) else Fault.UNKNOWN


def _foreign(status: int) -> EtcdError:
    if status == 404:
        return EtcdError(
            Fault.REFUSED, "it does not serve etcd's JSON gateway (--enable-grpc-gateway)"
        )
    return EtcdError(Fault.UNKNOWN, f"HTTP status {status}")
