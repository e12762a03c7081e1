"""How cluster DNS comes to its answer for a name: for `meshkube dns query`. Pure.

It builds the very zone that the server builds, and asks it with the server's own code.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.dns import names, records, wire
from meshkube.dns.podnames import PodNames
from meshkube.dns.responder import Authority, Forward, respond
from meshkube.dns.settings import NAME, NAMESPACE, PORT, Server, Settings
from meshkube.dns.zone import Zone
from meshkube.dns.zonefeed import service_of

LARGEST = 4096
_DEFAULTS = Settings()
_NEVER = "/:@ \t\n"
"""In parts of URLs, and in no name that anybody has."""


class Step(NamedTuple):
    """One name that is asked for, and what comes of it."""

    name: str
    outcome: str
    """An rcode, `NODATA` or `forwarded`."""
    why: str
    answers: tuple[str, ...] = ()

    @property
    def ends(self) -> bool:
        """Whether a resolver stops at this name of its search list."""
        return bool(self.answers) or self.outcome == "forwarded"


class World:
    """The zone of a cluster, and which Service each of its names comes from."""

    def __init__(
        self,
        services: Iterable[Object],
        slices: Iterable[Object],
        *,
        domain: str,
        networks: Sequence[str],
        address: str,
        settings: Settings = _DEFAULTS,
        namespaces: Container[str] | None = None,
    ) -> None:
        """`address` is that of cluster DNS; `networks` are those of Services and pods;
        `namespaces` are None where they may not be read."""
        self._authority = Authority.of(domain, networks, settings.ttl)
        self._domain = domain
        self._settings = settings
        self._pods = PodNames(domain)
        # Whether a pod has the address is not asked here.
        self._pods.mode = "disabled" if settings.pods == "disabled" else "insecure"
        self._pods.namespaces = namespaces
        self._zone = Zone(pods=self._pods)
        self._owners: dict[bytes, str] = {}
        self._services: set[str] = set()
        """Those that have records."""
        self._zone.replace("", records.apex_records(domain, address))
        self._add_hosts(settings)
        by_service: dict[str, list[Object]] = {}
        for piece in slices:
            by_service.setdefault(service_of(piece), []).append(piece)
        for service in services:
            self._add(service, by_service.get(meta.key(service), []))

    def _add(self, service: Object, slices: list[Object]) -> None:
        try:
            found = records.service_records(service, slices, self._domain)
        except ValueError:
            return
        self._zone.replace(meta.key(service), found)
        if found:
            self._services.add(meta.key(service))
        for record in found:
            self._owners.setdefault(record.name, _described(service))

    def _add_hosts(self, settings: Settings) -> None:
        found = records.host_records(settings.hosts)
        self._zone.replace("hosts", found)
        for record in found:
            self._owners.setdefault(record.name, f"ConfigMap {NAMESPACE}/{NAME}, hosts")

    def ask(self, name: str, type: str) -> Step:
        """One question. Raises `ValueError` for a name or type that DNS does not know."""
        try:
            kind = dns.rdatatype.from_text(type)
        except dns.rdatatype.UnknownRdatatype:
            raise ValueError(f"{type!r} is no type of record") from None
        encoded = names.encode(name)
        question = dns.message.make_query(dns.name.from_text(name), kind)
        query = wire.read(question.to_wire())
        result = respond(self._zone, self._authority, query, LARGEST)
        if isinstance(result, Forward):
            why = f"no zone of this cluster holds it: {self._asked(result.target)}"
            if result.chain:
                target = names.decode(result.target)
                why = f"{self._owner(encoded)} is an alias of {target}: {self._asked(encoded)}"
            return Step(name, "forwarded", why)
        message = dns.message.from_wire(result.messages[0])
        rcode = dns.rcode.to_text(message.rcode())
        answers = tuple(
            str(line) for rrset in message.answer for line in rrset.to_text().splitlines()
        )
        if rcode == "NOERROR" and not answers:
            return Step(name, "NODATA", self._nothing(encoded, type))
        why = self._owner(encoded) if answers else self._missing(encoded)
        return Step(name, rcode, why, answers)

    def walk(self, name: str, type: str, search: Sequence[str], ndots: int = 5) -> list[Step]:
        """As a pod's resolver asks (resolv.conf(5)): names with fewer dots than `ndots` go through
        the search list first; the first that ends it is the last step."""
        steps = []
        for candidate in candidates(name, search, ndots):
            steps.append(self.ask(candidate, type))
            if steps[-1].ends:
                break
        return steps

    def _asked(self, name: bytes) -> str:
        """Who is asked about a name that is not ours."""
        stubs = self._settings.stub_domains
        for domain in sorted(stubs, key=len, reverse=True):
            if names.within(name, names.encode(domain)):
                return f"{_listed(stubs[domain])} is asked (stub domain {domain})"
        if self._settings.upstreams is not None:
            return f"{_listed(self._settings.upstreams)} is asked"
        return "an upstream server is asked"

    def _owner(self, name: bytes) -> str:
        if name not in self._owners and names.within(name, self._pods.apex):
            return f"a pod's name is its address (pods: {self._settings.pods})"
        return self._owners.get(name, "the cluster's zone itself")

    def _nothing(self, name: bytes, type: str) -> str:
        owner = self._owners.get(name)
        if owner is None:
            return "the name exists only because of names below it"
        return f"{owner} has no {type.upper()} record"

    def _missing(self, name: bytes) -> str:
        labels = names.decode(name).split(".")
        domain = self._domain.split(".")
        if labels[-len(domain) - 1 :] != ["svc", *domain] or len(labels) < len(domain) + 3:
            return "the cluster has no such name"
        namespace, service = labels[-len(domain) - 2], labels[-len(domain) - 3]
        key = f"{namespace}/{service}"
        if key in self._services:
            return f"Service {key} has no such endpoint or port"
        return f"there is no Service {key}, or it is headless and has no ready endpoint"


def question(text: str, type: str = "") -> tuple[str, str]:
    """The name and type that a user means: of an address, whose it is. Raises `ValueError` for what
    is no name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if not text or set(text) & set(_NEVER):
            raise ValueError(f"{text!r} is no name such as web, web.shop or example.org") from None
        return text, type or "A"
    return (text, type) if type else (f"{address.reverse_pointer}.", "PTR")


def candidates(name: str, search: Sequence[str], ndots: int) -> list[str]:
    """The names that a resolver tries, in order."""
    if name.endswith("."):
        return [name.rstrip(".")]
    expanded = [f"{name}.{domain}" for domain in search]
    return [name, *expanded] if name.count(".") >= ndots else [*expanded, name]


def pod_search(namespace: str, domain: str) -> list[str]:
    """The search list of a pod with the DNS policy ClusterFirst."""
    return [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]


def _listed(servers: Iterable[Server]) -> str:
    return ", ".join(host if port == PORT else f"{host}:{port}" for host, port in servers)


def _described(service: Object) -> str:
    spec = service.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if spec.get("clusterIP") == "None":
        kind = "headless"
    return f"Service {meta.key(service)} ({kind})"
