"""Who asks: read from a client certificate, a bearer token and the headers of impersonation. Pure.

Source: Kubernetes documentation, "Authenticating".
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable, Iterable, Mapping
from ssl import cert_time_to_seconds
from typing import Any
from urllib.parse import unquote

from meshkube.api import errors
from meshkube.control.auth.attributes import Attributes, denied
from meshkube.control.auth.rbac import Decision
from meshkube.control.auth.users import (
    ANONYMOUS,
    AUTHENTICATED,
    User,
    service_account_groups,
    split_service_account,
)

SOCKET_BEARER = "base64url.bearer.authorization.k8s.io."
_AS = "impersonate-"
_AS_EXTRA = "impersonate-extra-"
Headers = Iterable[tuple[str, str]]


def of_certificate(certificate: Mapping[str, Any] | None, now: float) -> User:
    """The user of a verified certificate (as `ssl` describes one): CN is the name, O the groups.
    `now` is in seconds since the epoch. Raises `ApiError` 401 for one that has ended since."""
    if not certificate:
        return ANONYMOUS
    if now > _ends(certificate.get("notAfter") or ""):
        raise errors.unauthorized()
    name, groups = "", []
    for attributes in certificate.get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                name = value
            elif key == "organizationName":
                groups.append(value)
    if not name:
        return ANONYMOUS
    return User(name, (*groups, AUTHENTICATED))


@functools.lru_cache(1024)
def _ends(moment: str) -> float:
    return cert_time_to_seconds(moment) if moment else float("inf")


def bearer(headers: Mapping[str, str]) -> str | None:
    """The token of a request; None where it brings none. Raises `ApiError` 401 for credentials of
    another kind."""
    given = headers.get("Authorization")
    if given is not None:
        scheme, _, token = given.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise errors.unauthorized()
        return token.strip()
    return _of_web_socket(headers.get("Sec-WebSocket-Protocol", ""))


def _of_web_socket(protocols: str) -> str | None:
    """Browsers cannot set headers of a WebSocket: the token comes as one of its sub-protocols."""
    for protocol in protocols.split(","):
        if protocol.strip().startswith(SOCKET_BEARER):
            text = protocol.strip()[len(SOCKET_BEARER) :]
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except (binascii.Error, ValueError):
                raise errors.unauthorized() from None
    return None


def impersonated(user: User, headers: Headers, decide: Callable[[Attributes], Decision]) -> User:
    """The user that `user` wants to be, if the headers name one and each part of it is allowed.
    Raises `ApiError` 400 or 403."""
    asked = [(key.lower(), value) for key, value in headers if key.lower().startswith(_AS)]
    if not asked:
        return user
    name = _last(asked, _AS + "user")
    groups = [value for key, value in asked if key == _AS + "group"]
    uid = _last(asked, _AS + "uid")
    extra: dict[str, list[str]] = {}
    for key, value in asked:
        if key.startswith(_AS_EXTRA):
            extra.setdefault(unquote(key[len(_AS_EXTRA) :]), []).append(value)
    if not name:
        raise errors.bad_request("requested impersonation of groups, uid or extra without a user")
    for wanted in _wanted(user, name, groups, uid, extra):
        decision = decide(wanted)
        if not decision.allowed:
            raise denied(wanted, decision.reason)
    return User(name, _groups(name, groups), uid, extra)


def _wanted(
    user: User, name: str, groups: list[str], uid: str, extra: Mapping[str, list[str]]
) -> Iterable[Attributes]:
    account = split_service_account(name)
    if account is not None:
        yield Attributes(
            user, "impersonate", "", "serviceaccounts", namespace=account[0], name=account[1]
        )
    else:
        yield Attributes(user, "impersonate", "", "users", name=name)
    for group in groups:
        yield Attributes(user, "impersonate", "", "groups", name=group)
    if uid:
        yield Attributes(user, "impersonate", "authentication.k8s.io", "uids", name=uid)
    for key, values in extra.items():
        for value in values:
            yield Attributes(
                user, "impersonate", "authentication.k8s.io", "userextras", key, name=value
            )


def _groups(name: str, groups: list[str]) -> tuple[str, ...]:
    account = split_service_account(name)
    if account is not None and not groups:
        groups = list(service_account_groups(account[0]))
    if name == ANONYMOUS.name:
        own = ANONYMOUS.groups[0]
    else:
        own = AUTHENTICATED
    return tuple(groups) if own in groups else (*groups, own)


def _last(asked: list[tuple[str, str]], wanted: str) -> str:
    return next((value for key, value in reversed(asked) if key == wanted), "")
