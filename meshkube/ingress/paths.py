"""The path that rules are matched on, made from a request's target. Pure.

Decided once, and written down in docs/ingress.md: matching sees the decoded, normalised path; the
backend gets the target byte for byte as it came. Percent-encoded bytes are decoded, except `%2F`,
which stays as it is and separates nothing; empty and `.` segments vanish, `..` takes its
predecessor away (RFC 3986 section 5.2.4), and going above the root is an error, as is a NUL byte.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_ENCODED_SLASH = re.compile("%2[fF]")
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2})")


class BadPath(ValueError):
    """A target that has no sound path: answered with 400."""


def normal(target: str) -> str:
    """The path to match of an origin-form target (`/a%20b/../c?d=e` gives `/c`).
    Raises `BadPath`."""
    path = target
    if "?" in path or "#" in path:
        path = path.partition("?")[0].partition("#")[0]
    if "%" in path:
        path = _decoded(path)
    if "//" in path or "/." in path:
        path = _without_dots(path)
    return path


def _decoded(path: str) -> str:
    if _BAD_ESCAPE.search(path):
        raise BadPath("the path has a % that no two hexadecimal digits follow")
    pieces = _ENCODED_SLASH.split(path)
    decoded = b"%2F".join(unquote_to_bytes(piece) for piece in pieces)
    if b"\0" in decoded:
        raise BadPath("the path holds an encoded NUL")
    return decoded.decode("utf-8", "surrogateescape")


def _without_dots(path: str) -> str:
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if not kept:
                raise BadPath("the path leads above the root")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    is_directory = segments[-1] in ("", ".", "..") and kept
    return "/" + "/".join(kept) + ("/" if is_directory else "")
