# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""What people's annotations do to real requests, and which of them are refused by name."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from meshkube.ingress.annotations import PLAIN, PREFIX, TABLE, policy, problems
from meshkube.ingress.findings import findings
from meshkube.ingress.rewriting import captures, is_expression, rewritten
from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    response,
    running_proxy,
    service,
    slice_,
)


def annotated(port: int, given: dict[str, str], rule: str = "/", **more: Any) -> RouteTable:
    """Everything of shop.io under `rule` to a Service whose pod is this port of 127.0.0.1."""
    return compile(
        [
            ingress(
                "web",
                {"shop.io": [path(rule, "web")]},
                annotations={PREFIX + name: value for name, value in given.items()},
                **more,
            )
        ],
        [ingress_class()],
        [service("web")],
        [slice_("web", [endpoint("127.0.0.1")], port)],
    )


def get(target: str = "/", host: str = "shop.io", *lines: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


# Reading

UNUSABLE = {
    "ssl-redirect": "yes",
    "force-ssl-redirect": "1",
    "temporal-redirect": "example.com",
    "permanent-redirect": "https://a/$arg_x",
    "temporal-redirect-code": "200",
    "permanent-redirect-code": "x",
    "app-root": "home",
    "rewrite-target": "/$3",
    "upstream-vhost": "a b",
    "proxy-body-size": "8 MB",
    "proxy-read-timeout": "0",
    "proxy-send-timeout": "5s",
    "whitelist-source-range": "10.0.0.0/40",
    "allowlist-source-range": "home",
    "denylist-source-range": "",
    "use-regex": "maybe",
    "proxy-http-version": "1.0",
    "proxy-buffering": "on",
    "proxy-request-buffering": "on",
    "preserve-trailing-slash": "false",
    "from-to-www-redirect": "www",
    "x-forwarded-prefix": "/a\r\nX-Evil: 1",
    "connection-proxy-header": "a\nb",
    "server-alias": "~^shop\\d+",
    "proxy-connect-timeout": "1.5",
    "proxy-next-upstream": "error http_418",
    "proxy-next-upstream-tries": "-1",
    "proxy-next-upstream-timeout": "5s",
    "proxy-redirect-from": "~^http://(.*)",
    "proxy-redirect-to": "$host",
    "proxy-cookie-domain": "~a b",
    "proxy-cookie-path": "/only",
    "enable-cors": "yes",
    "cors-allow-origin": "shop.io",
    "cors-allow-methods": "GET POST",
    "cors-allow-headers": "X Y",
    "cors-expose-headers": "",
    "cors-allow-credentials": "1",
    "cors-max-age": "1d",
    "canary": "yes",
    "canary-weight": "-1",
    "canary-weight-total": "0",
    "canary-by-header": "X:Y",
    "canary-by-header-value": "a\r\nb",
    "canary-by-header-pattern": "(a",
    "canary-by-cookie": "a=b",
    "affinity": "ip",
    "affinity-mode": "drifting",
    "session-cookie-name": "a;b",
    "session-cookie-path": "x;y",
    "session-cookie-domain": "a b",
    "session-cookie-max-age": "1h",
    "session-cookie-expires": "x",
    "session-cookie-samesite": "lax",
    "session-cookie-conditional-samesite-none": "x",
    "session-cookie-secure": "on",
    "session-cookie-change-on-failure": "x",
    "upstream-hash-by": "$no_such_thing",
    "load-balance": "random",
    "service-upstream": "x",
    "default-backend": "A_b",
    "custom-http-errors": "200",
    "limit-rps": "x",
    "limit-rpm": "-5",
    "limit-burst-multiplier": "0",
    "limit-connections": "1.5",
    "limit-whitelist": "home",
    "limit-allowlist": "10.0.0.0/40",
    "auth-type": "digest",
    "auth-secret": "other/users",
    "auth-secret-type": "auth-db",
    "auth-realm": "a\r\nb",
    "auth-url": "auth.shop.svc",
    "auth-method": "get it",
    "auth-signin": "/login",
    "auth-signin-redirect-param": "a b",
    "auth-response-headers": "X Y",
    "auth-request-redirect": "$no_such_thing",
    "auth-cache-key": "$no_such_thing",
    "auth-cache-duration": "soon",
    "auth-keepalive": "x",
    "auth-keepalive-requests": "x",
    "auth-keepalive-timeout": "x",
    "enable-access-log": "off",
}


def test_each_annotation_has_a_value_that_it_refuses() -> None:
    assert UNUSABLE.keys() == TABLE.keys()


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_value_that_cannot_be_used_is_named_and_changes_nothing(name: str) -> None:
    given = {PREFIX + name: UNUSABLE[name]}
    (problem,) = problems(given)
    assert problem.startswith(f"{PREFIX}{name}: {UNUSABLE[name]!r} is not")
    found = policy(given)
    # A guard that cannot be read lets nobody in.
    guard = name.endswith("-range") or (name.startswith("auth-") and "keepalive" not in name)
    assert found.closed == (problem if guard else "")
    assert replace(found, closed="", redirect_code=301) == PLAIN


def test_what_is_not_supported_is_named_in_an_event() -> None:
    table = annotated(1, {"mirror-target": "x", "proxy-body-size": "8m", "app-root": "x"})
    item = table.ingress("shop/web")
    assert item is not None
    found = {(f.reason, f.message) for f in findings(table, "shop/web", item, {})}
    assert ("AnnotationUnsupported", f"{PREFIX}mirror-target is not supported") in found
    assert ("AnnotationUnsupported", f"{PREFIX}app-root: 'x' is not a path") in found
    assert len([f for f in found if f[0] == "AnnotationUnsupported"]) == 2


def test_annotations_of_others_are_not_ours_to_judge() -> None:
    assert problems({"cert-manager.io/issuer": "x", "kubernetes.io/ingress.class": "y"}) == []


@pytest.mark.parametrize(
    ("text", "size"), [("8m", 8 * 2**20), ("0", 0), ("512K", 2**19), ("1g", 2**30), ("7", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert policy({f"{PREFIX}proxy-body-size": text}).max_body == size


# Redirects


@pytest.mark.parametrize(
    ("given", "tls", "target", "status", "location"),
    [
        ({"ssl-redirect": "true"}, True, "/a?b=c", 308, "https://shop.io:8443/a?b=c"),
        ({"ssl-redirect": "true"}, False, "/a", 200, ""),
        ({"ssl-redirect": "false"}, True, "/a", 200, ""),
        ({}, True, "/a", 200, ""),
        ({"force-ssl-redirect": "true"}, False, "/a", 308, "https://shop.io:8443/a"),
        ({"permanent-redirect": "https://new.io"}, False, "/a", 301, "https://new.io"),
        (
            {"permanent-redirect": "https://new.io$request_uri", "permanent-redirect-code": "308"},
            False,
            "/a?b",
            308,
            "https://new.io/a?b",
        ),
        (
            {"temporal-redirect": "$scheme", "app-root": "/home"},
            False,
            "/x/../?y",
            302,
            "/home",
        ),
        ({"temporal-redirect": "https://$host/x"}, False, "/a", 302, "https://shop.io/x"),
        ({"app-root": "/home"}, False, "/a", 200, ""),
    ],
)
async def test_redirects(
    given: dict[str, str], tls: bool, target: str, status: int, location: str
) -> None:
    entries = [{"hosts": ["shop.io"], "secretName": "s"}] if tls else []
    async with Origin() as origin:
        table = annotated(origin.port, given, tls=entries)
        async with running_proxy(table) as (proxy, port), client(port) as c:
            proxy.https_port = 8443
            for _ in range(2):
                got = await c.ask(get(target, "shop.io:8080"))
                assert (got.status, got.header("location")) == (status, location)
            route = table.match("shop.io", "/")
            assert route.stats.classes[status // 100] == 2
        assert len(origin.requests) == (2 if status == 200 else 0)


async def test_a_request_with_a_body_is_redirected_and_the_connection_closed() -> None:
    table = annotated(1, {"force-ssl-redirect": "true"})
    async with running_proxy(table, Settings(linger=0.1)) as (_, port), client(port) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: shop.io\r\nContent-Length: 5\r\n\r\nhe")
        got = await c.answer()
        assert (got.status, got.header("connection")) == (308, "close")
        assert await c.at_end()


async def test_https_at_a_trusted_proxy_is_https() -> None:
    settings = Settings(trusted_proxies=(ip_network("127.0.0.0/8"),), drain_timeout=1)
    async with Origin() as origin:
        table = annotated(origin.port, {"force-ssl-redirect": "true"})
        async with running_proxy(table, settings) as (_, port), client(port) as c:
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-Proto: https"))).status == 200
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-Proto: http"))).status == 308
        async with running_proxy(table) as (_, port), client(port) as c:
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-Proto: https"))).status == 308


# Who may

OTHERS = "10.0.0.0/8"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"whitelist-source-range": f"{OTHERS}, 127.0.0.1"}, 200),
        ({"whitelist-source-range": OTHERS}, 403),
        ({"allowlist-source-range": OTHERS}, 403),
        ({"whitelist-source-range": "2001:db8::/32"}, 403),
        ({"denylist-source-range": "127.0.0.0/8"}, 403),
        ({"denylist-source-range": OTHERS}, 200),
    ],
)
async def test_source_ranges(given: dict[str, str], status: int) -> None:
    async with Origin() as origin:
        table = annotated(origin.port, given)
        async with running_proxy(table) as (_, port), client(port) as c:
            # What a client says of itself changes nothing.
            got = await c.ask(get("/", "shop.io", "X-Forwarded-For: 10.1.1.1"))
            assert got.status == status


@pytest.mark.parametrize("guard", ["auth-snippet", "auth-proxy-set-headers", "auth-tls-match-cn"])
async def test_what_was_to_be_guarded_is_not_served_without_its_guard(guard: str) -> None:
    async with Origin() as origin:
        table = annotated(origin.port, {guard: "x"})
        async with running_proxy(table) as (_, port), client(port) as c:
            got = await c.ask(get())
            assert got.status == 503
            assert f"{PREFIX}{guard} is not supported" in got.body.decode()
        assert origin.requests == []


async def test_the_client_behind_a_trusted_proxy_is_the_one_that_counts() -> None:
    settings = Settings(trusted_proxies=(ip_network("127.0.0.0/8"),), drain_timeout=1)
    async with Origin() as origin:
        table = annotated(origin.port, {"whitelist-source-range": OTHERS})
        async with running_proxy(table, settings) as (_, port), client(port) as c:
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-For: 10.1.1.1"))).status == 200
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-For: 11.1.1.1"))).status == 403
            assert (await c.ask(get("/", "shop.io", "X-Forwarded-For: nobody"))).status == 403


# What the pod gets


@pytest.mark.parametrize(
    ("rule", "rewrite", "target", "seen"),
    [
        ("/app(/|$)(.*)", "/$2", "/app/a/b?c=d", "/a/b?c=d"),
        ("/app(/|$)(.*)", "/$2", "/app", "/"),
        ("/app(/|$)(.*)", "/$2", "/app/", "/"),
        ("/app(/|$)(.*)", "/v1$1$2", "/app/a", "/v1/a"),
        ("/app/(.*)", "/$1", "/app/a%2Fb%20c", "/a%2Fb%20c"),
        ("/app/?(.*)", "/x/$1", "/app/a", "/x/a"),
        ("/app(.*)", "$1", "/app/a", None),
        ("/app(.*)", "/x$1", "/app/a", "/x/a"),
        ("/(.*)", "/x/$1", "/a/b", "/x/a/b"),
        ("/app", "/", "/app/a?b", "/?b"),
        ("/app(/|$)(.*)", "/$2", "/app//a/../b", "/b"),
        ("/app(/|$)(.*)", "/$2", "/%61pp/a%20b%25", "/a%20b%25"),
        ("/app(/|$)(.*)", "/$2", "/app/x/%2e%2e/a", "/a"),
    ],
)
async def test_rewrites(rule: str, rewrite: str, target: str, seen: str | None) -> None:
    async with Origin() as origin:
        table = annotated(origin.port, {"rewrite-target": rewrite}, rule)
        async with running_proxy(table) as (_, port), client(port) as c:
            assert (await c.ask(get(target))).status == 200
            assert (await c.ask(get("/other"))).status == (200 if rule == "/(.*)" else 404)
    # A target that is no path is refused when it is read, and then nothing is rewritten.
    assert origin.requests[0].split(b" ")[1].decode() == (target if seen is None else seen)


@pytest.mark.parametrize("expression", ["/v[0-9]+/(.*)", "/(a|b)/x", "/a(/|$)(.*)/b", "/a$"])
def test_general_expressions_are_not_taken(expression: str) -> None:
    assert captures(expression) is None
    assert is_expression(expression)
    table = annotated(1, {"use-regex": "true"}, expression)
    item = table.ingress("shop/web")
    assert item is not None
    (found,) = findings(table, "shop/web", item, {})
    assert found.reason == "PathUnsupported"
    assert expression in found.message


def test_a_path_is_an_expression_only_where_an_annotation_says_so() -> None:
    table = annotated(1, {}, "/app(/|$)(.*)")
    (route,) = table.routes_of("shop/web")
    assert (route.path, route.captures, route.policy) == ("/app(/|$)(.*)", None, None)


def test_a_rewrite_keeps_the_query_alone() -> None:
    assert rewritten("/app/a?x=/app/b", "/$2", captures("/app(/|$)(.*)")) == "/a?x=/app/b"


async def test_the_pods_host_can_be_another() -> None:
    async with Origin() as origin:
        table = annotated(origin.port, {"upstream-vhost": "inner.svc:81"})
        async with running_proxy(table) as (_, port), client(port) as c:
            assert (await c.ask(get("/", "shop.io", "A: b"))).status == 200
    lines = origin.requests[0].decode().split("\r\n")
    assert [line for line in lines if line.lower().startswith("host:")] == ["Host: inner.svc:81"]
    assert "X-Forwarded-Host: shop.io" in lines
    assert "A: b" in lines


# Limits


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\n123456789",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n",
    ],
)
async def test_a_body_may_be_limited(body: bytes) -> None:
    async with Origin() as origin:
        table = annotated(origin.port, {"proxy-body-size": "8"})
        async with running_proxy(table, Settings(linger=0.1)) as (_, port):
            async with client(port) as c:
                c.send(b"POST / HTTP/1.1\r\nHost: shop.io\r\n" + body)
                assert (await c.answer()).status == 413
            async with client(port) as c:
                c.send(b"POST / HTTP/1.1\r\nHost: shop.io\r\nContent-Length: 8\r\n\r\n12345678")
                assert (await c.answer()).status == 200


async def test_a_limit_of_one_ingress_may_lift_that_of_all() -> None:
    settings = Settings(max_body=4, linger=0.1, drain_timeout=1)
    async with Origin() as origin:
        table = annotated(origin.port, {"proxy-body-size": "0"})
        async with running_proxy(table, settings) as (_, port), client(port) as c:
            c.send(b"POST / HTTP/1.1\r\nHost: shop.io\r\nContent-Length: 8\r\n\r\n12345678")
            assert (await c.answer()).status == 200


async def test_a_pod_may_be_given_less_or_more_time() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.5)
        writer.write(response(b"late"))
        await reader.read()

    async with Origin(slow) as origin:
        patient = annotated(origin.port, {"proxy-read-timeout": "10"})
        hasty = annotated(origin.port, {"proxy-read-timeout": "1"})
        short = Settings(response_timeout=0.2, drain_timeout=1)
        async with running_proxy(patient, short) as (_, port), client(port) as c:
            assert (await c.ask(get())).body == b"late"
        async with running_proxy(hasty, Settings(body_timeout=0.4, drain_timeout=1)) as (_, port):
            async with client(port) as c:
                got = await c.ask(get())
                assert got.status == 504
                assert b"within 1 s" in got.body
