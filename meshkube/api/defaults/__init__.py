"""What a cluster fills in where a manifest is silent.

`apply_defaults` is what every read from outside passes through, as in an API server; it is safe to
run twice. The values are tables, one file per family of kinds, read by `rules`.
Values that depend on more than the object (a service's address, the default service account) are
allotted or admitted by the API server, not here.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from meshkube.api import kinds
from meshkube.api.defaults import (
    definitions,
    jobs,
    others,
    pods,
    policies,
    services,
    storage,
    workloads,
)
from meshkube.api.defaults.rules import Row, Rules
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

_TABLES: Final[dict[Kind, list[Row]]] = {
    kinds.POD: pods.POD,
    kinds.SERVICE: services.SERVICE,
    kinds.ENDPOINTS: services.ENDPOINTS,
    kinds.ENDPOINT_SLICE: services.ENDPOINT_SLICE,
    kinds.INGRESS_CLASS: services.INGRESS_CLASS,
    kinds.DEPLOYMENT: workloads.DEPLOYMENT,
    kinds.REPLICA_SET: workloads.REPLICA_SET,
    kinds.REPLICATION_CONTROLLER: workloads.REPLICATION_CONTROLLER,
    kinds.DAEMON_SET: workloads.DAEMON_SET,
    kinds.STATEFUL_SET: workloads.STATEFUL_SET,
    kinds.JOB: jobs.JOB,
    kinds.CRON_JOB: jobs.CRON_JOB,
    kinds.CUSTOM_RESOURCE_DEFINITION: definitions.CUSTOM_RESOURCE_DEFINITION,
    kinds.NAMESPACE: others.NAMESPACE,
    kinds.NODE: others.NODE,
    kinds.SECRET: others.SECRET,
    kinds.PERSISTENT_VOLUME: storage.PERSISTENT_VOLUME,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.CLAIM,
    kinds.STORAGE_CLASS: storage.STORAGE_CLASS,
    kinds.CSI_DRIVER: storage.CSI_DRIVER,
    kinds.POD_TEMPLATE: policies.POD_TEMPLATE_OBJECT,
    kinds.LIMIT_RANGE: policies.LIMIT_RANGE,
    kinds.RESOURCE_QUOTA: policies.RESOURCE_QUOTA,
    kinds.HORIZONTAL_POD_AUTOSCALER: policies.AUTOSCALER,
    kinds.NETWORK_POLICY: policies.NETWORK_POLICY,
    kinds.PRIORITY_CLASS: policies.PRIORITY_CLASS,
    kinds.ROLE_BINDING: policies.ROLE_BINDING,
    kinds.CLUSTER_ROLE_BINDING: policies.ROLE_BINDING,
    kinds.MUTATING_WEBHOOK_CONFIGURATION: policies.MUTATING_WEBHOOKS,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: policies.WEBHOOKS,
    kinds.VALIDATING_ADMISSION_POLICY: policies.ADMISSION_POLICY,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: policies.ADMISSION_POLICY_BINDING,
    kinds.FLOW_SCHEMA: policies.FLOW_SCHEMA,
    kinds.PRIORITY_LEVEL_CONFIGURATION: policies.PRIORITY_LEVEL,
    kinds.API_SERVICE: policies.API_SERVICE,
}


@cache
def _rules(kind: Kind) -> Rules | None:
    """Compiled for the first object of its kind."""
    table = _TABLES.get(kind)
    return Rules(table) if table is not None else None


def apply_defaults(kind: Kind, obj: Object) -> None:
    """Fill in what is missing, in place: pass a private copy that has passed `schemas.check`."""
    rules = _rules(kind)
    if rules is not None:
        rules.apply(obj)


def has_defaults(kind: Kind) -> bool:
    """Whether anything is ever filled in."""
    return kind in _TABLES
