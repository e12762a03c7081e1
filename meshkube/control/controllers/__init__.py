"""The controllers, one file each; this tuple is what a leader runs."""

from __future__ import annotations

from meshkube.control.controllers import (
    daemonset,
    deployment,
    disruption,
    endpoint_mirror,
    endpoint_slices,
    endpoints,
    event_ttl,
    garbage,
    job,
    load_balancer,
    namespace,
    node_ipam,
    node_lifecycle,
    pod_gc,
    replicaset,
    replicationcontroller,
    resource_quota,
    service_account,
    statefulset,
    taint_eviction,
    ttl_after_finished,
)
from meshkube.control.loop import Controller

CONTROLLERS: tuple[Controller, ...] = (
    daemonset.CONTROLLER,
    deployment.CONTROLLER,
    disruption.CONTROLLER,
    endpoint_mirror.CONTROLLER,
    endpoint_slices.CONTROLLER,
    endpoints.CONTROLLER,
    event_ttl.CONTROLLER,
    garbage.CONTROLLER,
    job.CONTROLLER,
    load_balancer.CONTROLLER,
    namespace.CONTROLLER,
    node_ipam.CONTROLLER,
    node_lifecycle.CONTROLLER,
    pod_gc.CONTROLLER,
    replicaset.CONTROLLER,
    replicationcontroller.CONTROLLER,
    resource_quota.CONTROLLER,
    service_account.CONTROLLER,
    statefulset.CONTROLLER,
    taint_eviction.CONTROLLER,
    ttl_after_finished.CONTROLLER,
)
