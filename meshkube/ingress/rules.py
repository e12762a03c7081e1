"""What one Ingress says, projected to plain rows; and which Ingresses are ours. Pure.

Source: Kubernetes' "Ingress" concept page and the Ingress networking.k8s.io/v1 reference.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.ingress.annotations import PREFIX, Policy
from meshkube.ingress.backends import PortRef
from meshkube.ingress.rewriting import Captures, captures, is_expression

CONTROLLER = "meshkube.io/ingress"
CLASS_NAME = "meshkube"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"

PathType = Literal["Exact", "Prefix", "Default"]
"""`Default` is a default backend: it takes what no path of its host takes."""


@dataclass(frozen=True, slots=True)
class BackendRef:
    """What a path points to; `service` is empty where it points to something else, and `other`
    then says to what."""

    service: str
    port: PortRef
    other: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One path of one Ingress. `host` is in lower case, `*.x` for a wildcard, empty for all."""

    host: str
    path: str
    type: PathType
    backend: BackendRef
    captures: Captures | None = None
    redirect: str = ""
    """The host that this one is only another name for."""


@dataclass(frozen=True, slots=True)
class TlsRow:
    """One `tls` entry: the Secret (`namespace/name`) and the hosts that it is for."""

    secret: str
    hosts: tuple[str, ...]


def owned_classes(classes: Iterable[Object]) -> tuple[frozenset[str], bool]:
    """The names of our IngressClasses, and whether one of them is the cluster's default."""
    ours = [c for c in classes if (c.get("spec") or {}).get("controller") == CONTROLLER]
    default = any(meta.annotations(c).get(DEFAULT_CLASS_ANNOTATION) == "true" for c in ours)
    return frozenset(meta.name(c) for c in ours), default


def is_ours(ingress: Object, names: frozenset[str], default: bool) -> bool:
    """Whether this controller serves the Ingress. The old annotation counts where the field is
    absent, and names our class also where no IngressClass object exists."""
    chosen = (ingress.get("spec") or {}).get("ingressClassName")
    if chosen:
        return chosen in names
    annotation = meta.annotations(ingress).get(CLASS_ANNOTATION)
    if annotation:
        return annotation in names or annotation == CLASS_NAME
    return default


def rows(ingress: Object) -> list[Row]:
    """Every path and default backend of an Ingress, in its own order."""
    spec = ingress.get("spec") or {}
    found: list[Row] = []
    hosts: list[str] = []
    expressions = has_expressions(ingress)
    for rule in spec.get("rules") or ():
        host = normal_host(rule.get("host") or "")
        hosts.append(host)
        for path in (rule.get("http") or {}).get("paths") or ():
            row = _row(host, path)
            taken = captures(row.path) if expressions else None
            if taken is not None:
                row = replace(row, path=taken.prefix or "/", type="Prefix", captures=taken)
            found.append(row)
    if spec.get("defaultBackend"):
        default = _backend(spec["defaultBackend"])
        found += [Row(host, "", "Default", default) for host in dict.fromkeys(hosts or [""])]
    return found


def further_rows(found: Sequence[Row], asked: Policy) -> list[Row]:
    """What annotations add: the same rules for hosts in `server-alias`, and the host with or
    without `www.` that `from-to-www-redirect` redirects."""
    known = {row.host for row in found}
    more = [
        replace(row, host=alias)
        for alias in dict.fromkeys(asked.aliases)
        if alias not in known
        for row in dict.fromkeys(replace(each, host="") for each in found)
    ]
    if asked.www_redirect:
        for row in {row.host: row for row in found if row.host and "*" not in row.host}.values():
            other = row.host[4:] if row.host.startswith("www.") else f"www.{row.host}"
            if other not in known:
                more.append(Row(other, "/", "Prefix", row.backend, redirect=row.host))
    return more


def has_expressions(ingress: Object) -> bool:
    """Whether the paths of an Ingress are meant as expressions, as ingress-nginx has it."""
    annotations = meta.annotations(ingress)
    return bool(
        annotations.get(f"{PREFIX}use-regex") == "true"
        or annotations.get(f"{PREFIX}rewrite-target")
    )


def bad_expressions(ingress: Object) -> list[str]:
    """The paths of an Ingress that are expressions and of no form that is taken."""
    if not has_expressions(ingress):
        return []
    return [row.path for row in rows(ingress) if row.captures is None and is_expression(row.path)]


def tls_hosts(ingress: Object) -> frozenset[str]:
    """The hosts that `tls` covers; an entry without hosts covers those of the rules."""
    spec = ingress.get("spec") or {}
    own = [rule.get("host") or "" for rule in spec.get("rules") or ()]
    return frozenset(
        normal_host(host)
        for entry in spec.get("tls") or ()
        for host in entry.get("hosts") or own or [""]
    )


def tls_rows(ingress: Object) -> list[TlsRow]:
    """The `tls` entries that name a Secret."""
    space = meta.namespace(ingress)
    return [
        TlsRow(f"{space}/{entry['secretName']}", tuple(map(normal_host, entry.get("hosts") or ())))
        for entry in (ingress.get("spec") or {}).get("tls") or ()
        if entry.get("secretName")
    ]


def normal_host(host: str) -> str:
    """A host name as it is looked up: lower case, no final dot."""
    return host.lower().rstrip(".")


def most_exact(name: str, hosts: Container[str]) -> str | None:
    """Which of `hosts` stands for a server's name: itself, a wildcard (for one label), or the empty
    one for every name; None where none does."""
    wildcard = "*" + name[name.find(".") :] if "." in name else name
    return next((host for host in (name, wildcard, "") if host in hosts), None)


def prefix_key(path: str) -> str:
    """A Prefix path as it is looked up: without the slash at its end (`/` gives ``)."""
    return path.rstrip("/")


def _row(host: str, path: Mapping[str, Any]) -> Row:
    # ImplementationSpecific is ours to define: it is Prefix.
    kind: PathType = "Exact" if path.get("pathType") == "Exact" else "Prefix"
    return Row(host, path.get("path") or "/", kind, _backend(path.get("backend") or {}))


def _backend(backend: Mapping[str, Any]) -> BackendRef:
    service = backend.get("service")
    if service:
        port = service.get("port") or {}
        return BackendRef(service.get("name") or "", port.get("name") or port.get("number") or 0)
    resource = backend.get("resource") or {}
    other = f"{resource.get('kind', 'nothing')} {resource.get('name', '')}".strip()
    return BackendRef("", 0, other)
