"""What a cluster fills in where a manifest is silent.

`apply_defaults` is what every read from outside passes through, as in an API server; it is safe to
run twice. The values are tables, `pods`, `services`, `workloads` and `others`, read by `rules`.
Values that depend on more than the object (a service's address, the default service account) are
allotted or admitted by the API server, not here.
"""

from __future__ import annotations

from typing import Final

from meshkube.api import kinds
from meshkube.api.defaults import jobs, others, pods, services, workloads
from meshkube.api.defaults.rules import Rules
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

_RULES: Final[dict[Kind, Rules]] = {
    kinds.POD: Rules(pods.POD),
    kinds.SERVICE: Rules(services.SERVICE),
    kinds.ENDPOINTS: Rules(services.ENDPOINTS),
    kinds.ENDPOINT_SLICE: Rules(services.ENDPOINT_SLICE),
    kinds.INGRESS_CLASS: Rules(services.INGRESS_CLASS),
    kinds.DEPLOYMENT: Rules(workloads.DEPLOYMENT),
    kinds.REPLICA_SET: Rules(workloads.REPLICA_SET),
    kinds.REPLICATION_CONTROLLER: Rules(workloads.REPLICATION_CONTROLLER),
    kinds.DAEMON_SET: Rules(workloads.DAEMON_SET),
    kinds.STATEFUL_SET: Rules(workloads.STATEFUL_SET),
    kinds.JOB: Rules(jobs.JOB),
    kinds.CRON_JOB: Rules(jobs.CRON_JOB),
    kinds.NAMESPACE: Rules(others.NAMESPACE),
    kinds.NODE: Rules(others.NODE),
    kinds.SECRET: Rules(others.SECRET),
}


def apply_defaults(kind: Kind, obj: Object) -> None:
    """Fill in what is missing, in place: pass a private copy that has passed `schemas.check`."""
    rules = _RULES.get(kind)
    if rules is not None:
        rules.apply(obj)
