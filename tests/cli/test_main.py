"""The command line itself: usage, errors, and what needs no server."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

import pytest

from meshkube import __version__
from meshkube.cli import main
from meshkube.cli.main import COMMANDS, Parser


def test_version(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"meshkube {__version__} ")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: meshkube {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["get"], ["server", "--colour=blue"]])
def test_wrong_usage_is_2_with_a_line_that_says_so(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


BAD = [
    (["server", "--listen=nowhere"], "meshkube server: --listen: 'nowhere' is not ADDRESS:PORT"),
    (["server", "--config=/nope.yaml"], "meshkube server: --config: /nope.yaml"),
    (["apply", "-f", "/nope.yaml"], "meshkube apply: /nope.yaml: No such file or directory"),
    (["delete"], "meshkube delete: say what"),
    (["get", "pod/a", "b"], 'meshkube get: "b" is not KIND/NAME'),
    (["delete", "pod/a/b"], 'meshkube delete: "pod/a/b" is not KIND/NAME'),
    (["delete", "pods"], "meshkube delete: say what"),
    (["logs", "deploy/"], 'meshkube logs: "deploy/" is not KIND/NAME'),
    (["reset"], "meshkube reset: this removes the cluster"),
    (["get", "pods", "--kubeconfig=/nope"], "meshkube get: /nope"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_clear_line(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "pods", "--all"],
        ["delete", "pod", "x", "--ignore"],
        ["server", "--data=/x"],
        ["agent", "--token=y", "--serv=https://x"],
        ["token", "create", "--kube=/x"],
        ["store", "copy", "--from=a", "--to=b", "--store-pass=x"],
    ],
)
def test_options_are_taken_by_their_whole_names_only(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"unrecognized arguments: {arguments[-1]}" in capsys.readouterr().err


def parsers(parser):
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_parser_completes_an_option(command):
    top = Parser()
    importlib.import_module(f"meshkube.cli.{command}").add_arguments(top)
    assert not any(each.allow_abbrev for each in parsers(top))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_scripts_are_shell(shell, capsys):
    main(["completion", shell])
    script = capsys.readouterr().out
    assert "server" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_version_needs_no_event_loop_nor_http_library():
    script = "import sys; from meshkube.cli import main; main(['version']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "aiohttp" not in done.stdout.split()
