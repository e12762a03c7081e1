"""Control groups of both versions, read from directories made like the kernel's."""

from __future__ import annotations

from pathlib import Path

from meshkube.node import cgroups
from meshkube.node.cgroups import Mounts, Place
from meshkube.node.runtime import Throttled, Transfers

ID = "ab" * 32


def write(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def test_mounts_of_both_versions() -> None:
    found = cgroups.mounts(
        "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 30 0:28 /inner /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "33 30 0:29 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        "34 30 0:30 / /proc rw - proc proc rw\n"
    )
    assert found.unified == (Path("/sys/fs/cgroup/unified"), "/")
    assert found.controllers == {
        "cpu": (Path("/sys/fs/cgroup/cpu,cpuacct"), "/"),
        "cpuacct": (Path("/sys/fs/cgroup/cpu,cpuacct"), "/"),
        "memory": (Path("/sys/fs/cgroup/memory"), "/inner"),
    }


def test_the_place_of_a_container_in_version_2() -> None:
    mounted = Mounts((Path("/sys/fs/cgroup"), "/"), {})
    path = f"0::/system.slice/docker-{ID}.scope\n"
    assert cgroups.place_of(path, mounted, ID) == Place(
        Path(f"/sys/fs/cgroup/system.slice/docker-{ID}.scope"), {}
    )


def test_the_place_of_a_container_in_version_1_below_a_mounted_part() -> None:
    mounted = Mounts(
        None,
        {"memory": (Path("/m"), "/outer"), "cpuacct": (Path("/c"), "/"), "cpu": (Path("/c"), "/")},
    )
    path = f"4:memory:/outer/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/x\n"
    found = cgroups.place_of(path, mounted, ID)
    assert found is not None
    assert found.controllers == {
        "memory": Path(f"/m/docker/{ID}"),
        "cpuacct": Path(f"/c/docker/{ID}"),
        "cpu": Path(f"/c/docker/{ID}"),
    }


def test_a_process_that_is_not_the_container_is_not_taken_for_it() -> None:
    mounted = Mounts((Path("/sys/fs/cgroup"), "/"), {})
    assert cgroups.place_of("0::/user.slice/session-1.scope\n", mounted, ID) is None


def test_version_2_is_read_whole(tmp_path: Path) -> None:
    group = write(
        tmp_path / ID,
        {
            "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n"
            "nr_periods 10\nnr_throttled 4\nthrottled_usec 7\n",
            "memory.current": "1000000\n",
            "memory.max": "2000000\n",
            "memory.stat": "anon 600000\nfile 300000\nfile_mapped 50\ninactive_file 100000\n"
            "pgfault 12\npgmajfault 3\n",
            "memory.swap.current": "77\n",
            "pids.current": "5\n",
            "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"
            "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        },
    )
    stats = cgroups.read(Place(group, {}), whole=True)
    assert stats is not None
    assert (stats.cpu_nanoseconds, stats.cpu_user, stats.cpu_system) == (5e6, 3e6, 2e6)
    assert stats.throttled == Throttled(10, 4, 7000)
    assert (stats.memory, stats.memory_usage, stats.rss) == (900000, 1000000, 600000)
    assert (stats.memory_limit, stats.swap, stats.processes) == (2000000, 77, 5)
    assert (stats.faults, stats.major_faults, stats.mapped) == (12, 3, 50)
    assert stats.disk == Transfers(4, 6, 11, 22)


def test_version_1_is_read_whole(tmp_path: Path) -> None:
    groups = {
        "cpuacct": write(
            tmp_path / "cpuacct",
            {"cpuacct.usage": "5000000\n", "cpuacct.stat": "user 3\nsystem 2\n"},
        ),
        "cpu": write(
            tmp_path / "cpu", {"cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 7000\n"}
        ),
        "memory": write(
            tmp_path / "memory",
            {
                "memory.usage_in_bytes": "1000000\n",
                "memory.stat": "cache 1\nhierarchical_memory_limit 9223372036854771712\n"
                "total_cache 300000\ntotal_rss 600000\ntotal_mapped_file 50\ntotal_swap 77\n"
                "total_pgfault 12\ntotal_pgmajfault 3\ntotal_inactive_file 100000\n",
            },
        ),
        "pids": write(tmp_path / "pids", {"pids.current": "5\n"}),
        "blkio": write(
            tmp_path / "blkio",
            {
                "blkio.throttle.io_serviced_recursive": "8:0 Read 4\n8:0 Write 6\nTotal 10\n",
                "blkio.throttle.io_service_bytes_recursive": "8:0 Read 11\n8:0 Write 22\n",
            },
        ),
    }
    stats = cgroups.read(Place(None, groups), whole=True)
    assert stats is not None
    assert stats.cpu_nanoseconds == 5_000_000
    assert stats.cpu_user == 3 * cgroups._TICK
    assert stats.throttled == Throttled(10, 4, 7000)
    assert (stats.memory, stats.memory_usage, stats.rss) == (900000, 1000000, 600000)
    assert stats.memory_limit == 0, "a limit of almost 2^63 is none"
    assert stats.disk == Transfers(4, 6, 11, 22)


def test_a_group_that_is_gone_gives_nothing(tmp_path: Path) -> None:
    assert cgroups.read(Place(tmp_path / "gone", {}), whole=True) is None
