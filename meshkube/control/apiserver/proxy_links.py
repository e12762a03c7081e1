"""What a proxied page refers to, so that it leads back through the proxy. Pure.

A path such as `/style.css` would leave the proxy: in `Location` and in the links of HTML it gets
the proxy's own path in front, as Kubernetes' proxy does it. What names another host, and relative
links, stay as they are.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urlsplit

# Elements and the attributes of theirs that hold a URL.
_LINKS = {
    "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href",
    "blockquote": "cite", "body": "background", "button": "formaction", "command": "icon",
    "del": "cite", "embed": "src", "form": "action", "frame": "longdesc src", "head": "profile",
    "html": "manifest", "iframe": "longdesc src", "img": "longdesc src usemap",
    "input": "src usemap formaction", "ins": "cite", "link": "href",
    "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src",
    "track": "src", "video": "poster src",
}  # fmt: skip
LONGEST_TAG = 64 * 1024
_TAG = re.compile(rb"<([a-zA-Z]+)(\s(?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", re.DOTALL)
# The beginning of a tag, whose rest has not come yet.
_BEGUN = re.compile(
    rb"<(?:[a-zA-Z]+(?:\s(?:[^<>\"']|\"[^\"]*\"|'[^']*')*(?:\"[^\"]*|'[^']*)?)?)?\Z", re.DOTALL
)
_ATTRIBUTE = re.compile(rb"(\s)([a-zA-Z-]+)(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s\"'=<>`]+)", re.DOTALL)


def location(url: str, prefix: str, host: str) -> str:
    """A URL as seen through the proxy at the path `prefix`; `host` is the target's own."""
    parts = urlsplit(url)
    if (parts.netloc and parts.netloc != host) or not parts.path.startswith("/"):
        return url
    if parts.path == prefix or parts.path.startswith(prefix + "/"):
        return url
    return parts._replace(scheme="", netloc="", path=prefix + parts.path).geturl()


class Page:
    """Rewrites HTML as it comes: what may be half a tag waits for its rest."""

    def __init__(self, prefix: str, host: str) -> None:
        self._prefix = prefix
        self._host = host
        self._waiting = b""

    def feed(self, piece: bytes) -> bytes:
        text = self._waiting + piece
        cut = _begun(text)
        self._waiting = text[cut:]
        return self._rewritten(text[:cut])

    def end(self) -> bytes:
        text, self._waiting = self._waiting, b""
        return self._rewritten(text)

    def _rewritten(self, text: bytes) -> bytes:
        return _TAG.sub(self._tag, text)

    def _tag(self, match: re.Match[bytes]) -> bytes:
        names = _LINKS.get(match[1].decode().lower())
        if names is None:
            return match[0]
        known = names.split()

        def attribute(found: re.Match[bytes]) -> bytes:
            if found[2].decode().lower() not in known:
                return found[0]
            return found[1] + found[2] + found[3] + self._value(found[4])

        return b"<" + match[1] + _ATTRIBUTE.sub(attribute, match[2]) + b">"

    def _value(self, written: bytes) -> bytes:
        quote = written[:1] if written[:1] in (b'"', b"'") else b""
        plain = html.unescape((written[1:-1] if quote else written).decode("latin-1"))
        led = location(plain.strip(), self._prefix, self._host)
        if led == plain.strip():
            return written
        quote = quote or b'"'
        return quote + html.escape(led).encode("latin-1", "xmlcharrefreplace") + quote


def _begun(text: bytes) -> int:
    """Where a tag begins that does not end here; the length of the text where there is none."""
    at = text.find(b"<")
    while at >= 0:
        whole = _TAG.match(text, at)
        # A tag that never ends is text.
        if whole is None and len(text) - at <= LONGEST_TAG and _BEGUN.match(text, at):
            return at
        at = text.find(b"<", whole.end() if whole else at + 1)
    return len(text)
