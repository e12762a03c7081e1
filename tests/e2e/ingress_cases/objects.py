"""What the cases stand on in the API: Services over the pods, Secrets, and Ingresses with a fault
that an Event must name."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meshkube import pki
from meshkube.ingress.certificates import load_pair
from tests.e2e.ingress_cases.case import CASES, PREFIX, annotated
from tests.e2e.ingress_cases.pods import Running
from tests.ingress.test_client_auth import rsa_pair
from tests.support.ingress import endpoint, ingress, ingress_class, path, service, slice_

Object = dict[str, Any]
SERVICES = {
    "web": ("p1", "p2", "p3"),
    # What happens to these must not be seen by other cases, whose requests are under way meanwhile.
    "frail": ("frail-1", "frail-2", "frail-3"),
    "few": ("few-1", "few-2", "few-3"),
    "slow": ("slow-1", "slow-2"),
    "late": ("late",),
    "ill": ("ill-1", "ill-2"),
    "worse": ("worse-1", "worse-2"),
    "other": ("p4",),
    "one": ("one",),
    "two": ("two",),
    "tls": ("tls",),
    "grpc": ("grpc",),
    "grpcs": ("grpcs",),
    "full": ("full",),
    "none": (),
}
SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="


@dataclass(frozen=True, slots=True)
class Keys:
    """Authorities and certificates of one run."""

    site: pki.Pair
    pods: pki.Pair
    clients: pki.Pair
    file: Path
    """A client's certificate and key; `deep.pem` beside it holds one of an authority below."""

    @classmethod
    def made(cls, directory: Path) -> Keys:
        site, pods, clients = (pki.new_authority(name) for name in ("site", "pods", "clients"))
        ann = pki.issue(clients, "ann")
        file = directory / "client.pem"
        file.write_bytes(ann.certificate + ann.key)
        (directory / "deep.pem").write_bytes(ann.certificate + ann.key)
        return cls(site, pods, clients, file)

    def pod_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_pair(context, pki.issue(self.pods, "pod.test", names=["pod.test"]))
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def secret(name: str, type: str = "Opaque", **data: bytes | str) -> Object:
    raw = {k.replace("_", "."): v.encode() if isinstance(v, str) else v for k, v in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": type,
        "metadata": {"name": name, "namespace": "shop"},
        "data": {key: base64.b64encode(value).decode() for key, value in raw.items()},
    }


def secrets(keys: Keys, *more: str) -> list[Object]:
    """`more` are further hosts of the certificate that all cases share."""
    names = [*(case.host for case in CASES.values() if case.tls), *more]
    site = pki.issue(keys.site, names[0], names=names)
    now = datetime.now(UTC)
    late = rsa_pair("late.test", life=(now - timedelta(days=80), now + timedelta(days=5)))
    short = {"tls_crt": late.certificate, "tls_key": late.key}
    return [
        secret("site", "kubernetes.io/tls", tls_crt=site.certificate, tls_key=site.key),
        secret("late", "kubernetes.io/tls", **short),
        secret("broken", "kubernetes.io/tls", tls_crt="nonsense", tls_key="nonsense"),
        secret("pods", ca_crt=keys.pods.certificate),
        secret("clients", ca_crt=keys.clients.certificate),
        secret("users", auth=f"ann:{SHA}\n"),
        secret("user-keys", ann=SHA),
        secret("no-users", other="x"),
    ]


def services(pods: Running) -> list[Object]:
    found: list[Object] = [ingress_class(), ingress_class("another", ours=False)]
    for name, members in SERVICES.items():
        made = service(name, [{"name": "web", "port": 80}])
        del made["spec"]["selector"]
        found.append(made)
        for pod in members:
            at = [endpoint(pods.address)]
            found.append(slice_(name, at, pods.ports[pod], name=f"{name}-{pod}", port_name="web"))
    own = service("own-address", [{"name": "web", "port": pods.ports["p1"]}])
    del own["spec"]["selector"]
    own["spec"]["clusterIP"] = pods.address
    gone = slice_("own-address", [endpoint(pods.address)], pods.ports["gone"], port_name="web")
    return [*found, own, gone]


def _faulty(name: str, given: dict[str, str] | None = None, **more: Any) -> Object:
    rules = more.pop("rules", {f"{name}.test": [path("/", "web")]})
    return ingress(name, rules, annotations=annotated(given or {}), **more)


def _tls(name: str) -> list[Object]:
    return [{"hosts": [f"{name}.test"], "secretName": name}]


# Ingress -> the Event that must name its fault, and a part of what that says.
FAULTS: dict[str, tuple[Object, str, str]] = {
    "younger": (
        _faulty("younger", rules={"app-root.test": [path("/", "other")]}),
        "Conflict",
        "app-root",
    ),
    "absent": (_faulty("absent", tls=_tls("absent")), "CertificateUnusable", "shop/absent"),
    "broken": (_faulty("broken", tls=_tls("broken")), "CertificateUnusable", "shop/broken"),
    "late": (_faulty("late", tls=_tls("late")), "CertificateExpiring", "shop/late"),
    "mirror": (
        _faulty("mirror", {"mirror-target": "https://x"}),
        "AnnotationUnsupported",
        f"{PREFIX}mirror-target is not supported",
    ),
    "snippet": (
        _faulty("snippet", {"configuration-snippet": "return 200;"}),
        "AnnotationUnsupported",
        f"{PREFIX}configuration-snippet is not supported",
    ),
    "value": (
        _faulty("value", {"app-root": "home"}),
        "AnnotationUnsupported",
        f"{PREFIX}app-root: 'home' is not a path",
    ),
    "regex": (
        _faulty(
            "regex",
            {"use-regex": "true"},
            rules={"regex.test": [path("/v[0-9]+", "web", "ImplementationSpecific")]},
        ),
        "PathUnsupported",
        "/v[0-9]+",
    ),
    "nobody": (
        _faulty("nobody", rules={"nobody.test": [path("/", "nobody")]}),
        "BackendMissing",
        "shop/nobody",
    ),
    "canary-alone": (
        _faulty("canary-alone", {"canary": "true", "canary-weight": "5"}),
        "CanaryUnused",
        "",
    ),
    "unguarded": (
        _faulty("unguarded", {"auth-type": "basic", "auth-secret": "no-users"}),
        "AuthSecretUnusable",
        "shop/no-users",
    ),
}
