"""`meshkube image load|list`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from meshkube import config
from meshkube.api.errors import ApiError
from meshkube.cli.main import UsageError
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient
from meshkube.node import docker_admin, image_loading
from meshkube.node.image_loading import Outcome
from meshkube.node.runtime import NotFound, RuntimeFailure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to load, onto which nodes, and where Docker is."""
    verbs = parser.add_subparsers(dest="verb", metavar="load|list", required=True)
    load = verbs.add_parser("load", help="put an image on the nodes of the cluster")
    load.add_argument(
        "source",
        metavar="IMAGE|FILE",
        help="an image of this host's Docker, or what docker save made",
    )
    load.add_argument("--docker", default=None, metavar="URL", help="where Docker Engine listens")
    load.add_argument(
        "--local", action="store_true", help="only into this host's Docker; needs no API"
    )
    listed = verbs.add_parser("list", help="show the images of the nodes")
    for verb in (load, listed):
        verb.add_argument("--nodes", default="", metavar="A,B", help="these only, not all")
        add_connection_arguments(verb)


def run(args: argparse.Namespace) -> int:
    """Loads, or lists; 1 where a node failed."""
    if args.verb == "list":
        return with_client(args, lambda client: _list(client, _nodes(args)))
    source = Path(args.source)
    engine = config.load({"docker": args.docker}, os.environ).docker
    try:
        if source.is_file():
            return _load(args, source, engine)
        with tempfile.TemporaryDirectory(prefix="meshkube-") as directory:
            archive = Path(directory) / "image.tar"
            asyncio.run(_save(engine, args.source, archive))
            return _load(args, archive, engine)
    except RuntimeFailure as error:
        raise UsageError(f"{args.source}: {error}") from None


def _nodes(args: argparse.Namespace) -> list[str]:
    return [name for name in args.nodes.split(",") if name]


async def _save(engine: str, image: str, archive: Path) -> None:
    async with docker_admin.engine(engine) as docker:
        try:
            await docker_admin.save_image(docker, image, archive)
        except NotFound:
            raise UsageError(
                f"{image}: no such file, and Docker at {engine} has no such image"
            ) from None


def _load(args: argparse.Namespace, archive: Path, engine: str) -> int:
    if args.local:
        return asyncio.run(_load_here(archive, engine))
    return with_client(args, lambda client: _load_there(client, _nodes(args), archive))


async def _load_here(archive: Path, engine: str) -> int:
    async with docker_admin.engine(engine) as docker:
        for name in await docker_admin.load_image(docker, archive):
            print(f"loaded {name}")
    return 0


async def _load_there(client: HttpClient, wanted: list[str], archive: Path) -> int:
    nodes = await image_loading.node_names(client, wanted)
    size = (await asyncio.to_thread(archive.stat)).st_size
    progress = Progress(nodes, size)
    failed = False
    async for outcome in image_loading.load(client, nodes, archive, progress.sent):
        progress.done(outcome)
        failed = failed or bool(outcome.failure)
    return 1 if failed else 0


class Progress:
    """A line for each node that is done; on a terminal also how far the others are."""

    def __init__(self, nodes: list[str], size: int) -> None:
        self._size = size
        self._percent = dict.fromkeys(nodes, 0)
        self._live = sys.stderr.isatty()

    def sent(self, node: str, count: int) -> None:
        percent = 100 * count // max(1, self._size)
        if node in self._percent and percent != self._percent[node]:
            self._percent[node] = percent
            self._show()

    def _show(self) -> None:
        if self._live:
            parts = [f"{node} {percent} %" for node, percent in self._percent.items()]
            sys.stderr.write("\r\033[K" + "   ".join(parts)[:150])
            sys.stderr.flush()

    def done(self, outcome: Outcome) -> None:
        self._percent.pop(outcome.node, None)
        if self._live:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        if outcome.failure:
            print(f"{outcome.node}: failed: {outcome.failure}", file=sys.stderr, flush=True)
        else:
            size = f"{self._size / 1e6:.1f} MB in {outcome.seconds:.1f} s"
            print(f"{outcome.node}: loaded {', '.join(outcome.names)} ({size})", flush=True)
        self._show()


async def _list(client: HttpClient, wanted: list[str]) -> int:
    rows: dict[tuple[str, str, int], list[str]] = {}
    failed = False
    for node in await image_loading.node_names(client, wanted):
        try:
            images = await image_loading.listed(client, node)
        except ApiError as error:
            print(f"{node}: failed: {error}", file=sys.stderr)
            failed = True
            continue
        for image in images:
            for name in image["names"]:
                rows.setdefault((name, image["id"], image["size"]), []).append(node)
    lines = [("IMAGE", "ID", "SIZE", "NODES")]
    for (name, id, size), nodes in sorted(rows.items()):
        short = id.partition(":")[2][:12] or id
        lines.append((name, short, f"{size / 1e6:.1f} MB", ",".join(nodes)))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("   ".join([*cells, line[3]]))
    return 1 if failed else 0
