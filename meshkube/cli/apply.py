"""`meshkube apply`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import CUSTOM_RESOURCE_DEFINITION
from meshkube.api.manifests import Manifest
from meshkube.api.types import Object
from meshkube.cli.discovery import Discovery
from meshkube.cli.resources import label, namespace_of, read_files
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

FIELD_MANAGER = "meshkube"
ESTABLISHED_SECONDS = 10.0
"""How long a new CustomResourceDefinition may take before objects of it are applied anyway."""


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
    documents = read_files(args.filename)

    async def work(client: HttpClient) -> int:
        failed = 0
        for manifest in await Discovery(client).manifests(documents):
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
    if kind is CUSTOM_RESOURCE_DEFINITION and not same:
        await _established(client, name)
    return (
        f"{label(kind, name)} {'created' if not before else 'unchanged' if same else 'configured'}"
    )


async def _established(client: HttpClient, name: str) -> None:
    """Waits until objects of a definition can be made: the next document may be one."""
    one = f"metadata.name={name}"
    try:
        async with asyncio.timeout(ESTABLISHED_SECONDS):
            listed = await client.list(CUSTOM_RESOURCE_DEFINITION, fields=one)
            if any(map(_is_established, listed.items)):
                return
            events = client.watch(
                CUSTOM_RESOURCE_DEFINITION, fields=one, resource_version=listed.resource_version
            )
            async with contextlib.aclosing(events):
                async for event in events:
                    if _is_established(event.object):
                        return
    except TimeoutError:
        return


def _is_established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
