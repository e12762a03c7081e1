"""`x-kubernetes-validations`: what a definition may say, and what its objects are told."""

from __future__ import annotations

import time
from typing import Any

import pytest

from meshkube.api.custom.rules import Rules
from meshkube.api.custom.schema_review import review_schema
from meshkube.api.custom.structural import UNSET, Structural


def rule(text: str, **more: Any) -> dict[str, Any]:
    return {"rule": text, **more}


def schema(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Of objects with a `spec`, which the rules are about."""
    properties = {
        "low": {"type": "integer"},
        "high": {"type": "integer"},
        "name": {"type": "string"},
        "when": {"type": "string", "format": "date-time"},
        "some": {"type": "array", "items": {"type": "integer"}},
        **fields,
    }
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules)}
    return {"type": "object", "properties": {"spec": spec}}


def told(raw: dict[str, Any], spec: Any, old: Any = UNSET) -> list[str]:
    assert review_schema(raw, "s") == []
    compiled = Structural(raw, root=True)
    before = old if old is UNSET else {"spec": old}
    return [str(fault) for fault in Rules(compiled).judge({"spec": spec}, before, compiled)]


@pytest.mark.parametrize(
    ("one", "spec", "words"),
    [
        (
            rule("self.low <= self.high"),
            {"low": 2, "high": 1},
            'spec: Invalid value: "object": failed rule: self.low <= self.high',
        ),
        (
            rule("self.low > 0", message="low must be positive", fieldPath=".low"),
            {"low": 0},
            'spec.low: Invalid value: "object": low must be positive',
        ),
        (
            rule("has(self.name)", reason="FieldValueRequired", message="name it"),
            {},
            "spec: Required value: name it",
        ),
        (
            rule("false", reason="FieldValueForbidden", message="no"),
            {},
            "spec: Forbidden: no",
        ),
        (
            rule("self.low < 5", messageExpression="'low is %d'.format([self.low])"),
            {"low": 7},
            'spec: Invalid value: "object": low is 7',
        ),
        (
            rule("self.low < 5", messageExpression="self.name", message="plain"),
            {"low": 7},
            'spec: Invalid value: "object": plain',
        ),
        (
            rule("self.high == 1"),
            {},
            'spec: Invalid value: "object": rule evaluation error: no such key: high evaluating'
            " rule: self.high == 1",
        ),
        (
            rule("self.when < timestamp('2030-01-01T00:00:00Z')"),
            {"when": "2024-01-01T00:00:00Z"},
            "",
        ),
        (rule("self.some.all(x, x > 0)"), {"some": [1, 2]}, ""),
    ],
)
def test_what_a_rule_says(one: dict[str, Any], spec: Any, words: str) -> None:
    assert told(schema(one), spec) == ([words] if words else [])


def test_rules_of_transitions() -> None:
    fixed = schema(rule("self.name == oldSelf.name", message="name is fixed"))
    assert told(fixed, {"name": "a"}) == []
    assert told(fixed, {"name": "a"}, {"name": "a", "low": 1}) == []
    assert told(fixed, {"name": "b"}, {"name": "a"}) == [
        'spec: Invalid value: "object": name is fixed'
    ]
    both = schema(
        rule("!oldSelf.hasValue() || self.low >= oldSelf.value().low", optionalOldSelf=True)
    )
    assert told(both, {"low": 1}) == []
    assert told(both, {"low": 2}, {"low": 1}) == []
    assert len(told(both, {"low": 0}, {"low": 1})) == 1


def test_elements_of_a_map_list_are_found_again() -> None:
    parts = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
            "x-kubernetes-validations": [rule("self.size >= oldSelf.size")],
        },
    }
    old = {"parts": [{"name": "a", "size": 1}, {"name": "b", "size": 2}]}
    new = {"parts": [{"name": "b", "size": 1}, {"name": "a", "size": 1}, {"name": "c", "size": 0}]}
    assert told(schema(parts=parts), new, old) == [
        'spec.parts[0]: Invalid value: "object": failed rule: self.size >= oldSelf.size'
    ]


def test_what_did_not_change_is_not_judged_again() -> None:
    strict = schema(rule("false"))
    assert told(strict, {"low": 1}, {"low": 1}) == []
    assert len(told(strict, {"low": 2}, {"low": 1})) == 1


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (rule(""), "rule: Required value: rule is not specified"),
        (rule("self.lwo > 1"), "compilation failed: ERROR: <input>:1:5: undefined field 'lwo'"),
        (rule("self.low >"), "compilation failed: ERROR: <input>:1:11: Syntax error"),
        (rule("self.low.frob()"), "undeclared reference to 'frob'"),
        (rule("true", message=" "), "message must be non-empty if specified"),
        (rule("true", reason="Odd"), 'Unsupported value: "Odd"'),
        (rule("true", fieldPath=".nowhere"), "does not refer to a field of the schema"),
        (rule("true", optionalOldSelf=True), "may not be set if oldSelf is not used in rule"),
        (rule("true", messageExpression="self.x"), "messageExpression compilation failed"),
    ],
)
def test_what_no_rule_may_say(one: dict[str, Any], words: str) -> None:
    (fault,) = review_schema(schema(one), "s")
    assert words in str(fault)
    assert fault.path.startswith("s.properties[spec].x-kubernetes-validations[0].")


def test_elements_that_cannot_be_found_again_have_no_past() -> None:
    items = {"type": "string", "x-kubernetes-validations": [rule("self == oldSelf")]}
    (fault,) = review_schema(schema(tags={"type": "array", "items": items}), "s")
    assert "uncorrelatable portion" in str(fault)


def test_no_rule_holds_the_loop() -> None:
    heavy = schema(rule("self.some.all(a, self.some.all(b, self.some.all(c, a + b + c >= 0)))"))
    began = time.process_time()
    (fault,) = told(heavy, {"some": list(range(500))})
    assert "running out of cost budget" in fault
    assert time.process_time() - began < 1.0
