"""The only wiring: builds the parts that a host runs, and supervises them.

store -> registry -> API server         first tier: starts with the rest, stops last
in-process Client -> every other part   second tier
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import IO

import uvloop

from meshkube import __version__, addresses, backends, credentials
from meshkube.client import Client
from meshkube.clock import Clock, SystemClock
from meshkube.config import Config, ConfigError
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.server import ApiServer
from meshkube.control.auth import component_roles
from meshkube.control.auth.tokens import TokenIssuer
from meshkube.control.auth.users import NODE_PREFIX
from meshkube.control.election import Timing
from meshkube.control.manager import ControlPlane
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dns.server import DnsServer
from meshkube.dns.upstream import host_servers
from meshkube.ingress.controller import Ingress
from meshkube.metrics import REGISTRY
from meshkube.node.agent import NodeAgent
from meshkube.node.docker import DockerRuntime
from meshkube.node.hollow import HollowRuntime
from meshkube.node.runtime import Runtime
from meshkube.node.server import NodeServer
from meshkube.parts import Part, Supervisor
from meshkube.store import Store

log = logging.getLogger(__name__)

# The lock of the SQLite file keeps every other server out, so nobody waits for this lease: renewing
# it seldom spares the disk, and a slow disk has ten seconds before the controllers stop.
ALONE = Timing(duration=15, give_up=10.0, renew=5.0)


def main(config: Config) -> int:
    """Runs a server until SIGTERM or SIGINT; returns the exit code."""
    with _only_one(config.data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(config))
    return 0


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Holds the data directory: two daemons on one store would each believe they own it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = open(data_dir / "lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"--data-dir: {data_dir}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"--data-dir: {data_dir} is in use by another meshkube server"
            ) from None
        yield


async def _until_signal(config: Config) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve(config)
    log.info("stopped; workloads keep running", extra={"node": config.node_name})


async def serve(config: Config) -> None:
    """Builds every part of a server and runs them until cancelled."""
    started = time.monotonic()
    host = await asyncio.to_thread(_host, config)
    store = await backends.open_store(config)
    try:
        supervisor = _assemble(config, host, store)
        kubeconfig = config.data_dir / "kubeconfig.yaml"
        credentials.write_kubeconfig(kubeconfig, host.credentials, host.api_url)
        log.info(
            "starting",
            extra={
                "version": __version__,
                "node": config.node_name,
                "address": host.address,
                "api": host.api_url,
                "kubeconfig": str(kubeconfig),
                "assembled_in_ms": round((time.monotonic() - started) * 1000),
            },
        )
        await supervisor.run()
    finally:
        await store.aclose()


@dataclass(frozen=True, slots=True)
class Host:
    """What was found out about this host."""

    address: str
    api_url: str
    credentials: credentials.Credentials


def _host(config: Config) -> Host:
    address = config.node_ip or addresses.primary()
    listen, port = config.listen_address
    anywhere = listen in ("0.0.0.0", "::")
    reachable_at = "127.0.0.1" if anywhere else listen
    service_address = str(ip_network(config.service_cidr)[1])
    return Host(
        address=address,
        api_url=f"https://{reachable_at}:{port}",
        credentials=credentials.ensure(
            config.data_dir / "pki",
            node_name=config.node_name,
            addresses=sorted({address, service_address, reachable_at}),
            domain=config.cluster_domain,
        ),
    )


def is_running(data_dir: Path) -> bool:
    """True while a server holds this data directory."""
    try:
        with open(data_dir / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _assemble(config: Config, host: Host, store: Store) -> Supervisor:
    clock = SystemClock()
    registry = Registry(
        store=store,
        clock=clock,
        service_cidr=config.service_cidr,
        cluster_dns=config.cluster_dns,
        node_ports=config.node_port_range,
        api_address=(host.address, config.listen_address[1]),
        issuer=_issuer(config, host),
    )
    api = ApiServer(
        registry=registry,
        listen=config.listen_address,
        tls=host.credentials.server_context("api-server", require_client=False),
        node_tls=host.credentials.client_context("api-client"),
        health=lambda: supervisor.health,
        listeners=_listeners(config),
    )
    parts = list(_parts(config, host, registry, clock))
    supervisor = Supervisor([[registry], [api], parts], clock)
    return supervisor


def _listeners(config: Config) -> dict[str, str]:
    """Where each part listens, for `meshkube status`."""
    return {
        "api": config.listen,
        "node-server": f"0.0.0.0:{config.node_port}",
        "dns": f"{config.cluster_dns}:53",
        "ingress": f"http 0.0.0.0:{config.ingress_http}, https 0.0.0.0:{config.ingress_https}",
        "dataplane": f"Services {config.service_cidr}, node ports {config.node_ports}",
    }


def _issuer(config: Config, host: Host) -> TokenIssuer:
    signing, *old = host.credentials.token_keys
    name = f"https://kubernetes.default.svc.{config.cluster_domain}"
    return TokenIssuer(signing, issuer=name, old=old)


def _parts(config: Config, host: Host, registry: Registry, clock: Clock) -> Iterator[Part]:
    """All that acts on the API, each with nothing but a Client, as a user of its own."""
    client_of = functools.partial(LocalClient, registry)
    off = config.disable
    if not {"controllers", "scheduler"} <= set(off):
        yield ControlPlane(
            client=client_of(component_roles.CONTROLLER_MANAGER),
            client_of=lambda name: client_of(component_roles.controller_user(name)),
            identity=config.node_name,
            clock=clock,
            legacy_token=registry.access.issuer.issue_legacy,
            cluster_ca=host.credentials.ca.certificate.decode(),
            pod_cidr=config.pod_cidr,
            controllers="controllers" not in off,
            scheduler="scheduler" not in off,
            timing=ALONE if config.store == "sqlite" else None,
        )
    if "node" not in off:
        user = NODE_PREFIX + config.node_name
        yield from _node(config, host, client_of(user), clock)
    if "dataplane" not in off:
        yield ServiceProxy(
            client=client_of(component_roles.PROXY),
            kernel=NftKernel(clock),
            node_name=config.node_name,
            node_ip=host.address,
            pod_cidr=config.pod_cidr,
            service_cidr=config.service_cidr,
            skip={config.cluster_dns},
            clock=clock,
        )
    if "dns" not in off:
        dns = DnsServer(
            client=client_of(component_roles.DNS),
            address=config.cluster_dns,
            domain=config.cluster_domain,
            networks=[config.service_cidr, config.pod_cidr],
            upstreams=host_servers(own=frozenset([config.cluster_dns])),
            clock=clock,
        )
        REGISTRY.register(dns.counters)
        yield dns
    if "ingress" not in off:
        yield Ingress(
            client=client_of(component_roles.INGRESS),
            http_port=config.ingress_http,
            https_port=config.ingress_https,
            addresses=[host.address],
        )


def _node(config: Config, host: Host, client: Client, clock: Clock) -> Iterator[Part]:
    hollow = config.runtime == "hollow"
    runtime: Runtime = HollowRuntime(clock) if hollow else DockerRuntime(config.docker)
    agent = NodeAgent(
        client=client,
        runtime=runtime,
        node_name=config.node_name,
        node_ip=host.address,
        data_dir=config.data_dir / "node",
        cluster_dns=config.cluster_dns,
        cluster_domain=config.cluster_domain,
        port=config.node_port,
        roles=["control-plane"],
        clock=clock,
    )
    yield agent
    yield NodeServer(
        runtime=runtime,
        records=agent.records,
        node_name=config.node_name,
        tls=host.credentials.server_context("node-server", require_client=True),
        port=config.node_port,
        clock=clock,
    )
