"""Who this host is to its cluster: one key, and the certificates that the cluster gave for it.

In `<data-dir>/pki`: `ca.crt`, `node.key`, `node-client.crt`, `node-server.crt`; only the owner
reads them. The TLS contexts live as long as the process: a new certificate counts for the
connections that begin after it, and ends none.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from meshkube import csr, pki
from meshkube.credentials import CA
from meshkube.joining import authority

CLIENT, SERVING = "node-client", "node-server"


class Identity:
    """The files of one host; made where they are missing, all but the certificates."""

    def __init__(self, directory: Path, ca: bytes) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._ca = ca
        if not self._key_file.exists():
            pki.write_private(self._key_file, pki.new_key())
        self.key = self._key_file.read_bytes()
        self.client_context = authority.trusting(ca)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.server_context.load_verify_locations(cadata=ca.decode())
        self.server_context.verify_mode = ssl.CERT_OPTIONAL
        for name in (CLIENT, SERVING):
            if self.certificate(name):
                self._load(name)

    @property
    def _key_file(self) -> Path:
        return self.directory / "node.key"

    @property
    def key_id(self) -> str:
        """What the cluster knows the key by (`csr.NODE_KEY`)."""
        return csr.key_of_private(self.key)

    def certificate(self, name: str) -> bytes:
        """PEM; empty where there is none for this key."""
        try:
            found = (self.directory / f"{name}.crt").read_bytes()
            return found if csr.key_of_certificate(found) == self.key_id else b""
        except (FileNotFoundError, ValueError):
            return b""

    def take(self, name: str, certificate: bytes) -> None:
        """Keeps a new certificate, and shows it from now on. With the first one this host has
        joined: from then on it trusts this CA."""
        pki.write_private(self.directory / CA, self._ca)
        pki.write_private(self.directory / f"{name}.crt", certificate)
        self._load(name)

    def _load(self, name: str) -> None:
        context = self.client_context if name == CLIENT else self.server_context
        context.load_cert_chain(self.directory / f"{name}.crt", self._key_file)


def known_authority(directory: Path) -> bytes:
    """The CA that this host trusts already, PEM; empty where it has joined none."""
    try:
        return (directory / CA).read_bytes()
    except FileNotFoundError:
        return b""
