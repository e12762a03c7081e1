"""What names a pod sees: its /etc/hosts and resolv.conf. Pure.

Source: Kubernetes documentation, "DNS for Services and Pods" and "Adding entries to Pod /etc/hosts
with HostAliases"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.env import ConfigError

MAX_NAMESERVERS = 3
MAX_SEARCH = 32
MAX_HOSTNAME = 64


def hostname(pod: Object, node_name: str) -> str:
    """The pod's host name: `spec.hostname`, or its own name cut to 63 characters."""
    if pod["spec"].get("hostNetwork"):
        return node_name
    name = pod["spec"].get("hostname") or meta.name(pod)
    return str(name)[:63].rstrip("-.")


def kernel_hostname(pod: Object, node_name: str, domain: str) -> str:
    """What `hostname` prints in the pod: with `setHostnameAsFQDN` the whole name. Raises
    `ConfigError` for one that is longer than the kernel takes."""
    short = hostname(pod, node_name)
    full = full_name(pod, node_name, domain) if pod["spec"].get("setHostnameAsFQDN") else ""
    if len(full) > MAX_HOSTNAME:
        raise ConfigError(
            f"Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too"
            f" long ({MAX_HOSTNAME} characters is the max, {len(full)} characters requested)"
        )
    return full or short


def full_name(pod: Object, node_name: str, domain: str) -> str:
    """`host.subdomain.namespace.svc.domain`; empty for a pod without a subdomain."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return ""
    return f"{hostname(pod, node_name)}.{subdomain}.{meta.namespace(pod)}.svc.{domain}"


def hosts_file(pod: Object, address: str, node_name: str, domain: str) -> str:
    """The content of /etc/hosts."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    names = [full_name(pod, node_name, domain), hostname(pod, node_name)]
    lines.append("\t".join([address, *(name for name in names if name)]))
    return "\n".join(lines) + "\n" + host_aliases(pod)


def host_network_file(pod: Object, own: str) -> str:
    """The content of /etc/hosts for a pod in the host's network; `own` is the host's."""
    return "# Kubernetes-managed hosts file (host network).\n" + own + host_aliases(pod)


def host_aliases(pod: Object) -> str:
    """The lines for `spec.hostAliases`; empty without."""
    aliases = pod["spec"].get("hostAliases") or ()
    if not aliases:
        return ""
    lines = ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Resolver:
    """The content of a resolv.conf."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = []
        if self.search:
            lines.append("search " + " ".join(self.search))
        lines += [f"nameserver {address}" for address in self.nameservers]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n"


def parse_resolver(text: str) -> Resolver:
    """Reads a resolv.conf; lines that are none of its own are passed over."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(word for word in words[1:] if word != ".")
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(nameservers), search, tuple(options))


def resolver(pod: Object, host: Resolver, cluster_dns: str, domain: str) -> Resolver:
    """The pod's resolv.conf; `host` is the node's. `cluster_dns` is empty where pods cannot reach
    it: they ask whom the node asks."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and pod["spec"].get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or not cluster_dns:
        base = host
    else:
        own = (f"{meta.namespace(pod)}.svc.{domain}", f"svc.{domain}", domain)
        base = Resolver((cluster_dns,), own + host.search, ("ndots:5",))
    return _with_config(base, pod["spec"].get("dnsConfig") or {})


def _with_config(base: Resolver, config: Object) -> Resolver:
    options: dict[str, str] = {option.partition(":")[0]: option for option in base.options}
    for option in config.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return Resolver(
        _unique([*base.nameservers, *(config.get("nameservers") or ())])[:MAX_NAMESERVERS],
        _unique([*base.search, *(config.get("searches") or ())])[:MAX_SEARCH],
        tuple(options.values()),
    )


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
