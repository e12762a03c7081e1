"""The table of routes: what host and path lead to which Service port. Pure.

Every change is applied in place and costs what the changed object holds: an Ingress its own paths,
a Service or slice the backends of that Service. Where two Ingresses claim the same host and path,
the older one has it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.annotations import PLAIN, Policy, policy
from meshkube.ingress.backends import FIRST
from meshkube.ingress.client_auth import ClientAuth, client_auth
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.pod_annotations import via
from meshkube.ingress.route import Conflict, Miss, Place, Route
from meshkube.ingress.route_backends import RouteBackends
from meshkube.ingress.route_hosts import Hosts
from meshkube.ingress.route_lookup import RouteLookup
from meshkube.ingress.route_policies import as_canary, for_row
from meshkube.ingress.rules import (
    BackendRef,
    Row,
    TlsRow,
    further_rows,
    is_ours,
    most_exact,
    owned_classes,
    rows,
    tls_rows,
)
from meshkube.ingress.stats import RouteStats
from meshkube.ingress.strangers import Strangers

_LAST = "~~"
"""Younger than every Ingress: what stands back behind any rule."""


@dataclass(slots=True)
class _Entry:
    """An Ingress of ours as it stands in the table."""

    object: Object
    routes: list[Route]
    tls: list[TlsRow]
    client_auth: ClientAuth | None = None
    guards: tuple[str, ...] = ()
    """Secrets that say who is let in."""


class RouteTable(RouteBackends):
    """The routes of every Ingress that is ours, kept up to date object by object."""

    def __init__(self) -> None:
        super().__init__()
        self._hosts = Hosts()
        self._classes: dict[str, Object] = {}
        self._ingresses: dict[str, Object] = {}
        self._entries: dict[str, _Entry] = {}
        self._canaries: dict[Place, list[Route]] = {}
        self._owned: tuple[frozenset[str], bool] = (frozenset(), False)
        self._strangers = Strangers()
        self._always_policy = False
        self.lookup = RouteLookup(self._hosts.candidates, self.match)
        """For requests as they come."""

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

    def want_policies(self) -> None:
        """Gives every route a policy, from now on: something is to be done with all requests."""
        self._always_policy = True
        for key, ingress in self._ingresses.items():
            self._place(key, ingress)

    # Lookups

    def match(self, host: str, path: str) -> Route | Miss:
        """The route of a request: `host` in lower case without port, `path` as `paths.normal`
        makes it."""
        found = self._hosts.match(host, path)
        if isinstance(found, Miss):
            return self._missed(found, host)
        return found

    def _missed(self, miss: Miss, host: str) -> Miss:
        reason = miss.reason if self._entries else "there is no Ingress of class meshkube yet"
        others = self._strangers.words(host)
        return Miss(f"{reason}; {others}" if others else reason)

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

    def conflicts(self, key: str) -> list[Conflict]:
        """What this Ingress asks for and an older one has, with another backend."""
        found = []
        for route in self.routes_of(key):
            claims = self._hosts.claims(route.place)
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
            for claim in (
                *self._hosts.claims(route.place),
                *self._canaries.get(route.place, ()),
            )
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
            and not any(route in claim.canaries for claim in self._hosts.claims(route.place)[:1])
        ]

    def services_of(self, key: str) -> set[str]:
        """The Services that the rules of one Ingress lead to."""
        routes = self.routes_of(key)
        fallbacks = [route.fallback for route in routes if route.fallback is not None]
        return {route.backend.key for route in (*routes, *fallbacks)}

    def ingresses_of_service(self, key: str) -> set[str]:
        """The Ingresses with a rule for this Service."""
        return {route.ingress for route in self.users(key)}

    # The inside

    def _place(self, key: str, ingress: Object | None) -> None:
        ours = ingress is not None and is_ours(ingress, *self._owned)
        self._strangers.set(key, None if ours else ingress)
        if not ours:
            ingress = None
        old = self._entries.pop(key, None)
        if old is None and ingress is None:
            return
        self.lookup.forget()
        kept = {route.identity: route.stats for route in old.routes} if old else {}
        touched = {route.place for route in old.routes} if old else set()
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
            touched.update(route.place for route in entry.routes)
        for route in old.routes if old else ():
            self._forget(route)
        for place in touched:
            self._link(place)

    def _claim(
        self, key: str, ingress: Object, row: Row, asked: Policy,
        kept: Mapping[tuple[str, ...], RouteStats],
    ) -> Route:  # fmt: skip
        space = meta.namespace(ingress)
        how = via(meta.annotations(ingress), space)[0]
        backend = self.backend(space, row.backend, how, asked.through_service)
        path = "(default)" if row.type == "Default" else row.path
        stats = RouteStats(key, row.host, path, str(backend))
        route = Route(key, row.host, row.path, row.type, backend, _age(ingress), stats)
        route.stats = kept.get(route.identity, stats)
        route.own = asked if asked is PLAIN else for_row(asked, ingress, row)
        route.captures = row.captures
        if row.redirect:
            route.age = (_LAST, key)
        self.use(route)
        if asked.fallback:
            ref = BackendRef(asked.fallback, FIRST)
            backend = self.backend(space, ref, None, False)
            route.fallback = replace(route, backend=backend)
            self.use(route.fallback)
        if asked.canary is not None:
            insort(self._canaries.setdefault(route.place, []), route)
        else:
            self._hosts.claim(route)
        return route

    def _link(self, place: Place) -> None:
        """Brings the policies of a rule's routes up to date, and its canaries."""
        claims = self._hosts.claims(place)
        canaries = tuple(self._canaries.get(place, ()))
        for route in claims:
            # Nobody takes a share of another namespace's requests.
            beside = tuple(each for each in canaries if each.namespace == route.namespace)
            route.canaries = beside if route is claims[0] else ()
            plain = route.own == PLAIN and not route.canaries and not self._always_policy
            route.policy = None if plain else route.own
            if route.fallback is not None:
                route.fallback.policy = route.policy
        for canary in canaries:
            canary.policy = as_canary(canary.own, claims[0].own if claims else PLAIN)

    def _forget(self, route: Route) -> None:
        if route.fallback is not None:
            self.disuse(route.fallback)
        self.disuse(route)
        if route.own.canary is not None:
            canaries = self._canaries[route.place]
            canaries.remove(route)
            if not canaries:
                del self._canaries[route.place]
            return
        self._hosts.forget(route)


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


def _same_namespace(one: str, other: str) -> bool:
    return one.partition("/")[0] == other.partition("/")[0]


def _age(ingress: Object) -> tuple[str, str]:
    return str(meta.metadata(ingress).get("creationTimestamp") or "~"), meta.key(ingress)
