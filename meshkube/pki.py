"""Keys and certificates: the cluster's own CA, and what it signs (X.509, PEM)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_YEARS = 10
LIFE = timedelta(days=365)
# Clocks differ a little between hosts.
BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (leaf first, then its issuers) and its private key, both PEM."""

    certificate: bytes
    key: bytes


def new_authority(common_name: str) -> Pair:
    """A self-signed CA with an ECDSA P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue(
    authority: Pair,
    common_name: str,
    *,
    organizations: Iterable[str] = (),
    names: Iterable[str] = (),
    life: timedelta = LIFE,
) -> Pair:
    """A certificate signed by `authority`: for a server where `names` (DNS names or addresses) are
    given, and for a client always. `organizations` become its user's groups."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    signer = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    alternatives = [general_name(name) for name in names]
    if alternatives:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(common_name, organizations))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - min(BACKDATE, life))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def new_key() -> bytes:
    """An ECDSA P-256 private key, PEM."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def public_key(key: bytes) -> bytes:
    """The public half of a private key, PEM."""
    return (
        serialization.load_pem_private_key(key, None)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the DER of the first certificate in a PEM text, in hex."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def belong_together(pair: Pair) -> bool:
    """Whether the key is that of the certificate."""
    public = x509.load_pem_x509_certificate(pair.certificate).public_key()
    encoded = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded == public_key(pair.key)


def remaining(certificate: bytes) -> timedelta:
    """How long a PEM certificate is still valid; negative once it has ended."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc - datetime.now(UTC)


def not_after(certificate: bytes) -> datetime:
    """When a PEM certificate ends. Raises `ValueError` where it is none."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """When a PEM certificate begins and ends. Raises `ValueError` where it is none."""
    loaded = x509.load_pem_x509_certificate(certificate)
    return loaded.not_valid_before_utc, loaded.not_valid_after_utc


def key_kind(certificate: bytes) -> str:
    """`RSA`, `EC` or whatever else the key of a certificate is."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey")


def names_of(certificate: bytes) -> tuple[str, str]:
    """Subject and issuer, as RFC 4514 writes names."""
    found = x509.load_pem_x509_certificate(certificate)
    return found.subject.rfc4514_string(), found.issuer.rfc4514_string()


def first(certificates: bytes) -> bytes:
    """The first certificate of a PEM text, alone."""
    return x509.load_pem_x509_certificate(certificates).public_bytes(serialization.Encoding.PEM)


def alternative_names(certificate: bytes) -> frozenset[str]:
    """The DNS names and addresses a PEM certificate is good for."""
    loaded = x509.load_pem_x509_certificate(certificate)
    try:
        extension = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(
        [
            *extension.get_values_for_type(x509.DNSName),
            *(str(address) for address in extension.get_values_for_type(x509.IPAddress)),
        ]
    )


def save(pair: Pair, stem: Path) -> None:
    """Writes `STEM.crt` and `STEM.key`; only the owner may read the key."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_private(stem.with_suffix(".key"), pair.key)
    stem.with_suffix(".crt").write_bytes(pair.certificate)


def load(stem: Path) -> Pair:
    """What `save` wrote. Raises `FileNotFoundError`."""
    return Pair(stem.with_suffix(".crt").read_bytes(), stem.with_suffix(".key").read_bytes())


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read, in one step: readers see the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.rename(path)


def subject(common_name: str, organizations: Iterable[str] = ()) -> x509.Name:
    """A user's name and groups, as Kubernetes reads them from a certificate."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def general_name(name: str) -> x509.GeneralName:
    """An address or a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
