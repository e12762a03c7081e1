"""What this host needs to run meshkube, what of it is missing, and how to get it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from meshkube.config import Config

ENOUGH_DISK = 1 << 30
ENGINE_TIMEOUT = 5.0
_OWN_LINKS = ("meshkube", "lo")


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to type or do, where it is not ok."""


def examine(config: Config, *, running: bool) -> list[Finding]:
    """Every check, in the order in which to mend. `running`: our own server holds the ports."""
    checks: list[Callable[[], Iterable[Finding]]] = [
        _python,
        lambda: _rights(config),
        lambda: _engine(config),
        *(() if config.userspace else (_nftables, _forwarding)),
        lambda: _ports(config, running),
        lambda: _data_dir(config),
        lambda: _networks(config, running),
    ]
    return [finding for check in checks for finding in check()]


def _python() -> Iterable[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or later")


def _rights(config: Config) -> Iterable[Finding]:
    root = os.geteuid() == 0
    detail = "root" if root else "not root: no kernel rules, no ports below 1024"
    if config.userspace:
        detail = "Services are carried by the daemon itself (--dataplane userspace)"
    yield Finding("rights", root or config.userspace, detail, "run it with sudo")


def _engine(config: Config) -> Iterable[Finding]:
    if config.runtime == "hollow":
        yield Finding("Docker Engine", True, "not needed with --runtime hollow")
        return
    path = config.docker.removeprefix("unix://")
    if not Path(path).exists():
        remedy = (
            "apt-get install docker.io"
            if shutil.which("dockerd") is None
            else "start it: systemctl start docker, or dockerd where no init system runs"
        )
        yield Finding("Docker Engine", False, f"nothing at {path}", remedy)
        return
    reason = _engine_answer(path)
    yield Finding(
        "Docker Engine", not reason, reason or f"answers at {path}", f"see who owns {path}"
    )


def _engine_answer(path: str) -> str:
    """Why the engine gives no answer; empty where it does."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(ENGINE_TIMEOUT)
        try:
            engine.connect(path)
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = engine.recv(1024)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return "" if b" 200 " in answer else f"{path}: answered {answer[:60]!r}"


def _nftables() -> Iterable[Finding]:
    tool = shutil.which("nft")
    if tool is None:
        yield Finding("nftables", False, "nft is not installed", "apt-get install nftables")
        return
    done = subprocess.run([tool, "list", "tables"], capture_output=True, text=True, check=False)
    detail = tool if done.returncode == 0 else done.stderr.strip().splitlines()[0]
    yield Finding(
        "nftables", done.returncode == 0, detail, "run as root, on a kernel with nf_tables"
    )


def _forwarding() -> Iterable[Finding]:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    on = path.read_text().strip() == "1"
    can = os.access(path, os.W_OK)
    detail = "on" if on else "off; meshkube turns it on" if can else "off"
    yield Finding("IP forwarding", on or can, detail, "sysctl -w net.ipv4.ip_forward=1")


def _ports(config: Config, running: bool) -> Iterable[Finding]:
    wanted = {
        "API": config.listen_address[1],
        "node agent": config.node_port,
        "ingress HTTP": config.ingress_http,
        "ingress HTTPS": config.ingress_https,
    }
    for use, port in wanted.items():
        name = f"port {port} ({use})"
        if running:
            yield Finding(name, True, "in use by meshkube")
        else:
            taken = _taken(port)
            yield Finding(name, not taken, taken or "free", "stop what listens there (ss -ltnp)")


def _taken(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return str(error.strerror)
    return ""


def _data_dir(config: Config) -> Iterable[Finding]:
    path = config.data_dir
    while not path.exists():
        path = path.parent
    if not os.access(path, os.W_OK):
        yield Finding("data directory", False, f"{path} may not be written", "give --data-dir")
        return
    free = shutil.disk_usage(path).free
    detail = f"{config.data_dir}, {free / (1 << 30):.1f} GiB free"
    yield Finding("data directory", free >= ENOUGH_DISK, detail, "free at least 1 GiB")


def _networks(config: Config, running: bool) -> Iterable[Finding]:
    """Pods and Services must not share addresses with what the host already reaches."""
    routes = [] if running else list(_host_routes())
    for use, cidr in _cidrs(config):
        clash = [route for route in routes if ip_network(route).overlaps(ip_network(cidr))]
        flag = "--pod-cidr" if use == "pod" else "--service-cidr"
        detail = f"{cidr} overlaps the route to {clash[0]}" if clash else cidr
        yield Finding(f"{use} network", not clash, detail, f"give another {flag}")


def _cidrs(config: Config) -> Iterable[tuple[str, str]]:
    for use, cidrs in (("pod", config.pod_cidrs), ("Service", config.service_cidrs)):
        yield from ((use, cidr) for cidr in cidrs if ":" not in cidr)


def _host_routes() -> Iterable[str]:
    """Each destination in the main routing table (proc(5), net/route), save the default route and
    what a daemon that ran here has left for the next one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            destination, mask = (
                ".".join(str(byte) for byte in bytes.fromhex(fields[n])[::-1]) for n in (1, 7)
            )
            if destination != "0.0.0.0" and not fields[0].startswith(_OWN_LINKS):
                yield f"{destination}/{mask}"
