"""Roles and bindings as short tables: how a row becomes objects, and how stored ones are kept up.

A rule is written `("get list watch", "apps", "deployments deployments/scale")`: verbs, group,
resources; `CORE` for the core group. Source: Kubernetes documentation, "Using RBAC Authorization",
"Auto-reconciliation".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.auth.rules import Rule, uncovered

GROUP = "rbac.authorization.k8s.io"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
BOOTSTRAP_LABEL = {"kubernetes.io/bootstrapping": "rbac-defaults"}
CORE = ""
Row = tuple[str, str, str]
READ = "get list watch"
WRITE = "create delete deletecollection patch update"


def rule(verbs: str, groups: str, resources: str, names: str = "") -> Rule:
    """Words by blanks; several groups by commas."""
    found: Rule = {
        "apiGroups": groups.split(","),
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    if names:
        found["resourceNames"] = names.split()
    return found


def paths(verbs: str, urls: str) -> Rule:
    return {"nonResourceURLs": urls.split(), "verbs": verbs.split()}


def role(
    name: str, rules: Iterable[Rule], *, namespace: str = "", labels: dict[str, str] | None = None,
    aggregate: str = "",
) -> Object:  # fmt: skip
    """A Role or ClusterRole. `aggregate`: made of the ClusterRoles with this label at `true`."""
    obj: Object = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": _metadata(name, namespace, labels),
        "rules": list(rules),
    }
    if aggregate:
        obj["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {aggregate: "true"}}]}
    return obj


def binding(
    name: str, of: str, subjects: Iterable[str], *, namespace: str = "", to_role: bool = False
) -> Object:
    """`of` is the ClusterRole's name (`to_role`: the Role's); subjects are `user:NAME`,
    `group:NAME` or `account:NAMESPACE/NAME`."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _metadata(name, namespace, None),
        "roleRef": {"apiGroup": GROUP, "kind": "Role" if to_role else "ClusterRole", "name": of},
        "subjects": [_subject(one) for one in subjects],
    }


def _metadata(name: str, namespace: str, labels: dict[str, str] | None) -> Object:
    found: Object = {
        "name": name,
        "labels": {**BOOTSTRAP_LABEL, **(labels or {})},
        "annotations": {AUTO_UPDATE: "true"},
    }
    if namespace:
        found["namespace"] = namespace
    return found


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "account":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind.capitalize(), "name": name}


def reconciled(wanted: Object, stored: Object) -> Object | None:
    """A stored role or binding with what is missing added, as at each start of Kubernetes; None
    where nothing is, or where it is annotated to be left alone."""
    if meta.annotations(stored).get(AUTO_UPDATE) == "false":
        return None
    new = meta.copy(stored)
    metadata = new["metadata"]
    for field in ("labels", "annotations"):
        metadata[field] = {**wanted["metadata"][field], **(metadata.get(field) or {})}
    if "aggregationRule" in wanted:
        new["aggregationRule"] = _merged(wanted, stored)
    elif "rules" in wanted:
        missing = _missing_rules(wanted["rules"], stored.get("rules") or [])
        new["rules"] = [*(stored.get("rules") or []), *missing]
    if "subjects" in wanted:
        known = stored.get("subjects") or []
        new["subjects"] = known + [one for one in wanted["subjects"] if one not in known]
    return None if _same(new, stored) else new


def _missing_rules(wanted: Sequence[Rule], stored: Sequence[Rule]) -> list[Rule]:
    return [one for one in wanted if uncovered(stored, [one])]


def _merged(wanted: Object, stored: Object) -> Object:
    known = (stored.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    own = wanted["aggregationRule"]["clusterRoleSelectors"]
    return {"clusterRoleSelectors": known + [one for one in own if one not in known]}


def _same(new: Object, stored: Object) -> bool:
    fields = ("rules", "subjects", "aggregationRule")
    if any((new.get(field) or None) != (stored.get(field) or None) for field in fields):
        return False
    return all(
        (new["metadata"].get(field) or None) == (stored["metadata"].get(field) or None)
        for field in ("labels", "annotations")
    )
