"""Which writes an admission webhook or policy asks to be told of.

Pure. Source: Kubernetes documentation, "Dynamic Admission Control" (matching requests) and
"Validating Admission Policy".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from meshkube.api import conversion, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.auth.users import User

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
EXEMPT: Final = frozenset(
    {
        kinds.MUTATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_WEBHOOK_CONFIGURATION,
        kinds.VALIDATING_ADMISSION_POLICY,
        kinds.VALIDATING_ADMISSION_POLICY_BINDING,
    }
)
"""Kinds that nobody is asked about: else nobody could mend what refuses everything."""


class Asked(NamedTuple):
    """One request, as webhooks and policies see it."""

    kind: Kind
    """The kind that the request names."""
    operation: Operation
    obj: Object | None
    """In the form that is kept; of some sub-resources their own body (`body`)."""
    old: Object | None
    user: User | None
    subresource: str = ""
    dry_run: bool = False
    name: str = ""
    """Where no object says it."""
    namespace: str = ""
    body: tuple[str, str] = ("", "")
    """`apiVersion` and `kind` of `obj` where that is of none of its resource's own kinds: a Scale,
    a Binding, PodExecOptions."""
    options: Object | None = None
    """CreateOptions, UpdateOptions, PatchOptions or DeleteOptions."""

    @property
    def about(self) -> Object:
        """The object that selectors and names are compared with."""
        found = self.obj if self.obj is not None else self.old
        return found if found is not None else {}

    @property
    def named(self) -> str:
        return self.name or meta.name(self.about)

    @property
    def space(self) -> str:
        """Its namespace; that of a Namespace is itself."""
        if self.kind is kinds.NAMESPACE:
            return self.named
        return self.namespace or meta.namespace(self.about)

    def seen(self, kind: Kind, obj: Object | None) -> Object | None:
        """An object of this request (`obj` or `old`) in the form of one of its kinds."""
        if obj is None or self.body[0]:
            return obj
        if kind.definition is not None:
            return obj if obj.get("apiVersion") == kind.api_version else _versioned(obj, kind)
        return conversion.from_stored(kind, obj)

    def taken(self, kind: Kind, obj: Object) -> Object:
        """What came back in the form of one of its kinds, in the form of `obj`."""
        if self.body[0]:
            return obj
        if kind.definition is not None:
            assert self.obj is not None
            return {**obj, "apiVersion": self.obj.get("apiVersion")}
        return conversion.to_stored(kind, obj)

    def group_version_kind(self, kind: Kind) -> Object:
        """Of what is sent where `kind` was matched."""
        if self.body[0]:
            group, _, version = self.body[0].rpartition("/")
            return {"group": group, "version": version, "kind": self.body[1]}
        return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _versioned(obj: Object, kind: Kind) -> Object:
    return {**obj, "apiVersion": kind.api_version}


def resource_of(kind: Kind) -> Object:
    """As `GroupVersionResource`."""
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}


def matched(rules: Iterable[Object], policy: str, asked: Asked) -> Kind | None:
    """The kind in whose form somebody with these rules wants to see the request; None: not at all.
    `policy` is `Exact` or `Equivalent`."""
    rules = list(rules)
    if any(_rule_matches(rule, asked, asked.kind) for rule in rules):
        return asked.kind
    if policy == "Exact":
        return None
    for rule in rules:
        for other in _equivalents(asked.kind):
            if other != asked.kind and _rule_matches(rule, asked, other):
                return other
    return None


def _equivalents(kind: Kind) -> Iterable[Kind]:
    """The served kinds of the same objects, where one is easily told from the other."""
    if kind.definition is not None:
        return kind.definition.kinds if kind.definition.webhook is None else ()
    return _built_in(kind.storage)


@cache
def _built_in(stored: Kind) -> tuple[Kind, ...]:
    return tuple(kind for kind in kinds.KINDS if kind.storage is stored)


def _rule_matches(rule: Object, asked: Asked, kind: Kind) -> bool:
    scope = rule.get("scope") or "*"
    if scope != "*" and scope != ("Namespaced" if kind.namespaced else "Cluster"):
        return False
    names = rule.get("resourceNames") or ()
    if names and asked.named not in names:
        return False
    return (
        _listed(rule.get("operations") or (), asked.operation)
        and _listed(rule.get("apiGroups") or (), kind.group)
        and _listed(rule.get("apiVersions") or (), kind.version)
        and any(_resource(one, kind, asked) for one in rule.get("resources") or ())
    )


def _listed(allowed: Iterable[str], value: str) -> bool:
    return any(one in ("*", value) for one in allowed)


def _resource(pattern: str, kind: Kind, asked: Asked) -> bool:
    resource, _, sub = pattern.partition("/")
    if resource not in ("*", kind.plural):
        return False
    return sub in ("*", asked.subresource) if sub else not asked.subresource


def selected(match: Object, asked: Asked, lookup: Lookup) -> bool:
    """Whether the `objectSelector` and the `namespaceSelector` of a match choose the request."""
    wanted = match.get("objectSelector")
    if wanted:
        selector = from_label_selector(wanted)
        sides = [one for one in (asked.obj, asked.old) if one is not None]
        if not any(selector.matches(meta.labels(one)) for one in sides):
            return False
    wanted = match.get("namespaceSelector")
    if not wanted or not (asked.kind.namespaced or asked.kind is kinds.NAMESPACE):
        return True
    return from_label_selector(wanted).matches(meta.labels(namespace_of(asked, lookup) or {}))


def namespace_of(asked: Asked, lookup: Lookup) -> Object | None:
    """The Namespace that a request is in, or is about."""
    if asked.kind is kinds.NAMESPACE:
        return asked.about
    if not asked.kind.namespaced:
        return None
    return lookup.find(kinds.NAMESPACE, asked.space)


def expression_names(asked: Asked, kind: Kind, lookup: Lookup) -> dict[str, Any]:
    """What CEL expressions may name, where `kind` was matched."""
    return {
        "object": asked.seen(kind, asked.obj),
        "oldObject": asked.seen(kind, asked.old),
        "request": request(asked, kind),
        "namespaceObject": namespace_of(asked, lookup),
    }


def request(asked: Asked, kind: Kind) -> Object:
    """As the `AdmissionRequest` of `admission.k8s.io`, without the objects."""
    return {
        "kind": asked.group_version_kind(kind),
        "resource": resource_of(kind),
        "subResource": asked.subresource,
        "requestKind": asked.group_version_kind(asked.kind),
        "requestResource": resource_of(asked.kind),
        "requestSubResource": asked.subresource,
        "name": asked.named,
        "namespace": asked.space,
        "operation": asked.operation,
        "userInfo": asked.user.info() if asked.user else {"username": "system:apiserver"},
        "dryRun": asked.dry_run,
        "options": asked.options,
    }
