"""Docker's flags for a machine whose root has not every capability.

A privileged container asks for them all, and Docker starts none where one cannot be had. Such a
machine's lab hosts call runc by way of a script that asks for what there is.
"""

from __future__ import annotations

from pathlib import Path

SYS_RESOURCE = 24
"""The capability that machines without power over their limits lack, see capabilities(7)."""

SCRIPT = """#!/bin/sh
for argument; do
  case $previous in
    --bundle) settings=$argument/config.json ;;
    --process) settings=$argument ;;
  esac
  previous=$argument
done
[ -z "$settings" ] || sed -i 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g' "$settings"
exec runc "$@"
"""


def flags(directory: Path) -> list[str]:
    """Of a dockerd whose files are in `directory`; none where nothing is lacking."""
    if has(SYS_RESOURCE):
        return []
    script = directory / "runc"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return [f"--add-runtime=lab={script}", "--default-runtime=lab"]


def has(capability: int) -> bool:
    """Whether this process may ever have it."""
    status = Path("/proc/self/status").read_text()
    [bounds] = [line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")]
    return bool(int(bounds, 16) >> capability & 1)
