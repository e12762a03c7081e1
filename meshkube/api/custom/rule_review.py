"""What `x-kubernetes-validations` may say: rules that compile, and say what went wrong.

Source: as `rules`.
"""

from __future__ import annotations

from typing import Final

from meshkube.api.cel import CompileError
from meshkube.api.custom import jsonpath
from meshkube.api.custom.rules import Rule
from meshkube.api.custom.structural import Structural
from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults, child, invalid, item, not_supported, required

REASONS: Final = (
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
)


def review_rules(schema: Structural, path: str, *, comparable: bool = True) -> Faults:
    """The faults of all rules of a schema. `comparable`: what was there before can be found."""
    faults: Faults = []
    for index, raw in enumerate(schema.rules):
        where = item(child(path, "x-kubernetes-validations"), index)
        faults += _review(raw, schema, where, comparable)
    for name, field in schema.fields.items():
        if field.has_rules:
            where = f"{child(path, 'properties')}[{name}]"
            faults += review_rules(field, where, comparable=comparable)
    items = schema.items
    if items is not None and items.has_rules:
        is_list = schema.json_type == "array"
        where = child(path, "items" if is_list else "additionalProperties")
        found = comparable and (not is_list or schema.list_type == "map")
        faults += review_rules(items, where, comparable=found)
    return faults


def _review(raw: Object, schema: Structural, path: str, comparable: bool) -> Faults:
    text = raw.get("rule") or ""
    if not text.strip():
        return [required(f"{path}.rule", "rule is not specified")]
    faults = _message(raw, text, path)
    if raw.get("reason") and raw["reason"] not in REASONS:
        faults.append(not_supported(f"{path}.reason", raw["reason"], REASONS))
    try:
        rule = Rule({"rule": text}, schema)
    except CompileError as error:
        return [*faults, invalid(f"{path}.rule", text, f"compilation failed: {error}")]
    if rule.compares and not comparable:
        detail = "oldSelf cannot be used on the uncorrelatable portion of the schema"
        faults.append(invalid(f"{path}.rule", text, detail))
    if raw.get("optionalOldSelf") and not rule.compares:
        detail = "may not be set if oldSelf is not used in rule"
        faults.append(invalid(f"{path}.optionalOldSelf", raw["optionalOldSelf"], detail))
    if raw.get("messageExpression"):
        try:
            Rule({"rule": text, "messageExpression": raw["messageExpression"]}, schema)
        except CompileError as error:
            detail = f"messageExpression compilation failed: {error}"
            where = f"{path}.messageExpression"
            faults.append(invalid(where, raw["messageExpression"], detail))
    if raw.get("fieldPath"):
        faults += _field_path(raw["fieldPath"], schema, f"{path}.fieldPath")
    return faults


def _message(raw: Object, text: str, path: str) -> Faults:
    message = raw.get("message")
    if message is None:
        if "\n" in text.strip():
            detail = "message must be specified if rule contains line breaks"
            return [required(f"{path}.message", detail)]
        return []
    if not message.strip():
        return [invalid(f"{path}.message", message, "message must be non-empty if specified")]
    if "\n" in message:
        return [invalid(f"{path}.message", message, "message must not contain line breaks")]
    return []


def _field_path(text: str, schema: Structural, path: str) -> Faults:
    try:
        keys = jsonpath.parse(text).keys
    except ValueError as error:
        return [invalid(path, text, f"fieldPath must be a valid path: {error}")]
    if keys is None or text[0] not in ".[":
        return [invalid(path, text, "fieldPath must be a relative JSONPath of names")]
    place: Structural | None = schema
    for key in keys:
        place = place.fields.get(key, place.items) if place is not None else None
    if place is None:
        detail = "fieldPath must be a valid path: does not refer to a field of the schema"
        return [invalid(path, text, detail)]
    return []
