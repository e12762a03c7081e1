# ruff: noqa: SIM117 -- servers, proxy and client read better one inside the other
"""Who may ask: passwords in a Secret, and servers that decide. Nobody comes in by mistake."""

import asyncio
import base64
from typing import Any
from urllib.parse import quote

import bcrypt
import pytest

from meshkube.ingress import guards
from meshkube.ingress.findings import guard_findings
from meshkube.ingress.passwords import apr1, verify
from tests.ingress.test_traffic import get, prefixed, table
from tests.support.http2 import client as http2_client
from tests.support.ingress import Origin, client, ingress, path, response, running_proxy, service

BCRYPT = bcrypt.hashpw(b"secret", b"$2b$04$abcdefghijklmnopqrstuu").decode().replace("$2b$", "$2y$")
SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
BASIC = {"auth-type": "basic", "auth-secret": "users"}


def users(text: str, **more: str) -> dict[str, Any]:
    data = {"auth": text, **more} if text else more
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "users", "namespace": "shop"}, "data": encoded}


def who(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_apaches_md5_is_the_one_of_openssl() -> None:
    # openssl passwd -apr1 -salt qHDFfhPC myPassword
    assert apr1(b"myPassword", "qHDFfhPC") == "$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0"


@pytest.mark.parametrize("stored", [BCRYPT, apr1(b"secret", "abcdefgh"), SHA])
def test_passwords_are_those_of_htpasswd(stored: str) -> None:
    assert verify(b"secret", stored)
    assert not verify(b"secreT", stored)
    assert not verify(b"", stored)


@pytest.mark.parametrize(
    "stored", ["", "secret", "{SHA}x", "$2y$", "$apr1$", "{SSHA}!", "{PLAIN}a"]
)
def test_a_hash_that_makes_no_sense_lets_nobody_in(stored: str) -> None:
    assert not verify(b"secret", stored)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        ([who("ann", "secret")], 200),
        ([who("bob", "secret")], 200),
        ([who("ann", "wrong")], 401),
        ([who("eve", "secret")], 401),
        (["Authorization: Basic !!!"], 401),
        (["Authorization: Bearer abc"], 401),
    ],
)
async def test_users_with_a_password_come_in(lines: list[str], status: int) -> None:
    secret = users(f"# people\nann:{BCRYPT}\nbob:{SHA}\n")
    async with Origin() as web:
        routes = table(BASIC | {"auth-realm": 'The "Shop"'}, [web.port])
        async with running_proxy(routes, None, secret) as (_, port), client(port) as c:
            for _ in range(2):
                got = await c.ask(get("/", "shop.io", *lines))
                assert got.status == status
            assert len(web.requests) == (2 if status == 200 else 0)
            if status == 401:
                assert got.header("www-authenticate") == 'Basic realm="The \\"Shop\\""'


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "does not exist"),
        (users("", other="x"), "has no key auth"),
        (users("ann:plain"), "has no user"),
        ({"metadata": {"name": "users"}, "data": {"auth": "%%%"}}, "not base64"),
    ],
)
async def test_without_users_nobody_comes_in_and_an_event_says_why(
    secret: Any, reason: str
) -> None:
    async with Origin() as web:
        routes = table(BASIC, [web.port])
        secrets = [secret] if secret else []
        async with running_proxy(routes, None, *secrets) as (_, port), client(port) as c:
            got = await c.ask(get("/", "shop.io", who("ann", "secret")))
            assert got.status == 503
            assert reason.encode() in got.body
        assert web.requests == []
    item = routes.ingress("shop/web")
    assert item is not None
    (found,) = guard_findings(item, lambda key: secret if key == "shop/users" else None)
    assert found.reason == "AuthSecretUnusable"
    assert reason in found.message


async def test_users_may_be_keys_of_a_secret() -> None:
    async with Origin() as web:
        routes = table(BASIC | {"auth-secret-type": "auth-map"}, [web.port])
        async with running_proxy(routes, None, users("", ann=BCRYPT)) as (_, port):
            async with client(port) as c:
                assert (await c.ask(get("/", "shop.io", who("ann", "secret")))).status == 200
                assert (await c.ask(get("/", "shop.io", who("ann", "x")))).status == 401


async def test_a_slow_check_holds_up_nobody_and_is_done_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    release, checked = threading.Event(), []

    def slow(password: bytes, stored: str) -> bool:
        checked.append(password)
        return release.wait(10)

    monkeypatch.setattr(guards, "verify", slow)
    open_rule = ingress("open", {"shop.io": [path("/open", "web")]})
    async with Origin() as web:
        routes = table(BASIC, [web.port], open_rule)
        async with running_proxy(routes, None, users(f"ann:{BCRYPT}")) as (_, port):
            async with client(port) as one, client(port) as two:
                request = get("/", "shop.io", who("ann", "secret"))
                # A body meanwhile waits at the client.
                body = b"x" * 100_000
                one.send(
                    request.replace(b"GET", b"PUT")[:-2]
                    + b"Content-Length: %d\r\n\r\n" % len(body)
                    + body
                )
                while not checked:
                    await asyncio.sleep(0.01)
                assert (await two.ask(get("/open"))).status == 200
                release.set()
                assert (await one.answer()).status == 200
                assert web.bodies[-1] == body
                assert (await one.ask(request)).status == 200
                assert len(checked) == 1


async def test_a_client_that_leaves_during_the_check_reaches_no_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    release, begun = threading.Event(), threading.Event()

    def slow(password: bytes, stored: str) -> bool:
        begun.set()
        return release.wait(10)

    monkeypatch.setattr(guards, "verify", slow)
    async with Origin() as web:
        routes = table(BASIC, [web.port])
        async with running_proxy(routes, None, users(f"ann:{BCRYPT}")) as (proxy, port):
            async with client(port) as c:
                c.send(get("/", "shop.io", who("ann", "secret")))
                while not begun.is_set():
                    await asyncio.sleep(0.01)
            while proxy.clients:
                await asyncio.sleep(0.01)
            release.set()
            await asyncio.sleep(0.05)
        assert web.requests == []


# Another server


def decided(answers: dict[str, bytes], seen: list[str]) -> Any:
    """A server that answers by the request's X-User."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            text = head.decode()
            seen.append(text)
            user = text.partition("X-User: ")[2].partition("\r\n")[0]
            writer.write(
                answers.get(user, response(b"", "401 No", 'WWW-Authenticate: Basic realm="x"'))
            )

    return serve


YES = response(b"", "200 OK", "X-Name: Ann", "X-Secret: s", "Set-Cookie: session=1")
ANSWERS = {
    "ann": YES,
    "bob": response(b"", "202 OK"),
    "eve": response(b"", "403 No"),
    "odd": response(b"", "302 Found", "Location: http://evil"),
    "ill": response(b"", "500 Ill"),
}


@pytest.mark.parametrize(
    ("user", "status"),
    [("ann", 200), ("bob", 200), ("eve", 403), ("odd", 500), ("ill", 500), ("nobody", 401)],
)
async def test_the_server_decides(user: str, status: int) -> None:
    seen: list[str] = []
    async with Origin() as web, Origin(decided(ANSWERS, seen)) as server:
        given = {
            "auth-url": f"http://127.0.0.1:{server.port}/check?of=$host",
            "auth-response-headers": "X-Name, X-Absent",
        }
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            lines = [f"X-User: {user}", "X-Name: forged", "x_absent: forged", "Content-Length: 3"]
            got = await c.ask(get("/a?b", "shop.io", *lines, method="POST") + b"abc")
            assert got.status == status
            assert len(web.requests) == (1 if status == 200 else 0)
            if status == 401:
                assert got.header("www-authenticate") == 'Basic realm="x"'
        head = seen[0]
        assert head.startswith("GET /check?of=shop.io HTTP/1.1\r\n")
        assert "X-Original-URL: http://shop.io/a?b\r\n" in head
        assert "X-Original-Method: POST\r\n" in head
        assert "X-Auth-Request-Redirect: /a?b\r\n" in head
        assert "X-Forwarded-For: 127.0.0.1\r\n" in head
        assert "Content-Length: 3" not in head
        if user == "ann":
            assert b"X-Name: Ann\r\n" in web.requests[0]
            assert b"forged" not in web.requests[0]
            assert b"X-Secret" not in web.requests[0]
            assert web.bodies == [b"abc"]
            assert got.header("set-cookie") == "session=1"


@pytest.mark.parametrize(
    ("more", "location"),
    [
        ({}, "https://login.io/?rd=" + quote("http://shop.io/a?b", safe="")),
        (
            {"auth-signin-redirect-param": "back"},
            "https://login.io/?back=" + quote("http://shop.io/a?b", safe=""),
        ),
        (
            {"auth-signin": "https://login.io/?rd=$escaped_request_uri"},
            "https://login.io/?rd=%2Fa%3Fb",
        ),
    ],
)
async def test_a_browser_without_a_session_is_sent_to_sign_in(
    more: dict[str, str], location: str
) -> None:
    async with Origin() as web, Origin(decided({}, [])) as server:
        given = {
            "auth-url": f"http://127.0.0.1:{server.port}/",
            "auth-signin": "https://login.io/",
            "auth-method": "POST",
            "auth-request-redirect": "https://$host/",
        } | more
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            got = await c.ask(get("/a?b"))
            assert (got.status, got.header("location")) == (302, location)


async def test_answers_are_remembered_by_key() -> None:
    seen: list[str] = []
    async with Origin() as web, Origin(decided(ANSWERS, seen)) as server:
        given = {
            "auth-url": f"http://127.0.0.1:{server.port}/",
            "auth-cache-key": "$http_x_user",
            "auth-cache-duration": "200 401 1m, 403 0s",
        }
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            for user, status, asked in (
                ("ann", 200, 1), ("ann", 200, 1), ("nobody", 401, 2), ("nobody", 401, 2),
                ("eve", 403, 3), ("eve", 403, 4), ("bob", 200, 5), ("bob", 200, 6),
            ):  # fmt: skip
                assert (await c.ask(get("/", "shop.io", f"X-User: {user}"))).status == status
                assert len(seen) == asked


async def test_a_server_that_is_away_lets_nobody_in() -> None:
    async with Origin() as web:
        given = {"auth-url": "http://127.0.0.1:1/"}
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            got = await c.ask(get())
            assert got.status == 500
            assert b"could not be asked" in got.body
        assert web.requests == []


async def test_a_service_of_the_cluster_is_found_by_its_name() -> None:
    async with Origin() as web, Origin(decided(ANSWERS, [])) as server:
        given = {"auth-url": f"http://auth.shop.svc.cluster.local:{server.port}/"}
        routes = table(given, [web.port])
        routes.set_service("shop/auth", service("auth", clusterIP="127.0.0.1"))
        async with running_proxy(routes) as (_, port), client(port) as c:
            assert (await c.ask(get("/", "shop.io", "X-User: ann"))).status == 200


async def test_both_guards_must_agree() -> None:
    async with Origin() as web, Origin(decided(ANSWERS, [])) as server:
        given = BASIC | {"auth-url": f"http://127.0.0.1:{server.port}/"}
        routes = table(given, [web.port])
        async with running_proxy(routes, None, users(f"ann:{SHA}")) as (_, port):
            async with client(port) as c:
                right = who("ann", "secret")
                assert (await c.ask(get("/", "shop.io", right, "X-User: ann"))).status == 200
                assert (await c.ask(get("/", "shop.io", right, "X-User: eve"))).status == 403
                assert (await c.ask(get("/", "shop.io", "X-User: ann"))).status == 401


async def test_guards_limits_and_preflights_hold_in_http2() -> None:
    given = BASIC | {"enable-cors": "true", "limit-rpm": "3", "limit-burst-multiplier": "1"}
    async with Origin() as web:
        routes = table(given, [web.port])
        async with running_proxy(routes, None, users(f"ann:{BCRYPT}")) as (_, port):
            async with http2_client(port) as c:
                origin = (b"origin", b"https://a.io")
                wants = (b"access-control-request-method", b"PUT")
                got = await c.ask("OPTIONS", "/", origin, wants, authority="shop.io")
                assert (got.status, got.body) == (204, b"")
                assert b"PUT" in got.headers[b"access-control-allow-methods"]
                got = await c.ask("GET", "/", origin, authority="shop.io")
                assert got.status == 401
                assert got.headers[b"www-authenticate"].startswith(b"Basic realm=")
                assert got.headers[b"access-control-allow-origin"] == b"*"
                known = (b"authorization", who("ann", "secret").partition(": ")[2].encode())
                body = b"x" * 10_000
                got = await c.ask("PUT", "/", known, body=body, authority="shop.io")
                assert (got.status, web.bodies[-1]) == (200, body)
                answers = [await c.ask("GET", "/", known, authority="shop.io") for _ in range(4)]
                assert [one.status for one in answers][-1] == 429


def test_guards_that_are_incomplete_close_the_ingress() -> None:
    for given in ({"auth-secret": "users"}, {"auth-type": "basic"}, {"auth-signin": "https://a"}):
        routes = table(given, [])
        found = routes.match("shop.io", "/")
        assert "is missing" in found.policy.closed
        assert prefixed(given)
