"""Users and their passwords as `htpasswd` writes them: bcrypt, Apache's MD5, SHA-1. Pure.

Checking is slow on purpose (bcrypt: tens of milliseconds), so it belongs into another thread.
Source: Apache HTTP Server's "Password Formats".
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import md5, sha1

from meshkube.api.types import Object

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KNOWN = ("$2y$", "$2b$", "$2a$", "$apr1$", "{SHA}", "{SSHA}")


class NoUsers(Exception):
    """A Secret that lets nobody in: the message says why."""


def users_of(secret: Object | None, kind: str) -> dict[str, str]:
    """Users and the hashes of their passwords. `kind` is `auth-file` (one key `auth` in the form
    of htpasswd) or `auth-map` (a key for each user). Raises `NoUsers`."""
    if secret is None:
        raise NoUsers("does not exist")
    data = {name: _decoded(name, text) for name, text in (secret.get("data") or {}).items()}
    if kind == "auth-map":
        users = {name: text.strip() for name, text in data.items()}
    elif "auth" not in data:
        raise NoUsers("has no key auth")
    else:
        lines = (line.strip() for line in data["auth"].splitlines())
        pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
        users = {name: rest.partition(":")[0] for name, _, rest in pairs}
    known = {name: stored for name, stored in users.items() if stored.startswith(_KNOWN)}
    if not known:
        raise NoUsers("has no user with a password in bcrypt, APR1 or SHA")
    return known


def _decoded(name: str, text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise NoUsers(f"holds a key {name} that is not base64 of text") from None


def credentials(header: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header of the Basic scheme (RFC 7617)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user.decode("utf-8", "replace"), password) if colon else None


def verify(password: bytes, stored: str) -> bool:
    """Whether a password is the one that was stored."""
    try:
        if stored.startswith("$2"):
            return _bcrypt(password, stored)
        if stored.startswith("$apr1$"):
            return _same(apr1(password, stored.split("$")[2]), stored)
        if stored.startswith("{SHA}"):
            return _same(base64.b64encode(sha1(password).digest()).decode(), stored[5:])
        if stored.startswith("{SSHA}"):
            raw = base64.b64decode(stored[6:])
            return hmac.compare_digest(sha1(password + raw[20:]).digest(), raw[:20])
    except (ValueError, IndexError):
        return False
    return False


def _bcrypt(password: bytes, stored: str) -> bool:
    import bcrypt

    # As htpasswd has it: the algorithm knows 72 bytes.
    return bcrypt.checkpw(password[:72], stored.encode())


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def apr1(password: bytes, salt: str) -> str:
    """Apache's variant of MD5-crypt."""
    seed = salt[:8].encode()
    inner = md5(password + seed + password).digest()
    text = password + b"$apr1$" + seed
    text += (inner * (len(password) // 16 + 1))[: len(password)]
    count = len(password)
    while count:
        text += b"\0" if count & 1 else password[:1]
        count >>= 1
    digest = md5(text).digest()
    for turn in range(1000):
        pieces = [password if turn & 1 else digest]
        if turn % 3:
            pieces.append(seed)
        if turn % 7:
            pieces.append(password)
        pieces.append(digest if turn & 1 else password)
        digest = md5(b"".join(pieces)).digest()
    return f"$apr1${salt[:8]}${_encoded(digest)}"


def _encoded(digest: bytes) -> str:
    groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)]
    text = ""
    for first, second, third in groups:
        value = digest[first] << 16 | digest[second] << 8 | digest[third]
        for _ in range(4):
            text += _ALPHABET[value & 63]
            value >>= 6
    return text + _ALPHABET[digest[11] & 63] + _ALPHABET[digest[11] >> 6]
