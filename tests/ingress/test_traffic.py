# ruff: noqa: SIM117 -- servers, proxy and client read better one inside the other
"""Which pod a request goes to, how often one may ask, and what is changed on the way: the
annotations for traffic, each with real requests."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from meshkube.ingress.annotations import PREFIX
from meshkube.ingress.findings import findings
from meshkube.ingress.limiting import Rate
from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    read_body,
    response,
    running_proxy,
    service,
    slice_,
)


def prefixed(given: dict[str, str]) -> dict[str, str]:
    return {PREFIX + name: value for name, value in given.items()}


def pods_of(name: str, ports: Sequence[int]) -> list[dict[str, Any]]:
    return [slice_(name, [endpoint("127.0.0.1")], port, name=f"{name}-{port}") for port in ports]


def table(
    given: dict[str, str],
    web: Sequence[int],
    *more: dict[str, Any],
    other: Sequence[int] = (),
    rule: str = "/",
    type: str = "Prefix",
    host: str = "shop.io",
) -> RouteTable:
    """shop.io to the Service `web` at these ports; `other` are the ports of a second Service."""
    mine = ingress("web", {host: [path(rule, "web", type)]}, annotations=prefixed(given))
    return compile(
        [mine, *more],
        [ingress_class()],
        [service("web"), service("other")],
        [*pods_of("web", web), *pods_of("other", other)],
    )


def canary(given: dict[str, str]) -> dict[str, Any]:
    return ingress(
        "canary",
        {"shop.io": [path("/", "other")]},
        annotations=prefixed({"canary": "true"} | given),
    )


def get(target: str = "/", host: str = "shop.io", *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


# CORS

PREFLIGHT = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: X-A")


@pytest.mark.parametrize(
    ("given", "origin", "allowed"),
    [
        ({}, "https://a.io", "*"),
        ({"cors-allow-origin": "https://a.io, https://b.io"}, "https://b.io", "https://b.io"),
        ({"cors-allow-origin": "https://a.io"}, "https://evil.io", ""),
        ({"cors-allow-origin": "https://*.a.io"}, "https://x.a.io", "https://x.a.io"),
        ({"cors-allow-origin": "https://*.a.io"}, "https://x.y.a.io", ""),
        ({"cors-allow-origin": "https://*.a.io"}, "https://a.io", ""),
        ({"cors-allow-origin": "https://*.a.io"}, "https://evil.io/.a.io", ""),
        ({"cors-allow-origin": "http://a.io:8080"}, "http://a.io", ""),
    ],
)
async def test_pages_of_other_origins(given: dict[str, str], origin: str, allowed: str) -> None:
    answer = response(b"ok", "200 OK", "Access-Control-Allow-Origin: https://pods.own")
    async with Origin(answer) as web:
        routes = table({"enable-cors": "true"} | given, [web.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            got = await c.ask(get("/", "shop.io", f"Origin: {origin}"))
            assert got.status == 200
            expected = allowed or "https://pods.own"
            assert got.header("access-control-allow-origin") == expected
            assert len(web.requests) == 1
            got = await c.ask(
                get("/", "shop.io", f"Origin: {origin}", *PREFLIGHT, method="OPTIONS")
            )
            assert (got.status, len(web.requests)) == ((204, 1) if allowed else (200, 2))
            if allowed:
                assert "PUT" in got.header("access-control-allow-methods")
                assert got.header("access-control-max-age") == "1728000"
                assert got.header("access-control-allow-credentials") == "true"
                assert got.header("vary") == ("Origin" if allowed != "*" else "")


async def test_each_part_of_cors_can_be_set_and_errors_have_it_too() -> None:
    given = {
        "enable-cors": "true",
        "cors-allow-methods": "GET, PATCH",
        "cors-allow-headers": "X-One,X-Two",
        "cors-expose-headers": "X-Three",
        "cors-allow-credentials": "false",
        "cors-max-age": "600",
    }
    async with running_proxy(table(given, [])) as (_, port), client(port) as c:
        got = await c.ask(get("/", "shop.io", "Origin: https://a.io", *PREFLIGHT, method="OPTIONS"))
        assert got.header("access-control-allow-methods") == "GET, PATCH"
        assert got.header("access-control-allow-headers") == "X-One, X-Two"
        assert got.header("access-control-max-age") == "600"
        assert got.header("access-control-allow-credentials") == ""
        got = await c.ask(get("/", "shop.io", "Origin: https://a.io"))
        assert (got.status, got.header("access-control-allow-origin")) == (503, "*")
        assert got.header("access-control-expose-headers") == "X-Three"


# Canary

BY_HEADER = {"canary-by-header": "X-Canary"}
BY_VALUE = BY_HEADER | {"canary-by-header-value": "eu"}
BY_PATTERN = BY_HEADER | {"canary-by-header-pattern": "^e[uw]$"}
BY_COOKIE = {"canary-by-cookie": "beta"}
ALL = {"canary-weight": "100"}


@pytest.mark.parametrize(
    ("given", "lines", "taken"),
    [
        ({}, [], False),
        (ALL, [], True),
        ({"canary-weight": "0"}, [], False),
        ({"canary-weight": "7", "canary-weight-total": "7"}, [], True),
        (BY_HEADER, ["X-Canary: always"], True),
        (BY_HEADER, ["X-Canary: perhaps"], False),
        (BY_HEADER | ALL, ["X-Canary: never"], False),
        (BY_HEADER | ALL, ["X-Canary: perhaps"], True),
        (BY_VALUE, ["X-Canary: eu"], True),
        (BY_VALUE, ["X-Canary: always"], False),
        (BY_VALUE | ALL, ["X-Canary: never"], True),
        (BY_PATTERN, ["X-Canary: ew"], True),
        (BY_PATTERN, ["X-Canary: us"], False),
        (BY_COOKIE, ["Cookie: a=b; beta=always"], True),
        (BY_COOKIE | ALL, ["Cookie: beta=never"], False),
        (BY_COOKIE, ["Cookie: beta=1"], False),
        (BY_HEADER | BY_COOKIE, ["X-Canary: never", "Cookie: beta=always"], False),
        (BY_HEADER | BY_COOKIE, ["X-Canary: x", "Cookie: beta=always"], True),
    ],
)
async def test_a_canary_takes_its_share(
    given: dict[str, str], lines: list[str], taken: bool
) -> None:
    async with Origin(response(b"main")) as web, Origin(response(b"canary")) as other:
        routes = table({}, [web.port], canary(given), other=[other.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            got = await c.ask(get("/", "shop.io", *lines))
            assert got.body == (b"canary" if taken else b"main")


async def test_a_canary_by_weight_gets_about_its_share_and_has_its_rules_policy() -> None:
    async with Origin(response(b"main")) as web, Origin(response(b"canary")) as other:
        routes = table(
            {"rewrite-target": "/new"}, [web.port], canary({"canary-weight": "30"}),
            other=[other.port],
        )  # fmt: skip
        async with running_proxy(routes) as (_, port), client(port) as c:
            answers = Counter([(await c.ask(get("/old"))).body for _ in range(400)])
        assert 60 < answers[b"canary"] < 190
        assert other.requests[0].startswith(b"GET /new ")
        assert routes.conflicts("shop/canary") == []
        # It goes as it came, and the rule is quick again.
        routes.set_ingress("shop/canary", None)
        route = routes.match("shop.io", "/old")
        assert route.canaries == ()
        routes.set_ingress("shop/web", ingress("web", {"shop.io": [path("/", "web")]}))
        assert routes.match("shop.io", "/old").policy is None


def test_a_canary_without_a_rule_is_named() -> None:
    routes = compile([canary(ALL)], [ingress_class()], [service("other")], [])
    item = routes.ingress("shop/canary")
    assert item is not None
    assert "CanaryUnused" in {f.reason for f in findings(routes, "shop/canary", item, {})}


def test_a_canary_takes_nothing_of_another_namespace() -> None:
    thief = ingress(
        "thief", {"shop.io": [path("/", "other")]}, namespace="evil",
        annotations=prefixed({"canary": "true"} | ALL),
    )  # fmt: skip
    routes = table({}, [], thief)
    assert routes.match("shop.io", "/").canaries == ()
    item = routes.ingress("evil/thief")
    assert item is not None
    assert "CanaryUnused" in {f.reason for f in findings(routes, "evil/thief", item, {})}


# Which pod


async def test_a_client_with_a_cookie_stays_with_its_pod() -> None:
    async with Origin(response(b"1")) as one, Origin(response(b"2")) as two:
        routes = table({"affinity": "cookie"}, [one.port, two.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            first = await c.ask(get())
            cookie = first.header("set-cookie")
            assert cookie.startswith("INGRESSCOOKIE=")
            assert cookie.endswith("; Path=/; HttpOnly")
            assert str(one.port) not in cookie
            shown = "Cookie: a=b; " + cookie.partition(";")[0]
            for _ in range(6):
                again = await c.ask(get("/", "shop.io", shown))
                assert (again.body, again.header("set-cookie")) == (first.body, "")
            # Others are spread as ever.
            assert {(await c.ask(get())).body for _ in range(4)} == {b"1", b"2"}
            # The pod leaves: another takes its place, and says so.
            mine, left = (one, two) if first.body == b"1" else (two, one)
            routes.set_slice(
                f"shop/web-{mine.port}",
                slice_("web", [endpoint("127.0.0.1")], mine.port, name=f"web-{mine.port}"),
                None,
            )
            again = await c.ask(get("/", "shop.io", shown))
            assert again.body == left.answer[-1:]
            assert again.header("set-cookie").startswith("INGRESSCOOKIE=")


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"session-cookie-name": "route"}, "route="),
        ({"session-cookie-path": "/app"}, "; Path=/app;"),
        ({"session-cookie-domain": "shop.io"}, "; Domain=shop.io;"),
        ({"session-cookie-max-age": "60"}, "; Max-Age=60;"),
        ({"session-cookie-expires": "60"}, "; Expires="),
        ({"session-cookie-samesite": "Lax"}, "; SameSite=Lax"),
        ({"session-cookie-secure": "true"}, "; Secure"),
        (
            {
                "session-cookie-samesite": "None",
                "session-cookie-conditional-samesite-none": "true",
                "affinity-mode": "persistent",
            },
            "; SameSite=None",
        ),
    ],
)
async def test_the_cookie_is_as_it_was_asked_for(given: dict[str, str], part: str) -> None:
    async with Origin() as web:
        routes = table({"affinity": "cookie"} | given, [web.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            assert part in (await c.ask(get())).header("set-cookie") + ";"
            old = "User-Agent: Mozilla/5.0 (X11) Chrome/60.0 Safari/537.36"
            cookie = (await c.ask(get("/", "shop.io", old))).header("set-cookie")
            assert ("SameSite=None" in cookie) is False


@pytest.mark.parametrize("change", [True, False])
async def test_a_pod_that_fails_keeps_or_loses_its_clients(change: bool) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with Origin(response(b"1")) as one, Origin(response(b"2")) as two:
        given = {
            "affinity": "cookie",
            "session-cookie-change-on-failure": str(change).lower(),
        }
        routes = table(given, [one.port, two.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            first = await c.ask(get())
            shown = "Cookie: " + first.header("set-cookie").partition(";")[0]
            mine, left = (one, two) if first.body == b"1" else (two, one)
            mine.answer = die
            mine.drop_connections()
            again = await c.ask(get("/", "shop.io", shown))
            assert again.body == left.answer[-1:]
            assert bool(again.header("set-cookie")) is change


HASHES = {
    "$request_uri": lambda n: get(f"/{n}"),
    "$uri": lambda n: get(f"/{n}?{n * n}"),
    "$http_x_user": lambda n: get("/", "shop.io", f"X-User: u{n}"),
    "$cookie_user": lambda n: get("/", "shop.io", f"Cookie: b=1; user={n}"),
    "$arg_user": lambda n: get(f"/?a=b&user={n}"),
    "$host${args}": lambda n: get(f"/?{n}"),
}


@pytest.mark.parametrize("by", HASHES)
async def test_a_key_stays_with_its_pod_and_only_the_keys_of_lost_pods_move(by: str) -> None:
    async with Origin(response(b"1")) as one, Origin(response(b"2")) as two:
        async with Origin(response(b"3")) as three:
            ports = [one.port, two.port, three.port]
            routes = table({"upstream-hash-by": by}, ports)
            async with running_proxy(routes) as (_, port), client(port) as c:
                before = [(await c.ask(HASHES[by](n))).body for n in range(24)]
                assert before == [(await c.ask(HASHES[by](n))).body for n in range(24)]
                assert len(set(before)) == 3
                routes.set_slice(f"shop/web-{ports[2]}", pods_of("web", ports[2:])[0], None)
                after = [(await c.ask(HASHES[by](n))).body for n in range(24)]
        moved = [old for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) == {b"3"}


@pytest.mark.parametrize("balance", ["ewma", "least_conn"])
async def test_the_pod_with_the_least_work_is_asked(balance: str) -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(response(b"slow"))

    async with Origin(slow) as one, Origin(response(b"2")) as two, Origin(response(b"3")) as three:
        routes = table({"load-balance": balance}, [one.port, two.port, three.port])
        async with running_proxy(routes) as (_, port):
            async with client(port) as first, client(port) as c:
                for _ in range(3):
                    first.send(get())
                    if one.connections:
                        break
                    await first.answer() if await _quick(first) else None
                answers = {(await c.ask(get())).body for _ in range(6)}
                assert answers == {b"2", b"3"}
                release.set()


async def _quick(c: Any) -> bool:
    """Whether an answer comes at once."""
    try:
        async with asyncio.timeout(0.2):
            await c.reader._wait_for_data("test")
    except TimeoutError:
        return False
    return True


async def test_pods_are_reached_by_the_services_own_address() -> None:
    async with Origin() as web:
        routes = compile(
            [
                ingress(
                    "web", {"shop.io": [path("/", "web", port=web.port)]},
                    annotations=prefixed({"service-upstream": "true"}),
                )
            ],
            [ingress_class()],
            [service("web", [{"port": web.port, "targetPort": 1}], clusterIP="127.0.0.1")],
            pods_of("web", [1]),
        )  # fmt: skip
        async with running_proxy(routes) as (_, port), client(port) as c:
            assert (await c.ask(get())).status == 200
        routes.set_service("shop/web", service("web", [{"port": web.port}], clusterIP="None"))
        assert "has no address of its own" in routes.match("shop.io", "/").backend.problem


# When a pod does not serve


@pytest.mark.parametrize(
    ("conditions", "answer", "method", "tried"),
    [
        ("http_503", "503 No", "GET", True),
        ("http_502 http_503", "502 No", "PUT", True),
        ("http_503", "500 No", "GET", False),
        ("error timeout", "503 No", "GET", False),
        ("http_503", "503 No", "POST", False),
        ("http_503 non_idempotent", "503 No", "POST", True),
        ("off", "503 No", "GET", False),
    ],
)
async def test_another_pod_is_asked_after_what_was_named(
    conditions: str, answer: str, method: str, tried: bool
) -> None:
    async with Origin(response(b"bad", answer)) as bad, Origin(response(b"good")) as good:
        routes = table({"proxy-next-upstream": conditions}, [bad.port, good.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            request = get("/", "shop.io", "Content-Length: 0", method=method)
            answers = [(await c.ask(request)).body for _ in range(2)]
        assert answers.count(b"good") == (2 if tried else 1)


async def test_the_number_of_pods_tried_and_the_time_for_it_can_be_set() -> None:
    async with Origin(response(b"", "503 No")) as one, Origin(response(b"", "503 No")) as two:
        async with Origin(response(b"", "503 No")) as three:
            origins, asked = (one, two, three), "http_503"
            ports = [origin.port for origin in origins]
            for tries, expected in (("1", 1), ("2", 2), ("0", 3)):
                given = {"proxy-next-upstream": asked, "proxy-next-upstream-tries": tries}
                async with running_proxy(table(given, ports)) as (_, port), client(port) as c:
                    assert (await c.ask(get())).status == 503
                assert sum(len(origin.requests) for origin in origins) == expected
                for origin in origins:
                    origin.requests.clear()


async def test_a_pod_that_does_not_answer_in_time_may_be_passed_over() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(silent) as bad, Origin(response(b"good")) as good:
        given = {"proxy-next-upstream": "timeout", "proxy-read-timeout": "1"}
        routes = table(given, [bad.port, good.port])
        async with running_proxy(routes, Settings(head_timeout=0.2, drain_timeout=1)) as (_, port):
            async with client(port) as c:
                assert {(await c.ask(get())).body for _ in range(2)} == {b"good"}


async def test_the_time_for_a_connection_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    # 198.18.0.0/15 is for benchmarks; nothing answers there, or the network is unreachable.
    routes = compile(
        [
            ingress(
                "web", {"shop.io": [path("/", "web")]},
                annotations=prefixed({"proxy-connect-timeout": "7"}),
            )
        ],
        [ingress_class()], [service("web")], pods_of("web", [9]),
    )  # fmt: skip
    seen: list[float] = []
    timeout = asyncio.timeout

    def spy(delay: float | None) -> Any:
        seen.append(delay or 0.0)
        return timeout(delay)

    monkeypatch.setattr("meshkube.ingress.upstream.asyncio.timeout", spy)
    async with running_proxy(routes) as (_, port), client(port) as c:
        assert (await c.ask(get())).status == 502
    assert 7.0 in seen


async def test_a_default_backend_answers_for_a_service_without_pods() -> None:
    async with Origin(response(b"sorry")) as other:
        routes = table({"default-backend": "other"}, [], other=[other.port])
        async with running_proxy(routes) as (_, port), client(port) as c:
            got = await c.ask(get("/a?b"))
            assert (got.status, got.body) == (200, b"sorry")
            assert other.requests[0].startswith(b"GET /a?b ")


@pytest.mark.parametrize("body", [b"", b"x" * 300_000])
async def test_errors_of_pods_become_pages_of_the_default_backend(body: bytes) -> None:
    async with Origin(response(body, "404 No")) as web:
        async with Origin(response(b"page", "404 Styled")) as other:
            given = {"custom-http-errors": "404,500", "default-backend": "other"}
            routes = table(given, [web.port], other=[other.port])
            async with running_proxy(routes) as (_, port), client(port) as c:
                got = await c.ask(get("/a?b", "shop.io", "Accept: text/html", method="POST"))
                assert (got.status, got.body) == (404, b"page")
                assert (await c.ask(get("/c"))).body == b"page"
            head = other.requests[0].decode()
            assert head.startswith("GET / HTTP/1.1\r\n")
            for line in (
                "X-Code: 404", "X-Format: text/html", "X-Original-URI: /a?b", "X-Namespace: shop",
                "X-Ingress-Name: web", "X-Service-Name: web", "X-Service-Port: 80",
            ):  # fmt: skip
                assert f"\r\n{line}\r\n" in head
            assert len(head.split("X-Request-ID: ")[1].split("\r\n")[0]) == 32


async def test_errors_become_our_own_page_without_a_default_backend() -> None:
    async with Origin(response(b"internal secret", "500 No")) as web:
        async with running_proxy(table({"custom-http-errors": "500"}, [web.port])) as (_, port):
            async with client(port) as c:
                got = await c.ask(get())
                assert got.status == 500
                assert b"secret" not in got.body
                assert b"answered with 500" in got.body


# Limits


def test_a_rate_allows_a_burst_and_then_its_pace() -> None:
    rate = Rate(10, 5)
    assert [rate.take("a", 100.0) == 0 for _ in range(7)] == [True] * 6 + [False]
    assert rate.take("b", 100.0) == 0
    assert rate.take("a", 100.0) == pytest.approx(0.1)
    assert rate.take("a", 100.1) == 0
    assert rate.take("a", 100.1) > 0
    assert [rate.take("a", 200.0) == 0 for _ in range(7)] == [True] * 6 + [False]


@pytest.mark.parametrize(
    ("given", "served"),
    [
        ({"limit-rps": "1"}, 6),
        ({"limit-rps": "1", "limit-burst-multiplier": "2"}, 3),
        ({"limit-rpm": "2", "limit-burst-multiplier": "1"}, 3),
        ({"limit-rps": "1", "limit-whitelist": "127.0.0.0/8"}, 12),
    ],
)
async def test_a_client_may_ask_so_often(given: dict[str, str], served: int) -> None:
    async with Origin() as web:
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            answers = [await c.ask(get()) for _ in range(12)]
            refused = [got for got in answers if got.status == 429]
            assert served <= 12 - len(refused) <= served + 1
            for got in refused:
                assert b"over the limit of" in got.body
                assert int(got.header("retry-after")) >= 1


async def test_a_client_may_have_so_many_requests_under_way() -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await read_body(reader, head)
            await release.wait()
            writer.write(response(b"ok"))

    async with Origin(slow) as web:
        routes = table({"limit-connections": "2"}, [web.port])
        async with running_proxy(routes) as (proxy, port):
            async with client(port) as one, client(port) as two, client(port) as three:
                one.send(get())
                two.send(get())
                while web.connections < 2:
                    await asyncio.sleep(0.01)
                refused = await three.ask(get())
                assert (refused.status, refused.header("retry-after")) == (429, "1")
                release.set()
                assert (await one.answer()).status == 200
                assert (await two.answer()).status == 200
                assert (await three.ask(get())).status == 200
                release.clear()
                one.send(get())
                await asyncio.sleep(0.05)
                one.writer.transport.abort()
            async with client(port) as four:
                release.set()
                assert (await four.ask(get())).status == 200
            assert proxy.limiters["shop/web"]._under_way == {}


async def test_pods_that_have_enough_to_do_get_no_more() -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(response(b"ok"))

    async with Origin(slow) as web:
        settings = Settings(pod_requests=1, drain_timeout=1)
        async with running_proxy(table({}, [web.port]), settings) as (_, port):
            async with client(port) as one, client(port) as two:
                one.send(get())
                while not web.connections:
                    await asyncio.sleep(0.01)
                got = await two.ask(get())
                assert got.status == 503
                assert b"each pod of service shop/web has 1 requests under way" in got.body
                release.set()
                assert (await one.answer()).status == 200


# Names and headers


async def test_other_names_have_the_same_rules() -> None:
    async with Origin() as web:
        routes = table({"server-alias": "store.io, www.store.io"}, [web.port], rule="/a")
        async with running_proxy(routes) as (_, port), client(port) as c:
            for host in ("shop.io", "store.io", "www.store.io"):
                assert (await c.ask(get("/a", host))).status == 200
                assert (await c.ask(get("/b", host))).status == 404


@pytest.mark.parametrize(
    ("host", "asked"), [("shop.io", "www.shop.io"), ("www.shop.io", "shop.io")]
)
async def test_one_of_two_names_is_redirected_to_the_other(host: str, asked: str) -> None:
    async with Origin() as web:
        given = {"from-to-www-redirect": "true"}
        routes = table(given, [web.port], host=host)
        async with running_proxy(routes) as (_, port), client(port) as c:
            got = await c.ask(get("/a/?b", asked))
            assert (got.status, got.header("location")) == (308, f"http://{host}/a/?b")
            assert (await c.ask(get("/", host))).status == 200
            # Somebody else's rule for that name goes before.
            theirs = ingress("theirs", {asked: [path("/", "web")]}, created="2027-01-01T00:00:00Z")
            routes.set_ingress("shop/theirs", theirs)
            assert (await c.ask(get("/", asked))).status == 200
            assert routes.conflicts("shop/web") == routes.conflicts("shop/theirs") == []


async def test_headers_for_the_pod() -> None:
    given = {"x-forwarded-prefix": "/shop", "connection-proxy-header": "keep-alive"}
    async with Origin() as web:
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            await c.ask(get("/", "shop.io", "X-Forwarded-Prefix: /evil"))
    assert b"\r\nX-Forwarded-Prefix: /shop\r\n" in web.requests[0]
    assert b"evil" not in web.requests[0]
    assert b"\r\nConnection: keep-alive\r\n" in web.requests[0]


@pytest.mark.parametrize(
    ("given", "line", "seen"),
    [
        (
            {"proxy-redirect-from": "http://pod/", "proxy-redirect-to": "https://shop.io/p/"},
            "Location: http://pod/a?b", "Location: https://shop.io/p/a?b",
        ),
        (
            {"proxy-redirect-from": "http://pod/", "proxy-redirect-to": "https://shop.io/p/"},
            "Location: http://other/a", "Location: http://other/a",
        ),
        ({"proxy-redirect-from": "off"}, "Location: http://pod/a", "Location: http://pod/a"),
        (
            {"proxy-cookie-domain": "pod.local shop.io"},
            "Set-Cookie: a=b; Domain=pod.local; Secure", "Set-Cookie: a=b; Domain=shop.io; Secure",
        ),
        (
            {"proxy-cookie-path": "/ /shop/"},
            "Set-Cookie: path=/x; Path=/user", "Set-Cookie: path=/x; Path=/shop/user",
        ),
        ({"proxy-cookie-path": "off"}, "Set-Cookie: a=b; Path=/", "Set-Cookie: a=b; Path=/"),
    ],
)  # fmt: skip
async def test_headers_of_responses_are_rewritten(
    given: dict[str, str], line: str, seen: str
) -> None:
    async with Origin(response(b"ok", "200 OK", line, "X-Other: 1")) as web:
        async with running_proxy(table(given, [web.port])) as (_, port), client(port) as c:
            got = await c.ask(get())
            assert seen in got.head.decode().split("\r\n")
            assert (got.header("x-other"), got.body) == ("1", b"ok")


async def test_a_chunked_response_keeps_its_framing_when_its_head_is_changed() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with Origin(answer) as web:
        async with running_proxy(table({"affinity": "cookie"}, [web.port])) as (_, port):
            async with client(port) as c:
                for _ in range(2):
                    got = await c.ask(get())
                    assert got.body == b"abc"
                    assert got.header("set-cookie")
