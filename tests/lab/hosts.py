"""A cluster over several hosts: servers on etcd members of their own, agents, and a client's host.

with running_hosts(servers=3, agents=1) as hosts:
    hosts.leader().power_off()
    wait_for(lambda: hosts.leader() is not None, 3, "the next leader")
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab.host import Host, plug_in, unplug
from tests.lab.members import Member, start_all, store_url
from tests.lab.node import Node
from tests.lab.shell import wait_for
from tests.lab.switch import Fault, Switch

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/meshkube"
QUICK = ("--node-heartbeat=1", "--node-grace=4")
"""Settings with which a test need not wait for a node to be missed."""


class Hosts:
    """The nodes, and the host `client` that is none of them."""

    def __init__(self, nodes: list[Node], client: Host) -> None:
        self.nodes = nodes
        self.client = client
        self.faults: list[Fault] = []

    @property
    def servers(self) -> list[Node]:
        return [node for node in self.nodes if node.kind == "server"]

    @property
    def members(self) -> list[Member]:
        return [node.member for node in self.nodes if node.member is not None]

    @property
    def switch(self) -> Switch:
        return self.client.switch

    def start(self) -> None:
        """Brings everything up, each host on its own."""
        self._start_engines()
        start_all(self.members)
        first, *others = self.servers
        for node in self.servers:
            assert node.member is not None
            node.flags = (*node.flags, f"--store={store_url(self.members, node.member)}")
        first.up()
        if others:
            token = self.token("server")
        for node in others:
            node.launch(f"--join=https://{first.host.address}:6443", f"--token={token}")
        for node in others:
            node.wait_ready(60)
        for node in self.nodes:
            if node.kind == "agent":
                self.join(node)
        wait_for(self.all_ready, 60, "every node Ready")

    def _start_engines(self) -> None:
        """Docker on every host that has it, with the quickstart's image."""
        having = [node for node in self.nodes if node.docker]
        with ThreadPoolExecutor(len(having) or 1) as pool:
            list(pool.map(Node.start_engine, having))

    def join(self, node: Node) -> None:
        """Has an agent join with a token of its own."""
        urls = ",".join(f"https://{server.host.address}:6443" for server in self.servers)
        node.up(60, f"--server={urls}", f"--token={self.token('agent')}")

    def token(self, role: str) -> str:
        """A new join token."""
        return self.api.meshkube("token", "create", "--role", role).stdout.strip()

    # Looks

    @property
    def api(self) -> Node:
        """A server that answers, where there is one."""
        return next(node for node in self.servers if node.serves)

    def read(self, path: str, limit: int = 5) -> Any:
        """A GET at the first server that answers within `limit` seconds; None where none does."""
        for node in self.servers:
            if node.serves and (found := node.read(path, limit)) is not None:
                return found
        return None

    def named(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)

    def leader(self) -> Node | None:
        """Who holds the Lease and could act on it; None while nobody does."""
        # A server that is cut off holds up the question; the others know.
        lease = self.read(LEASE, limit=1) or {}
        node = self.named((lease.get("spec") or {}).get("holderIdentity") or "")
        return node if node is not None and node.serves else None

    def wait_for_leader(self, timeout: float = 30) -> Node:
        wait_for(lambda: self.leader() is not None, timeout, "a leader")
        found = self.leader()
        assert found is not None
        return found

    def conditions(self) -> dict[str, str]:
        """Each node's Ready condition: True, False or Unknown."""
        found = {}
        for item in (self.read("/api/v1/nodes") or {"items": []})["items"]:
            entries = item["status"].get("conditions", [])
            ready = [entry["status"] for entry in entries if entry["type"] == "Ready"]
            found[item["metadata"]["name"]] = ready[0] if ready else "Unknown"
        return found

    def all_ready(self) -> bool:
        return self.conditions() == {node.name: "True" for node in self.nodes}

    def pods(self, namespace: str = "default", selector: str = "") -> list[Any]:
        """The pods of a namespace as the API has them."""
        query = f"?labelSelector={selector}" if selector else ""
        found = self.read(f"/api/v1/namespaces/{namespace}/pods{query}") or {"items": []}
        return list(found["items"])

    def apply(self, *objects: dict[str, Any]) -> None:
        """Applies objects through a server that answers."""
        file = self.api.host.directory / "apply.json"
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        file.write_text(json.dumps(listed))
        self.api.meshkube("apply", "-f", str(file))

    def leaders_history(self) -> Any:
        """What etcd's own history says of the leaders' writes: `tests.support.leaders.Report`."""
        node = next(node for node in self.servers if node.on)
        assert node.member is not None
        url = store_url(self.members, node.member)
        check = (sys.executable, "-m", "tests.support.leaders", url)
        return json.loads(node.host.run(*check, check=False).stdout)

    # Bad days

    def revive(self, node: Node, timeout: float = 60) -> None:
        node.power_on(self.members, timeout)

    def cut(self, one: Node, *others: Node) -> None:
        """No packet passes between `one` and the others, by default all of them."""
        self._add(100, one, *others)

    def lose(self, percent: int, one: Node, *others: Node) -> None:
        """That share of the packets between `one` and the others is lost."""
        self._add(percent, one, *others)

    def _add(self, percent: int, one: Node, *others: Node) -> None:
        away = others or [node for node in self.nodes if node is not one]
        numbers = [node.host.number for node in away]
        self.faults += [Fault(one.host.number, number, percent) for number in numbers]
        self.switch.set_faults(*self.faults)

    def heal(self) -> None:
        """Every link is as good as new, and nobody is frozen."""
        self.faults = []
        self.switch.set_faults()
        for node in self.nodes:
            self.switch.undelay(node.host.number)
            if node.on:
                node.heal_store()
            if node.frozen:
                node.thaw()

    def close(self) -> None:
        """Leaves nothing of the cluster."""
        unplug([*(node.host for node in self.nodes), self.client], self.switch)


def plan(
    *flags: str, servers: int, agents: int, docker: bool, tag: str = "", base: Path | None = None
) -> Hosts:
    """Hosts with nothing on them yet; `flags` are for every daemon, where it has such a one."""
    *machines, client = plug_in(servers + agents + 1, tag, base)
    nodes = [
        Node(host, "server", docker=docker, flags=flags)
        if n < servers
        else Node(host, "agent", docker=docker, flags=[flag for flag in flags if _of_host(flag)])
        for n, host in enumerate(machines)
    ]
    return Hosts(nodes, client)


def _of_host(flag: str) -> bool:
    """Whether a setting is one of each host; others are the cluster's, and servers say them."""
    return flag.startswith("--node-heartbeat=")


@contextlib.contextmanager
def running_hosts(
    *flags: str, servers: int = 3, agents: int = 0, docker: bool = False
) -> Iterator[Hosts]:
    """A started cluster, each node on a test host of its own; `flags` are for every daemon."""
    hosts = plan(*flags, servers=servers, agents=agents, docker=docker)
    try:
        hosts.start()
        yield hosts
    finally:
        hosts.close()
