"""Field selectors: `spec.nodeName=n1,status.phase!=Running`, and which fields each kind offers.

Source: the Kubernetes documents, "Field Selectors"; the words of the errors are apimachinery's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from meshkube.api import kinds
from meshkube.api.errors import bad_request
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

Reader = Callable[[Object], str]


class Term(NamedTuple):
    """`field=value`, or with `negated` `field!=value`."""

    field: str
    value: str
    negated: bool


class FieldSelector:
    """Terms that must all hold. Without any it matches everything."""

    __slots__ = ("terms",)

    def __init__(self, terms: tuple[Term, ...] = ()) -> None:
        self.terms = terms

    @property
    def empty(self) -> bool:
        return not self.terms

    def exact(self, field: str) -> str | None:
        """The value that every match has in `field`, where the selector says so."""
        for term in self.terms:
            if term.field == field and not term.negated:
                return term.value
        return None

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether every term holds for these fields; an absent field is empty."""
        for field, value, negated in self.terms:  # for each watcher, at every change: no generator
            if (values.get(field, "") == value) == negated:
                return False
        return True

    def matches_object(self, kind: Kind, obj: Object) -> bool:
        """The same, reading only the fields that the terms name."""
        readers = _readers(kind)
        return all(
            (readers.get(field, _nothing)(obj) == value) != no for field, value, no in self.terms
        )

    def __str__(self) -> str:
        return ",".join(
            f"{term.field}{'!=' if term.negated else '='}{_escape(term.value)}"
            for term in self.terms
        )

    def __repr__(self) -> str:
        return f"FieldSelector({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSelector) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)


_TERM = re.compile(
    r"(?P<field>[^=!]*(?:!(?!=)[^=!]*)*)(?P<operator>!=|==|=)(?P<value>.*)", re.DOTALL
)
_PIECE = re.compile(r"(?:\\.|[^,\\]|\\$)+", re.DOTALL)


def parse_fields(text: str) -> FieldSelector:
    """A selector from its text: `a=b`, `a==b`, `a!=b` joined by commas; in a value a backslash
    escapes `,`, `=` and itself. Raises `ApiError` 400 in Kubernetes' words."""
    terms = []
    for piece in sorted(_PIECE.findall(text)):
        match = _TERM.fullmatch(piece)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{piece}'")
        terms.append(Term(match["field"], _unescape(match["value"]), match["operator"] == "!="))
    return FieldSelector(tuple(sorted(terms)))


def _unescape(value: str) -> str:
    out, characters = [], iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{escaped}")
            character = escaped
        elif character in ",=":
            raise bad_request(
                f"invalid field selector: unescaped character in value: {ord(character)}"
            )
        out.append(character)
    return "".join(out)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def check_fields(kind: Kind, selector: FieldSelector) -> None:
    """Raises `ApiError` 400 for a field that the kind does not offer."""
    readers = _readers(kind)
    for term in selector.terms:
        if term.field in readers:
            continue
        if kind in _FIELDS or len(readers) > len(_METADATA):
            raise bad_request(f"field label not supported: {term.field}")
        raise bad_request(
            f'"{term.field}" is not a known field selector: only "metadata.name",'
            ' "metadata.namespace"'
        )


def field_values(kind: Kind, obj: Object) -> dict[str, str]:
    """Every field that a selector may name, as text."""
    return {field: read(obj) for field, read in _readers(kind).items()}


def supported_fields(kind: Kind) -> tuple[str, ...]:
    return tuple(_readers(kind))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _path(dotted: str, default: Any = "") -> Reader:
    steps = dotted.split(".")

    def read(obj: Object) -> str:
        value: Any = obj
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return _text(default if value is None else value)

    return read


def _paths(*dotted: str) -> dict[str, Reader]:
    return {one: _path(one) for one in dotted}


def _nothing(_: Object) -> str:
    return ""


_METADATA = _paths("metadata.name", "metadata.namespace")


def _pod_ips(pod: Object) -> str:
    held = (pod.get("status") or {}).get("podIPs") or ()
    return ",".join(entry.get("ip", "") for entry in held)


def _source(event: Object) -> str:
    component = (event.get("source") or {}).get("component")
    return component or _text(event.get("reportingComponent"))


_OBJECT_PARTS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

_FIELDS: dict[Kind, dict[str, Reader]] = {
    kinds.POD: {
        **_paths(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
        "spec.hostNetwork": _path("spec.hostNetwork", False),
        "status.podIPs": _pod_ips,
    },
    kinds.EVENT: {
        **_paths(*(f"involvedObject.{part}" for part in _OBJECT_PARTS)),
        **_paths("reason", "reportingComponent", "type"),
        "source": _source,
    },
    kinds.EVENTS_EVENT: {
        **_paths(*(f"regarding.{part}" for part in _OBJECT_PARTS)),
        **_paths("reason", "reportingController", "type"),
    },
    kinds.NODE: {"spec.unschedulable": _path("spec.unschedulable", False)},
    kinds.SECRET: _paths("type"),
    kinds.NAMESPACE: _paths("status.phase"),
    kinds.SERVICE: _paths("spec.clusterIP", "spec.type"),
    kinds.REPLICA_SET: {"status.replicas": _path("status.replicas", 0)},
    kinds.REPLICATION_CONTROLLER: {"status.replicas": _path("status.replicas", 0)},
    kinds.CERTIFICATE_SIGNING_REQUEST: _paths("spec.signerName"),
    kinds.JOB: {"status.successful": _path("status.succeeded", 0)},
}
_FIELDS = {kind: {**_METADATA, **fields} for kind, fields in _FIELDS.items()}


def _readers(kind: Kind) -> dict[str, Reader]:
    if kind.definition is not None:
        return {**_METADATA, **kind.definition.version(kind.version).selectable_fields()}
    return _FIELDS.get(kind, _METADATA)
