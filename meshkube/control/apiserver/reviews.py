"""Reviews: questions about tokens, users and their rights, answered on the spot and not stored.

Sources: `authentication.k8s.io/v1` and `authorization.k8s.io/v1` of the Kubernetes API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshkube.api import errors
from meshkube.api.errors import FieldError
from meshkube.api.types import Object
from meshkube.control.apiserver.access import Access
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.jws import BadToken
from meshkube.control.auth.rules import Rule
from meshkube.control.auth.users import User


def answer(kind: str, body: Object, user: User, access: Access, namespace: str = "") -> Object:
    """The review with its status filled in; `namespace` is that of its path.
    Raises `ApiError` 400 or 422."""
    _checked(body, {"metadata": dict, "spec": dict}, "")
    spec = body.get("spec") or {}
    _checked(spec, _FIELDS, "spec.")
    for field in ("resourceAttributes", "nonResourceAttributes"):
        _checked(spec.get(field) or {}, _ATTRIBUTES, f"spec.{field}.")
    status = _ANSWERS[kind](spec, user, access, namespace)
    metadata = {"creationTimestamp": None, **(body.get("metadata") or {})}
    return {**body, "metadata": metadata, "status": status}


_FIELDS = {
    "user": str,
    "uid": str,
    "groups": list,
    "token": str,
    "audiences": list,
    "namespace": str,
    "resourceAttributes": dict,
    "nonResourceAttributes": dict,
}
_ATTRIBUTES = dict.fromkeys(
    ("verb", "group", "version", "resource", "subresource", "namespace", "name", "path"), str
)


def _checked(content: Object, types: Mapping[str, type], path: str) -> None:
    """Raises `ApiError` 400 for a field of another type."""
    for field, type_ in types.items():
        value = content.get(field)
        if value is not None and not isinstance(value, type_):
            raise errors.bad_request(f"{path}{field}: not of type {_TYPES[type_]}")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise errors.bad_request(f"{path}{field}: not a list of strings")


_TYPES: dict[type, str] = {str: "string", list: "list", dict: "object"}


def _self_access(spec: Object, user: User, access: Access, namespace: str) -> Object:
    return _access("SelfSubjectAccessReview", spec, user, access)


def _access_of(spec: Object, user: User, access: Access, namespace: str) -> Object:
    return _access("SubjectAccessReview", spec, _subject("SubjectAccessReview", spec), access)


def _local_access(spec: Object, user: User, access: Access, namespace: str) -> Object:
    kind = "LocalSubjectAccessReview"
    given = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if given != namespace:
        why = f'Invalid value: "{given}": must match metadata.namespace'
        raise _invalid(kind, "spec.resourceAttributes.namespace", why)
    if spec.get("nonResourceAttributes"):
        why = 'Invalid value: "null": disallowed on this kind of request'
        raise _invalid(kind, "spec.nonResourceAttributes", why)
    return _access(kind, spec, _subject(kind, spec), access)


def _subject(kind: str, spec: Object) -> User:
    name, groups = spec.get("user") or "", spec.get("groups") or []
    if not name and not groups:
        why = 'Invalid value: "": at least one of user or group must be specified'
        raise _invalid(kind, "spec.user", why)
    return User(str(name), tuple(str(one) for one in groups))


def _access(kind: str, spec: Object, user: User, access: Access) -> Object:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) is (path is None):
        what = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        field = "spec.resourceAttributes" if resource is None else "spec.nonResourceAttributes"
        raise _invalid(kind, field, f'Invalid value: "null": {what}')
    asked = _of_path(user, path) if resource is None else _of_resource(user, resource)
    decision = access.authorizer.decide(asked)
    status: Object = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    if decision.reason and not decision.allowed:
        status["evaluationError"] = decision.reason.removeprefix("RBAC: ")
    return status


def _of_resource(user: User, spec: Object | None) -> Attributes:
    spec = spec or {}
    fields = ("verb", "group", "resource", "subresource", "namespace", "name")
    values = {field: str(spec.get(field) or "") for field in fields}
    return Attributes(user, **values)


def _of_path(user: User, spec: Object | None) -> Attributes:
    spec = spec or {}
    return Attributes(user, str(spec.get("verb") or ""), path=str(spec.get("path") or "") or "/")


def _rules(spec: Object, user: User, access: Access, namespace: str) -> Object:
    place = spec.get("namespace")
    if not place:
        raise errors.bad_request("no namespace on request")
    rules, trouble = access.authorizer.rules_of(user, str(place))
    status: Object = {
        "resourceRules": [_shown(rule, _RESOURCE) for rule in rules if rule.get("resources")],
        "nonResourceRules": [_shown(rule, _PATH) for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": bool(trouble),
    }
    if trouble:
        status["evaluationError"] = trouble
    return status


_RESOURCE = ("verbs", "apiGroups", "resources", "resourceNames")
_PATH = ("verbs", "nonResourceURLs")


def _shown(rule: Rule, fields: tuple[str, ...]) -> Object:
    return {field: rule[field] for field in fields if rule.get(field)}


def _self(spec: Object, user: User, access: Access, namespace: str) -> Object:
    return {"userInfo": user.info()}


def _token(spec: Object, user: User, access: Access, namespace: str) -> Object:
    token = spec.get("token")
    if not token or not isinstance(token, str):
        raise errors.bad_request("token is required for TokenReview in authentication")
    audiences = tuple(str(one) for one in spec.get("audiences") or ())
    try:
        accepted = access.accept(token, audiences)
    except BadToken as error:
        return {"authenticated": False, "user": {}, "error": f"invalid bearer token, {error}"}
    return {
        "authenticated": True,
        "user": accepted.user.info(),
        "audiences": list(accepted.audiences),
    }


def _invalid(kind: str, field: str, why: str) -> errors.ApiError:
    fault = FieldError(field, "FieldValueInvalid", why)
    return errors.invalid("authorization.k8s.io", kind, "", [fault])


_ANSWERS: dict[str, Callable[[Object, User, Access, str], Object]] = {
    "SelfSubjectAccessReview": _self_access,
    "SubjectAccessReview": _access_of,
    "LocalSubjectAccessReview": _local_access,
    "SelfSubjectRulesReview": _rules,
    "SelfSubjectReview": _self,
    "TokenReview": _token,
}
