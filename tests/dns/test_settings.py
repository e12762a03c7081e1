"""The ConfigMap of cluster DNS: read, refused, and put to use while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.rcode
import pytest

from meshkube.api.kinds import CONFIG_MAP, EVENT, POD
from meshkube.dns import settings
from meshkube.dns.settings import Settings, SettingsError, parse
from tests.dns.servers import address, running_server, running_upstream

GOOD = [
    ({}, Settings()),
    ({"upstreamNameservers": '["192.0.2.1", "192.0.2.2:5353"]'},
     Settings(upstreams=(("192.0.2.1", 53), ("192.0.2.2", 5353)))),
    ({"upstreamNameservers": "- 2001:db8::1\n- '[2001:db8::2]:54'\n"},
     Settings(upstreams=(("2001:db8::1", 53), ("2001:db8::2", 54)))),
    ({"stubDomains": '{"Corp.example.": ["10.0.0.1"]}'},
     Settings(stub_domains={"corp.example": (("10.0.0.1", 53),)})),
    ({"hosts": "# mine\n192.0.2.5 nas nas.lan\n\n2001:db8::5 nas.lan"},
     Settings(hosts=(("192.0.2.5", ("nas", "nas.lan")), ("2001:db8::5", ("nas.lan",))))),
    ({"ttl": "30", "pods": "verified", "autopath": "off", "prefetch": "off", "log": "all"},
     Settings(ttl=30, pods="verified", autopath=False, prefetch=False, log="all")),
    ({"serveStale": "0", "rateLimit": "50", "outsideRateLimit": "5"},
     Settings(serve_stale=0, rate_limit=50, outside_rate_limit=5)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_settings_are_read(data, expected):
    assert parse(data) == expected


BAD = [
    ({"upstreamNameservers": '["dns.example"]'}, "'dns.example' is no address of a name server"),
    ({"upstreamNameservers": '["192.0.2.1:99999"]'}, "must be from 1 to 65535"),
    ({"upstreamNameservers": "[]"}, "must be a list"),
    ({"upstreamNameservers": "[192.0.2.1"}, "neither JSON nor YAML"),
    ({"stubDomains": "[]"}, "must map domains"),
    ({"stubDomains": '{"a..b": ["10.0.0.1"]}'}, "label"),
    ({"hosts": "192.0.2.5"}, "192.0.2.5 has no name"),
    ({"hosts": "nas 192.0.2.5"}, "hosts: "),
    ({"ttl": "long"}, "ttl: 'long' is no number"),
    ({"ttl": "-1"}, "must be from 0 to 3600"),
    ({"pods": "all"}, "pods: must be one of disabled, insecure, verified"),
    ({"autopth": "on"}, "autopth: no such setting (did you mean autopath?)"),
    ({"ttl": "x", "pods": "x"}, "ttl: 'x' is no number; pods: must be"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_every_fault_is_named(data, message):
    with pytest.raises(SettingsError) as error:
        parse(data)
    assert message in str(error.value)


@pytest.fixture
async def running(tmp_path: Path):
    async with running_server(tmp_path) as server:
        yield server


async def put(running, **data: str) -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": settings.NAME, "namespace": settings.NAMESPACE},
        "data": data,
    }
    await running.client.create(CONFIG_MAP, obj)


async def change(running, **data: str) -> None:
    await running.client.patch(CONFIG_MAP, settings.NAME, {"data": data}, settings.NAMESPACE)


async def test_settings_hold_as_soon_as_they_are_written_and_end_with_their_config_map(running):
    async with running_upstream() as (other, at):
        other.names["one.test."] = address("192.0.2.70")
        await running.until("one.test", "A", ["192.0.2.7"])
        await put(running, upstreamNameservers=f'["{at[0]}:{at[1]}"]', hosts="192.0.2.5 nas.lan")
        await running.until("one.test", "A", ["192.0.2.70"])
        await running.until("nas.lan", "A", ["192.0.2.5"])
        assert await running.addresses("5.2.0.192.in-addr.arpa", type="PTR") == ["nas.lan."]
        await running.client.delete(CONFIG_MAP, settings.NAME, settings.NAMESPACE)
        await running.until("one.test", "A", ["192.0.2.7"])
        assert (await running.ask("nas.lan")).rcode() == dns.rcode.NXDOMAIN


async def test_the_last_good_settings_hold_and_an_event_says_why(running):
    await put(running, hosts="192.0.2.5 nas.lan", ttl="60")
    await running.until("nas.lan", "A", ["192.0.2.5"])
    await change(running, ttl="soon")
    async with asyncio.timeout(5):
        while not (events := (await running.client.list(EVENT, settings.NAMESPACE)).items):
            await asyncio.sleep(0.01)
    assert events[0]["reason"] == "SettingsInvalid"
    assert events[0]["message"] == "ttl: 'soon' is no number"
    assert events[0]["involvedObject"]["name"] == settings.NAME
    response = await running.ask("nas.lan")
    assert response.answer[0].ttl == 60


async def test_names_of_pods_are_as_true_as_the_setting_asks(running):
    name = "192-0-2-5.default.pod.cluster.local"
    await running.until(name, "A", ["192.0.2.5"])
    await put(running, pods="disabled")
    await running.until(name, "A", [])
    await change(running, pods="verified")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }
    await running.client.create(POD, pod)
    assert (await running.ask(name)).rcode() == dns.rcode.NXDOMAIN
    status = {"status": {"podIP": "192.0.2.5", "podIPs": [{"ip": "192.0.2.5"}]}}
    await running.client.patch(POD, "web", status, "default", subresource="status")
    await running.until(name, "A", ["192.0.2.5"])
    await running.client.delete(POD, "web", "default", grace_period=0)
    await running.until(name, "A", [])


async def test_who_asks_too_often_is_told_to_come_by_tcp(running):
    running.server.configure(Settings(rate_limit=5))
    await asyncio.sleep(0)
    name = "kubernetes.default.svc.cluster.local"
    limited = running.server.counters
    for _ in range(40):
        query = asyncio.wait_for(running.ask(name), 0.05)
        try:
            response = await query
        except TimeoutError:
            continue
        if not response.answer:
            break
    assert limited.total("limited")
    assert (await running.ask(name, tcp=True)).answer


async def test_every_query_is_logged_where_that_is_asked_for(running, caplog):
    caplog.set_level("INFO", "meshkube.dns.answering")
    running.server.configure(Settings(log="all"))
    for _ in range(2):
        await running.ask("kubernetes.default.svc.cluster.local")
    logged = [record for record in caplog.records if record.message == "query answered"]
    assert [record.question for record in logged] == ["kubernetes.default.svc.cluster.local"] * 2
    assert logged[0].type == "A"
