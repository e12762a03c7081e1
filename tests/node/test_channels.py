"""The framing of exec over WebSocket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.node.channels import (
    Resize,
    Stdin,
    StdinClosed,
    decode,
    encode,
    exit_status,
)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (b"\x00hi", Stdin(b"hi")),
        (b"\x00", None),
        (b"", None),
        (b"\xff\x00", StdinClosed()),
        (b"\xff\x01", None),
        (b'\x04{"Width":80,"Height":24}', Resize(80, 24)),
        (b"\x04nonsense", None),
        (b"\x04[]", None),
        (b"\x04{}", None),
        (b"\x01out", None),
    ],
)
def test_what_clients_send(message: bytes, meaning: object) -> None:
    assert decode(message) == meaning


@given(st.binary())
def test_no_message_breaks_it(message: bytes) -> None:
    decode(message)


def test_frames_begin_with_their_channel() -> None:
    assert encode(1, b"x") == b"\x01x"


def test_the_end_tells_the_exit_code() -> None:
    assert exit_status(0)["status"] == "Success"
    assert exit_status(9)["details"]["causes"][0] == {"reason": "ExitCode", "message": "9"}
