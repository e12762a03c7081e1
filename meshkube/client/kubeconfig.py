"""Reading kubeconfig files (Kubernetes' "Organizing Cluster Access Using kubeconfig Files")."""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from meshkube.api.types import Object
from meshkube.config import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one API server."""

    server: str
    ssl_context: ssl.SSLContext | None = None
    """None for plain HTTP."""
    token: str = ""
    server_hostname: str = ""
    """The name to expect in the server's certificate; empty: the one in `server`."""
    namespace: str = ""
    """The context's default namespace."""


def load(path: Path | str, context: str = "") -> Access:
    """The access that `context` (empty: the current one) of the file describes. Paths in it are
    relative to it. Raises `ConfigError` with one line that names the file and the fault."""
    path = Path(path)
    try:
        return _Reader(path, _content(path)).access(context)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _content(path: Path) -> Object:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(error.strerror or str(error)) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("is not YAML: " + " ".join(str(error).split())) from None
    if not isinstance(content, dict):
        raise ConfigError("is not a kubeconfig: not a mapping")
    return content


class _Reader:
    def __init__(self, path: Path, content: Object) -> None:
        self._directory = path.parent
        self._content = content

    def access(self, context: str) -> Access:
        name = context or str(self._content.get("current-context") or "")
        if not name:
            raise ConfigError("has no current-context")
        chosen = self._entry("context", "contexts", name)
        cluster = self._entry("cluster", "clusters", str(chosen.get("cluster") or ""))
        user: Object = {}
        if chosen.get("user"):
            user = self._entry("user", "users", str(chosen["user"]))
        for method in ("exec", "auth-provider", "username"):
            if user.get(method):
                raise ConfigError(f"user {chosen['user']!r}: {method} is not supported")
        server = str(cluster.get("server") or "")
        if not server.startswith(("https://", "http://")):
            raise ConfigError(f"cluster {chosen['cluster']!r}: server {server!r} is not a URL")
        if cluster.get("proxy-url"):
            raise ConfigError(f"cluster {chosen['cluster']!r}: proxy-url is not supported")
        return Access(
            server=server,
            ssl_context=self._tls(cluster, user) if server.startswith("https:") else None,
            token=self._token(user),
            server_hostname=str(cluster.get("tls-server-name") or ""),
            namespace=str(chosen.get("namespace") or ""),
        )

    def _entry(self, what: str, list_name: str, name: str) -> Object:
        entries = self._content.get(list_name) or []
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name:
                found = entry.get(what)
                if not isinstance(found, dict):
                    raise ConfigError(f"{what} {name!r} is empty")
                return found
        raise ConfigError(f"has no {what} {name!r}")

    def _tls(self, cluster: Object, user: Object) -> ssl.SSLContext:
        authority = self._data(cluster, "certificate-authority")
        context = _tls_step(
            "certificate-authority",
            lambda: ssl.create_default_context(
                cadata=authority.decode("ascii") if authority else None
            ),
        )
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = self._data(user, "client-certificate")
        key = self._data(user, "client-key")
        if bool(certificate) != bool(key):
            raise ConfigError("a client-certificate needs its client-key, and the other way round")
        if certificate and key:
            _tls_step("client-certificate", lambda: _load_pair(context, certificate, key))
        return context

    def _token(self, user: Object) -> str:
        if user.get("token"):
            return str(user["token"])
        if user.get("tokenFile"):
            return self._file("tokenFile", str(user["tokenFile"])).decode().strip()
        return ""

    def _data(self, entry: Object, field: str) -> bytes:
        """`FIELD-data` in base 64, or the content of the file that `FIELD` names; else nothing."""
        inline = entry.get(f"{field}-data")
        if inline:
            try:
                return base64.b64decode(str(inline), validate=True)
            except (binascii.Error, ValueError):
                raise ConfigError(f"{field}-data is not base 64") from None
        if entry.get(field):
            return self._file(field, str(entry[field]))
        return b""

    def _file(self, field: str, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{field}: {name}: {error.strerror}") from None


def _tls_step(field: str, step: Callable[[], T]) -> T:
    try:
        return step()
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{field}: is not valid PEM: {error}") from None


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads a pair from files only; this one is the owner's alone, and gone at once.
    with tempfile.NamedTemporaryFile(prefix="meshkube-") as file:
        file.write(key + b"\n" + certificate)
        file.flush()
        context.load_cert_chain(file.name)
