"""The only wiring: builds the parts that a host runs, and supervises them.

`server` is a host with a control plane, `agent` one without; `host` holds what both run. A command
imports the one that it starts: an agent never loads the control plane.
"""

from meshkube.daemon.process import is_running

__all__ = ["is_running"]
