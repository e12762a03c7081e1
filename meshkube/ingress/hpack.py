"""Header lists as HTTP/2 compresses them (RFC 7541). Pure.

What we send refers to the static table only: it needs no state, and a field that was sent before
is a look-up. The static table and Huffman's code are those of the package `hpack`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

TABLE_SIZE = 4096
"""Bytes of the peer's table that we keep (SETTINGS_HEADER_TABLE_SIZE's default)."""
_OVERHEAD = 32
_STATIC: tuple[Header | None, ...] = (None, *HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC = len(_STATIC)
_MOST_KEPT = 4096
_LONGEST_KEPT = 96
_BLOCKS_KEPT = 16
"""Of one connection: whole header lists that its peer says again and again."""
_LONGEST_BLOCK_KEPT = 512
_BOMB = 8
"""So many times the limit is no large list but an attack."""
_TOO_LONG = 1 << 24


class Malformed(Exception):
    """No header list: the tables of both sides differ from here on."""


class TooLarge(Exception):
    """More than the limit. It was read to its end, but not taken into memory: the tables of both
    sides are still the same."""


class Bomb(Exception):
    """So much more than the limit that it was not read to its end."""


class Decoder:
    """The peer's header lists, in the order they came."""

    def __init__(self, largest: int) -> None:
        """`largest` is that of a list: names, values and 32 bytes for each field."""
        self._largest = largest
        self._entries: list[Header] = []
        """The dynamic table, the newest last."""
        self._size = 0
        self._room = TABLE_SIZE
        self._known: dict[bytes, Headers] = {}
        """What lists mean that left the table as it was, for as long as it stays so."""

    def decode(self, block: bytes) -> Headers:
        """Raises `Malformed`, `TooLarge` or `Bomb`."""
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            found, size, changed = self._read(block)
        except IndexError:
            raise Malformed from None
        if changed:
            self._known.clear()
        if size > self._largest:
            raise TooLarge
        headers = tuple(found)
        if not changed and len(block) <= _LONGEST_BLOCK_KEPT:
            if len(self._known) >= _BLOCKS_KEPT:
                self._known.clear()
            self._known[block] = headers
        return headers

    def _read(self, block: bytes) -> tuple[list[Header], int, bool]:
        """(the list as far as the limit allows, its size, whether the table has changed)."""
        found: list[Header] = []
        size = at = 0
        end = len(block)
        changed = False
        while at < end:
            first = block[at]
            if first & 0x80:
                number, at = _number(block, at, 0x7F)
                field = self._entry(number)
            elif first & 0x60 == 0x20:
                at = self._resize(block, at, bool(found))
                changed = True
                continue
            else:
                keep = first & 0x40
                field, at = self._literal(block, at, 0x3F if keep else 0x0F)
                if keep:
                    self._add(field)
                    changed = True
            size += len(field[0]) + len(field[1]) + _OVERHEAD
            if size <= self._largest:
                found.append(field)
            elif size > _BOMB * self._largest:
                raise Bomb
        return found, size, changed

    def _entry(self, number: int) -> Header:
        if number < _FIRST_DYNAMIC:
            field = _STATIC[number]
            if field is None:
                raise Malformed
            return field
        back = number - _FIRST_DYNAMIC + 1
        if back > len(self._entries):
            raise Malformed
        return self._entries[-back]

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Header, int]:
        number, at = _number(block, at, mask)
        if number:
            name = self._entry(number)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _add(self, field: Header) -> None:
        self._entries.append(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict()

    def _evict(self) -> None:
        while self._size > self._room:
            name, value = self._entries.pop(0)
            self._size -= len(name) + len(value) + _OVERHEAD

    def _resize(self, block: bytes, at: int, late: bool) -> int:
        size, at = _number(block, at, 0x1F)
        if late or size > TABLE_SIZE:
            raise Malformed
        self._room = size
        self._evict()
        return at


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number with a prefix of some bits, and where it ends (section 5.1)."""
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if number > _TOO_LONG or shift > 28:
            raise Malformed
        if not byte & 0x80:
            return number, at
        shift += 7


_decoded: dict[bytes, bytes] = {}
"""Huffman's code is undone once for what clients send again and again."""


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size, at = _number(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise Malformed
    raw = block[at:end]
    if not coded:
        return raw, end
    text = _decoded.get(raw)
    if text is None:
        try:
            text = bytes(decode_huffman(raw))
        except HPACKDecodingError:
            raise Malformed from None
        if size <= _LONGEST_KEPT:
            if len(_decoded) >= _MOST_KEPT:
                _decoded.clear()
            _decoded[raw] = text
    return text, end


def _numbered() -> tuple[dict[Header, int], dict[bytes, int]]:
    fields: dict[Header, int] = {}
    names: dict[bytes, int] = {}
    for number, field in enumerate(_STATIC):
        if field is not None:
            fields.setdefault(field, number)
            names.setdefault(field[0], number)
    return fields, names


_FIELDS, _NAMES = _numbered()
NO_TABLE = b"\x20"
"""Before our first list: "my table has no room", which holds whatever the peer allows."""
_encoded: dict[Header, bytes] = {}


def encode(headers: Iterable[Header]) -> bytes:
    """A header list, whose names are in lower case."""
    pieces = []
    for field in headers:
        piece = _encoded.get(field)
        if piece is None:
            piece = encode_one(field)
            if len(piece) <= _LONGEST_KEPT:
                if len(_encoded) >= _MOST_KEPT:
                    _encoded.clear()
                _encoded[field] = piece
        pieces.append(piece)
    return b"".join(pieces)


def encode_one(field: Header) -> bytes:
    """A field alone, which is not remembered."""
    number = _FIELDS.get(field)
    if number is not None and field[1]:
        return bytes([0x80 | number])
    name, value = field
    return _encoded_name(name) + _prefixed(len(value), 0x7F, 0) + value


@lru_cache(1024)
def _encoded_name(name: bytes) -> bytes:
    number = _NAMES.get(name)
    if number is not None:
        return _prefixed(number, 0x0F, 0)
    return b"\0" + _prefixed(len(name), 0x7F, 0) + name


def _prefixed(number: int, mask: int, first: int) -> bytes:
    if number < mask:
        return bytes([first | number])
    out = bytearray([first | mask])
    number -= mask
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
