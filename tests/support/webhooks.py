"""A webhook for tests: a real HTTPS server on loopback that answers reviews by a function."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[dict[str, Any]], Any]
"""From a review's `request` to its `response`, or to whatever is sent instead of a review."""


@dataclass
class Webhook:
    """`asked` has every request that came."""

    url: str
    bundle: str
    asked: list[dict[str, Any]] = field(default_factory=list)

    def client(self, path: str = "/") -> dict[str, str]:
        """The `clientConfig`."""
        return {"url": self.url + path, "caBundle": self.bundle}


def patching(*ops: dict[str, Any]) -> dict[str, Any]:
    """A response that allows, with a patch."""
    text = base64.b64encode(json.dumps(ops).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own making, and that as a `caBundle`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / f"{name}.pem"
    file.write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, base64.b64encode(pem).decode()


@contextlib.asynccontextmanager
async def running_webhook(folder: Path, answer: Answer) -> AsyncIterator[Webhook]:
    tls, bundle = certificate(folder, "localhost")
    hook = Webhook("", bundle)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        review = await request.json()
        asked = review["request"]
        hook.asked.append(asked)
        found = answer({**asked, "path": request.path})
        if hasattr(found, "__await__"):
            found = await found
        if not isinstance(found, dict):
            return web.Response(text=str(found))
        response = {"uid": asked["uid"], **found}
        return web.json_response(
            {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
        )

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        hook.url = f"https://localhost:{runner.addresses[0][1]}"
        yield hook
    finally:
        await runner.cleanup()
