"""The APIServices of what this server answers for itself: made by it, for all to see. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.apiserver.discovery import Groups

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
CORE_PRIORITY, FIRST_PRIORITY, STEP = 18_000, 17_900, 50
CUSTOM_GROUP, CUSTOM_VERSION, BUILT_IN_VERSION = 1_000, 100, 15
"""Priorities: of the groups that definitions make, of their versions, of built-in versions."""
_BUILT_IN = {kind.group for kind in (*kinds.KINDS, *kinds.MEASURED)}


def wanted(groups: Groups) -> Iterator[Object]:
    """One for each group and version, in the order of preference."""
    priority = FIRST_PRIORITY
    for group, versions in groups.items():
        custom = group not in _BUILT_IN and not group.endswith(".k8s.io")
        for place, version in enumerate(versions):
            yield {
                "apiVersion": kinds.API_SERVICE.api_version,
                "kind": kinds.API_SERVICE.kind,
                "metadata": {
                    "name": f"{version}.{group}",
                    "labels": {AUTOMANAGED: "true" if custom else "onstart"},
                },
                "spec": {
                    **({"group": group} if group else {}),
                    "version": version,
                    "groupPriorityMinimum": _of_group(group, custom, priority),
                    "versionPriority": (CUSTOM_VERSION if custom else BUILT_IN_VERSION) - place,
                },
            }
        priority -= 0 if custom else STEP


def _of_group(group: str, custom: bool, priority: int) -> int:
    if not group:
        return CORE_PRIORITY
    return CUSTOM_GROUP if custom else priority


def ours(api: Object) -> bool:
    """Whether it is one that this server made, and unmakes when its group is gone."""
    return AUTOMANAGED in meta.labels(api) and not (api.get("spec") or {}).get("service")
