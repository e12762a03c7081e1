"""The `AdmissionReview` that a webhook is sent, and what its answer says.

Pure. Source: Kubernetes documentation, "Dynamic Admission Control" (request and response).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.control.apiserver.matching import Asked, request

VERSIONS: Final = ("v1", "v1beta1")
_GROUP: Final = "admission.k8s.io"
_FAILED: Final = 400


class BadAnswer(ValueError):
    """An answer that is no review."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook says. `patch` is a JSON patch; empty for none."""

    allowed: bool
    patch: list[JSON] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def version_of(offered: Sequence[str]) -> str:
    """The first version of a webhook's that is known here; empty for none."""
    return next((one for one in offered if one in VERSIONS), "")


def review(asked: Asked, kind: Kind, uid: str, version: str) -> Object:
    """The body of the request to a webhook that matched as `kind`. It holds shared objects."""
    content = request(asked, kind)
    content["uid"] = uid
    content["object"] = asked.seen(kind, asked.obj)
    content["oldObject"] = asked.seen(kind, asked.old)
    for named in ("namespace", "name", "subResource", "requestSubResource"):
        if not content[named]:
            del content[named]
    return {
        "kind": "AdmissionReview",
        "apiVersion": f"{_GROUP}/{version}",
        "request": content,
    }


def verdict(answer: JSON, uid: str, version: str, *, mutating: bool) -> Verdict:
    """Raises `BadAnswer`."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1":
        _check(answer, response, uid, mutating=mutating)
    status = response.get("status")
    return Verdict(
        allowed=response.get("allowed") is True,
        patch=_patch(response.get("patch")) if mutating else [],
        status=status if isinstance(status, dict) else {},
        warnings=tuple(str(one) for one in response.get("warnings") or ()),
    )


def _check(answer: Object, response: Object, uid: str, *, mutating: bool) -> None:
    if response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    found = (answer.get("apiVersion"), answer.get("kind"))
    if found != (f"{_GROUP}/v1", "AdmissionReview"):
        raise BadAnswer(
            f"expected webhook response of {_GROUP}/v1, Kind=AdmissionReview, got "
            f"{found[0] or ''}, Kind={found[1] or ''}"
        )
    patch, type_ = response.get("patch"), response.get("patchType")
    if not mutating:
        for name, value in (("patch", patch), ("patchType", type_)):
            if value is not None and value != "":
                raise BadAnswer(f"validating webhook may not return response.{name}")
    elif patch and type_ is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    elif not patch and type_ is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    elif patch and type_ != "JSONPatch":
        raise BadAnswer(f'webhook returned invalid response.patchType of "{type_}"')


def _patch(text: Any) -> list[JSON]:
    if not text:
        return []
    try:
        patch = orjson.loads(base64.b64decode(text, validate=True))
    except (TypeError, binascii.Error, orjson.JSONDecodeError) as error:
        raise BadAnswer(f"response.patch cannot be read: {error}") from None
    if patch is not None and not isinstance(patch, list):
        raise BadAnswer("response.patch is not a JSON patch: a list is wanted")
    return patch or []


def denied(name: str, status: Mapping[str, Any]) -> ApiError:
    """What the client is told that a webhook refused."""
    code = status.get("code")
    code = code if isinstance(code, int) and code >= _FAILED else _FAILED
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    words = f'admission webhook "{name}" denied the request'
    why = message or reason
    details = status.get("details")
    return ApiError(
        code,
        reason,
        f"{words}: {why}" if why else f"{words} without explanation",
        details if isinstance(details, dict) else None,
    )
