"""`meshkube get`."""

from __future__ import annotations

import argparse
from typing import Any

import orjson
import yaml

from meshkube.api import meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.cli.discovery import Discovery
from meshkube.cli.resources import DEFAULT_NAMESPACE, asked, label
from meshkube.cli.session import add_connection_arguments, with_client
from meshkube.client.http import HttpClient

Asked = list[tuple[Kind, list[str]]]
"""Kinds, each with the names asked for: none for all there are."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """As kubectl names them."""
    add_connection_arguments(parser)
    parser.add_argument("kind", help="pods, deploy, widgets.example.com, svc,po, all or KIND/NAME")
    parser.add_argument("names", nargs="*", metavar="name", help="only these objects")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-l", "--selector", default="", help="a label selector")
    parser.add_argument("--field-selector", default="", help="a field selector")
    parser.add_argument("-o", "--output", choices=("wide", "yaml", "json", "name"), default="")


def run(args: argparse.Namespace) -> int:
    """Prints the objects as a table, or in the form that `-o` names."""
    typed = asked([args.kind, *args.names])

    async def work(client: HttpClient) -> int:
        found = await _found(Discovery(client), typed)
        if args.output in ("", "wide"):
            return await _print_tables(client, found, args)
        await _print_objects(client, found, args)
        return 0

    return with_client(args, work)


async def _found(discovery: Discovery, typed: list[tuple[str, list[str]]]) -> Asked:
    found: Asked = []
    for word, names in typed:
        if names:
            found.append((await discovery.kind(word), names))
        else:
            found += [(kind, []) for kind in await discovery.kinds(word)]
    return found


def _namespace(kind: Kind, args: argparse.Namespace) -> str | None:
    if not kind.namespaced or args.all_namespaces:
        return None
    return args.namespace or DEFAULT_NAMESPACE


def _selectors(args: argparse.Namespace) -> dict[str, str]:
    given = {"labelSelector": args.selector, "fieldSelector": args.field_selector}
    return {key: value for key, value in given.items() if value}


async def _print_tables(client: HttpClient, wanted: Asked, args: argparse.Namespace) -> int:
    shown = 0
    for kind, names in wanted:
        rows: list[Any] = []
        columns: list[Any] = []
        for name in names or [""]:
            path = kind.path(_namespace(kind, args), name)
            table = orjson.loads(await client.get_raw(path, _selectors(args), accept=TABLE))
            columns = table["columnDefinitions"]
            rows += table.get("rows") or []
        if not rows:
            continue
        if shown:
            print()
        shown += 1
        prefix = f"{kind.singular}/" if len(wanted) > 1 else ""
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


async def _print_objects(client: HttpClient, wanted: Asked, args: argparse.Namespace) -> None:
    found: list[tuple[Kind, Object]] = []
    for kind, names in wanted:
        namespace = _namespace(kind, args)
        if names:
            found += [(kind, await client.get(kind, name, namespace)) for name in names]
            continue
        page = await client.list(kind, namespace, labels=args.selector, fields=args.field_selector)
        found += [(kind, item) for item in page.items]
    if args.output == "name":
        for kind, obj in found:
            print(label(kind, meta.name(obj)))
        return
    shown: Object = {"apiVersion": "v1", "kind": "List", "items": [obj for _, obj in found]}
    if [len(names) for _, names in wanted] == [1]:
        shown = found[0][1]
    if args.output == "json":
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print(yaml.safe_dump(shown, sort_keys=False), end="")
