"""What stands behind a volume, and the drivers that bring it to the node."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.node import drivers, image_volumes
from meshkube.node.claims import LOCAL_PATH, backing
from meshkube.node.drivers import Request, driver_for, nfs_command
from meshkube.node.local_volumes import erasable, erase
from meshkube.node.mounts import PodDirectory, give_to_group
from meshkube.node.volumes import VolumeError

POD: Object = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {}}
VOLUME = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}


def claim(**more: Any) -> Object:
    return {
        "metadata": {"name": "data", "namespace": "default", "uid": "c", **more},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    }


def volume(**spec: Any) -> Object:
    return {
        "metadata": {"name": "pv"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "default", "name": "data", "uid": "c"},
            **(spec or {"hostPath": {"path": "/x"}}),
        },
    }


def found(its: Object | None, of: Object | None, node: str = "n1") -> drivers.Request | Any:
    return backing(POD, VOLUME, node, lambda name: its, lambda name: of)


def test_a_claim_leads_to_the_source_of_its_volume() -> None:
    assert found(claim(), volume()).kind == "hostPath"
    assert found(claim(), volume()).source == {"path": "/x"}
    assert not found(claim(), volume()).read_only
    nfs = volume(nfs={"server": "s", "path": "/"}, mountOptions=["vers=4"])
    assert found(claim(), nfs).mount_options == ("vers=4",)
    assert found(claim(), volume(hostPath={"path": "/x"}, accessModes=["ReadOnlyMany"])).read_only


@pytest.mark.parametrize(
    ("its", "of", "why"),
    [
        (None, None, 'error getting PVC "default/data": could not find PVC'),
        (claim(deletionTimestamp="x"), volume(), "is being deleted"),
        ({**claim(), "status": {}}, volume(), "is not bound"),
        (claim(), None, 'PV "pv" is not bound to PVC "default/data"'),
        (claim(uid="other"), volume(), "is not bound to PVC"),
        (claim(), volume(hostPath={"path": "/x"}, volumeMode="Block"), "block device"),
    ],
)
def test_a_claim_that_leads_nowhere_says_why(
    its: Object | None, of: Object | None, why: str
) -> None:
    with pytest.raises(VolumeError, match=why):
        found(its, of)


def made_here(**metadata: Any) -> Object:
    made = volume(local={"path": "/srv/v"}, persistentVolumeReclaimPolicy="Delete")
    made["metadata"] |= {
        "labels": {"meshkube.io/node": "n1"},
        "annotations": {"pv.kubernetes.io/provisioned-by": LOCAL_PATH},
        **metadata,
    }
    return made


def test_a_directory_of_another_node_is_not_mounted() -> None:
    assert found(claim(), made_here()).made_here
    with pytest.raises(VolumeError, match="NodeAffinity check failed"):
        found(claim(), made_here(), node="n2")


def request(target: Path, **more: Any) -> Request:
    return Request(target=target, read_only=False, **more)


def test_a_directory_of_ours_is_made_and_of_others_must_be_there(tmp_path: Path) -> None:
    source, target = {"path": str(tmp_path / "volumes/v")}, tmp_path / "t"
    with pytest.raises(VolumeError, match="does not exist"):
        driver_for("local", source).set_up(source, request(target, name="pv"))
    path = driver_for("local", source).set_up(source, request(target, made_here=True))
    assert path.is_dir()
    assert driver_for("local", source).set_up(source, request(target)) == path


def test_nfs_is_mounted_as_mount_wants_it(tmp_path: Path) -> None:
    source = {"server": "10.0.0.1", "path": "/exports"}
    target = tmp_path / "v"
    assert nfs_command(source, request(target)) == [
        "mount", "-t", "nfs", "10.0.0.1:/exports", str(target),
    ]  # fmt: skip
    options = Request(target=target, read_only=True, mount_options=("vers=4", "hard"))
    assert nfs_command({"server": "fd00::1", "path": "/"}, options)[3:6] == [
        "-o", "ro,vers=4,hard", "[fd00::1]:/",
    ]  # fmt: skip


def test_a_host_without_the_nfs_client_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source = {"server": "s", "path": "/"}
    with pytest.raises(VolumeError, match="install its NFS client"):
        driver_for("nfs", source).set_up(source, request(tmp_path / "v"))


def test_a_driver_of_another_package_serves_its_csi_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offered as a real package offers it: by the metadata of a distribution on the path."""
    offered = tmp_path / "bucket-1.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: bucket\nVersion: 1\n")
    (offered / "entry_points.txt").write_text(
        "[meshkube.volumes]\nbuckets.example.com = bucket_driver:Bucket\n"
        "broken.example.com = no_such_module:Driver\n"
    )
    (tmp_path / "bucket_driver.py").write_text(
        "class Bucket:\n"
        "    def set_up(self, source, request):\n"
        "        request.target.mkdir(parents=True, exist_ok=True)\n"
        "        (request.target / 'name').write_text(source['volumeAttributes']['bucket'])\n"
        "        return request.target\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    source = {"driver": "buckets.example.com", "volumeAttributes": {"bucket": "photos"}}
    path = driver_for("csi", source).set_up(source, request(tmp_path / "v"))
    assert (path / "name").read_text() == "photos"
    with pytest.raises(VolumeError, match="could not be loaded"):
        driver_for("csi", {"driver": "broken.example.com"})
    with pytest.raises(VolumeError, match=r"driver name x\.example\.com not found"):
        driver_for("csi", {"driver": "x.example.com"})
    with pytest.raises(VolumeError, match="volumes of kind rbd are not supported"):
        driver_for("rbd", {})


def test_a_volume_is_erased_only_when_nobody_holds_it() -> None:
    gone: dict[str, Any] = {"deletionTimestamp": "x", "finalizers": [LOCAL_PATH]}
    assert erasable(made_here(**gone))
    assert not erasable(made_here(finalizers=[LOCAL_PATH]))
    held = ["kubernetes.io/pv-protection", LOCAL_PATH]
    assert not erasable(made_here(**{**gone, "finalizers": held}))
    kept = made_here(**gone)
    kept["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
    assert not erasable(kept)
    assert not erasable(made_here(**{**gone, "annotations": {}}))


def test_only_directories_of_ours_are_erased(tmp_path: Path) -> None:
    root = tmp_path / "volumes"
    (root / "v/inside").mkdir(parents=True)
    (root / "v/link").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    erase(root / "v", root)
    erase(root / "v", root)
    assert not (root / "v").exists()
    for other in (tmp_path / "precious", root, root / "..", root / "a/b", Path("/")):
        with pytest.raises(PermissionError):
            erase(other, root)
    assert (tmp_path / "precious/file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_all_of_a_volume_is_given_to_the_group(tmp_path: Path) -> None:
    place = tmp_path / "v"
    (place / "folder").mkdir(parents=True)
    file = place / "folder/file"
    file.touch(mode=0o600)
    (place / "link").symlink_to("/etc/passwd")
    give_to_group(place, 4321, "Always")
    assert {p.lstat().st_gid for p in (place, place / "folder", file, place / "link")} == {4321}
    assert file.stat().st_mode & 0o777 == 0o660
    assert place.stat().st_mode & 0o2070 == 0o2070
    assert Path("/etc/passwd").stat().st_gid == 0
    os.chown(file, -1, 0)
    give_to_group(place, 4321, "OnRootMismatch")
    assert file.stat().st_gid == 0
    give_to_group(place, 4321, "Always")
    assert file.stat().st_gid == 4321
    (tmp_path / "way").symlink_to(place)
    give_to_group(tmp_path / "way", 8765, "Always")
    assert {place.stat().st_gid, file.stat().st_gid} == {8765}


def test_what_cannot_be_unmounted_is_not_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = PodDirectory(tmp_path, "u")
    share = directory.volume_path("share")
    share.mkdir(parents=True)
    (share / "file").touch()
    real = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda path: path == share or real(path))
    with pytest.raises(OSError, match="Invalid argument"):
        directory.remove()
    assert (share / "file").exists()


async def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("etc/name")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        tar.addfile(link)
        entry = tarfile.TarInfo("../outside")
        tar.addfile(entry)
    whole = packed.getvalue()

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 700):
            yield data[start : start + 700]

    target = tmp_path / "pod/volumes/v"
    with pytest.raises(VolumeError, match="unpacking failed"):
        await image_volumes.unpack(pieces(whole), target)
    assert not (tmp_path / "pod/volumes/outside").exists()
    with pytest.raises(VolumeError, match="unpacking failed"):
        await image_volumes.unpack(pieces(b"no archive at all" * 100), target)
    assert list(target.parent.iterdir()) == []
    end = whole.index(b"../outside")
    await image_volumes.unpack(pieces(whole[:end] + bytes(1024)), target)
    assert (target / "etc/name").read_text() == "hello"
    assert (target / "out").is_symlink()
