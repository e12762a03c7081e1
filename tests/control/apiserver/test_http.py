"""The API over real TLS sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from meshkube import pki
from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.parts import Health
from tests.support.api import Served, serving_api
from tests.support.asking import Asker, asking
from tests.support.custom import crd, version

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def config_map(name: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


class TestReading:
    async def test_an_object_is_written_and_read(self, ask: Asker) -> None:
        made = await ask.make(MAPS, config_map("a", data={"k": "v"}))
        assert await ask.json("GET", f"{MAPS}/a") == made
        assert list(made) == ["apiVersion", "kind", "metadata", "data"]
        assert next(iter(made["metadata"])) == "resourceVersion"

    async def test_a_list_holds_the_objects_without_the_type_it_says_itself(
        self, ask: Asker
    ) -> None:
        made = [await ask.make(MAPS, config_map(name)) for name in ("a", "b")]
        listed = await ask.json("GET", MAPS)
        assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
        typed = [{"apiVersion": "v1", "kind": "ConfigMap", **item} for item in listed["items"]]
        assert typed == made
        assert not any("kind" in item for item in listed["items"])
        assert int(listed["metadata"]["resourceVersion"]) >= int(
            made[1]["metadata"]["resourceVersion"]
        )

    async def test_a_page_says_how_to_go_on(self, ask: Asker) -> None:
        page = await ask.json("GET", "/api/v1/namespaces?limit=3")
        assert page["metadata"]["remainingItemCount"] == 1
        token = page["metadata"]["continue"]
        rest = await ask.json("GET", f"/api/v1/namespaces?limit=3&continue={token}")
        assert [one["metadata"]["name"] for one in rest["items"]] == ["kube-system"]
        assert "continue" not in rest["metadata"]

    async def test_a_page_that_expired_says_how_to_have_the_rest(
        self, served: Served, ask: Asker
    ) -> None:
        for name in "abc":
            await ask.make(MAPS, config_map(name))
        page = await ask.json("GET", f"{MAPS}?limit=1")
        await ask.make(MAPS, config_map("bb"))
        await served.registry._reader._store.compact(served.registry.feed.revision)
        old = page["metadata"]["continue"]
        status = await ask.json("GET", f"{MAPS}?limit=1&continue={old}", 410)
        assert (status["kind"], status["reason"], status["code"]) == ("Status", "Expired", 410)
        assert "or use the continue token in this response" in status["message"]
        token = status["metadata"]["continue"]
        rest = await ask.json("GET", f"{MAPS}?continue={token}")
        assert [one["metadata"]["name"] for one in rest["items"]] == ["b", "bb", "c"]
        async with served.client() as client:
            with pytest.raises(ApiError) as raised:
                await client.list(kinds.CONFIG_MAP, "default", continue_token=old)
        assert raised.value.continue_token == token

    async def test_tables_come_from_the_server(self, ask: Asker) -> None:
        table = await ask.json("GET", "/api/v1/namespaces", headers={"Accept": TABLE})
        assert table["kind"] == "Table"
        assert [one["name"] for one in table["columnDefinitions"]][:3] == ["Name", "Status", "Age"]
        assert table["rows"][0]["cells"][:2] == ["default", "Active"]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        one = await ask.json(
            "GET", "/api/v1/namespaces/default?includeObject=Object", headers={"Accept": TABLE}
        )
        assert one["rows"][0]["object"]["kind"] == "Namespace"

    async def test_metadata_alone(self, ask: Asker) -> None:
        one = await ask.json("GET", "/api/v1/namespaces/default", headers={"Accept": PARTIAL})
        assert (one["kind"], one["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert set(one) == {"kind", "apiVersion", "metadata"}
        many = await ask.json("GET", "/api/v1/namespaces", headers={"Accept": PARTIAL_LIST})
        assert many["kind"] == "PartialObjectMetadataList"
        assert len(many["items"]) == 4

    async def test_yaml_both_ways(self, ask: Asker) -> None:
        headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
        text = yaml.safe_dump(config_map("y", data={"k": "v"}))
        async with ask("POST", MAPS, data=text, headers=headers) as response:
            assert response.status == 201
            assert response.content_type == "application/yaml"
            assert yaml.safe_load(await response.text())["data"] == {"k": "v"}

    async def test_big_answers_are_compressed_for_those_who_can(self, ask: Asker) -> None:
        await ask.make(MAPS, config_map("big", data={"k": "x" * 200_000}))
        headers = {"Accept-Encoding": "gzip"}
        async with ask("GET", f"{MAPS}/big", headers=headers, auto_decompress=False) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert json.loads(gzip.decompress(await response.read()))["metadata"]["name"] == "big"
        async with ask("GET", f"{MAPS}/big", headers={"Accept-Encoding": "identity"}) as response:
            assert "Content-Encoding" not in response.headers

    async def test_scale_and_status_are_below_their_object(self, ask: Asker) -> None:
        template = {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]},
        }
        spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
        deployments = "/apis/apps/v1/namespaces/default/deployments"
        await ask.make(deployments, {"metadata": {"name": "d"}, "spec": spec})
        scale = await ask.json("GET", f"{deployments}/d/scale")
        assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 2})
        scale["spec"]["replicas"] = 3
        assert (await ask.json("PUT", f"{deployments}/d/scale", body=scale))["spec"] == {
            "replicas": 3
        }
        headers = {"Content-Type": "application/merge-patch+json"}
        status = '{"status":{"replicas":1},"spec":{"replicas":9}}'
        done = await ask.json("PATCH", f"{deployments}/d/status", data=status, headers=headers)
        assert (done["spec"]["replicas"], done["status"]["replicas"]) == (3, 1)


class TestWriting:
    @pytest.mark.parametrize(
        ("kind", "patch", "data"),
        [
            ("json-patch+json", [{"op": "replace", "path": "/data/a", "value": "2"}], {"a": "2"}),
            ("merge-patch+json", {"data": {"a": None, "b": "3"}}, {"b": "3"}),
            ("strategic-merge-patch+json", {"data": {"b": "3"}}, {"a": "1", "b": "3"}),
        ],
    )
    async def test_patches(self, ask: Asker, kind: str, patch: Any, data: Any) -> None:
        await ask.make(MAPS, config_map("p", data={"a": "1"}))
        headers = {"Content-Type": f"application/{kind}"}
        body = json.dumps(patch)
        done = await ask.json("PATCH", f"{MAPS}/p", data=body, headers=headers)
        assert done["data"] == data

    async def test_a_patch_that_makes_a_wrong_type_is_invalid(self, ask: Asker) -> None:
        await ask.make(MAPS, config_map("p"))
        body = '{"metadata":{"labels":"invalid"}}'
        for kind, words in (
            ("strategic-merge-patch+json", "cannot restore map from string"),
            ("merge-patch+json", "cannot unmarshal string into Go struct field"),
        ):
            headers = {"Content-Type": f"application/{kind}"}
            refused = await ask.json("PATCH", f"{MAPS}/p", 422, data=body, headers=headers)
            assert refused["details"]["causes"][0]["field"] == "patch"
            assert words in refused["message"]

    async def test_a_pod_replaced_keeps_what_admission_gave_it(self, ask: Asker) -> None:
        pods = "/api/v1/namespaces/default/pods"
        spec = {"containers": [{"name": "a", "image": "i"}], "automountServiceAccountToken": False}
        made = await ask.make(pods, {"metadata": {"name": "p"}, "spec": spec})
        sent = {
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {**spec, "serviceAccountName": "default"},
        }
        done = await ask.json("PUT", f"{pods}/p", body=sent)
        assert done["metadata"]["labels"] == {"a": "b"}
        for field in ("priority", "preemptionPolicy", "tolerations"):
            assert done["spec"][field] == made["spec"][field]

    async def test_another_cluster_ip_is_refused_before_it_is_looked_for(self, ask: Asker) -> None:
        services = "/api/v1/namespaces/default/services"
        made = await ask.make(
            services, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        )
        made["spec"] |= {"clusterIP": "192.0.2.7", "clusterIPs": ["192.0.2.7"]}
        refused = await ask.json("PUT", f"{services}/s", 422, body=made)
        assert "may not change once set" in refused["message"]

    async def test_an_apply_makes_what_is_not_there(self, ask: Asker) -> None:
        headers = {"Content-Type": "application/apply-patch+yaml"}
        text = yaml.safe_dump(config_map("applied", data={"a": "1"}))
        path = f"{MAPS}/applied?fieldManager=me"
        await ask.json("PATCH", path, 201, data=text, headers=headers)
        again = await ask.json("PATCH", path, 200, data=text, headers=headers)
        assert again["metadata"]["managedFields"][0]["manager"] == "me"
        missing = await ask.json("PATCH", f"{MAPS}/applied", 422, data=text, headers=headers)
        assert "fieldManager: Required value" in missing["message"]

    async def test_unknown_fields_give_a_warning_header(self, ask: Asker) -> None:
        body = config_map("w", dat={"a": "b"}, metadata={"name": "w", "lables": {}})
        async with ask("POST", MAPS, body=body) as response:
            assert response.status == 201
            assert sorted(response.headers.getall("Warning")) == [
                '299 - "unknown field \\"dat\\""',
                '299 - "unknown field \\"metadata.lables\\""',
            ]
        refused = await ask.json("POST", f"{MAPS}?fieldValidation=Strict", 400, body=body)
        assert 'unknown field "dat"' in refused["message"]
        async with ask("POST", f"{MAPS}?fieldValidation=Ignore", body=body) as response:
            assert "Warning" not in response.headers

    async def test_deletes_answer_with_a_status_or_what_is_left(self, ask: Asker) -> None:
        made = await ask.make(MAPS, config_map("d"))
        done = await ask.json("DELETE", f"{MAPS}/d")
        assert (done["kind"], done["status"]) == ("Status", "Success")
        assert done["details"]["uid"] == made["metadata"]["uid"]
        held = config_map("h", metadata={"name": "h", "finalizers": ["example.com/x"]})
        await ask.make(MAPS, held)
        left = await ask.json("DELETE", f"{MAPS}/h", body={"kind": "DeleteOptions"})
        assert left["metadata"]["deletionTimestamp"]

    async def test_delete_options_come_in_the_body_or_the_query(self, ask: Asker) -> None:
        await ask.make(MAPS, config_map("d"))
        wrong = {"kind": "DeleteOptions", "preconditions": {"uid": "other"}}
        await ask.json("DELETE", f"{MAPS}/d", 409, body=wrong)
        await ask.json("DELETE", f"{MAPS}/d?dryRun=All")
        left = await ask.json("DELETE", f"{MAPS}/d?propagationPolicy=Foreground")
        assert left["metadata"]["finalizers"] == ["foregroundDeletion"]

    async def test_a_collection_is_deleted(self, ask: Asker) -> None:
        for name in ("a", "b"):
            await ask.make(MAPS, config_map(name))
        gone = await ask.json("DELETE", MAPS)
        assert [one["metadata"]["name"] for one in gone["items"]] == ["a", "b"]
        assert (await ask.json("GET", MAPS))["items"] == []


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "code", "reason", "message"),
        [
            ("GET", f"{MAPS}/none", 404, "NotFound", 'configmaps "none" not found'),
            (
                "GET",
                "/nothing",
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
            (
                "GET",
                "/apis/apps/v1/nothing",
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
            (
                "PUT",
                MAPS,
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            (
                "POST",
                "/api/v1/configmaps",
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            ("GET", f"{MAPS}?limit=many", 400, "BadRequest", "query parameter limit: 'many' is"),
            ("GET", f"{MAPS}?resourceVersion=x", 400, "BadRequest", "resourceVersion: Invalid"),
            ("GET", f"{MAPS}?watch=perhaps", 400, "BadRequest", "query parameter watch"),
            ("GET", f"{MAPS}?labelSelector=a%20in", 400, "BadRequest", ""),
            ("POST", f"{MAPS}?dryRun=Some", 422, "Invalid", "CreateOptions.meta.k8s.io"),
            (
                "DELETE",
                f"{MAPS}/a?propagationPolicy=x",
                422,
                "Invalid",
                "DeleteOptions.meta.k8s.io",
            ),
            (
                "GET",
                f"{MAPS}?resourceVersionMatch=Exact",
                422,
                "Invalid",
                "ListOptions.meta.k8s.io",
            ),
        ],
    )
    async def test_every_error_is_a_status(
        self, ask: Asker, method: str, path: str, code: int, reason: str, message: str
    ) -> None:
        body = {"body": config_map("x")} if method in ("POST", "PUT") else {}
        status = await ask.json(method, path, code, **body)
        assert (status["kind"], status["status"]) == ("Status", "Failure")
        assert (status["code"], status["reason"]) == (code, reason)
        assert message in status["message"]

    @pytest.mark.parametrize(
        ("content", "kind", "code"),
        [
            (b"{", "application/json", 400),
            (b"[]", "application/json", 400),
            (b"null", "application/json", 400),
            (b'{"metadata":7}', "application/json", 400),
            (b'{"metadata":{"name":7}}', "application/json", 400),
            (b'{"metadata":{"name":"No Good"}}', "application/json", 422),
            (b"{}", "application/json", 422),
            (b"x", "application/xml", 415),
            (b"x" * (4 << 20), "application/json", 413),
        ],
    )
    async def test_bad_bodies(self, ask: Asker, content: bytes, kind: str, code: int) -> None:
        headers = {"Content-Type": kind}
        body = io.BytesIO(content)
        status = await ask.json("POST", MAPS, code, data=body, headers=headers)
        assert status["kind"] == "Status"

    async def test_what_nobody_can_give_is_not_acceptable(self, ask: Asker) -> None:
        await ask.json("GET", MAPS, 406, headers={"Accept": "text/html"})

    async def test_a_fault_of_ours_is_a_500_and_the_server_lives(
        self, ask: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("oops")

        monkeypatch.setattr("meshkube.control.apiserver.rules.defaults", broken)
        status = await ask.json("POST", MAPS, 500, body=config_map("x"))
        assert status["message"] == "Internal error occurred: oops"
        assert "ZeroDivisionError" in caplog.text
        await ask.json("GET", MAPS)


class TestIdentity:
    async def test_without_a_certificate_only_health_and_version_are_open(
        self, served: Served
    ) -> None:
        tls = ssl.create_default_context(cafile=str(served.credentials.ca_file))
        async with asking(served, tls) as ask:
            for path in ("/healthz", "/livez", "/readyz", "/version"):
                async with ask("GET", path) as response:
                    assert response.status == 200
            status = await ask.json("GET", "/api/v1/pods", 403)
            assert status["message"] == (
                'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API '
                'group "" at the cluster scope'
            )
            await ask.json("GET", "/metrics", 403)
            headers = {"Authorization": "Bearer nonsense"}
            status = await ask.json("GET", "/api/v1/pods", 401, headers=headers)
            assert status["reason"] == "Unauthorized"

    async def test_a_certificate_names_the_user(self, served: Served, tmp_path: Path) -> None:
        pki.save(
            pki.issue(served.credentials.ca, "jane", organizations=["team"]), tmp_path / "jane"
        )
        tls = ssl.create_default_context(cafile=str(served.credentials.ca_file))
        tls.load_cert_chain(tmp_path / "jane.crt", tmp_path / "jane.key")
        async with asking(served, tls) as ask:
            status = await ask.json("GET", "/api/v1/pods", 403)
            assert 'User "jane" cannot list' in status["message"]

    async def test_a_certificate_of_another_authority_is_refused(
        self, served: Served, tmp_path: Path
    ) -> None:
        stranger = pki.issue(pki.new_authority("x"), "eve", organizations=["system:masters"])
        pki.save(stranger, tmp_path / "eve")
        tls = ssl.create_default_context(cafile=str(served.credentials.ca_file))
        tls.load_cert_chain(tmp_path / "eve.crt", tmp_path / "eve.key")
        async with asking(served, tls) as ask:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await ask.json("GET", "/api/v1/pods")

    async def test_who_am_i_and_what_may_i(self, ask: Asker) -> None:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await ask.json("POST", path, 201, body=kind)
        assert answer["status"]["userInfo"]["username"] == "meshkube-admin"
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        spec = {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}
        answer = await ask.json("POST", path, 201, body={"spec": spec})
        assert answer["status"]["allowed"] is True


class TestDeprecation:
    @pytest.mark.parametrize("query", ["", "?watch=1&timeoutSeconds=1"])
    async def test_who_reads_a_deprecated_version_is_told(self, ask: Asker, query: str) -> None:
        beta = version("v1beta1", storage=False, deprecated=True)
        await ask.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                       crd(version(), beta))  # fmt: skip
        for name, warned in (("v1beta1", ["299 - \"example.com/v1beta1 Widget is deprecated\""]),
                             ("v1", [])):  # fmt: skip
            path = f"/apis/example.com/{name}/namespaces/default/widgets{query}"
            async with ask("GET", path) as response:
                assert response.status == 200
                assert response.headers.getall("Warning", []) == warned


class TestDiscovery:
    async def test_both_forms_name_the_same_resources(self, ask: Asker) -> None:
        plain = await ask.json("GET", "/apis/apps/v1")
        names = {one["name"] for one in plain["resources"]}
        assert {"deployments", "deployments/scale", "deployments/status"} <= names
        hashes = {one["name"]: one.get("storageVersionHash") for one in plain["resources"]}
        # As a kube-apiserver was seen to answer.
        assert hashes["deployments"] == "8aSe+NMegvE="
        assert hashes["deployments/scale"] is None
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        async with ask("GET", "/apis", headers={"Accept": f"{accept},application/json"}) as got:
            assert got.headers["Content-Type"] == accept
            tag = got.headers["ETag"]
            groups = {one["metadata"]["name"]: one for one in (await got.json())["items"]}
        resources = groups["apps"]["versions"][0]["resources"]
        assert {one["resource"] for one in resources} == {name for name in names if "/" not in name}
        headers = {"Accept": accept, "If-None-Match": tag}
        async with ask("GET", "/apis", headers=headers) as got:
            assert got.status == 304

    async def test_groups_and_versions(self, ask: Asker) -> None:
        assert (await ask.json("GET", "/api"))["versions"] == ["v1"]
        groups = (await ask.json("GET", "/apis"))["groups"]
        assert {"apps", "networking.k8s.io"} <= {one["name"] for one in groups}
        assert (await ask.json("GET", "/apis/apps"))["preferredVersion"]["groupVersion"] == (
            "apps/v1"
        )
        version = await ask.json("GET", "/version")
        assert (version["major"], version["gitVersion"]) == ("1", "v1.33.0+meshkube")

    async def test_schemas_are_cached_by_their_hash(self, ask: Asker) -> None:
        index = (await ask.json("GET", "/openapi/v3"))["paths"]
        address = index["apis/apps/v1"]["serverRelativeURL"]
        async with ask("GET", address) as response:
            assert "immutable" in response.headers["Cache-Control"]
            assert "components" in await response.json()
            tag = response.headers["ETag"]
        async with ask("GET", address, headers={"If-None-Match": tag}) as response:
            assert response.status == 304
        await ask.json("GET", "/openapi/v3/apis/none/v1", 404)
        assert "definitions" in await ask.json("GET", "/openapi/v2")

    async def test_metrics_count_requests(self, ask: Asker) -> None:
        await ask.json("GET", MAPS)
        async with ask("GET", "/metrics") as response:
            text = await response.text()
        wanted = 'meshkube_api_requests_total{code="200",resource="configmaps",verb="list"}'
        assert wanted in text
        assert 'meshkube_api_objects{resource="namespaces"}' in text
        assert "meshkube_api_request_duration_seconds_bucket" in text


class TestHealth:
    async def test_readyz_says_which_part_is_not_ready(self, tmp_path: Path) -> None:
        parts = {"node": Health(True, 0, "ok"), "dns": Health(False, 2, "address in use")}
        server = {"health": lambda: parts}
        async with serving_api(tmp_path, server=server) as served, asking(served) as ask:
            async with ask("GET", "/readyz?verbose") as response:
                assert response.status == 500
                assert (await response.text()).splitlines() == [
                    "[+]ping ok",
                    "[+]node ok",
                    "[-]dns failed: address in use",
                    "[+]store ok",
                    "readyz check failed",
                ]
            async with ask("GET", "/readyz?exclude=dns") as response:
                assert (response.status, await response.text()) == (200, "ok")
            async with ask("GET", "/readyz/node") as response:
                assert response.status == 200
            async with ask("GET", "/livez?verbose") as response:
                assert (await response.text()).endswith("livez check passed\n")
            parts["dns"] = Health(True, 2, "ok")
            async with ask("GET", "/readyz") as response:
                assert response.status == 200

    async def test_each_check_is_a_metric_and_is_counted(self, tmp_path: Path) -> None:
        parts = {"dns": Health(False, 2, "address in use")}
        server = {"health": lambda: parts}
        async with serving_api(tmp_path, server=server) as served, asking(served) as ask:
            for ready in (False, True):
                parts["dns"] = Health(ready, 2, "")
                async with ask("GET", "/metrics/slis") as response:
                    said = (await response.text()).splitlines()
        assert 'kubernetes_healthcheck{name="dns",type="readyz"} 1.0' in said
        for name, status, count in (
            ("dns", "error", 1),
            ("dns", "success", 1),
            ("ping", "success", 2),
        ):
            labels = f'name="{name}",status="{status}",type="readyz"'
            assert f"kubernetes_healthchecks_total{{{labels}}} {count}.0" in said


async def lines(response: aiohttp.ClientResponse, count: int) -> list[Any]:
    """The next events of a watch."""
    async with asyncio.timeout(20):
        return [json.loads(await response.content.readline()) for _ in range(count)]


class TestWatching:
    async def test_events_come_as_lines(self, ask: Asker) -> None:
        version = (await ask.json("GET", MAPS))["metadata"]["resourceVersion"]
        async with ask("GET", f"{MAPS}?watch=1&resourceVersion={version}") as watch:
            made = await ask.make(MAPS, config_map("a"))
            await ask.json("DELETE", f"{MAPS}/a")
            added, deleted = await lines(watch, 2)
        assert added == {"type": "ADDED", "object": made}
        assert deleted["type"] == "DELETED"
        assert int(deleted["object"]["metadata"]["resourceVersion"]) > int(
            made["metadata"]["resourceVersion"]
        )

    async def test_a_watch_of_one_name(self, ask: Asker) -> None:
        path = f"{MAPS}?watch=true&fieldSelector=metadata.name%3Db"
        async with ask("GET", path) as watch:
            for name in ("a", "b"):
                await ask.make(MAPS, config_map(name))
            (event,) = await lines(watch, 1)
        assert event["object"]["metadata"]["name"] == "b"

    async def test_it_ends_when_its_time_is_over(self, ask: Asker) -> None:
        async with ask("GET", f"{MAPS}?watch=1&timeoutSeconds=1") as watch:
            assert await watch.read() == b""

    async def test_a_version_too_old_is_an_error_event(self, served: Served, ask: Asker) -> None:
        served.registry.feed.cache(_kind("configmaps"))._floor = 50
        async with ask("GET", f"{MAPS}?watch=1&resourceVersion=2") as watch:
            assert watch.status == 200
            event = json.loads(await watch.read())
        assert event["type"] == "ERROR"
        assert event["object"]["code"] == 410
        assert event["object"]["message"] == "too old resource version: 2 (50)"

    async def test_bookmarks_say_how_far_it_is(
        self, ask: Asker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshkube.control.apiserver.streams.BOOKMARK_SECONDS", 0.05)
        version = (await ask.json("GET", MAPS))["metadata"]["resourceVersion"]
        path = f"{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={version}"
        async with ask("GET", path) as watch:
            (event,) = await lines(watch, 1)
        assert event["type"] == "BOOKMARK"
        assert event["object"]["kind"] == "ConfigMap"
        assert int(event["object"]["metadata"]["resourceVersion"]) >= int(version)

    async def test_a_stream_can_start_with_the_list(self, ask: Asker) -> None:
        await ask.make(MAPS, config_map("a"))
        path = (
            f"{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
            "&allowWatchBookmarks=true"
        )
        async with ask("GET", path) as watch:
            added, bookmark = await lines(watch, 2)
            await ask.make(MAPS, config_map("b"))
            (later,) = await lines(watch, 1)
        assert added["object"]["metadata"]["name"] == "a"
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["metadata"]["annotations"] == {
            "k8s.io/initial-events-end": "true"
        }
        assert later["object"]["metadata"]["name"] == "b"
        await ask.json("GET", f"{MAPS}?watch=1&sendInitialEvents=true", 422)
        without = path.replace("sendInitialEvents=true", "sendInitialEvents=false")
        async with ask("GET", without) as watch:
            await ask.make(MAPS, config_map("c"))
            (only,) = await lines(watch, 1)
        assert only["object"]["metadata"]["name"] == "c"

    async def test_rows_of_a_table_as_they_come(self, ask: Asker) -> None:
        headers = {"Accept": TABLE}
        async with ask("GET", f"{MAPS}?watch=1", headers=headers) as watch:
            for name in ("a", "b"):
                await ask.make(MAPS, config_map(name))
            first, second = await lines(watch, 2)
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"][0]["name"] == "Name"
        assert not second["object"]["columnDefinitions"]
        assert second["object"]["rows"][0]["cells"][0] == "b"

    async def test_a_client_that_goes_leaves_no_watcher(self, served: Served, ask: Asker) -> None:
        cache = served.registry.feed.cache(_kind("configmaps"))
        before = len(cache.watchers)
        async with ask("GET", f"{MAPS}?watch=1") as watch:
            await ask.make(MAPS, config_map("a"))
            await lines(watch, 1)
            assert len(cache.watchers) == before + 1
        async with asyncio.timeout(10):
            while len(cache.watchers) > before:
                await asyncio.sleep(0.01)

    async def test_stopping_the_server_ends_watches_cleanly(self, tmp_path: Path) -> None:
        async with contextlib.AsyncExitStack() as clients:
            async with serving_api(tmp_path) as served:
                ask = await clients.enter_async_context(asking(served))
                watch = await clients.enter_async_context(ask("GET", f"{MAPS}?watch=1"))
            assert await watch.read() == b""


def _kind(plural: str) -> Any:
    from meshkube.api.kinds import by_plural

    return by_plural("", "v1", plural)
