"""An operator with a daemon for each ConfigMap that asks for one, an index of them, and raw events
of pods; it keeps a record of itself in a peering."""

import asyncio
from typing import Any

import kopf

WANTED = {"rows.example/kept": "yes"}


@kopf.index("configmaps", labels=WANTED)
def kept(name: str, **_: Any) -> dict[str, str]:
    return {"names": name}


@kopf.daemon("configmaps", labels=WANTED, cancellation_timeout=2)
async def keep(stopped: kopf.DaemonStopped, kept: kopf.Index, patch: kopf.Patch, **_: Any) -> None:
    while not stopped:
        names = sorted(kept.get("names", []))
        patch.metadata.annotations["rows.example/beside"] = ",".join(names)
        await asyncio.sleep(0.3)
        raise kopf.TemporaryError("again", delay=0.3)


@kopf.on.event("pods", labels=WANTED)
def seen(type: str, name: str, body: kopf.Body, **_: Any) -> None:
    if type == "ADDED" or type is None:
        kopf.info(body, reason="Seen", message=f"{name} came")
