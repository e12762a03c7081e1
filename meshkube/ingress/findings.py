"""What is wrong with an Ingress, for its Events; and the status it should have. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.annotations import policy, problems
from meshkube.ingress.client_auth import client_auth
from meshkube.ingress.passwords import NoUsers, users_of
from meshkube.ingress.pod_annotations import via
from meshkube.ingress.routes import RouteTable
from meshkube.ingress.rules import bad_expressions, tls_rows

EXPRESSIONS = "of expressions only a prefix with (/|$)(.*), /(.*), /?(.*) or (.*) after it is taken"


class Finding(NamedTuple):
    """One fault, as an Event says it."""

    reason: str
    message: str


def findings(
    table: RouteTable,
    key: str,
    ingress: Object,
    secrets: Mapping[str, str],
    expiring: Mapping[str, str] = MappingProxyType({}),
) -> frozenset[Finding]:
    """The faults of one Ingress of ours. `secrets` says what is wrong with which Secret, `expiring`
    which of the others will not be good for much longer. Pods that are not ready yet are no fault.
    """
    found = set()
    for conflict in table.conflicts(key):
        rule = f"{conflict.host or '*'}{conflict.path or ' (default backend)'}"
        message = f"{rule} already belongs to the older Ingress {conflict.winner}"
        found.add(Finding("Conflict", message))
    for route in table.routes_of(key):
        backends = [route.backend, *([route.fallback.backend] if route.fallback else [])]
        for backend in backends:
            if backend.broken:
                found.add(Finding("BackendMissing", f"{route.rule}: {backend.problem}"))
    for route in table.idle_canaries(key):
        message = f"{route.rule} is a canary of no rule: no other Ingress of its namespace has it"
        found.add(Finding("CanaryUnused", message))
    found |= {Finding("AnnotationUnsupported", each) for each in _annotations(ingress)}
    for path in bad_expressions(ingress):
        found.add(Finding("PathUnsupported", f"{path} is taken literally: {EXPRESSIONS}"))
    for secret in _certificates(ingress):
        if secret in secrets:
            found.add(Finding("CertificateUnusable", f"secret {secret} {secrets[secret]}"))
        elif secret in expiring:
            found.add(Finding("CertificateExpiring", f"secret {secret} {expiring[secret]}"))
    return frozenset(found)


def guard_findings(ingress: Object, secret: Callable[[str], Object | None]) -> frozenset[Finding]:
    """What is wrong with the Secret that holds an Ingress' users."""
    basic = policy(meta.annotations(ingress)).basic_auth
    if basic is None or not basic.secret:
        return frozenset()
    key = f"{meta.namespace(ingress)}/{basic.secret}"
    try:
        users_of(secret(key), basic.secret_type)
    except NoUsers as error:
        return frozenset({Finding("AuthSecretUnusable", f"secret {key} {error}")})
    return frozenset()


def _annotations(ingress: Object) -> Iterator[str]:
    """What is wrong with them."""
    annotations, namespace = meta.annotations(ingress), meta.namespace(ingress)
    yield from problems(annotations)
    yield from via(annotations, namespace)[1]
    yield from client_auth(annotations, namespace)[1]


def _certificates(ingress: Object) -> Iterator[str]:
    """The Secrets that the Ingress names, for servers' and clients' certificates."""
    yield from (row.secret for row in tls_rows(ingress))
    auth = client_auth(meta.annotations(ingress), meta.namespace(ingress))[0]
    if auth is not None and auth.secret:
        yield auth.secret


def load_balancer(addresses: Sequence[str]) -> Object:
    """`status.loadBalancer` for an ingress that answers at these addresses or host names."""
    return {"ingress": [_entry(address) for address in addresses]}


def has_status(ingress: Object, wanted: Object) -> bool:
    """Whether the Ingress' status says so already."""
    current = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return _names(current) == _names(wanted["ingress"])


def _names(entries: Sequence[Mapping[str, str]]) -> list[str]:
    return [str(entry.get("ip") or entry.get("hostname") or "") for entry in entries]


def _entry(address: str) -> dict[str, str]:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"hostname": address}
    return {"ip": address}
