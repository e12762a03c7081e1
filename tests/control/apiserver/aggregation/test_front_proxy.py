"""What extension API servers are told: whom to believe, and who asks."""

from __future__ import annotations

import json
from pathlib import Path

from meshkube import credentials, pki
from meshkube.control.apiserver.aggregation import front_proxy
from meshkube.control.apiserver.aggregation.front_proxy import Authorities
from meshkube.control.auth.users import User


def test_the_settings_keep_the_authorities_of_other_servers() -> None:
    one, two = (pki.new_authority(name).certificate.decode() for name in ("one", "two"))
    first = front_proxy.settings(Authorities("clients", one), None)
    both = front_proxy.settings(Authorities("clients", two), first)
    bundle = both["data"]["requestheader-client-ca-file"]
    assert bundle.count("BEGIN CERTIFICATE") == 2
    assert one in bundle
    assert two in bundle
    assert front_proxy.settings(Authorities("clients", one), both)["data"] == both["data"]
    assert json.loads(both["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]


def test_a_user_is_told_whole() -> None:
    user = User("ann", ("a", "b"), uid="7", extra={"Example.com/Sc ope": ["x", "y"]})
    assert list(front_proxy.headers(user)) == [
        ("X-Remote-User", "ann"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-example.com%2Fsc%20ope", "x"),
        ("X-Remote-Extra-example.com%2Fsc%20ope", "y"),
    ]


def test_nobody_claims_to_be_somebody() -> None:
    sent = ["Accept", "X-Remote-User", "X-REMOTE-EXTRA-A", "Impersonate-User", "Authorization"]
    dropped = front_proxy.told_by_client(sent)
    assert dropped == {"x-remote-user", "x-remote-extra-a", "impersonate-user", "authorization"}


def test_the_keys_are_made_once_and_again_when_they_do_not_fit(tmp_path: Path) -> None:
    authority = credentials.ensure_front_proxy(tmp_path)
    pair = pki.load(tmp_path / credentials.FRONT_PROXY)
    assert pki.names_of(pair.certificate)[0] == f"CN={front_proxy.COMMON_NAME}"
    assert credentials.ensure_front_proxy(tmp_path) == authority
    assert pki.load(tmp_path / credentials.FRONT_PROXY) == pair
    pki.save(pki.new_authority("another"), tmp_path / "other")
    (tmp_path / "other.key").rename(tmp_path / f"{credentials.FRONT_PROXY_CA}.key")
    again = credentials.ensure_front_proxy(tmp_path)
    assert again != authority
    made = pki.load(tmp_path / credentials.FRONT_PROXY)
    assert made != pair
    assert pki.names_of(made.certificate)[1] == "CN=meshkube-front-proxy-ca"
