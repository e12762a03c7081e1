"""`meshkube image load`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from meshkube import config
from meshkube.cli.main import UsageError
from meshkube.node import docker_admin
from meshkube.node.runtime import RuntimeFailure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`load FILE` and where Docker is."""
    verbs = parser.add_subparsers(dest="verb", metavar="load", required=True)
    load = verbs.add_parser("load", help="load an archive made by docker save into this host")
    load.add_argument("archive", type=Path, metavar="FILE")
    load.add_argument("--docker", default=None, metavar="URL", help="where Docker Engine listens")


def run(args: argparse.Namespace) -> int:
    """Loads the archive into the Docker Engine of this host, so that pods here can use it."""
    settings = config.load({"docker": args.docker}, os.environ)

    async def work() -> list[str]:
        async with docker_admin.engine(settings.docker) as docker:
            return await docker_admin.load_image(docker, args.archive)

    if not args.archive.is_file():
        raise UsageError(f"{args.archive}: no such file")
    try:
        lines = asyncio.run(work())
    except RuntimeFailure as error:
        raise UsageError(f"{args.archive}: {error}") from None
    print("\n".join(lines) or f"{args.archive}: loaded")
    return 0
