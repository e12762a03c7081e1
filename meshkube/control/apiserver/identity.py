"""Who asks, from the client certificate of the TLS connection, and what that user may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshkube.api import errors
from meshkube.api.errors import ApiError

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]

    @property
    def known(self) -> bool:
        return AUTHENTICATED in self.groups


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def of_certificate(certificate: dict[str, Any] | None) -> User:
    """The user of a verified certificate (as `ssl` describes one): CN is the name, O the groups."""
    if not certificate:
        return ANONYMOUS
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


def authorize(user: User, path: str, verb: str, resource: tuple[str, str] | None) -> None:
    """`resource` is `(group, plural)` where the path names one. Raises `ApiError` 403."""
    if MASTERS in user.groups or path in OPEN_PATHS or path.startswith(_HEALTH):
        return
    raise denied(user, path, verb, resource)


_HEALTH = ("/healthz/", "/livez/", "/readyz/")


def denied(user: User, path: str, verb: str, resource: tuple[str, str] | None) -> ApiError:
    if resource is None:
        why = f'User "{user.name}" cannot {verb} path "{path}"'
        return ApiError(403, "Forbidden", f"forbidden: {why}")
    group, plural = resource
    why = (
        f'User "{user.name}" cannot {verb} resource "{plural}" in API group "{group}" at the '
        "cluster scope"
    )
    return errors.forbidden(group, plural, "", why)
