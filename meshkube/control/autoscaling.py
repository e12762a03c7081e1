"""How patient and how exact horizontal autoscaling is: the flags of kube-controller-manager."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """Times are seconds. Source: Kubernetes documentation, "Horizontal Pod Autoscaling"."""

    sync_period: float = 15.0
    """Between two looks at each autoscaler."""
    tolerance: float = 0.1
    """So far the ratio of what is used to what is wanted may be from 1, and nothing is done."""
    downscale_stabilization: float = 300.0
    """No recommendation of this time that was higher is undercut."""
    cpu_initialization_period: float = 300.0
    """So long after a pod's start its CPU counts only while it is ready."""
    initial_readiness_delay: float = 30.0
    """A pod that was last unready within this time of its start has never been ready."""
