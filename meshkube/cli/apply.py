"""`meshkube apply`."""

from __future__ import annotations

import argparse
import sys

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.manifests import Manifest
from meshkube.cli.resources import label, namespace_of, read_files
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

FIELD_MANAGER = "meshkube"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`-f FILE`, repeated, and how to connect."""
    add_connection_arguments(parser)
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE",
        help="a file, a directory of files, or - for standard input",
    )  # fmt: skip
    parser.add_argument(
        "--force-conflicts", action="store_true", help="take over fields that others manage"
    )


def run(args: argparse.Namespace) -> int:
    """Applies every object (server-side apply); goes on past one that fails, and then returns 1."""
    found = read_files(args.filename)

    async def work(client: HttpClient) -> int:
        failed = 0
        for manifest in found:
            try:
                print(await _apply(client, manifest, args))
            except ApiError as error:
                failed += 1
                print(f"meshkube apply: {manifest.where}: {error.message}", file=sys.stderr)
        return 1 if failed else 0

    return with_client(args, work)


async def _apply(client: HttpClient, manifest: Manifest, args: argparse.Namespace) -> str:
    kind, obj = manifest.kind, manifest.object
    name = meta.name(obj)
    namespace = namespace_of(kind, args, obj) or None
    before = ""
    try:
        before = meta.resource_version(await client.get(kind, name, namespace))
    except ApiError as error:
        if error.code != 404:
            raise
    applied = await client.patch(
        kind,
        name,
        obj,
        namespace,
        type="apply",
        field_manager=FIELD_MANAGER,
        force=args.force_conflicts,
    )
    same = meta.resource_version(applied) == before
    return (
        f"{label(kind, name)} {'created' if not before else 'unchanged' if same else 'configured'}"
    )
