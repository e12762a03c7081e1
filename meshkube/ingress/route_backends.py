"""The Services that rules lead to: a `Backend` for each port, up to date object by object. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.backends import Address, Backend, PortRef, resolve
from meshkube.ingress.route import Route
from meshkube.ingress.rules import BackendRef
from meshkube.ingress.via import Via

SERVICE_LABEL = "kubernetes.io/service-name"
_Port: TypeAlias = tuple[PortRef, Via | None, bool]
"""Of a Service, how an Ingress wants its pods spoken to, and whether by the Service's address."""


class RouteBackends:
    """Services, EndpointSlices and external names, and the backends made of them for routes."""

    def __init__(self) -> None:
        self._backends: dict[str, dict[_Port, tuple[Backend, dict[Route, None]]]] = {}
        self._services: dict[str, Object] = {}
        self._slices: dict[str, dict[str, Object]] = {}
        self._names: dict[str, Sequence[str]] = {}
        self.names_changed: Callable[[], None] = _nothing
        """Told that there may be a new external name."""
        self.left: Callable[[Backend, frozenset[Address]], None] | None = None
        """Told at once which addresses of a backend do not serve any longer."""

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

    def set_name(self, name: str, addresses: Sequence[str]) -> None:
        """An external name has these addresses now."""
        if self._names.get(name) == addresses:
            return
        self._names[name] = addresses
        for backend in self._all():
            if backend.external == name:
                self._resolve_one(backend)

    def backend(
        self, namespace: str, ref: BackendRef, how: Via | None, through_service: bool
    ) -> Backend:
        """The backend of a rule, the same for all that want the same."""
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

    def use(self, route: Route) -> None:
        """A route leads there from now on."""
        backend = route.backend
        if backend.service:
            self._backends[backend.key][_port(backend)][1][route] = None

    def disuse(self, route: Route) -> None:
        """It does not any longer; the last one takes the backend with it."""
        key, port = route.backend.key, _port(route.backend)
        held = self._backends.get(key, {}).get(port)
        if held is None or route not in held[1]:
            return
        del held[1][route]
        if not held[1]:
            del self._backends[key][port]
        if not self._backends[key]:
            del self._backends[key]

    def service(self, key: str) -> Object | None:
        """A Service by `namespace/name`."""
        return self._services.get(key)

    def external_names(self) -> set[str]:
        """The names of Services of type ExternalName that rules lead to."""
        return {backend.external for backend in self._all()} - {""}

    def users(self, key: str) -> Iterable[Route]:
        """The routes that lead to a Service."""
        return (route for _, routes in self._backends.get(key, {}).values() for route in routes)

    def _all(self) -> Iterable[Backend]:
        return (backend for ports in self._backends.values() for backend, _ in ports.values())

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


def _port(backend: Backend) -> _Port:
    return backend.port, backend.asked, backend.through_service


def _service_of(piece: Object | None) -> str:
    if piece is None:
        return ""
    service = meta.labels(piece).get(SERVICE_LABEL)
    return f"{meta.namespace(piece)}/{service}" if service else ""


def _nothing() -> None:
    return
