"""Whether an object may be stored: every fault of it at once, worded as Kubernetes words it.

Objects have passed `schemas.check`, were pruned and defaulted: types are right here, values may be
anything. One module checks one family of kinds; `_KINDS` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api import kinds
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import (
    admission,
    aggregation,
    autoscaling,
    certificates,
    cluster,
    configuration,
    definitions,
    endpoints,
    ingresses,
    jobs,
    networks,
    pods,
    quotas,
    rbac,
    resizing,
    services,
    sets,
    storage,
    webhooks,
    workloads,
)
from meshkube.api.validation.cluster import validate_binding
from meshkube.api.validation.faults import Faults
from meshkube.api.validation.metadata import validate_metadata, validate_metadata_update
from meshkube.api.validation.status import STATUS

Create = Callable[[Object], Faults]
Update = Callable[[Object, Object], Faults]

_CREATE: Final[dict[Kind, Create]] = {
    kinds.POD: pods.validate_pod_create,
    kinds.DEPLOYMENT: workloads.validate_deployment,
    kinds.REPLICA_SET: workloads.validate_replica_set,
    kinds.REPLICATION_CONTROLLER: sets.validate_replication_controller,
    kinds.DAEMON_SET: sets.validate_daemon_set,
    kinds.STATEFUL_SET: sets.validate_stateful_set,
    kinds.JOB: jobs.validate_job,
    kinds.CRON_JOB: jobs.validate_cron_job,
    kinds.CONTROLLER_REVISION: workloads.validate_controller_revision,
    kinds.SERVICE: services.validate_service,
    kinds.ENDPOINTS: endpoints.validate_endpoints,
    kinds.ENDPOINT_SLICE: endpoints.validate_slice,
    kinds.INGRESS: ingresses.validate_ingress_create,
    kinds.INGRESS_CLASS: ingresses.validate_ingress_class,
    kinds.CONFIG_MAP: configuration.validate_config_map,
    kinds.SECRET: configuration.validate_secret,
    kinds.NAMESPACE: cluster.validate_namespace,
    kinds.NODE: cluster.validate_node,
    kinds.LEASE: cluster.validate_lease,
    kinds.EVENT: cluster.validate_event,
    kinds.EVENTS_EVENT: cluster.validate_events_event,
    kinds.ROLE: rbac.validate_role,
    kinds.CLUSTER_ROLE: rbac.validate_cluster_role,
    kinds.ROLE_BINDING: rbac.validate_role_binding,
    kinds.CLUSTER_ROLE_BINDING: rbac.validate_cluster_role_binding,
    kinds.POD_TEMPLATE: quotas.validate_pod_template,
    kinds.RESOURCE_QUOTA: quotas.validate_quota,
    kinds.LIMIT_RANGE: quotas.validate_limit_range,
    kinds.POD_DISRUPTION_BUDGET: quotas.validate_budget,
    kinds.PRIORITY_CLASS: quotas.validate_priority_class,
    kinds.HORIZONTAL_POD_AUTOSCALER: autoscaling.validate_autoscaler,
    kinds.NETWORK_POLICY: networks.validate_network_policy,
    kinds.IP_ADDRESS: networks.validate_ip_address,
    kinds.SERVICE_CIDR: networks.validate_service_cidr,
    kinds.RUNTIME_CLASS: networks.validate_runtime_class,
    kinds.API_SERVICE: aggregation.validate_api_service,
    kinds.PERSISTENT_VOLUME: storage.validate_volume,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.validate_claim,
    kinds.STORAGE_CLASS: storage.validate_storage_class,
    kinds.VOLUME_ATTACHMENT: storage.validate_attachment,
    kinds.CSI_DRIVER: storage.validate_csi_driver,
    kinds.CSI_NODE: storage.validate_csi_node,
    kinds.CSI_STORAGE_CAPACITY: storage.validate_capacity,
    kinds.CUSTOM_RESOURCE_DEFINITION: definitions.validate_definition,
    kinds.VALIDATING_ADMISSION_POLICY: admission.validate_policy,
    kinds.VALIDATING_ADMISSION_POLICY_BINDING: admission.validate_policy_binding,
    kinds.CERTIFICATE_SIGNING_REQUEST: certificates.validate_request,
    kinds.MUTATING_WEBHOOK_CONFIGURATION: webhooks.validate_configuration,
    kinds.VALIDATING_WEBHOOK_CONFIGURATION: webhooks.validate_configuration,
}
# A kind that is not here is checked on update as on creation.
_UPDATE: Final[dict[Kind, Update]] = {
    kinds.POD: pods.validate_pod_update,
    kinds.DEPLOYMENT: workloads.validate_deployment_update,
    kinds.REPLICA_SET: workloads.validate_replica_set_update,
    kinds.DAEMON_SET: sets.validate_daemon_set_update,
    kinds.STATEFUL_SET: sets.validate_stateful_set_update,
    kinds.JOB: jobs.validate_job_update,
    kinds.CRON_JOB: jobs.validate_cron_job_update,
    kinds.CONTROLLER_REVISION: workloads.validate_controller_revision_update,
    kinds.SERVICE: services.validate_service_update,
    kinds.ENDPOINT_SLICE: endpoints.validate_slice_update,
    kinds.INGRESS: ingresses.validate_ingress_update,
    kinds.INGRESS_CLASS: ingresses.validate_ingress_class_update,
    kinds.CONFIG_MAP: configuration.validate_config_map_update,
    kinds.SECRET: configuration.validate_secret_update,
    kinds.NAMESPACE: cluster.validate_namespace_update,
    kinds.NODE: cluster.validate_node_update,
    kinds.EVENTS_EVENT: cluster.validate_events_event_update,
    kinds.ROLE_BINDING: rbac.validate_role_binding_update,
    kinds.CLUSTER_ROLE_BINDING: rbac.validate_cluster_role_binding_update,
    kinds.RESOURCE_QUOTA: quotas.validate_quota_update,
    kinds.PRIORITY_CLASS: quotas.validate_priority_class_update,
    kinds.IP_ADDRESS: networks.validate_ip_address_update,
    kinds.SERVICE_CIDR: networks.validate_service_cidr_update,
    kinds.RUNTIME_CLASS: networks.validate_runtime_class_update,
    kinds.API_SERVICE: lambda api, _: aggregation.validate_api_service(api),
    kinds.PERSISTENT_VOLUME: storage.validate_volume_update,
    kinds.PERSISTENT_VOLUME_CLAIM: storage.validate_claim_update,
    kinds.STORAGE_CLASS: storage.validate_storage_class_update,
    kinds.VOLUME_ATTACHMENT: storage.validate_attachment_update,
    kinds.CSI_DRIVER: storage.validate_csi_driver_update,
    kinds.CSI_STORAGE_CAPACITY: storage.validate_capacity_update,
    kinds.CUSTOM_RESOURCE_DEFINITION: definitions.validate_definition_update,
    kinds.CERTIFICATE_SIGNING_REQUEST: certificates.validate_request_update,
}

__all__ = [
    "is_checked",
    "validate_approval_update",
    "validate_binding",
    "validate_create",
    "validate_ephemeral_update",
    "validate_resize",
    "validate_status_update",
    "validate_update",
]


def validate_create(kind: Kind, obj: Object) -> list[FieldError]:
    """Every fault of a new object, whose name and namespace are already set."""
    faults = [] if kind is kinds.EVENT else validate_metadata(kind, obj)
    if kind in _CREATE:
        faults += _CREATE[kind](obj)
    return _unique(faults)


def validate_update(kind: Kind, obj: Object, old: Object) -> list[FieldError]:
    """Every fault of a new state of `old`, also of what may not change."""
    faults = [] if kind is kinds.EVENT else validate_metadata_update(kind, obj, old)
    if kind in _UPDATE:
        faults += _UPDATE[kind](obj, old)
    elif kind in _CREATE:
        faults += _CREATE[kind](obj)
    return _unique(faults)


def validate_status_update(kind: Kind, obj: Object, old: Object) -> list[FieldError]:
    """Every fault of a new status of `old`; all but the status and metadata is as it was."""
    faults = validate_metadata_update(kind, obj, old)
    if kind in STATUS:
        faults += STATUS[kind](obj, old)
    return _unique(faults)


def validate_ephemeral_update(pod: Object, old: Object) -> list[FieldError]:
    """Every fault of what is added to a pod through `ephemeralcontainers`."""
    faults = validate_metadata_update(kinds.POD, pod, old)
    return _unique(faults + pods.validate_ephemeral_update(pod, old))


def validate_resize(pod: Object, old: Object) -> list[FieldError]:
    """Every fault of what a pod is to have through `resize`."""
    faults = validate_metadata_update(kinds.POD, pod, old)
    faults += resizing.validate_resize(pod, old)
    return _unique(faults or pods.validate_pod(pod))


def validate_approval_update(request: Object, old: Object) -> list[FieldError]:
    """Every fault of what is decided on a certificate request."""
    faults = validate_metadata_update(kinds.CERTIFICATE_SIGNING_REQUEST, request, old)
    return _unique(faults + certificates.validate_approval(request, old))


def is_checked(kind: Kind) -> bool:
    """Whether more than shape and metadata is looked at."""
    return kind in _CREATE


def _unique(faults: Faults) -> Faults:
    return list(dict.fromkeys(faults))
