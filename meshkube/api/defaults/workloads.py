"""Defaults of the kinds that own pods."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.pods import POD_TEMPLATE
from meshkube.api.defaults.rules import Row, under
from meshkube.api.types import Object


def _rolling_update(strategy: Object) -> None:
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        update = strategy.get("rollingUpdate")
        strategy["rollingUpdate"] = update = {} if update is None else update
        for limit in ("maxUnavailable", "maxSurge"):
            if update.get(limit) is None:
                update[limit] = "25%"


def _counts(*names: str) -> list[Row]:
    """Numbers of a status that are told even while they are 0."""
    return [(f"status.{name}", 0) for name in names]


DEPLOYMENT: Final[list[Row]] = [
    ("spec", {}),
    ("spec.replicas", 1),
    ("spec.strategy", {}),
    ("spec.strategy", _rolling_update),
    ("spec.revisionHistoryLimit", 10),
    ("spec.progressDeadlineSeconds", 600),
    ("spec.template", {}),
    *under("spec.template", POD_TEMPLATE),
]

REPLICA_SET: Final[list[Row]] = [
    *_counts("replicas"),
    ("spec", {}),
    ("spec.replicas", 1),
    ("spec.template", {}),
    *under("spec.template", POD_TEMPLATE),
]


def _template_labels(obj: Object) -> dict[str, str]:
    template = (obj.get("spec") or {}).get("template") or {}
    return (template.get("metadata") or {}).get("labels") or {}


def labels_of_template(obj: Object) -> None:
    """An object without labels of its own gets those of its pods."""
    labels = _template_labels(obj)
    metadata = obj.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def _plain_selector(controller: Object) -> None:
    """A ReplicationController that selects nothing selects by the labels of its template."""
    labels = _template_labels(controller)
    spec = controller.get("spec") or {}
    if labels and not spec.get("selector"):
        spec["selector"] = dict(labels)


REPLICATION_CONTROLLER: Final[list[Row]] = [
    *_counts("replicas"),
    ("", _plain_selector),
    ("", labels_of_template),
    ("spec", {}),
    ("spec.replicas", 1),
    *under("spec.template", POD_TEMPLATE),
]


def _daemon_update(strategy: Object) -> None:
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        update = strategy.get("rollingUpdate")
        strategy["rollingUpdate"] = update = {} if update is None else update
        for limit, default in (("maxUnavailable", 1), ("maxSurge", 0)):
            if update.get(limit) is None:
                update[limit] = default


DAEMON_SET: Final[list[Row]] = [
    *_counts(
        "currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"
    ),
    ("spec", {}),
    ("spec.updateStrategy", {}),
    ("spec.updateStrategy", _daemon_update),
    ("spec.revisionHistoryLimit", 10),
    ("spec.template", {}),
    *under("spec.template", POD_TEMPLATE),
]


def _stateful_update(strategy: Object) -> None:
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        if strategy.get("rollingUpdate") is None:
            strategy["rollingUpdate"] = {}
    update = strategy.get("rollingUpdate")
    if update is None or strategy["type"] != "RollingUpdate":
        return
    if update.get("partition") is None:
        update["partition"] = 0


_CLAIM: Final[list[Row]] = [
    ("kind", "PersistentVolumeClaim"),
    ("apiVersion", "v1"),
    ("spec", {}),
    ("spec.volumeMode", "Filesystem"),
    ("status", {}),
    ("status.phase", "Pending"),
]

STATEFUL_SET: Final[list[Row]] = [
    *_counts("replicas", "availableReplicas"),
    ("spec", {}),
    ("spec.serviceName", ""),
    ("spec.podManagementPolicy", "OrderedReady"),
    ("spec.updateStrategy", {}),
    ("spec.updateStrategy", _stateful_update),
    ("spec.persistentVolumeClaimRetentionPolicy", {}),
    ("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", "Retain"),
    ("spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Retain"),
    ("spec.replicas", 1),
    ("spec.revisionHistoryLimit", 10),
    ("spec.template", {}),
    *under("spec.template", POD_TEMPLATE),
    *under("spec.volumeClaimTemplates[]", _CLAIM),
]
