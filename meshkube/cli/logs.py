"""`meshkube logs`."""

from __future__ import annotations

import argparse
import contextlib
import sys

from meshkube.api.kinds import POD
from meshkube.cli.resources import namespace_of
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """As kubectl names them."""
    add_connection_arguments(parser)
    parser.add_argument("pod", help="the pod's name, also as pod/NAME")
    parser.add_argument("-c", "--container", default="", help="one container of several")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines come")
    parser.add_argument("-p", "--previous", action="store_true", help="the run before this one")
    parser.add_argument("--timestamps", action="store_true")
    parser.add_argument("--tail", type=int, default=None, metavar="LINES")
    parser.add_argument("--since-seconds", type=int, default=None, metavar="SECONDS")


def run(args: argparse.Namespace) -> int:
    """Copies the log to standard output."""
    given = {
        "container": args.container,
        "follow": "true" if args.follow else "",
        "previous": "true" if args.previous else "",
        "timestamps": "true" if args.timestamps else "",
        "tailLines": "" if args.tail is None else str(args.tail),
        "sinceSeconds": "" if args.since_seconds is None else str(args.since_seconds),
    }
    params = {key: value for key, value in given.items() if value}
    path = POD.path(namespace_of(POD, args), args.pod.removeprefix("pod/"), "log")

    async def work(client: HttpClient) -> int:
        async with contextlib.aclosing(client.stream(path, params)) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        return 0

    return with_client(args, work)
