"""Names of images, and the credentials that are meant for them."""

from __future__ import annotations

import base64
import json

import pytest

from meshkube.node import image_names, registry_auth
from meshkube.node.pulling import go_duration
from meshkube.node.registry_auth import Credential, Entry

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("me/app@" + DIGEST, "docker.io/me/app@" + DIGEST),
        ("r.example/app:1@" + DIGEST, "r.example/app@" + DIGEST),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("r.example:5000/a/b-c/d__e:V1.0_x", "r.example:5000/a/b-c/d__e:V1.0_x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
    ],
)
def test_a_short_name_stands_for_a_full_one(reference: str, full: str) -> None:
    assert image_names.parse(reference).full == full


@pytest.mark.parametrize(
    "reference",
    ["", "UPPER", "a b", "nginx:", "nginx:a b", "r.example/", "a//b", "a@sha256:12", "-a", "a/-b",
     "0" * 64, "http://r.example/a", "a:tag:tag", ":1", "@" + DIGEST, "r.example/A/b", "a" * 300],
)  # fmt: skip
def test_what_is_no_name_is_told(reference: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        image_names.parse(reference)


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("*.kubernetes.io", "prefix.kubernetes.io/app", True),
        ("*.kubernetes.io", "kubernetes.io/app", False),
        ("*.kubernetes.io", "a.b.kubernetes.io/app", False),
        ("*.*.kubernetes.io", "a.b.kubernetes.io/app", True),
        ("prefix.*.io", "prefix.kubernetes.io/app", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io/app", True),
        ("*-good.kubernetes.io", "prefix-bad.kubernetes.io/app", False),
        ("my-registry.example/images", "my-registry.example/images/app", True),
        ("my-registry.example/images", "my-registry.example/other/app", False),
        ("my-registry.example:5000", "my-registry.example:5000/app", True),
        ("my-registry.example:5000", "my-registry.example/app", False),
        ("my-registry.example", "my-registry.example:5000/app", False),
        ("https://my-registry.example/v2/", "my-registry.example/app", True),
        ("https://index.docker.io/v1/", "nginx", True),
        ("index.docker.io", "me/app", True),
        ("docker.io", "docker.io/me/app", True),
        ("docker.io/me", "me/app", True),
        ("docker.io/me", "you/app", False),
        ("quay.example", "nginx", False),
    ],
)
def test_a_key_is_meant_for_some_images(pattern: str, image: str, fits: bool) -> None:
    entry = Entry(registry_auth.pattern(pattern), Credential("u", "p"))
    assert bool(registry_auth.matching([entry], image_names.parse(image))) is fits


def test_the_longest_path_is_tried_first_and_each_once() -> None:
    entries = [
        Entry("r.example", Credential("all", "1")),
        Entry("r.example/team/app", Credential("app", "2")),
        Entry("*.example", Credential("all", "1")),
        Entry("r.example/team", Credential("team", "3")),
    ]
    found = registry_auth.matching(entries, image_names.parse("r.example/team/app:1"))
    assert [credential.username for credential in found] == ["app", "team", "all"]


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_both_forms_of_secrets_are_read() -> None:
    auths = {"r.example": {"auth": auth("me:pass:word"), "username": "ignored"}}
    new = registry_auth.of_secret({
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": auth(json.dumps({"auths": auths, "credsStore": "x"}))},
    })  # fmt: skip
    old = registry_auth.of_secret({
        "type": "kubernetes.io/dockercfg",
        "data": {".dockercfg": auth(json.dumps(auths))},
    })  # fmt: skip
    assert new == old == [Entry("r.example", Credential("me", "pass:word"))]
    data = {".dockerconfigjson": auth(json.dumps({"auths": auths}))}
    assert registry_auth.of_secret({"type": "Opaque", "data": data}) == []


def test_fields_and_tokens_do_as_well() -> None:
    config = {"auths": {"a": {"username": "u", "password": "p"}, "b": {"identitytoken": "t"}}}
    found = registry_auth.of_config(json.dumps(config).encode())
    assert [entry.credential for entry in found] == [
        Credential("u", "p"),
        Credential(identity_token="t"),
    ]
    assert registry_auth.of_config(b'{"credsStore": "desktop"}') == []


@pytest.mark.parametrize(
    "content", [b"hunter2", b"[]", b'{"auths": []}', b'{"a": {"auth": "abc"}}']
)
def test_what_cannot_be_read_is_told_and_not_shown(content: bytes) -> None:
    with pytest.raises(ValueError, match="not ") as raised:
        registry_auth.of_config(content)
    assert "hunter2" not in str(raised.value)


def test_a_credential_is_never_printed() -> None:
    assert "hunter2" not in repr(Entry("r.example", Credential("me", "hunter2", "hunter2")))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.3402, "340ms"), (1.2, "1.2s"), (61.5, "1m1.5s"), (120, "2m0s"),
     (3723.004, "1h2m3.004s")],
)  # fmt: skip
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
