"""`meshkube delete`."""

from __future__ import annotations

import argparse
import contextlib
import sys

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.cli.main import UsageError
from meshkube.cli.resources import find_kinds, label, namespace_of, read_files
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

Target = tuple[Kind, str, str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """By kind and names, or by manifests."""
    add_connection_arguments(parser)
    parser.add_argument("kind", nargs="?", default="", help="the kind, or KIND/NAME")
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is gone")


def run(args: argparse.Namespace) -> int:
    """Deletes and waits until the objects are gone; goes on past one that fails."""
    targets = _targets(args)

    async def work(client: HttpClient) -> int:
        failed = 0
        for target in targets:
            try:
                await _delete(client, target, wait=not args.no_wait)
            except ApiError as error:
                if error.code == 404 and args.ignore_not_found:
                    continue
                failed += 1
                print(f"Error from server ({error.reason}): {error.message}", file=sys.stderr)
        return 1 if failed else 0

    return with_client(args, work)


def _targets(args: argparse.Namespace) -> list[Target]:
    targets: list[Target] = []
    for manifest in reversed(read_files(args.filename)):
        namespace = namespace_of(manifest.kind, args, manifest.object)
        targets.append((manifest.kind, meta.name(manifest.object), namespace or None))
    if args.kind:
        typed, _, name = args.kind.partition("/")
        names = [name, *args.names] if name else args.names
        for kind in find_kinds(typed):
            targets += [(kind, name, namespace_of(kind, args) or None) for name in names]
    if not targets:
        raise UsageError("say what: KIND NAME..., KIND/NAME, or -f FILE")
    return targets


async def _delete(client: HttpClient, target: Target, *, wait: bool) -> None:
    kind, name, namespace = target
    found = await client.get(kind, name, namespace)
    uid = meta.uid(found)
    await client.delete(kind, name, namespace, uid=uid)
    print(f'{label(kind, name).partition("/")[0]} "{name}" deleted')
    if wait:
        await _gone(client, target, found)


async def _gone(client: HttpClient, target: Target, found: Object) -> None:
    """Waits until the object is deleted; asks anew where a watch ends before that."""
    kind, name, namespace = target
    one = f"metadata.name={name}"
    while True:
        # Not from the object's own version: a server that has just started knows only later ones.
        listed = await client.list(kind, namespace, fields=one)
        if all(meta.uid(item) != meta.uid(found) for item in listed.items):
            return
        events = client.watch(kind, namespace, fields=one, resource_version=listed.resource_version)
        async with contextlib.aclosing(events):
            async for event in events:
                if event.type == "DELETED" and meta.uid(event.object) == meta.uid(found):
                    return
