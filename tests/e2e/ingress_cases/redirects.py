"""Cases of redirects, other names and rewritten paths."""

from __future__ import annotations

import json

from tests.e2e.ingress_cases.case import case
from tests.e2e.ingress_cases.site import Site
from tests.support.ingress import path

HOME = "https://new.test"


@case({"ssl-redirect": "true"}, tls=True)
async def ssl_redirect(site: Site) -> None:
    got = await site.get("/a?b=c")
    expected = f"https://{site.host}:{site.ports.https}/a?b=c"
    assert (got.status, got.header("location")) == (308, expected)
    assert (await site.get("/a?b=c", tls=True)).seen["target"] == "/a?b=c"


@case({"force-ssl-redirect": "true", "preserve-trailing-slash": "true"})
async def force_ssl_redirect(site: Site) -> None:
    got = await site.get("/a/")
    expected = f"https://{site.host}:{site.ports.https}/a/"
    assert (got.status, got.header("location")) == (308, expected)


@case({"permanent-redirect": HOME})
async def permanent_redirect(site: Site) -> None:
    got = await site.get("/a")
    assert (got.status, got.header("location")) == (301, HOME)


@case({"permanent-redirect": f"{HOME}$request_uri", "permanent-redirect-code": "308"})
async def permanent_redirect_code(site: Site) -> None:
    got = await site.get("/a?b")
    assert (got.status, got.header("location")) == (308, f"{HOME}/a?b")


@case({"temporal-redirect": "https://x.test/$scheme"})
async def temporal_redirect(site: Site) -> None:
    got = await site.get("/a")
    assert (got.status, got.header("location")) == (302, "https://x.test/http")


@case({"temporal-redirect": HOME, "temporal-redirect-code": "307"})
async def temporal_redirect_code(site: Site) -> None:
    got = await site.get("/a", method="POST", body=b"")
    assert (got.status, got.header("location")) == (307, HOME)


@case({"from-to-www-redirect": "true"})
async def from_to_www_redirect(site: Site) -> None:
    got = await site.get("/a", host=f"www.{site.host}")
    assert got.status == 308
    assert got.header("location") == f"http://{site.host}/a"
    assert (await site.get("/a")).status == 200


@case({"app-root": "/home"})
async def app_root(site: Site) -> None:
    got = await site.get("/")
    assert (got.status, got.header("location")[-5:]) == (302, "/home")
    assert (await site.get("/a")).seen["target"] == "/a"


@case({"server-alias": "alias-one.test,alias-two.test"})
async def server_alias(site: Site) -> None:
    for host in (site.host, "alias-one.test", "alias-two.test"):
        assert (await site.get("/", host=host)).got("Host") == host


@case(
    {"rewrite-target": "/v1/$2"},
    rules={"": [path("/app(/|$)(.*)", "web", "ImplementationSpecific")]},
)
async def rewrite_target(site: Site) -> None:
    assert (await site.get("/app/a%20b?c=d")).seen["target"] == "/v1/a%20b?c=d"
    assert (await site.get("/app")).seen["target"] == "/v1/"
    assert (await site.get("/apps")).status == 404


@case({"use-regex": "true"}, rules={"": [path("/app/(.*)", "web", "ImplementationSpecific")]})
async def use_regex(site: Site) -> None:
    assert (await site.get("/app/a/b")).seen["target"] == "/app/a/b"
    assert (await site.get("/(.*)")).status == 404


@case({"upstream-vhost": "inner.svc"})
async def upstream_vhost(site: Site) -> None:
    got = await site.get()
    assert got.got("Host") == "inner.svc"
    assert (got.got("X-Forwarded-Host") or "").startswith(site.host)


@case({"x-forwarded-prefix": "/shop"})
async def x_forwarded_prefix(site: Site) -> None:
    got = await site.get("/", "X-Forwarded-Prefix: /evil")
    assert got.got("X-Forwarded-Prefix") == "/shop"
    assert "evil" not in json.dumps(got.seen)


@case({"connection-proxy-header": "keep-alive"})
async def connection_proxy_header(site: Site) -> None:
    assert (await site.get()).got("Connection") == "keep-alive"


@case({"proxy-redirect-from": "http://pod/", "proxy-redirect-to": "https://shop.test/p/"})
async def proxy_redirect(site: Site) -> None:
    got = await site.get("/", "X-Do: status 302; set Location: http://pod/a?b")
    assert (got.status, got.header("location")) == (302, "https://shop.test/p/a?b")
    got = await site.get("/", "X-Do: status 302; set Location: http://other/")
    assert got.header("location") == "http://other/"


@case({"proxy-cookie-domain": "pod.local shop.test", "proxy-cookie-path": "/ /shop/"})
async def proxy_cookie(site: Site) -> None:
    got = await site.get("/cookie")
    assert got.header("set-cookie") == "a=b; Domain=shop.test; Path=/shop/user"
