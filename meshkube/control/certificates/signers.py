"""The signers that this cluster has, and what each of them signs. Pure.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests", "Kubernetes
signers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshkube.control.auth.users import MASTERS, NODE_PREFIX, NODES
from meshkube.csr import Request

CLIENT = "kubernetes.io/kube-apiserver-client"
NODE_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
NODE_SERVING = "kubernetes.io/kubelet-serving"
SHORTEST_SECONDS = 600
"""Of `spec.expirationSeconds`, as the API demands."""


def refusal(signer: str, request: Request, usages: Sequence[str]) -> str:
    """Why this signer does not sign the request; empty where it does."""
    return _CHECKS[signer](request, frozenset(usages))


def known(signer: str) -> bool:
    """Whether a signer is ours; others leave their requests to somebody else."""
    return signer in _CHECKS


def _client(request: Request, usages: frozenset[str]) -> str:
    if MASTERS in request.organizations:
        return f"subject organization {MASTERS} is not allowed"
    if "client auth" not in usages:
        return "usages must include client auth"
    return _only(usages, {"client auth", "digital signature", "key encipherment"})


def _node_client(request: Request, usages: frozenset[str]) -> str:
    reason = _node_subject(request)
    if reason:
        return reason
    if request.dns_names or request.addresses or request.emails or request.uris:
        return "subjectAltNames are not allowed"
    return _exactly(usages, "client auth")


def _node_serving(request: Request, usages: frozenset[str]) -> str:
    reason = _node_subject(request)
    if reason:
        return reason
    if not request.dns_names and not request.addresses:
        return "DNS or IP subjectAltName is required"
    if request.emails:
        return "email subjectAltNames are not allowed"
    if request.uris:
        return "URI subjectAltNames are not allowed"
    return _exactly(usages, "server auth")


def _node_subject(request: Request) -> str:
    if request.organizations != (NODES,):
        return f"subject organization is not {NODES}"
    if not request.common_name.removeprefix(NODE_PREFIX) or not request.common_name.startswith(
        NODE_PREFIX
    ):
        return f"subject common name does not begin with {NODE_PREFIX}"
    return ""


def _exactly(usages: frozenset[str], purpose: str) -> str:
    if usages - {"key encipherment"} != {"digital signature", purpose}:
        return f"usages must be digital signature, {purpose} and at most key encipherment"
    return ""


def _only(usages: frozenset[str], allowed: set[str]) -> str:
    more = sorted(usages - allowed)
    return f"usages {', '.join(more)} are not allowed" if more else ""


_CHECKS: dict[str, Callable[[Request, frozenset[str]], str]] = {
    CLIENT: _client,
    NODE_CLIENT: _node_client,
    NODE_SERVING: _node_serving,
}
