"""Reads the command line and calls the command."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType
from typing import Any

from meshkube.api.errors import ApiError
from meshkube.config import ConfigError

# Each is a module of this package with HELP, `add_arguments(parser)` and `run(args) -> exit code`.
# A command's module is imported only when it is the one that runs: `meshkube version` stays quick.
COMMANDS = {
    "server": "run this host: control plane and node in one process",
    "agent": "run this host: a node of a cluster whose servers are elsewhere",
    "token": "make, list and delete the tokens that hosts join with",
    "status": "show the parts of the server, its node, leader and listeners",
    "doctor": "say what this host lacks to run meshkube, and how to get it",
    "apply": "create or change the objects of manifests",
    "get": "list objects of a kind, or show one",
    "delete": "delete objects by name or by manifest",
    "logs": "print a pod's logs",
    "route": "say which rule, Service and pods a URL leads to, and why",
    "ingress": "run only the ingress, for any Kubernetes API",
    "dns": "run only cluster DNS, for any Kubernetes API, or say how an answer comes about",
    "image": "load container images without a registry",
    "kubeconfig": "print the admin kubeconfig",
    "store": "copy, save or restore what the API keeps",
    "reset": "remove every trace of meshkube from this host",
    "version": "print the version",
    "completion": "print a completion script for the shell",
}


class Parser(argparse.ArgumentParser):
    """Takes options by their whole names only: `--al` may come to mean another one tomorrow. The
    parsers of sub-commands are of this class too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.divided = False

    def add_subparsers(self, **settings: Any) -> Any:
        self.divided = True
        return super().add_subparsers(**settings)

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Options may stand anywhere, as in `get pods -n shop web`."""
        return (self.parse_args if self.divided else self.parse_intermixed_args)(arguments)


class UsageError(Exception):
    """Something the user gave is wrong: the message is one line."""


def parser() -> argparse.ArgumentParser:
    """The whole command line. Arguments of sub-commands are added by their modules."""
    top = Parser(prog="meshkube", description="Kubernetes in one asyncio process per host.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help in COMMANDS.items():
        commands.add_parser(name, help=help, description=_sentence(help), add_help=False)
    return top


def _sentence(help: str) -> str:
    return f"{help[:1].upper()}{help[1:]}."


def main(arguments: list[str] | None = None) -> int:
    """Runs `meshkube ARGUMENTS`; returns the exit code: 0, 1 for a failure, 2 for bad usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen, rest = parser().parse_args(arguments[:1]), arguments[1:]
    module = _module(chosen.command)
    command = Parser(
        prog=f"meshkube {chosen.command}", description=_sentence(COMMANDS[chosen.command])
    )
    module.add_arguments(command)
    args = command.read(rest)
    try:
        return int(module.run(args))
    except (ConfigError, UsageError) as error:
        print(f"meshkube {chosen.command}: {error}", file=sys.stderr)
        return 2
    except ApiError as error:
        print(f"Error from server ({error.reason}): {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"meshkube.cli.{command}")
