"""What the other side of an HTTP/2 connection has done."""

from __future__ import annotations

from typing import NamedTuple

from meshkube.ingress.hpack import Headers


class RequestReceived(NamedTuple):
    stream_id: int
    headers: Headers
    stream_ended: bool


class RequestTooLarge(NamedTuple):
    """A request whose header list is larger than we said that we take."""

    stream_id: int


class ResponseReceived(NamedTuple):
    stream_id: int
    headers: Headers
    stream_ended: bool


class InformationalResponseReceived(NamedTuple):
    stream_id: int
    headers: Headers


class TrailersReceived(NamedTuple):
    """They end the stream."""

    stream_id: int
    headers: Headers


class DataReceived(NamedTuple):
    stream_id: int
    data: bytes
    flow_controlled_length: int
    """Bytes of both windows that it takes, padding too."""
    stream_ended: bool


class StreamReset(NamedTuple):
    """By the other side, or by us because it broke the rules."""

    stream_id: int
    error_code: int


class WindowUpdated(NamedTuple):
    stream_id: int
    """0: the connection's."""


class RemoteSettingsChanged(NamedTuple):
    """Windows may have changed too."""


class ConnectionTerminated(NamedTuple):
    """Nothing new is wanted; what is under way goes on (RFC 9113, section 6.8)."""

    error_code: int
    last_stream_id: int


Event = (
    RequestReceived
    | RequestTooLarge
    | ResponseReceived
    | InformationalResponseReceived
    | TrailersReceived
    | DataReceived
    | StreamReset
    | WindowUpdated
    | RemoteSettingsChanged
    | ConnectionTerminated
)
