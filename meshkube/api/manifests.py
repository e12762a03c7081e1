"""Manifests: YAML (or JSON) text with one or more documents, read as Kubernetes reads it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from meshkube.api import meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object


class ManifestError(ValueError):
    """Text that is no manifest: one line that says where and why."""


class Document(NamedTuple):
    """One object of a manifest, and where it stood."""

    where: str
    """`file.yaml, document 3`"""
    object: Object

    @property
    def names(self) -> tuple[str, str]:
        """Its `apiVersion` and `kind`."""
        return str(self.object["apiVersion"]), str(self.object["kind"])


class Manifest(NamedTuple):
    """A document whose kind is known."""

    where: str
    kind: Kind
    object: Object


class _Loader(yaml.CSafeLoader):
    """YAML as JSON: a date stays the text it is written as."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str | bytes) -> Iterator[Any]:
    """Each document of YAML text as JSON values. Raises `yaml.YAMLError`."""
    return yaml.load_all(text, Loader=_Loader)


def read(text: str, source: str) -> list[Document]:
    """Every object in the text; a `List` is taken apart, an empty document passed over.
    Raises `ManifestError` for the first document that is no object with a kind and a name."""
    found: list[Document] = []
    number = 0
    iterator = documents(text)
    while True:
        number += 1
        where = f"{source}, document {number}"
        try:
            document = next(iterator)
        except StopIteration:
            return found
        except yaml.YAMLError as error:
            raise ManifestError(f"{where}: {' '.join(str(error).split())}") from None
        found += [_checked(Document(where, obj)) for obj in _objects(document, where)]


def _objects(document: Any, where: str) -> list[Object]:
    if document is None:
        return []
    if not isinstance(document, dict):
        raise ManifestError(f"{where}: is {type(document).__name__}, not an object")
    if document.get("apiVersion") == "v1" and document.get("kind") == "List":
        items = document.get("items") or []
        return [obj for item in items for obj in _objects(item, where)]
    return [document]


def _checked(document: Document) -> Document:
    where, obj = document
    for field in ("apiVersion", "kind"):
        if not obj.get(field):
            raise ManifestError(f"{where}: {field} is missing")
    if not isinstance(obj.get("metadata"), dict) or not meta.name(obj):
        raise ManifestError(f"{where}: metadata.name is missing")
    return document
