"""`meshkube completion`."""

from __future__ import annotations

import argparse

from meshkube.api.kinds import KINDS
from meshkube.cli.main import COMMANDS

_BASH = """\
_meshkube() {{
  local word=${{COMP_WORDS[COMP_CWORD]}}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$word"))
  elif [ "$COMP_CWORD" -eq 2 ] && [[ "get delete" == *"${{COMP_WORDS[1]}}"* ]]; then
    COMPREPLY=($(compgen -W "{kinds}" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _meshkube meshkube
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n" + _BASH
_FISH = """\
complete -c meshkube -n __fish_use_subcommand -f -a "{commands}"
complete -c meshkube -n "__fish_seen_subcommand_from get delete" -f -a "{kinds}"
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=sorted(SCRIPTS))


def run(args: argparse.Namespace) -> int:
    """Prints the script; `source <(meshkube completion bash)` puts it to work."""
    kinds = " ".join(sorted({kind.plural for kind in KINDS}))
    print(SCRIPTS[args.shell].format(commands=" ".join(COMMANDS), kinds=kinds), end="")
    return 0
