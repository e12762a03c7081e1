"""`x-kubernetes-validations`: the rules of a schema, compiled once and judged in bounded time.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Validation rules".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from meshkube.api.cel import Budget, CelError, OutOfBudget, Program, compile_rule
from meshkube.api.cel.values import NONE, Optional
from meshkube.api.custom.shapes import Known
from meshkube.api.custom.structural import UNSET, Structural
from meshkube.api.custom.values import by_keys, key_of
from meshkube.api.errors import FieldError
from meshkube.api.patch.values import equal
from meshkube.api.types import JSON, Object
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    required,
)

STEPS: Final = 100_000
"""What all rules of one object may take together: about 50 ms."""
LONGEST_MESSAGE: Final = 5 * 1024


class Rule:
    """One rule of one place."""

    __slots__ = ("_message", "_optional", "_path", "_reason", "_text", "program", "words")

    def __init__(self, raw: Object, schema: Structural) -> None:
        names = dict.fromkeys(("self", "oldSelf"), Known(schema))
        self._text: str = (raw.get("rule") or "").strip()
        self._optional = bool(raw.get("optionalOldSelf"))
        self._path: str = raw.get("fieldPath") or ""
        self._reason: str = raw.get("reason") or ""
        self._message: str = raw.get("message") or ""
        self.program = compile_rule(raw.get("rule") or "", names)
        self.words: Program | None = None
        if raw.get("messageExpression"):
            self.words = compile_rule(raw["messageExpression"], names)

    @property
    def compares(self) -> bool:
        """It looks at what was before."""
        return "oldSelf" in self.program.names

    def concerns(self, value: JSON, old: JSON) -> bool:
        """Whether it is to be judged: a rule of transitions says nothing of what is new, and what
        did not change is not judged again."""
        if old is UNSET:
            return self._optional or not self.compares
        return self.compares or not equal(value, old)

    def judge(
        self, value: JSON, old: JSON, type_: str, path: str, budget: Budget
    ) -> FieldError | None:
        """Raises `OutOfBudget`."""
        names = {"self": value, "oldSelf": old}
        if self._optional:
            names["oldSelf"] = NONE if old is UNSET else Optional(True, old)
        try:
            held = self.program.run(names, budget)
        except CelError as error:
            about = self._message or self._text
            detail = f"rule evaluation error: {error} evaluating rule: {about}"
            return invalid(path or "<nil>", Shown(f'"{type_}"'), detail)
        if held is True:
            return None
        where = (path + self._path if path else self._path.lstrip(".")) or "<nil>"
        if not isinstance(held, bool):
            return invalid(where, type_, f"rule does not give a bool: {self._text}")
        words = self._worded(names, budget) or self._message or f"failed rule: {self._text}"
        return _fault(self._reason, where, type_, words)

    def _worded(self, names: dict[str, Any], budget: Budget) -> str:
        """What `messageExpression` says; empty where that is nothing to show."""
        if self.words is None:
            return ""
        try:
            text = self.words.run(names, budget)
        except CelError:
            return ""
        fine = isinstance(text, str) and len(text) <= LONGEST_MESSAGE and "\n" not in text
        return str(text).strip() if fine else ""


def _fault(reason: str, path: str, type_: str, words: str) -> FieldError:
    if reason == "FieldValueForbidden":
        return forbidden(path, words)
    if reason == "FieldValueRequired":
        return required(path, words)
    if reason == "FieldValueDuplicate":
        return duplicate(path, type_)
    return invalid(path, type_, words)


class Rules:
    """All rules of a schema, by the place that they stand at."""

    __slots__ = ("_of",)

    def __init__(self, schema: Structural) -> None:
        self._of: dict[int, list[Rule]] = {}
        self._compile(schema)

    def _compile(self, schema: Structural) -> None:
        if schema.rules:
            self._of[id(schema)] = [Rule(raw, schema) for raw in schema.rules]
        for below in _below(schema):
            if below.has_rules:
                self._compile(below)

    def judge(self, obj: Object, old: JSON, schema: Structural) -> Faults:
        """The faults of an object that is otherwise fine. `old`: `UNSET` for a new one."""
        faults: Faults = []
        try:
            self._walk(obj, old, schema, "", faults, Budget(STEPS))
        except OutOfBudget:
            detail = (
                "validation failed due to running out of cost budget, no further validation rules"
                " will be run"
            )
            faults.append(invalid("<nil>", "object", detail))
        return faults

    def _walk(
        self, value: JSON, old: JSON, schema: Structural, path: str, faults: Faults, budget: Budget
    ) -> None:
        if value is None:
            return
        budget.spend(1)
        type_ = schema.json_type or "object"
        for rule in self._of.get(id(schema), ()):
            if rule.concerns(value, old):
                before = old if old is UNSET else _read(schema, old)
                fault = rule.judge(_read(schema, value), before, type_, path, budget)
                if fault is not None:
                    faults.append(fault)
        if isinstance(value, dict):
            self._walk_fields(value, old, schema, path, faults, budget)
        elif isinstance(value, list) and schema.items is not None and schema.items.has_rules:
            told = by_keys(old, schema)
            for index, held in enumerate(value):
                there = told.get(key_of(held, schema), UNSET)
                self._walk(held, there, schema.items, item(path, index), faults, budget)

    def _walk_fields(
        self,
        value: Object,
        old: JSON,
        schema: Structural,
        path: str,
        faults: Faults,
        budget: Budget,
    ) -> None:
        before = old if isinstance(old, dict) else {}
        for key, held in value.items():
            below = schema.fields.get(key, schema.items)
            if below is not None and below.has_rules:
                there = before.get(key, UNSET)
                self._walk(held, there, below, child(path, key), faults, budget)


def _read(schema: Structural, value: JSON) -> Any:
    return value if isinstance(value, dict | list) else Known(schema).read(value)


def _below(schema: Structural) -> Iterator[Structural]:
    yield from schema.fields.values()
    if schema.items is not None:
        yield schema.items
