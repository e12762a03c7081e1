"""Unmodified kubectl with kinds of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import kubectl as tool
from tests.support.api import Served
from tests.support.custom import WIDGET_SPEC, WIDGET_STATUS, crd, version, widget
from tests.support.kubectl import Kubectl

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(bool(tool.why_not()), reason=tool.why_not()),
]

COLUMNS = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How big."},
    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
    {"name": "Note", "type": "string", "jsonPath": ".spec.note", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def definition() -> dict:
    spec = {**WIDGET_SPEC, "description": "What is wanted of a widget."}
    schema = {
        "type": "object",
        "description": "A widget for tests.",
        "properties": {"spec": spec, "status": WIDGET_STATUS},
    }
    made = crd(shortNames=["wd"], categories=["all", "toys"])
    made["spec"]["versions"] = [
        version(
            schema=schema,
            additionalPrinterColumns=COLUMNS,
            selectableFields=[{"jsonPath": ".spec.color"}],
            subresources=made["spec"]["versions"][0]["subresources"],
        )
    ]
    return made


@pytest.fixture
async def kubectl(served: Served, tmp_path: Path) -> Kubectl:
    run = Kubectl(served.kubeconfig, tmp_path)
    out = await run("apply", "-f", "-", stdin=definition())
    assert out == "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\n"
    await run("wait", "--for=condition=Established", "crd/widgets.example.com")
    out = await run("apply", "-f", "-", stdin=widget(note="hello"))
    assert out == "widget.example.com/w created\n"
    return run


async def test_apply_get_and_columns(kubectl: Kubectl) -> None:
    assert (
        await kubectl("apply", "-f", "-", stdin=widget(note="hello"))
        == "widget.example.com/w unchanged\n"
    )
    changed = widget(size=5, note="hello")
    assert await kubectl("apply", "-f", "-", stdin=changed) == "widget.example.com/w configured\n"
    for word in ("wd", "widgets", "widget", "widgets.example.com", "widgets.v1.example.com"):
        lines = (await kubectl("get", word)).splitlines()
        assert lines[0].split() == ["NAME", "SIZE", "COLOR", "AGE"]
        assert lines[1].split()[:3] == ["w", "5", "red"]
    assert "NOTE" in await kubectl("get", "wd", "-o", "wide")
    assert "widget.example.com/w" in await kubectl("get", "toys", "-o", "name")
    assert await kubectl("get", "wd", "--field-selector=spec.color=green", "-o", "name") == ""
    assert "w" in await kubectl("get", "wd", "--field-selector=spec.color=red", "-o", "name")
    described = await kubectl("describe", "wd", "w")
    assert "Note:      hello" in described


async def test_explain(kubectl: Kubectl) -> None:
    whole = await kubectl("explain", "widgets")
    assert "A widget for tests." in whole
    assert "KIND:       Widget" in whole
    recursive = await kubectl("explain", "widgets.spec", "--recursive")
    assert "What is wanted of a widget." in recursive
    assert "size\t<integer> -required-" in recursive
    assert "ENUM:\n    red\n    green\n" in await kubectl("explain", "wd.spec.color")


async def test_scale_status_and_patch(kubectl: Kubectl) -> None:
    assert await kubectl("scale", "wd/w", "--replicas=4") == "widget.example.com/w scaled\n"
    assert await kubectl("get", "wd/w", "-o", "jsonpath={.spec.replicas}") == "4"
    phase = json.dumps({"status": {"phase": "Good", "replicas": 4}})
    await kubectl("patch", "wd", "w", "--subresource=status", "--type=merge", "-p", phase)
    shown = json.loads(await kubectl("get", "wd", "w", "-o", "json"))
    assert shown["status"] == {"phase": "Good", "replicas": 4}
    assert shown["metadata"]["generation"] == 2
    scale = json.loads(await kubectl("get", "wd", "w", "--subresource=scale", "-o", "json"))
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 4},
        {"replicas": 4},
    )
    refused = await kubectl("patch", "wd", "w", "--type=strategic", "-p", "{}", code=1)
    assert "strategic" in refused or "UnsupportedMediaType" in refused
    await kubectl("annotate", "wd", "w", "a=b")
    await kubectl("label", "wd", "w", "a=b")
    assert "w" in await kubectl("get", "wd", "-l", "a=b")


async def test_server_side_apply_by_list_types(kubectl: Kubectl) -> None:
    one = widget("s", parts=[{"name": "a", "count": 1}], tags=["x"])
    other = widget("s", parts=[{"name": "b", "count": 2}], tags=["y"])
    await kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=one)
    await kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other)
    shown = json.loads(await kubectl("get", "wd", "s", "-o", "json"))
    assert shown["spec"]["parts"] == [{"name": "a", "count": 1}, {"name": "b", "count": 2}]
    assert shown["spec"]["tags"] == ["x", "y"]
    clash = widget("s", parts=[{"name": "b", "count": 3}])
    refused = await kubectl(
        "apply", "--server-side", "--field-manager=one", "-f", "-", stdin=clash, code=1
    )
    assert '.spec.parts[name="b"].count' in refused


async def test_unknown_fields_are_refused_or_dropped(kubectl: Kubectl) -> None:
    odd = widget("odd", shape="round")
    refused = await kubectl("apply", "-f", "-", stdin=odd, code=1)
    assert 'strict decoding error: unknown field "spec.shape"' in refused
    await kubectl("apply", "--validate=ignore", "-f", "-", stdin=odd)
    shown = json.loads(await kubectl("get", "wd", "odd", "-o", "json"))
    assert "shape" not in shown["spec"]


async def test_a_deleted_definition_takes_its_objects_along(kubectl: Kubectl) -> None:
    out = await kubectl("delete", "crd", "widgets.example.com")
    assert out == 'customresourcedefinition.apiextensions.k8s.io "widgets.example.com" deleted\n'
    gone = await kubectl("get", "widgets", code=1)
    assert "the server could not find the requested resource" in gone
    await kubectl("apply", "-f", "-", stdin=definition())
    assert await kubectl("get", "widgets", "-o", "name") == ""


async def test_a_definition_that_is_not_structural_is_refused(kubectl: Kubectl) -> None:
    schema = {"type": "object", "properties": {"spec": {"properties": {"a": {}}}}}
    bad = crd(version(schema=schema), plural="gadgets", kind="Gadget")
    refused = await kubectl("apply", "-f", "-", stdin=bad, code=1)
    path = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
    assert f"{path}.type: Required value: must not be empty for specified object fields" in refused
    assert f"{path}.properties[a].type: Required value" in refused
