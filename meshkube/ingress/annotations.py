"""The annotations that people already have on their Ingresses, as one table. Pure.

Names and meaning are those of ingress-nginx (`nginx.ingress.kubernetes.io/…`); docs/ingress.md says
where ours differs. What is not in the table is not supported, and said so, never ignored silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshkube.ingress import annotation_values as read
from meshkube.ingress import client_auth, pod_annotations
from meshkube.ingress.annotation_values import Invalid, Network
from meshkube.ingress.client_auth import ClientAuth
from meshkube.ingress.features import (
    Affinity,
    BasicAuth,
    Canary,
    Cors,
    ExternalAuth,
    Limits,
    NextUpstream,
    Rewrites,
)
from meshkube.ingress.variables import expression, template

PREFIX = "nginx.ingress.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the annotations of an Ingress ask for beyond plain proxying."""

    ssl_redirect: bool = False
    """From HTTP to HTTPS, for hosts with TLS."""
    force_ssl_redirect: bool = False
    """The same, for every host."""
    redirect: str = ""
    """Everything goes there; holds `$request_uri`, `$host`, `$scheme`."""
    redirect_code: int = 301
    redirect_to_other: bool = False
    """The whole rule is only there to redirect."""
    app_root: str = ""
    """Where `/` is redirected to."""
    rewrite: str = ""
    """The path for the pod, with `$1`, `$2` for what the rule's path captures."""
    upstream_host: str = ""
    """The Host that the pod gets."""
    max_body: int | None = None
    """In bytes; 0: no limit; None: the ingress' own."""
    read_timeout: float | None = None
    """Seconds without a byte from the pod; None: the ingress' own."""
    send_timeout: float | None = None
    """Seconds without progress of the request's body; None: the ingress' own."""
    allowed: tuple[Network, ...] = ()
    """Clients that are served; empty: all."""
    denied: tuple[Network, ...] = ()
    cors: Cors | None = None
    canary: Canary | None = None
    affinity: Affinity | None = None
    hash_by: str = ""
    """Variables whose value chooses the pod."""
    balance: str = "round_robin"
    limits: Limits | None = None
    basic_auth: BasicAuth | None = None
    external_auth: ExternalAuth | None = None
    next_upstream: NextUpstream | None = None
    connect_timeout: float | None = None
    """Seconds for one attempt; None: the ingress' own."""
    aliases: tuple[str, ...] = ()
    """Further hosts with the same rules."""
    www_redirect: bool = False
    """From `www.x` to `x`, or the other way round."""
    fallback: str = ""
    """The Service that answers where the rule's own has no pod, and for `error_codes`."""
    error_codes: frozenset[int] = frozenset()
    rewrites: Rewrites | None = None
    forwarded_prefix: str = ""
    connection_header: str = ""
    through_service: bool = False
    """Pods are reached by the Service's own address."""
    access_log: bool = True
    client_auth: ClientAuth | None = None
    """Read with the rest of what concerns TLS, not from the table here."""
    closed: str = ""
    """Why nobody is served: something was to guard this Ingress, and does not."""


PLAIN = Policy()

_GROUPS: dict[str, Callable[..., Any]] = {
    "cors": Cors,
    "canary": Canary,
    "affinity": Affinity,
    "limits": Limits,
    "basic_auth": BasicAuth,
    "external_auth": ExternalAuth,
    "next_upstream": NextUpstream,
    "rewrites": Rewrites,
}
# To serve without the guard that was asked for would be worse than not to serve.
_GUARDS = ("allowed", "denied", "basic_auth", "external_auth")

# Annotation -> field of the policy or of one of its groups (empty: nothing follows from it), and
# who reads the value.
TABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ssl-redirect": ("ssl_redirect", read.flag),
    "force-ssl-redirect": ("force_ssl_redirect", read.flag),
    "temporal-redirect": ("redirect", read.url),
    "permanent-redirect": ("redirect", read.url),
    "temporal-redirect-code": ("redirect_code", read.redirect_code),
    "permanent-redirect-code": ("redirect_code", read.redirect_code),
    "preserve-trailing-slash": ("", read.only("true")),
    "from-to-www-redirect": ("www_redirect", read.flag),
    "app-root": ("app_root", read.path),
    "rewrite-target": ("rewrite", read.rewrite),
    "x-forwarded-prefix": ("forwarded_prefix", read.value),
    "connection-proxy-header": ("connection_header", read.value),
    "upstream-vhost": ("upstream_host", read.host),
    "server-alias": ("aliases", read.hosts),
    "proxy-body-size": ("max_body", read.size),
    "proxy-connect-timeout": ("connect_timeout", read.seconds),
    "proxy-read-timeout": ("read_timeout", read.seconds),
    "proxy-send-timeout": ("send_timeout", read.seconds),
    "proxy-next-upstream": ("next_upstream.conditions", read.conditions),
    "proxy-next-upstream-tries": ("next_upstream.tries", read.number(0, 1000)),
    "proxy-next-upstream-timeout": ("next_upstream.timeout", read.number(0, 86_400)),
    "whitelist-source-range": ("allowed", read.networks),
    "allowlist-source-range": ("allowed", read.networks),
    "denylist-source-range": ("denied", read.networks),
    "use-regex": ("", read.only("true", "false")),
    "proxy-http-version": ("", read.only("1.1")),
    "proxy-buffering": ("", read.only("off")),
    "proxy-request-buffering": ("", read.only("off")),
    "proxy-redirect-from": ("rewrites.location_from", read.literal),
    "proxy-redirect-to": ("rewrites.location_to", read.literal),
    "proxy-cookie-domain": ("rewrites.cookie_domain", read.pair),
    "proxy-cookie-path": ("rewrites.cookie_path", read.pair),
    "enable-cors": ("cors.enabled", read.flag),
    "cors-allow-origin": ("cors.origins", read.origins),
    "cors-allow-methods": ("cors.methods", read.tokens),
    "cors-allow-headers": ("cors.headers", read.tokens),
    "cors-expose-headers": ("cors.exposed", read.tokens),
    "cors-allow-credentials": ("cors.credentials", read.flag),
    "cors-max-age": ("cors.max_age", read.number(0, 2**31)),
    "canary": ("canary.enabled", read.flag),
    "canary-weight": ("canary.weight", read.number(0, 1_000_000)),
    "canary-weight-total": ("canary.total", read.number(1, 1_000_000)),
    "canary-by-header": ("canary.header", read.token),
    "canary-by-header-value": ("canary.header_value", read.value),
    "canary-by-header-pattern": ("canary.header_pattern", expression),
    "canary-by-cookie": ("canary.cookie", read.token),
    "affinity": ("affinity.enabled", read.switch("cookie")),
    "affinity-mode": ("", read.only("balanced", "persistent")),
    "session-cookie-name": ("affinity.name", read.token),
    "session-cookie-path": ("affinity.path", read.cookie_path),
    "session-cookie-domain": ("affinity.domain", read.host),
    "session-cookie-max-age": ("affinity.max_age", read.number(0, 2**31)),
    "session-cookie-expires": ("affinity.expires", read.number(0, 2**31)),
    "session-cookie-samesite": ("affinity.samesite", read.one_of("None", "Lax", "Strict")),
    "session-cookie-conditional-samesite-none": ("affinity.conditional_samesite", read.flag),
    "session-cookie-secure": ("affinity.secure", read.flag),
    "session-cookie-change-on-failure": ("affinity.change_on_failure", read.flag),
    "upstream-hash-by": ("hash_by", template),
    "load-balance": ("balance", read.one_of("round_robin", "least_conn", "ewma")),
    "service-upstream": ("through_service", read.flag),
    "default-backend": ("fallback", read.object_name),
    "custom-http-errors": ("error_codes", read.error_codes),
    "limit-rps": ("limits.rps", read.number(0, 1_000_000)),
    "limit-rpm": ("limits.rpm", read.number(0, 60_000_000)),
    "limit-burst-multiplier": ("limits.burst", read.number(1, 1000)),
    "limit-connections": ("limits.connections", read.number(0, 1_000_000)),
    "limit-whitelist": ("limits.exempt", read.networks),
    "limit-allowlist": ("limits.exempt", read.networks),
    "auth-type": ("basic_auth.enabled", read.switch("basic")),
    "auth-secret": ("basic_auth.secret", read.object_name),
    "auth-secret-type": ("basic_auth.secret_type", read.one_of("auth-file", "auth-map")),
    "auth-realm": ("basic_auth.realm", read.value),
    "auth-url": ("external_auth.url", read.filled_url(template)),
    "auth-method": ("external_auth.method", read.one_of("GET", "HEAD", "POST", "PUT")),
    "auth-signin": ("external_auth.signin", read.filled_url(template)),
    "auth-signin-redirect-param": ("external_auth.signin_parameter", read.token),
    "auth-response-headers": ("external_auth.response_headers", read.tokens),
    "auth-request-redirect": ("external_auth.request_redirect", template),
    "auth-cache-key": ("external_auth.cache_key", template),
    "auth-cache-duration": ("external_auth.cache_times", read.cache_times),
    "auth-keepalive": ("", read.checked(read.number(0, 1_000_000))),
    "auth-keepalive-requests": ("", read.checked(read.number(0, 1_000_000))),
    "auth-keepalive-timeout": ("", read.checked(read.number(0, 1_000_000))),
    "enable-access-log": ("access_log", read.flag),
}


def policy(annotations: Mapping[str, str]) -> Policy:
    """What can be used of the annotations."""
    return _read(annotations)[0]


def problems(annotations: Mapping[str, str]) -> list[str]:
    """What cannot be used of the annotations, and why, in a person's words."""
    return _read(annotations)[1]


def _read(annotations: Mapping[str, str]) -> tuple[Policy, list[str]]:
    given = {
        name.removeprefix(PREFIX): str(value).strip()
        for name, value in annotations.items()
        if name.startswith(PREFIX)
    }
    if not given:
        return PLAIN, []
    unknown = sorted(
        given.keys() - TABLE.keys() - pod_annotations.TABLE.keys() - client_auth.TABLE.keys()
    )
    wrong = [f"{PREFIX}{name} is not supported" for name in unknown]
    values: dict[str, Any] = {}
    guards = [f"{PREFIX}{name} is not supported" for name in unknown if name.startswith("auth-")]
    if "temporal-redirect" in given and "permanent-redirect" not in given:
        values["redirect_code"] = 302
    for name, (target, reader) in TABLE.items():
        if name not in given:
            continue
        try:
            value = reader(given[name])
        except Invalid as error:
            wrong.append(f"{PREFIX}{name}: {given[name]!r} {error}")
            guards += wrong[-1:] if target.partition(".")[0] in _GUARDS else []
            continue
        if target:
            values[target] = value
    values, missing = _grouped(values)
    wrong += missing
    guards += [each for each in missing if f"{PREFIX}auth-" in each]
    return Policy(**values, closed=guards[0] if guards else ""), wrong


def _grouped(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The policy's fields, and what is missing for some of them."""
    flat = {name: value for name, value in values.items() if "." not in name}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, dot, member = name.partition(".")
        if dot:
            groups.setdefault(group, {})[member] = value
    for group, members in groups.items():
        made = _GROUPS[group](**members)
        flat[group] = made if made.enabled else None
    return flat, _missing(flat, groups)


def _missing(flat: dict[str, Any], groups: dict[str, dict[str, Any]]) -> list[str]:
    missing = []
    basic: BasicAuth | None = flat.get("basic_auth")
    if "basic_auth" in groups and (basic is None or not basic.secret):
        without = "auth-type" if basic is None else "auth-secret"
        missing.append(f"{PREFIX}{without} is missing beside the other annotations of basic auth")
    if "external_auth" in groups and flat.get("external_auth") is None:
        missing.append(f"{PREFIX}auth-url is missing beside the other annotations of its kind")
    rewrites: Rewrites | None = flat.get("rewrites")
    if rewrites is not None and bool(rewrites.location_from) != bool(rewrites.location_to):
        missing.append(f"{PREFIX}proxy-redirect-from and -to only work together")
    return missing
