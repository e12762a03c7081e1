"""`meshkube dns`: cluster DNS alone, for any Kubernetes API; `meshkube dns query NAME` explains."""

from __future__ import annotations

import argparse
import asyncio

from meshkube import log
from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.cli import server, session
from meshkube.cli.main import UsageError
from meshkube.client.http import HttpClient
from meshkube.config import Config
from meshkube.daemon import process
from meshkube.dns import explain
from meshkube.dns.settings import NAME, NAMESPACE, Settings, parse

ZONE = frozenset({"cluster_dns", "cluster_domain", "service_cidr", "pod_cidr"})
SETTINGS = ZONE | {"dns_port", "log_format", "log_level"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--kubeconfig` and the settings that concern DNS; the verb `query`."""
    parser.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API")
    server.add_only(parser, SETTINGS)
    verbs = parser.add_subparsers(dest="verb", metavar="query")
    query = verbs.add_parser("query", help="say how the answer for a name comes about")
    query.add_argument("name", metavar="NAME", help="or an address, to learn whose it is")
    query.add_argument("type", metavar="TYPE", nargs="?", default="", help="of record: A")
    query.add_argument("-t", "--type", dest="kind", metavar="TYPE", default="", help="the same")
    query.add_argument("-n", "--namespace", default="default", help="of the pod that would ask")
    query.add_argument("--ndots", type=int, default=5, help="as in the pod's resolv.conf")


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT; with `query` prints, and 1 where there is no answer."""
    chosen = server.settings(args)
    if args.verb == "query":
        return _query(args, chosen)
    log.set_up(chosen.log_format, chosen.log_level.upper())  # type: ignore[arg-type]
    from meshkube.daemon import alone

    kubeconfig = session.kubeconfig_path(args)
    return process.run_alone(chosen, alone.serve(kubeconfig, alone.dns))


async def _settings(client: HttpClient) -> Settings:
    """Those that hold, or would but for a fault. Raises `ValueError` for one."""
    try:
        found = await client.get(kinds.CONFIG_MAP, NAME, NAMESPACE)
    except ApiError as error:
        if error.code != 404:
            raise
        return Settings()
    return parse(found.get("data") or {})


def _query(args: argparse.Namespace, config: Config) -> int:
    try:
        name, kind = explain.question(args.name, args.type or args.kind)
    except ValueError as error:
        raise UsageError(str(error)) from None

    async def work(client: HttpClient) -> list[explain.Step]:
        services, slices, namespaces, settings = await asyncio.gather(
            client.list(kinds.SERVICE),
            client.list(kinds.ENDPOINT_SLICE),
            client.list(kinds.NAMESPACE),
            _settings(client),
        )
        world = explain.World(
            services.items,
            slices.items,
            domain=config.cluster_domain,
            networks=[*config.service_cidrs, *config.pod_cidrs],
            address=config.cluster_dns,
            settings=settings,
            namespaces={meta.name(namespace) for namespace in namespaces.items},
        )
        search = explain.pod_search(args.namespace, config.cluster_domain)
        return world.walk(name, kind, search, args.ndots)

    try:
        steps = session.with_client(args, work)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for step in steps:
        print(f"{step.name or '.'} {kind.upper()}: {step.outcome}: {step.why}")
        for answer in step.answers:
            print(f"    {answer}")
    return 0 if steps[-1].ends else 1
