"""A host with a control plane.

store -> registry -> API server         first tier: starts with the rest, stops last
in-process Client -> every other part   second tier
"""

from __future__ import annotations

import functools
import logging
import time
from asyncio import AbstractEventLoop, to_thread
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

from meshkube import __version__, address_pool, backends, credentials, csr, pki
from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.aside import side_loop
from meshkube.clock import Clock, SystemClock
from meshkube.config import Config, ConfigError, decided, lifetime
from meshkube.control.apiserver.aggregation.aggregator import Aggregator
from meshkube.control.apiserver.aggregation.asking import Asking, KeyFiles
from meshkube.control.apiserver.aggregation.front_proxy import Authorities
from meshkube.control.apiserver.joining import Joining
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.metering import Metering
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.server import ApiServer
from meshkube.control.auth import component_roles
from meshkube.control.auth.tokens import TokenIssuer
from meshkube.control.autoscaling import Autoscaling
from meshkube.control.certificates.approval import alive
from meshkube.control.cloud import loading as cloud
from meshkube.control.cloud.loading import CloudSettings
from meshkube.control.cloud.provider import CloudProvider
from meshkube.control.election import Timing
from meshkube.control.fence import Fence
from meshkube.control.loop import Settings
from meshkube.control.manager import ControlPlane
from meshkube.control.server_entry import ServerEntry
from meshkube.credentials import Credentials
from meshkube.csr import NODE_KEY
from meshkube.daemon import host, membership
from meshkube.daemon.renewal import OwnCertificates
from meshkube.joining import bundle
from meshkube.parts import Part, Supervisor
from meshkube.store import Store

log = logging.getLogger(__name__)

KUBECONFIG = "kubeconfig.yaml"


async def serve(config: Config) -> None:
    """Builds every part of a server and runs them until cancelled."""
    started = time.monotonic()
    address = host.address(config)
    clock = SystemClock()
    if config.join:
        await bundle.join(config, clock)
    async with aclosing(await backends.open_store(config)) as store:
        await membership.before_keys(store, config, clock)
        ca = await to_thread(credentials.authority, config.data_dir / "pki")
        config = await membership.settle(store, config, ca.certificate, clock)
        keys = await to_thread(_credentials, config, address)
        with side_loop("traffic") as traffic:
            supervisor = _assemble(config, address, keys, store, traffic)
            _write_kubeconfig(config, keys)
            log.info(
                "starting",
                extra={
                    "version": __version__,
                    "node": config.node_name,
                    "address": address,
                    "api": _api_url(config),
                    "kubeconfig": str(config.data_dir / KUBECONFIG),
                    "assembled_in_ms": round((time.monotonic() - started) * 1000),
                },
            )
            await supervisor.run()


def _reachable_at(config: Config) -> str:
    """The address of the API for whoever is on this host."""
    listen, _ = config.listen_address
    return "127.0.0.1" if listen in ("0.0.0.0", "::") else listen


def _api_url(config: Config) -> str:
    return f"https://{_reachable_at(config)}:{config.listen_address[1]}"


def _write_kubeconfig(config: Config, keys: Credentials) -> None:
    credentials.write_kubeconfig(config.data_dir / KUBECONFIG, keys, _api_url(config))


def _credentials(config: Config, address: str) -> Credentials:
    service_address = str(ip_network(config.service_cidrs[0])[1])
    return credentials.ensure(
        config.data_dir / "pki",
        node_name=config.node_name,
        addresses=sorted({address, service_address, _reachable_at(config), *config.tls_san}),
        domain=config.cluster_domain,
        life=min(lifetime(config), pki.LIFE),
    )


def _assemble(
    config: Config, address: str, keys: Credentials, store: Store, traffic: AbstractEventLoop
) -> Supervisor:
    clock = SystemClock()
    registry = Registry(
        store=store,
        clock=clock,
        service_cidr=config.service_cidr,
        cluster_dns=config.cluster_dns,
        node_ports=config.node_port_range,
        api_address=(address, config.listen_address[1]),
        alone=config.store == "sqlite",
        issuer=_issuer(config, keys),
        away_seconds=config.default_toleration_seconds,
    )
    shown = {
        "api-server": keys.server_context("api-server", require_client=False),
        "api-client": keys.client_context("api-client"),
        "node-server": keys.server_context("node-server", require_client=False),
    }
    peer_tls = keys.client_context("node-server")
    registry.webhooks.use(shown["api-client"])
    aggregator = _aggregator(keys, registry, clock)
    api = ApiServer(
        registry=registry,
        listen=config.listen_address,
        tls=shown["api-server"],
        node_tls=shown["api-client"],
        health=lambda: supervisor.health,
        listeners=_listeners(config),
        joining=joining_service(config, keys, registry),
        aggregator=aggregator,
    )
    here = host.Host(
        address=address,
        client_of=functools.partial(LocalClient, registry),
        node_tls=shown["node-server"],
        peer_tls=peer_tls,
        traffic=traffic,
        roles=["control-plane"],
        annotations={NODE_KEY: csr.key_of_certificate(keys.node_server.certificate)},
    )
    certificates = OwnCertificates(
        credentials=keys,
        make=functools.partial(_credentials, config, address),
        contexts=[*shown.items(), ("node-server", peer_tls)],
        told=functools.partial(_write_kubeconfig, config),
        clock=clock,
    )
    parts: list[Part] = [
        certificates,
        aggregator,
        *_entry(config, address, registry, clock),
        Metering(
            lookup=registry.access.lookup,
            tls=shown["api-client"],
            clock=clock,
            offer=functools.partial(setattr, registry, "metering"),
            resolution=config.metrics_resolution,
        ),
        *_control_plane(config, keys, registry, clock),
        *host.parts(config, here, clock),
    ]
    supervisor = Supervisor([[registry], [api], parts], clock)
    return supervisor


def _aggregator(keys: Credentials, registry: Registry, clock: Clock) -> Aggregator:
    authority = credentials.ensure_front_proxy(keys.directory)
    stem = keys.directory / credentials.FRONT_PROXY
    files = KeyFiles(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    return Aggregator(
        client=LocalClient(registry),
        catalog=registry.catalog,
        asking=Asking(registry.access.lookup, files),
        authorities=Authorities(
            keys.ca.certificate.decode(), pki.first(authority.certificate).decode()
        ),
        clock=clock,
    )


def joining_service(config: Config, keys: Credentials, registry: Registry) -> Joining:
    """What this server gives to hosts that join."""

    settings = decided(config)

    def for_server(node: str) -> Object:
        if config.store == "sqlite":
            why = "this cluster keeps its state in SQLite, a file of one host: move it to etcd"
            raise ApiError(409, "Conflict", f"{why} with `meshkube store copy`, then join")
        if alive(registry.access.lookup.find(kinds.NODE, node)):
            why = f"a node named {node} is alive: give --node-name, or stop that host and run"
            raise ApiError(409, "Conflict", f"{why} `kubectl delete node {node}`")
        return bundle.content(keys.ca, keys.token_keys)

    return Joining(ca=keys.ca.certificate, settings=settings, bundle=for_server)


def _listeners(config: Config) -> dict[str, str]:
    """Where each part listens, for `meshkube status`."""
    return {
        "api": config.listen,
        "node-server": f"0.0.0.0:{config.node_port}",
        "dns": ":".join(map(str, config.dns_listens)),
        "ingress": f"http 0.0.0.0:{config.ingress_http}, https 0.0.0.0:{config.ingress_https}",
        "network": f"pods {config.pod_cidr}, {config.network}",
        "dataplane": f"Services {config.service_cidr}, node ports {config.node_ports}",
    }


def _sign(
    ca: pki.Pair, longest: timedelta, request: bytes, usages: Sequence[str], seconds: int | None
) -> bytes:
    life = longest if seconds is None else min(longest, timedelta(seconds=seconds))
    return csr.sign(ca, request, usages, life, datetime.now(UTC))


def _issuer(config: Config, keys: Credentials) -> TokenIssuer:
    signing, *old = keys.token_keys
    name = f"https://kubernetes.default.svc.{config.cluster_domain}"
    return TokenIssuer(signing, issuer=name, old=old)


def _cloud(config: Config) -> CloudProvider:
    settings = CloudSettings(
        pool=address_pool.parse(config.load_balancer_pool),
        ingress_ports=(config.ingress_http, config.ingress_https),
        pod_cidr=config.pod_cidr,
        config=config.cloud_config,
    )
    try:
        return cloud.load(config.cloud, settings)
    except ValueError as error:
        raise ConfigError(f"--cloud: {error}") from None


def _entry(config: Config, address: str, registry: Registry, clock: Clock) -> Iterator[Part]:
    """Alone, a server need not renew that it lives. No pod reaches a loopback address."""
    if config.store != "sqlite" and not ip_address(address).is_loopback:
        place = (address, config.listen_address[1])
        client = LocalClient(registry)
        yield ServerEntry(client=client, node_name=config.node_name, place=place, clock=clock)


def _control_plane(
    config: Config, keys: Credentials, registry: Registry, clock: Clock
) -> Iterator[Part]:
    client_of = functools.partial(LocalClient, registry)
    # What controllers and the scheduler write is refused by the store once another server leads.
    fence = Fence()
    off = config.disable
    if {"controllers", "scheduler"} <= set(off):
        return
    # On SQLite nobody waits for the lease: renewing it seldom spares the disk.
    duration, give_up, renew = config.lease_timing
    yield ControlPlane(
        client=client_of(component_roles.CONTROLLER_MANAGER),
        client_of=lambda name: client_of(component_roles.controller_user(name), fence=fence),
        fence=fence,
        identity=config.node_name,
        clock=clock,
        settings=Settings(
            cluster_ca=keys.ca.certificate.decode(),
            pod_cidr=config.pod_cidr,
            cloud=_cloud(config),
            node_grace=config.node_grace,
            autoscaling=Autoscaling(
                sync_period=config.hpa_sync_period,
                tolerance=config.hpa_tolerance,
                downscale_stabilization=config.hpa_downscale_stabilization,
                cpu_initialization_period=config.hpa_cpu_initialization_period,
                initial_readiness_delay=config.hpa_initial_readiness_delay,
            ),
            legacy_token=registry.access.issuer.issue_legacy,
            sign=functools.partial(_sign, keys.ca, lifetime(config)),
        ),
        custom=registry.catalog,
        controllers="controllers" not in off,
        scheduler="scheduler" not in off,
        timing=Timing(duration=duration, give_up=give_up, renew=renew),
    )
