"""What kubectl shows of a cluster, in forms that tests compare."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.cluster import ROOT, Cluster

WORKLOADS = ROOT / "examples/workloads"


def shown(cluster: Cluster, *arguments: str) -> str:
    done = cluster.kubectl(*arguments)
    assert done.stderr == "", done.stderr
    return done.stdout


def described(cluster: Cluster, *arguments: str) -> str:
    """With each run of spaces as one."""
    return "\n".join(
        " ".join(s.split()) for s in shown(cluster, "describe", *arguments).splitlines()
    )


def row(cluster: Cluster, *arguments: str) -> dict[str, str]:
    """The one row of a table, by column; columns are told apart by two spaces."""
    head, line, *_ = shown(cluster, "get", *arguments).splitlines()
    starts = [i for i, c in enumerate(head) if c != " " and (i == 0 or head[i - 2 : i] == "  ")]
    ends = [*starts[1:], None]
    return {head[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def listed(cluster: Cluster, kind: str, selector: str = "") -> list[dict[str, Any]]:
    found = shown(cluster, "get", kind, "-o", "json", *(("-l", selector) if selector else ()))
    items: list[dict[str, Any]] = json.loads(found)["items"]
    return items


def names(cluster: Cluster, kind: str, selector: str = "") -> list[str]:
    return sorted(item["metadata"]["name"] for item in listed(cluster, kind, selector))


def apply_workload(cluster: Cluster, name: str) -> None:
    """One of the worked examples, without a warning."""
    shown(cluster, "apply", "-f", str(WORKLOADS / f"{name}.yaml"))
