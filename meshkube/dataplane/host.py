"""What Services need of a host beside the rules: forwarding, a route, Docker's consent.

Blocking: for a thread, or a command that cleans up. Each step may be run again and again.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import shlex
import subprocess
from pathlib import Path

from meshkube.dataplane.services import Family, Settings, family_of

log = logging.getLogger(__name__)

ROUTE_PROTOCOL = "77"
"""Marks our routes, so that they can be told from anybody else's (see rtnetlink(7))."""
DOCKER_CHAIN = "DOCKER-USER"
COMMENT = "meshkube"
_PACKAGES = {"ip": "iproute2", "iptables": "iptables"}
BRIDGE_CALLS = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class HostError(RuntimeError):
    """The host refused a step; the message says which."""


def prepare(settings: Settings, node_ip: str = "") -> list[str]:
    """Makes the host fit. Returns what it had to change; raises `HostError`."""
    changed = []
    if write(Path("/proc/sys/net/ipv4/ip_forward"), "1"):
        changed.append("net.ipv4.ip_forward=1")
    if 6 in settings.families and write(Path("/proc/sys/net/ipv6/conf/all/forwarding"), "1"):
        changed.append("net.ipv6.conf.all.forwarding=1")
    for family in settings.families:
        changed += _bridge_calls(family)
    changed += _routes(settings, node_ip)
    return changed


def bridged() -> bool:
    """Whether packets that cross a bridge are translated."""
    try:
        return BRIDGE_CALLS.read_text().strip() == "1"
    except OSError:
        return False


def tracks_sctp() -> bool:
    """Whether the kernel translates SCTP: its settings are there with the code."""
    return Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_closed").exists()


def let_through(settings: Settings) -> list[str]:
    """Lets packets from and to pods, of this host and of others, past Docker's FORWARD policy.
    Without Docker there is no such policy, and nothing is done. Returns the rules it had to add."""
    present = _docker_rules()
    if present is None:
        return []
    added = []
    pods = [cidr for cidr in settings.pod_cidrs if family_of(cidr) == 4]
    ways = [f"{way} {settings.bridge}" for way in ("-i", "-o")]
    # A client of a Service may be outside, and the pod on another host.
    ways += [f"{way} {cidr}" for cidr in pods for way in ("-s", "-d")]
    for way in ways:
        rule = f"{way} -m comment --comment {COMMENT} -j ACCEPT"
        if not any(_same(rule, line) for line in present):
            run("iptables", "-w", "-I", DOCKER_CHAIN, *rule.split())
            added.append(rule)
    return added


def teardown() -> list[str]:
    """Takes back the routes and Docker's consent, as much as is there. Returns what it removed.
    Forwarding stays on: others (Docker among them) rely on it as well."""
    removed = []
    for line in _docker_rules() or ():
        words = shlex.split(line)
        if COMMENT in words and words[:1] == ["-A"]:
            run("iptables", "-w", "-D", *words[1:], check=False)
            removed.append(f"iptables rule {line[3:]}")
    for version in ("-4", "-6"):
        shown = run("ip", version, "route", "show", "proto", ROUTE_PROTOCOL, check=False)
        for line in shown.splitlines():
            destination = line.split()[0]
            run("ip", version, "route", "del", destination, "proto", ROUTE_PROTOCOL, check=False)
            removed.append(f"route {destination}")
    return removed


def _routes(settings: Settings, node_ip: str) -> list[str]:
    """A host looks up a route before its packets are translated, so it needs one for Services
    even where it has no default route. What finds no Service there is refused, never sent."""
    changed = []
    for cidr in settings.service_cidrs:
        family = family_of(cidr)
        network = str(ipaddress.ip_network(cidr))
        link = "lo" if family == 4 else _link_of_ipv6()
        if not link:
            log.warning("IPv6 Services: no link of this host has an IPv6 address")
            continue
        wanted = f"{network} dev {link} proto {ROUTE_PROTOCOL}"
        if node_ip and family_of(node_ip) == family:
            wanted += f" src {node_ip}"
        shown = run("ip", f"-{family}", "route", "show", network, "proto", ROUTE_PROTOCOL)
        if set(wanted.split()) <= set(f"{shown} proto {ROUTE_PROTOCOL}".split()):
            continue
        # The loopback link takes packets far larger than any pod's; this is a common link's size.
        route = ["ip", f"-{family}", "route", "replace", *wanted.split(), "mtu", "1500"]
        try:
            run(*route)
        except HostError as error:
            if " src " not in wanted:
                raise
            if f"dev {link}" in shown:
                continue
            log.warning("the node's address is not on this host", extra={"reason": str(error)})
            run(*route[: route.index("src")], "mtu", "1500")
        changed.append(f"route {wanted}")
    return changed


def _link_of_ipv6() -> str:
    """A link that packets to Services may be meant for until they are translated: to IPv6 a route
    on the loopback link means that nobody is there. None of them leaves."""
    shown = run("ip", "-json", "-6", "address", "show", "scope", "global", check=False)
    links = [link["ifname"] for link in json.loads(shown or "[]") if link.get("addr_info")]
    return next((link for link in links if link != "lo"), "")


def _bridge_calls(family: Family) -> list[str]:
    setting = BRIDGE_CALLS
    if family == 6:
        setting = setting.with_name("bridge-nf-call-ip6tables")
    if not setting.exists():
        run("modprobe", "br_netfilter", check=False)
    try:
        return [f"net.bridge.{setting.name}=1"] if write(setting, "1") else []
    except HostError as error:
        log.warning(
            "pods of this node see the node as the client where they reach each other through a"
            " Service: the kernel does not translate bridged packets (module br_netfilter)",
            extra={"reason": str(error)},
        )
        return []


def _docker_rules() -> list[str] | None:
    """The rules of Docker's chain for others, as `iptables -S` prints them; None without it."""
    try:
        return run("iptables", "-w", "-S", DOCKER_CHAIN).splitlines()
    except HostError:
        return None


def _same(rule: str, line: str) -> bool:
    return set(rule.split()) <= set(shlex.split(line))


def write(path: Path, value: str) -> bool:
    """Sets a kernel setting. Returns whether it had to; raises `HostError`."""
    try:
        if path.read_text().strip() == value:
            return False
        path.write_text(value)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}") from None
    return True


def run(*command: str, check: bool = True) -> str:
    """What a system command prints. Raises `HostError`; without `check`, a failure prints nothing
    that counts."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        if check:
            hint = _PACKAGES.get(command[0], command[0])
            raise HostError(f"`{command[0]}` is not installed (Debian package: {hint})") from None
        return ""
    except (OSError, subprocess.TimeoutExpired) as error:
        if check:
            raise HostError(f"{command[0]}: {error}") from None
        return ""
    if done.returncode and check:
        raise HostError(f"{' '.join(command)}: {done.stderr.strip()[:300]}")
    return done.stdout
