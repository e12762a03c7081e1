"""The frames of HTTP/2 that carry neither heads nor bodies: settings, windows, resets, pings and
farewells, as they come from the other side (RFC 9113, section 6). Pure; both sides."""

from __future__ import annotations

import struct

from meshkube.ingress.http2_errors import ErrorCodes, ProtocolError, SettingCodes, StreamError
from meshkube.ingress.http2_events import (
    ConnectionTerminated,
    Event,
    RemoteSettingsChanged,
    StreamReset,
    WindowUpdated,
)
from meshkube.ingress.http2_frames import (
    ACK,
    FRAME,
    LARGEST_WINDOW,
    LONG,
    PING,
    SETTING,
    SETTINGS,
    check_dependency,
)
from meshkube.ingress.http2_sending import Sending


class Control(Sending):
    """Takes a frame's flags, stream and payload; what that means goes to `events`."""

    def _priority(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """Deprecated (RFC 9113, section 5.3.2)."""
        if not number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a priority of no stream")
        if len(payload) != 5:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a priority is malformed")
        check_dependency(number, payload)

    def _rst_stream(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if self._is_idle(number):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a reset of no stream")
        if len(payload) != 4:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a reset is malformed")
        if self._streams.pop(number, None) is not None:
            # It said itself that nothing more comes: what does is no straggler.
            events.append(StreamReset(number, LONG.unpack(payload)[0]))

    def _set(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "settings of a stream")
        if flags & ACK:
            if payload:
                raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            if not self._settled:
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no settings come first")
            return
        if len(payload) % 6:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "settings are cut")
        for code, value in SETTING.iter_unpack(payload):
            self._setting(code, value)
        self._settled = True
        self._frame(SETTINGS, ACK, 0, b"")
        events.append(RemoteSettingsChanged())

    def _setting(self, code: int, value: int) -> None:
        if code == SettingCodes.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ProtocolError(ErrorCodes.FLOW_CONTROL_ERROR, "a window is too large")
            change = value - self._their_window
            self._their_window = value
            for stream in self._streams.values():
                stream.out_window += change
                if stream.out_window > LARGEST_WINDOW:
                    raise ProtocolError(ErrorCodes.FLOW_CONTROL_ERROR, "a window is too large")
        elif code == SettingCodes.MAX_FRAME_SIZE:
            if not FRAME <= value < 1 << 24:
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no size of a frame")
            # Larger ones only hold up the streams beside.
            self.max_outbound_frame_size = FRAME
        elif code == SettingCodes.MAX_CONCURRENT_STREAMS:
            self.max_concurrent_streams = value
        elif code == SettingCodes.ENABLE_PUSH and value > (0 if self._client else 1):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no value for push")

    def _push(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a push, which nobody wanted")

    def _ping(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a ping of a stream")
        if len(payload) != 8:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a ping is malformed")
        if not flags & ACK:
            self._frame(PING, ACK, 0, payload)

    def _goaway(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a farewell of a stream")
        if len(payload) < 8:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a farewell is malformed")
        last, code = struct.unpack_from("!II", payload)
        events.append(ConnectionTerminated(code, last & 0x7FFFFFFF))

    def _window_update(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a window's update is malformed")
        size = LONG.unpack(payload)[0] & 0x7FFFFFFF
        if not number:
            self._out_window += size
            if not size or self._out_window > LARGEST_WINDOW:
                code = ErrorCodes.FLOW_CONTROL_ERROR if size else ErrorCodes.PROTOCOL_ERROR
                raise ProtocolError(code, "no size of a window")
        else:
            if self._is_idle(number):
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a window of no stream")
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.out_window += size
            if not size:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
            if stream.out_window > LARGEST_WINDOW:
                raise StreamError(ErrorCodes.FLOW_CONTROL_ERROR)
        events.append(WindowUpdated(number))
