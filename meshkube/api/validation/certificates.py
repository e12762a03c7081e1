"""Certificate signing requests. Source: `certificates.k8s.io/v1`, Kubernetes API reference."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
)

SHORTEST: Final = 600
USAGES: Final = (
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
)
_SETTLED: Final = ("Approved", "Denied", "Failed")
_DECISIONS: Final = ("Approved", "Denied")
_FORM: Final = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\s*", re.DOTALL)


def validate_request(request: Object) -> Faults:
    spec = request.get("spec") or {}
    faults = _pem_request(spec.get("request") or "")
    faults += _usages(spec.get("usages") or [])
    faults += _signer(spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < SHORTEST:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        faults.append(invalid("spec.expirationSeconds", seconds, detail))
    return faults


def _pem_request(text: str) -> Faults:
    # It brings much, and few processes read requests.
    from meshkube import csr

    if not text:
        return [required("spec.request", "PEM block type must be CERTIFICATE REQUEST")]
    try:
        csr.read(csr.decode(text))
    except csr.BadRequest as error:
        return [invalid("spec.request", Shown("<request>"), str(error))]
    return []


def _usages(usages: list[str]) -> Faults:
    if not usages:
        return [required("spec.usages")]
    faults: Faults = []
    for index, usage in enumerate(usages):
        place = item("spec.usages", index)
        if usage not in USAGES:
            faults.append(not_supported(place, usage, sorted(USAGES)))
        elif usage in usages[:index]:
            faults.append(duplicate(place, usage))
    return faults


def _signer(name: str) -> Faults:
    place = "spec.signerName"
    if not name:
        return [required(place)]
    domain, slash, path = name.partition("/")
    if not slash or not path or "." not in domain or formats.dns_subdomain(domain):
        return [invalid(place, name, _FORM)]
    if any(formats.dns_subdomain(part) for part in path.split(".")) or "/" in path:
        return [invalid(place, name, _FORM)]
    if name == "kubernetes.io/legacy-unknown":
        return [invalid(place, name, "is not allowed in this version of the API")]
    return []


def validate_request_update(request: Object, old: Object) -> Faults:
    """What is asked for is kept by the server: only metadata can have changed."""
    return []


def validate_approval(request: Object, old: Object) -> Faults:
    """Of the sub-resource `approval`: conditions are added, and decisions never taken back."""
    return _conditions(request) + _kept(request, old, ())


def validate_request_status(request: Object, old: Object) -> Faults:
    """Of the sub-resource `status`: a signer's work. It decides on nothing."""
    faults = _conditions(request) + _kept(request, old, _DECISIONS)
    before, after = (_status(one).get("certificate") or "" for one in (old, request))
    if before and before != after:
        faults.append(forbidden("status.certificate", "updates may not change it once it is set"))
    elif after and not before:
        faults += _certificate(after)
    return faults


def _conditions(request: Object) -> Faults:
    faults: Faults = []
    seen: list[str] = []
    for index, condition in enumerate(_status(request).get("conditions") or ()):
        place, type = item("status.conditions", index), condition.get("type") or ""
        status = condition.get("status") or ""
        if not type:
            faults.append(required(child(place, "type")))
        if not status:
            faults.append(required(child(place, "status")))
        elif status not in ("True", "False", "Unknown"):
            known = ("False", "True", "Unknown")
            faults.append(not_supported(child(place, "status"), status, known))
        elif type in _SETTLED and status != "True":
            faults.append(not_supported(child(place, "status"), status, ("True",)))
        if type in seen:
            faults.append(duplicate(child(place, "type"), type))
        if type in _DECISIONS and any(one in seen for one in _DECISIONS if one != type):
            detail = "Approved and Denied conditions are mutually exclusive"
            faults.append(invalid(child(place, "type"), type, detail))
        seen.append(type)
    return faults


def _kept(request: Object, old: Object, not_added: tuple[str, ...]) -> Faults:
    before, after = (
        {one.get("type") for one in _status(each).get("conditions") or ()}
        for each in (old, request)
    )
    place = "status.conditions"
    faults = [
        forbidden(place, f'updates may not remove a condition of type "{type}"')
        for type in _SETTLED
        if type in before - after
    ]
    faults += [
        forbidden(place, f'updates may not add a condition of type "{type}"')
        for type in not_added
        if type in after - before
    ]
    return faults


def _certificate(text: str) -> Faults:
    from cryptography import x509

    place, shown = "status.certificate", Shown("<certificate data>")
    try:
        pem = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return [invalid(place, shown, "is not base 64")]
    blocks = list(_BLOCK.finditer(pem))
    if not blocks or any(block[1] != b"CERTIFICATE" for block in blocks):
        return [invalid(place, shown, "must contain only PEM blocks of type CERTIFICATE")]
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return [invalid(place, shown, f"cannot be parsed: {error}")]
    return []


def _status(request: Object) -> Object:
    found: Object = request.get("status") or {}
    return found
