"""Keeps the zone as the API says: each Service alone, when it or its slices change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.client.informer import Informer
from meshkube.dns.autopath import Autopath
from meshkube.dns.podnames import PodNames
from meshkube.dns.records import SERVICE_LABEL, service_records
from meshkube.dns.zone import Zone

log = logging.getLogger(__name__)

_BY_SERVICE = "service"


def service_of(piece: Object) -> str:
    """`namespace/name` of the Service that a slice belongs to."""
    return f"{meta.namespace(piece)}/{meta.labels(piece).get(SERVICE_LABEL, '')}"


class ZoneFeed:
    """Subscribes to Services and EndpointSlices and writes their records into the zone."""

    def __init__(
        self,
        zone: Zone,
        domain: str,
        services: Informer,
        slices: Informer,
        forget: Callable[[Iterable[bytes]], None],
    ) -> None:
        self._zone = zone
        self._domain = domain
        self._services = services
        self._slices = slices
        self._forget = forget
        slices.add_index(_BY_SERVICE, lambda piece: (service_of(piece),))
        services.subscribe(self._service_changed)
        slices.subscribe(self._slice_changed)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old
        assert changed is not None
        self._update(meta.key(changed))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        keys = {service_of(piece) for piece in (old, new) if piece is not None}
        for key in keys:
            service = self._services.get(key)
            if service is not None and (service.get("spec") or {}).get("clusterIP") == "None":
                self._update(key)

    def _update(self, key: str) -> None:
        service = self._services.get(key)
        try:
            found = (
                service_records(service, self._slices.by_index(_BY_SERVICE, key), self._domain)
                if service is not None
                else ()
            )
        except ValueError as error:
            log.warning("service has no records", extra={"service": key, "reason": str(error)})
            found = ()
        self._forget(self._zone.replace(key, found))


class NamespaceFeed:
    """Tells names of pods and search lists which namespaces exist."""

    def __init__(
        self,
        namespaces: Informer,
        pods: PodNames,
        autopath: Autopath,
        forget_all: Callable[[], None],
    ) -> None:
        self._names: set[str] = set()
        self._pods = pods
        self._autopath = autopath
        self._forget_all = forget_all
        namespaces.subscribe(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is None and new is not None:
            self._names.add(meta.name(new))
        elif new is None and old is not None:
            self._names.discard(meta.name(old))
        else:
            return
        self._pods.namespaces = self._autopath.namespaces = self._names
        self._forget_all()
