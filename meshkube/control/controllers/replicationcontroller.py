"""ReplicationControllers: ReplicaSets from before there were any."""

from __future__ import annotations

from meshkube.api import kinds
from meshkube.control.controllers import replicaset

CONTROLLER = replicaset.controller(
    kinds.REPLICATION_CONTROLLER, "replicationcontroller", "replication-controller"
)
