"""gitRepo volumes: real git, on repositories of this machine, some of them hostile."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from meshkube.node import git
from meshkube.node.git import checked, clone
from meshkube.node.volumes import VolumeError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not on this machine")


def run(place: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on `main`, a tag at the first, and a branch `next`."""
    place = tmp_path / "site"
    place.mkdir()
    run(place, "init", "-q", "-b", "main")
    (place / "page").write_text("one")
    run(place, "add", ".")
    run(place, "commit", "-q", "-m", "one")
    run(place, "tag", "v1")
    (place / "page").write_text("two")
    run(place, "commit", "-qam", "two")
    run(place, "checkout", "-q", "-b", "next")
    (place / "page").write_text("three")
    run(place, "commit", "-qam", "three")
    run(place, "checkout", "-q", "main")
    return place


@pytest.mark.parametrize(
    ("more", "path", "content"),
    [
        ({}, "site/page", "two"),
        ({"directory": "."}, "page", "two"),
        ({"directory": "a/b"}, "a/b/page", "two"),
        ({"revision": "v1"}, "site/page", "one"),
        ({"revision": "next", "directory": "."}, "page", "three"),
    ],
)
def test_a_working_tree_is_where_and_what_was_asked_for(
    repository: Path, tmp_path: Path, more: dict[str, str], path: str, content: str
) -> None:
    target = tmp_path / "pod/volumes/site"
    assert clone({"repository": str(repository), **more}, target) == target
    assert (target / path).read_text() == content
    assert [entry.name for entry in target.parent.iterdir()] == ["site"]


def test_a_url_and_a_commit_do_as_well(repository: Path, tmp_path: Path) -> None:
    commit = run(repository, "rev-parse", "v1")
    target = tmp_path / "volume"
    clone({"repository": f"file://{repository}", "revision": commit}, target)
    assert (target / "site/page").read_text() == "one"


def test_a_volume_that_is_there_stays_as_it_is(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "volume"
    clone({"repository": str(repository), "directory": "."}, target)
    (target / "page").write_text("changed by the pod")
    clone({"repository": str(repository), "directory": "."}, target)
    assert (target / "page").read_text() == "changed by the pod"


def test_a_failure_says_what_git_said_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "pod/volume"
    with pytest.raises(VolumeError, match=r"failed to exec 'git checkout .* exit status"):
        clone({"repository": str(repository), "revision": "no-such"}, target)
    with pytest.raises(VolumeError, match="does not exist"):
        clone({"repository": str(tmp_path / "nowhere")}, target)
    assert list(target.parent.iterdir()) == []


def test_nothing_that_a_repository_brings_along_runs(repository: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    script = f"#!/bin/sh\ntouch {trace}\ncat\n"
    hooks = repository / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-upload-pack", "pre-auto-gc", "reference-transaction"):
        (hooks / name).write_text(script)
        (hooks / name).chmod(0o755)
    evil = tmp_path / "evil"
    evil.write_text(script)
    evil.chmod(0o755)
    for key in ("filter.evil.smudge", "core.fsmonitor", "uploadpack.packObjectsHook"):
        run(repository, "config", key, str(evil))
    run(repository, "config", "core.hooksPath", str(hooks))
    (repository / ".gitattributes").write_text("* filter=evil\n")
    (repository / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = ext::{evil}\n\tupdate = !{evil}\n'
    )
    run(repository, "-c", "filter.evil.clean=cat", "add", ".")
    run(repository, "-c", "filter.evil.clean=cat", "commit", "-qm", "evil", "--no-verify")
    trace.unlink(missing_ok=True)
    target = tmp_path / "volume"
    clone({"repository": str(repository)}, target)
    assert (target / "site/.gitmodules").exists()
    assert not trace.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_a_repository_of_another_user_is_read(repository: Path, tmp_path: Path) -> None:
    for folder, _, files in os.walk(repository):
        for name in (*files, "."):
            os.chown(Path(folder) / name, 1234, 1234)
    target = tmp_path / "volume"
    clone({"repository": str(repository), "directory": "."}, target)
    assert (target / "page").read_text() == "two"


@pytest.mark.parametrize(
    "source",
    [
        {"repository": ""},
        {"repository": "--upload-pack=touch /tmp/x"},
        {"repository": "ext::sh -c touch% /tmp/x"},
        {"repository": "/srv/x", "revision": "--orphan"},
        {"repository": "/srv/x", "directory": "../x"},
        {"repository": "/srv/x", "directory": "/x"},
        {"repository": "/srv/x", "directory": "a/../../x"},
        {"repository": "/srv/x", "directory": ".git/hooks"},
        {"repository": "/srv/x", "directory": "a/.GIT"},
        {"repository": "/srv/x\n"},
    ],
)
def test_what_git_would_take_for_something_else_is_refused(source: dict[str, str]) -> None:
    with pytest.raises(VolumeError):
        checked(source)


def test_git_asks_nobody_and_knows_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    environment = git.environment(tmp_path / "config")
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert environment["GIT_TERMINAL_PROMPT"] == "0"
    assert "ext" not in environment["GIT_ALLOW_PROTOCOL"].split(":")


def test_a_remote_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(VolumeError, match="took more than"):
            clone({"repository": url}, tmp_path / "volume")
