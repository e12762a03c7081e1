"""The official Python client's CustomObjectsApi against the cluster of KUBECONFIG."""

from __future__ import annotations

from kubernetes import client, config, watch

PLACE = ("example.com", "v1", "default", "widgets")


def widget(name: str) -> dict:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": name, "labels": {"made-by": "python"}},
        "spec": {"size": 2},
    }


def main() -> None:
    config.load_kube_config()
    api = client.CustomObjectsApi()
    made = api.create_namespaced_custom_object(*PLACE, widget("py"))
    assert made["spec"]["color"] == "red"
    assert api.get_namespaced_custom_object(*PLACE, "py")["spec"]["size"] == 2
    patched = api.patch_namespaced_custom_object(*PLACE, "py", {"spec": {"size": 4}})
    assert patched["spec"]["size"] == 4
    patched["spec"]["size"] = 5
    assert api.replace_namespaced_custom_object(*PLACE, "py", patched)["spec"]["size"] == 5
    status = {"status": {"phase": "Good", "replicas": 1, "selector": "a=b"}}
    api.patch_namespaced_custom_object_status(*PLACE, "py", status)
    scale = api.get_namespaced_custom_object_scale(*PLACE, "py")
    assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (1, "a=b")
    api.patch_namespaced_custom_object_scale(*PLACE, "py", {"spec": {"replicas": 3}})
    listed = api.list_namespaced_custom_object(*PLACE, label_selector="made-by=python")
    assert [one["metadata"]["name"] for one in listed["items"]] == ["py"]
    assert listed["items"][0]["spec"]["replicas"] == 3
    assert api.list_cluster_custom_object("example.com", "v1", "widgets")["items"]
    stream = watch.Watch().stream(
        api.list_namespaced_custom_object, *PLACE, timeout_seconds=5, resource_version="0"
    )
    event = next(event for event in stream if event["object"]["metadata"]["name"] == "py")
    assert event["type"] == "ADDED"
    api.delete_namespaced_custom_object(*PLACE, "py")
    definitions = client.ApiextensionsV1Api().list_custom_resource_definition().items
    assert "widgets.example.com" in [one.metadata.name for one in definitions]
    print("done")  # noqa: T201


if __name__ == "__main__":
    main()
