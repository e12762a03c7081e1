"""What every host runs, server or agent: the node, and the traffic's parts, each with nothing but a
Client, as a user of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import cast

from meshkube import addresses
from meshkube.api.nodes import INGRESS_KEY
from meshkube.aside import Aside
from meshkube.client import Client
from meshkube.client.across import AcrossClient
from meshkube.clock import Clock
from meshkube.config import Config, ConfigError, duration
from meshkube.control.auth import component_roles
from meshkube.control.auth.users import NODE_PREFIX
from meshkube.dataplane import gateway_program
from meshkube.dataplane.announcer import Announcer
from meshkube.dataplane.gateway import Gateway, GatewayPlace
from meshkube.dataplane.kernel import Kernel
from meshkube.dataplane.network import PodNetwork
from meshkube.dataplane.network_plan import Mode
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.userspace import UserKernel
from meshkube.dns.address import Place
from meshkube.dns.server import DnsServer
from meshkube.dns.upstream import host_search, host_servers
from meshkube.ingress import access_log
from meshkube.ingress.controller import Ingress
from meshkube.ingress.settings import Settings
from meshkube.metrics import REGISTRY
from meshkube.node import docker_convert, thresholds
from meshkube.node.agent import NodeAgent
from meshkube.node.collector import Limits
from meshkube.node.docker import DockerRuntime
from meshkube.node.docker_gateway import GatewayContainer
from meshkube.node.hollow import HollowRuntime
from meshkube.node.housekeeping import Room
from meshkube.node.image_peers import ImagePeers
from meshkube.node.runtime import Runtime
from meshkube.node.server import NodeServer
from meshkube.node.thresholds import Threshold
from meshkube.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """This host, and how it reaches the API."""

    address: str
    client_of: Callable[[str], Client]
    """A Client that acts as the user of this name."""
    node_tls: ssl.SSLContext
    """The node's own certificate for its server; it verifies the clients'."""
    traffic: asyncio.AbstractEventLoop
    """The loop of DNS and the ingress: what holds the one of this process must not hold them."""
    peer_tls: ssl.SSLContext | None = None
    """The node's own certificate for what it asks of other nodes."""
    roles: Sequence[str] = ()
    """The node's `node-role.kubernetes.io/` labels."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the Node."""


def registry_config(config: Config) -> Path:
    """The file with the node's own credentials for registries; it need not be there."""
    return config.registry_config or config.data_dir / "registries.json"


def eviction(config: Config) -> tuple[Threshold, ...]:
    """Below what the node evicts pods. Raises `ConfigError`."""
    text = config.eviction_hard
    if text == "none" or (not text and config.runtime == "hollow"):
        # Pods without processes take nothing, so ending them gives nothing back.
        return ()
    try:
        return thresholds.parse(text or thresholds.DEFAULT)
    except ValueError as error:
        raise ConfigError(f"--eviction-hard: {error}") from None


def room(config: Config) -> Room:
    """When the node makes room, and which. Raises `ConfigError`."""
    transition = duration(
        config.eviction_pressure_transition_period, "--eviction-pressure-transition-period"
    )
    return Room(
        eviction=eviction(config),
        transition=transition.total_seconds(),
        images=image_limits(config),
    )


def image_limits(config: Config) -> Limits:
    """When unused images go. Raises `ConfigError`."""
    high, low = config.image_gc_high_threshold, config.image_gc_low_threshold
    if low > high:
        raise ConfigError(
            f"--image-gc-low-threshold: {low} is above --image-gc-high-threshold, {high}"
        )
    age = duration(config.minimum_image_age, "--minimum-image-age")
    return Limits(high=high, low=low, minimum_age=age.total_seconds())


def address(config: Config) -> str:
    """Where others reach this host."""
    return config.node_ip.split(",")[0] or addresses.primary()


def second_addresses(config: Config) -> list[str]:
    """The same of the other family, where pods have one of each."""
    if config.node_ip:
        return config.node_ip.split(",")[1:]
    found = addresses.primary_6() if len(config.pod_cidrs) > 1 else ""
    return [found] if found else []


def parts(config: Config, host: Host, clock: Clock) -> Iterator[Part]:
    """The parts of this host that are not disabled."""
    off = config.disable
    network = None
    if "network" not in off and not config.userspace:
        network = PodNetwork(
            client=host.client_of(component_roles.PROXY),
            status_client=host.client_of(NODE_PREFIX + config.node_name),
            node_name=config.node_name,
            mode=cast(Mode, config.network),
            clock=clock,
        )
        yield network
    if "node" not in off:
        yield from _node(config, host, clock, network)
    gateway = _gateway(config, host)
    if gateway is not None:
        yield gateway
    if "dataplane" not in off:
        yield from _services(config, host, clock, gateway)
    if "dns" not in off:
        place = GatewayPlace(gateway, *config.dns_listens) if gateway else None
        client = _across(host, component_roles.DNS)
        yield Aside(dns(config, client, clock, config.dns_listens, place), host.traffic)
    if "ingress" not in off:
        client = _across(host, component_roles.INGRESS)
        names = () if "dns" in off else _nameservers(config)
        yield Aside(ingress(config, client, [host.address], names, nodes=True), host.traffic)


def dns(
    config: Config,
    client: Client,
    clock: Clock,
    listens: tuple[str, int],
    place: Place | None = None,
) -> Part:
    """Cluster DNS, its counts among the metrics."""
    address, port = listens
    server = DnsServer(
        client=client,
        address=address,
        domain=config.cluster_domain,
        networks=[*config.service_cidrs, *config.pod_cidrs],
        upstreams=host_servers(own=frozenset([address])),
        search=host_search(),
        clock=clock,
        port=port,
        place=place,
    )
    REGISTRY.register(server.counters)
    return server


def ingress(
    config: Config,
    client: Client,
    addresses: Sequence[str],
    nameservers: Sequence[tuple[str, int]] = (),
    *,
    nodes: bool = False,
) -> Part:
    """The ingress; `addresses` is what it writes into the status of each Ingress where it does not
    follow `nodes` that say it, `nameservers` know the names of external Services."""
    return Ingress(
        client=client,
        http_port=config.ingress_http,
        https_port=config.ingress_https,
        settings=ingress_settings(config),
        addresses=addresses,
        workers=config.ingress_workers,
        nameservers=nameservers,
        nodes=nodes,
    )


def _nameservers(config: Config) -> list[tuple[str, int]]:
    return [(address.strip(), 53) for address in config.cluster_dns.split(",")]


def ingress_settings(config: Config) -> Settings:
    """What the ingress is told of its limits, and of what it shows."""
    return Settings(
        access_log=cast(access_log.Form, config.ingress_access_log),
        access_log_file=str(config.ingress_access_log_file or ""),
        gzip=config.ingress_gzip == "on",
        trace=config.ingress_trace == "on",
        slow_start=config.ingress_slow_start,
        max_connections=config.ingress_max_connections,
        pod_requests=config.ingress_pod_requests,
        max_idle=config.ingress_pod_idle,
        upstream_idle=config.ingress_pod_idle_seconds,
        trusted_proxies=tuple(map(ip_network, config.ingress_trusted_proxies)),
        trusted_hops=config.ingress_trusted_hops,
        proxy_protocol=tuple(map(ip_network, config.ingress_proxy_protocol)),
        forwarded_header=config.ingress_forwarded == "on",
        hsts=config.ingress_hsts,
    )


def _across(host: Host, user: str) -> Client:
    return AcrossClient(host.client_of(user), asyncio.get_running_loop())


def _image_peers(config: Config, host: Host) -> ImagePeers | None:
    """A node may read no other Node: who the others are is read as the proxy, which may."""
    if host.peer_tls is None:
        return None
    return ImagePeers(host.client_of(component_roles.PROXY), host.peer_tls, config.node_name)


def _gateway(config: Config, host: Host) -> Gateway | None:
    """Where nobody may change the kernel's rules, pods' way to Services. Raises `ConfigError`."""
    if not config.gateway:
        return None
    one_link = docker_convert.spanning(config.pod_cidrs[0], config.service_cidrs[0])
    if ip_address(host.address) in one_link:
        raise ConfigError(
            f"--service-cidr: in userspace mode pods and Services are on one link, {one_link}, and"
            f" that holds this host's own address, {host.address}: give networks side by side"
        )
    starter = GatewayContainer(
        config.docker,
        gateway_program.root_filesystem,
        gateway_program.ENTRYPOINT,
        gateway_program.DIRECTORY,
    )
    return Gateway(
        starter=starter,
        directory=config.data_dir.absolute() / "gateway",
        networks=config.service_cidrs,
    )


def _services(config: Config, host: Host, clock: Clock, gateway: Gateway | None) -> Iterator[Part]:
    """The rules of Services, and the addresses that lead here."""
    client = host.client_of(component_roles.PROXY)
    kernel: Kernel = UserKernel(gateway) if config.userspace else NftKernel(clock)
    proxy = ServiceProxy(
        client=client,
        kernel=kernel,
        node_name=config.node_name,
        node_ip=host.address,
        pod_cidrs=config.pod_cidrs,
        service_cidrs=config.service_cidrs,
        # Another DNS may be pods behind that address, or a process of this host.
        **{"local" if "dns" in config.disable else "skip": {config.cluster_dns}},
        health_port=config.proxy_health_port,
        status_port=config.proxy_status_port,
        clock=clock,
    )
    yield proxy
    if "load-balancer" not in config.disable and not config.userspace:
        yield Announcer(
            client=client,
            lease_client=host.client_of(NODE_PREFIX + config.node_name),
            node_name=config.node_name,
            node_ip=host.address,
            serves=lambda: proxy.in_step,
            clock=clock,
        )


def _node(config: Config, host: Host, clock: Clock, network: PodNetwork | None) -> Iterator[Part]:
    runtime: Runtime
    if config.runtime == "hollow":
        runtime = HollowRuntime(clock)
    else:
        mtu = network.pod_mtu if network else None
        runtime = DockerRuntime(
            config.docker,
            pod_mtu=mtu,
            masquerade=config.userspace,
            services=config.service_cidrs[0] if config.gateway else "",
        )
    agent = NodeAgent(
        client=host.client_of(NODE_PREFIX + config.node_name),
        runtime=runtime,
        node_name=config.node_name,
        node_ip=host.address,
        data_dir=config.data_dir / "node",
        second_ips=second_addresses(config),
        # To a pod, an address of a loopback range is its own.
        cluster_dns="" if config.userspace and not config.gateway else config.cluster_dns,
        cluster_domain=config.cluster_domain,
        api=(host.address, config.listen_address[1]) if config.userspace else None,
        port=config.node_port,
        heartbeat=config.node_heartbeat,
        peers=_image_peers(config, host),
        roles=host.roles,
        registry_config=registry_config(config),
        room=room(config),
        pod_logs=config.pod_logs,
        annotations={
            INGRESS_KEY: "false" if "ingress" in config.disable else "true",
            **host.annotations,
        },
        clock=clock,
    )
    yield agent
    yield NodeServer(
        runtime=runtime,
        records=agent.records,
        images=agent.images,
        pods=agent.pods,
        volumes=agent.volumes,
        directory=str(config.data_dir),
        client=host.client_of(NODE_PREFIX + config.node_name),
        node_name=config.node_name,
        tls=host.node_tls,
        port=config.node_port,
        clock=clock,
    )
