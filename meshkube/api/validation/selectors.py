"""Label selectors, and choices from a fixed set of words."""

from __future__ import annotations

from collections.abc import Sequence

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    child,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
)
from meshkube.api.validation.metadata import validate_labels


def one_of(path: str, value: str | None, supported: Sequence[str]) -> Faults:
    """A field that must be given, and hold one of a few words."""
    if not value:
        return [required(path)]
    return [] if value in supported else [not_supported(path, value, supported)]


def optional_one_of(path: str, value: str | None, supported: Sequence[str]) -> Faults:
    """A field that may be left out."""
    return [] if value is None or value in supported else [not_supported(path, value, supported)]


def label_key(path: str, key: str) -> Faults:
    return list(formats.faults(path, key, formats.qualified_name(key)))


def validate_label_selector(selector: Object | None, path: str) -> Faults:
    """A `metav1.LabelSelector`."""
    if not selector:
        return []
    faults = validate_labels(selector.get("matchLabels") or {}, child(path, "matchLabels"))
    for index, requirement in enumerate(selector.get("matchExpressions") or ()):
        faults += _requirement(requirement, item(child(path, "matchExpressions"), index))
    return faults


def _requirement(requirement: Object, path: str) -> Faults:
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    faults = operator_faults(operator, values, path)
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        detail = "not a valid selector operator"
        faults.append(invalid(child(path, "operator"), operator, detail))
    faults += label_key(child(path, "key"), requirement.get("key") or "")
    faults += label_values(child(path, "values"), values)
    return faults


def operator_faults(operator: str, values: Sequence[str], path: str) -> Faults:
    """Whether the number of values suits the operator."""
    if operator in ("In", "NotIn") and not values:
        detail = "must be specified when `operator` is 'In' or 'NotIn'"
        return [required(child(path, "values"), detail)]
    if operator in ("Exists", "DoesNotExist") and values:
        detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [forbidden(child(path, "values"), detail)]
    return []


def label_values(path: str, values: Sequence[str]) -> Faults:
    return [
        fault
        for index, value in enumerate(values)
        for fault in formats.faults(item(path, index), value, formats.label_value(value))
    ]
