"""The cluster's CA, fetched from a server that nobody has reason to trust yet.

The connection proves nothing; the hash in the join token does. Nothing secret is sent before the
certificate has been held against that.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from meshkube import pki
from meshkube.client.http import HttpClient
from meshkube.config import ConfigError
from meshkube.join_token import JoinToken

CA_PATH = "/cacerts"


async def fetch(servers: tuple[str, ...], token: JoinToken) -> bytes:
    """The CA's certificate, PEM, as the token's hash has it. Raises `ConfigError` where the server
    has another one, `ApiError` where none answers."""
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    async with HttpClient(servers, blind) as client:
        found = await client.get_raw(CA_PATH)
        server = client.server
    try:
        fingerprint = pki.fingerprint(found)
    except ValueError:
        raise ConfigError(
            f"{server}{CA_PATH} holds no certificate: is it a meshkube server?"
        ) from (None)
    if fingerprint != token.ca:
        raise ConfigError(
            f"{server} is of another cluster than the token: its CA is {fingerprint[:16]}…, the"
            f" token's {token.ca[:16]}…; the token was not sent"
        )
    check_clock(found)
    # What follows the first certificate was not hashed.
    return pki.first(found)


def trusting(ca: bytes) -> ssl.SSLContext:
    """TLS for a client that trusts this CA and no other."""
    return ssl.create_default_context(cadata=ca.decode())


def check_clock(certificate: bytes) -> None:
    """Raises `ConfigError` where a certificate that has just come is not valid by our clock."""
    start, end = pki.validity(certificate)
    now = datetime.now(UTC)
    if not start <= now < end:
        raise ConfigError(
            f"this host's clock and the cluster's differ: here it is {now:%Y-%m-%d %H:%M:%S} UTC,"
            f" and the certificate is valid from {start:%Y-%m-%d %H:%M:%S}"
            f" to {end:%Y-%m-%d %H:%M:%S} UTC; set the clocks right"
        )
