"""What follows from the header lines of a request in HTTP/1, whatever its path is. Pure.

Requests of one connection are much alike. What matters in their lines is found by
`http1.telling_lines`; where that is the same as in the last request, so is all that is here.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshkube.ingress import tracing
from meshkube.ingress.forwarded import Peer, lines, sane_id
from meshkube.ingress.http1 import CHUNKED, USUAL_OPTIONS, parse_fields
from meshkube.ingress.http1 import Fields as Fields
from meshkube.ingress.outgoing import with_host


@dataclass(slots=True)
class Prepared:
    """What follows from the lines that tell something."""

    fields: Fields
    host: bytes
    added: bytes
    """The lines for the pod that follow those that go on, up to the value of X-Request-Id."""
    request_id: bytes
    """Given by the client; empty: make one."""
    keep_alive: bool
    upgrade: bytes
    traced: bool
    """The client has begun a trace."""

    usual: bool = False
    """Kept alive, with no body or upgrade, and only its own lines say which are cut."""

    def kept(self, block: bytes) -> bytes:
        """What goes on of another block that tells the same."""
        cut = self.fields.cut
        if not cut:
            return block
        return b"\r\n".join([line for line in block.split(b"\r\n") if line not in cut])


def prepare(
    block: bytes, minor: int, authority: bytes | None, peer: Peer, *, trace: bool
) -> Prepared:
    """Reads the header lines of a request in HTTP/1.`minor`; `authority` is that of its target, if
    it has one. Raises `HeadError`."""
    fields = parse_fields(block, minor)
    host = fields.host or b""
    traced = False
    if trace:
        fields.kept, traced = tracing.checked(fields.kept)
    if authority is not None and authority != host:
        host = authority
        fields.kept = with_host(fields.kept, authority)
    elif fields.host is None:
        fields.kept += b"Host: \r\n"
    options = fields.connection
    upgrade = fields.upgrade if b"upgrade" in options and minor else b""
    if upgrade.lower() == b"h2c" or fields.length:
        upgrade = b""
    extra = b"Transfer-Encoding: chunked\r\n" if fields.length == CHUNKED else b""
    if upgrade:
        extra += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
    if fields.expects_continue and minor:
        extra += b"Expect: 100-continue\r\n"
    added = b"%b%bX-Request-Id: " % (extra, lines(peer, fields, host))
    keep_alive = b"close" not in options if minor else b"keep-alive" in options
    usual = keep_alive and not fields.length and not upgrade and options <= USUAL_OPTIONS
    given = sane_id(fields.request_id)
    return Prepared(fields, host, added, given, keep_alive, upgrade, traced, usual)
