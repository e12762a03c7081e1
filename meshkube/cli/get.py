"""`meshkube get`."""

from __future__ import annotations

import argparse
from typing import Any

import orjson
import yaml

from meshkube.api import meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.cli.main import UsageError
from meshkube.cli.resources import DEFAULT_NAMESPACE, find_kinds, label
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """As kubectl names them."""
    add_connection_arguments(parser)
    parser.add_argument("kind", help="pods, deploy, svc, all, ... or KIND/NAME")
    parser.add_argument("names", nargs="*", metavar="name", help="only these objects")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-l", "--selector", default="", help="a label selector")
    parser.add_argument("--field-selector", default="", help="a field selector")
    parser.add_argument("-o", "--output", choices=("wide", "yaml", "json", "name"), default="")


def run(args: argparse.Namespace) -> int:
    """Prints the objects as a table, or in the form that `-o` names."""
    if "/" in args.kind:
        args.kind, _, name = args.kind.partition("/")
        args.names.insert(0, name)
    kinds = find_kinds(args.kind)
    if args.names and len(kinds) > 1:
        raise UsageError("a name needs one kind")

    async def work(client: HttpClient) -> int:
        if args.output in ("", "wide"):
            return await _print_tables(client, kinds, args)
        await _print_objects(client, kinds, args)
        return 0

    return with_client(args, work)


def _namespace(kind: Kind, args: argparse.Namespace) -> str | None:
    if not kind.namespaced or args.all_namespaces:
        return None
    return args.namespace or DEFAULT_NAMESPACE


def _selectors(args: argparse.Namespace) -> dict[str, str]:
    given = {"labelSelector": args.selector, "fieldSelector": args.field_selector}
    return {key: value for key, value in given.items() if value}


async def _print_tables(client: HttpClient, kinds: list[Kind], args: argparse.Namespace) -> int:
    shown = 0
    for kind in kinds:
        rows: list[Any] = []
        columns: list[Any] = []
        for name in args.names or [""]:
            path = kind.path(_namespace(kind, args), name)
            table = orjson.loads(await client.get_raw(path, _selectors(args), accept=TABLE))
            columns = table["columnDefinitions"]
            rows += table.get("rows") or []
        if not rows:
            continue
        if shown:
            print()
        shown += 1
        prefix = f"{kind.singular}/" if len(kinds) > 1 else ""
        print(format_table(columns, rows, args.output == "wide", args.all_namespaces, prefix))
    if not shown:
        where = (
            "" if args.all_namespaces else f" in {args.namespace or DEFAULT_NAMESPACE} namespace"
        )
        print(f"No resources found{where}.")
    return 0


def format_table(
    columns: list[Any], rows: list[Any], wide: bool, namespaces: bool, prefix: str = ""
) -> str:
    """A server's Table as aligned text; columns of priority 0 only, unless `wide`."""
    shown = [n for n, column in enumerate(columns) if wide or not column.get("priority")]
    lines = [[columns[n]["name"].upper() for n in shown]]
    for row in rows:
        cells = ["<none>" if row["cells"][n] is None else str(row["cells"][n]) for n in shown]
        cells[0] = prefix + cells[0]
        lines.append(cells)
    if namespaces:
        lines[0].insert(0, "NAMESPACE")
        for line, row in zip(lines[1:], rows, strict=True):
            line.insert(0, meta.namespace(row.get("object") or {}))
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    padded = (
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join(padded)


async def _print_objects(client: HttpClient, kinds: list[Kind], args: argparse.Namespace) -> None:
    found: list[tuple[Kind, Object]] = []
    for kind in kinds:
        namespace = _namespace(kind, args)
        if args.names:
            found += [(kind, await client.get(kind, name, namespace)) for name in args.names]
            continue
        page = await client.list(kind, namespace, labels=args.selector, fields=args.field_selector)
        found += [(kind, item) for item in page.items]
    if args.output == "name":
        for kind, obj in found:
            print(label(kind, meta.name(obj)))
        return
    shown: Object = {"apiVersion": "v1", "kind": "List", "items": [obj for _, obj in found]}
    if len(args.names) == 1:
        shown = found[0][1]
    if args.output == "json":
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print(yaml.safe_dump(shown, sort_keys=False), end="")
