"""Cases of who may ask: networks, passwords, servers that decide, certificates of clients."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.ingress_cases.case import case
from tests.e2e.ingress_cases.site import Answer, Site

OTHERS = "10.0.0.0/8"
BASIC = {"auth-type": "basic", "auth-secret": "users"}
AUTH = {"auth-url": "http://AUTH/check?of=$host"}


@case({"whitelist-source-range": "127.0.0.1/32"})
async def whitelist_source_range(site: Site) -> None:
    assert (await site.get()).status == 200
    assert (await site.get(source="127.0.0.2")).status == 403


@case({"allowlist-source-range": OTHERS})
async def allowlist_source_range(site: Site) -> None:
    assert (await site.get("/", "X-Forwarded-For: 10.1.1.1")).status == 403
    assert (await site.get("/", "X-Forwarded-For: 10.1.1.1", source="127.0.0.8")).status == 200


@case({"denylist-source-range": "127.0.0.2"})
async def denylist_source_range(site: Site) -> None:
    assert (await site.get()).status == 200
    assert (await site.get(source="127.0.0.2")).status == 403


def who(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@case(BASIC | {"auth-realm": 'The "Shop"'})
async def basic_auth(site: Site) -> None:
    got = await site.get()
    assert (got.status, got.header("www-authenticate")) == (401, 'Basic realm="The \\"Shop\\""')
    assert (await site.get("/", who("ann", "secret"))).status == 200
    assert (await site.get("/", who("ann", "wrong"))).status == 401


@case(BASIC | {"auth-secret": "user-keys", "auth-secret-type": "auth-map"})
async def auth_secret_type(site: Site) -> None:
    assert (await site.get("/", who("ann", "secret"))).status == 200
    assert (await site.get("/", who("bob", "secret"))).status == 401


def asked(got: Answer) -> dict[str, Any]:
    """What the server that decides was asked, as its header for the pod tells."""
    text = got.got("X-Asked")
    assert text is not None
    found: dict[str, Any] = json.loads(text)
    return found


@case(AUTH | {"auth-method": "POST", "auth-response-headers": "X-Name, X-Asked"})
async def auth_url(site: Site) -> None:
    got = await site.get("/a?b", "X-User: 200", "X-Name: forged", "X-Case: url")
    assert (got.got("X-Name") or "").startswith("Ann")
    assert got.header("set-cookie") == "session=1"
    question = asked(got)
    assert (question["method"], question["target"]) == ("POST", f"/check?of={site.host}")
    fields = {name.lower(): value for name, value in question["headers"]}
    assert fields["x-original-method"] == "GET"
    assert fields["x-original-url"].endswith("/a?b")
    assert fields["x-auth-request-redirect"] == "/a?b"
    for answer, status in (("202", 200), ("403", 403), ("500", 500), ("302", 500)):
        assert (await site.get("/", f"X-User: {answer}")).status == status
    assert (await site.get()).status == 401


@case(AUTH | {"auth-request-redirect": "https://$host/", "auth-response-headers": "X-Asked"})
async def auth_request_redirect(site: Site) -> None:
    fields = asked(await site.get("/", "X-User: 200"))["headers"]
    assert ["X-Auth-Request-Redirect", f"https://{site.host}/"] in fields


@case(AUTH | {"auth-signin": "https://login.test/", "auth-signin-redirect-param": "back"})
async def auth_signin(site: Site) -> None:
    got = await site.get("/a?b")
    assert got.status == 302
    start, _, back = got.header("location").partition("?back=")
    assert start == "https://login.test/"
    assert back.startswith(quote(f"http://{site.host}", safe=""))
    assert back.endswith(quote("/a?b", safe=""))


@case(
    AUTH | {
        "auth-cache-key": "$http_x_user", "auth-cache-duration": "200 1m",
        "auth-response-headers": "X-Name",
    },
    shows=("auth-cache-key", "auth-cache-duration"),
)  # fmt: skip
async def auth_cache(site: Site) -> None:
    mine = f"X-Case: cache {site.ports.name}"
    names = [(await site.get("/", "X-User: 200", mine)).got("X-Name") for _ in range(3)]
    assert names == ["Ann1"] * 3, "asked once"
    names = [(await site.get("/", "X-User: 202", mine)).got("X-Name") for _ in range(2)]
    assert names == ["Ann2", "Ann3"], "of this status no answer is kept"


@case(AUTH | {"auth-keepalive": "8", "auth-keepalive-requests": "9", "auth-keepalive-timeout": "9"})
async def auth_keepalive(site: Site) -> None:
    assert (await site.get("/", "X-User: 200")).status == 200


TLS_AUTH = {"auth-tls-secret": "shop/clients"}


@case(TLS_AUTH | {"auth-tls-pass-certificate-to-upstream": "true"}, tls=True)
async def auth_tls(site: Site) -> None:
    shown = certificate(site)
    got = await site.get("/", "ssl-client-verify: forged", tls=True, certificate=shown)
    assert got.got("ssl-client-verify") == "SUCCESS"
    assert got.got("ssl-client-subject-dn") == "CN=ann"
    assert "BEGIN%20CERTIFICATE" in (got.got("ssl-client-cert") or "")
    assert (await site.get(tls=True)).status == 400
    assert (await site.get()).status == 403


@case(TLS_AUTH | {"auth-tls-verify-client": "optional"}, tls=True)
async def auth_tls_verify_client(site: Site) -> None:
    assert (await site.get(tls=True)).got("ssl-client-verify") == "NONE"
    got = await site.get(tls=True, certificate=certificate(site))
    assert got.got("ssl-client-verify") == "SUCCESS"
    assert got.got("ssl-client-cert") is None


@case(TLS_AUTH | {"auth-tls-error-page": "https://help.test/"}, tls=True)
async def auth_tls_error_page(site: Site) -> None:
    got = await site.get(tls=True)
    assert (got.status, got.header("location")) == (302, "https://help.test/")


@case(TLS_AUTH | {"auth-tls-verify-depth": "2"}, tls=True)
async def auth_tls_verify_depth(site: Site) -> None:
    through = certificate(site).with_name("deep.pem")
    assert (await site.get(tls=True, certificate=through)).got("ssl-client-verify") == "SUCCESS"


def certificate(site: Site) -> Path:
    """The file with Ann's certificate and key."""
    return site.ports.clients
