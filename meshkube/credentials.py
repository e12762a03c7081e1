"""The keys and certificates of one server, kept in `<data-dir>/pki`, and the admin kubeconfig.

Made on the first start. A certificate is made again when most of its life is over or when the
host's names change; the CA stays, so clients keep trusting the cluster.
"""

from __future__ import annotations

import base64
import itertools
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from meshkube import pki
from meshkube.config import ConfigError

RENEW_WITH = 0.3
"""Of its life: with no more than that left, a certificate is made again."""
ADMIN_GROUP = "system:masters"
CA = "ca.crt"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The cluster CA and what it signed for this host."""

    directory: Path
    ca: pki.Pair
    api_server: pki.Pair
    """Serves the API."""
    api_client: pki.Pair
    """The API server's own, towards node agents."""
    node_server: pki.Pair
    """Serves the node agent's logs and exec."""
    admin: pki.Pair
    """In the kubeconfig: a member of `system:masters`."""
    token_keys: tuple[bytes, ...]
    """PEM. The first signs service-account tokens; those of all are accepted."""

    @property
    def ca_file(self) -> Path:
        return self.directory / CA

    def renew_at(self) -> datetime:
        """When the first of the certificates is due to be made again."""
        return min(_due(pair) for pair in self.own())

    def own(self) -> tuple[pki.Pair, ...]:
        """What the CA signed for this host."""
        return self.api_server, self.api_client, self.node_server, self.admin

    def load_into(self, context: ssl.SSLContext, name: str) -> None:
        """Has a context show the pair `name` as it is now, from the next connection on."""
        context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def server_context(self, name: str, *, require_client: bool) -> ssl.SSLContext:
        """TLS for a listener with the pair `name`; clients may (or must) show a certificate of the
        cluster CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context, name)
        context.load_verify_locations(self.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
        return context

    def client_context(self, name: str) -> ssl.SSLContext:
        """TLS for a client that trusts the cluster CA and shows the pair `name`."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        self.load_into(context, name)
        return context


def authority(directory: Path) -> pki.Pair:
    """The cluster's CA in `directory`; a new one where there is none."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    try:
        return pki.load(directory / "ca")
    except FileNotFoundError:
        if (directory / CA).exists():
            raise ConfigError(
                f"--data-dir: {directory.parent} belongs to a host that has joined a cluster: give"
                " another one, or --join and a server's token, or `meshkube reset` it"
            ) from None
    made = pki.new_authority("meshkube-ca")
    pki.save(made, directory / "ca")
    return made


def ensure(
    directory: Path,
    *,
    node_name: str,
    addresses: list[str],
    domain: str,
    life: timedelta = pki.LIFE,
) -> Credentials:
    """The credentials in `directory`, made or renewed where needed. `addresses` are those by which
    clients reach this host, and the Service address of the API; `life` is that of new ones."""
    ca = authority(directory)
    api_names = [
        "localhost",
        node_name,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{domain}",
        "127.0.0.1",
        *addresses,
    ]
    node_names = ["localhost", node_name, "127.0.0.1", *addresses]

    def pair(name: str, user: str, group: str, names: list[str]) -> pki.Pair:
        def make() -> pki.Pair:
            return pki.issue(
                ca, user, organizations=[group] if group else [], names=names, life=life
            )

        return _kept(directory / name, frozenset(names), make, life)

    return Credentials(
        directory=directory,
        ca=ca,
        api_server=pair("api-server", "kube-apiserver", "", api_names),
        api_client=pair("api-client", "kube-apiserver-kubelet-client", ADMIN_GROUP, []),
        node_server=pair("node-server", f"system:node:{node_name}", "system:nodes", node_names),
        admin=pair("admin", "meshkube-admin", ADMIN_GROUP, []),
        token_keys=_token_keys(directory),
    )


FRONT_PROXY_CA, FRONT_PROXY = "front-proxy-ca", "front-proxy-client"


def ensure_front_proxy(directory: Path) -> pki.Pair:
    """What this server shows to extension API servers, in `front-proxy-client.*`, and the
    authority that signed it (returned), which signs nothing else and is of this server alone."""
    try:
        authority = pki.load(directory / FRONT_PROXY_CA)
        if not pki.belong_together(authority) or datetime.now(UTC) >= _due(authority):
            raise FileNotFoundError
    except FileNotFoundError:
        authority = pki.new_authority("meshkube-front-proxy-ca")
        pki.save(authority, directory / FRONT_PROXY_CA)
        (directory / f"{FRONT_PROXY}.crt").unlink(missing_ok=True)
    life = pki.remaining(authority.certificate)

    def make() -> pki.Pair:
        return pki.issue(authority, FRONT_PROXY, life=life)

    # As long as its authority, whose key lies beside it: nothing is won by a shorter life.
    _kept(directory / FRONT_PROXY, frozenset(), make, pki.LIFE)
    return authority


TOKEN_KEY = "service-account"


def _token_keys(directory: Path) -> tuple[bytes, ...]:
    """`service-account.key` signs; public keys beside it (`service-account-*.pub`) are of keys that
    signed before."""
    path = directory / f"{TOKEN_KEY}.key"
    if not path.exists():
        pki.write_private(path, pki.new_key())
    old = sorted(directory.glob(f"{TOKEN_KEY}-*.pub"))
    return (path.read_bytes(), *(one.read_bytes() for one in old))


def keep_token_keys(directory: Path, signing: bytes, old: Iterable[bytes]) -> None:
    """The keys of another server of the cluster: the one that signs, and public ones that are
    accepted. PEM."""
    for stale in directory.glob(f"{TOKEN_KEY}-*.pub"):
        stale.unlink()
    for number, public in enumerate(old, 1):
        pki.write_private(directory / f"{TOKEN_KEY}-{number:04}.pub", public)
    pki.write_private(directory / f"{TOKEN_KEY}.key", signing)


def rotate_token_key(directory: Path) -> None:
    """A new key signs from the next start on; tokens of the one before stay good until they end.
    Remove its `.pub` after that, or at once to make them worthless."""
    path = directory / f"{TOKEN_KEY}.key"
    if path.exists():
        public = pki.public_key(path.read_bytes())
        taken = {one.name for one in directory.glob(f"{TOKEN_KEY}-*.pub")}
        numbers = (f"{TOKEN_KEY}-{number:04}.pub" for number in itertools.count(1))
        name = next(name for name in numbers if name not in taken)
        pki.write_private(directory / name, public)
    pki.write_private(path, pki.new_key())


def _due(pair: pki.Pair) -> datetime:
    start, end = pki.validity(pair.certificate)
    return end - (end - start) * RENEW_WITH


def _kept(
    stem: Path, names: frozenset[str], make: Callable[[], pki.Pair], life: timedelta
) -> pki.Pair:
    try:
        pair = pki.load(stem)
        good_for = pki.alternative_names(pair.certificate)
        fresh = datetime.now(UTC) < _due(pair) and (
            pki.remaining(pair.certificate) > life * RENEW_WITH
        )
        # They are two files: a crash may have left the key of one pair beside the other's.
        if fresh and names <= good_for and pki.belong_together(pair):
            return pair
    except FileNotFoundError:
        pass
    pair = make()
    pki.save(pair, stem)
    return pair


def write_kubeconfig(path: Path, credentials: Credentials, server: str) -> None:
    """The admin's kubeconfig, complete in one file that only its owner may read."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "meshkube",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _base64(credentials.ca.certificate),
                },
            }
        ],
        "users": [
            {
                "name": "meshkube-admin",
                "user": {
                    "client-certificate-data": _base64(credentials.admin.certificate),
                    "client-key-data": _base64(credentials.admin.key),
                },
            }
        ],
        "contexts": [
            {"name": "meshkube", "context": {"cluster": "meshkube", "user": "meshkube-admin"}}
        ],
        "current-context": "meshkube",
    }
    pki.write_private(path, yaml.safe_dump(content, sort_keys=False).encode())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
