"""The client section of docs/compatibility.md: one row for each test that drives a real client."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
OURS = "tests/clients"
SOURCES = (OURS, "tests/e2e/test_kubectl.py")
HEAD = """## Real clients

Each row is a test that drives an unmodified client against a fresh `meshkube server` with Docker;
`make compatibility` runs them and writes what came of it.
"""


class Row(NamedTuple):
    """One test of a client."""

    module: str
    """Such as `tests.clients.test_kr8s`."""
    name: str
    """Of the function, with its parameters."""

    @property
    def text(self) -> str:
        plain, _, parameters = self.name.removeprefix("test_").partition("[")
        words = plain.replace("_", " ").strip()
        return f"{words}: {parameters[:-1]}" if parameters else words


def declared() -> Iterator[Row]:
    """The rows of our own matrix, from the sources alone; parametrized ones without parameters."""
    for file in sorted((ROOT / OURS).glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if function and node.name.startswith("test_"):
                yield Row(_module(file), node.name)


def title(module: str) -> str:
    """What a client is called: the first sentence of its file."""
    text = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    return re.split(r"[.:]\s", ast.get_docstring(ast.parse(text)) or module)[0].rstrip(".")


def render(junit: str, before: str = "") -> str:
    """The section, from the JUnit report of one run; clients that it left out stay as `before`."""
    found: dict[str, list[tuple[Row, str]]] = {}
    for case in ElementTree.fromstring(junit).iter("testcase"):
        row = Row(case.get("classname", ""), case.get("name", ""))
        found.setdefault(row.module, []).append((row, _result(case)))
    parts = {part.partition(":")[0]: part.strip() for part in before.split("\n### ")[1:]}
    for module, rows in found.items():
        passed = sum(result == "passes" for _, result in rows)
        lines = [f"{title(module)}: {passed} of {len(rows)} pass", "", "| | |", "|---|---|"]
        lines += [f"| {row.text} | {result} |" for row, result in rows]
        parts[title(module)] = "\n".join(lines)
    whole = "".join(f"\n### {parts[name]}\n" for name in sorted(parts))
    return f"{HEAD}\nThe last run had {_versions()}.\n{whole}"


def _result(case: ElementTree.Element) -> str:
    for tag, word in (("failure", "**fails**"), ("error", "**fails**"), ("skipped", "not run")):
        fault = case.find(tag)
        if fault is not None:
            lines = fault.get("message", "").splitlines() or [""]
            return f"{word}: {lines[0][:200]}".replace("|", "\\|")
    return "passes"


def _versions() -> str:
    names = ("kubernetes", "kr8s", "lightkube", "kopf")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)
