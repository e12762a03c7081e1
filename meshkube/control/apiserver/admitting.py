"""Who is asked about a request beside the server itself: webhooks that change it, then policies and
webhooks that only judge it."""

from __future__ import annotations

from collections.abc import Callable

from meshkube.api.types import Object
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.matching import Asked
from meshkube.control.apiserver.policies import Policies
from meshkube.control.apiserver.webhooks import Caller, Settle, Webhooks


class Admitting:
    """Kinds are those that requests name; objects are in their stored form."""

    def __init__(self, lookup: Lookup, caller: Caller) -> None:
        self._policies = Policies(lookup)
        self._webhooks = Webhooks(lookup, caller)

    async def mutated(
        self, asked: Asked, settle: Settle, warnings: list[str], leave: Callable[[], None]
    ) -> Object | None:
        """The object as webhooks leave it, `asked.obj` itself where none touches it. `settle` gives
        a patched one the server's own form; `leave` is called before anybody is waited for. Raises
        `ApiError`."""
        if not self._webhooks.any(asked):
            return asked.obj
        # Who waits for a webhook keeps nobody from being served, the webhook least of all.
        leave()
        return (await self._webhooks.mutate(asked, settle, warnings)).obj

    async def judge(self, asked: Asked, warnings: list[str], leave: Callable[[], None]) -> None:
        """Raises `ApiError` where a policy or a webhook refuses."""
        self._policies.judge(asked, warnings)
        if self._webhooks.any(asked):
            leave()
            await self._webhooks.validate(asked, warnings)
