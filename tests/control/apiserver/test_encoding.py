"""Storage keys, and bytes that get their resourceVersion without being encoded again."""

from __future__ import annotations

import orjson

from meshkube.api import kinds
from meshkube.control.apiserver.encoding import encode, object_key, prefix_of, restamp, stamp


def test_keys_name_group_resource_namespace_and_name() -> None:
    key = object_key(kinds.DEPLOYMENT, "shop", "web")
    assert key == "/registry/apps/deployments/shop/web"
    assert prefix_of(key) == "/registry/apps/deployments/"
    assert object_key(kinds.NODE, "", "n1") == "/registry/core/nodes/n1"
    assert prefix_of("/registry/core/nodes/n1") == "/registry/core/nodes/"


def test_a_stored_value_starts_with_its_type_and_has_no_resource_version() -> None:
    obj = {"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "7"}, "kind": "?"}
    value = encode(kinds.CONFIG_MAP, obj)
    assert value == (
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}'
    )


def test_the_revision_goes_into_the_metadata_and_nowhere_else() -> None:
    data = {"note": '"metadata":{"resourceVersion":"1"'}
    value = encode(kinds.CONFIG_MAP, {"metadata": {"name": "x"}, "data": data})
    served = orjson.loads(stamp(value, 12))
    assert served["metadata"] == {"resourceVersion": "12", "name": "x"}
    assert served["data"] == data
    again = orjson.loads(restamp(stamp(value, 12), 12, 13))
    assert again["metadata"]["resourceVersion"] == "13"
    assert again["data"] == data
