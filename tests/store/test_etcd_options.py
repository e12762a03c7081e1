"""The URL of an etcd cluster and its options: what is accepted, and what a bad one says."""

from pathlib import Path

import pytest

from meshkube.store.etcd_options import parse

PEM = Path("x.crt")


@pytest.mark.parametrize(
    ("url", "endpoints", "prefix", "tls"),
    [
        ("etcd://a:1", ("a:1",), "/meshkube", False),
        ("etcd://a", ("a:2379",), "/meshkube", False),
        ("etcd://a:1,b:2, 10.0.0.3:3", ("a:1", "b:2", "10.0.0.3:3"), "/meshkube", False),
        ("etcd://[fd00::1]:1,[fd00::2]", ("[fd00::1]:1", "[fd00::2]:2379"), "/meshkube", False),
        ("etcd://a:1/one/two/", ("a:1",), "/one/two", False),
        ("etcd://a:1/", ("a:1",), "/meshkube", False),
        ("etcds://a:1", ("a:1",), "/meshkube", True),
    ],
)
def test_urls(url: str, endpoints: tuple[str, ...], prefix: str, tls: bool) -> None:
    options = parse(url)
    assert (options.endpoints, options.prefix, options.tls) == (endpoints, prefix, tls)
    assert options.urls()[0] == f"http{'s' * tls}://{endpoints[0]}"


def test_a_ca_or_a_certificate_turns_tls_on() -> None:
    assert parse("etcd://a", ca=PEM).tls
    assert parse("etcd://a", cert=PEM, key=PEM).urls() == ("https://a:2379",)


def test_a_password_is_never_shown() -> None:
    options = parse("etcd://a:1/p", user="mesh", password="hush")
    assert "hush" not in repr(options)
    assert options.name == "etcd://a:1/p"


@pytest.mark.parametrize(
    ("url", "more", "says"),
    [
        ("http://a:1", {}, "is not etcd://HOST:PORT"),
        ("etcd:a:1", {}, "is not etcd://HOST:PORT"),
        ("etcd://", {}, "'' is not HOST:PORT"),
        ("etcd://a:1,", {}, "'' is not HOST:PORT"),
        ("etcd://a:1,b b", {}, "'b b' is not HOST:PORT"),
        ("etcd://fd00::1", {}, "is not HOST:PORT"),
        ("etcd://a:0", {}, "'0' is not a port"),
        ("etcd://a:http", {}, "'http' is not a port"),
        ("etcd://a:99999", {}, "'99999' is not a port"),
        ("etcd://a:1/a b", {}, "is not a prefix"),
        ("etcd://mesh:hush@a:1", {}, "do not belong in the URL"),
        ("etcd://a:1", {"key": PEM}, "has no certificate"),
        ("etcd://a:1", {"cert": PEM}, "has no key"),
        ("etcd://a:1", {"password": "hush"}, "no user"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(url: str, more: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse(url, **more)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)
