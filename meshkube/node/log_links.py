"""Where log shippers look for what containers write: links, in the kubelet's layout, to the files
of the container runtime. Blocking calls: run them in a thread.

    <pods>/<namespace>_<pod>_<uid>/<container>/<attempt>.log       -> the runtime's file
    <pods>/../containers/<pod>_<namespace>_<container>-<id>.log    -> the one above

Source: Kubernetes documentation, "Logging Architecture".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from meshkube.node.runtime import SANDBOX, Record


class LogLinks:
    """The links of one node's pods; `pods` is `/var/log/pods` by custom."""

    def __init__(self, pods: Path) -> None:
        self._pods = pods
        self._containers = pods.parent / "containers"
        self._made: dict[str, dict[Path, str]] = {}

    def keep(self, uid: str, records: Iterable[Record]) -> None:
        """Makes the links for the containers that a pod has now, and takes others away."""
        wanted = dict(self._wanted(records))
        before = self._made.get(uid, {})
        if wanted == before:
            return
        for path in before.keys() - wanted.keys():
            _remove(path)
        for path, target in wanted.items():
            if before.get(path) != target:
                _link(path, target)
        if wanted:
            self._made[uid] = wanted
        else:
            self._made.pop(uid, None)
        for path in before.keys() - wanted.keys():
            self._prune(path.parent)

    def _wanted(self, records: Iterable[Record]) -> Iterator[tuple[Path, str]]:
        for record in records:
            if not record.log_file or record.name == SANDBOX:
                continue
            pod = record.pod
            directory = self._pods / f"{pod.namespace}_{pod.name}_{pod.uid}" / record.name
            log = directory / f"{record.attempt}.log"
            yield log, record.log_file
            name = f"{pod.name}_{pod.namespace}_{record.name}-{record.id}.log"
            yield self._containers / name, str(log)

    def sweep(self) -> None:
        """Takes away what leads nowhere any more: of pods that went while nobody looked."""
        for directory, names, files in os.walk(self._pods, topdown=False):
            for name in files + names:
                _remove_if_dead(Path(directory, name))
            self._prune(Path(directory))
        with contextlib.suppress(FileNotFoundError):
            for path in list(self._containers.iterdir()):
                _remove_if_dead(path)

    def _prune(self, directory: Path) -> None:
        """Removes it, and the pod's own, once they are empty."""
        with contextlib.suppress(OSError):
            while self._pods in directory.parents:
                directory.rmdir()
                directory = directory.parent


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(path)
    path.symlink_to(target)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _remove_if_dead(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        _remove(path)
