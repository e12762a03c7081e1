"""Signed tokens: JWS compact serialization with ES256 and RS256, and keys as JWKs.

Sources: RFC 7515 (JWS), RFC 7518 sections 3.3 and 3.4 (algorithms), RFC 7517 and 7518 section 6
(JWK). The algorithm comes from the key, never from the token: RFC 8725 section 3.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

LONGEST = 16 * 1024
"""Characters of a token that is worth reading."""
_COORDINATE = 32  # bytes of an integer on P-256
_DIGEST = hashes.SHA256()

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class BadToken(Exception):
    """Why a token is not accepted."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key: `id` is the `kid` of what it verifies."""

    id: str
    algorithm: str
    key: PublicKey

    @classmethod
    def of_pem(cls, pem: bytes) -> VerificationKey:
        """From a PEM public or private key. Raises `ValueError` for kinds of key not used here."""
        if b"PRIVATE KEY" in pem:
            return cls.of(_private(pem).public_key())
        return cls.of(serialization.load_pem_public_key(pem))

    @classmethod
    def of(cls, key: Any) -> VerificationKey:
        if isinstance(key, rsa.RSAPublicKey):
            algorithm = "RS256"
        elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
            algorithm = "ES256"
        else:
            raise ValueError("a token is signed with an RSA key or one on curve P-256")
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(encode(hashlib.sha256(der).digest()), algorithm, key)

    def verify(self, content: bytes, signature: bytes) -> None:
        """Raises `BadToken`."""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, content, padding.PKCS1v15(), _DIGEST)
                return
            if len(signature) != 2 * _COORDINATE:
                raise BadToken("signature has the wrong length")
            r = int.from_bytes(signature[:_COORDINATE])
            s = int.from_bytes(signature[_COORDINATE:])
            self.key.verify(encode_dss_signature(r, s), content, ec.ECDSA(_DIGEST))
        except InvalidSignature:
            raise BadToken("signature is not of this key") from None

    def jwk(self) -> dict[str, str]:
        """As in a JWK Set."""
        common = {"use": "sig", "kid": self.id, "alg": self.algorithm}
        if isinstance(self.key, rsa.RSAPublicKey):
            rsa_numbers = self.key.public_numbers()
            return {
                "kty": "RSA",
                **common,
                "n": _integer(rsa_numbers.n),
                "e": _integer(rsa_numbers.e),
            }
        numbers = self.key.public_numbers()
        x, y = numbers.x.to_bytes(_COORDINATE), numbers.y.to_bytes(_COORDINATE)
        return {"kty": "EC", **common, "crv": "P-256", "x": encode(x), "y": encode(y)}


class Signer:
    """Signs with one private key (PEM)."""

    def __init__(self, pem: bytes) -> None:
        self._key = _private(pem)
        self.verification = VerificationKey.of(self._key.public_key())
        header = {"alg": self.verification.algorithm, "kid": self.verification.id}
        self._header = encode(orjson.dumps(header))

    def sign(self, claims: dict[str, Any]) -> str:
        content = f"{self._header}.{encode(orjson.dumps(claims))}"
        return f"{content}.{encode(self._signature(content.encode()))}"

    def _signature(self, content: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(content, padding.PKCS1v15(), _DIGEST)
        r, s = decode_dss_signature(self._key.sign(content, ec.ECDSA(_DIGEST)))
        return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)


def verified(token: str, keys: Iterable[VerificationKey]) -> dict[str, Any]:
    """The claims of a token that one of `keys` signed. Raises `BadToken`."""
    if len(token) > LONGEST:
        raise BadToken("token is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("token is not three parts")
    header, claims = _document(parts[0]), _document(parts[1])
    if "crit" in header:
        raise BadToken("token wants extensions that are not understood")
    signature, content = decode(parts[2]), f"{parts[0]}.{parts[1]}".encode()
    wanted = header.get("kid")
    for key in keys:
        if key.algorithm != header.get("alg") or (wanted and wanted != key.id):
            continue
        try:
            key.verify(content, signature)
        except BadToken:
            continue
        return claims
    raise BadToken("token is not signed by a key of this cluster")


def unverified_claims(token: str) -> dict[str, Any]:
    """What a token says of itself, for deciding whether it is ours at all. Raises `BadToken`."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST:
        raise BadToken("token is not a signed token")
    return _document(parts[1])


def encode(content: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Raises `BadToken`."""
    try:
        if not text.isascii() or "=" in text:
            raise BadToken("token is not base64url")
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error:
        raise BadToken("token is not base64url") from None


def _document(part: str) -> dict[str, Any]:
    try:
        found = orjson.loads(decode(part))
    except orjson.JSONDecodeError:
        raise BadToken("token holds no JSON") from None
    if not isinstance(found, dict):
        raise BadToken("token holds no JSON object")
    return found


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("a token is signed with an RSA key or one on curve P-256")
    return key


def _integer(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8))
