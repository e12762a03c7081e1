"""What has been decided on a CertificateSigningRequest. Pure."""

from __future__ import annotations

import base64
from datetime import datetime

from meshkube import csr
from meshkube.api import meta
from meshkube.api.types import Object

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"


def condition(request: Object, type: str) -> Object | None:
    """The condition of this type, where it holds."""
    for one in (request.get("status") or {}).get("conditions") or ():
        if one.get("type") == type:
            found: Object = one
            return found
    return None


def decided(request: Object) -> bool:
    """Approved or denied; nobody takes that back."""
    return condition(request, APPROVED) is not None or condition(request, DENIED) is not None


def with_condition(request: Object, type: str, reason: str, message: str, now: datetime) -> Object:
    """A copy with one more condition."""
    new = meta.copy(request)
    moment = meta.timestamp(now)
    new.setdefault("status", {}).setdefault("conditions", []).append(
        {
            "type": type,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": moment,
            "lastTransitionTime": moment,
        }
    )
    return new


def certificate(request: Object) -> bytes:
    """The issued certificate, PEM; empty while there is none."""
    return base64.b64decode((request.get("status") or {}).get("certificate") or "")


def pem(request: Object) -> bytes:
    """The PKCS #10 request in it, PEM. Raises `csr.BadRequest`."""
    return csr.decode((request.get("spec") or {}).get("request") or "")
