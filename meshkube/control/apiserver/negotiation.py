"""Content negotiation: what a client sends and what it wants back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson
import yaml

from meshkube.api import errors
from meshkube.api.types import JSON
from meshkube.client.base import PatchType
from meshkube.control.apiserver import protobuf

Form = Literal["object", "table", "metadata", "discovery"]

SHALLOW_BYTES = 4096
"""A text this short cannot be so deep that reading it does harm."""
DEEPEST = 500
MOST_ALIASED = 100_000
_JSON_TYPES = ("application/json", "application/*", "*/*")
_YAML = "application/yaml"
_FORMS: dict[tuple[str, str], Form] = {
    ("Table", "meta.k8s.io"): "table",
    ("PartialObjectMetadata", "meta.k8s.io"): "metadata",
    ("PartialObjectMetadataList", "meta.k8s.io"): "metadata",
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io"): "discovery",
}
_VERSIONS = {"table": ("v1", "v1beta1"), "metadata": ("v1", "v1beta1"), "discovery": ("v2",)}
PATCH_TYPES: dict[str, PatchType] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
    "application/apply-patch+json": "apply",
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer's form; `version` is that of the form's own API, `yaml` its encoding."""

    form: Form = "object"
    version: str = ""
    yaml: bool = False


_PLAIN = Accepted()


@lru_cache(maxsize=256)
def accept(header: str, offered: tuple[Form, ...] = ("object", "table", "metadata")) -> Accepted:
    """The first acceptable form. Raises `ApiError` 406."""
    if not header:
        return _PLAIN
    for clause in header.split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        found = _form(media.lower(), parameters)
        if found is not None and found.form in offered:
            return found
    raise errors.not_acceptable(
        "only the following media types are accepted: application/json, application/yaml"
    )


def _form(media: str, parameters: dict[str, str]) -> Accepted | None:
    if media not in (*_JSON_TYPES, _YAML):
        return None
    as_yaml = media == _YAML
    if "as" not in parameters:
        return Accepted(yaml=as_yaml)
    form = _FORMS.get((parameters["as"], parameters.get("g", "")))
    version = parameters.get("v", "")
    if form is None or version not in _VERSIONS[form]:
        return None
    return Accepted(form, version, as_yaml)


def media_type(header: str) -> str:
    """A Content-Type without its parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def body(content: bytes, content_type: str) -> JSON:
    """The decoded body of a create or an update. Raises `ApiError` 400 or 415."""
    media = media_type(content_type)
    if media in ("", "application/json"):
        return from_json(content)
    if media == _YAML:
        return from_yaml(content)
    if media == protobuf.MEDIA_TYPE:
        try:
            return protobuf.decode(content)
        except protobuf.DecodeError as error:
            raise errors.bad_request(str(error)) from None
    raise errors.unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml, {protobuf.MEDIA_TYPE}"
    )


def patch_body(content: bytes, content_type: str) -> tuple[PatchType, JSON]:
    """Raises `ApiError` 400 or 415."""
    media = media_type(content_type)
    kind = PATCH_TYPES.get(media)
    if kind is None:
        raise errors.unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(PATCH_TYPES)
        )
    return kind, from_yaml(content) if media.endswith("yaml") else from_json(content)


def from_json(content: bytes) -> JSON:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"couldn't read the body as JSON: {error}") from None


def from_yaml(content: bytes) -> JSON:
    """JSON is YAML too, and kubectl sends applied manifests as JSON: tried first, as it is fast."""
    if content.lstrip()[:1] == b"{":
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            pass
    try:
        if len(content) > SHALLOW_BYTES:
            _check_depth(content)
        document: JSON = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise errors.bad_request(f"couldn't read the body as YAML: {reason}") from None
    if b"&" in content and b"*" in content:
        _check_aliases(document)
    return document


def _check_depth(content: bytes) -> None:
    """libyaml builds documents by recursion in C, where too deep a one ends the process. Raises
    `ValueError`."""
    depth = 0
    for event in yaml.parse(content, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"nested deeper than {DEEPEST} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_aliases(document: JSON) -> None:
    """A few aliases of aliases stand for billions of values. Raises `ApiError` 400."""
    waiting, count = [document], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST_ALIASED:
            raise errors.bad_request(
                f"couldn't read the body as YAML: its aliases stand for over {MOST_ALIASED} values"
            )
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


class _Loader(yaml.CSafeLoader):
    """Reads times as the text they are, as JSON has no times."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def to_yaml(document: Any) -> bytes:
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, encoding="utf-8")
