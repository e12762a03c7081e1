"""ValidatingAdmissionPolicies and their bindings: expressions that compile, actions that exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation.faults import (
    Faults,
    child,
    invalid,
    item,
    not_supported,
    required,
)

VARIABLES: Final = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
"""What expressions of policies may name."""
CONDITION_VARIABLES: Final = ("object", "oldObject", "request")
"""What the match conditions of webhooks may name."""
_ACTIONS: Final = ("Audit", "Deny", "Warn")


def validate_policy(policy: Object) -> Faults:
    spec = policy.get("spec") or {}
    faults: Faults = []
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        detail = "validations or auditAnnotations must be non-empty"
        faults.append(required("spec.validations", detail))
    if not (spec.get("matchConstraints") or {}).get("resourceRules"):
        faults.append(required("spec.matchConstraints.resourceRules"))
    if spec.get("failurePolicy") not in (None, "", "Fail", "Ignore"):
        faults.append(
            not_supported("spec.failurePolicy", spec["failurePolicy"], ("Fail", "Ignore"))
        )
    for path, text, needed in _expressions(spec):
        faults += expression_faults(path, text, VARIABLES, needed=needed)
    return faults


def _expressions(spec: Object) -> Iterator[tuple[str, str, bool]]:
    """`(path, text, whether it must be there)` of every expression."""
    for field in ("matchConditions", "variables", "validations"):
        for index, one in enumerate(spec.get(field) or ()):
            path = item(f"spec.{field}", index)
            yield child(path, "expression"), one.get("expression") or "", True
            yield child(path, "messageExpression"), one.get("messageExpression") or "", False


def expression_faults(
    path: str, text: str, variables: Iterable[str], *, needed: bool = True
) -> Faults:
    """What is wrong with a CEL expression that may name these variables."""
    # Imported when the first policy comes: most clusters have none.
    from meshkube.api.cel import CompileError, compile_rule

    if not text.strip():
        return [required(path)] if needed else []
    try:
        compile_rule(text, dict.fromkeys(variables))
    except CompileError as error:
        return [invalid(path, text, f"compilation failed: {error}")]
    return []


def validate_policy_binding(binding: Object) -> Faults:
    spec = binding.get("spec") or {}
    faults: Faults = []
    if not spec.get("policyName"):
        faults.append(required("spec.policyName"))
    actions = spec.get("validationActions") or []
    if not actions:
        faults.append(required("spec.validationActions"))
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            faults.append(not_supported(item("spec.validationActions", index), action, _ACTIONS))
    if "Deny" in actions and "Warn" in actions:
        detail = "must not contain both Deny and Warn (repeating the same validation failure"
        path = "spec.validationActions"
        faults.append(invalid(path, actions, f"{detail} information in the API response)"))
    return faults
