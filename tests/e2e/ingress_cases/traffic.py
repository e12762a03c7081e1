"""Cases of which pod is asked, how often one may ask, and what follows when none serves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tests.e2e.ingress_cases.case import annotated, case
from tests.e2e.ingress_cases.site import Answer, Site
from tests.support.ingress import ingress, path


def canary(name: str, given: dict[str, str]) -> dict[str, object]:
    rules = {f"{name}.test": [path("/", "other")]}
    return ingress(f"{name}-x", rules, annotations=annotated({"canary": "true"} | given))


async def taken(site: Site, *lines: str) -> bool:
    """Whether the canary gets such a request."""
    return (await site.get("/", *lines)).pod == "p4"


BY_HEADER = {"canary-by-header": "X-Canary"}


@case(
    shows=("canary", "canary-weight", "canary-weight-total"),
    more=[canary("canary-weight", {"canary-weight": "3", "canary-weight-total": "6"})],
)
async def canary_weight(site: Site) -> None:
    pods = Counter([(await site.get()).pod for _ in range(120)])
    assert 25 < pods["p4"] < 95


@case(
    shows=("canary-by-header", "canary-by-cookie"),
    more=[canary("canary-header", BY_HEADER | {"canary-by-cookie": "beta"})],
)
async def canary_header(site: Site) -> None:
    assert not await taken(site)
    assert await taken(site, "X-Canary: always")
    assert not await taken(site, "X-Canary: never", "Cookie: beta=always")
    assert await taken(site, "Cookie: a=b; beta=always")
    assert not await taken(site, "Cookie: beta=never")


@case(
    shows=("canary-by-header-value",),
    more=[canary("canary-value", BY_HEADER | {"canary-by-header-value": "eu"})],
)
async def canary_value(site: Site) -> None:
    assert await taken(site, "X-Canary: eu")
    assert not await taken(site, "X-Canary: always")


@case(
    shows=("canary-by-header-pattern",),
    more=[canary("canary-pattern", BY_HEADER | {"canary-by-header-pattern": "^e[uw]$"})],
)
async def canary_pattern(site: Site) -> None:
    assert await taken(site, "X-Canary: ew")
    assert not await taken(site, "X-Canary: us")


@case({"affinity": "cookie", "affinity-mode": "persistent"})
async def affinity(site: Site) -> None:
    first = await site.get()
    cookie = first.header("set-cookie").partition(";")[0]
    assert cookie.startswith("INGRESSCOOKIE=")
    for _ in range(5):
        again = await site.get("/", f"Cookie: {cookie}")
        assert (again.pod, again.header("set-cookie")) == (first.pod, "")


COOKIE = {
    "affinity": "cookie",
    "session-cookie-name": "route",
    "session-cookie-path": "/app",
    "session-cookie-domain": "shop.test",
    "session-cookie-max-age": "60",
    "session-cookie-expires": "60",
    "session-cookie-samesite": "None",
    "session-cookie-conditional-samesite-none": "true",
    "session-cookie-secure": "true",
}


@case(COOKIE)
async def session_cookie(site: Site) -> None:
    parts = (await site.get()).header("set-cookie").split("; ")
    assert parts[0].startswith("route=")
    attributes = {"Path=/app", "Domain=shop.test", "Max-Age=60", "Secure", "SameSite=None"}
    assert attributes <= set(parts)
    assert any(each.startswith("Expires=") for each in parts)
    old = "User-Agent: Mozilla/5.0 (X11) Chrome/60.0 Safari/537.36"
    assert "SameSite=None" not in (await site.get("/", old)).header("set-cookie")


@case({"affinity": "cookie", "session-cookie-change-on-failure": "true"}, service="frail")
async def session_cookie_change_on_failure(site: Site) -> None:
    first = await site.get()
    cookie = first.header("set-cookie").partition(";")[0]
    again = await site.get("/", f"Cookie: {cookie}", f"X-Do: at {first.pod}; die")
    assert again.pod != first.pod
    assert again.header("set-cookie")


@case({"upstream-hash-by": "$arg_user"})
async def upstream_hash_by(site: Site) -> None:
    before = [(await site.get(f"/?user={n}")).pod for n in range(24)]
    assert before == [(await site.get(f"/x?a=b&user={n}")).pod for n in range(24)]
    assert set(before) == {"p1", "p2", "p3"}


@case({"load-balance": "least_conn"}, service="few")
async def load_balance(site: Site) -> None:
    slow = asyncio.create_task(site.get("/", "X-Do: wait 2", fresh=True))
    quick: set[str] = set()
    while not slow.done() and len(quick) != 2:
        quick = {(await site.get()).pod for _ in range(6)}
    assert (await slow).pod not in quick or site.ports.workers > 1, "each worker knows its own"


@case({"service-upstream": "true"}, rules={"": [path("/", "own-address", port="web")]})
async def service_upstream(site: Site) -> None:
    assert (await site.get()).pod == "p1", "its EndpointSlice names a pod that is gone"


@case({"default-backend": "other"}, service="none")
async def default_backend(site: Site) -> None:
    got = await site.get("/a?b")
    assert (got.pod, got.seen["target"]) == ("p4", "/a?b")


@case({"custom-http-errors": "404,503", "default-backend": "other"})
async def custom_http_errors(site: Site) -> None:
    got = await site.get("/a?b", "X-Do: at p1,p2,p3; status 404", "Accept: text/html")
    assert got.status == 404 or got.pod == "p4"
    assert b'"p4"' in got.body
    for line in (b'"X-Code", "404"', b'"X-Original-URI", "/a?b"', b'"X-Service-Name", "web"'):
        assert line in got.body
    got = await site.get("/", "X-Do: at p1,p2,p3; status 500")
    assert (got.status, b'"p4"' in got.body) == (500, False)


# Limits


def refused(answers: list[Answer]) -> int:
    late = [each for each in answers if each.status == 429]
    return len(late)


@case({"limit-rps": "1", "limit-burst-multiplier": "2"})
async def limit_rps(site: Site) -> None:
    answers = [await site.get() for _ in range(12)]
    assert int(answers[-1].header("retry-after")) >= 1
    assert 6 <= refused(answers) <= 9


@case({"limit-rpm": "2", "limit-burst-multiplier": "1"})
async def limit_rpm(site: Site) -> None:
    assert 7 <= refused([await site.get() for _ in range(12)]) <= 9


@case({"limit-connections": "1"})
async def limit_connections(site: Site) -> None:
    answers = await site.several(6, "/", "X-Do: wait 0.7")
    served = 6 - refused(answers)
    assert 1 <= served <= site.ports.workers


@case({"limit-rps": "1", "limit-burst-multiplier": "1", "limit-whitelist": "127.0.0.1"})
async def limit_whitelist(site: Site) -> None:
    assert refused([await site.get() for _ in range(6)]) == 0
    assert refused([await site.get(source="127.0.0.2") for _ in range(6)]) > 0


@case({"limit-rps": "1", "limit-burst-multiplier": "1", "limit-allowlist": "127.0.0.0/8"})
async def limit_allowlist(site: Site) -> None:
    assert refused([await site.get() for _ in range(6)]) == 0


@case({"proxy-body-size": "8"})
async def proxy_body_size(site: Site) -> None:
    assert (await site.get(method="POST", body=b"12345678")).seen["body"] == "12345678"
    assert (await site.get(method="POST", body=b"123456789", fresh=True)).status == 413


# Times


@case({"proxy-connect-timeout": "2", "proxy-next-upstream-tries": "1"}, service="full")
async def proxy_connect_timeout(site: Site) -> None:
    begun = time.monotonic()
    got = await site.get()
    assert got.status in (502, 504)
    assert time.monotonic() - begun > 1.8, "1.2 s without the annotation"


@case({"proxy-read-timeout": "1"}, service="late")
async def proxy_read_timeout(site: Site) -> None:
    begun = time.monotonic()
    assert (await site.get("/", "X-Do: wait 3")).status == 504
    assert time.monotonic() - begun < 2.9


@case({"proxy-send-timeout": "1"})
async def proxy_send_timeout(site: Site) -> None:
    begun = time.monotonic()
    got = await site.unfinished(b"half")
    assert got == 408
    assert 0.8 < time.monotonic() - begun < 10


# Another pod


@case({"proxy-next-upstream": "http_503 non_idempotent"}, service="ill")
async def proxy_next_upstream(site: Site) -> None:
    fails = "X-Do: at ill-1; status 503"
    for method in ("GET", "POST"):
        answers = [await site.get("/", fails, method=method) for _ in range(3)]
        assert {each.pod for each in answers} == {"ill-2"}
    assert (await site.get("/", "X-Do: status 500")).status == 500


@case({"proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "1"}, service="worse")
async def proxy_next_upstream_tries(site: Site) -> None:
    answers = [await site.get("/", "X-Do: at worse-1; status 503", fresh=True) for _ in range(8)]
    assert {each.status for each in answers} == {200, 503}


@case(
    {
        "proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "0",
        "proxy-next-upstream-timeout": "1",
    },
    service="slow",
)  # fmt: skip
async def proxy_next_upstream_timeout(site: Site) -> None:
    fails = "X-Do: at slow-1; status 503"
    assert {(await site.get("/", fails)).pod for _ in range(3)} == {"slow-2"}
    slowly = [(await site.get("/", f"{fails}; wait 1.2")).status for _ in range(2)]
    assert sorted(slowly) == [200, 503], "after a second no other pod is asked"
