"""What a CustomResourceDefinition may say: every fault of one at once.

Source: the CustomResourceDefinition API reference; its rules and words are those of an API server.
"""

from __future__ import annotations

from typing import Any, Final

from meshkube.api import meta
from meshkube.api.custom import jsonpath, names
from meshkube.api.custom.conversion_review import VERSIONS
from meshkube.api.custom.schema_review import review_schema
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    forbidden,
    invalid,
    not_supported,
    required,
    without_value,
)
from meshkube.api.validation.webhooks import validate_client, validate_versions

_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64",
                          "password")  # fmt: skip
_PROTECTED: Final = ("k8s.io", "kubernetes.io")
_APPROVED: Final = "api-approved.kubernetes.io"
MOST_SELECTABLE: Final = 8


def validate(crd: Object) -> Faults:
    """The faults of a new definition, already defaulted."""
    spec = crd.get("spec") or {}
    faults: Faults = []
    wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    if meta.name(crd) != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        faults.append(invalid("metadata.name", meta.name(crd), detail))
    faults += _group(crd, spec.get("group") or "")
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        if spec.get("scope"):
            faults.append(not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced")))
        else:
            faults.append(required("spec.scope"))
    faults += _names(spec.get("names") or {}, "spec.names")
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in"
            " spec.versions[*].schema instead"
        )
        faults.append(invalid("spec.preserveUnknownFields", True, detail))
    faults += _versions(spec)
    faults += _conversion(spec)
    return faults


def validate_update(crd: Object, old: Object) -> Faults:
    """The faults of a new state of a definition; a spec that stays is not judged again."""
    spec, before = crd.get("spec") or {}, old.get("spec") or {}
    if spec == before:
        return []
    faults = validate(crd)
    fixed = [("group", "spec.group"), ("names.plural", "spec.names.plural")]
    if names.holds(old, "Established"):
        fixed += [("scope", "spec.scope"), ("names.kind", "spec.names.kind")]
    for path, field in fixed:
        new_value, old_value = _at(spec, path), _at(before, path)
        if new_value != old_value:
            faults.append(invalid(field, new_value or "", IMMUTABLE))
    present = {one.get("name") for one in spec.get("versions") or ()}
    for index, name in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if name not in present:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must"
                " remain in spec.versions until a storage migration ensures no data remains"
                f" persisted in {name} and removes {name} from status.storedVersions"
            )
            faults.append(invalid(f"status.storedVersions[{index}]", name, detail))
    return faults


def validate_status(crd: Object, old: Object) -> Faults:
    """The faults of a new status of a definition."""
    del old
    faults: Faults = []
    stored = (crd.get("status") or {}).get("storedVersions") or []
    versions = (crd.get("spec") or {}).get("versions") or ()
    keeps = next((one.get("name") for one in versions if one.get("storage")), "")
    if not stored:
        faults.append(
            invalid("status.storedVersions", stored, "must have at least one stored version")
        )
    elif keeps not in stored:
        detail = f"must have the storage version {keeps}"
        faults.append(invalid("status.storedVersions", stored, detail))
    return faults


def _at(spec: Object, path: str) -> Any:
    value: Any = spec
    for key in path.split("."):
        value = (value or {}).get(key)
    return value


def _group(crd: Object, group: str) -> Faults:
    if not group:
        return [required("spec.group")]
    reasons = formats.dns_subdomain(group)
    if reasons:
        return list(formats.faults("spec.group", group, reasons))
    if "." not in group:
        return [invalid("spec.group", group, "should be a domain with at least one dot")]
    guarded = any(group == one or group.endswith("." + one) for one in _PROTECTED)
    if guarded and not meta.annotations(crd).get(_APPROVED):
        where = f"metadata.annotations[{_APPROVED}]"
        words = "protected groups must have approval annotation"
        detail = f'{words} "{_APPROVED}", see https://github.com/kubernetes/enhancements/pull/1111'
        return [required(where, detail)]
    return []


def _names(given: Object, path: str) -> Faults:
    faults: Faults = []
    for field in ("plural", "singular", "kind", "listKind"):
        value = given.get(field) or ""
        where = f"{path}.{field}"
        if not value:
            faults.append(required(where))
            continue
        faults += [
            invalid(where, value, _mixed(field, reason))
            for reason in formats.dns_1035_label(value.lower() if "ind" in field else value)
        ]
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        detail = "kind and listKind may not be the same"
        faults.append(invalid(f"{path}.listKind", given["listKind"], detail))
    for field in ("shortNames", "categories"):
        for index, value in enumerate(given.get(field) or ()):
            reasons = formats.dns_1035_label(value)
            faults += formats.faults(f"{path}.{field}[{index}]", value, reasons)
    return faults


def _mixed(field: str, reason: str) -> str:
    if "ind" not in field:
        return reason
    return f"may have mixed case, but should otherwise match: {reason}"


def _versions(spec: Object) -> Faults:
    faults: Faults = []
    versions = spec.get("versions") or []
    if not versions:
        return [required("spec.versions", "must have at least one version")]
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name") or ""
        faults += formats.faults(f"{path}.name", name, formats.dns_1035_label(name))
        if name in seen:
            detail = "must contain unique version names"
            faults.append(without_value("spec.versions", detail))
        seen.add(name)
        faults += _version(version, path)
    count = sum(bool(one.get("storage")) for one in versions)
    if count != 1:
        detail = "must have exactly one version marked as storage version"
        faults.append(without_value("spec.versions", detail))
    return faults


def _version(version: Object, path: str) -> Faults:
    faults: Faults = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        faults.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    else:
        faults += review_schema(schema, f"{path}.schema.openAPIV3Schema")
    if version.get("deprecationWarning") is not None and not version.get("deprecated"):
        detail = "can only be set for deprecated versions"
        faults.append(invalid(f"{path}.deprecationWarning", version["deprecationWarning"], detail))
    scale = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        faults += _scale(scale, f"{path}.subresources.scale")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        faults += _column(column, f"{path}.additionalPrinterColumns[{index}]")
    faults += _selectable(version.get("selectableFields") or [], schema or {}, path)
    return faults


def _scale(scale: Object, path: str) -> Faults:
    faults: Faults = []
    for field, root, needed in (
        ("specReplicasPath", ".spec.", True),
        ("statusReplicasPath", ".status.", True),
        ("labelSelectorPath", (".spec.", ".status."), False),
    ):
        value, where = scale.get(field) or "", f"{path}.{field}"
        if not value:
            if needed:
                faults.append(required(where))
            continue
        reason = _plain_path(value)
        if reason:
            faults.append(invalid(where, value, reason))
        elif not value.startswith(root):
            roots = (root,) if isinstance(root, str) else root
            under = " or ".join(one.rstrip(".") for one in roots)
            detail = f"should be a json path under {under}"
            faults.append(invalid(where, value, detail))
    return faults


def _plain_path(path: str) -> str:
    """Why a path is not one of plain names; empty where it is."""
    try:
        keys = jsonpath.parse(path).keys
    except ValueError as error:
        return f"is an invalid path: {error}"
    if keys is None or "[" in path:
        return "should not contain '[' or ']': only simple paths of names are allowed"
    return "" if path.startswith(".") else "should start with '.'"


def _column(column: Object, path: str) -> Faults:
    faults: Faults = []
    if not column.get("name"):
        faults.append(required(f"{path}.name"))
    if not column.get("type"):
        detail = "supported values: " + ", ".join(f'"{one}"' for one in _COLUMN_TYPES)
        faults.append(required(f"{path}.type", detail))
    elif column["type"] not in _COLUMN_TYPES:
        faults.append(not_supported(f"{path}.type", column["type"], _COLUMN_TYPES))
    format_ = column.get("format")
    if format_ and format_ not in _COLUMN_FORMATS:
        faults.append(not_supported(f"{path}.format", format_, _COLUMN_FORMATS))
    value = column.get("jsonPath") or ""
    if not value:
        faults.append(required(f"{path}.jsonPath"))
    else:
        try:
            jsonpath.parse(value)
        except ValueError as error:
            faults.append(invalid(f"{path}.jsonPath", value, f"is an invalid path: {error}"))
    return faults


def _selectable(fields: list[Object], schema: Object, path: str) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    if len(fields) > MOST_SELECTABLE:
        detail = f"must have at most {MOST_SELECTABLE} items"
        faults.append(invalid(f"{path}.selectableFields", len(fields), detail))
    for index, one in enumerate(fields):
        value, where = one.get("jsonPath") or "", f"{path}.selectableFields[{index}].jsonPath"
        reason = _plain_path(value) if value else "is an invalid path: it is empty"
        if not reason and value.startswith(".metadata"):
            reason = "must not point to fields in metadata"
        if not reason and _scalar_at(schema, value) is None:
            reason = "is an invalid path: must point to a string, a boolean or an integer"
        if not reason and value in seen:
            reason = "is a duplicate"
        seen.add(value)
        if reason:
            faults.append(invalid(where, value, reason))
    return faults


def _scalar_at(schema: Object, path: str) -> str | None:
    for key in jsonpath.parse(path).keys or ():
        schema = (schema.get("properties") or {}).get(key) or {}
    type_ = schema.get("type")
    return type_ if type_ in ("string", "boolean", "integer") else None


def _conversion(spec: Object) -> Faults:
    conversion = spec.get("conversion") or {}
    strategy, path = conversion.get("strategy") or "None", "spec.conversion"
    if strategy not in ("None", "Webhook"):
        return [not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))]
    if strategy == "None":
        if conversion.get("webhook") is not None:
            detail = "should not be set when strategy is not set to Webhook"
            return [forbidden(f"{path}.webhook", detail)]
        return []
    webhook = conversion.get("webhook")
    if webhook is None:
        return [required(f"{path}.webhook", "required when strategy is set to Webhook")]
    where = f"{path}.webhook"
    client = webhook.get("clientConfig")
    if client is None:
        return [required(f"{where}.clientConfig")]
    versions = webhook.get("conversionReviewVersions") or []
    return [
        *validate_client(client, f"{where}.clientConfig"),
        *validate_versions(versions, f"{where}.conversionReviewVersions", VERSIONS),
    ]
