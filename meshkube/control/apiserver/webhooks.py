"""Admission webhooks: who outside this server has a say in a write, asked in order.

Mutating ones one after the other, each with what the one before left, and once more where that is
wanted (`reinvocationPolicy`); validating ones all at once. Source: Kubernetes documentation,
"Dynamic Admission Control".
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import Histogram

from meshkube.api import errors, kinds, meta
from meshkube.api import patch as patches
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.control.apiserver import admission_review
from meshkube.control.apiserver.admission_review import BadAnswer, Verdict
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.matching import (
    EXEMPT,
    Asked,
    expression_names,
    matched,
    selected,
)
from meshkube.control.apiserver.webhook_client import CallFailed
from meshkube.metrics import REGISTRY

if TYPE_CHECKING:
    from meshkube.api.cel import Program

log = logging.getLogger(__name__)
STEPS: Final = 100_000
"""What the match conditions of one webhook may take."""
_HARMLESS: Final = ("None", "NoneOnDryRun")
CALLS = Histogram(
    "meshkube_api_webhook_duration_seconds",
    "Calls of admission webhooks. `result`: allowed, denied, failed, or ignored (a failure that "
    "the webhook's failurePolicy passes over).",
    ("name", "type", "result"),
    registry=REGISTRY,
)

Settle = Callable[[Object], Object]
"""Makes what a patch left an object again that the server itself would have made of a request."""


class Caller(Protocol):
    """Reaches webhooks: `webhook_client.WebhookClient`."""

    async def ask(self, where: Object, body: Object, seconds: int) -> JSON:
        """What the webhook at a `clientConfig` answers. Raises `CallFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class Hook:
    """One entry of `webhooks` of one configuration."""

    name: str
    raw: Object
    conditions: tuple[tuple[str, Program], ...]

    @property
    def ignored(self) -> bool:
        return self.raw.get("failurePolicy") == "Ignore"


class Webhooks:
    """What configurations say is read from `lookup`, so it holds from the next request on."""

    def __init__(self, lookup: Lookup, caller: Caller) -> None:
        self._lookup = lookup
        self._caller = caller
        self._known: dict[tuple[Kind, str], tuple[str, list[Hook]]] = {}

    def any(self, asked: Asked) -> bool:
        """Whether anybody may want to be asked. What the server itself writes nobody is."""
        if asked.user is None or asked.kind in EXEMPT:
            return False
        return any(True for kind in _CONFIGURATIONS for _ in self._lookup.all(kind))

    async def mutate(self, asked: Asked, settle: Settle, warnings: list[str]) -> Asked:
        """The request as mutating webhooks leave it. Raises `ApiError`."""
        hooks = list(self._hooks(kinds.MUTATING_WEBHOOK_CONFIGURATION))
        willing: set[int] = set()
        due: set[int] = set()
        for again in (False, True):
            for index, hook in enumerate(hooks):
                if again and index not in due:
                    continue
                kind = self._wanted(hook, asked)
                if kind is None:
                    continue
                verdict = await self._call(hook, asked, kind, warnings, mutating=True)
                if verdict is not None and verdict.patch:
                    new = settle(_patched(hook, asked, kind, verdict.patch))
                    if new != asked.obj:
                        due |= willing
                        asked = asked._replace(obj=new)
                if hook.raw.get("reinvocationPolicy") == "IfNeeded":
                    willing.add(index)
        return asked

    async def validate(self, asked: Asked, warnings: list[str]) -> None:
        """Raises `ApiError` where one refuses, or cannot be asked and must be."""
        wanted = [
            (hook, kind)
            for hook in self._hooks(kinds.VALIDATING_WEBHOOK_CONFIGURATION)
            if (kind := self._wanted(hook, asked)) is not None
        ]
        if not wanted:
            return
        calls = [self._call(hook, asked, kind, warnings, mutating=False) for hook, kind in wanted]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _hooks(self, kind: Kind) -> Iterator[Hook]:
        """In the order of the names of their configurations."""
        for configuration in sorted(self._lookup.all(kind), key=meta.name):
            key, version = (kind, meta.name(configuration)), meta.resource_version(configuration)
            known = self._known.get(key)
            if known is None or known[0] != version:
                known = self._known[key] = (version, [*map(_hook, _entries(configuration))])
            yield from known[1]

    def _wanted(self, hook: Hook, asked: Asked) -> Kind | None:
        """The kind in whose form a webhook wants the request; None: not at all. Raises `ApiError`
        403 where its conditions cannot be worked out."""
        policy = hook.raw.get("matchPolicy") or "Equivalent"
        kind = matched(hook.raw.get("rules") or (), policy, asked)
        if kind is None or not selected(hook.raw, asked, self._lookup):
            return None
        if not hook.conditions:
            return kind
        return kind if self._conditions_hold(hook, asked, kind) else None

    def _conditions_hold(self, hook: Hook, asked: Asked, kind: Kind) -> bool:
        """A condition that is false outweighs those that fail."""
        from meshkube.api.cel import Budget, CelError, OutOfBudget

        names, budget = expression_names(asked, kind, self._lookup), Budget(STEPS)
        failed = ""
        for name, program in hook.conditions:
            try:
                if program.run(names, budget) is not True:
                    return False
            except (CelError, OutOfBudget) as error:
                failed = failed or f'expression "{name}" of webhook "{hook.name}": {error}'
        if not failed:
            return True
        if hook.ignored:
            return False
        resource = asked.kind
        why = f"match conditions cannot be worked out: {failed}"
        raise errors.forbidden(resource.group, resource.plural, asked.named, why)

    async def _call(
        self, hook: Hook, asked: Asked, kind: Kind, warnings: list[str], *, mutating: bool
    ) -> Verdict | None:
        """None where the call failed and that is passed over. Raises `ApiError`."""
        if asked.dry_run and hook.raw.get("sideEffects") not in _HARMLESS:
            raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        since, result = perf_counter(), "failed"
        try:
            verdict = await self._answer(hook, asked, kind, mutating=mutating)
            result = "allowed" if verdict.allowed else "denied"
        except (CallFailed, BadAnswer) as error:
            how = "failed to call webhook" if isinstance(error, CallFailed) else "received invalid"
            how += "" if isinstance(error, CallFailed) else " webhook response"
            words = f'failed calling webhook "{hook.name}": {how}: {error}'
            if not hook.ignored:
                raise errors.internal(words) from None
            result = "ignored"
            log.warning("failing open", extra={"webhook": hook.name, "error": str(error)})
            return None
        finally:
            type_ = "mutating" if mutating else "validating"
            CALLS.labels(hook.name, type_, result).observe(perf_counter() - since)
        warnings += verdict.warnings
        if not verdict.allowed:
            raise admission_review.denied(hook.name, verdict.status)
        return verdict

    async def _answer(self, hook: Hook, asked: Asked, kind: Kind, *, mutating: bool) -> Verdict:
        """Raises `CallFailed`, `BadAnswer`."""
        version = admission_review.version_of(hook.raw.get("admissionReviewVersions") or ())
        uid = str(uuid.uuid4())
        body = admission_review.review(asked, kind, uid, version or "v1")
        seconds = int(hook.raw.get("timeoutSeconds") or 10)
        answer = await self._caller.ask(hook.raw.get("clientConfig") or {}, body, seconds)
        return admission_review.verdict(answer, uid, version or "v1", mutating=mutating)


_CONFIGURATIONS: Final = (
    kinds.MUTATING_WEBHOOK_CONFIGURATION,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION,
)


def _entries(configuration: Object) -> list[Object]:
    return configuration.get("webhooks") or []


def _hook(raw: Object) -> Hook:
    conditions = raw.get("matchConditions") or ()
    return Hook(
        str(raw.get("name") or ""),
        raw,
        tuple((one["name"], _program(one["expression"])) for one in conditions),
    )


def _program(text: str) -> Program:
    from meshkube.api.cel import compile_rule
    from meshkube.api.validation.admission import CONDITION_VARIABLES

    return compile_rule(text, dict.fromkeys(CONDITION_VARIABLES))


def _patched(hook: Hook, asked: Asked, kind: Kind, patch: list[JSON]) -> Object:
    """Raises `ApiError` 500."""
    seen = asked.seen(kind, asked.obj)
    if seen is None:
        raise errors.internal(
            f'admission webhook "{hook.name}" attempted to modify the object, which is not '
            "supported for this operation"
        )
    try:
        new = patches.json_patch(seen, patch)
    except ApiError as error:
        raise errors.internal(f'patch of webhook "{hook.name}": {error.message}') from None
    if not isinstance(new, dict) or not isinstance(new.get("metadata", {}), dict):
        raise errors.internal(f'patch of webhook "{hook.name}": it leaves no object')
    return asked.taken(kind, new)
