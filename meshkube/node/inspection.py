"""What the node's server tells of itself: health, pods, use, metrics; paths as the kubelet's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import orjson
from aiohttp import web

from meshkube import metrics
from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node import usage_metrics
from meshkube.node.measuring import Meter
from meshkube.node.probe_metrics import ProbeMetrics
from meshkube.node.records import Records
from meshkube.node.runtime import SANDBOX
from meshkube.node.summary import summary


class Inspection:
    """`pods` are those bound to this node."""

    def __init__(
        self,
        meter: Meter,
        records: Records,
        pods: Callable[[], Iterable[Object]],
        probes: ProbeMetrics,
    ) -> None:
        self._meter = meter
        self._records = records
        self._pods = pods
        self._probes = probes

    def add_routes(self, router: web.UrlDispatcher) -> None:
        for path in ("/healthz", "/healthz/ping", "/healthz/syncloop", "/livez"):
            router.add_get(path, self._healthz)
        for path in ("/pods", "/pods/"):
            router.add_get(path, self._all_pods)
        for path in ("/runningpods", "/runningpods/"):
            router.add_get(path, self._running_pods)
        router.add_get("/metrics", self._metrics)
        router.add_get("/metrics/resource", self._resource)
        router.add_get("/metrics/cadvisor", self._cadvisor)
        router.add_get("/metrics/probes", self._probed)
        for path in ("/stats/summary", "/stats/summary/"):
            router.add_get(path, self._summary)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _all_pods(self, request: web.Request) -> web.Response:
        return _json(_pod_list([{"apiVersion": "v1", "kind": "Pod", **p} for p in self._pods()]))

    async def _running_pods(self, request: web.Request) -> web.Response:
        """What the runtime has, whatever the API says."""
        return _json(_pod_list(list(self._from_records())))

    def _from_records(self) -> Iterable[Object]:
        for uid in self._records.uids():
            running = [one for one in self._records.of(uid) if one.state == "running"]
            names = [(one.name, one.image) for one in running if one.name != SANDBOX]
            if names:
                pod = running[0].pod
                containers = [
                    {"name": name, "image": image, "resources": {}} for name, image in names
                ]
                yield {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                    "spec": {"containers": containers},
                    "status": {},
                }

    async def _metrics(self, request: web.Request) -> web.Response:
        """The whole process's, and what a kubelet says of its pods and their volumes."""
        records = [one for uid in self._records.uids() for one in self._records.of(uid)]
        states = Counter(str(one.state) for one in records if one.name != SANDBOX)
        running = {one.pod.uid for one in records if one.state == "running"}
        own = usage_metrics.kubelet(await self._meter.gather(), len(running), states)
        return _metrics_text(metrics.exposition().decode() + own)

    async def _resource(self, request: web.Request) -> web.Response:
        return _metrics_text(usage_metrics.resource(await self._meter.gather(whole=False)))

    async def _cadvisor(self, request: web.Request) -> web.Response:
        return _metrics_text(usage_metrics.cadvisor(await self._meter.gather()))

    async def _probed(self, request: web.Request) -> web.Response:
        return _metrics_text(self._probes.exposition())

    async def _summary(self, request: web.Request) -> web.Response:
        little = request.query.get("only_cpu_and_memory", "").lower() in ("true", "1", "t")
        usage = await self._meter.gather(whole=not little)
        return _json(summary(usage, only_cpu_and_memory=little))


def _pod_list(pods: list[Object]) -> Object:
    pods.sort(key=meta.key)
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}


def _json(content: Object) -> web.Response:
    return web.json_response(body=orjson.dumps(content))


def _metrics_text(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})
