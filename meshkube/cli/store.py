"""`meshkube store copy|snapshot|restore`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from meshkube import backends, config
from meshkube.backends import Place

PLACES = "`sqlite`, `sqlite:FILE`, or etcd://host:port,host:port[/prefix]"
_SETTINGS = [
    "data_dir",
    "store",
    "store_ca",
    "store_cert",
    "store_key",
    "store_user",
    "store_password_file",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three verbs, each with the settings of `meshkube server` that are about the store."""
    verbs = parser.add_subparsers(dest="verb", metavar="copy|snapshot|restore", required=True)
    copy = verbs.add_parser("copy", help="copy all of a store into an empty one")
    copy.add_argument("--from", dest="source", required=True, metavar="STORE", help=PLACES)
    copy.add_argument("--to", dest="target", required=True, metavar="STORE", help=PLACES)
    _add_settings(copy, without="store")
    for verb, help in (
        ("snapshot", "write all of the store to a file, while servers run"),
        ("restore", "fill an empty store from such a file"),
    ):
        one = verbs.add_parser(verb, help=help)
        one.add_argument("file", type=Path, metavar="FILE")
        _add_settings(one)


def _add_settings(parser: argparse.ArgumentParser, without: str = "") -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file of settings")
    for setting in config.settings():
        if setting.name in _SETTINGS and setting.name != without:
            flag = "--" + setting.name.replace("_", "-")
            parser.add_argument(flag, metavar="VALUE", help=setting.metadata["help"])


def run(args: argparse.Namespace) -> int:
    """Does it, and prints what was done."""
    flags = {name: getattr(args, name, None) for name in _SETTINGS}
    chosen = config.load(flags, os.environ, args.config)
    try:
        print(asyncio.run(_VERBS[args.verb](args, chosen)))
    except backends.StoreError as error:
        print(f"meshkube store {args.verb}: {error}", file=sys.stderr)
        return 1
    return 0


async def _copy(args: argparse.Namespace, chosen: config.Config) -> str:
    source, target = Place(args.source, chosen), Place(args.target, chosen)
    done = await backends.move(source, target)
    return (
        f"copied {_size(done)} from {source.name} at revision {done.source_revision}"
        f" to {target.name}, now at revision {done.target_revision}"
    )


async def _snapshot(args: argparse.Namespace, chosen: config.Config) -> str:
    source = Place(chosen.store, chosen)
    done = await backends.save(source, args.file)
    return f"saved {_size(done)} of {source.name} at revision {done.source_revision} to {args.file}"


async def _restore(args: argparse.Namespace, chosen: config.Config) -> str:
    target = Place(chosen.store, chosen)
    done = await backends.load(args.file, target)
    return (
        f"restored {_size(done)}, saved at revision {done.source_revision},"
        f" to {target.name}, now at revision {done.target_revision}"
    )


_VERBS = {"copy": _copy, "snapshot": _snapshot, "restore": _restore}


def _size(done: backends.Copied) -> str:
    return f"{done.keys} keys ({done.bytes:,} bytes)"
