"""ClusterRoles that are put together from others by label, such as `admin`, `edit` and `view`."""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.loop import Context, Controller


def plan(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules that `role` should have: those of every other role that one of its selectors
    finds, in the order of their names, each once."""
    chosen = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    selectors = [from_label_selector(one) for one in chosen]
    rules: list[Object] = []
    for other in sorted(roles, key=meta.name):
        if meta.name(other) == meta.name(role):
            continue
        if any(selector.matches(meta.labels(other)) for selector in selectors):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


async def reconcile(context: Context, key: str) -> float | None:
    cache = context.caches.of(kinds.CLUSTER_ROLE)
    role = cache.get(key)
    if role is None or meta.deleting(role) or not role.get("aggregationRule"):
        return None
    rules = plan(role, cache.list())
    if rules != (role.get("rules") or []):
        await context.client.update(kinds.CLUSTER_ROLE, {**role, "rules": rules})
    return None


def _aggregated(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """Whatever role changes, all that are put together may."""
    roles = caches.of(kinds.CLUSTER_ROLE).list()
    return [meta.name(role) for role in roles if role.get("aggregationRule")]


CONTROLLER = Controller(
    name="clusterrole-aggregation",
    kind=kinds.CLUSTER_ROLE,
    watches={kinds.CLUSTER_ROLE: _aggregated},
    component="clusterrole-aggregation-controller",
    reconcile=reconcile,
    workers=1,
)
