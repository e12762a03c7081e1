"""Who may have a say in certificates, beyond the right to the verb. Pure.

Source: Kubernetes documentation, "Admission Control": CertificateApproval, CertificateSigning and
CertificateSubjectRestriction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from meshkube import csr
from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.users import MASTERS, User

_KIND = kinds.CERTIFICATE_SIGNING_REQUEST
_CLIENT = "kubernetes.io/kube-apiserver-client"


def check(
    kind: Kind, obj: Object | None, old: Object | None, user: User, subresource: str,
    allows: Callable[[Attributes], bool],
) -> None:  # fmt: skip
    """`obj` written over `old` (None: created). Raises `ApiError` 403."""
    if kind is not _KIND or obj is None:
        return
    if old is None:
        _check_subject(obj)
    elif subresource == "approval":
        _check_signer(obj, user, "approve", allows)
    elif subresource == "status" and _issued(obj) != _issued(old):
        _check_signer(obj, user, "sign", allows)


def _issued(request: Object) -> object:
    return (request.get("status") or {}).get("certificate")


def _check_subject(request: Object) -> None:
    """Nobody becomes a superuser by a certificate that can never be taken back."""
    spec = request.get("spec") or {}
    if spec.get("signerName") != _CLIENT:
        return
    try:
        wanted = csr.read(csr.decode(spec.get("request") or ""))
    except csr.BadRequest:
        return
    if MASTERS in wanted.organizations:
        why = f"use of {_CLIENT} signer with {MASTERS} group is not allowed"
        raise _no(request, why)


def _check_signer(
    request: Object, user: User, verb: str, allows: Callable[[Attributes], bool]
) -> None:
    signer = (request.get("spec") or {}).get("signerName") or ""
    asked = Attributes(user, verb, _KIND.group, "signers", name=signer)
    whole = replace(asked, name=signer.partition("/")[0] + "/*")
    if not allows(asked) and not allows(whole):
        raise _no(request, f'user not permitted to {verb} requests with signerName "{signer}"')


def _no(request: Object, why: str) -> ApiError:
    return errors.forbidden(_KIND.group, _KIND.plural, meta.name(request), why)
