"""What is wrong with the options of a request, told as Kubernetes tells it. Pure.

Source: Kubernetes API reference, "ListOptions", "CreateOptions", "UpdateOptions", "PatchOptions",
"DeleteOptions".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshkube.api import errors
from meshkube.api.errors import FieldError
from meshkube.api.types import Object
from meshkube.api.validation.faults import forbidden, invalid, not_supported, required

VALIDATIONS = ("Ignore", "Strict", "Warn")
PROPAGATIONS = ("Foreground", "Background", "Orphan")
_MATCHES = ("Exact", "NotOlderThan")
_WRITES = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
_MATCH, _INITIAL = "resourceVersionMatch", "sendInitialEvents"


def check_list(query: Mapping[str, str]) -> None:
    """Raises `ApiError` 422."""
    match, version = query.get(_MATCH, ""), query.get("resourceVersion", "")
    faults: list[FieldError] = []
    if match:
        if not version:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            faults.append(forbidden(_MATCH, why))
        if query.get("continue"):
            why = "resourceVersionMatch is forbidden when continue is provided"
            faults.append(forbidden(_MATCH, why))
        if match not in _MATCHES:
            faults.append(not_supported(_MATCH, match, _MATCHES))
        if match == "Exact" and version == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            faults.append(forbidden(_MATCH, why))
    if _INITIAL in query:
        faults.append(forbidden(_INITIAL, "sendInitialEvents is forbidden for list"))
    _refuse("ListOptions", faults)


def check_watch(query: Mapping[str, str]) -> None:
    """Raises `ApiError` 422."""
    match, faults = query.get(_MATCH, ""), []
    if _INITIAL in query:
        if match != "NotOlderThan":
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            faults.append(forbidden(_MATCH, why))
    elif match:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        faults.append(forbidden(_MATCH, why))
    if match and match not in _MATCHES:
        faults.append(not_supported(_MATCH, match, _MATCHES))
    _refuse("ListOptions", faults)


def check_write(verb: str, query: Mapping[str, str], *, applies: bool = False) -> None:
    """`verb` as access control names it. Raises `ApiError` 422."""
    faults = _dry_run(query.get("dryRun", ""))
    if verb == "patch" and query.get("force") and not applies:
        faults.append(forbidden("force", "may not be specified for non-apply patch"))
    if applies and not query.get("fieldManager"):
        faults.append(required("fieldManager", "is required for apply patch"))
    validation = query.get("fieldValidation", "")
    if validation and validation not in VALIDATIONS:
        faults.append(not_supported("fieldValidation", validation, ("", *VALIDATIONS)))
    _refuse(_WRITES.get(verb, "CreateOptions"), faults)


def check_delete(body: Object, dry_run: str) -> None:
    """`body`: the DeleteOptions with what the query adds. Raises `ApiError` 400 for wrong types,
    422."""
    seconds, known = body.get("gracePeriodSeconds"), body.get("preconditions")
    if seconds is not None and (not isinstance(seconds, int) or isinstance(seconds, bool)):
        raise errors.bad_request("gracePeriodSeconds: not a whole number")
    if known is not None and not isinstance(known, dict):
        raise errors.bad_request("preconditions: not a JSON object")
    faults = _dry_run(dry_run)
    propagation = body.get("propagationPolicy")
    if propagation is not None and propagation not in PROPAGATIONS:
        faults.append(not_supported("propagationPolicy", propagation, (*PROPAGATIONS, "nil")))
    if propagation is not None and body.get("orphanDependents") is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        faults.append(invalid("propagationPolicy", propagation, why))
    _refuse("DeleteOptions", faults)


def _dry_run(value: str) -> list[FieldError]:
    return [] if value in ("", "All") else [not_supported("dryRun", [value], ("All",))]


def _refuse(kind: str, faults: Iterable[FieldError]) -> None:
    found = list(faults)
    if found:
        raise errors.invalid("meta.k8s.io", kind, "", found)
