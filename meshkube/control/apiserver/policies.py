"""ValidatingAdmissionPolicies: what a cluster's own rules say about a write.

Pure. Source: the Kubernetes documents, "Validating Admission Policy".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshkube.api import errors, kinds, meta
from meshkube.api.cel import Budget, CelError, CompileError, OutOfBudget, Program, compile_rule
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.api.validation.admission import VARIABLES
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.matching import (
    EXEMPT,
    Asked,
    expression_names,
    matched,
    selected,
)

POLICY: Final = kinds.VALIDATING_ADMISSION_POLICY
BINDING: Final = kinds.VALIDATING_ADMISSION_POLICY_BINDING
STEPS: Final = 100_000
"""What all policies of one write may take together: about 50 ms."""
_CODES: Final = {"Invalid": 422, "Forbidden": 403, "Unauthorized": 401,
                 "RequestEntityTooLarge": 413}  # fmt: skip


@dataclass(slots=True)
class _Check:
    """One entry of `validations`."""

    expression: str
    program: Program
    message: str
    words: Program | None
    reason: str


class _Compiled:
    """A policy's expressions."""

    def __init__(self, policy: Object) -> None:
        spec = policy["spec"]
        self.version = meta.resource_version(policy)
        self.conditions = [
            (one["name"], _program(one["expression"])) for one in spec.get("matchConditions") or ()
        ]
        self.variables = {
            one["name"]: _program(one["expression"]) for one in spec.get("variables") or ()
        }
        self.checks = [_check(one) for one in spec.get("validations") or ()]


def _program(text: str) -> Program:
    return compile_rule(text, dict.fromkeys(VARIABLES))


def _check(raw: Object) -> _Check:
    words = raw.get("messageExpression")
    return _Check(
        raw["expression"].strip(),
        _program(raw["expression"]),
        raw.get("message") or "",
        _program(words) if words else None,
        raw.get("reason") or "Invalid",
    )


class _Variables(dict[str, Any]):
    """Each variable of a policy is worked out when an expression first asks for it."""

    def __init__(self, programs: Mapping[str, Program], names: dict[str, Any], budget: Budget):
        super().__init__()
        self._programs, self._names, self._budget = programs, names, budget

    def __contains__(self, name: object) -> bool:
        return name in self._programs

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._programs[name].run(self._names, self._budget)
        return value


class Policies:
    """Judges writes by the policies that are stored."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._compiled: dict[str, _Compiled] = {}

    def judge(self, asked: Asked, warnings: list[str]) -> None:
        """Raises `ApiError` where one denies the write; warns where it is bound to warn. What the
        server itself writes, without a user, is not judged."""
        judged = asked.user is not None and asked.kind not in EXEMPT
        bindings = list(self._lookup.all(BINDING)) if judged else []
        if not bindings:
            return
        budget = Budget(STEPS)
        for binding in bindings:
            policy = self._lookup.find(POLICY, binding["spec"].get("policyName") or "")
            kind = self._matched(policy, binding, asked) if policy is not None else None
            if policy is None or kind is None:
                continue
            for fault in self._faults(policy, binding, asked, kind, budget):
                _act(binding, policy, asked, fault, warnings)

    def _matched(self, policy: Object, binding: Object, asked: Asked) -> Kind | None:
        """The kind in whose form the policy judges the request; None: it does not."""
        whole = policy["spec"].get("matchConstraints") or {}
        part = binding["spec"].get("matchResources")
        kind = self._chosen(whole, asked)
        return kind if kind and (not part or self._chosen(part, asked)) else None

    def _chosen(self, match: Object, asked: Asked) -> Kind | None:
        how = match.get("matchPolicy") or "Equivalent"
        wanted = match.get("resourceRules") or ()
        kind = matched(wanted, how, asked) if wanted else asked.kind
        if kind is None or matched(match.get("excludeResourceRules") or (), how, asked):
            return None
        return kind if selected(match, asked, self._lookup) else None

    def _faults(
        self, policy: Object, binding: Object, asked: Asked, kind: Kind, budget: Budget
    ) -> list[tuple[str, str]]:
        """`(reason, words)` of everything that the policy has against the write."""
        fails = policy["spec"].get("failurePolicy") != "Ignore"
        try:
            compiled = self._compile(policy)
            names = expression_names(asked, kind, self._lookup)
            found: list[tuple[str, str]] = []
            for params in self._params(policy, binding, asked):
                names["params"] = params
                names["variables"] = _Variables(compiled.variables, names, budget)
                if all(_holds(program, names, budget) for _, program in compiled.conditions):
                    found += _failed(compiled.checks, names, budget, fails)
            return found
        except (CelError, CompileError) as error:
            return [("Invalid", f"failed to configure policy: {error}")] if fails else []
        except OutOfBudget:
            words = "validation failed due to running out of cost budget"
            return [("Invalid", words)] if fails else []

    def _compile(self, policy: Object) -> _Compiled:
        name = meta.name(policy)
        found = self._compiled.get(name)
        if found is None or found.version != meta.resource_version(policy):
            found = self._compiled[name] = _Compiled(policy)
        return found

    def _params(self, policy: Object, binding: Object, asked: Asked) -> Iterable[Object | None]:
        """What the policy is judged with: once with each. Raises `CelError` for none at all."""
        wanted = policy["spec"].get("paramKind")
        reference = binding["spec"].get("paramRef")
        if not wanted or not reference:
            return [None]
        kind = self._lookup.kind(wanted.get("apiVersion") or "", wanted.get("kind") or "")
        if kind is None:
            raise CelError(f"no kind {wanted.get('kind')} in {wanted.get('apiVersion')}")
        space = reference.get("namespace") or asked.space if kind.namespaced else ""
        found: list[Object | None] = []
        if reference.get("name"):
            one = self._lookup.find(kind, reference["name"], space)
            found = [one] if one is not None else []
        else:
            selector = from_label_selector(reference.get("selector") or {})
            inside = self._lookup.inside(kind, space) if space else self._lookup.all(kind)
            found = [one for one in inside if selector.matches(meta.labels(one))]
        if not found and reference.get("parameterNotFoundAction") != "Allow":
            raise CelError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found


def _holds(program: Program, names: dict[str, Any], budget: Budget) -> bool:
    held = program.run(names, budget)
    if not isinstance(held, bool):
        raise CelError(f"expression does not give a bool: {program.text}")
    return held


def _failed(
    checks: Iterable[_Check], names: dict[str, Any], budget: Budget, fails: bool
) -> list[tuple[str, str]]:
    found = []
    for check in checks:
        try:
            if not _holds(check.program, names, budget):
                found.append((check.reason, _words(check, names, budget)))
        except CelError as error:
            if fails:
                words = f"expression '{check.expression}' resulted in error: {error}"
                found.append(("Invalid", words))
    return found


def _words(check: _Check, names: dict[str, Any], budget: Budget) -> str:
    if check.words is not None:
        try:
            text = check.words.run(names, budget)
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text.strip()
        except CelError:
            pass
    return check.message or f"failed expression: {check.expression}"


def _act(
    binding: Object, policy: Object, asked: Asked, fault: tuple[str, str], warnings: list[str]
) -> None:
    """Raises `ApiError` where the binding denies."""
    actions = binding["spec"].get("validationActions") or ("Deny",)
    reason, words = fault
    about = f"ValidatingAdmissionPolicy '{meta.name(policy)}' with binding '{meta.name(binding)}'"
    if "Warn" in actions:
        warnings.append(f"Validation failed for {about}: {words}")
    if "Deny" in actions:
        raise _denied(asked, reason, f"{about} denied request: {words}")


def _denied(asked: Asked, reason: str, words: str) -> ApiError:
    kind, name = asked.kind, asked.named
    subject = errors.resource_name(kind.group, kind.plural)
    message = f'{subject} "{name}" is forbidden: {words}'
    details = {
        "name": name,
        "group": kind.group,
        "kind": kind.plural,
        "causes": [{"message": words}],
    }
    return ApiError(_CODES.get(reason, 422), reason, message, details)
