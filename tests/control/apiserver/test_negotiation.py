"""Content negotiation."""

from __future__ import annotations

import pytest

from meshkube.api.errors import ApiError
from meshkube.control.apiserver.negotiation import Accepted, accept, body, patch_body, to_yaml

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/json, */*", Accepted()),
        (f"{TABLE},application/json", Accepted("table", "v1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Accepted()),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
        ("application/yaml", Accepted(yaml=True)),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Accepted("metadata", "v1"),
        ),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,*/*", Accepted()),
    ],
)
def test_the_first_acceptable_form_is_taken(header: str, accepted: Accepted) -> None:
    assert accept(header) == accepted


@pytest.mark.parametrize("header", ["application/vnd.kubernetes.protobuf", "text/html", "bad;as"])
def test_nothing_acceptable_is_406(header: str) -> None:
    with pytest.raises(ApiError) as error:
        accept(header)
    assert error.value.code == 406


def test_yaml_and_json_bodies_are_the_same() -> None:
    document = {"a": 1, "when": "2026-01-01", "b": [True, None]}
    assert body(to_yaml(document), "application/yaml") == document
    assert body(b'{"a":1}', "application/json; charset=utf-8") == {"a": 1}
    assert body(b"when: 2026-01-01T00:00:00Z", "application/yaml") == {
        "when": "2026-01-01T00:00:00Z"
    }


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"a: \xc3\x28", "application/yaml", 400),
        (b"<a/>", "application/xml", 415),
        (b"nonsense", "application/vnd.kubernetes.protobuf", 400),
    ],
)
def test_bodies_that_cannot_be_read(content: bytes, kind: str, code: int) -> None:
    with pytest.raises(ApiError) as error:
        body(content, kind)
    assert error.value.code == code


def test_patches_come_with_their_type() -> None:
    assert patch_body(b"[]", "application/json-patch+json") == ("json", [])
    assert patch_body(b"a: 1", "application/apply-patch+yaml") == ("apply", {"a": 1})
    with pytest.raises(ApiError) as error:
        patch_body(b"{}", "application/json")
    assert error.value.code == 415
