"""A certificate by CertificateSigningRequest: made, waited for, checked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass

from meshkube import csr
from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from meshkube.config import ConfigError
from meshkube.joining.authority import check_clock

REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST
NODES = "system:nodes"
PATIENCE = 30.0
FIRST_LOOK, LONGEST_WAIT = 0.1, 2.0


class Denied(ConfigError):
    """The cluster does not give this certificate: the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A kind of certificate that a node gets."""

    signer: str
    purpose: str


NODE_CLIENT = Wanted("kubernetes.io/kube-apiserver-client-kubelet", "client auth")
NODE_SERVING = Wanted("kubernetes.io/kubelet-serving", "server auth")


def node_user(name: str) -> str:
    """The user that a node of this name is."""
    return f"system:node:{name}"


async def obtain(
    client: HttpClient, wanted: Wanted, key: bytes, node: str, names: Iterable[str] = ()
) -> bytes:
    """The certificate, PEM, for our key. Raises `Denied`, `ApiError`, and `TimeoutError` where
    nobody decides or signs in time."""
    pem = csr.new(key, node_user(node), organizations=[NODES], names=names)
    made = await client.create(REQUEST, _request(pem, wanted))
    async with asyncio.timeout(PATIENCE):
        certificate = await _issued(client, meta.name(made))
    check_clock(certificate)
    return certificate


def _request(pem: bytes, wanted: Wanted) -> Object:
    return {
        "apiVersion": REQUEST.api_version,
        "kind": REQUEST.kind,
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": wanted.signer,
            "usages": ["digital signature", wanted.purpose],
        },
    }


async def _issued(client: HttpClient, name: str) -> bytes:
    wait = FIRST_LOOK
    while True:
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, LONGEST_WAIT)
        status = (await client.get(REQUEST, name)).get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise Denied(str(condition.get("message") or condition.get("reason") or "denied"))
        if status.get("certificate"):
            return base64.b64decode(status["certificate"])
