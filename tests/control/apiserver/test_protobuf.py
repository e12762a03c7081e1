"""Kubernetes' protobuf, as kubectl 1.32 sends it."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.schemas import Node, schema_for
from meshkube.control.apiserver import protobuf
from meshkube.control.apiserver.protobuf import DecodeError, decode

# `kubectl create configmap a --from-literal=x=1`, as it is on the wire.
CONFIG_MAP = bytes.fromhex(
    "6b3873000a0f0a0276311209436f6e6669674d6170121b0a110a016112001a00"
    "22002a0032003800420012060a01781201311a002200"
)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    assert len(content) < 128
    return _number(number << 3 | 2) + bytes([len(content)]) + content


def varint(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _number(value & (1 << 64) - 1)


def _number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    about = field(1, api_version.encode()) + field(2, kind.encode())
    return protobuf.MAGIC + field(1, about) + field(2, raw)


def test_what_kubectl_sends_is_read() -> None:
    assert decode(CONFIG_MAP) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"x": "1"},
    }


def test_zeroes_are_said_where_json_says_them() -> None:
    spec = varint(1, 0) + varint(5, 0) + varint(7, 0)
    deployment = decode(envelope("apps/v1", "Deployment", field(2, spec)))
    # replicas is optional and was given; minReadySeconds is not and was not.
    assert deployment["spec"] == {"replicas": 0}


def test_special_types_become_what_they_are_in_json() -> None:
    quantity = field(1, field(1, b"cpu") + field(2, field(1, b"100m")))
    probe = field(1, field(2, field(1, b"/") + field(2, varint(1, 1) + field(3, b"http"))))
    container = field(1, b"c") + field(8, field(2, quantity[2:])) + field(10, probe)
    pod = decode(envelope("v1", "Pod", field(2, field(2, container))))
    read = pod["spec"]["containers"][0]
    assert read["resources"]["requests"] == {"cpu": "100m"}
    assert read["livenessProbe"]["httpGet"] == {"path": "/", "port": "http"}


def test_times_and_negative_numbers() -> None:
    metadata = field(1, b"p") + varint(10, -1) + field(9, varint(1, 1767225600))
    pod = decode(envelope("v1", "Pod", field(1, metadata)))
    assert pod["metadata"] == {
        "name": "p",
        "deletionGracePeriodSeconds": -1,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }


def test_delete_options_come_in_any_group() -> None:
    for version in ("v1", "apps/v1", "meta.k8s.io/v1"):
        options = decode(envelope(version, "DeleteOptions", varint(1, 0)))
        assert options["gracePeriodSeconds"] == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"k8s",
        b"{}",
        envelope("v1", "Nothing", b""),
        CONFIG_MAP[:30],
        envelope("v1", "Pod", b"\x0a\xff"),
    ],
)
def test_what_cannot_be_read_is_an_error(content: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(content)


def double(number: int, value: float) -> bytes:
    return bytes([number << 3 | 1]) + struct.pack("<d", value)


def test_the_schema_of_a_definition_says_what_it_says_in_json() -> None:
    closed = field(29, field(1, b"a") + field(2, field(30, varint(1, 0))))
    typed = field(29, field(1, b"b") + field(2, field(30, field(2, field(5, b"string")))))
    listed = field(29, field(1, b"c") + field(2, field(24, field(1, field(5, b"integer")))))
    bounds = double(9, 2.0) + double(11, 0.5)
    rest = field(8, field(1, b'{"n":1}')) + field(20, field(1, b'"x"')) + field(44, field(1, b"r"))
    version = field(1, b"v1") + field(4, field(1, bounds + rest))
    content = field(2, field(1, b"g") + field(7, version))
    spec = decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", content))["spec"]
    schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == {
        "maximum": 2,
        "minimum": 0.5,
        "default": {"n": 1},
        "enum": ["x"],
        "x-kubernetes-validations": [{"rule": "r"}],
    }
    content = field(2, field(7, field(4, field(1, closed + typed + listed))))
    spec = decode(envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", content))["spec"]
    assert spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"] == {
        "a": {"additionalProperties": False},
        "b": {"additionalProperties": {"type": "string"}},
        "c": {"items": {"type": "integer"}},
    }


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    for kind in ("Pod", "Service"):
        try:
            decode(envelope("v1", kind, b"")[:-2] + b"\x12" + _number(len(content)) + content)
        except DecodeError:
            pass


def test_every_field_number_names_a_field_of_the_schema() -> None:
    faults: list[str] = []
    for kind in kinds.KINDS:
        name = protobuf._name_of(kind.api_version, kind.kind)
        _compare(name, schema_for(kind), kind.kind, faults, set())
    assert faults == []


def _compare(name: str, node: Node, path: str, faults: list[str], seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    if name in protobuf._UNIONS:
        return  # JSON has the one or the other of its fields in its place
    for entry in protobuf._messages()[name]:
        inner = re.sub(r"^(\[\]|\{\})", "", entry.type)
        below: Node | None = node
        if entry.name:
            below = node.field(entry.name)
            if below is None:
                faults.append(f"{path}.{entry.name}")
                continue
            if entry.type != inner:
                below = below.items
        if below is not None and inner in protobuf._messages():
            _compare(inner, below, f"{path}.{entry.name}", faults, seen)
