"""Certificate signing requests (PKCS #10, RFC 2986): made, read, and answered by a CA."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshkube import pki

NODE_KEY = "meshkube.io/node-key"
"""Annotation of a Node: `key_id` of its key. Who has the key is the same host."""
_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
_NO_USAGE = dict.fromkeys([*_KEY_USAGES.values(), "key_cert_sign", "crl_sign"], False)


class BadRequest(ValueError):
    """No request, or not one that its key has signed: the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    key: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), in hex."""


def new(key: bytes, common_name: str, *, organizations: Iterable[str] = (),
        names: Iterable[str] = ()) -> bytes:  # fmt: skip
    """A request (PEM) signed with a private key (PEM). `names` are DNS names and addresses."""
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        pki.subject(common_name, organizations)
    )
    alternatives = [pki.general_name(name) for name in names]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def decode(text: str) -> bytes:
    """The PEM in the field `spec.request` of the API's object. Raises `BadRequest`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("is not base 64") from None


def read(pem: bytes) -> Request:
    """Raises `BadRequest`."""
    request = _load(pem)
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])
    except ValueError as error:
        raise BadRequest(f"has an extension that cannot be read: {error}") from None
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return Request(
        common_name=str(names[0].value) if len(names) == 1 else "",
        organizations=tuple(str(one.value) for one in groups),
        dns_names=tuple(found.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(one) for one in found.get_values_for_type(x509.IPAddress)),
        emails=tuple(found.get_values_for_type(x509.RFC822Name)),
        uris=tuple(found.get_values_for_type(x509.UniformResourceIdentifier)),
        key=key_id(request.public_key()),  # type: ignore[arg-type]
    )


def _load(pem: bytes) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(pem)
        good = request.is_signature_valid
    except Exception as error:
        raise BadRequest(f"is no PEM certificate request: {error}") from None
    if not good:
        raise BadRequest("is not signed by the key in it")
    return request


def key_id(public: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key's SubjectPublicKeyInfo, in hex."""
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def key_of_certificate(certificate: bytes) -> str:
    """`key_id` of the key that a PEM certificate is for."""
    public = x509.load_pem_x509_certificate(certificate).public_key()
    return key_id(public)  # type: ignore[arg-type]


def key_of_private(key: bytes) -> str:
    """`key_id` of a private key, PEM."""
    public = serialization.load_pem_private_key(key, None).public_key()
    return key_id(public)  # type: ignore[arg-type]


def sign(
    authority: pki.Pair, pem: bytes, usages: Iterable[str], life: timedelta, now: datetime
) -> bytes:
    """A certificate (PEM) for what the request names and for no more: subject and alternative
    names are taken over, other extensions are not. `usages` are in Kubernetes' words. Raises
    `BadRequest`."""
    request = _load(pem)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    wanted = list(usages)
    used = {**_NO_USAGE, **{_KEY_USAGES[one]: True for one in wanted if one in _KEY_USAGES}}
    extended = [_EXTENDED[one] for one in wanted if one in _EXTENDED]
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(issuer.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ a little; a short life is not stretched by much.
        .not_valid_before(now - min(pki.BACKDATE, life))
        .not_valid_after(min(now + life, issuer.not_valid_after_utc.astimezone(UTC)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if any(used.values()):
        # Without any bit it would be a certificate for nothing, which OpenSSL refuses to load.
        builder = builder.add_extension(x509.KeyUsage(**used), critical=True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = builder.add_extension(names.value, critical=names.critical)
    except x509.ExtensionNotFound:
        pass
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
