"""One part in a process of its own, against whatever Kubernetes API a kubeconfig names."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from meshkube import __version__
from meshkube.client import Client
from meshkube.client.http import HttpClient
from meshkube.clock import SystemClock
from meshkube.config import LOOPBACK_DNS, Config
from meshkube.daemon import host
from meshkube.parts import Part, Supervisor
from meshkube.priority import traffic_first

log = logging.getLogger(__name__)


def serve(
    kubeconfig: Path, build: Callable[[Config, Client], Part]
) -> Callable[[Config], Awaitable[None]]:
    """What `process.run` runs: the part that `build` makes, until cancelled."""

    async def run(config: Config) -> None:
        traffic_first()
        async with HttpClient.from_kubeconfig(kubeconfig) as client:
            part = build(config, client)
            log.info(
                "starting",
                extra={"version": __version__, "part": part.name, "api": client.server},
            )
            await Supervisor([[part]], SystemClock()).run()

    return run


def ingress(config: Config, client: Client) -> Part:
    """The ingress on this host's ports."""
    return host.ingress(config, client, [host.address(config)])


def dns(config: Config, client: Client) -> Part:
    """Cluster DNS on `--cluster-dns`; unless that is given, where a plain user may listen."""
    if config.userspace and "cluster_dns" not in config.given:
        return host.dns(config, client, SystemClock(), (LOOPBACK_DNS, config.dns_port))
    return host.dns(config, client, SystemClock(), (config.cluster_dns, config.dns_port))
