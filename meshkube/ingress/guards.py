"""Who else is asked before a request goes on: passwords in a Secret, or another server.

Neither holds up the loop: passwords are checked in a thread of their own, and what was checked
once is remembered. Whatever goes wrong here lets nobody through.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING

from meshkube.api.types import Object
from meshkube.ingress.external_auth import AuthServers
from meshkube.ingress.features import BasicAuth
from meshkube.ingress.passwords import NoUsers, credentials, users_of, verify
from meshkube.ingress.policies import Answer, Asked, Denial, Passed

if TYPE_CHECKING:
    from meshkube.ingress.managed import Guard
    from meshkube.ingress.route import Route

_REMEMBERED = 4096
_WAITING = 64
"""Passwords that wait for their check at one time. Whoever sends more of them wants to keep us
busy."""


class Guards:
    """The guards of all routes."""

    def __init__(
        self, secret: Callable[[str], Object | None], service: Callable[[str], Object | None]
    ) -> None:
        """`secret` and `service` find an object by `namespace/name`."""
        self._secret = secret
        self._servers = AuthServers(service)
        self._thread = ThreadPoolExecutor(1, "passwords")
        self._waiting = 0
        self._key = os.urandom(32)
        self._known: OrderedDict[tuple[str, bytes], bool] = OrderedDict()
        """Whether a password is that of a hash."""

    async def close(self) -> None:
        """Lets go of connections and the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._servers.close()

    def of(self, route: Route, asked: Asked) -> Sequence[Guard]:
        """What a request has to pass, in order."""
        policy = route.policy
        found: list[Guard] = []
        if policy is not None and policy.basic_auth is not None:
            basic, namespace = policy.basic_auth, route.ingress.partition("/")[0]
            found.append(lambda: self._basic(basic, namespace, asked))
        if policy is not None and policy.external_auth is not None:
            external = policy.external_auth
            found.append(lambda: self._servers.ask(external, asked))
        return found

    async def _basic(self, basic: BasicAuth, namespace: str, asked: Asked) -> Answer | Passed:
        key = f"{namespace}/{basic.secret}"
        try:
            users = users_of(self._secret(key), basic.secret_type)
        except NoUsers as error:
            return Denial(503, f"not served unguarded: secret {key} {error}")
        given = credentials(asked.header("authorization"))
        if given is None:
            return _unauthorized(basic, "a user and a password are needed")
        stored = users.get(given[0], "")
        right = await self._is_right(given[1], stored) if stored else False
        if right is None:
            return Denial(503, "too many passwords are being checked")
        if not right:
            return _unauthorized(basic, "the user or the password is wrong")
        return Passed()

    async def _is_right(self, password: bytes, stored: str) -> bool | None:
        """None: too many are waiting."""
        digest = blake2b(password, key=self._key, digest_size=32).digest()
        known = self._known.get((stored, digest))
        if known is not None:
            self._known.move_to_end((stored, digest))
            return known
        if self._waiting >= _WAITING:
            return None
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._thread, verify, password, stored)
        finally:
            self._waiting -= 1
        self._known[stored, digest] = right
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return right


def _unauthorized(basic: BasicAuth, reason: str) -> Denial:
    realm = (basic.realm or "Authentication Required").replace("\\", "\\\\").replace('"', '\\"')
    return Denial(401, reason, f'WWW-Authenticate: Basic realm="{realm}"\r\n'.encode("latin-1"))
