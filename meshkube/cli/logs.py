"""`meshkube logs`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from meshkube.api import meta
from meshkube.api.kinds import POD, REPLICATION_CONTROLLER, SERVICE, Kind
from meshkube.api.selectors.labels import LabelSelector, from_label_selector, from_labels
from meshkube.api.types import Object
from meshkube.cli.discovery import Discovery
from meshkube.cli.main import UsageError
from meshkube.cli.resources import asked, label, namespace_of
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """As kubectl names them."""
    add_connection_arguments(parser)
    parser.add_argument("pod", help="the pod's name, or KIND/NAME of what has pods: deploy/web")
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
    [(word, names)] = asked([args.pod if "/" in args.pod else f"pod/{args.pod}"])

    async def work(client: HttpClient) -> int:
        kind = await Discovery(client).kind(word)
        pod = names[0] if kind == POD else await _pod_of(client, kind, names[0], args)
        path = POD.path(namespace_of(POD, args), pod, "log")
        async with contextlib.aclosing(client.stream(path, params)) as chunks:
            async for chunk in chunks:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        return 0

    return with_client(args, work)


async def _pod_of(client: HttpClient, kind: Kind, name: str, args: argparse.Namespace) -> str:
    """The name of one of the pods that an object selects: a running one, the newest of these."""
    obj = await client.get(kind, name, namespace_of(kind, args) or None)
    selector = _selector(kind, obj)
    if selector is None:
        raise UsageError(f"{label(kind, name)} selects no pods: name one")
    listed = await client.list(POD, namespace_of(POD, args), labels=str(selector))
    if not listed.items:
        raise UsageError(f"{label(kind, name)} has no pods")
    chosen = meta.name(max(listed.items, key=_worth))
    if len(listed.items) > 1:
        print(f"Found {len(listed.items)} pods, using pod/{chosen}", file=sys.stderr)
    return chosen


def _selector(kind: Kind, obj: Object) -> LabelSelector | None:
    """None where the object has none, or one that would take every pod."""
    spec = obj.get("spec")
    given = spec.get("selector") if isinstance(spec, dict) else None
    if not isinstance(given, dict):
        return None
    plain = kind in (SERVICE, REPLICATION_CONTROLLER)
    selector = from_labels(given) if plain else from_label_selector(given)
    return None if selector.empty else selector


def _worth(pod: Mapping[str, Any]) -> tuple[bool, str]:
    running = (pod.get("status") or {}).get("phase") == "Running"
    return running, str(pod["metadata"].get("creationTimestamp") or "")
