"""Every section of the Kubernetes DNS specification, with real packets."""

from __future__ import annotations

from pathlib import Path

from meshkube.api.kinds import ENDPOINT_SLICE, NAMESPACE, SERVICE
from tests.dns import specification
from tests.dns.servers import running_server
from tests.dns.specification import CASES, SPEC

KINDS = {"Namespace": NAMESPACE, "Service": SERVICE, "EndpointSlice": ENDPOINT_SLICE}


async def test_the_specification_is_kept(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for obj in specification.objects():
            await server.client.create(KINDS[obj["kind"]], obj)
        await server.until(f"all.{SPEC}", "A", ["10.42.9.9"])
        wrong = []
        for case in CASES:
            # Made from the zone, from among the finished answers, and over the other transport.
            for tcp in (False, False, True):
                response = await server.ask(case.name, case.type, tcp=tcp)
                faults = list(specification.faults(case, response))
                wrong += [f"{case.section}: {case.name} {case.type}: {fault}" for fault in faults]
        assert wrong == []
