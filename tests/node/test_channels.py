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
    of_text,
    to_text,
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


@given(st.integers(0, 9), st.binary(max_size=50))
def test_the_textual_framing_says_the_same(channel: int, data: bytes) -> None:
    message = encode(channel, data)
    assert of_text(to_text(message).encode()) == message


@pytest.mark.parametrize("text", [b"", b"x", b"0=", b"0!!!!", "\u0663".encode(), b"-1"])
def test_what_is_no_text_of_a_channel_means_nothing(text: bytes) -> None:
    assert decode(of_text(text)) is None
