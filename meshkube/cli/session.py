"""What the commands that talk to the API share: finding the kubeconfig and connecting."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from meshkube.cli.main import UsageError
from meshkube.client.http import HttpClient
from meshkube.config import Config

T = TypeVar("T")


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """`--kubeconfig` and `--namespace`, named as kubectl names them."""
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="how to reach the API")
    parser.add_argument("-n", "--namespace", default=None, metavar="NAME", help="the namespace")


def kubeconfig_path(args: argparse.Namespace) -> Path:
    """The flag, then KUBECONFIG, then this host's own server, then ~/.kube/config."""
    if args.kubeconfig:
        return Path(args.kubeconfig)
    candidates = [Config().data_dir / "kubeconfig.yaml", Path.home() / ".kube/config"]
    if os.environ.get("KUBECONFIG"):
        candidates.insert(0, Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]))
    for path in candidates:
        if os.access(path, os.R_OK):
            return path
    tried = ", ".join(str(path) for path in candidates)
    raise UsageError(f"no kubeconfig: looked at {tried}; give --kubeconfig FILE")


def with_client(args: argparse.Namespace, work: Callable[[HttpClient], Awaitable[T]]) -> T:
    """Runs `work` with a client for the API that the arguments name."""

    async def session() -> T:
        async with HttpClient.from_kubeconfig(kubeconfig_path(args)) as client:
            return await work(client)

    return asyncio.run(session())
