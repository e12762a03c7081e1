"""What the commands share: objects as people name them, and manifests from files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from meshkube.api import manifests, meta
from meshkube.api.kinds import Kind
from meshkube.api.manifests import Document
from meshkube.cli.main import UsageError

DEFAULT_NAMESPACE = "default"
_SUFFIXES = (".yaml", ".yml", ".json")


def asked(typed: list[str]) -> list[tuple[str, list[str]]]:
    """Kinds, as they were typed, with the names asked for: of `svc web db`, `pod/a svc/b` or
    `svc,deploy`. Raises `UsageError` where the forms are mixed."""
    if not any("/" in word for word in typed):
        return [(typed[0], typed[1:])] if typed else []
    found: list[tuple[str, list[str]]] = []
    for word in typed:
        kind, _, name = word.partition("/")
        if not kind or not name or "/" in name:
            raise UsageError(f'"{word}" is not KIND/NAME')
        if found and found[-1][0] == kind:
            found[-1][1].append(name)
        else:
            found.append((kind, [name]))
    return found


def namespace_of(kind: Kind, args: argparse.Namespace, obj: dict[str, object] | None = None) -> str:
    """Where an object of this kind is: the flag, its own namespace, the default one."""
    if not kind.namespaced:
        return ""
    return args.namespace or (meta.namespace(obj) if obj else "") or DEFAULT_NAMESPACE


def read_files(paths: list[str]) -> list[Document]:
    """Every object of these files, directories (their YAML and JSON files) and `-`, in order.
    Raises `UsageError`, before anything was done, for the first that cannot be read."""
    found: list[Document] = []
    for path in paths:
        try:
            if path == "-":
                found += manifests.read(sys.stdin.read(), "standard input")
                continue
            for file in _files(Path(path)):
                found += manifests.read(file.read_text(), str(file))
        except manifests.ManifestError as error:
            raise UsageError(str(error)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def label(kind: Kind, name: str) -> str:
    """`deployment.apps/user`: how results name an object."""
    return f"{kind.singular}.{kind.group}/{name}" if kind.group else f"{kind.singular}/{name}"
