"""The controllers, one file each; this tuple is what a leader runs."""

from __future__ import annotations

from meshkube.control.controllers import deployment, replicaset
from meshkube.control.loop import Controller

CONTROLLERS: tuple[Controller, ...] = (
    deployment.CONTROLLER,
    replicaset.CONTROLLER,
)
