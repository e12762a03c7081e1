"""The shape of every kind, from Kubernetes' own published schemas, reduced to what code needs.

A shape is a tree of `Node`s. What patch code (`api.patch`, `api.apply`) reads of one:

    root = schema_for(kinds.POD)
    spec = root.field("spec")                      # Node | None
    containers = spec.field("containers")
    containers.type             # "array"
    containers.items.type       # "object"; its fields: containers.items.fields
    containers.patch_strategy   # frozenset({"merge"}); also "replace", "retainKeys"; empty if none
    containers.merge_key        # "name": the key of a strategic merge; "" if none
    containers.list_type        # "map", "set", "atomic" or "": for server-side apply
    containers.map_keys         # ("name",): the keys of a list of type "map"
    containers.map_type         # "atomic" for an object that is applied as a whole, or ""

`type` is one of:

    object           fixed fields, in `fields`
    map              free keys (labels, data); each value is an `items` node
    array            elements are `items` nodes
    string integer number boolean
    int-or-string    80, "http" or "25%"
    quantity         "100m"; a bare number too
    time micro-time  RFC 3339 text
    bytes            base64 text
    any              any JSON object, kept as it is (RawExtension, FieldsV1)
    json             any JSON value, kept as it is; an object in it has the fields of `items`

Nodes are shared between kinds and must never be changed. The source is the `kubernetes-validate`
package's definitions for `VERSION`; each definition is read on first need and its text dropped.
"""

from meshkube.api.schemas.checking import (
    SchemaResult,
    check,
    check_node,
    decode_error,
    prune,
    prune_node,
    strict_error,
)
from meshkube.api.schemas.nodes import (
    VERSION,
    Node,
    definition_of,
    definitions_path,
    preload,
    schema_for,
    schema_of,
)
from meshkube.api.schemas.settling import settle

__all__ = [
    "VERSION",
    "Node",
    "SchemaResult",
    "check",
    "check_node",
    "decode_error",
    "definition_of",
    "definitions_path",
    "preload",
    "prune",
    "prune_node",
    "schema_for",
    "schema_of",
    "settle",
    "strict_error",
]
