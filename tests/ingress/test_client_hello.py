"""The server name is read from what real clients send, and nothing else is ever believed."""

import random
import ssl

import pytest

from meshkube.ingress.client_hello import server_name


def hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The first flight of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.io", "Shop.Example", "x" * 60 + ".very.long.example.org"])
def test_the_name_a_client_asks_for(name: str, version: ssl.TLSVersion) -> None:
    assert server_name(hello(name, version)) == name.lower()


def test_a_client_may_name_nobody() -> None:
    assert server_name(hello(None)) == ""


def test_part_of_a_hello_says_nothing() -> None:
    whole = hello("a.io")
    assert {server_name(whole[:end]) for end in range(len(whole))} == {None}


def test_bytes_that_are_no_hello_say_nothing() -> None:
    assert server_name(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9) is None


def test_no_change_of_bytes_makes_it_fail() -> None:
    dice = random.Random(6)
    whole = bytearray(hello("a.io"))
    for _ in range(5000):
        changed = whole.copy()
        for _ in range(dice.randrange(1, 5)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        found = server_name(bytes(changed))
        assert found is None or len(found) < len(whole)
