"""What a host brings to join a cluster: whom to trust, and a secret that shows it was invited.

`meshkube.CA.ID.SECRET`: the SHA-256 of the CA certificate's DER in hex, an id that may be seen, and
the secret. The cluster keeps only a hash of that.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field

PREFIX = "meshkube."
SECRET_TYPE = "meshkube.io/join-token"
SECRET_PREFIX = "join-token-"
NAMESPACE = "kube-system"
ROLES = ("agent", "server")
_ID = string.ascii_lowercase + string.digits
_FORM = re.compile(r"meshkube\.([0-9a-f]{64})\.([a-z0-9]{6})\.([A-Za-z0-9_-]{32,128})")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A whole token."""

    ca: str
    """SHA-256 of the CA certificate's DER, in hex."""
    id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"{PREFIX}{self.ca}.{self.id}.{self.secret}"

    @property
    def digest(self) -> str:
        """What the cluster keeps of the secret: 256 random bits need no slow hash."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def new(ca: str) -> JoinToken:
    """A token for the cluster whose CA has this fingerprint."""
    return JoinToken(ca, "".join(secrets.choice(_ID) for _ in range(6)), secrets.token_urlsafe(32))


def parse(text: str) -> JoinToken:
    """Raises `ValueError` with a reason that does not repeat the token."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError("is no join token: meshkube.<hash of the CA>.<id>.<secret>")
    return JoinToken(*found.groups())
