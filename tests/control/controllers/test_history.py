"""Revisions of DaemonSets and StatefulSets, as clients read them."""

from __future__ import annotations

import orjson
import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control.controllers import history


def owner(template: Object) -> Object:
    metadata = {"name": "d", "namespace": "n", "uid": "u"}
    return {"metadata": metadata, "spec": {"template": template}}


CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"]}}
TEMPLATE = {
    "metadata": {"labels": {"z": "1", "a": "2"}},
    "spec": {
        "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": CLAIM}}],
        "containers": [{"name": "c", "image": "x:1"}],
    },
}
BYTES = (
    b'{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":'
    b'{"a":"2","z":"1"}},"spec":{"containers":[{"image":"x:1","name":"c","resources":{}}],'
    b'"volumes":[{"ephemeral":{"volumeClaimTemplate":{"metadata":{"creationTimestamp":null},'
    b'"spec":{"accessModes":["ReadWriteOnce"],"resources":{}}}},"name":"scratch"}]}}}}'
)


def test_a_revision_has_the_bytes_that_go_clients_make_of_its_template() -> None:
    assert orjson.dumps(history.data_of(TEMPLATE)) == BYTES


def test_what_a_revision_keeps_is_a_template_again() -> None:
    plain = {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": []}}
    assert history.template_of({"data": history.data_of(plain)}) == plain


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(history.data_of(TEMPLATE), id="as it is written"),
        pytest.param(
            {"spec": {"template": {**TEMPLATE, "$patch": "replace"}}}, id="as it was written once"
        ),
    ],
)
def test_a_template_finds_its_revision(data: Object) -> None:
    revision = {"metadata": {"name": "d-1"}, "revision": 1, "data": data}
    assert not history.step(kinds.DAEMON_SET, owner(TEMPLATE), [revision]).create
