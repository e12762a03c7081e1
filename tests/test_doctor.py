"""What `meshkube doctor` finds on this very host."""

from __future__ import annotations

import socket

from meshkube.config import load
from meshkube.doctor import examine


def findings(**settings):
    found = examine(load({"runtime": "hollow", **settings}, {}), running=False)
    return {finding.name: finding for finding in found}


def test_a_port_that_is_taken_is_named_with_a_remedy(tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = findings(ingress_http=port, data_dir=tmp_path)
    finding = found[f"port {port} (ingress HTTP)"]
    assert not finding.ok
    assert finding.remedy


def test_a_missing_engine_says_how_to_get_one(tmp_path):
    found = findings(runtime="docker", docker=f"unix://{tmp_path}/none.sock", data_dir=tmp_path)
    assert not found["Docker Engine"].ok
    assert "none.sock" in found["Docker Engine"].detail
    assert found["Docker Engine"].remedy


def test_an_engine_that_hangs_up_is_not_ok(tmp_path):
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        found = findings(runtime="docker", docker=f"unix://{path}", data_dir=tmp_path)
    assert not found["Docker Engine"].ok


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path):
    for finding in findings(data_dir=tmp_path / "a/b").values():
        assert finding.ok or finding.remedy
