"""What a peer must prove, as it travels in a request's headers."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from meshkube.tunnel.verifying import AUTHORITY, Verify, verified
from tests.support.webhooks import certificate


def travelled(verify: Verify) -> Verify | None:
    return Verify.of(CIMultiDictProxy(CIMultiDict(verify.headers())))


@pytest.mark.parametrize("size", [0, 10, 4000, 9001])
def test_name_and_bundle_arrive_whole(size: int) -> None:
    verify = Verify("a.b.svc", "x" * size)
    assert travelled(verify) == verify
    assert all(len(value) <= 4000 for name, value in verify.headers() if name == AUTHORITY)


def test_requests_without_a_name_verify_nothing() -> None:
    assert Verify.of(CIMultiDictProxy(CIMultiDict({AUTHORITY: "x"}))) is None


def test_a_bundle_is_all_that_is_trusted(tmp_path: Path) -> None:
    _, bundle = certificate(tmp_path, "localhost")
    context = verified(bundle)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) <= 1
    assert verified(bundle) is context


@pytest.mark.parametrize("bundle", ["%%%", base64.b64encode(b"\n").decode()])
def test_a_bundle_that_is_none_is_an_error(bundle: str) -> None:
    with pytest.raises(ValueError, match="no PEM certificates"):
        verified(bundle)
