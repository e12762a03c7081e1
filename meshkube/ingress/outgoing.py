"""What a policy makes of the head of a request, whatever version of HTTP it came in. Pure."""

from __future__ import annotations

from meshkube.ingress.annotations import Policy
from meshkube.ingress.client_auth import told
from meshkube.ingress.dressing import without
from meshkube.ingress.forwarded import Peer, client_of, scheme_of
from meshkube.ingress.http1 import Fields
from meshkube.ingress.policies import Asked
from meshkube.ingress.rewriting import rewritten
from meshkube.ingress.route import Route

_PREFIX = frozenset({b"x-forwarded-prefix"})


def asked(
    peer: Peer, fields: Fields, block: bytes, host: bytes, method: bytes, target: bytes
) -> Asked:
    """The request as policies see it, with those header lines that go on: a trusted proxy's word
    counts for its client."""
    return Asked(
        client_of(peer, fields).decode("latin-1"),
        scheme_of(peer, fields) == b"https",
        host.decode("latin-1"),
        target.decode("latin-1"),
        method.decode("latin-1"),
        block,
        peer.certificate,
    )


def changed(
    peer: Peer, route: Route, policy: Policy, method: bytes, target: bytes, line: bytes, out: bytes
) -> tuple[bytes, bytes]:
    """The first line and the header lines for the pod as the policy wants them."""
    if policy.rewrite and target.startswith(b"/"):
        new = rewritten(target.decode("ascii"), policy.rewrite, route.captures)
        line = b"%b %b HTTP/1.1\r\n" % (method, new.encode("ascii"))
    if policy.upstream_host:
        out = with_host(out, policy.upstream_host.encode())
    if policy.forwarded_prefix:
        prefix = f"X-Forwarded-Prefix: {policy.forwarded_prefix}\r\n".encode()
        out = prefix + without(out, _PREFIX)
    if policy.connection_header and b"\r\nUpgrade:" not in out:
        out = f"Connection: {policy.connection_header}\r\n".encode() + out
    if policy.client_auth is not None:
        out = told(out, policy.client_auth, peer.certificate)
    return line, out


def with_host(block: bytes, host: bytes) -> bytes:
    """The block with this Host in place of its own."""
    lines = [line for line in block.split(b"\r\n") if not line.lower().startswith(b"host:")]
    return b"Host: " + host + b"\r\n" + b"\r\n".join(lines)
