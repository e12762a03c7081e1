"""What must hold after any bad day."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.lab.hosts import Hosts
from tests.lab.shell import wait_for
from tests.lab.switch import ROOT


def leaders(hosts: Hosts) -> dict[str, Any]:
    """The report of `tests.support.leaders`: terms, writes, and those made outside of a term."""
    member = next(node.member for node in hosts.servers if node.on and node.member is not None)
    done = member.host.run(
        sys.executable, "-m", "tests.support.leaders", f"etcd://{member.endpoint}",
        check=False, cwd=ROOT,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        raise AssertionError(f"the checker said: {done.stdout}{done.stderr}")
    return dict(json.loads(done.stdout))


def no_two_leaders_wrote(hosts: Hosts) -> dict[str, Any]:
    """Asserts it, from etcd's own history; returns the report."""
    report = leaders(hosts)
    assert report["violations"] == []
    assert report["leader_writes"] > 0
    return report


def settled(hosts: Hosts, timeout: float = 60) -> None:
    """Waits until every node is Ready and every server says that all of it serves."""
    wait_for(lambda: hosts.leader() is not None, timeout, "a leader")
    wait_for(hosts.all_ready, timeout, "every node Ready")
    for node in hosts.servers:
        wait_for(node.ready, timeout, f"the server of {node}")


def replicas_are(hosts: Hosts, name: str, timeout: float = 60) -> None:
    """Waits until a Deployment has exactly as many live pods as it wants, and no other pod."""

    def right() -> bool:
        found = hosts.read(f"/apis/apps/v1/namespaces/default/deployments/{name}")
        if found is None:
            return False
        here = hosts.pods(selector=f"app={name}")
        status = found.get("status", {})
        return bool(
            len(here) == found["spec"]["replicas"] == status.get("availableReplicas", 0)
            and status.get("observedGeneration") == found["metadata"]["generation"]
        )

    wait_for(right, timeout, f"as many pods of {name} as are wanted")
