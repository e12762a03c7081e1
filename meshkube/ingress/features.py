"""What groups of annotations ask for, one small class each, with ingress-nginx's defaults. Pure.

Source: the annotations page of ingress-nginx' user guide.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshkube.ingress.annotation_values import Network

_HEADERS = (
    "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,"
    "Content-Type,Range,Authorization"
)


@dataclass(frozen=True, slots=True)
class Cors:
    """`enable-cors`: pages of other origins may ask."""

    enabled: bool = False
    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    headers: tuple[str, ...] = tuple(_HEADERS.split(","))
    exposed: tuple[str, ...] = ()
    credentials: bool = True
    max_age: int = 1_728_000
    """Seconds for which a browser may remember the answer."""


@dataclass(frozen=True, slots=True)
class Canary:
    """`canary`: this Ingress takes a share of the requests of another with the same rules."""

    enabled: bool = False
    weight: int = 0
    total: int = 100
    header: str = ""
    header_value: str = ""
    header_pattern: str = ""
    cookie: str = ""


@dataclass(frozen=True, slots=True)
class Affinity:
    """`affinity: cookie`: a client stays with its pod."""

    enabled: bool = False
    name: str = "INGRESSCOOKIE"
    path: str = ""
    """Empty: the path of the rule."""
    domain: str = ""
    max_age: int = 0
    expires: int = 0
    """Seconds, as `max_age`; 0: for as long as the browser runs."""
    samesite: str = ""
    conditional_samesite: bool = False
    """`SameSite=None` only for browsers that know it."""
    secure: bool | None = None
    """None: where the client came by HTTPS."""
    change_on_failure: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client (address) may ask of this Ingress."""

    rps: int = 0
    rpm: int = 0
    burst: int = 5
    """This many times the rate may come at once."""
    connections: int = 0
    """Requests under way at one time."""
    exempt: tuple[Network, ...] = ()

    @property
    def enabled(self) -> bool:
        return bool(self.rps or self.rpm or self.connections)


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """`auth-type: basic`: users and passwords in a Secret of the Ingress' namespace."""

    enabled: bool = False
    secret: str = ""
    secret_type: str = "auth-file"
    realm: str = ""


@dataclass(frozen=True, slots=True)
class ExternalAuth:
    """`auth-url`: another server decides whether a request goes on."""

    url: str = ""
    method: str = "GET"
    signin: str = ""
    """Where a browser without a session is sent."""
    signin_parameter: str = "rd"
    """The parameter of `signin` that says where to come back."""
    response_headers: tuple[str, ...] = ()
    """Of the server's answer, for the pod."""
    request_redirect: str = ""
    """X-Auth-Request-Redirect; empty: the request's target."""
    cache_key: str = ""
    cache_times: tuple[tuple[int, float], ...] = ()
    """Statuses, and for how many seconds an answer with that one is remembered."""

    @property
    def enabled(self) -> bool:
        return bool(self.url)


@dataclass(frozen=True, slots=True)
class NextUpstream:
    """When another pod is asked, beyond or below what is done in any case."""

    conditions: frozenset[str] | None = None
    """None: the ingress' own."""
    tries: int | None = None
    """Pods in all; 0: every one."""
    timeout: float = 0.0
    """Seconds for all of them; 0: no limit."""

    @property
    def enabled(self) -> bool:
        return self != NextUpstream()

    @property
    def statuses(self) -> frozenset[int]:
        """Responses that count as a failure."""
        return frozenset(
            int(word[5:]) for word in self.conditions or () if word.startswith("http_")
        )


@dataclass(frozen=True, slots=True)
class Rewrites:
    """What is changed in the headers of responses: text at the beginning of a value, and its
    replacement."""

    location_from: str = ""
    location_to: str = ""
    cookie_domain: tuple[str, str] = ("", "")
    cookie_path: tuple[str, str] = ("", "")

    @property
    def enabled(self) -> bool:
        return self != Rewrites()
