"""TokenRequests: the sub-resource `token` of service accounts.

Source: `authentication.k8s.io/v1 TokenRequest` of the Kubernetes API reference.
"""

from __future__ import annotations

from datetime import UTC, datetime

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import FieldError
from meshkube.api.types import Object
from meshkube.control.apiserver.access import Access
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.auth import node
from meshkube.control.auth.tokens import DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS
from meshkube.control.auth.users import User

_BINDABLE = {"Pod": kinds.POD, "Secret": kinds.SECRET, "Node": kinds.NODE}


def answer(request: Object, namespace: str, name: str, user: User | None, access: Access) -> Object:
    """The request with its token. Raises `ApiError`."""
    spec = _checked(request, name, namespace)
    account = access.lookup.find(kinds.SERVICE_ACCOUNT, name, namespace)
    if account is None:
        raise errors.not_found("", "serviceaccounts", name)
    reference = spec.get("boundObjectRef")
    bound = _bound(reference, account, access.lookup) if reference else None
    if user is not None:
        pod = bound if bound is not None and bound["kind"] == "Pod" else None
        node.restrict_token(user, account, reference, pod)
    now, issuer = access.clock.now(), access.issuer
    seconds, audiences = spec["expirationSeconds"], spec.get("audiences") or [*issuer.audiences]
    place = _place(bound, access.lookup)
    token = issuer.issue(
        account, seconds, now.timestamp(), audiences=audiences, bound=bound, node=place
    )
    end = datetime.fromtimestamp(int(now.timestamp()) + seconds, UTC)
    created = meta.timestamp(now)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {**spec, "audiences": audiences, "boundObjectRef": reference},
        "status": {"token": token, "expirationTimestamp": meta.timestamp(end)},
    }


def _bound(reference: Object, account: Object, lookup: Lookup) -> Object:
    """The object that the token will be bound to."""
    kind = _BINDABLE.get(reference.get("kind", ""))
    if kind is None or reference.get("apiVersion") != kind.api_version:
        given = f"{reference.get('apiVersion')}, Kind={reference.get('kind')}"
        raise errors.bad_request(f"cannot bind token to object of type {given}")
    name, namespace = str(reference.get("name") or ""), meta.namespace(account)
    found = lookup.find(kind, name, namespace if kind.namespaced else "")
    if found is None:
        raise errors.not_found(kind.group, kind.plural, name)
    uid = reference.get("uid")
    if uid and uid != meta.uid(found):
        why = (
            f"the UID in the bound object reference ({uid}) does not match the UID in record. The "
            "object might have been deleted and then recreated"
        )
        raise errors.conflict(kind.group, kind.plural, name, why)
    if kind is kinds.POD and found["spec"].get("serviceAccountName") != meta.name(account):
        raise errors.bad_request(
            f'cannot bind token for serviceaccount "{meta.name(account)}" to pod running with '
            "different serviceaccount name."
        )
    return {**found, "kind": kind.kind}


def _place(bound: Object | None, lookup: Lookup) -> Object | None:
    """The node on which a bound pod runs."""
    if bound is None or bound["kind"] != "Pod":
        return None
    place = (bound.get("spec") or {}).get("nodeName")
    return lookup.find(kinds.NODE, place) if place else None


def _checked(body: Object, name: str, namespace: str) -> Object:
    """The spec with its defaults."""
    _right_place(body, name, namespace)
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise errors.bad_request("spec: not a JSON object")
    audiences, reference = spec.get("audiences"), spec.get("boundObjectRef")
    if audiences is not None and not _texts(audiences):
        raise errors.bad_request("spec.audiences: not a list of strings")
    if reference is not None and not isinstance(reference, dict):
        raise errors.bad_request("spec.boundObjectRef: not a JSON object")
    return {**spec, "expirationSeconds": _seconds(spec, name)}


def _right_place(body: Object, name: str, namespace: str) -> None:
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise errors.bad_request("metadata: not a JSON object")
    for field, expected in (("name", name), ("namespace", namespace)):
        if metadata.get(field) and metadata[field] != expected:
            raise errors.bad_request(
                f"the {field} of the token request ({metadata[field]}) does not match the {field} "
                f"on the URL ({expected})"
            )


def _seconds(spec: Object, name: str) -> int:
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        return DEFAULT_SECONDS
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise errors.bad_request("spec.expirationSeconds: not a whole number")
    why = ""
    if seconds < LEAST_SECONDS:
        why = "may not specify a duration less than 10 minutes"
    elif seconds > MOST_SECONDS:
        why = "may not specify a duration larger than 2^32 seconds"
    if why:
        message = f"Invalid value: {seconds}: {why}"
        fault = FieldError("spec.expirationSeconds", "FieldValueInvalid", message)
        raise errors.invalid("authentication.k8s.io", "TokenRequest", name, [fault])
    return seconds


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)
