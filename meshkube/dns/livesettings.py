"""Follows the ConfigMap with the settings of cluster DNS: a good one is put to use at once, a bad
one is told in an Event and leaves the last good one in force."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshkube.api import meta
from meshkube.api.kinds import CONFIG_MAP
from meshkube.api.types import Object
from meshkube.client import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informer
from meshkube.dns.settings import NAME, NAMESPACE, Settings, SettingsError, parse

log = logging.getLogger(__name__)


class LiveSettings:
    """Calls `apply` with the settings as they come to hold."""

    def __init__(
        self, client: Client, events: EventRecorder, apply: Callable[[Settings], None]
    ) -> None:
        self.informer = Informer(
            client, CONFIG_MAP, namespace=NAMESPACE, fields=f"metadata.name={NAME}"
        )
        self._events = events
        self._apply = apply
        self.informer.subscribe(self._changed)

    def _changed(self, _old: Object | None, new: Object | None) -> None:
        try:
            found = Settings() if new is None else parse(new.get("data") or {})
        except SettingsError as error:
            assert new is not None
            log.error("settings not usable: the last good ones hold", extra={"reason": str(error)})
            subject = {**new, "apiVersion": "v1", "kind": "ConfigMap"}
            self._events.event(subject, "Warning", "SettingsInvalid", str(error))
            return
        log.info("settings", extra={"from": meta.key(new) if new else "defaults"})
        self._apply(found)
