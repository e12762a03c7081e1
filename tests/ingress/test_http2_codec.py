"""The codec against the package h2 on the other side, and the rules of RFC 9113 and RFC 7541."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import pytest
from hpack import Decoder as TheirDecoder
from hpack import Encoder as TheirEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.ingress import hpack, http2_events
from meshkube.ingress.http2_codec import Codec
from meshkube.ingress.http2_errors import ErrorCodes, H2Error, ProtocolError, SettingCodes
from meshkube.ingress.http2_frames import PREFACE

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.io"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
SETTINGS = b"\0\0\0\4\0\0\0\0\0"

names = st.sampled_from([b"accept", b"cookie", b"x-a", b"x-longer-name", b":path", b"content-type"])
values = st.binary(max_size=40)
lists = st.lists(st.tuples(names, values), max_size=8)


@settings(max_examples=100)
@given(st.lists(lists, max_size=6), st.sampled_from([0, 64, 4096]))
def test_header_lists_of_others_are_read(sent, table):
    """With their dynamic table and Huffman's code, in every size of table."""
    encoder, decoder = TheirEncoder(), hpack.Decoder(1 << 16)
    encoder.header_table_size = table
    for headers in sent:
        assert decoder.decode(encoder.encode(headers)) == tuple(headers)


@settings(max_examples=100)
@given(st.lists(lists, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=12))
def test_lists_that_are_repeated_mean_what_the_table_says_then(some, order):
    """Whatever was added to it, or fell out of it, in between."""
    encoder, decoder = TheirEncoder(), hpack.Decoder(1 << 16)
    encoder.header_table_size = 128
    for number in order:
        headers = some[number % len(some)]
        assert decoder.decode(encoder.encode(headers)) == tuple(headers)


def test_a_list_above_the_limit_leaves_the_table_whole():
    decoder = hpack.Decoder(100)
    with pytest.raises(hpack.TooLarge):
        decoder.decode(b"\x40\x01a\x7f\x00" + b"v" * 127 + b"\x40\x01b\x01c")
    assert decoder.decode(b"\xbe") == ((b"b", b"c"),)


@settings(max_examples=100)
@given(st.lists(lists, max_size=4))
def test_our_header_lists_are_read_by_others(sent):
    decoder = TheirDecoder()
    for number, headers in enumerate(sent):
        block = hpack.encode(headers)
        found = decoder.decode(block if number else hpack.NO_TABLE + block, raw=True)
        assert [tuple(field) for field in found] == headers


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_header_list_or_refused(block):
    try:
        hpack.Decoder(4096).decode(block)
    except (hpack.Malformed, hpack.TooLarge, hpack.Bomb):
        return


BAD_BLOCKS = [
    b"\x80",  # index 0
    b"\xff\xff\xff\xff\xff\xff\x01",  # a number without end
    b"\xbe",  # nothing in the dynamic table
    b"\x3f\xe2\x1f",  # a table larger than allowed
    b"\x82\x20",  # its size changes after a field
    b"\x40\x05ab",  # a cut name
    b"\x00\x84\xff\xff\xff\xff\x00",  # Huffman's end of string inside
]


@pytest.mark.parametrize("block", BAD_BLOCKS)
def test_a_broken_header_list_is_refused(block):
    with pytest.raises(hpack.Malformed):
        hpack.Decoder(4096).decode(block)


def test_a_small_list_that_would_be_large_in_memory_is_refused():
    decoder = hpack.Decoder(32_768)
    decoder.decode(b"\x40\x01a\x7f\xd1\x0e" + b"v" * 2000)
    with pytest.raises(hpack.TooLarge):
        decoder.decode(b"\xbe" * 100)


def server(**changed: int) -> Codec:
    ours = {SettingCodes.MAX_CONCURRENT_STREAMS: 4, SettingCodes.MAX_HEADER_LIST_SIZE: 4096}
    ours |= {SettingCodes[name]: value for name, value in changed.items()}
    codec = Codec(client=False, settings=ours)
    codec.initiate_connection()
    return codec


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    head = struct.pack("!I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack("!I", number) + payload


def request(number: int, headers=GET, *, end: bool = True) -> bytes:
    return frame(1, 4 | end, number, hpack.encode(headers))


CONNECTION = [
    ("no preface", b"GET / HTTP/1.1\r\n\r\n........", ErrorCodes.PROTOCOL_ERROR),
    ("no settings first", PREFACE + frame(6, 0, 0, b"12345678"), ErrorCodes.PROTOCOL_ERROR),
]
BROKEN = [
    ("data of no stream", frame(0, 0, 0, b"x"), ErrorCodes.PROTOCOL_ERROR),
    ("data of an idle stream", frame(0, 0, 1, b"x"), ErrorCodes.PROTOCOL_ERROR),
    ("headers of no stream", request(0), ErrorCodes.PROTOCOL_ERROR),
    ("headers of our kind of stream", request(2), ErrorCodes.PROTOCOL_ERROR),
    ("a stream again", request(3) + request(1), ErrorCodes.STREAM_CLOSED),
    ("a frame too large", frame(0, 0, 1, b"x" * 16_385), ErrorCodes.FRAME_SIZE_ERROR),
    ("padding larger than the frame", frame(1, 12, 1, b"\x05ab"), ErrorCodes.PROTOCOL_ERROR),
    ("a cut priority", frame(1, 36, 1, b"\0\0"), ErrorCodes.FRAME_SIZE_ERROR),
    ("a priority of no stream", frame(2, 0, 0, b"12345"), ErrorCodes.PROTOCOL_ERROR),
    ("a priority of another size", frame(2, 0, 1, b"1234"), ErrorCodes.FRAME_SIZE_ERROR),
    ("a priority on itself", frame(2, 0, 3, b"\x80\0\0\3\0"), ErrorCodes.PROTOCOL_ERROR),
    ("headers that depend on themselves", frame(1, 37, 1, b"\0\0\0\1\0\x82"),
     ErrorCodes.PROTOCOL_ERROR),
    ("headers after its own reset",
     request(1) + frame(3, 0, 1, b"\0\0\0\x08") + request(1), ErrorCodes.STREAM_CLOSED),
    ("a reset of an idle stream", frame(3, 0, 1, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
    ("a reset of another size", request(1) + frame(3, 0, 1, b""), ErrorCodes.FRAME_SIZE_ERROR),
    ("settings of a stream", frame(4, 0, 1), ErrorCodes.PROTOCOL_ERROR),
    ("cut settings", frame(4, 0, 0, b"12345"), ErrorCodes.FRAME_SIZE_ERROR),
    ("an acknowledgement with more", frame(4, 1, 0, b"123456"), ErrorCodes.FRAME_SIZE_ERROR),
    ("a window of 2^31", frame(4, 0, 0, b"\0\4\x80\0\0\0"), ErrorCodes.FLOW_CONTROL_ERROR),
    ("frames of 16 bytes", frame(4, 0, 0, b"\0\5\0\0\0\x10"), ErrorCodes.PROTOCOL_ERROR),
    ("push twice", frame(4, 0, 0, b"\0\2\0\0\0\2"), ErrorCodes.PROTOCOL_ERROR),
    ("a push", frame(5, 4, 1, b"\0\0\0\2"), ErrorCodes.PROTOCOL_ERROR),
    ("a ping of a stream", frame(6, 0, 1, b"12345678"), ErrorCodes.PROTOCOL_ERROR),
    ("a short ping", frame(6, 0, 0, b"1234"), ErrorCodes.FRAME_SIZE_ERROR),
    ("a short farewell", frame(7, 0, 0, b"1234"), ErrorCodes.FRAME_SIZE_ERROR),
    ("no window more", frame(8, 0, 0, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
    ("a window too much", frame(8, 0, 0, b"\x7f\xff\xff\xff"), ErrorCodes.FLOW_CONTROL_ERROR),
    ("a window of an idle stream", frame(8, 0, 9, b"\0\0\0\1"), ErrorCodes.PROTOCOL_ERROR),
    ("a continuation of nothing", frame(9, 4, 1, b""), ErrorCodes.PROTOCOL_ERROR),
    ("an interrupted list", frame(1, 1, 1, b"\x82") + frame(6, 0, 0, b"12345678"),
     ErrorCodes.PROTOCOL_ERROR),
    ("a continuation elsewhere", frame(1, 1, 1, b"\x82") + frame(9, 4, 3, b"\x84"),
     ErrorCodes.PROTOCOL_ERROR),
    ("a list without end", frame(1, 1, 1, b"\x82") + frame(9, 0, 1, b"") * 9,
     ErrorCodes.ENHANCE_YOUR_CALM),
    ("a list as a bomb", frame(1, 5, 1, b"\x40\x01a\x7f\xd1\x0e" + b"v" * 2000 + b"\xbe" * 20),
     ErrorCodes.ENHANCE_YOUR_CALM),
    ("a list that is none", frame(1, 5, 1, b"\xff\xff\xff\xff\xff"), ErrorCodes.COMPRESSION_ERROR),
    ("more than the window", request(1, POST, end=False) + frame(0, 0, 1, b"x" * 16_384) * 4,
     ErrorCodes.FLOW_CONTROL_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in CONNECTION + [
    (name, PREFACE + SETTINGS + data, code) for name, data, code in BROKEN
]], ids=[row[0] for row in CONNECTION + BROKEN])  # fmt: skip
def test_who_breaks_the_rules_of_the_connection_is_told_and_left(data, code):
    codec = server()
    codec.data_to_send()
    with pytest.raises(ProtocolError) as error:
        codec.receive_data(data)
    assert error.value.code == code
    sent = codec.data_to_send()
    assert sent[-17:-8] == frame(7, 0, 0, b"12345678")[:9]
    assert int.from_bytes(sent[-4:]) == code
    assert codec.receive_data(data) == []


LENGTH = (b"content-length", b"3")
STREAM = [
    ("no path", request(1, GET[:3]), ErrorCodes.PROTOCOL_ERROR),
    ("no method", request(1, GET[1:]), ErrorCodes.PROTOCOL_ERROR),
    ("two paths", request(1, [*GET, (b":path", b"/2")]), ErrorCodes.PROTOCOL_ERROR),
    ("a pseudo-header late", request(1, [*GET[:3], (b"a", b"b"), GET[3]]),
     ErrorCodes.PROTOCOL_ERROR),
    ("an unknown pseudo-header", request(1, [*GET, (b":x", b"1")]), ErrorCodes.PROTOCOL_ERROR),
    ("a status", request(1, [*GET, (b":status", b"200")]), ErrorCodes.PROTOCOL_ERROR),
    ("te", request(1, [*GET, (b"te", b"gzip")]), ErrorCodes.PROTOCOL_ERROR),
    ("two lengths", request(1, [*POST, LENGTH, (b"content-length", b"4")]),
     ErrorCodes.PROTOCOL_ERROR),
    ("no length", request(1, [*POST, (b"content-length", b"+3")]), ErrorCodes.PROTOCOL_ERROR),
    ("a length and no body", request(1, [*POST, LENGTH]), ErrorCodes.PROTOCOL_ERROR),
    ("too short", request(1, [*POST, LENGTH], end=False) + frame(0, 1, 1, b"ab"),
     ErrorCodes.PROTOCOL_ERROR),
    ("too long", request(1, [*POST, LENGTH], end=False) + frame(0, 1, 1, b"abcd"),
     ErrorCodes.PROTOCOL_ERROR),
    ("too short, with trailers",
     request(1, [*POST, LENGTH], end=False) + frame(0, 0, 1, b"ab") + request(1, [(b"t", b"1")]),
     ErrorCodes.PROTOCOL_ERROR),
    ("trailers that do not end",
     request(1, POST, end=False) + request(1, [(b"t", b"1")], end=False),
     ErrorCodes.PROTOCOL_ERROR),
    ("a pseudo-header in trailers", request(1, POST, end=False) + request(1, [GET[3]]),
     ErrorCodes.PROTOCOL_ERROR),
    ("data after the end", request(1, POST) + frame(0, 1, 1, b"x"), ErrorCodes.STREAM_CLOSED),
    ("headers after the end", request(1, POST) + request(1, POST), ErrorCodes.STREAM_CLOSED),
    ("no window more", request(1) + frame(8, 0, 1, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
    ("a window too much", request(1) + frame(8, 0, 1, b"\x7f\xff\xff\xff"),
     ErrorCodes.FLOW_CONTROL_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"), [row[1:] for row in STREAM], ids=[row[0] for row in STREAM]
)
def test_who_breaks_the_rules_of_a_stream_loses_that_one_alone(data, code):
    codec = server()
    codec.receive_data(PREFACE + SETTINGS)
    codec.data_to_send()
    events = codec.receive_data(data)
    assert events[-1] == http2_events.StreamReset(1, code)
    assert codec.data_to_send().endswith(frame(3, 0, 1, struct.pack("!I", code)))
    assert codec.receive_data(request(3))[0].stream_id == 3
    # What is still on its way for the lost one breaks nothing.
    assert codec.receive_data(frame(0, 1, 1, b"x") + frame(8, 0, 1, b"\0\0\0\1")) == []


def test_data_after_the_clients_own_reset_is_refused_once():
    codec = server()
    codec.receive_data(PREFACE + SETTINGS + request(1, POST, end=False))
    codec.data_to_send()
    reset = frame(3, 0, 1, struct.pack("!I", ErrorCodes.CANCEL))
    assert codec.receive_data(reset)[0] == http2_events.StreamReset(1, ErrorCodes.CANCEL)
    closed = frame(3, 0, 1, struct.pack("!I", ErrorCodes.STREAM_CLOSED))
    assert codec.receive_data(frame(0, 0, 1, b"x") * 3) == []
    assert codec.data_to_send() == closed


@pytest.mark.parametrize(
    ("headers", "sound"),
    [
        ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]], True),
        ([(b":method", b"CONNECT"), (b":authority", b"a.io:443")], True),
        ([(b":method", b"CONNECT"), *GET[1:]], False),
        ([(b":method", b"CONNECT"), (b":protocol", b"websocket"), GET[3]], False),
        ([(b":protocol", b"websocket"), *GET], False),
    ],
)
def test_what_a_connect_must_and_may_not_say(headers, sound):
    codec = server()
    codec.receive_data(PREFACE + SETTINGS)
    event = codec.receive_data(request(1, headers, end=False))[0]
    assert isinstance(event, http2_events.RequestReceived) == sound


def test_frames_of_no_use_are_counted_and_requests_make_up_for_some():
    codec = server()
    ping = frame(6, 0, 0, b"12345678")
    codec.receive_data(
        PREFACE + SETTINGS + ping * 20 + frame(99, 0, 0, b"x") + frame(2, 0, 5, b"12345")
    )
    noise = codec.noise
    assert noise == 23
    codec.receive_data(request(1, POST, end=False) + frame(0, 0, 1) * 5)
    assert noise < codec.noise + 4 < noise + 10
    codec.send_headers(1, [(b":status", b"200")])
    for _ in range(20):
        codec.send_data(1, b"x")
    assert codec.noise == 0


def test_no_more_streams_than_agreed_are_begun():
    codec = server()
    codec.receive_data(PREFACE + SETTINGS)
    events = codec.receive_data(b"".join(request(n) for n in range(1, 12, 2)))
    begun = [e.stream_id for e in events if isinstance(e, http2_events.RequestReceived)]
    assert begun == [1, 3, 5, 7]
    assert events[-1] == http2_events.StreamReset(11, ErrorCodes.REFUSED_STREAM)


def test_nothing_is_sent_on_a_stream_that_has_ended():
    codec = server()
    codec.receive_data(PREFACE + SETTINGS + request(1))
    codec.send_headers(1, [(b":status", b"204")], end_stream=True)
    for late in (
        lambda: codec.send_data(1, b"x"),
        lambda: codec.send_headers(1, [(b"t", b"1")]),
        lambda: codec.end_stream(1),
        lambda: codec.reset_stream(1),
    ):
        with pytest.raises(H2Error):
            late()


class Talk:
    """Our codec and h2, joined in memory; every byte goes through in pieces of some size."""

    def __init__(self, client: bool, step: int) -> None:
        self.step = step
        self.ours = Codec(
            client=client,
            settings={
                SettingCodes.MAX_CONCURRENT_STREAMS: 50,
                SettingCodes.INITIAL_WINDOW_SIZE: 1000,
            },
        )
        config = h2.config.H2Configuration(client_side=not client, header_encoding=False)
        self.theirs = h2.connection.H2Connection(config)
        self.ours.initiate_connection()
        self.theirs.initiate_connection()
        self.our_events: list[http2_events.Event] = []
        self.their_events: list[h2.events.Event] = []
        self.settle()

    def settle(self) -> None:
        """Until neither has anything to say."""
        while True:
            out, back = self.ours.data_to_send(), self.theirs.data_to_send()
            if not out and not back:
                return
            for at in range(0, len(out), self.step):
                self.their_events += self.theirs.receive_data(out[at : at + self.step])
            for at in range(0, len(back), self.step):
                self.our_events += self.ours.receive_data(back[at : at + self.step])


bodies = st.lists(st.binary(min_size=1, max_size=700), max_size=6)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([3, 9, 100, 5000]), bodies, bodies, st.booleans())
def test_a_client_of_h2_and_our_server_understand_each_other(step, up, down, trailers):
    talk = Talk(client=False, step=step)
    talk.theirs.send_headers(1, POST)
    for piece in up:
        talk.theirs.send_data(1, piece)
        talk.settle()
        talk.ours.acknowledge_received_data(len(piece), 1)
        talk.settle()
    if trailers:
        talk.theirs.send_headers(1, [(b"sum", b"1")], end_stream=True)
    else:
        talk.theirs.end_stream(1)
    talk.settle()
    got = b"".join(e.data for e in talk.our_events if isinstance(e, http2_events.DataReceived))
    assert got == b"".join(up)
    assert isinstance(talk.our_events[-1], http2_events.TrailersReceived) or (
        isinstance(talk.our_events[-1], http2_events.DataReceived)
        and talk.our_events[-1].stream_ended
    )
    talk.ours.send_headers(1, [(b":status", b"200"), (b"x", b"y" * 17_000)])
    for piece in down:
        talk.ours.send_data(1, piece)
    talk.ours.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    talk.settle()
    got = b"".join(e.data for e in talk.their_events if isinstance(e, h2.events.DataReceived))
    assert got == b"".join(down)
    assert any(isinstance(e, h2.events.TrailersReceived) for e in talk.their_events)
    assert any(isinstance(e, h2.events.StreamEnded) for e in talk.their_events)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([3, 9, 100, 5000]), bodies, bodies)
def test_our_client_and_a_server_of_h2_understand_each_other(step, up, down):
    talk = Talk(client=True, step=step)
    number = talk.ours.begin_stream()
    talk.ours.send_headers(number, POST)
    for piece in up:
        talk.ours.send_data(number, piece)
    talk.ours.end_stream(number)
    talk.settle()
    got = b"".join(e.data for e in talk.their_events if isinstance(e, h2.events.DataReceived))
    assert got == b"".join(up)
    talk.theirs.send_headers(number, [(b":status", b"103")])
    talk.theirs.send_headers(number, [(b":status", b"200"), (b"x", b"y" * 17_000)])
    for piece in down:
        talk.theirs.send_data(number, piece)
        talk.settle()
        talk.ours.increment_flow_control_window(len(piece), number)
        talk.ours.increment_flow_control_window(len(piece))
        talk.settle()
    talk.theirs.end_stream(number)
    talk.settle()
    events = talk.our_events
    assert any(isinstance(e, http2_events.InformationalResponseReceived) for e in events)
    got = b"".join(e.data for e in events if isinstance(e, http2_events.DataReceived))
    assert got == b"".join(down)
    assert isinstance(events[-1], http2_events.DataReceived)
    assert events[-1].stream_ended


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=40),
    st.builds(frame, st.integers(0, 12), st.integers(0, 63), st.integers(0, 6),
              st.binary(max_size=20)),
    st.builds(request, st.integers(1, 9), end=st.booleans()),
), max_size=12))  # fmt: skip
def test_any_bytes_end_in_events_or_in_a_farewell(pieces):
    codec = server()
    try:
        for piece in (PREFACE, SETTINGS, *pieces):
            codec.receive_data(piece)
            codec.data_to_send()
    except ProtocolError:
        assert codec.data_to_send()
