"""What an Ingress asks for, made up for one of its rules. Pure."""

from __future__ import annotations

from dataclasses import replace

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.annotations import Policy
from meshkube.ingress.client_auth import client_auth
from meshkube.ingress.rules import Row, tls_hosts


def for_row(asked: Policy, ingress: Object, row: Row) -> Policy:
    """An Ingress' policy for one of its rules."""
    if row.redirect:
        target = f"$scheme://{row.redirect}$request_uri"
        return Policy(redirect=target, redirect_code=308, redirect_to_other=True)
    secured = asked.ssl_redirect and row.host in tls_hosts(ingress)
    return replace(
        asked,
        ssl_redirect=secured or asked.force_ssl_redirect,
        client_auth=client_auth(meta.annotations(ingress), meta.namespace(ingress))[0],
    )


def as_canary(own: Policy, main: Policy) -> Policy:
    """A canary has the policy of its rule; how its pods are chosen is its own."""
    return replace(
        main,
        canary=own.canary,
        affinity=own.affinity or main.affinity,
        hash_by=own.hash_by or main.hash_by,
        balance=own.balance,
    )
