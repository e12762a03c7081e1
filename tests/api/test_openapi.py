"""The published documents: whole, consistent, and what kubectl looks for in them."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from meshkube.api import openapi
from meshkube.api.kinds import KINDS, Kind
from meshkube.api.openapi.paths import document_of


def v3(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(openapi.v3_document(name))
    return document


V2: dict[str, Any] = json.loads(openapi.v2_document())


def gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def by_name(kind: Kind) -> str:
    return f"{kind.api_version} {kind.kind}"


@pytest.mark.parametrize("name", openapi.group_versions())
def test_every_reference_of_a_v3_document_leads_somewhere(name: str) -> None:
    document = v3(name)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()


def test_every_reference_of_the_v2_document_leads_somewhere() -> None:
    named = set(re.findall(r'"#/definitions/([^"]+)"', json.dumps(V2)))
    assert named <= V2["definitions"].keys()


def test_the_index_names_every_group_and_version_with_a_hash() -> None:
    paths = json.loads(openapi.v3_index())["paths"]
    assert list(paths) == openapi.group_versions()
    for name, entry in paths.items():
        assert entry["serverRelativeURL"] == f"/openapi/v3/{name}?hash={openapi.etag(name)}"


@pytest.mark.parametrize("kind", KINDS, ids=by_name)
def test_kubectl_finds_that_the_server_validates_fields(kind: Kind) -> None:
    """It takes the first PATCH of the kind, in either version, and looks for the parameter."""
    for paths in (v3(document_of(kind))["paths"], V2["paths"]):
        patches = [item["patch"] for item in paths.values() if "patch" in item]
        own = [each for each in patches if each["x-kubernetes-group-version-kind"] == gvk(kind)]
        assert own
        for patch in own:
            query = {each["name"] for each in patch["parameters"] if each["in"] == "query"}
            assert "fieldValidation" in query


@pytest.mark.parametrize("kind", KINDS, ids=by_name)
def test_kubectl_explain_finds_the_kind_by_its_resource(kind: Kind) -> None:
    document = v3(document_of(kind))
    path = kind.path("{namespace}" if kind.namespaced else None)
    assert document["paths"][path]["get"]["x-kubernetes-group-version-kind"] == gvk(kind)
    kinds_of = [
        schema.get("x-kubernetes-group-version-kind") or []
        for schema in document["components"]["schemas"].values()
    ]
    assert sum(gvk(kind) in each for each in kinds_of) == 1


def test_kubectl_apply_finds_merge_keys_behind_references() -> None:
    schemas = v3("apis/apps/v1")["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    strategy = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"]
    assert strategy["x-kubernetes-patch-strategy"] == "retainKeys"
    assert strategy["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}
    ]


def test_types_are_those_of_the_dialect() -> None:
    """The source allows null everywhere and pins apiVersion; neither is part of the API."""
    for text in (json.dumps(V2), *(json.dumps(v3(name)) for name in openapi.group_versions())):
        assert '"null"' not in text
        assert "$defs" not in text
    pod = V2["definitions"]["io.k8s.api.core.v1.Pod"]
    assert "enum" not in pod["properties"]["kind"]
    port = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    assert V2["definitions"][port]["format"] == "int-or-string"


def test_documents_are_kept_compressed_and_tagged() -> None:
    assert gzip.decompress(openapi.gzipped("v2")) == openapi.v2_document()
    assert openapi.gzipped("api/v1") is openapi.gzipped("api/v1")
    assert openapi.etag("v2") != openapi.etag("v2.pb")


def test_a_group_that_is_not_served_has_no_document() -> None:
    with pytest.raises(KeyError):
        openapi.v3_document("apis/example.com/v1")


# A reader of protobuf, as far as the document needs one: field number -> values.
def message(data: bytes) -> dict[int, list[Any]]:
    fields: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            fields.setdefault(tag >> 3, []).append(varint())
        else:
            assert tag & 7 == 2
            length = varint()
            fields.setdefault(tag >> 3, []).append(data[at : at + length])
            at += length
    return fields


def named(entries: list[bytes]) -> dict[str, dict[int, list[Any]]]:
    read = [message(entry) for entry in entries]
    return {entry[1][0].decode(): message(entry[2][0]) for entry in read}


def test_the_protobuf_document_says_the_same_as_the_json_one() -> None:
    document = message(openapi.v2_protobuf())
    assert document[1] == [b"2.0"]
    definitions = named(message(document[9][0])[1])
    assert list(definitions) == list(V2["definitions"])
    for name, schema in definitions.items():
        wanted = V2["definitions"][name]
        assert schema[4][0].decode() == wanted["description"]
        properties = named(message(schema[25][0])[1]) if 25 in schema else {}
        assert list(properties) == list(wanted.get("properties", {}))
        assert [each.decode() for each in schema.get(19, [])] == wanted.get("required", [])


def test_the_protobuf_document_has_the_patches_kubectl_looks_for() -> None:
    paths = named(message(message(openapi.v2_protobuf())[8][0])[2])
    patch = message(paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"][8][0])
    extensions = named(patch[13])
    shown = json.loads(extensions["x-kubernetes-group-version-kind"][2][0])
    assert shown == {"group": "apps", "version": "v1", "kind": "Deployment"}
    queries = []
    for item in patch[8]:
        parameter = message(message(item)[1][0])
        if 2 in parameter:
            queries.append(message(message(parameter[2][0])[3][0])[4][0].decode())
    assert "fieldValidation" in queries
