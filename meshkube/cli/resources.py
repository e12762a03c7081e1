"""What the commands share: kinds by the names people type, and manifests from files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from meshkube.api import manifests, meta
from meshkube.api.kinds import STORED, Kind
from meshkube.api.manifests import Manifest
from meshkube.cli.main import UsageError

DEFAULT_NAMESPACE = "default"
_SUFFIXES = (".yaml", ".yml", ".json")


def find_kinds(typed: str) -> list[Kind]:
    """The kinds meant by `pods`, `po`, `Pod`, `deployments.apps`, `all` or `svc,deploy`."""
    found: list[Kind] = []
    for word in typed.lower().split(","):
        matches = [kind for kind in STORED if _matches(kind, word)]
        if not matches:
            raise UsageError(f'the server doesn\'t have a resource type "{word}"')
        found += matches
    return found


def _matches(kind: Kind, word: str) -> bool:
    names = (kind.plural, kind.singular, kind.kind.lower(), kind.resource, *kind.short_names)
    return word in names or word in kind.categories


def namespace_of(kind: Kind, args: argparse.Namespace, obj: dict[str, object] | None = None) -> str:
    """Where an object of this kind is: the flag, its own namespace, the default one."""
    if not kind.namespaced:
        return ""
    return args.namespace or (meta.namespace(obj) if obj else "") or DEFAULT_NAMESPACE


def read_files(paths: list[str]) -> list[Manifest]:
    """Every object of these files, directories (their YAML and JSON files) and `-`, in order.
    Raises `UsageError`, before anything was done, for the first that cannot be read."""
    found: list[Manifest] = []
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
