"""Webhook configurations, and where a webhook is (`clientConfig`), of admission and conversion.

Source: `admissionregistration.k8s.io/v1` and `apiextensions.k8s.io/v1` of the Kubernetes API
reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.admission import CONDITION_VARIABLES, expression_faults
from meshkube.api.validation.faults import (
    Faults,
    child,
    duplicate,
    invalid,
    item,
    not_supported,
    required,
    too_many,
)
from meshkube.api.validation.selectors import validate_label_selector

_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_VERSIONS: Final = ("v1", "v1beta1")
_MOST_CONDITIONS: Final = 64
_MOST_SECONDS: Final = 30
_SEGMENTS: Final = 3
_FORM: Final = "; desired format: https://host[/path]"
_CHOICES: Final = {
    "failurePolicy": ("Fail", "Ignore"),
    "matchPolicy": ("Equivalent", "Exact"),
    "sideEffects": ("None", "NoneOnDryRun"),
    "reinvocationPolicy": ("IfNeeded", "Never"),
}


def validate_configuration(configuration: Object) -> Faults:
    """Of both kinds: mutating and validating."""
    faults: Faults = []
    names: set[str] = set()
    for index, hook in enumerate(configuration.get("webhooks") or ()):
        path, name = item("webhooks", index), hook.get("name") or ""
        faults += _hook(hook, path)
        if name and name in names:
            faults.append(duplicate(child(path, "name"), name))
        names.add(name)
    return faults


def _hook(hook: Object, path: str) -> Faults:
    faults = _name(hook.get("name") or "", child(path, "name"))
    for index, rule in enumerate(hook.get("rules") or ()):
        faults += _rule(rule, item(child(path, "rules"), index))
    if not hook.get("sideEffects"):
        wanted = f"must specify one of {', '.join(_CHOICES['sideEffects'])}"
        faults.append(required(child(path, "sideEffects"), wanted))
    for field, choices in _CHOICES.items():
        if hook.get(field) and hook[field] not in choices:
            faults.append(not_supported(child(path, field), hook[field], choices))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _MOST_SECONDS:
        detail = f"the timeout value must be between 1 and {_MOST_SECONDS} seconds"
        faults.append(invalid(child(path, "timeoutSeconds"), seconds, detail))
    for field in ("namespaceSelector", "objectSelector"):
        faults += validate_label_selector(hook.get(field), child(path, field))
    faults += validate_client(hook.get("clientConfig") or {}, child(path, "clientConfig"))
    faults += _conditions(hook.get("matchConditions") or (), child(path, "matchConditions"))
    versions = hook.get("admissionReviewVersions") or []
    return faults + validate_versions(versions, child(path, "admissionReviewVersions"), _VERSIONS)


def _name(name: str, path: str) -> Faults:
    if not name:
        return [required(path)]
    faults: Faults = list(formats.faults(path, name, formats.dns_subdomain(name)))
    if len(name.split(".")) < _SEGMENTS:
        detail = "should be a domain with at least three segments separated by dots"
        faults.append(invalid(path, name, detail))
    return faults


def _rule(rule: Object, path: str) -> Faults:
    faults: Faults = []
    operations = rule.get("operations") or []
    words = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}
    for field, word in words.items():
        values = rule.get(field) or []
        if not values:
            faults.append(required(child(path, field)))
        if len(values) > 1 and "*" in values:
            detail = f"if '*' is present, must not specify other {word}"
            faults.append(invalid(child(path, field), values, detail))
    for index, one in enumerate(operations):
        if one not in _OPERATIONS:
            where = item(child(path, "operations"), index)
            faults.append(not_supported(where, one, _OPERATIONS))
    if rule.get("scope") and rule["scope"] not in _SCOPES:
        faults.append(not_supported(child(path, "scope"), rule["scope"], _SCOPES))
    return faults + _resources(rule.get("resources") or [], child(path, "resources"))


def _resources(resources: Sequence[str], path: str) -> Faults:
    if not resources:
        return [required(path)]
    faults: Faults = []
    whole: set[str] = set()
    below: set[str] = set()
    for index, one in enumerate(resources):
        where = item(path, index)
        if not one:
            faults.append(required(where))
        resource, slash, sub = one.partition("/")
        if not slash:
            continue
        if resource in whole:
            detail = f"if '{resource}/*' is present, must not specify {one}"
            faults.append(invalid(where, one, detail))
        if sub in below:
            faults.append(invalid(where, one, f"if '*/{sub}' is present, must not specify {one}"))
        if sub == "*":
            whole.add(resource)
        if resource == "*":
            below.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        detail = "if '*/*' is present, must not specify other resources"
        faults.append(invalid(path, list(resources), detail))
    if "*" in resources and any("/" not in one and one != "*" for one in resources):
        detail = "if '*' is present, must not specify other resources without subresources"
        faults.append(invalid(path, list(resources), detail))
    return faults


def _conditions(conditions: Sequence[Object], path: str) -> Faults:
    faults: Faults = []
    if len(conditions) > _MOST_CONDITIONS:
        faults.append(too_many(path, len(conditions), _MOST_CONDITIONS))
    names: set[str] = set()
    for index, one in enumerate(conditions):
        where, name = item(path, index), one.get("name") or ""
        text = one.get("expression") or ""
        faults += expression_faults(child(where, "expression"), text, CONDITION_VARIABLES)
        if not name:
            faults.append(required(child(where, "name")))
        else:
            faults += formats.faults(child(where, "name"), name, formats.qualified_name(name))
        if name and name in names:
            faults.append(duplicate(child(where, "name"), name))
        names.add(name)
    return faults


def validate_versions(versions: Sequence[str], path: str, known: Iterable[str]) -> Faults:
    """Of reviews: one at least must be known here."""
    known = tuple(known)
    if not versions:
        return [required(path, f"must specify one of {', '.join(known)}")]
    faults: Faults = []
    for index, one in enumerate(versions):
        if one in versions[:index]:
            faults.append(invalid(item(path, index), one, "duplicate version"))
        else:
            faults += formats.faults(item(path, index), one, formats.dns_1035_label(one))
    if not set(versions) & set(known):
        detail = f"must include at least one of {', '.join(known)}"
        faults.append(invalid(path, list(versions), detail))
    return faults


def validate_client(client: Object, path: str) -> Faults:
    """Of a `clientConfig`."""
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None:
        return _url(url, child(path, "url"))
    return _service(service or {}, path)


def _url(url: str, path: str) -> Faults:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{_FORM}")]
    faults: Faults = []
    if parts.scheme != "https":
        detail = f"'https' is the only allowed URL scheme{_FORM}"
        faults.append(invalid(path, parts.scheme, detail))
    if not parts.netloc:
        faults.append(invalid(path, "", f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        who = parts.netloc.rpartition("@")[0]
        faults.append(invalid(path, who, "user information is not permitted in the URL"))
    if parts.fragment:
        faults.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        detail = "query parameters are not permitted in the URL"
        faults.append(invalid(path, parts.query, detail))
    return faults


def _service(service: Object, above: str) -> Faults:
    path = child(above, "service")
    faults: Faults = []
    for field in ("name", "namespace"):
        if not service.get(field):
            faults.append(required(child(path, field), f"service {field} is required"))
    port = service.get("port", 443)
    reasons = formats.port_number(port)
    if reasons:
        detail = f"port is not valid: {', '.join(reasons)}"
        faults.append(invalid(child(path, "port"), port, detail))
    return faults + _path(service.get("path") or "", child(path, "path"))


def _path(text: str, path: str) -> Faults:
    if text in ("", "/"):
        return []
    if text == "//":
        return [invalid(path, text, "segment[0] may not be empty")]
    faults: Faults = []
    if not text.startswith("/"):
        faults.append(invalid(path, text, "must start with a '/'"))
    for index, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            faults.append(invalid(path, text, f"segment[{index}] may not be empty"))
            continue
        for reason in formats.dns_subdomain(step):
            faults.append(invalid(path, text, f"segment[{index}]: {reason}"))
    return faults
