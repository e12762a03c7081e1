"""`meshkube token create|list|delete`: what other hosts join with."""

from __future__ import annotations

import argparse
import base64
from datetime import UTC, datetime

from meshkube import config, join_token, pki
from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.cli.get import format_table
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient
from meshkube.control.auth import join_tokens
from meshkube.join_token import NAMESPACE, ROLES, SECRET_PREFIX, SECRET_TYPE
from meshkube.joining.authority import CA_PATH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three verbs."""
    verbs = parser.add_subparsers(dest="verb", metavar="create|list|delete", required=True)
    create = verbs.add_parser("create", help="make a token and print it, once")
    create.add_argument("--role", choices=ROLES, default="agent", help="what may join with it")
    create.add_argument("--ttl", default="24h", metavar="TIME", help="its life, such as 24h or 30m")
    create.add_argument("--description", default="", metavar="TEXT")
    listed = verbs.add_parser("list", help="show all tokens, without their secrets")
    delete = verbs.add_parser("delete", help="make tokens worthless at once")
    delete.add_argument("ids", nargs="+", metavar="ID")
    for verb in (create, listed, delete):
        add_connection_arguments(verb)


def run(args: argparse.Namespace) -> int:
    """Does it, and prints the token, the list, or what was deleted."""
    return with_client(args, lambda client: _VERBS[args.verb](client, args))


async def _create(client: HttpClient, args: argparse.Namespace) -> int:
    life = config.duration(args.ttl, "--ttl")
    token = join_token.new(pki.fingerprint(await client.get_raw(CA_PATH)))
    content = {
        "hash": token.digest,
        "role": args.role,
        "expiration": meta.timestamp(datetime.now(UTC) + life),
        "description": args.description,
    }
    data = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET_PREFIX + token.id, "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "immutable": True,
        "data": data,
    }
    await client.create(kinds.SECRET, secret)
    print(token)
    return 0


async def _list(client: HttpClient, args: argparse.Namespace) -> int:
    found = await client.list(kinds.SECRET, NAMESPACE, fields=f"type={SECRET_TYPE}")
    columns = [{"name": name} for name in ("id", "role", "expires", "description")]
    rows = []
    for secret in found.items:
        data = join_tokens.fields(secret)
        end = join_tokens.expiration(secret)
        ended = end is None or end <= datetime.now(UTC)
        when = "ended" if ended else data["expiration"]
        name = meta.name(secret).removeprefix(SECRET_PREFIX)
        rows.append({"cells": [name, data.get("role"), when, data.get("description") or ""]})
    print(format_table(columns, rows, False, False) if rows else "no tokens")
    return 0


async def _delete(client: HttpClient, args: argparse.Namespace) -> int:
    failed = 0
    for id in args.ids:
        # A whole token is taken as well: its id is what counts.
        name = id.split(".")[2] if id.startswith(join_token.PREFIX) and id.count(".") == 3 else id
        try:
            stored = await client.get(kinds.SECRET, SECRET_PREFIX + name, NAMESPACE)
            if stored.get("type") != SECRET_TYPE:
                raise ApiError(404, "NotFound", f"{name} is no join token")
            await client.delete(kinds.SECRET, SECRET_PREFIX + name, NAMESPACE)
            print(f"token {name} deleted")
        except ApiError as error:
            failed += 1
            reason = "there is no such token" if error.code == 404 else error.message
            print(f"token {name}: {reason}")
    return 1 if failed else 0


_VERBS = {"create": _create, "list": _list, "delete": _delete}
