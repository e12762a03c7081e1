"""Errors as Kubernetes gives them: a `Status` with code, reason, message and causes.

Source: Kubernetes API conventions, "Response Status Kind", and apimachinery's `StatusReason`s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshkube.api.types import Object


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field: `path` as in `spec.containers[0].image`, `reason` a cause type such
    as `FieldValueRequired`, `message` as Kubernetes words it (`Required value: ...`)."""

    path: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ApiError(Exception):
    """A request that failed: every Client and the API server raise this, and only this."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.continue_token = ""
        """Of a page that expired: with it the rest of the list can be had, as of now."""

    def status(self) -> Object:
        """The `Status` object, ready to encode."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status

    @classmethod
    def of(cls, status: Any, code: int = 500) -> ApiError:
        """The error that a `Status` body (or whatever a server sent instead) describes."""
        if not isinstance(status, dict) or status.get("kind") != "Status":
            return cls(code, "Unknown", f"the server answered {code}: {str(status)[:500]}")
        error = cls(
            int(status.get("code") or code),
            str(status.get("reason") or "Unknown"),
            str(status.get("message") or ""),
            status.get("details"),
        )
        error.continue_token = str((status.get("metadata") or {}).get("continue") or "")
        return error


def resource_name(group: str, plural: str) -> str:
    """`pods`, `deployments.apps`: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def _details(group: str, plural: str, name: str, **more: Any) -> Object:
    details: Object = {"name": name, "group": group, "kind": plural, **more}
    return {key: value for key, value in details.items() if value}


def not_found(group: str, plural: str, name: str) -> ApiError:
    message = f'{resource_name(group, plural)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(group, plural, name))


def not_served() -> ApiError:
    """404 for a path that nothing serves."""
    message = "the server could not find the requested resource"
    return ApiError(404, "NotFound", message, {"causes": []})


def already_exists(group: str, plural: str, name: str) -> ApiError:
    message = f'{resource_name(group, plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str = "") -> ApiError:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try"
        " again"
    )
    message = f'Operation cannot be fulfilled on {resource_name(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(group, plural, name))


def invalid(group: str, kind: str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """422 with every fault at once."""
    faults = list(errors)
    text = "; ".join(str(fault) for fault in faults) if len(faults) == 1 else ""
    if not text:
        text = "[" + ", ".join(str(fault) for fault in faults) + "]"
    subject = f"{kind}.{group}" if group else kind
    causes = [
        {"reason": fault.reason, "message": fault.message, "field": fault.path} for fault in faults
    ]
    message = f'{subject} "{name}" is invalid: {text}'
    return ApiError(422, "Invalid", message, _details(group, kind, name, causes=causes))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    return ApiError(401, "Unauthorized", message)


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    subject = resource_name(group, plural) + (f' "{name}"' if name else "")
    return ApiError(
        403, "Forbidden", f"{subject} is forbidden: {why}", _details(group, plural, name)
    )


def gone(message: str) -> ApiError:
    """410: the resourceVersion asked for is no longer kept; list again."""
    return ApiError(410, "Expired", message)


def method_not_allowed(message: str) -> ApiError:
    return ApiError(405, "MethodNotAllowed", message)


def not_acceptable(message: str) -> ApiError:
    return ApiError(406, "NotAcceptable", message)


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def too_large(message: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", message)


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


def not_reached(reason: str) -> ApiError:
    """Of a request that the API server passes on: nobody answers behind it."""
    return unavailable(f"error trying to reach service: {reason}")


def timeout(message: str) -> ApiError:
    return ApiError(504, "Timeout", message)


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")
