"""A CustomResourceDefinition as the server uses it: its kinds, and each version's schema, columns
and paths, compiled when the first object asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from meshkube.api.custom import columns, jsonpath
from meshkube.api.custom.defaulting import default
from meshkube.api.custom.pruning import prune
from meshkube.api.custom.structural import Structural
from meshkube.api.kinds import ALL_VERBS, Kind
from meshkube.api.printing.columns import Printer
from meshkube.api.types import Object

if TYPE_CHECKING:
    from meshkube.api.custom.rules import Rules

Source = Callable[[], Object]
"""Gives the definition's own object; parsed anew each time, so that nobody has to keep it."""


class Version:
    """One version of a custom resource."""

    def __init__(self, raw: Mapping[str, Any], source: Source) -> None:
        self.name: str = raw["name"]
        self.served: bool = raw["served"]
        self.storage: bool = raw["storage"]
        below = raw.get("subresources") or {}
        self.has_status = below.get("status") is not None
        self.scale: Mapping[str, str] | None = below.get("scale")
        """`specReplicasPath`, `statusReplicasPath` and perhaps `labelSelectorPath`."""
        self.warning = ""
        """What clients of a deprecated version are told; empty for the others."""
        if raw.get("deprecated"):
            self.warning = raw.get("deprecationWarning") or " "
        self.selectable = tuple(one["jsonPath"] for one in raw.get("selectableFields") or ())
        self._columns = raw.get("additionalPrinterColumns")
        self._source = source

    def openapi_schema(self) -> Object:
        """`openAPIV3Schema` as it was written: parsed anew each time."""
        for one in self._source()["spec"]["versions"]:
            if one["name"] == self.name:
                found: Object = (one.get("schema") or {}).get("openAPIV3Schema") or {}
                return found
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    @cached_property
    def schema(self) -> Structural:
        return Structural(self.openapi_schema(), root=True)

    @cached_property
    def rules(self) -> Rules | None:
        """Its `x-kubernetes-validations`; None for none."""
        if not self.schema.has_rules:
            return None
        # Most definitions have no rules: what reads them is loaded for the first that has.
        from meshkube.api.custom.rules import Rules

        return Rules(self.schema)

    @cached_property
    def printer(self) -> Printer:
        return columns.printer(self._columns)

    @property
    def subresources(self) -> tuple[str, ...]:
        return ("status",) * self.has_status + ("scale",) * (self.scale is not None)

    def selectable_fields(self) -> dict[str, Callable[[Object], str]]:
        """Readers of the fields that field selectors may name, beside those of metadata."""
        return {path.removeprefix("."): _reader(path) for path in self.selectable}


def _reader(path: str) -> Callable[[Object], str]:
    compiled = jsonpath.parse(path)

    def read(obj: Object) -> str:
        value = compiled.first(obj)
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    return read


class Definition:
    """What one CustomResourceDefinition says. `kinds` are those that clients may name; `stored`
    is the one whose form is kept, served or not."""

    def __init__(self, crd: Mapping[str, Any], source: Source) -> None:
        spec = crd["spec"]
        self.name: str = crd["metadata"]["name"]
        self.group: str = spec["group"]
        self.deleting = bool(crd["metadata"].get("deletionTimestamp"))
        conversion = spec.get("conversion") or {}
        converts = conversion.get("strategy") == "Webhook"
        self.webhook: Mapping[str, Any] | None = conversion.get("webhook") if converts else None
        """What converts objects between versions; None where they differ in `apiVersion` alone."""
        self._versions = {one["name"]: Version(one, source) for one in spec["versions"]}
        names = (crd.get("status") or {}).get("acceptedNames") or spec["names"]
        # What may be missing while it is not accepted is what was asked for.
        names = {**spec["names"], **{key: value for key, value in names.items() if value}}
        keeps = next(one for one in self._versions.values() if one.storage)
        namespaced = spec["scope"] == "Namespaced"
        self.stored = _kind(self, keeps, names, namespaced, None)
        self.kinds = tuple(
            self.stored if one is keeps else _kind(self, one, names, namespaced, self.stored)
            for one in sorted(self._versions.values(), key=lambda one: priority(one.name))
            if one.served
        )

    def version(self, api_version: str) -> Version:
        """Of an object's `apiVersion`; the stored one where there is no such version any more."""
        found = self._versions.get(api_version.rpartition("/")[2])
        return found if found is not None else self._versions[self.stored.version]

    def of(self, obj: Mapping[str, Any]) -> Version:
        """The version in which an object is written."""
        return self.version(str(obj.get("apiVersion") or ""))

    def read(self, obj: Object) -> None:
        """Makes a stored object what the schema now has it be, in place."""
        self.settle(obj)
        known = str(obj.get("apiVersion") or "").rpartition("/")[2] in self._versions
        if self.webhook is None or not known:
            obj["apiVersion"] = self.stored.api_version

    def settle(self, obj: Object) -> None:
        """Prunes an object and fills it in, by the version it is written in, in place."""
        schema = self.of(obj).schema
        prune(obj, schema)
        default(obj, schema)


def _kind(
    definition: Definition,
    version: Version,
    names: Mapping[str, Any],
    namespaced: bool,
    stored: Kind | None,
) -> Kind:
    list_kind = names.get("listKind") or ""
    return Kind(
        definition.group,
        version.name,
        names["kind"],
        names["plural"],
        names.get("singular") or names["kind"].lower(),
        tuple(names.get("shortNames") or ()),
        namespaced,
        version.subresources,
        tuple(names.get("categories") or ()),
        ALL_VERBS,
        stored,
        list_kind if list_kind != names["kind"] + "List" else "",
        definition,
    )


def priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as clients prefer them: v2, v1, v2beta1, v1beta2, v1alpha1, then others."""
    head, major, level, minor = _parts(version)
    if not head:
        return (3, 0, 0, version)
    return ({"": 0, "beta": 1, "alpha": 2}[level], -major, -minor, version)


def _parts(version: str) -> tuple[bool, int, str, int]:
    rest = version[1:] if version[:1] == "v" else ""
    for level in ("alpha", "beta"):
        major, found, minor = rest.partition(level)
        if found:
            fine = major.isdigit() and minor.isdigit()
            return (fine, int(major), level, int(minor)) if fine else (False, 0, "", 0)
    return (True, int(rest), "", 0) if rest.isdigit() else (False, 0, "", 0)
