"""Join tokens: whose they are, and whether they still hold. Pure.

They are kept as Secrets kube-system/join-token-ID of type `meshkube.io/join-token`, with a hash of
the secret, never the secret.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime

from meshkube import join_token
from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.auth.jws import BadToken
from meshkube.control.auth.tokens import Find
from meshkube.control.auth.users import AUTHENTICATED, BOOTSTRAPPERS, User

USER_PREFIX = "system:bootstrap:"


def accept(text: str, find: Find, now: datetime) -> User:
    """Whose token it is. Raises `BadToken`."""
    try:
        token = join_token.parse(text)
    except ValueError as error:
        raise BadToken(str(error)) from None
    stored = find(kinds.SECRET, join_token.SECRET_PREFIX + token.id, join_token.NAMESPACE)
    if stored is None or stored.get("type") != join_token.SECRET_TYPE or meta.deleting(stored):
        raise BadToken("join token is not known, or was deleted")
    data = fields(stored)
    if not hmac.compare_digest(data.get("hash", ""), token.digest):
        raise BadToken("join token has another secret")
    end = expiration(stored)
    if end is None or now >= end:
        raise BadToken("join token has expired")
    role = data.get("role", "")
    if role not in join_token.ROLES:
        raise BadToken("join token has no role")
    groups = (BOOTSTRAPPERS, f"{BOOTSTRAPPERS}:meshkube:{role}", AUTHENTICATED)
    return User(USER_PREFIX + token.id, groups)


def fields(secret: Object) -> Mapping[str, str]:
    """The decoded data of a token's Secret: `hash`, `role`, `expiration`, `description`."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except ValueError:
            continue
    return found


def expiration(secret: Object) -> datetime | None:
    """When it ends; None where it does not say, which is as good as ended."""
    try:
        return meta.parse_timestamp(fields(secret)["expiration"])
    except (KeyError, ValueError):
        return None
