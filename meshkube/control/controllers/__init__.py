"""The controllers, one file each; this tuple is what a leader runs."""

from __future__ import annotations

from meshkube.control.cloud.provider import CloudProvider
from meshkube.control.controllers import (
    certificate_approving,
    certificate_cleaning,
    certificate_signing,
    cloud_nodes,
    cloud_routes,
    cluster_role_aggregation,
    cronjob,
    daemonset,
    deployment,
    disruption,
    endpoint_mirror,
    endpoint_slices,
    endpoints,
    ephemeral_volume,
    event_ttl,
    garbage,
    job,
    join_token_cleaning,
    load_balancer,
    local_path,
    namespace,
    node_ipam,
    node_lifecycle,
    persistent_volume,
    pod_gc,
    replicaset,
    replicationcontroller,
    resource_quota,
    service_account,
    statefulset,
    taint_eviction,
    token_secrets,
    ttl_after_finished,
    volume_binder,
    volume_expand,
    volume_protection,
)
from meshkube.control.loop import Controller

CONTROLLERS: tuple[Controller, ...] = (
    certificate_approving.CONTROLLER,
    certificate_cleaning.CONTROLLER,
    certificate_signing.CONTROLLER,
    cluster_role_aggregation.CONTROLLER,
    cronjob.CONTROLLER,
    daemonset.CONTROLLER,
    deployment.CONTROLLER,
    disruption.CONTROLLER,
    endpoint_mirror.CONTROLLER,
    endpoint_slices.CONTROLLER,
    endpoints.CONTROLLER,
    ephemeral_volume.CONTROLLER,
    event_ttl.CONTROLLER,
    garbage.CONTROLLER,
    job.CONTROLLER,
    join_token_cleaning.CONTROLLER,
    load_balancer.CONTROLLER,
    local_path.CONTROLLER,
    namespace.CONTROLLER,
    node_ipam.CONTROLLER,
    node_lifecycle.CONTROLLER,
    persistent_volume.CONTROLLER,
    pod_gc.CONTROLLER,
    replicaset.CONTROLLER,
    replicationcontroller.CONTROLLER,
    resource_quota.CONTROLLER,
    service_account.CONTROLLER,
    statefulset.CONTROLLER,
    taint_eviction.CONTROLLER,
    token_secrets.CONTROLLER,
    ttl_after_finished.CONTROLLER,
    volume_binder.CONTROLLER,
    volume_expand.CONTROLLER,
    volume_protection.CONTROLLER,
    volume_protection.OF_VOLUMES,
)


def cloud_controllers(provider: CloudProvider) -> tuple[Controller, ...]:
    """Those that a provider has work for."""
    nodes = (cloud_nodes.CONTROLLER,) if provider.instances is not None else ()
    return (*nodes, *((cloud_routes.CONTROLLER,) if provider.routes is not None else ()))
