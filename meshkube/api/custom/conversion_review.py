"""The `ConversionReview` that a conversion webhook is sent, and what its answer says.

Source: Kubernetes documentation, "Versions in CustomResourceDefinitions" (webhook request and
response).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from meshkube.api.types import JSON, Object

VERSIONS: Final = ("v1", "v1beta1")
_GROUP: Final = "apiextensions.k8s.io"
_FREE: Final = ("labels", "annotations")
"""What of its metadata a conversion may change."""


class BadConversion(ValueError):
    """An answer that is no conversion of what was sent."""


def version_of(webhook: Mapping[str, Any]) -> str:
    """The first version of reviews that both sides know."""
    offered = webhook.get("conversionReviewVersions") or ()
    return next((one for one in offered if one in VERSIONS), VERSIONS[0])


def review(uid: str, version: str, wanted: str, objects: Sequence[Object]) -> Object:
    """Asks for `objects` in the apiVersion `wanted`. It holds shared objects."""
    request = {"uid": uid, "desiredAPIVersion": wanted, "objects": list(objects)}
    return {
        "kind": "ConversionReview",
        "apiVersion": f"{_GROUP}/{version}",
        "request": request,
    }


def converted(answer: JSON, uid: str, wanted: str, objects: Sequence[Object]) -> list[Object]:
    """The objects in their new form, with the metadata that they had. Raises `BadConversion`."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise BadConversion("the answer has no response")
    if response.get("uid") != uid:
        raise BadConversion(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise BadConversion(str(result.get("message") or "the webhook gives no reason"))
    made = response.get("convertedObjects") or []
    if not isinstance(made, list) or len(made) != len(objects):
        raise BadConversion(f"{len(objects)} objects were sent, and not as many came back")
    return [_checked(one, obj, wanted) for one, obj in zip(made, objects, strict=True)]


def _checked(made: JSON, obj: Object, wanted: str) -> Object:
    if not isinstance(made, dict) or not isinstance(made.get("metadata"), dict):
        raise BadConversion("an object that came back is none")
    found = (made.get("apiVersion"), made.get("kind"))
    if found != (wanted, obj.get("kind")):
        raise BadConversion(
            f"{found[0]}, Kind={found[1]} came back: {wanted}, Kind={obj.get('kind')} was asked for"
        )
    before, after = obj["metadata"], made["metadata"]
    for field in ("name", "namespace", "uid"):
        if after.get(field) != before.get(field):
            raise BadConversion(f"metadata.{field} of {before.get('name')} was changed")
    metadata = {key: value for key, value in before.items() if key not in _FREE}
    metadata |= {key: after[key] for key in _FREE if after.get(key)}
    return {"apiVersion": wanted, "kind": obj["kind"], "metadata": metadata} | {
        key: value for key, value in made.items() if key not in ("apiVersion", "kind", "metadata")
    }
