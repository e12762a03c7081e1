"""What an archive names is known before it is loaded."""

from __future__ import annotations

import io
import tarfile

import orjson
import pytest

from meshkube.node.image_archive import check
from meshkube.node.runtime import ImageArchiveFailure


def archive(**files: object) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else orjson.dumps(content)
            entry = tarfile.TarInfo(name.replace("_json", ".json"))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return made


def manifest(*names: str) -> list[object]:
    return [{"Config": "c.json", "RepoTags": list(names), "Layers": []}]


def index(name: str) -> object:
    return {"manifests": [{"annotations": {"io.containerd.image.name": name}}]}


@pytest.mark.parametrize(
    ("files", "reference"),
    [
        ({"manifest_json": manifest("a/b:1"), "repositories": {"a/b": {"1": "x"}}}, "a/b:1"),
        ({"manifest_json": manifest("nginx:latest")}, "docker.io/library/nginx"),
        ({"manifest_json": manifest("a/b:1"), "index_json": index("docker.io/a/b:1")}, "a/b:1"),
        ({"repositories": {"host:5000/a": {"1": "x"}}}, "host:5000/a:1"),
    ],
)
def test_what_was_asked_for(files: dict[str, object], reference: str) -> None:
    made = archive(**files)
    check(made, reference)
    assert made.tell() == 0


@pytest.mark.parametrize(
    "files",
    [
        {"manifest_json": manifest("a/b:2")},
        {"manifest_json": manifest("a/b:1", "c:1")},
        {"manifest_json": manifest("a/b:1") + manifest("c:1")},
        {"manifest_json": manifest("a/b:1"), "repositories": {"c": {"1": "x"}}},
        {"manifest_json": manifest("a/b:1"), "index_json": index("docker.io/library/c:1")},
        {"manifest_json": manifest()},
        {"manifest_json": b"{nonsense"},
        {"manifest_json": [1]},
        {"other": b""},
    ],
)
def test_anything_else(files: dict[str, object]) -> None:
    with pytest.raises(ImageArchiveFailure):
        check(archive(**files), "a/b:1")


def test_no_archive_at_all() -> None:
    with pytest.raises(ImageArchiveFailure):
        check(io.BytesIO(b"nonsense" * 1000), "a/b:1")
