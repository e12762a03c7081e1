"""The credentials a pod's images are pulled with: of its `imagePullSecrets`, then of the node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node import registry_auth
from meshkube.node.references import Key, References
from meshkube.node.registry_auth import Entry

log = logging.getLogger(__name__)

_HOLDER = "/pull-secrets"


@dataclass(frozen=True, slots=True)
class Keyring:
    """What there is to show a registry, in the order in which it is tried."""

    entries: tuple[Entry, ...] = ()
    missing: tuple[str, ...] = ()
    """The pod's secrets that are not there, or hold no credentials."""


class PullSecrets:
    """`files` are read anew for each pull: a login on the node works at once."""

    def __init__(self, references: References, files: tuple[Path, ...]) -> None:
        self._references = references
        self._files = files

    async def of(self, pod: Object, changed: Callable[[], None]) -> Keyring:
        """For the images of a pod. `changed` is called when one of its secrets changes, until
        `release`."""
        namespace = meta.namespace(pod)
        references = pod["spec"].get("imagePullSecrets") or ()
        names = [str(one["name"]) for one in references if one.get("name")]
        entries: list[Entry] = []
        missing: list[str] = []
        if names:
            keys: list[Key] = [("Secret", namespace, name) for name in names]
            await self._references.hold(meta.uid(pod) + _HOLDER, keys, changed)
        for name in names:
            found = self._entries(namespace, name)
            entries += found or ()
            if found is None:
                missing.append(name)
        entries += await asyncio.to_thread(self._of_node)
        return Keyring(tuple(entries), tuple(missing))

    def release(self, uid: str) -> None:
        """The pod has ended."""
        self._references.release(uid + _HOLDER)

    def _entries(self, namespace: str, name: str) -> list[Entry] | None:
        secret = self._references.get("Secret", namespace, name)
        if secret is None:
            return None
        try:
            return registry_auth.of_secret(secret)
        except ValueError as error:
            extra = {"secret": f"{namespace}/{name}", "reason": str(error)}
            log.warning("pull secret not understood", extra=extra)
            return None

    def _of_node(self) -> list[Entry]:
        found: list[Entry] = []
        for file in self._files:
            try:
                found += registry_auth.of_config(file.read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                extra = {"file": str(file), "reason": str(error)}
                log.warning("registry credentials not read", extra=extra)
        return found
