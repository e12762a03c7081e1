"""What session tickets are encrypted with: one key for all nodes, a derived one for each context.

The leader keeps the key in a Secret and replaces it. From it comes a key for each certificate and
authority of clients: a ticket of one host never resumes a session with another. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from meshkube.api.types import Object

SECRET = "kube-system/meshkube-ingress-tickets"
KEY, PREVIOUS = "key", "previous"
SHORTEST = 32


def masters_of(secret: Object | None) -> tuple[bytes, bytes]:
    """The key in the Secret, and the one before it; empty where there is none that can be used."""
    data = (secret or {}).get("data") or {}
    return _usable(data.get(KEY) or ""), _usable(data.get(PREVIOUS) or "")


def _usable(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) >= SHORTEST else b""


def derived(master: bytes, purpose: bytes, size: int) -> bytes:
    """`size` bytes for one purpose, by the expanding half of HKDF (RFC 5869)."""
    found, block, number = b"", b"", 1
    while len(found) < size:
        block = hmac.digest(master, block + purpose + bytes([number]), hashlib.sha256)
        found += block
        number += 1
    return found[:size]
