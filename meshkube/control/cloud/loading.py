"""Finds the provider that `--cloud` names: `bare-metal`, or one that a package has installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from meshkube.address_pool import Pool
from meshkube.control.cloud.bare_metal import BareMetal
from meshkube.control.cloud.provider import CloudProvider

GROUP = "meshkube.cloud_providers"
"""The entry points of providers: each is a callable that takes `CloudSettings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """What a provider is made with."""

    pool: Pool = Pool()
    """Of `--load-balancer-pool`."""
    ingress_ports: Sequence[int] = ()
    """Of this process's ingress, on every node alike."""
    pod_cidr: str = ""
    config: Path | None = None
    """The file of `--cloud-config`; what is in it is the provider's business."""


def load(name: str, settings: CloudSettings) -> CloudProvider:
    """Raises `ValueError` with one line where there is no such provider, or it cannot start."""
    if name == BareMetal.name:
        return BareMetal(settings.pool, settings.ingress_ports)
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in installed:
        known = ", ".join(sorted({BareMetal.name, *installed}))
        raise ValueError(f"{name!r} is none of the installed providers: {known}")
    try:
        make: Callable[[CloudSettings], CloudProvider] = installed[name].load()
        return make(settings)
    except Exception as error:
        raise ValueError(f"{name}: {type(error).__name__}: {error}") from error
