"""`meshkube route explain URL`: which rule, Service and pods a request would meet, and why."""

from __future__ import annotations

import argparse
import asyncio

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.cli import session
from meshkube.cli.main import UsageError
from meshkube.client.http import HttpClient
from meshkube.ingress import explain, routes
from meshkube.ingress.controller import SECRETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`explain URL`, and from which client's address."""
    verbs = parser.add_subparsers(dest="verb", metavar="explain", required=True)
    verb = verbs.add_parser("explain", help="say what a request to a URL would meet, and why")
    verb.add_argument("url", metavar="URL")
    verb.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="who would ask")
    session.add_connection_arguments(verb)


def run(args: argparse.Namespace) -> int:
    """Prints the way of the request; 1 where no pod would get it."""
    try:
        url = explain.parse(args.url)
    except ValueError as error:
        raise UsageError(str(error)) from None

    async def work(client: HttpClient) -> explain.Explanation:
        wanted = (
            kinds.INGRESS, kinds.INGRESS_CLASS, kinds.SERVICE, kinds.ENDPOINT_SLICE,
        )  # fmt: skip
        ingresses, classes, services, slices = (
            page.items for page in await asyncio.gather(*(client.list(kind) for kind in wanted))
        )
        secrets = (await client.list(kinds.SECRET, fields=SECRETS)).items
        found = {meta.key(secret): secret for secret in secrets}
        table = routes.compile(ingresses, classes, services, slices)
        return explain.explain(table, url, args.client, found.get, _pods(slices))

    explanation = session.with_client(args, work)
    for heading, text in explanation.lines:
        print(f"{heading + ':':<14}{text}")
    return 0 if explanation.served else 1


def _pods(slices: list[Object]) -> dict[str, str]:
    """The pod's `namespace/name` of each address."""
    return {
        address: f"{meta.namespace(piece)}/{endpoint['targetRef'].get('name', '')}"
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        if (endpoint.get("targetRef") or {}).get("kind") == "Pod"
        for address in endpoint.get("addresses") or ()
    }
