"""The heads of HTTP/1 messages, parsed strictly. Pure.

One regular expression holds the whole grammar of a head, so what does not match it exactly is
refused: bare LF, folded lines, blanks before a colon, control characters, odd versions. A head that
passes can be sent on as the bytes that came, with the hop-by-hop lines cut out: there is no object
per header. Sources: RFC 9110, RFC 9112 (sections 2.2, 3, 5, 6 for what must be refused).

Header lines are `bytes` of the form `Name: value\\r\\n`, one after the other: a *block*.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = rb"%b++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n" % _TOKEN

# The usual request line, and the one whose target takes any form.
ORIGIN_LINE = re.compile(rb"([A-Z][A-Z_-]*+) (/[!-~]*+) HTTP/1\.1\r\n")
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z_-]*+) ([!-~]++) HTTP/1\.([01])\r\n")
_ANY_REQUEST_LINE = re.compile(rb"%b+ [^\r\n]+ HTTP/(\d\.\d)\r\n" % _TOKEN)
BLOCK = re.compile(rb"(?:%b)*+" % _LINE)
_ONE_LINE = re.compile(rb"(%b++):[^\x00-\x08\x0a-\x1f\x7f]*+" % _TOKEN)
_BARE_LF = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!\Z)")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]+)([/?#].*)?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]+)?(?::\d{0,5})?")
_LENGTH = re.compile(rb"\d{1,18}")


_REQUEST_SPECIALS = frozenset(
    b"""host content-length transfer-encoding connection keep-alive proxy-connection
    proxy-authorization proxy te upgrade expect x-forwarded-for x-forwarded-proto x-forwarded-host
    x-forwarded-port x-forwarded-server x-real-ip x-request-id forwarded http2-settings""".split()
)
# What a Connection header may not name: cutting these would change how the message is read.
_PROTECTED = frozenset({b"host", b"content-length", b"transfer-encoding", b"te", b"trailer"})
# Named in Connection by everybody, and cut in any case.
USUAL_OPTIONS = frozenset({b"", b"keep-alive", b"close", b"upgrade", b"te", b"http2-settings"})

NO_OPTIONS: frozenset[bytes] = frozenset()
_COMMON_OPTIONS = {
    value: frozenset({value.lower()}) for value in (b"keep-alive", b"Keep-Alive", b"close")
}

CHUNKED = -1
UNTIL_CLOSE = -2


class HeadError(Exception):
    """A head that is refused: `status` is what a client gets, `reason` says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Fields:
    """What the header lines of a request say, and the lines that go on to the backend. The class
    holds the defaults: one is made for each new set of header lines, and most say little."""

    kept: bytes
    """The block without what is hop-by-hop or ours to say."""
    host: bytes | None = None
    length: int = 0
    """Of the body, in bytes; `CHUNKED`."""
    has_length: bool = False
    chunked: bool = False
    connection: frozenset[bytes] = NO_OPTIONS
    upgrade: bytes = b""
    expects_continue: bool = False
    request_id: bytes = b""
    forwarded_for: bytes = b""
    forwarded_proto: bytes = b""
    forwarded_host: bytes = b""
    forwarded_port: bytes = b""
    forwarded: bytes = b""
    cut: frozenset[bytes] = frozenset()
    """The lines that do not go on, unless Connection names further ones."""

    def __init__(self, kept: bytes) -> None:
        self.kept = kept


@dataclass(slots=True)
class RequestLine:
    method: bytes
    target: bytes
    """As it goes to the backend: origin-form (or `*`)."""
    minor: int
    """Of the version: HTTP/1.`minor`."""
    end: int
    """Where the line ends in the bytes it was read from, past its CRLF."""
    authority: bytes | None = None
    """Of a target in absolute-form: it takes the place of Host (RFC 9112 section 3.2.2)."""


def parse_request_line(data: bytes) -> RequestLine:
    """The first line of `data`. Raises `HeadError`."""
    match = _REQUEST_LINE.match(data)
    if match is None:
        raise _bad_request_line(data)
    method, target, minor = match.groups()
    line = RequestLine(method, target, 1 if minor == b"1" else 0, match.end())
    if target[0] != 47:  # "/"
        _other_forms(line)
    return line


def _other_forms(line: RequestLine) -> None:
    if line.method == b"CONNECT":
        raise HeadError(405, "the method CONNECT is not served here")
    if line.target == b"*" and line.method == b"OPTIONS":
        return
    match = _ABSOLUTE.fullmatch(line.target)
    if match is None:
        raise HeadError(400, "the request target is neither a path nor a URL")
    line.authority = match[1]
    rest = match[2] or b""
    line.target = rest if rest.startswith(b"/") else b"/" + rest


def _bad_request_line(data: bytes) -> HeadError:
    if data[:2] == b"\x16\x03":
        return HeadError(400, "a TLS connection was opened on the port for plain HTTP")
    match = _ANY_REQUEST_LINE.match(data)
    if match is not None and match[1] not in (b"1.0", b"1.1"):
        version = match[1].decode()
        return HeadError(505, f"HTTP version {version} is not served here")
    return HeadError(400, "the request line is malformed")


def check_partial(data: bytes, limit: int) -> None:
    """Refuses the beginning of a head that can never become a good one, so that nobody waits for
    its end. `limit` is in bytes. Raises `HeadError`."""
    if _BARE_LF.search(data):
        raise HeadError(400, "a line of the head ends without CR LF")
    line_end = data.find(b"\r\n")
    if line_end >= 0:
        parse_request_line(data)
    elif data[:1] and not 65 <= data[0] <= 90:
        raise _bad_request_line(data)
    if len(data) > limit:
        if line_end < 0 or line_end > limit:
            raise HeadError(414, f"the request target is longer than {limit} bytes")
        raise HeadError(431, f"the header fields are larger than {limit} bytes")


_Taker = Callable[[Fields, bytes], None]
# Lines that were sound once and go on as they are; the names of those; and lines that mean
# something to us, with who takes the value and whether the line goes on. Most lines were in many
# requests before: for each of those it takes one look here to know all about it.
_plain: set[bytes] = set()
_plain_names: set[bytes] = set()
_special: dict[bytes, tuple[_Taker | None, bytes, bool]] = {}
_LINES_KEPT = 8192
_LONGEST_KEPT = 1024
_CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"


def telling_lines(lines: list[bytes]) -> list[bytes]:
    """Those header lines (without CRLF) that tell us something, or are malformed, or empty. The
    others only go on to the pod, whatever they are."""
    return [
        line
        for line in lines
        if line not in _plain and (not line or line in _special or not _goes_on(line))
    ]


def _goes_on(line: bytes) -> bool:
    """Whether a line not seen before is sound and only goes on, as far as its name tells."""
    name, colon, value = line.partition(b":")
    if name not in _plain_names or not colon or value.translate(None, _CONTROLS) != value:
        return False
    _keep(line)
    return True


def _keep(line: bytes) -> None:
    if len(line) > _LONGEST_KEPT:
        return
    if len(_plain) + len(_special) + len(_plain_names) >= _LINES_KEPT:
        _plain.clear()
        _plain_names.clear()
        _special.clear()
    _plain.add(line)


def parse_fields(block: bytes, minor: int) -> Fields:
    """Reads the header lines of a request in HTTP/1.`minor`. Raises `HeadError`."""
    fields = Fields(block)
    if block and not block.endswith(b"\r\n"):
        raise HeadError(400, why_malformed(block))
    lines = block[:-2].split(b"\r\n") if block else []
    cut: list[bytes] = []
    for line in telling_lines(lines):
        known = _special.get(line) or _learn(line, block)
        if known is not None:
            take, value, stays = known
            if take is not None:
                take(fields, value)
            if not stays:
                lines.remove(line)
                cut.append(line)
    _check_framing(fields, minor)
    if fields.host is None and minor == 1:
        raise HeadError(400, "the request has no Host")
    if cut:
        fields.cut = frozenset(cut)
        if not fields.connection <= USUAL_OPTIONS:
            lines = without_named(lines, fields.connection)
        lines.append(b"")
        fields.kept = b"\r\n".join(lines)
    return fields


def _learn(line: bytes, block: bytes) -> tuple[_Taker | None, bytes, bool] | None:
    """What is to know about a line not seen before: None where it only goes on. Raises
    `HeadError`; what is refused is not remembered."""
    match = _ONE_LINE.fullmatch(line)
    if match is None:
        raise HeadError(400, why_malformed(block))
    name = match[1].lower()
    # Many servers cannot tell `X_Forwarded_For` from `X-Forwarded-For`: a name with an underscore
    # is cut and means nothing.
    if name.replace(b"_", b"-") not in _REQUEST_SPECIALS:
        _keep(line)
        if len(name) <= _LONGEST_KEPT:
            _plain_names.add(match[1])
        return None
    known = (_TAKERS.get(name), line[match.end(1) + 1 :].strip(b" \t"), name in _STAYS)
    if len(line) <= _LONGEST_KEPT:
        _special[line] = known
    return known


def _check_framing(fields: Fields, minor: int) -> None:
    """Two ways to tell where a body ends are one too many (RFC 9112, section 6.3)."""
    if not fields.chunked:
        return
    if fields.has_length:
        raise HeadError(400, "the request has both Content-Length and Transfer-Encoding")
    if minor == 0:
        raise HeadError(400, "an HTTP/1.0 request has a Transfer-Encoding")
    fields.length = CHUNKED


def _take_host(fields: Fields, value: bytes) -> None:
    if fields.host is not None:
        raise HeadError(400, "the request has more than one Host")
    if _HOST.fullmatch(value) is None:
        raise HeadError(400, "the Host is malformed")
    fields.host = value


def _take_length(fields: Fields, value: bytes) -> None:
    if fields.has_length:
        raise HeadError(400, "the request has more than one Content-Length")
    fields.has_length = True
    fields.length = length_of(value)


def _take_encoding(fields: Fields, value: bytes) -> None:
    if fields.chunked:
        raise HeadError(400, "the request has more than one Transfer-Encoding")
    if value.lower() != b"chunked":
        raise HeadError(501, "a Transfer-Encoding other than chunked is not served")
    fields.chunked = True


def _take_connection(fields: Fields, value: bytes) -> None:
    fields.connection |= options_of(value)


def _take_upgrade(fields: Fields, value: bytes) -> None:
    fields.upgrade = fields.upgrade + b", " + value if fields.upgrade else value


def _take_expect(fields: Fields, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise HeadError(417, "an expectation other than 100-continue is not served")
    fields.expects_continue = True


def _take_forwarded_for(fields: Fields, value: bytes) -> None:
    fields.forwarded_for += b", " + value if fields.forwarded_for else value


def _take_forwarded(fields: Fields, value: bytes) -> None:
    fields.forwarded += b", " + value if fields.forwarded else value


def _setter(name: str) -> Callable[[Fields, bytes], None]:
    def take(fields: Fields, value: bytes) -> None:
        setattr(fields, name, value)

    return take


_TAKERS: dict[bytes, _Taker] = {
    b"host": _take_host,
    b"content-length": _take_length,
    b"transfer-encoding": _take_encoding,
    b"connection": _take_connection,
    b"upgrade": _take_upgrade,
    b"expect": _take_expect,
    b"x-request-id": _setter("request_id"),
    b"x-forwarded-for": _take_forwarded_for,
    b"forwarded": _take_forwarded,
    b"x-forwarded-proto": _setter("forwarded_proto"),
    b"x-forwarded-host": _setter("forwarded_host"),
    b"x-forwarded-port": _setter("forwarded_port"),
}
_STAYS = frozenset({b"host", b"content-length"})


def check_trailers(block: bytes) -> None:
    """Trailer lines may not change how the message is read. Raises `HeadError`."""
    if BLOCK.fullmatch(block) is None:
        raise HeadError(400, "a trailer is malformed")
    for line in block.split(b"\r\n"):
        name = line.partition(b":")[0].lower().replace(b"_", b"-")
        if name in _REQUEST_SPECIALS:
            raise HeadError(400, "a trailer holds a field that is not allowed there")


@lru_cache(1024)
def host_name(host: bytes) -> str:
    """The name to look up of a Host: lower case, without port and final dot."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].rstrip(".")


def field_value(block: bytes, name: bytes) -> bytes:
    """The first value of any header in a block, empty where there is none: for rare needs."""
    match = re.search(rb"(?i)(?:\A|\n)" + re.escape(name) + rb":[ \t]*([^\r]*?)[ \t]*\r", block)
    return match[1] if match else b""


def length_of(value: bytes, status: int = 400, reason: str = "") -> int:
    if _LENGTH.fullmatch(value) is None:
        raise HeadError(status, reason or "the Content-Length is malformed")
    return int(value)


def options_of(value: bytes) -> frozenset[bytes]:
    usual = _COMMON_OPTIONS.get(value)
    if usual is not None:
        return usual
    return frozenset(option.strip(b" \t").lower() for option in value.split(b","))


def without_named(lines: list[bytes], options: frozenset[bytes]) -> list[bytes]:
    """Cuts the headers that Connection lists (RFC 9110, 7.6.1)."""
    if options & _PROTECTED - {b"te"}:
        raise HeadError(400, "Connection names a header that frames the message")
    return [line for line in lines if line.partition(b":")[0].lower() not in options]


def why_malformed(block: bytes) -> str:
    if _BARE_LF.search(block):
        return "a line of the head ends without CR LF"
    if re.search(rb"(?:\A|\n)[ \t]", block):
        return "a header line is folded"
    return "a header line is malformed"
