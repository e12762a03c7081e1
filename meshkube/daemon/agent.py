"""A host without a control plane: the node and the traffic's parts, over HTTP."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop

from meshkube import __version__, config
from meshkube.aside import side_loop
from meshkube.client.base import Client
from meshkube.client.http import HttpClient
from meshkube.clock import Clock, SystemClock
from meshkube.config import Config, ConfigError
from meshkube.control.auth import component_roles
from meshkube.csr import NODE_KEY
from meshkube.daemon import host
from meshkube.joining import cluster, enrolment, servers
from meshkube.joining.identity import Identity
from meshkube.joining.requests import node_user
from meshkube.joining.rotation import Certificates
from meshkube.joining.servers import ServerList
from meshkube.parts import Part, Supervisor

log = logging.getLogger(__name__)


async def serve(settings: Config) -> None:
    """Joins where that is to be done, and runs the parts of an agent until cancelled."""
    clock = SystemClock()
    known = servers.known(settings.data_dir, settings.server)
    if not known:
        raise ConfigError("--server: is needed: https://HOST:6443 of a server of the cluster")
    identity = await enrolment.enrol(settings, known, clock)
    async with HttpClient(known, identity.client_context) as client:
        with side_loop("traffic") as traffic:
            await _run(settings, client, identity, traffic, clock)


async def _run(
    settings: Config,
    client: HttpClient,
    identity: Identity,
    traffic: AbstractEventLoop,
    clock: Clock,
) -> None:
    address = host.address(settings)
    decided = await cluster.settings(client, settings.data_dir, clock)
    settings = config.adopt(settings, decided)
    here = host.Host(
        address=address,
        client_of=lambda user: _client_of(client, user, settings.node_name),
        node_tls=identity.server_context,
        peer_tls=identity.client_context,
        traffic=traffic,
        annotations={NODE_KEY: identity.key_id},
    )
    certificates = Certificates(
        client=client,
        identity=identity,
        node=settings.node_name,
        names=[] if "node" in settings.disable else [settings.node_name, address],
        clock=clock,
    )
    learns = ServerList(
        here.client_of(component_roles.PROXY),
        client.servers,
        settings.data_dir,
        settings.server,
    )
    parts: list[Part] = [certificates, learns, *host.parts(settings, here, clock)]
    log.info(
        "starting",
        extra={
            "version": __version__,
            "node": settings.node_name,
            "address": address,
            "server": client.server,
        },
    )
    await Supervisor([parts], clock).run()


def _client_of(client: HttpClient, user: str, node: str) -> Client:
    return client if user == node_user(node) else client.acting_as(user)
