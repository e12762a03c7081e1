"""Those whom the node does not know: the API server says who they are (TokenReview) and what they
may (SubjectAccessReview), as a kubelet asks it. Answers are kept for a short while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from hashlib import sha256
from typing import Generic, TypeVar

from meshkube.api.errors import ApiError
from meshkube.api.kinds import SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW, Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import Clock
from meshkube.node.permission import Caller, questions

# For how many seconds an answer counts: a kubelet's defaults.
KNOWN_SECONDS, ALLOWED_SECONDS, DENIED_SECONDS = 120.0, 300.0, 30.0
KEPT = 1024
ASKED_AT_ONCE = 4
"""Questions that are with the API server at the same time: strangers must not flood it."""
LONGEST_TOKEN = 16 * 1024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Unknown(Exception):
    """Nobody that the cluster knows."""


class Unanswered(Exception):
    """The API server could not be asked."""


class Delegation:
    """Asks as the node's own user."""

    def __init__(self, client: Client, node: str, clock: Clock) -> None:
        self._client = client
        self._node = node
        self._callers: _Kept[bytes, Caller] = _Kept(clock)
        self._allowed: _Kept[tuple[Caller, str, str], bool] = _Kept(clock)
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def caller(self, token: str) -> Caller:
        """Whose token this is. Raises `Unknown`, `Unanswered`."""
        if len(token) > LONGEST_TOKEN:
            raise Unknown
        key = sha256(token.encode()).digest()
        known = self._callers.get(key)
        if known is None:
            status = await self._ask(TOKEN_REVIEW, {"token": token})
            user = status.get("user") or {}
            if not status.get("authenticated") or not user.get("username"):
                raise Unknown
            known = Caller(
                user["username"],
                tuple(user.get("groups") or ()),
                user.get("uid") or "",
                user.get("extra") or {},
            )
            self._callers.keep(key, known, KNOWN_SECONDS)
        return known

    async def allows(self, caller: Caller, method: str, path: str) -> bool:
        """Raises `Unanswered`."""
        for question in questions(self._node, method, path):
            key = (caller, question["verb"], question["subresource"])
            allowed = self._allowed.get(key)
            if allowed is None:
                allowed = await self._may(caller, question)
                seconds = ALLOWED_SECONDS if allowed else DENIED_SECONDS
                self._allowed.keep(key, allowed, seconds)
            if allowed:
                return True
        return False

    async def _may(self, caller: Caller, question: Object) -> bool:
        spec: Object = {
            "user": caller.name,
            "groups": list(caller.groups),
            "resourceAttributes": question,
        }
        if caller.uid:
            spec["uid"] = caller.uid
        if caller.extra:
            spec["extra"] = dict(caller.extra)
        return bool((await self._ask(SUBJECT_ACCESS_REVIEW, spec)).get("allowed"))

    async def _ask(self, kind: Kind, spec: Object) -> Object:
        review = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        try:
            async with self._places:
                answer = await self._client.create(kind, review)
        except ApiError as error:
            raise Unanswered(str(error)) from error
        return answer.get("status") or {}


class _Kept(Generic[K, V]):
    """The last answers, each until its time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        value, until = self._found.get(key, (None, 0.0))
        return value if self._clock.monotonic() < until else None

    def keep(self, key: K, value: V, seconds: float) -> None:
        self._found[key] = value, self._clock.monotonic() + seconds
        self._found.move_to_end(key)
        while len(self._found) > KEPT:
            self._found.popitem(last=False)
