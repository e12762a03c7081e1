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
    ("spec", {}),
    ("spec.replicas", 1),
    ("spec.template", {}),
    *under("spec.template", POD_TEMPLATE),
]
