"""The door of the API: who a request is from, and whether it may pass; for this process's own parts
too. It follows roles, bindings and pods in the watch cache, so a write of them counts at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from multidict import CIMultiDictProxy

from meshkube import join_token
from meshkube.api import errors, kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.control.apiserver import identity
from meshkube.control.apiserver.cache import Change
from meshkube.control.apiserver.feed import PATIENCE, Feed
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.turns import in_turns
from meshkube.control.auth import attributes, certificates, escalation, join_tokens, node
from meshkube.control.auth.authorizer import Authorizer, follow
from meshkube.control.auth.jws import BadToken
from meshkube.control.auth.tokens import Accepted, TokenIssuer
from meshkube.control.auth.users import ANONYMOUS, User

log = logging.getLogger(__name__)

FOLLOWED = (
    kinds.ROLE,
    kinds.CLUSTER_ROLE,
    kinds.ROLE_BINDING,
    kinds.CLUSTER_ROLE_BINDING,
    kinds.POD,
    kinds.PERSISTENT_VOLUME,
    kinds.CERTIFICATE_SIGNING_REQUEST,
)


class Access:
    """Authentication and authorization over the caches of one registry."""

    def __init__(self, feed: Feed, lookup: Lookup, issuer: TokenIssuer, clock: Clock) -> None:
        self.authorizer = Authorizer()
        self.issuer = issuer
        self._feed = feed
        self.lookup = lookup
        self.clock = clock
        self._ready = asyncio.Event()

    async def load(self) -> None:
        """Starts anew from the caches, which rest meanwhile, and follows them from here."""
        self.authorizer.clear()
        for kind in FOLLOWED:
            cache = self._feed.cache(kind)
            async for some in in_turns(list(cache.items.values())):
                for item in some:
                    follow(self.authorizer, kind, None, item.object)
            cache.watchers[id(self)] = _Follower(self.authorizer, kind)

    def open(self) -> None:
        """The default roles are there: this process's own parts may begin."""
        self._ready.set()

    async def opened(self) -> None:
        """Waits for the default roles. Raises `ApiError` 503."""
        if self._ready.is_set():
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready.wait()
        except TimeoutError:
            raise errors.unavailable("the default roles are not stored yet") from None

    def user_of(
        self, headers: CIMultiDictProxy[str], certificate: Mapping[str, Any] | None
    ) -> User:
        """Who a request is from, after impersonation. Raises `ApiError` 400, 401 or 403."""
        user = identity.of_certificate(certificate, self.clock.now().timestamp())
        if user is ANONYMOUS:
            token = identity.bearer(headers)
            if token is not None:
                user = self._of_token(token)
        return identity.impersonated(user, headers.items(), self.authorizer.decide)

    def _of_token(self, token: str) -> User:
        try:
            if token.startswith(join_token.PREFIX):
                return join_tokens.accept(token, self._find, self.clock.now())
            return self.accept(token).user
        except BadToken as error:
            log.debug("refused a token", extra={"reason": str(error)})
            raise errors.unauthorized() from None

    def accept(self, token: str, audiences: tuple[str, ...] = ()) -> Accepted:
        """Raises `BadToken`."""
        return self.issuer.accept(token, self._find, self.clock.now(), audiences)

    def _find(self, kind: Kind, name: str, namespace: str) -> Object | None:
        return self.lookup.find(kind, name, namespace)

    def may_create(self, kind: Kind, namespace: str, name: str, user: User | None) -> None:
        """For an apply that creates. Raises `ApiError` 403."""
        if user is not None:
            self.authorizer.check(attributes.of_kind(user, "create", kind, namespace, name))

    def guard(
        self,
        kind: Kind,
        obj: Object | None,
        old: Object | None,
        user: User | None,
        subresource: str,
    ) -> None:
        """What a write by `user` would do beyond its right to the verb: `obj` over `old` (None:
        created, or deleted). A write without a user is the server's own. Raises `ApiError` 403."""
        if user is None:
            return
        node.restrict(user, kind, obj, old, subresource)
        certificates.check(kind, obj, old, user, subresource, self.authorizer.allows)
        if obj is not None and not subresource:
            escalation.check(kind, obj, old, user, self.authorizer.rbac, self.authorizer.allows)


class _Follower:
    """Tells the authorizer what is stored (`cache.Sink`)."""

    def __init__(self, authorizer: Authorizer, kind: Kind) -> None:
        self._authorizer = authorizer
        self._kind = kind

    def tell(self, change: Change) -> None:
        old, new = change.old, change.new
        follow(
            self._authorizer, self._kind, old.object if old else None, new.object if new else None
        )

    def end(self) -> None:
        """The next load starts anew."""
