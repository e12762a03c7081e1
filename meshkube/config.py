"""What the daemon is told: one frozen Config, from flags over environment over file over defaults.

Each setting is one field of `Config`. Its flag is `--the-name`, its environment variable
`MESHKUBE_THE_NAME`, its key in the YAML file `the-name`.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from meshkube import privileges
from meshkube.config_checks import CHECKS, as_duration, networks

SECRET = object()
"""The default of settings that have no flag: they come from the environment or the file."""
LOOPBACK_DNS = "127.43.0.10"
"""Where cluster DNS answers if it may listen on no other address."""
CLUSTER_WIDE = (
    "pod_cidr",
    "service_cidr",
    "cluster_dns",
    "cluster_domain",
    "node_ports",
    "network",
)
"""What the first server decides for all hosts: who joins takes these over."""
AGENT_ONLY = frozenset({"server"})
SERVER_ONLY = frozenset(
    {
        *CLUSTER_WIDE,
        "cloud",
        "cloud_config",
        "load_balancer_pool",
        "default_toleration_seconds",
        "join",
        "lease_duration",
        "lease_give_up",
        "lease_renew",
        "listen",
        "hpa_cpu_initialization_period",
        "hpa_downscale_stabilization",
        "hpa_initial_readiness_delay",
        "hpa_sync_period",
        "hpa_tolerance",
        "metrics_resolution",
        "node_grace",
        "tls_san",
        "certificate_lifetime",
        "store",
        "store_ca",
        "store_cert",
        "store_key",
        "store_user",
        "store_password",
        "store_password_file",
    }
)


class ConfigError(ValueError):
    """A bad setting: the message is one line that names it."""


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/meshkube")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(base) / "meshkube"


def _default_node_name() -> str:
    return socket.gethostname().lower()


def _setting(
    help: str,
    default: Any = None,
    factory: Callable[[], Any] | None = None,
    *,
    hidden: bool = False,
) -> Any:
    """`hidden`: it has a flag, but is not printed."""
    metadata = {"help": help}
    if default is SECRET:
        # Command lines are seen by all users of a host, and so might be whatever prints a Config.
        return field(default="", repr=False, metadata={**metadata, "secret": True})
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of `meshkube server` and `meshkube agent`, checked."""

    data_dir: Path = _setting("where state, keys and the kubeconfig live", None, _default_data_dir)
    node_name: str = _setting("this node's name in the cluster", None, _default_node_name)
    node_ip: str = _setting(
        "this node's address, of two families with a comma; empty: found from the routes", ""
    )
    listen: str = _setting("address and port of the API", "0.0.0.0:6443")
    tls_san: tuple[str, ...] = _setting("more names and addresses of the API, with commas", ())
    certificate_lifetime: str = _setting(
        "the longest life of certificates that the cluster signs, such as 365d, 12h or 90s", "365d"
    )
    server: tuple[str, ...] = _setting("URLs of the cluster's servers, with commas", ())
    join: str = _setting("the URL of a server whose cluster this one becomes a server of", "")
    token: str = _setting("the token to join with; see `meshkube token`", "", hidden=True)
    token_file: Path | None = _setting("a file that holds that token", None)
    store: str = _setting("`sqlite`, or etcd://host:port,host:port[/prefix]", "sqlite")
    store_ca: Path | None = _setting("the CA of etcd's servers; turns TLS on", None)
    store_cert: Path | None = _setting("our certificate for etcd", None)
    store_key: Path | None = _setting("the key of that certificate", None)
    store_user: str = _setting("our user at etcd", "")
    store_password: str = _setting("that user's password", SECRET)
    store_password_file: Path | None = _setting("a file that holds that user's password", None)
    pod_cidr: str = _setting(
        "addresses for pods, each node gets a /24 (IPv6: a /64) of it; two families with a comma",
        "10.42.0.0/16",
    )
    service_cidr: str = _setting(
        "addresses for Services; two families with a comma", "10.43.0.0/16"
    )
    cluster_dns: str = _setting("the address where cluster DNS answers", "10.43.0.10")
    cluster_domain: str = _setting("the DNS domain of the cluster", "cluster.local")
    dns_port: int = _setting("port of cluster DNS", 53)
    ingress_http: int = _setting("port of the ingress for HTTP", 80)
    ingress_https: int = _setting("port of the ingress for HTTPS", 443)
    ingress_trusted_proxies: tuple[str, ...] = _setting(
        "networks of proxies whose X-Forwarded-* and Forwarded the ingress believes, with commas",
        (),
    )
    ingress_trusted_hops: int = _setting(
        "proxies in front of the ingress, whatever their addresses; 0: by their networks", 0
    )
    ingress_proxy_protocol: tuple[str, ...] = _setting(
        "networks of load balancers that speak the PROXY protocol to the ingress, with commas", ()
    )
    ingress_forwarded: str = _setting(
        "`on`: pods get a Forwarded header beside X-Forwarded-*; or `off`", "off"
    )
    ingress_hsts: int = _setting(
        "seconds for which browsers are to use HTTPS alone; 0: they are not told", 0
    )
    ingress_workers: int = _setting(
        "processes that serve the ingress' ports; 0: the daemon itself does", 0
    )
    ingress_access_log: str = _setting("a line for each request: `off`, `text` or `json`", "off")
    ingress_access_log_file: Path | None = _setting("where these lines go, if not to stdout", None)
    ingress_gzip: str = _setting("`on`: compress responses for clients that take it", "off")
    ingress_trace: str = _setting("`on`: begin a trace (traceparent) where a client has not", "off")
    ingress_slow_start: float = _setting("seconds until a new pod gets its full share", 0.0)
    ingress_max_connections: int = _setting("clients of the ingress at one time", 20_000)
    ingress_pod_requests: int = _setting("requests under way at one pod; 0: no limit", 0)
    ingress_pod_idle: int = _setting("unused connections kept for one pod", 256)
    ingress_pod_idle_seconds: float = _setting("how long an unused connection is kept", 30.0)
    node_ports: str = _setting("the range of ports for NodePort Services", "30000-32767")
    proxy_health_port: int = _setting(
        "the port where balancers ask whether this node serves (/healthz); 0: none", 10256
    )
    proxy_status_port: int = _setting(
        "the port of 127.0.0.1 that says how Services are served (/proxyMode); 0: none", 10249
    )
    docker: str = _setting("where Docker Engine listens", "unix:///var/run/docker.sock")
    runtime: str = _setting("`docker`, or `hollow`: start no container", "docker")
    network: str = _setting(
        "how pods of other nodes are reached: `routes`, `vxlan`, or `auto` by link", "auto"
    )
    load_balancer_pool: tuple[str, ...] = _setting(
        "addresses for LoadBalancer Services: CIDRs and ranges, with commas; empty: the nodes' own",
        (),
    )
    cloud: str = _setting("the cloud provider: `bare-metal`, or an installed one", "bare-metal")
    cloud_config: Path | None = _setting("the provider's own configuration file", None)
    dataplane: str = _setting(
        "`nftables`, `userspace` (needs no right on the kernel), or `auto`: what may be", "auto"
    )
    pod_logs_dir: Path | None = _setting(
        "where log shippers find containers' logs; empty: /var/log/pods, or node/logs/pods in a"
        " data directory of one's own",
        None,
    )
    registry_config: Path | None = _setting(
        "a Docker config.json with this node's credentials for image registries;"
        " empty: registries.json in the data directory",
        None,
    )
    eviction_hard: str = _setting(
        "below what the node evicts pods, such as memory.available<100Mi,pid.available<1k;"
        " `none`: never; empty: as the kubelet",
        "",
    )
    eviction_pressure_transition_period: str = _setting(
        "how long a node says that it is short of something after it no longer is", "5m"
    )
    image_gc_high_threshold: int = _setting(
        "percent of the disk in use from which on unused images are taken away; 100: never", 85
    )
    image_gc_low_threshold: int = _setting("percent of the disk in use down to which they are", 80)
    minimum_image_age: str = _setting("how long an unused image stays at least", "2m")
    node_port: int = _setting("port of the node agent, for logs and exec", 10250)
    node_heartbeat: int = _setting("seconds between two signs of life of this node", 5)
    node_grace: int = _setting("seconds without one until a node counts as unreachable", 20)
    metrics_resolution: int = _setting(
        "seconds between two looks at what nodes and pods use, while somebody asks", 15
    )
    hpa_sync_period: int = _setting("seconds between two looks at each autoscaler", 15)
    hpa_tolerance: float = _setting(
        "how far use may be from an autoscaler's target, as a share, before anything is done", 0.1
    )
    hpa_downscale_stabilization: int = _setting(
        "seconds for which autoscalers do not undercut a higher recommendation", 300
    )
    hpa_cpu_initialization_period: int = _setting(
        "seconds after a pod's start in which its CPU counts only while it is ready", 300
    )
    hpa_initial_readiness_delay: int = _setting(
        "seconds after its start in which a pod that turns unready counts as starting", 30
    )
    default_toleration_seconds: int = _setting(
        "how long a pod that says nothing stays bound to a node that is away", 300
    )
    disable: tuple[str, ...] = _setting("parts not to run, with commas", ())
    lease_duration: int = _setting(
        "seconds until a silent leader is followed by another one; 0: 2 on etcd, 15 on SQLite", 0
    )
    lease_give_up: float = _setting(
        "seconds without a renewal after which a leader stops; 0: 0.7 of the duration", 0.0
    )
    lease_renew: float = _setting(
        "seconds between a leader's renewals; 0: 0.3 of the duration", 0.0
    )
    log_format: str = _setting("`text` or `json`", "text")
    log_level: str = _setting("`debug`, `info`, `warning` or `error`", "info")
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The names of the settings that are no defaults."""

    @property
    def listen_address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        """One of each family, the cluster's own first."""
        return tuple(self.pod_cidr.split(","))

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        """The same of Services."""
        return tuple(self.service_cidr.split(","))

    @property
    def pod_logs(self) -> Path:
        """Two daemons on one host do not meet in `/var/log`."""
        if self.pod_logs_dir is not None:
            return self.pod_logs_dir
        usual = self.data_dir == Path("/var/lib/meshkube")
        return Path("/var/log/pods") if usual else self.data_dir / "node/logs/pods"

    @property
    def node_port_range(self) -> range:
        low, _, high = self.node_ports.partition("-")
        return range(int(low), int(high) + 1)

    @property
    def userspace(self) -> bool:
        """Whether this process carries the traffic of Services itself."""
        return _userspace(self.dataplane)

    @property
    def gateway(self) -> bool:
        """Whether a container of ours in the pods' network answers for Services: without it, a
        process without rights can listen on loopback addresses, which no pod reaches."""
        wanted = self.userspace and self.runtime == "docker" and "node" not in self.disable
        services = ipaddress.ip_network(self.service_cidrs[0])
        return wanted and services.version == 4 and not services.is_loopback

    @property
    def dns_listens(self) -> tuple[str, int]:
        """Where cluster DNS answers: every port of the gateway's addresses is free."""
        port = 53 if self.gateway and "dns_port" not in self.given else self.dns_port
        return self.cluster_dns, port

    @property
    def lease_timing(self) -> tuple[int, float, float]:
        """Duration, give-up and renewal of the leader's lease, in seconds."""
        duration = self.lease_duration or (15 if self.store == "sqlite" else 2)
        give_up = self.lease_give_up or round(0.7 * duration, 3)
        return duration, give_up, self.lease_renew or round(0.3 * duration, 3)

    def __post_init__(self) -> None:
        for setting in settings():
            check = CHECKS.get(setting.name)
            if check is None:
                continue
            try:
                check(getattr(self, setting.name))
            except ValueError as error:
                raise ConfigError(f"--{_dashed(setting.name)}: {error}") from None
        services, pods = map(networks, (self.service_cidr, self.pod_cidr))
        if not any(ipaddress.ip_address(self.cluster_dns) in network for network in services):
            raise ConfigError(f"--cluster-dns: {self.cluster_dns} is not in {self.service_cidr}")
        if self.node_grace < 2 * self.node_heartbeat:
            raise ConfigError(
                f"--node-grace: {self.node_grace} is less than two heartbeats "
                f"(--node-heartbeat is {self.node_heartbeat})"
            )
        for pod, service in itertools.product(pods, services):
            if pod.version == service.version and pod.overlaps(service):
                raise ConfigError(f"--pod-cidr: {pod} overlaps {service}")
        if services[0].version != pods[0].version:
            raise ConfigError("--service-cidr: its first family is not that of --pod-cidr")
        duration, give_up, renew = self.lease_timing
        if not 0 < renew < give_up < duration:
            raise ConfigError(
                f"--lease-duration: renewal ({renew} s) < give-up ({give_up} s) < duration"
                f" ({duration} s) must hold"
            )


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None = None,
) -> Config:
    """Merges the sources. `flags` maps field names to values, None where a flag was not given.
    Raises `ConfigError` with a line that names the setting and where it was set."""
    values: dict[str, Any] = {}
    types = {setting.name: str(setting.type) for setting in settings()}
    if file is not None:
        values |= _from_file(file, types)
    for name, type_name in types.items():
        variable = "MESHKUBE_" + name.upper()
        if variable in environ:
            values[name] = _converted(environ[variable], type_name, variable)
        if flags.get(name) is not None:
            values[name] = _converted(flags[name], type_name, f"--{_dashed(name)}")
    return Config(**{**_without_rights(values), **values}, given=frozenset(values))


def _without_rights(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for whoever may not touch the kernel, or not listen on low ports. The ingress takes
    its ports of every address, also of Services': so they are none that Services often have."""
    found: dict[str, Any] = {}
    # With Docker a container of ours has Services' addresses.
    alone = values.get("runtime") == "hollow" and _userspace(values.get("dataplane", "auto"))
    if alone and "service_cidr" not in values:
        found |= {"service_cidr": "127.43.0.0/16", "cluster_dns": LOOPBACK_DNS}
    low = {"ingress_http": (80, 9080), "ingress_https": (443, 9443), "dns_port": (53, 10053)}
    for name, (usual, instead) in low.items():
        if not privileges.may_listen(usual):
            found[name] = instead
    return found


def _userspace(dataplane: str) -> bool:
    may = dataplane == "nftables" or privileges.has(privileges.NET_ADMIN)
    return dataplane == "userspace" or not may


def settings(without: frozenset[str] = frozenset()) -> list[Field[Any]]:
    """The fields of Config that a user sets."""
    return [one for one in fields(Config) if one.metadata and one.name not in without]


def adopt(config: Config, decided: Mapping[str, str]) -> Config:
    """With what the cluster has decided for all its hosts. Raises `ConfigError` where a setting
    that was given contradicts it."""
    changes: dict[str, Any] = {}
    for name in CLUSTER_WIDE:
        if name not in decided:
            continue
        if name in config.given and getattr(config, name) != decided[name]:
            raise ConfigError(
                f"--{_dashed(name)}: {getattr(config, name)} contradicts the cluster, which has"
                f" {decided[name]}: leave the setting out"
            )
        changes[name] = decided[name]
    return replace(config, **changes)


def decided(config: Config) -> dict[str, str]:
    """What `adopt` takes over on other hosts."""
    return {name: str(getattr(config, name)) for name in CLUSTER_WIDE}


def lifetime(config: Config) -> timedelta:
    """The longest life of a certificate that this cluster signs."""
    return as_duration(config.certificate_lifetime)


def _from_file(file: Path, types: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config: {file}: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config: {file}: is not a mapping of settings")
    values = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in types:
            raise ConfigError(f"--config: {file}: unknown setting {key!r}")
        values[name] = _converted(value, types[name], f"{file}: {key}")
    return values


def _converted(value: Any, type_name: str, where: str) -> Any:
    if type_name == "int":
        try:
            return int(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: {value!r} is not a whole number") from None
    if type_name == "float":
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: {value!r} is not a number") from None
    if type_name.startswith("Path"):
        return Path(str(value)).expanduser().absolute()
    if type_name.startswith("tuple"):
        parts = value if isinstance(value, list | tuple) else str(value).split(",")
        return tuple(str(part).strip() for part in parts if str(part).strip())
    return str(value)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def duration(value: str, flag: str) -> timedelta:
    """Raises `ConfigError` that names the flag."""
    try:
        return as_duration(value)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None
