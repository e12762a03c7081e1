"""What is changed in the head of a pod's response before the client gets it. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from meshkube.ingress.features import Affinity, Rewrites
from meshkube.ingress.http1 import CHUNKED
from meshkube.ingress.response_head import ResponseHead

# Browsers that take `SameSite=None` for `Strict` (Chromium's list of incompatible clients).
_OLD_SAMESITE = re.compile(
    r"iP.+; CPU .*OS 12[_\d]*.*AppleWebKit/|Macintosh;.*Mac OS X 10_14.*Version/.*Safari"
    r"|Chrom(e|ium)/(5[1-9]|6[0-6])\.|UCBrowser/"
)


def with_block(head: ResponseHead, block: bytes) -> ResponseHead:
    """The head with other header lines (its framing stays)."""
    framing = b"Transfer-Encoding: chunked\r\n" if head.length == CHUNKED else b""
    wire = b"".join((head.line, block, framing, b"\r\n"))
    return replace(head, kept=block, wire=wire, verbatim=False)


@lru_cache(256)
def _with_line(line: bytes, kept: bytes) -> bytes:
    name = line.partition(b":")[0].lower()
    return kept if without(kept, frozenset({name})) != kept else line + kept


def with_line(head: ResponseHead, line: bytes) -> ResponseHead:
    """The head with one more header line, where it does not have that header already."""
    return with_block(head, _with_line(line, head.kept))


def without(block: bytes, names: frozenset[bytes]) -> bytes:
    """The block without the lines of these headers (in lower case, with dashes)."""
    lines = block.split(b"\r\n")
    return b"\r\n".join(line for line in lines if _name(line) not in names)


def _name(line: bytes) -> bytes:
    # To many servers an underscore is a dash.
    return line.partition(b":")[0].lower().replace(b"_", b"-")


def rewritten(block: bytes, rewrites: Rewrites) -> bytes:
    """The block with Location and cookies as the annotations want them."""
    lines = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower in (b"location", b"refresh") and rewrites.location_from:
            line = b"%b: %b" % (name, _moved(value.strip(), rewrites))
        elif lower == b"set-cookie":
            line = b"%b: %b" % (name, _cookie(value.strip(), rewrites))
        lines.append(line)
    return b"\r\n".join(lines)


def _moved(value: bytes, rewrites: Rewrites) -> bytes:
    before, after = rewrites.location_from.encode(), rewrites.location_to.encode()
    return after + value[len(before) :] if value.startswith(before) else value


def _cookie(value: bytes, rewrites: Rewrites) -> bytes:
    first, *attributes = value.split(b";")
    return b";".join((first, *(_attribute(each, rewrites) for each in attributes)))


def _attribute(text: bytes, rewrites: Rewrites) -> bytes:
    name, _, value = text.partition(b"=")
    value = value.strip()
    key = name.strip().lower()
    if key == b"domain" and rewrites.cookie_domain[0]:
        before, after = (each.encode() for each in rewrites.cookie_domain)
        if value.lower().lstrip(b".") == before.lower().lstrip(b"."):
            return name + b"=" + after
    if key == b"path" and rewrites.cookie_path[0]:
        before, after = (each.encode() for each in rewrites.cookie_path)
        if value.startswith(before):
            return name + b"=" + after + value[len(before) :]
    return text


def affinity_cookie(
    affinity: Affinity, value: str, path: str, https: bool, agent: str, date: str
) -> bytes:
    """The Set-Cookie line that binds a client to a pod. `date` is when it expires, as HTTP writes
    it; empty for a cookie of the session."""
    parts = [f"{affinity.name}={value}"]
    if date:
        parts.append(f"Expires={date}")
    if affinity.max_age:
        parts.append(f"Max-Age={affinity.max_age}")
    if affinity.domain:
        parts.append(f"Domain={affinity.domain}")
    parts.append(f"Path={affinity.path or path or '/'}")
    if https if affinity.secure is None else affinity.secure:
        parts.append("Secure")
    parts.append("HttpOnly")
    knows_none = not (affinity.conditional_samesite and _OLD_SAMESITE.search(agent))
    if affinity.samesite and (affinity.samesite != "None" or knows_none):
        parts.append(f"SameSite={affinity.samesite}")
    return f"Set-Cookie: {'; '.join(parts)}\r\n".encode("latin-1", "replace")
