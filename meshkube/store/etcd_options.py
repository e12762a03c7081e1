"""Where an etcd cluster is and how to speak to it: what `--store etcd://…` and its options say."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from meshkube.store.base import StoreError

DEFAULT_PORT = 2379
DEFAULT_PREFIX = "/meshkube"
SCHEMES = ("etcd://", "etcds://")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"(/[-A-Za-z0-9_.]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdOptions:
    """One etcd cluster, and the part of its keys that is ours."""

    endpoints: tuple[str, ...]
    """`host:port` of members; the first one that answers is used, so the nearest comes first."""
    prefix: str = DEFAULT_PREFIX
    tls: bool = False
    ca: Path | None = None
    """PEM; None: the system's authorities."""
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    keep_seconds: float = 300.0
    """History is kept for this long at least, and for twice as long at most."""

    @property
    def name(self) -> str:
        """For messages: the URL without anything secret."""
        scheme = SCHEMES[self.tls]
        prefix = "" if self.prefix == DEFAULT_PREFIX else self.prefix
        return f"{scheme}{','.join(self.endpoints)}{prefix}"

    def urls(self) -> tuple[str, ...]:
        """Each endpoint's base URL."""
        return tuple(f"http{'s' * self.tls}://{endpoint}" for endpoint in self.endpoints)

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain HTTP. Reads the files: raises `StoreError` with one line that names the
        one that is missing or wrong."""
        if not self.tls:
            return None
        file: Path | None = self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            file = self.cert
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if type(error) is FileNotFoundError else str(error)
            raise StoreError(f"{file}: cannot be used for TLS: {reason}") from None
        return context


def is_etcd(url: str) -> bool:
    """True for the URL of an etcd cluster, well-formed or not."""
    return url.startswith(SCHEMES)


def parse(
    url: str,
    *,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    user: str = "",
    password: str = "",
    keep_seconds: float = 300.0,
) -> EtcdOptions:
    """`etcd://host:port,host:port[/prefix]`, or `etcds://…` for TLS, which a CA or a certificate
    turns on as well. Raises `ValueError` with one line."""
    scheme, separator, rest = url.partition("://")
    if scheme + separator not in SCHEMES:
        raise ValueError(f"{url!r} is not etcd://HOST:PORT,HOST:PORT")
    hosts, slash, path = rest.partition("/")
    if "@" in hosts:
        raise ValueError("a user and password do not belong in the URL of a store")
    prefix = (slash + path).rstrip("/") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{url!r}: {prefix!r} is not a prefix such as {DEFAULT_PREFIX}")
    if key is not None and cert is None:
        raise ValueError(f"the key {key} has no certificate beside it")
    if cert is not None and key is None:
        raise ValueError(f"the certificate {cert} has no key beside it")
    if password and not user:
        raise ValueError("there is a password, but no user")
    return EtcdOptions(
        endpoints=tuple(_endpoint(url, host.strip()) for host in hosts.split(",")),
        prefix=prefix,
        tls=scheme == "etcds" or ca is not None or cert is not None,
        ca=ca,
        cert=cert,
        key=key,
        user=user,
        password=password,
        keep_seconds=keep_seconds,
    )


def _endpoint(url: str, text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not _HOST.fullmatch(host):
        raise ValueError(f"{url!r}: {text!r} is not HOST:PORT")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{url!r}: {port!r} is not a port (1-65535)")
    return f"{host}:{port}"
