"""SPDY/3.1 frames, as conversations of an encoder and a decoder."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.node import spdy
from meshkube.node.spdy import Data, Decoder, Encoder, GoAway, Opened, Ping, Replied, Reset
from meshkube.node.spdy_dictionary import DICTIONARY

NAMES = st.text("abcdefghijklmnop-", min_size=1, max_size=20)
HEADERS = st.dictionaries(NAMES, st.text(max_size=30), max_size=4)
STREAMS = st.integers(1, 2**31 - 1)
FRAMES = st.one_of(
    st.builds(Opened, STREAMS, HEADERS, st.booleans()),
    st.builds(Replied, STREAMS, HEADERS, st.booleans()),
    st.builds(Reset, STREAMS, st.integers(1, 11)),
    st.builds(Ping, st.integers(0, 2**32 - 1)),
    st.builds(GoAway, STREAMS),
)


def heard(content: bytes, step: int = 1 << 20) -> list[spdy.Frame]:
    decoder = Decoder()
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def test_the_dictionary_is_the_one_of_the_draft() -> None:
    """Its checksum is in the first bytes of every compressed stream."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 64))
def test_what_is_said_is_heard(frames: list[spdy.Frame], step: int) -> None:
    encoder = Encoder()
    assert heard(b"".join(map(encoder.encode, frames)), step) == frames


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 400))
def test_data_comes_in_pieces_and_ends_once(data: bytes, final: bool, step: int) -> None:
    found = heard(Encoder().encode(Data(7, data, final)), step)
    assert all(isinstance(frame, Data) and frame.stream == 7 for frame in found)
    assert b"".join(frame.data for frame in found) == data
    assert [frame.final for frame in found] == [False] * (len(found) - 1) + [final]


def test_header_names_are_lower_case() -> None:
    [frame] = heard(Encoder().encode(Opened(1, {"streamType": "error", "port": "80"})))
    assert frame == Opened(1, {"streamtype": "error", "port": "80"})


def test_frames_without_meaning_here_are_passed_over() -> None:
    settings = struct.pack(">HHI", 0x8003, 4, 4) + struct.pack(">I", 0)
    window = struct.pack(">HHI", 0x8003, 9, 8) + struct.pack(">II", 1, 1000)
    assert heard(settings + window + Encoder().encode(Ping(3))) == [Ping(3)]


def test_headers_of_frames_that_are_passed_over_keep_the_compression_in_step() -> None:
    encoder = Encoder()
    replied = encoder.encode(Replied(1, {"a": "b"}))
    # A HEADERS frame has the form of a SYN_REPLY.
    headers = replied[:2] + struct.pack(">H", spdy.HEADERS) + replied[4:]
    assert heard(headers + encoder.encode(Opened(3, {"a": "b"}))) == [Opened(3, {"a": "b"})]


BAD = {
    "another version": struct.pack(">HHI", 0x8002, 6, 4) + b"\0\0\0\1",
    "too short": struct.pack(">HHI", 0x8003, 3, 2) + b"\0\0",
    "too long": struct.pack(">HHI", 0x8003, 1, 0xFFFFFF),
    "no compression": struct.pack(">HHI", 0x8003, 1, 14) + bytes(10) + b"nope",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_what_is_no_spdy_is_refused(content: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        heard(content)


def compressed(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 8, 0, DICTIONARY)
    body = bytes(10) + packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH)
    return struct.pack(">HHI", 0x8003, 1, len(body)) + body


@pytest.mark.parametrize(
    "plain",
    [
        struct.pack(">II", 1, 2**31) + b"x",
        struct.pack(">I", 1_000_000),
        b"\0",
        struct.pack(">II", 1, 10_000_000) + bytes(10_000_000),
    ],
    ids=["a length that lies", "a count that lies", "no count", "a bomb"],
)
def test_headers_that_lie_are_refused(plain: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        heard(compressed(plain))
