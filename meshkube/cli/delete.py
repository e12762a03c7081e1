"""`meshkube delete`."""

from __future__ import annotations

import argparse
import contextlib
import sys

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.manifests import Document
from meshkube.api.types import Object
from meshkube.cli.discovery import Discovery
from meshkube.cli.main import UsageError
from meshkube.cli.resources import asked, label, namespace_of, read_files
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

Target = tuple[Kind, str, str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """By kind and names, or by manifests."""
    add_connection_arguments(parser)
    parser.add_argument(
        "kind", nargs="?", default="", help="the kind, or KIND/NAME; a,b for several"
    )
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it is gone")


def run(args: argparse.Namespace) -> int:
    """Deletes and waits until the objects are gone; goes on past one that fails."""
    documents = read_files(args.filename)
    typed = asked([args.kind, *args.names]) if args.kind else []
    if not documents and not any(names for _, names in typed):
        raise UsageError("say what: KIND NAME..., KIND/NAME, or -f FILE")

    async def work(client: HttpClient) -> int:
        targets = await _targets(Discovery(client), documents, typed, args)
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


async def _targets(
    discovery: Discovery,
    documents: list[Document],
    typed: list[tuple[str, list[str]]],
    args: argparse.Namespace,
) -> list[Target]:
    targets: list[Target] = []
    for _, kind, obj in reversed(await discovery.manifests(documents)):
        targets.append((kind, meta.name(obj), namespace_of(kind, args, obj) or None))
    for word, names in typed:
        for kind in await discovery.kinds(word):
            targets += [(kind, name, namespace_of(kind, args) or None) for name in names]
    return targets


async def _delete(client: HttpClient, target: Target, *, wait: bool) -> None:
    kind, name, namespace = target
    found = await client.get(kind, name, namespace)
    uid = meta.uid(found)
    await client.delete(kind, name, namespace, propagation="Background", uid=uid)
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
