"""The lab's links as other networks have them: hosts that reach each other by a router only."""

from __future__ import annotations

from tests.lab.host import Host


def behind_router(*hosts: Host) -> None:
    """Leaves each host's address alone on its link: every other is reached by way of the router."""
    for host in hosts:
        router = host.address.rpartition(".")[0] + ".1"
        for setting in ("ip_forward=1", "conf.all.send_redirects=0", "conf.br0.send_redirects=0"):
            host.switch.run("sysctl", "-qw", f"net.ipv4.{setting}")
        for command in (
            f"ip address add {host.address}/32 dev eth0",
            f"ip address delete {host.address}/24 dev eth0",
            f"ip route replace {router} dev eth0",
            f"ip route replace default via {router} src {host.address}",
        ):
            host.run(*command.split())
