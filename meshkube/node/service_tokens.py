"""Service-account tokens in a pod's volumes: asked for, bound to the pod, renewed before they end.

Source: Kubernetes documentation, "Configure Service Accounts for Pods", "ServiceAccount token
volume projection": renewed after 80 % of their life, or after a day.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import Clock
from meshkube.node.volumes import VolumeError, token_want

log = logging.getLogger(__name__)

RENEW_AFTER = 0.8
"""Of a token's life."""
LONGEST = timedelta(hours=24)
RETRY = timedelta(seconds=10)
_SPREAD = timedelta(seconds=10)
"""Renewals are early by up to this much, so that those of many pods do not meet."""

Want = tuple[str, int]
"""Audience (empty: the API itself) and seconds."""


@dataclass(slots=True)
class _Token:
    text: str
    expires: datetime
    renew_at: datetime


def wanted(pod: Object) -> set[Want]:
    """The tokens that a pod's volumes show."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                found.add(token_want(source["serviceAccountToken"]))
    return found


def renewal(issued: datetime, expires: datetime) -> datetime:
    """When a token is to be replaced."""
    return issued + min((expires - issued) * RENEW_AFTER, LONGEST)


class PodTokens:
    """The tokens of one pod."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._held: dict[Want, _Token] = {}

    def texts(self) -> Mapping[Want, str]:
        return {key: token.text for key, token in self._held.items()}

    def renew_at(self) -> datetime | None:
        """When the first of them is to be replaced."""
        return min((token.renew_at for token in self._held.values()), default=None)

    async def refresh(self, pod: Object) -> None:
        """Gets what is missing or due. A token that is still good outlives an API that is away.
        Raises `VolumeError`."""
        for key in wanted(pod):
            held = self._held.get(key)
            now = self._clock.now()
            if held is not None and now < held.renew_at:
                continue
            try:
                self._held[key] = await self._request(pod, key)
            except ApiError as error:
                if held is not None:
                    held.renew_at = now + RETRY
                if held is None or held.expires <= now:
                    raise VolumeError(f"failed to fetch token: {error.message}") from error
                about = {"pod": meta.key(pod), "reason": error.message}
                log.warning("a token was not renewed", extra=about)

    async def _request(self, pod: Object, key: Want) -> _Token:
        audience, seconds = key
        request = token_request(pod, audience, seconds)
        issued = self._clock.now()
        answer = await self._client.create(
            kinds.SERVICE_ACCOUNT, request, meta.namespace(pod), subresource="token"
        )
        status = answer["status"]
        expires = datetime.fromisoformat(status["expirationTimestamp"])
        early = min(_SPREAD, (expires - issued) * 0.05) * random.random()
        return _Token(status["token"], expires, renewal(issued, expires) - early)


def token_request(pod: Object, audience: str, seconds: int) -> Object:
    """A TokenRequest for the pod's account, bound to the pod."""
    audiences: Iterable[str] = [audience] if audience else []
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {
            "name": pod["spec"].get("serviceAccountName") or "default",
            "namespace": meta.namespace(pod),
        },
        "spec": {
            "audiences": list(audiences),
            "expirationSeconds": seconds,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta.name(pod),
                "uid": meta.uid(pod),
            },
        },
    }
