"""What the API does with objects, over a real store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from meshkube.store.sqlite import SqliteStore
from tests.support.api import running_registry


@pytest.fixture
def client(registry: Registry) -> LocalClient:
    return LocalClient(registry)


def config_map(name: str, namespace: str = "default", **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, **more}


def pod(name: str = "p", **spec: Any) -> Object:
    containers = [{"name": "c", "image": "busybox"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": containers, **spec},
    }


def deployment(name: str = "web", replicas: int = 2) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


class TestCreate:
    async def test_the_server_sets_what_is_its_own(self, client: LocalClient) -> None:
        asked = pod()
        asked["metadata"] |= {
            "uid": "mine",
            "generation": 9,
            "creationTimestamp": "2020-01-01T00:00:00Z",
        }
        asked["status"] = {"phase": "Running"}
        made = await client.create(kinds.POD, asked)
        assert made["metadata"]["uid"] != "mine"
        assert made["metadata"]["generation"] == 1
        assert made["status"]["phase"] == "Pending"
        assert made["spec"]["serviceAccountName"] == "default"
        assert asked["metadata"]["uid"] == "mine", "the caller's object is not touched"

    async def test_a_generated_name_is_new_each_time(self, client: LocalClient) -> None:
        asked = {"metadata": {"generateName": "x-", "namespace": "default"}}
        names = {meta.name(await client.create(kinds.CONFIG_MAP, asked)) for _ in range(20)}
        assert len(names) == 20
        assert all(name.startswith("x-") and len(name) == 7 for name in names)

    async def test_the_revision_zero_is_none(self, client: LocalClient) -> None:
        asked = config_map("a")
        asked["metadata"]["resourceVersion"] = "0"
        made = await client.create(kinds.CONFIG_MAP, asked)
        for data in ({"k": "1"}, {"k": "2"}):
            changed = await client.update(kinds.CONFIG_MAP, {**asked, "data": data})
            assert changed["data"] == data
            assert int(meta.resource_version(changed)) > int(meta.resource_version(made))

    async def test_names_are_taken_once(self, client: LocalClient) -> None:
        await client.create(kinds.CONFIG_MAP, config_map("a"))
        with pytest.raises(ApiError) as error:
            await client.create(kinds.CONFIG_MAP, config_map("a"))
        assert error.value.reason == "AlreadyExists"

    @pytest.mark.parametrize(
        ("kind", "obj", "code", "message"),
        [
            (kinds.CONFIG_MAP, config_map("a", "nowhere"), 404, 'namespaces "nowhere" not found'),
            (
                kinds.CONFIG_MAP,
                {**config_map("a"), "kind": "Secret"},
                400,
                'Secret in version "v1" cannot be handled as a ConfigMap: the kind in the data '
                "does not match the expected kind (ConfigMap)",
            ),
            (
                kinds.CONFIG_MAP,
                {**config_map("a"), "apiVersion": "v2"},
                400,
                "the API version in the data (v2) does not match the expected API version (v1)",
            ),
            (
                kinds.CONFIG_MAP,
                {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "1"}},
                400,
                "resourceVersion should not be set on objects to be created",
            ),
            (
                kinds.POD,
                pod(serviceAccountName="robot"),
                403,
                'pods "p" is forbidden: error looking up service account default/robot: '
                'serviceaccount "robot" not found',
            ),
            (
                kinds.DEPLOYMENT,
                {**deployment(), "spec": {**deployment()["spec"], "replicas": "two"}},
                400,
                'Deployment in version "v1" cannot be handled as a Deployment: json: cannot '
                "unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
        ],
    )
    async def test_what_is_wrong_is_refused(
        self, client: LocalClient, kind: Kind, obj: Object, code: int, message: str
    ) -> None:
        with pytest.raises(ApiError) as error:
            await client.create(kind, obj)
        assert (error.value.code, error.value.message) == (code, message)

    @pytest.mark.parametrize("name", ["", "a/b", "..", "50%"])
    async def test_a_name_is_one_part_of_a_path(self, client: LocalClient, name: str) -> None:
        event = {
            "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"namespace": "default"},
        }
        with pytest.raises(ApiError) as error:
            await client.create(kinds.EVENT, event)
        assert error.value.code == 422
        assert "metadata.name" in error.value.message

    async def test_a_dry_run_stores_and_takes_nothing(self, registry: Registry) -> None:
        options = WriteOptions(dry_run=True)
        before = registry.feed.revision
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        made = await registry.create(kinds.SERVICE, service, "default", options)
        address = made.object["spec"]["clusterIP"]
        assert address
        assert registry.services.owner(address) == ""
        assert registry.feed.revision == before

    async def test_a_dry_run_may_name_a_revision_and_what_is_invalid_is_told_first(
        self, registry: Registry
    ) -> None:
        versioned = {"name": "a", "namespace": "default", "resourceVersion": "1"}
        options = WriteOptions(dry_run=True)
        await registry.create(kinds.CONFIG_MAP, {"metadata": versioned}, "default", options)
        service = {"metadata": versioned, "spec": {"ports": []}}
        with pytest.raises(ApiError) as error:
            await registry.create(kinds.SERVICE, service, "default", WriteOptions())
        assert error.value.code == 422

    async def test_unknown_fields_are_told_of_or_refused(self, registry: Registry) -> None:
        options = WriteOptions(field_validation="Warn")
        made = await registry.create(
            kinds.CONFIG_MAP, config_map("a", dat={"a": "b"}), "default", options
        )
        assert options.warnings == ['unknown field "dat"']
        assert "dat" not in made.object
        with pytest.raises(ApiError, match='strict decoding error: unknown field "dat"'):
            await registry.create(
                kinds.CONFIG_MAP,
                config_map("b", dat={}),
                "default",
                WriteOptions(field_validation="Strict"),
            )

    async def test_an_ingress_gets_the_default_class(self, client: LocalClient) -> None:
        backend = {"service": {"name": "web", "port": {"number": 80}}}
        ingress = {
            "metadata": {"name": "i", "namespace": "default"},
            "spec": {"defaultBackend": backend},
        }
        made = await client.create(kinds.INGRESS, ingress)
        assert made["spec"]["ingressClassName"] == "meshkube"


class TestUpdate:
    async def test_generation_counts_what_is_wanted(self, client: LocalClient) -> None:
        made = await client.create(kinds.DEPLOYMENT, deployment())
        labelled = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
        one = await client.update(kinds.DEPLOYMENT, labelled)
        assert meta.generation(one) == 1
        two = await client.update(kinds.DEPLOYMENT, {**one, "spec": {**one["spec"], "replicas": 5}})
        assert meta.generation(two) == 2

    async def test_what_a_status_leaves_out_gets_its_default(self, client: LocalClient) -> None:
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "loadBalancerClass": "a.b/c"}
        metadata = {"name": "web", "namespace": "default"}
        await client.create(kinds.SERVICE, {"metadata": metadata, "spec": spec})
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}
        made = await client.patch(kinds.SERVICE, "web", status, "default", subresource="status")
        ingress = [{"ip": "203.0.113.1", "ipMode": "VIP"}]
        assert made["status"] == {"loadBalancer": {"ingress": ingress}}

    async def test_spec_and_status_are_written_apart(self, client: LocalClient) -> None:
        made = await client.create(kinds.DEPLOYMENT, deployment())
        both = {**made, "status": {"replicas": 7}, "spec": {**made["spec"], "replicas": 4}}
        spec = await client.update(kinds.DEPLOYMENT, both)
        assert (spec["spec"]["replicas"], spec["status"].get("replicas")) == (4, None)
        both = {**spec, "status": {"replicas": 7}, "spec": {**made["spec"], "replicas": 9}}
        status = await client.update(kinds.DEPLOYMENT, both, subresource="status")
        assert (status["spec"]["replicas"], status["status"]["replicas"]) == (4, 7)
        assert meta.generation(status) == meta.generation(spec)

    async def test_an_update_that_changes_nothing_writes_nothing(self, client: LocalClient) -> None:
        made = await client.create(kinds.CONFIG_MAP, config_map("a", data={"a": "b"}))
        again = await client.update(kinds.CONFIG_MAP, meta.copy(made))
        assert meta.resource_version(again) == meta.resource_version(made)

    async def test_without_a_resource_version_the_last_writer_wins(
        self, client: LocalClient
    ) -> None:
        await client.create(kinds.CONFIG_MAP, config_map("a", data={"n": "0"}))
        updates = (config_map("a", data={"n": str(n)}) for n in range(1, 20))
        await asyncio.gather(*(client.update(kinds.CONFIG_MAP, one) for one in updates))
        found = await client.get(kinds.CONFIG_MAP, "a", "default")
        assert found["data"]["n"] != "0"

    async def test_of_writers_of_one_version_one_wins(self, client: LocalClient) -> None:
        made = await client.create(kinds.CONFIG_MAP, config_map("a"))
        results = await asyncio.gather(
            *(client.update(kinds.CONFIG_MAP, {**made, "data": {"n": str(n)}}) for n in range(10)),
            return_exceptions=True,
        )
        failed = [one for one in results if isinstance(one, ApiError)]
        assert len(failed) == 9
        assert {one.reason for one in failed} == {"Conflict"}

    async def test_patches_are_tried_again_and_none_is_lost(self, client: LocalClient) -> None:
        await client.create(kinds.CONFIG_MAP, config_map("a"))
        patches = ({"data": {f"k{n}": "x"}} for n in range(20))
        await asyncio.gather(
            *(client.patch(kinds.CONFIG_MAP, "a", one, "default") for one in patches)
        )
        found = await client.get(kinds.CONFIG_MAP, "a", "default")
        assert len(found["data"]) == 20

    async def test_identity_cannot_change(self, client: LocalClient) -> None:
        made = await client.create(kinds.CONFIG_MAP, config_map("a"))
        other = {**made, "metadata": {**made["metadata"], "uid": "other"}}
        with pytest.raises(ApiError) as error:
            await client.update(kinds.CONFIG_MAP, other)
        assert error.value.reason == "Conflict"
        fresh = {
            **made,
            "metadata": {**made["metadata"], "creationTimestamp": "2020-01-01T00:00:00Z"},
        }
        kept = await client.update(kinds.CONFIG_MAP, fresh)
        assert kept["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]

    async def test_a_put_does_not_create(self, client: LocalClient) -> None:
        with pytest.raises(ApiError) as error:
            await client.update(kinds.CONFIG_MAP, config_map("a"))
        assert error.value.code == 404


class TestSubresources:
    async def test_scale_shows_and_sets_replicas(
        self, registry: Registry, client: LocalClient
    ) -> None:
        await client.create(kinds.DEPLOYMENT, deployment())
        shown = (await registry.get(kinds.DEPLOYMENT, "web", "default", "scale")).object
        assert shown["kind"] == "Scale"
        assert shown["spec"] == {"replicas": 2}
        assert shown["status"] == {"replicas": 0, "selector": "app=web"}
        shown["spec"]["replicas"] = 6
        done = await client.update(kinds.DEPLOYMENT, shown, subresource="scale")
        assert done["spec"]["replicas"] == 6
        patch = {"spec": {"replicas": 3}}
        await client.patch(kinds.DEPLOYMENT, "web", patch, "default", subresource="scale")
        assert (await client.get(kinds.DEPLOYMENT, "web", "default"))["spec"]["replicas"] == 3
        with pytest.raises(ApiError) as error:
            await client.update(
                kinds.DEPLOYMENT, {**done, "spec": {"replicas": -1}}, subresource="scale"
            )
        assert error.value.code in (409, 422)

    async def test_a_pod_is_bound_once(self, client: LocalClient) -> None:
        await client.create(kinds.POD, pod())
        binding = {"metadata": {"name": "p", "namespace": "default"}, "target": {"name": "n1"}}
        await client.create(kinds.POD, binding, subresource="binding")
        bound = await client.get(kinds.POD, "p", "default")
        assert bound["spec"]["nodeName"] == "n1"
        assert bound["metadata"]["generation"] == 1
        condition = bound["status"]["conditions"][0]
        assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
        with pytest.raises(ApiError) as error:
            await client.create(kinds.POD, binding, subresource="binding")
        assert error.value.code == 409
        assert 'already assigned to node "n1"' in error.value.message

    async def test_eviction_deletes(self, client: LocalClient) -> None:
        await client.create(kinds.POD, pod())
        eviction = {"metadata": {"name": "p", "namespace": "default"}}
        await client.create(kinds.POD, eviction, subresource="eviction")
        with pytest.raises(ApiError):
            await client.get(kinds.POD, "p", "default")

    async def test_events_are_one_thing_in_two_groups(self, client: LocalClient) -> None:
        core = {
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "message": "hello",
            "reason": "Said",
            "type": "Normal",
            "source": {"component": "test"},
        }
        await client.create(kinds.EVENT, core)
        newer = await client.get(kinds.EVENTS_EVENT, "e", "default")
        assert newer["apiVersion"] == "events.k8s.io/v1"
        assert (newer["note"], newer["regarding"]["name"]) == ("hello", "p")
        watch = client.watch(kinds.EVENTS_EVENT, "default")
        event = await anext(watch)
        await watch.aclose()  # type: ignore[attr-defined]
        assert (event.type, event.object["note"]) == ("ADDED", "hello")
        for kind, field in ((kinds.EVENT, "involvedObject"), (kinds.EVENTS_EVENT, "regarding")):
            for name, count in (("p", 1), ("q", 0)):
                found = await client.list(kind, "default", fields=f"{field}.name={name}")
                assert len(found.items) == count


class TestDelete:
    async def test_a_namespace_ends_in_two_steps(self, client: LocalClient) -> None:
        await client.create(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
        await client.delete(kinds.NAMESPACE, "shop")
        ending = await client.get(kinds.NAMESPACE, "shop")
        assert ending["status"]["phase"] == "Terminating"
        with pytest.raises(ApiError) as error:
            await client.create(kinds.CONFIG_MAP, config_map("a", "shop"))
        assert error.value.code == 403
        assert error.value.message == (
            'configmaps "a" is forbidden: unable to create new content in namespace shop because '
            "it is being terminated"
        )
        assert error.value.details["causes"][0]["reason"] == "NamespaceTerminating"
        done = {**ending, "spec": {"finalizers": []}}
        await client.update(kinds.NAMESPACE, done, subresource="finalize")
        with pytest.raises(ApiError) as error:
            await client.get(kinds.NAMESPACE, "shop")
        assert error.value.code == 404

    @pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
    async def test_a_cluster_keeps_its_own_namespaces(self, client: LocalClient, name: str) -> None:
        with pytest.raises(ApiError) as error:
            await client.delete(kinds.NAMESPACE, name)
        assert error.value.message == (
            f'namespaces "{name}" is forbidden: this namespace may not be deleted'
        )

    async def test_the_last_finalizer_gone_the_object_goes(self, client: LocalClient) -> None:
        held = config_map("a")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await client.create(kinds.CONFIG_MAP, held)
        await client.delete(kinds.CONFIG_MAP, "a", "default")
        assert meta.deleting(await client.get(kinds.CONFIG_MAP, "a", "default"))
        patch = {"metadata": {"finalizers": None}}
        await client.patch(kinds.CONFIG_MAP, "a", patch, "default")
        with pytest.raises(ApiError):
            await client.get(kinds.CONFIG_MAP, "a", "default")

    async def test_an_address_is_free_once_its_service_is_gone(
        self, registry: Registry, client: LocalClient
    ) -> None:
        service = {
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"clusterIP": "10.43.7.7", "ports": [{"port": 80}]},
        }
        await client.create(kinds.SERVICE, service)
        other = meta.copy(service)
        other["metadata"]["name"] = "t"
        with pytest.raises(ApiError, match="provided IP is already allocated"):
            await client.create(kinds.SERVICE, other)
        await client.delete(kinds.SERVICE, "s", "default")
        made = await client.create(kinds.SERVICE, other)
        assert made["spec"]["clusterIP"] == "10.43.7.7"
        assert registry.services.owner("10.43.7.7") == "default/t"

    async def test_a_service_goes_through_all_its_types(
        self, registry: Registry, client: LocalClient
    ) -> None:
        service = {
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"ports": [{"port": 80}], "type": "NodePort"},
        }
        made = await client.create(kinds.SERVICE, service)
        address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]

        async def change(**spec: Any) -> Object:
            done = await client.patch(kinds.SERVICE, "s", {"spec": spec}, "default")
            found: Object = done["spec"]
            return found

        local = await change(type="LoadBalancer", externalTrafficPolicy="Local")
        assert local["ports"][0]["nodePort"] == port
        assert registry.services.owner(local["healthCheckNodePort"]) == "default/s"
        plain = await change(type="ClusterIP")
        assert "nodePort" not in plain["ports"][0]
        assert plain["clusterIP"] == address
        assert (
            registry.services.owner(port)
            == registry.services.owner(local["healthCheckNodePort"])
            == ""
        )
        external = await change(type="ExternalName", externalName="a.example", clusterIP="")
        assert not {"clusterIP", "clusterIPs", "ipFamilies"} & set(external)
        assert registry.services.owner(address) == ""
        again = await change(type="ClusterIP", externalName=None)
        assert registry.services.owner(again["clusterIP"]) == "default/s"
        with pytest.raises(ApiError, match="may not change once set"):
            await change(clusterIP="10.43.250.250")
        assert registry.services.owner("10.43.250.250") == ""

    async def test_of_those_who_ask_at_once_each_gets_its_own(
        self, registry: Registry, client: LocalClient
    ) -> None:
        def service(name: str, **spec: Any) -> Object:
            spec = {"ports": [{"port": 80}], "type": "NodePort", **spec}
            return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}

        made = await asyncio.gather(
            *(client.create(kinds.SERVICE, service(f"s{n}")) for n in range(30))
        )
        assert len({one["spec"]["clusterIP"] for one in made}) == 30
        assert len({one["spec"]["ports"][0]["nodePort"] for one in made}) == 30
        # Of the lower band, which those who name no address are not given.
        results = await asyncio.gather(
            *(
                client.create(kinds.SERVICE, service(f"t{n}", clusterIP="10.43.0.55"))
                for n in range(5)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(one, ApiError) for one in results) == 4, results
        (winner,) = (one for one in results if not isinstance(one, BaseException))
        assert registry.services.owner("10.43.0.55") == f"default/{winner['metadata']['name']}"

    async def test_a_collection_goes_by_selector(
        self, registry: Registry, client: LocalClient
    ) -> None:
        for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
            one = config_map(name)
            one["metadata"]["labels"] = {"app": app}
            await client.create(kinds.CONFIG_MAP, one)
        query = Query(kinds.CONFIG_MAP, "default", labels="app=x")
        gone = await registry.delete_collection(query, DeleteOptions())
        assert len(gone.items) == 2
        left = await client.list(kinds.CONFIG_MAP, "default")
        assert [meta.name(one) for one in left.items] == ["b"]


class TestLists:
    async def test_pages_are_of_one_moment(self, client: LocalClient) -> None:
        for name in "abcde":
            await client.create(kinds.CONFIG_MAP, config_map(name))
        first = await client.list(kinds.CONFIG_MAP, "default", limit=2)
        await client.delete(kinds.CONFIG_MAP, "d", "default")
        await client.create(kinds.CONFIG_MAP, config_map("cc"))
        names, page = [meta.name(one) for one in first.items], first
        while page.continue_token:
            page = await client.list(
                kinds.CONFIG_MAP, "default", limit=2, continue_token=page.continue_token
            )
            assert page.resource_version == first.resource_version
            names += [meta.name(one) for one in page.items]
        assert names == list("abcde")

    async def test_pages_with_a_selector_are_full(self, client: LocalClient) -> None:
        for number in range(9):
            one = config_map(f"c{number}")
            one["metadata"]["labels"] = {"odd": str(number % 2)}
            await client.create(kinds.CONFIG_MAP, one)
        names: list[str] = []
        token = ""
        while True:
            page = await client.list(
                kinds.CONFIG_MAP, "default", labels="odd=1", limit=2, continue_token=token
            )
            names += [meta.name(one) for one in page.items]
            token = page.continue_token
            if not token:
                break
            assert len(page.items) == 2
        assert names == ["c1", "c3", "c5", "c7"]

    async def test_remaining_items_are_counted(self, registry: Registry) -> None:
        listing = await registry.list(Query(kinds.NAMESPACE, limit=1))
        assert listing.remaining == 3
        listing = await registry.list(
            Query(kinds.NAMESPACE, limit=1, continue_token=listing.continue_token)
        )
        assert listing.remaining == 2

    async def test_the_past_can_be_listed(self, registry: Registry, client: LocalClient) -> None:
        made = await client.create(kinds.CONFIG_MAP, config_map("a", data={"n": "1"}))
        await client.update(kinds.CONFIG_MAP, {**made, "data": {"n": "2"}})
        query = Query(
            kinds.CONFIG_MAP,
            "default",
            resource_version=meta.resource_version(made),
            match="Exact",
        )
        listing = await registry.list(query)
        assert [item.object["data"]["n"] for item in listing.items] == ["1"]

    async def test_a_version_from_the_future_times_out(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshkube.control.apiserver.feed.PATIENCE", 0.05)
        with pytest.raises(ApiError) as error:
            await registry.list(Query(kinds.CONFIG_MAP, resource_version="999999"))
        assert error.value.code == 504
        assert error.value.message.startswith("Timeout: Too large resource version: 999999")

    @pytest.mark.parametrize(
        "query",
        [
            Query(kinds.CONFIG_MAP, continue_token="nonsense"),
            Query(kinds.CONFIG_MAP, continue_token="e30"),
            Query(kinds.CONFIG_MAP, resource_version="abc"),
            Query(kinds.CONFIG_MAP, labels="a in"),
            Query(kinds.POD, fields="spec.nothing=x"),
        ],
    )
    async def test_what_cannot_be_read_is_a_bad_request(
        self, registry: Registry, query: Query
    ) -> None:
        with pytest.raises(ApiError) as error:
            await registry.list(query)
        assert error.value.code == 400

    async def test_a_page_of_a_forgotten_moment_says_how_to_go_on(self, tmp_path: Path) -> None:
        async with running_registry(tmp_path) as registry:
            client = LocalClient(registry)
            for name in "abc":
                await client.create(kinds.CONFIG_MAP, config_map(name))
            first = await client.list(kinds.CONFIG_MAP, "default", limit=1)
            await client.create(kinds.CONFIG_MAP, config_map("bb"))
            await registry._reader._store.compact(registry.feed.revision)
            query = Query(kinds.CONFIG_MAP, "default", limit=9, continue_token=first.continue_token)
            with pytest.raises(ApiError) as error:
                await registry.list(query)
            assert (error.value.code, error.value.reason) == (410, "Expired")
            token = error.value.continue_token
            second = await client.list(kinds.CONFIG_MAP, "default", limit=2, continue_token=token)
            assert [meta.name(one) for one in second.items] == ["b", "bb"]
            await client.create(kinds.CONFIG_MAP, config_map("d"))
            third = await client.list(
                kinds.CONFIG_MAP, "default", continue_token=second.continue_token
            )
            assert [meta.name(one) for one in third.items] == ["c"], "of one moment from there on"


class TestWatch:
    async def test_it_starts_with_what_is_there_or_after_a_version(
        self, client: LocalClient
    ) -> None:
        made = await client.create(kinds.CONFIG_MAP, config_map("a"))
        await client.create(kinds.CONFIG_MAP, config_map("b"))
        for version, names in (("", ["a", "b"]), (meta.resource_version(made), ["b"])):
            watch = client.watch(kinds.CONFIG_MAP, "default", resource_version=version)
            found = [meta.name((await anext(watch)).object) for _ in names]
            await watch.aclose()  # type: ignore[attr-defined]
            assert found == names

    async def test_versions_before_a_restart_are_too_old(self, tmp_path: Path) -> None:
        async with running_registry(tmp_path) as registry:
            made = await LocalClient(registry).create(kinds.CONFIG_MAP, config_map("a"))
        async with running_registry(tmp_path) as registry:
            client = LocalClient(registry)
            await client.create(kinds.CONFIG_MAP, config_map("b"))
            old = str(int(meta.resource_version(made)) - 1)
            with pytest.raises(ApiError) as error:
                await anext(client.watch(kinds.CONFIG_MAP, resource_version=old))
            assert error.value.code == 410

    async def test_a_watcher_that_falls_behind_is_cut_off(
        self, client: LocalClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshkube.control.apiserver.watching.BACKLOG", 3)
        start = str(registry.feed.revision)
        watcher = await registry.watch(Query(kinds.CONFIG_MAP, resource_version=start))
        for name in "abcde":
            await client.create(kinds.CONFIG_MAP, config_map(name))
        assert watcher.ended
        assert len(await watcher.take()) == 4, "what it has yet to see, in order and without gaps"
        assert await watcher.take() == []

    async def test_closing_a_watch_leaves_nothing_behind(
        self, client: LocalClient, registry: Registry
    ) -> None:
        cache = registry.feed.cache(kinds.NAMESPACE)
        before = len(cache.watchers)
        watch = client.watch(kinds.NAMESPACE)
        await anext(watch)
        assert len(cache.watchers) == before + 1
        await watch.aclose()  # type: ignore[attr-defined]
        assert len(cache.watchers) == before


class TestApply:
    async def test_an_apply_makes_and_then_owns_its_fields(self, client: LocalClient) -> None:
        one = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "2"}}

        async def apply(data: dict[str, str], manager: str, force: bool = False) -> Object:
            config = {**one, "metadata": {"name": "c"}, "data": data}
            return await client.patch(
                kinds.CONFIG_MAP,
                "c",
                config,
                "default",
                type="apply",
                field_manager=manager,
                force=force,
            )

        made = await apply({"a": "1", "b": "2"}, "me")
        assert made["metadata"]["managedFields"][0]["operation"] == "Apply"
        same = await apply({"a": "1", "b": "2"}, "me")
        assert meta.resource_version(same) == meta.resource_version(made)
        less = await apply({"a": "1"}, "me")
        assert less["data"] == {"a": "1"}
        with pytest.raises(ApiError) as error:
            await apply({"a": "9"}, "you")
        assert error.value.code == 409
        taken = await apply({"a": "9"}, "you", force=True)
        assert taken["data"] == {"a": "9"}


async def test_the_part_fails_loudly_when_the_store_is_lost(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    from meshkube.clock import SystemClock

    registry = Registry(store=store, clock=SystemClock())
    ready = asyncio.Event()
    task = asyncio.create_task(registry.run(ready.set))
    await ready.wait()
    watcher = await registry.watch(Query(kinds.NAMESPACE, resource_version="1"))
    await store.aclose()
    with pytest.raises(BaseExceptionGroup):
        await task
    assert watcher.ended
    with pytest.raises(ApiError) as error:
        await registry.create(kinds.CONFIG_MAP, config_map("a"), "default", WriteOptions())
    assert error.value.code == 503
