"""`meshkube status`."""

from __future__ import annotations

import argparse

import orjson

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import LEASE, NODE
from meshkube.api.types import Object
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

LEADER_LEASE = ("meshkube", "kube-system")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to connect."""
    add_connection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints version, parts, listeners, leader and nodes; returns 1 while a part does not serve."""

    async def work(client: HttpClient) -> int:
        found = orjson.loads(await client.get_raw("/statusz", accept="application/json"))
        print(f"Server     {client.server}  {found['version']}")
        print(f"Leader     {await _leader(client)}")
        print("Nodes")
        for node in (await client.list(NODE)).items:
            print(f"  {meta.name(node)}  {_address(node)}  {_condition(node)}")
        print("Parts")
        width = max(len(name) for name in found["parts"])
        for name, part in found["parts"].items():
            failures = f"  ({part['failures']} restarts)" if part["failures"] else ""
            where = found["listeners"].get(name, "")
            print(f"  {name.ljust(width)}  {part['message'].ljust(8)}  {where}{failures}".rstrip())
        return 0 if all(part["ready"] for part in found["parts"].values()) else 1

    return with_client(args, work)


async def _leader(client: HttpClient) -> str:
    try:
        lease = await client.get(LEASE, *LEADER_LEASE)
    except ApiError as error:
        if error.code == 404:
            return "none yet"
        raise
    spec = lease.get("spec") or {}
    return f"{spec.get('holderIdentity') or 'nobody'}  renewed {spec.get('renewTime')}"


def _address(node: Object) -> str:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((each["address"] for each in addresses if each["type"] == "InternalIP"), "?")


def _condition(node: Object) -> str:
    """Whether pods can run there, and what it is short of."""
    found = {one["type"]: one for one in (node.get("status") or {}).get("conditions") or ()}
    ready = found.get("Ready") or {}
    short = [name for name, one in found.items() if _is_short(name, one)]
    if ready.get("status") == "True":
        return ", ".join(["Ready", *short])
    message = f": {ready['message']}" if ready.get("message") else ""
    return ", ".join([f"NotReady{message}", *short])


def _is_short(name: str, condition: Object) -> bool:
    return name.endswith("Pressure") and condition["status"] == "True"
