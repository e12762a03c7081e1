"""Patches of all four types, as functions for `Registry.patch`."""

from __future__ import annotations

import re
from collections.abc import Callable

from meshkube.api import errors, meta, schemas
from meshkube.api import patch as patches
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.api.validation.faults import invalid
from meshkube.client.base import PatchType
from meshkube.control.apiserver import subresources
from meshkube.control.apiserver.cache import Cached
from meshkube.control.apiserver.options import WriteOptions
from meshkube.control.apiserver.registry import Registry

_WRONG_TYPE = re.compile(
    r"json: cannot unmarshal (?P<given>\w+) into Go struct field \S+ of type (?P<wanted>\S+)$"
)
_OF_STATUS = frozenset({"apiVersion", "kind", "metadata", "status"})
_MANAGERS = "managedFields"


async def run(
    registry: Registry,
    kind: Kind,
    name: str,
    namespace: str,
    type: PatchType,
    patch: JSON,
    options: WriteOptions,
    subresource: str = "",
) -> tuple[Cached, bool]:
    """The object, and whether the patch (an apply) made it. Raises `ApiError`."""
    if type == "apply":
        if not isinstance(patch, dict):
            raise errors.bad_request("an apply patch must be an object")
        if not patch.get("apiVersion") or not patch.get("kind"):
            given = f"{patch.get('apiVersion') or '/'}, Kind={patch.get('kind') or ''}"
            raise errors.bad_request(f"invalid object type: {given}")
        config = meta.copy(patch)
        if subresource == "scale":
            config = subresources.applied_scale(kind, config, name)
        return await registry.apply(kind, name, namespace, config, options, subresource)
    function = _function(kind, type, patch, subresource)
    try:
        done = await registry.patch(kind, name, namespace, function, options, subresource)
    except errors.ApiError as error:
        raise _of_the_patch(error, type, patch) from None
    return done, False


def _of_the_patch(error: errors.ApiError, type: PatchType, patch: JSON) -> errors.ApiError:
    """A patch that makes a value of a wrong type is itself invalid, as kube-apiserver has it: it
    words a strategic one as its converter does, others as its decoder does."""
    found = _WRONG_TYPE.search(error.message)
    if error.code != 400 or found is None:
        return error
    detail = found[0]
    for start, name in (("map[", "map"), ("[]", "slice")):
        if type == "strategic" and found["wanted"].startswith(start):
            detail = f"cannot restore {name} from {found['given']}"
    return errors.invalid("", "", "", [invalid("patch", patch, detail)])


def _function(
    kind: Kind, type: PatchType, patch: JSON, subresource: str
) -> Callable[[Object], Object]:
    if type == "json":
        return lambda doc: patches.json_patch(doc, patch)
    if type == "merge":
        return _narrow(patches.merge_patch, patch, subresource)
    if kind.definition is not None and subresource != "scale":
        raise errors.unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, "
            "application/apply-patch+yaml"
        )
    schema = (
        schemas.schema_of("io.k8s.api.autoscaling.v1.Scale")
        if subresource == "scale"
        else schemas.schema_for(kind)
    )

    def merge(doc: Object, patch: JSON) -> Object:
        return patches.strategic_merge(doc, patch, schema)

    return _narrow(merge, patch, subresource)


def _narrow(
    merge: Callable[[Object, JSON], Object], patch: JSON, subresource: str
) -> Callable[[Object], Object]:
    """The merge of a patch. One of the status that says nothing of other parts leaves these shared
    with the document: they are most of it, and what writes a status changes none of them."""
    if subresource != "status" or not isinstance(patch, dict) or not patch.keys() <= _OF_STATUS:
        return lambda doc: merge(doc, patch)

    def merged(doc: Object) -> Object:
        part = {key: doc[key] for key in doc if key in _OF_STATUS}
        managers = None
        if _MANAGERS not in (patch.get("metadata") or {}):
            part["metadata"] = {**doc["metadata"]}
            managers = part["metadata"].pop(_MANAGERS, None)
        new = merge(part, patch)
        if managers is not None and isinstance(new.get("metadata"), dict):
            new["metadata"][_MANAGERS] = managers
        return {**new, **{key: value for key, value in doc.items() if key not in _OF_STATUS}}

    return merged
