"""The table of routes: what host and path lead to which Service port. Pure.

Every change is applied in place and costs what the changed object holds: an Ingress its own paths,
a Service or slice the backends of that Service. A lookup costs one dictionary get per element of
the longest path known for the host.

Precedence (Kubernetes' "Ingress" page, "Multiple matches" and "Hostname wildcards"): an exact
host, then a wildcard, then rules without a host; within each the longest path, Exact before
Prefix. Where two Ingresses claim the same host and path, the older one has it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.annotations import PLAIN, Policy, policy
from meshkube.ingress.backends import FIRST, Address, Backend, PortRef, resolve
from meshkube.ingress.client_auth import ClientAuth, client_auth
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.pod_annotations import via
from meshkube.ingress.rewriting import Captures
from meshkube.ingress.rules import (
    BackendRef,
    PathType,
    Row,
    TlsRow,
    further_rows,
    is_ours,
    most_exact,
    owned_classes,
    prefix_key,
    rows,
    tls_hosts,
    tls_rows,
)
from meshkube.ingress.stats import RouteStats
from meshkube.ingress.via import Via

_HOSTS_KEPT = 1024
_LAST = "~~"
"""Younger than every Ingress: what stands back behind any rule."""
_Port: TypeAlias = tuple[PortRef, Via | None, bool]
"""Of a Service, how an Ingress wants its pods spoken to, and whether by the Service's address."""
_Place: TypeAlias = tuple[str, PathType, str]
"""Host, type and path of a rule."""
SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(slots=True, eq=False)
class Route:
    """Where a request goes, and all that an error message needs to say why it could not."""

    ingress: str
    """`namespace/name`"""
    host: str
    path: str
    type: PathType
    backend: Backend
    age: tuple[str, str]
    """Creation time and key: the smaller one wins a conflict."""
    stats: RouteStats
    policy: Policy | None = None
    """None for plain proxying, and that is quicker."""
    captures: Captures | None = None
    own: Policy = PLAIN
    """What its own Ingress asks for: `policy`, but for canaries."""
    canaries: tuple[Route, ...] = ()
    """Routes of canary Ingresses that take a share of the requests, oldest first."""
    fallback: Route | None = None
    """The same rule with the backend of `default-backend`."""

    @property
    def rule(self) -> str:
        host = self.host or "*"
        return f"{host} default backend" if self.type == "Default" else f"{host}{self.path}"

    def __lt__(self, other: Route) -> bool:
        return self.age < other.age


@dataclass(frozen=True, slots=True)
class Miss:
    """No rule takes the request; `reason` says what came closest."""

    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """`loser` asks for what the older `winner` has (both `namespace/name`)."""

    loser: str
    winner: str
    host: str
    path: str


@dataclass(slots=True)
class _Host:
    """The paths of one host. Each holds its claims, oldest first; the first is the route."""

    exact: dict[str, list[Route]] = field(default_factory=dict)
    prefix: dict[str, list[Route]] = field(default_factory=dict)
    default: list[Route] = field(default_factory=list)
    depth: int = 0
    """Elements of the longest prefix so far: no deeper part of a request's path can match."""

    def claims(self, type: PathType, path: str) -> list[Route]:
        if type == "Exact":
            return self.exact.setdefault(path, [])
        if type == "Prefix":
            key = prefix_key(path)
            self.depth = max(self.depth, key.count("/"))
            return self.prefix.setdefault(key, [])
        return self.default

    def held(self, type: PathType, path: str) -> list[Route]:
        """The claims for a path as they stand; nothing is made for one without."""
        if type == "Exact":
            return self.exact.get(path, [])
        return self.prefix.get(prefix_key(path), []) if type == "Prefix" else self.default

    def forget(self, route: Route) -> None:
        if route.type == "Default":
            self.default.remove(route)
            return
        paths, key = (
            (self.exact, route.path)
            if route.type == "Exact"
            else (self.prefix, prefix_key(route.path))
        )
        paths[key].remove(route)
        if not paths[key]:
            del paths[key]

    def find(self, path: str) -> Route | None:
        claims = self.exact.get(path)
        if claims:
            return claims[0]
        if not self.prefix:
            return None
        elements = path.split("/", self.depth + 1)
        if len(elements) > self.depth + 1:
            elements.pop()
        head = "/".join(elements)
        while True:
            claims = self.prefix.get(head)
            if claims:
                return claims[0]
            if not head:
                return None
            head = head[: head.rindex("/")] if "/" in head else ""

    @property
    def empty(self) -> bool:
        return not (self.exact or self.prefix or self.default)


@dataclass(slots=True)
class _Entry:
    """An Ingress of ours as it stands in the table."""

    object: Object
    routes: list[Route]
    tls: list[TlsRow]
    client_auth: ClientAuth | None = None
    guards: tuple[str, ...] = ()
    """Secrets that say who is let in."""


class RouteTable:
    """The routes of every Ingress that is ours, kept up to date object by object."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._known_hosts: dict[str, list[_Host]] = {}
        """Which of them a request for a host may meet. Emptied when a rule changes."""
        self._classes: dict[str, Object] = {}
        self._ingresses: dict[str, Object] = {}
        self._entries: dict[str, _Entry] = {}
        self._backends: dict[str, dict[_Port, tuple[Backend, dict[Route, None]]]] = {}
        self._services: dict[str, Object] = {}
        self._slices: dict[str, dict[str, Object]] = {}
        self._canaries: dict[_Place, list[Route]] = {}
        self._owned: tuple[frozenset[str], bool] = (frozenset(), False)
        self._always_policy = False
        self.remembered: dict[tuple[bytes, bytes], Route | Miss] = {}
        """For whoever looks up the same again and again. Emptied when a rule changes; a change of
        endpoints leaves routes as they are."""
        self._names: dict[str, Sequence[str]] = {}
        self.names_changed: Callable[[], None] = _nothing
        """Told that there may be a new external name."""
        self.left: Callable[[Backend, frozenset[Address]], None] | None = None
        """Told at once which addresses of a backend do not serve any longer."""

    # Changes

    def set_ingress(self, key: str, ingress: Object | None) -> None:
        """An Ingress was made or changed, or (None) deleted."""
        if ingress is None:
            self._ingresses.pop(key, None)
        else:
            self._ingresses[key] = ingress
        self._place(key, ingress)

    def set_class(self, name: str, ingress_class: Object | None) -> None:
        """An IngressClass was made or changed, or (None) deleted."""
        if ingress_class is None:
            self._classes.pop(name, None)
        else:
            self._classes[name] = ingress_class
        owned = owned_classes(self._classes.values())
        if owned == self._owned:
            return
        self._owned = owned
        for key, ingress in self._ingresses.items():
            self._place(key, ingress)

    def set_service(self, key: str, service: Object | None) -> None:
        """A Service was made or changed, or (None) deleted."""
        if service is None:
            self._services.pop(key, None)
        else:
            self._services[key] = service
        self._resolve(key)

    def set_slice(self, key: str, old: Object | None, new: Object | None) -> None:
        """An EndpointSlice was made or changed, or (`new` None) deleted."""
        before, after = _service_of(old), _service_of(new)
        if before and before != after:
            self._slices.get(before, {}).pop(key, None)
            self._resolve(before)
        if after and new is not None:
            self._slices.setdefault(after, {})[key] = new
            self._resolve(after)

    def want_policies(self) -> None:
        """Gives every route a policy, from now on: something is to be done with all requests."""
        self._always_policy = True
        for key, ingress in self._ingresses.items():
            self._place(key, ingress)

    def set_name(self, name: str, addresses: Sequence[str]) -> None:
        """An external name has these addresses now."""
        if self._names.get(name) == addresses:
            return
        self._names[name] = addresses
        for backend in self._all_backends():
            if backend.external == name:
                self._resolve_one(backend)

    # Lookups

    def match(self, host: str, path: str) -> Route | Miss:
        """The route of a request: `host` in lower case without port, `path` as `paths.normal`
        makes it."""
        candidates = self._known_hosts.get(host)
        if candidates is None:
            candidates = self._candidates(host)
            if len(self._known_hosts) >= _HOSTS_KEPT:
                self._known_hosts.clear()
            self._known_hosts[host] = candidates
        for candidate in candidates:
            route = candidate.find(path)
            if route is not None:
                return route
        for candidate in candidates:
            if candidate.default:
                return candidate.default[0]
        if not self._entries:
            return Miss("there is no Ingress of class meshkube yet")
        if candidates:
            return Miss(f"no path of host {host or '*'} matches {path}")
        return Miss(f"no Ingress has a rule for host {host or '(none given)'}")

    def _candidates(self, host: str) -> list[_Host]:
        hosts = self._hosts
        found = [hosts[host]] if host and host in hosts else []
        # A wildcard stands for exactly one label.
        dot = host.find(".")
        if dot > 0 and (wildcard := hosts.get("*" + host[dot:])) is not None:
            found.append(wildcard)
        if (anyone := hosts.get("")) is not None:
            found.append(anyone)
        return found

    def has_host(self, host: str) -> bool:
        """Whether any rule is for this very host (not a wildcard)."""
        return host in self._hosts

    @property
    def routes(self) -> Iterable[Route]:
        """Every route, also those that an older Ingress keeps from being used."""
        return (route for entry in self._entries.values() for route in entry.routes)

    @property
    def ingresses(self) -> list[str]:
        """The keys of the Ingresses that are ours."""
        return list(self._entries)

    def ingress(self, key: str) -> Object | None:
        """An Ingress, where it is ours."""
        entry = self._entries.get(key)
        return entry.object if entry else None

    def tls(self) -> dict[str, HostTls]:
        """What each host wants of TLS. The oldest Ingress decides; further Secrets count, for other
        kinds of keys, from Ingresses of its own namespace. An entry without hosts is for the hosts
        of its Ingress' rules."""
        chosen: dict[str, list[str]] = {}
        demands: dict[str, ClientAuth] = {}
        for entry in sorted(self._entries.values(), key=lambda e: _age(e.object)):
            own = tuple(dict.fromkeys(route.host for route in entry.routes))
            for row in entry.tls:
                for host in row.hosts or own:
                    secrets = chosen.setdefault(host, [row.secret])
                    if row.secret not in secrets and _same_namespace(row.secret, secrets[0]):
                        secrets.append(row.secret)
            if entry.client_auth is not None:
                for host in own:
                    demands.setdefault(host, entry.client_auth)
        found = {host: HostTls(tuple(secrets)) for host, secrets in chosen.items()}
        for host, auth in demands.items():
            name = most_exact(host, chosen)
            found[host] = HostTls(tuple(chosen[name]) if name is not None else (), auth)
        return found

    def users_of_secret(self, secret: str) -> list[Object]:
        """The Ingresses whose `tls`, or whose demand for certificates, names this Secret."""
        return [
            entry.object
            for entry in self._entries.values()
            if any(row.secret == secret for row in entry.tls)
            or secret in entry.guards
            or (entry.client_auth is not None and entry.client_auth.secret == secret)
        ]

    def service(self, key: str) -> Object | None:
        """A Service by `namespace/name`."""
        return self._services.get(key)

    def conflicts(self, key: str) -> list[Conflict]:
        """What this Ingress asks for and an older one has, with another backend."""
        found = []
        for route in self.routes_of(key):
            claims = self._claims(route)
            if not claims or route.own.canary is not None or route.own.redirect_to_other:
                continue
            winner = claims[0]
            if winner.ingress != key and winner.backend is not route.backend:
                found.append(Conflict(key, winner.ingress, route.host, route.path))
        return found

    def rivals(self, key: str) -> set[str]:
        """Other Ingresses that ask for a host and path this one asks for."""
        return {
            claim.ingress
            for route in self.routes_of(key)
            for claim in (*self._claims(route), *self._canaries.get(_place(route), ()))
        } - {key}

    def routes_of(self, key: str) -> list[Route]:
        """The routes of one Ingress; empty where it is not ours."""
        return list(self._entries[key].routes) if key in self._entries else []

    def idle_canaries(self, key: str) -> list[Route]:
        """The routes of a canary Ingress that stand beside no rule, and so take nothing."""
        return [
            route
            for route in self.routes_of(key)
            if route.own.canary is not None
            and not any(route in claim.canaries for claim in self._claims(route)[:1])
        ]

    def external_names(self) -> set[str]:
        """The names of Services of type ExternalName that rules lead to."""
        return {backend.external for backend in self._all_backends()} - {""}

    def _all_backends(self) -> Iterable[Backend]:
        return (backend for ports in self._backends.values() for backend, _ in ports.values())

    def services_of(self, key: str) -> set[str]:
        """The Services that the rules of one Ingress lead to."""
        routes = self.routes_of(key)
        fallbacks = [route.fallback for route in routes if route.fallback is not None]
        return {route.backend.key for route in (*routes, *fallbacks)}

    def ingresses_of_service(self, key: str) -> set[str]:
        """The Ingresses with a rule for this Service."""
        ports = self._backends.get(key, {}).values()
        return {route.ingress for _, routes in ports for route in routes}

    # The inside

    def _place(self, key: str, ingress: Object | None) -> None:
        if ingress is not None and not is_ours(ingress, *self._owned):
            ingress = None
        old = self._entries.pop(key, None)
        if old is None and ingress is None:
            return
        self.remembered.clear()
        kept = {_identity(route): route.stats for route in old.routes} if old else {}
        touched = {_place(route) for route in old.routes} if old else set()
        if ingress is not None:
            auth = client_auth(meta.annotations(ingress), meta.namespace(ingress))[0]
            entry = _Entry(ingress, [], tls_rows(ingress), auth)
            self._entries[key] = entry
            asked = policy(meta.annotations(ingress))
            if asked.basic_auth is not None:
                entry.guards = (f"{meta.namespace(ingress)}/{asked.basic_auth.secret}",)
            found = rows(ingress)
            for row in (*found, *further_rows(found, asked)):
                entry.routes.append(self._claim(key, ingress, row, asked, kept))
            touched.update(map(_place, entry.routes))
        for route in old.routes if old else ():
            self._forget(route)
        for place in touched:
            self._link(place)
        self._known_hosts.clear()

    def _claim(
        self, key: str, ingress: Object, row: Row, asked: Policy,
        kept: Mapping[tuple[str, ...], RouteStats],
    ) -> Route:  # fmt: skip
        space = meta.namespace(ingress)
        how = via(meta.annotations(ingress), space)[0]
        backend = self._backend(space, row.backend, how, asked.through_service)
        path = "(default)" if row.type == "Default" else row.path
        stats = RouteStats(key, row.host, path, str(backend))
        route = Route(key, row.host, row.path, row.type, backend, _age(ingress), stats)
        route.stats = kept.get(_identity(route), stats)
        route.own = asked if asked is PLAIN else _for_row(asked, ingress, row)
        route.captures = row.captures
        if row.redirect:
            route.age = (_LAST, key)
        self._use(route)
        if asked.fallback:
            ref = BackendRef(asked.fallback, FIRST)
            backend = self._backend(space, ref, None, False)
            route.fallback = replace(route, backend=backend)
            self._use(route.fallback)
        if asked.canary is not None:
            insort(self._canaries.setdefault(_place(route), []), route)
        else:
            insort(self._hosts.setdefault(row.host, _Host()).claims(row.type, row.path), route)
        return route

    def _use(self, route: Route) -> None:
        backend = route.backend
        if backend.service:
            self._backends[backend.key][_port(backend)][1][route] = None

    def _claims(self, route: Route) -> list[Route]:
        """Those for the host and path of a route, canaries apart."""
        host = self._hosts.get(route.host)
        return host.held(route.type, route.path) if host is not None else []

    def _link(self, place: _Place) -> None:
        """Brings the policies of a rule's routes up to date, and its canaries."""
        host = self._hosts.get(place[0])
        claims = host.held(place[1], place[2]) if host is not None else []
        canaries = tuple(self._canaries.get(place, ()))
        for route in claims:
            # Nobody takes a share of another namespace's requests.
            space = _namespace(route)
            beside = tuple(each for each in canaries if _namespace(each) == space)
            route.canaries = beside if route is claims[0] else ()
            plain = route.own == PLAIN and not route.canaries and not self._always_policy
            route.policy = None if plain else route.own
            if route.fallback is not None:
                route.fallback.policy = route.policy
        for canary in canaries:
            canary.policy = _as_canary(canary.own, claims[0].own if claims else PLAIN)

    def _backend(
        self, namespace: str, ref: BackendRef, how: Via | None, through_service: bool
    ) -> Backend:
        backend = Backend(namespace, ref.service, ref.port, through_service, asked=how)
        if not ref.service:
            backend.problem = f"the backend is {ref.other}, and only Services are served"
            backend.broken = True
            return backend
        ports = self._backends.setdefault(backend.key, {})
        port = _port(backend)
        if port not in ports:
            ports[port] = (backend, {})
            self._resolve_one(backend)
        return ports[port][0]

    def _forget(self, route: Route) -> None:
        if route.fallback is not None:
            self._disuse(route.fallback)
        self._disuse(route)
        if route.own.canary is not None:
            canaries = self._canaries[_place(route)]
            canaries.remove(route)
            if not canaries:
                del self._canaries[_place(route)]
            return
        host = self._hosts[route.host]
        host.forget(route)
        if host.empty:
            del self._hosts[route.host]

    def _disuse(self, route: Route) -> None:
        key, port = route.backend.key, _port(route.backend)
        held = self._backends.get(key, {}).get(port)
        if held is None or route not in held[1]:
            return
        del held[1][route]
        if not held[1]:
            del self._backends[key][port]
        if not self._backends[key]:
            del self._backends[key]

    def _resolve(self, key: str) -> None:
        for backend, _ in self._backends.get(key, {}).values():
            self._resolve_one(backend)

    def _resolve_one(self, backend: Backend) -> None:
        slices = self._slices.get(backend.key, {}).values()
        before = backend.external
        gone = resolve(backend, self._services.get(backend.key), slices, self._names)
        if backend.external and backend.external != before:
            self.names_changed()
        if gone and self.left is not None:
            self.left(backend, gone)


def compile(
    ingresses: Iterable[Object],
    classes: Iterable[Object],
    services: Iterable[Object],
    slices: Iterable[Object],
) -> RouteTable:
    """The table of a whole cluster at once."""
    table = RouteTable()
    for each in classes:
        table.set_class(meta.name(each), each)
    for each in services:
        table.set_service(meta.key(each), each)
    for each in slices:
        table.set_slice(meta.key(each), None, each)
    for each in ingresses:
        table.set_ingress(meta.key(each), each)
    return table


def _for_row(asked: Policy, ingress: Object, row: Row) -> Policy:
    """An Ingress' policy for one of its rules."""
    if row.redirect:
        target = f"$scheme://{row.redirect}$request_uri"
        return Policy(redirect=target, redirect_code=308, redirect_to_other=True)
    secured = asked.ssl_redirect and row.host in tls_hosts(ingress)
    return replace(
        asked,
        ssl_redirect=secured or asked.force_ssl_redirect,
        client_auth=client_auth(meta.annotations(ingress), meta.namespace(ingress))[0],
    )


def _as_canary(own: Policy, main: Policy) -> Policy:
    """A canary has the policy of its rule; how its pods are chosen is its own."""
    return replace(
        main,
        canary=own.canary,
        affinity=own.affinity or main.affinity,
        hash_by=own.hash_by or main.hash_by,
        balance=own.balance,
    )


def _namespace(route: Route) -> str:
    return route.ingress.partition("/")[0]


def _port(backend: Backend) -> _Port:
    return backend.port, backend.asked, backend.through_service


def _place(route: Route) -> _Place:
    path = prefix_key(route.path) if route.type == "Prefix" else route.path
    return route.host, route.type, path


def _service_of(piece: Object | None) -> str:
    if piece is None:
        return ""
    service = meta.labels(piece).get(SERVICE_LABEL)
    return f"{meta.namespace(piece)}/{service}" if service else ""


def _nothing() -> None:
    return


def _same_namespace(one: str, other: str) -> bool:
    return one.partition("/")[0] == other.partition("/")[0]


def _age(ingress: Object) -> tuple[str, str]:
    return str(meta.metadata(ingress).get("creationTimestamp") or "~"), meta.key(ingress)


def _identity(route: Route) -> tuple[str, ...]:
    return route.host, route.path, route.type, str(route.backend)
