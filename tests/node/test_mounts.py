"""A pod's files on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from meshkube.node.mounts import PodDirectory, container_mount, host_path
from meshkube.node.volumes import File, VolumeError


def read(volume: Path) -> dict[str, str]:
    return {
        str(path.relative_to(volume)): path.read_text()
        for path in sorted(volume.rglob("*"))
        if path.is_file() and not str(path.relative_to(volume)).startswith("..")
    }


def test_a_projection_is_replaced_in_one_step(tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path, "u1")
    files = {"a": File(b"1", 0o644), "deep/b": File(b"2", 0o400)}
    assert directory.write_projection("v", files, None)
    assert not directory.write_projection("v", files, None)
    volume = directory.volume_path("v")
    # Symbolic links lead through ..data, so that one rename changes them all.
    assert os.readlink(volume / "a") == "..data/a"
    assert (volume / "deep/b").read_text() == "2"
    assert stat.S_IMODE((volume / "deep/b").stat().st_mode) == 0o400
    old = os.readlink(volume / "..data")
    assert directory.write_projection("v", {"c": File(b"3", 0o644)}, None)
    assert os.readlink(volume / "..data") != old
    assert not (volume / old).exists()
    assert sorted(entry.name for entry in volume.iterdir() if entry.name[0] != ".") == ["c"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_belong_to_their_user_and_the_pods_group(tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path, "u1")
    files = {"token": File(b"1", 0o600, owner=1000), "key": File(b"2", 0o400)}
    assert directory.write_projection("v", files, 2000)
    assert not directory.write_projection("v", files, 2000)
    volume = directory.volume_path("v")
    found = {name: (volume / name).stat() for name in files}
    assert {name: (each.st_uid, each.st_gid, stat.S_IMODE(each.st_mode))
            for name, each in found.items()} == {
        "token": (1000, 2000, 0o640), "key": (0, 2000, 0o440)}  # fmt: skip


def test_disk_volumes_keep_their_content_and_go_with_the_pod(tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path, "u1")
    path = directory.empty_dir("v", {}, None)
    (path / "x").write_text("kept")
    assert directory.empty_dir("v", {}, None) == path
    assert (path / "x").read_text() == "kept"
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    directory.remove()
    assert not directory.path.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_memory_volumes_are_mounted_and_unmounted(tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path, "u1")
    path = directory.empty_dir("v", {"medium": "Memory", "sizeLimit": "64Ki"}, 1234)
    try:
        assert os.path.ismount(path)
        assert path.stat().st_gid == 1234
        assert stat.S_IMODE(path.stat().st_mode) == 0o3777
        with pytest.raises(OSError, match="space"):
            (path / "big").write_bytes(b"x" * 200_000)
    finally:
        directory.remove()
    assert not directory.path.exists()


def test_host_paths_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert host_path({"path": str(tmp_path / "new/dir"), "type": "DirectoryOrCreate"}).is_dir()
    assert host_path({"path": str(file), "type": "File"}) == file
    for type in ("Directory", "Socket", "BlockDevice"):
        with pytest.raises(VolumeError, match="hostPath type check failed"):
            host_path({"path": str(file), "type": type})
    with pytest.raises(VolumeError, match="is not a directory"):
        host_path({"path": str(tmp_path / "absent"), "type": "Directory"})


def test_a_sub_path_stays_inside_its_volume(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    (volume / "out").symlink_to("/etc")
    mount = {"mountPath": "/m", "readOnly": True}
    found = container_mount(volume, mount, False, "a/b")
    assert (found.source, found.target, found.read_only) == (str(volume / "a/b"), "/m", True)
    with pytest.raises(VolumeError, match="not inside"):
        container_mount(volume, mount, False, "out")


def test_what_is_missing_of_a_sub_path_is_made_like_its_volume(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    volume.chmod(0o3777)
    container_mount(volume, {"mountPath": "/m"}, False, "a/b")
    for path in (volume / "a", volume / "a/b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o3777


@pytest.mark.parametrize("subpath", ["out/new", "circle/new", "file/new"])
def test_nothing_is_made_behind_a_link_or_a_file(tmp_path: Path, subpath: str) -> None:
    volume, outside = tmp_path / "v", tmp_path / "outside"
    volume.mkdir()
    outside.mkdir()
    (volume / "out").symlink_to(outside)
    (volume / "circle").symlink_to(volume / "circle")
    (volume / "file").touch()
    with pytest.raises(VolumeError, match=f"subPath '{subpath}'"):
        container_mount(volume, {"mountPath": "/m"}, False, subpath)
    assert list(outside.iterdir()) == []


def test_last_messages(tmp_path: Path) -> None:
    directory = PodDirectory(tmp_path, "u1")
    path = directory.termination_log("c", 0)
    path.write_text("x" * 9000)
    assert len(directory.termination_message("c", 0)) == 4096
    assert directory.termination_message("c", 1) == ""
