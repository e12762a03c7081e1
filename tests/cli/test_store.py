"""`meshkube store`: what it prints, and its exit codes."""

import asyncio
from pathlib import Path

import pytest

from meshkube.cli.main import main
from meshkube.store.sqlite import SqliteStore


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "store.db")
        for number in range(3):
            await store.create(f"/{number}", b"12345")
        await store.aclose()

    asyncio.run(fill())
    return tmp_path


def test_save_restore_and_copy(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(data_dir / "snapshot")
    assert main(["store", "snapshot", file, "--data-dir", str(data_dir)]) == 0
    said = capsys.readouterr().out
    assert said == f"saved 3 keys (15 bytes) of {data_dir}/store.db at revision 3 to {file}\n"
    assert main(["store", "restore", file, "--data-dir", str(data_dir / "new")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("restored 3 keys (15 bytes), saved at revision 3, to ")
    assert said.endswith("/new/store.db, now at revision 6\n")
    copy = f"sqlite:{data_dir}/copy.db"
    arguments = ["store", "copy", "--from", "sqlite", "--to", copy, "--data-dir", str(data_dir)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("copied 3 keys (15 bytes) from ")
    assert main(arguments) == 1
    assert "is not empty: it holds 3 keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["restore", "/dev/null"], 1, "/dev/null: is damaged"),
        (["snapshot", "x", "--store", "etcd://a:0"], 2, "'0' is not a port"),
        (["snapshot", "x", "--store", "mysql"], 2, "--store: 'mysql' is neither"),
        (["copy", "--from", "mysql", "--to", "sqlite"], 2, "'mysql' is neither sqlite"),
        (["copy", "--from", "sqlite", "--to", "etcd://a"], 2, "there is no store"),
        (["snapshot", "x", "--store", "etcd://a", "--store-key", "k"], 2, "no certificate"),
        (["snapshot", "x", "--store", "etcd://a", "--store-ca", "/no"], 2, "/no: cannot be used"),
        (
            ["snapshot", "x", "--store", "etcd://a", "--store-password-file", "/no"],
            2,
            "--store-password-file: /no: No such file",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["store", *arguments, "--data-dir", str(tmp_path)]) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
