import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshkube import pki
from meshkube.client import kubeconfig
from meshkube.client.http import HttpClient
from meshkube.config import ConfigError


@pytest.fixture(scope="module")
def authority() -> pki.Pair:
    return pki.new_authority("test")


@pytest.fixture(scope="module")
def user(authority: pki.Pair) -> pki.Pair:
    return pki.issue(authority, "admin", organizations=["system:masters"])


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def written(directory: Path, cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> Path:
    path = directory / "kubeconfig.yaml"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "other", "cluster": {"server": "https://other:6443"}},
            {"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **cluster}},
        ],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "second", "context": {"cluster": "other"}},
        ],
        "current-context": "main",
        **more,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def loaded_authorities(context: ssl.SSLContext | None) -> int:
    assert context is not None
    return context.cert_store_stats()["x509_ca"]


def test_certificates_inline(tmp_path: Path, authority: pki.Pair, user: pki.Pair) -> None:
    path = written(
        tmp_path,
        {"certificate-authority-data": encoded(authority.certificate)},
        {
            "client-certificate-data": encoded(user.certificate),
            "client-key-data": encoded(user.key),
        },
    )
    access = kubeconfig.load(path)
    assert (access.server, access.token) == ("https://10.0.0.1:6443", "")
    assert access.namespace == "shop"
    assert loaded_authorities(access.ssl_context) == 1
    assert access.ssl_context is not None
    assert access.ssl_context.verify_mode == ssl.CERT_REQUIRED


def test_certificates_in_files_beside_it(
    tmp_path: Path, authority: pki.Pair, user: pki.Pair
) -> None:
    pki.save(authority, tmp_path / "ca")
    pki.save(user, tmp_path / "keys" / "user")
    path = written(
        tmp_path,
        {"certificate-authority": "ca.crt", "tls-server-name": "api"},
        {
            "client-certificate": "keys/user.crt",
            "client-key": str(tmp_path / "keys" / "user.key"),
        },
    )
    access = kubeconfig.load(path)
    assert loaded_authorities(access.ssl_context) == 1
    assert access.server_hostname == "api"


def test_tokens(tmp_path: Path) -> None:
    assert kubeconfig.load(written(tmp_path, {}, {"token": "abc"})).token == "abc"
    (tmp_path / "token").write_text("from file\n")
    assert kubeconfig.load(written(tmp_path, {}, {"tokenFile": "token"})).token == "from file"


def test_verification_can_be_switched_off(tmp_path: Path) -> None:
    access = kubeconfig.load(written(tmp_path, {"insecure-skip-tls-verify": True}, {}))
    assert access.ssl_context is not None
    assert access.ssl_context.verify_mode == ssl.CERT_NONE


def test_another_context(tmp_path: Path) -> None:
    assert kubeconfig.load(written(tmp_path, {}, {}), "second").server == "https://other:6443"


def test_plain_http_needs_no_tls(tmp_path: Path) -> None:
    access = kubeconfig.load(written(tmp_path, {"server": "http://127.0.0.1:8001"}, {}))
    assert access.ssl_context is None


def test_a_client_of_it(tmp_path: Path) -> None:
    client = HttpClient.from_kubeconfig(written(tmp_path, {}, {"token": "abc"}))
    assert client.server == "https://10.0.0.1:6443"


@pytest.mark.parametrize(
    ("cluster", "user", "more", "words"),
    [
        ({}, {}, {"current-context": ""}, "no current-context"),
        ({}, {}, {"current-context": "absent"}, "no context 'absent'"),
        ({}, {}, {"clusters": []}, "no cluster 'c'"),
        ({}, {}, {"clusters": "nonsense"}, "no cluster 'c'"),
        ({}, {}, {"users": None}, "no user 'u'"),
        ({"server": "10.0.0.1:6443"}, {}, {}, "not a URL"),
        ({"certificate-authority-data": "%%%"}, {}, {}, "certificate-authority-data"),
        ({"certificate-authority-data": encoded(b"not PEM")}, {}, {}, "certificate-authority"),
        ({"certificate-authority-data": encoded(b"\xff\xfe")}, {}, {}, "certificate-authority"),
        ({"certificate-authority": "absent.crt"}, {}, {}, "absent.crt"),
        ({}, {"client-certificate-data": encoded(b"x")}, {}, "client-key"),
        (
            {},
            {"client-certificate-data": encoded(b"x"), "client-key-data": encoded(b"y")},
            {},
            "client-certificate",
        ),
        ({}, {"tokenFile": "absent"}, {}, "absent"),
        ({}, {"exec": {"command": "aws"}}, {}, "exec"),
        ({"proxy-url": "http://proxy"}, {}, {}, "proxy-url"),
    ],
)
def test_faults_are_named_in_one_line(
    tmp_path: Path,
    cluster: dict[str, Any],
    user: dict[str, Any],
    more: dict[str, Any],
    words: str,
) -> None:
    path = written(tmp_path, cluster, user, **more)
    with pytest.raises(ConfigError) as refused:
        kubeconfig.load(path)
    message = str(refused.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"a: [", b"\xff\xfe\x00"])
def test_what_is_no_kubeconfig(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kubeconfig.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"kubeconfig\.yaml"):
        kubeconfig.load(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        HttpClient.from_kubeconfig(tmp_path / "absent.yaml")
