"""The pods of a StatefulSet and their claims: names, identity, storage. Pure.

Source: the StatefulSet concept page, "Pod Identity" and "PersistentVolumeClaim retention".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers.history import POD_HASH
from meshkube.control.controllers.pod_control import pod_of

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)", re.DOTALL)


def replicas(stateful_set: Object) -> int:
    wanted = stateful_set["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def start(stateful_set: Object) -> int:
    """The first ordinal."""
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def ordinals(stateful_set: Object) -> range:
    first = start(stateful_set)
    return range(first, first + replicas(stateful_set))


def ordinal(pod: Object) -> int:
    """The number at the end of its name; -1 without one."""
    match = _NAME.fullmatch(meta.name(pod))
    return int(match[2]) if match else -1


def is_member(stateful_set: Object, pod: Object) -> bool:
    """True where its name is one that this set gives."""
    match = _NAME.fullmatch(meta.name(pod))
    return match is not None and match[1] == meta.name(stateful_set)


def revision_of(pod: Object) -> str:
    """The name of the ControllerRevision whose template it was made of."""
    return meta.labels(pod).get(POD_HASH) or ""


def new_pod(stateful_set: Object, template: Object, revision: str, number: int) -> Object:
    """The pod with this ordinal, of that template."""
    pod = pod_of(kinds.STATEFUL_SET, stateful_set, template)
    name = f"{meta.name(stateful_set)}-{number}"
    del pod["metadata"]["generateName"]
    pod["metadata"]["name"] = name
    pod["spec"]["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = stateful_set["spec"]["serviceName"]
    with_identity(stateful_set, pod)
    pod["metadata"]["labels"][POD_HASH] = revision
    return pod


def with_identity(stateful_set: Object, pod: Object) -> None:
    """Sets what ties a pod to its place: labels, and volumes for its claims."""
    number = ordinal(pod)
    labels = pod["metadata"].setdefault("labels", {})
    labels[POD_NAME] = meta.name(pod)
    labels[POD_INDEX] = str(number)
    claimed = dict(claim_names(stateful_set, number))
    if claimed:
        others = [v for v in pod["spec"].get("volumes") or () if v.get("name") not in claimed]
        own = [
            {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": False}}
            for name, claim in claimed.items()
        ]
        pod["spec"]["volumes"] = [*own, *others]


def has_identity(stateful_set: Object, pod: Object) -> bool:
    """True where the pod is what its place in the set says."""
    if meta.labels(pod).get(POD_NAME) != meta.name(pod):
        return False
    volumes = {
        volume["name"]: (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in (pod.get("spec") or {}).get("volumes") or ()
    }
    claims = claim_names(stateful_set, ordinal(pod))
    return all(volumes.get(name) == claim for name, claim in claims)


def _templates(stateful_set: Object) -> Sequence[Object]:
    return stateful_set["spec"].get("volumeClaimTemplates") or ()


def claim_names(stateful_set: Object, number: int) -> Iterator[tuple[str, str]]:
    """The volumes of the pod with this ordinal that are claims: name, and the claim's name."""
    for template in _templates(stateful_set):
        yield meta.name(template), f"{meta.name(template)}-{meta.name(stateful_set)}-{number}"


def claims(stateful_set: Object, pod: Object) -> list[Object]:
    """The claims that this pod mounts, as they are to be made."""
    selector = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    made = []
    names = claim_names(stateful_set, ordinal(pod))
    for template, (_, name) in zip(_templates(stateful_set), names, strict=True):
        described = meta.metadata(template)
        metadata: Object = {
            "name": name,
            "namespace": meta.namespace(stateful_set),
            "labels": {**(described.get("labels") or {}), **selector},
        }
        if described.get("annotations"):
            metadata["annotations"] = dict(described["annotations"])
        owners = owners_of_claim(stateful_set, pod, [])
        if owners:
            metadata["ownerReferences"] = owners
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": meta.copy(template.get("spec") or {}),
            }
        )
    return made


def owners_of_claim(
    stateful_set: Object, pod: Object, references: Sequence[Object]
) -> list[Object]:
    """The owner references of a claim as its set's retention policy wants them: the set's where
    claims go with the set, the pod's where they go with a pod that was scaled away.
    `references` are what it has; those of others stay."""
    ours = {meta.uid(stateful_set), meta.uid(pod)} - {""}
    kept = [r for r in references if r.get("uid") not in ours]
    names = {(kinds.STATEFUL_SET.kind, meta.name(stateful_set)), ("Pod", meta.name(pod))}
    if any((r.get("kind"), r.get("name")) in names for r in kept):
        # Of a namesake that is gone: garbage collection decides about the claim.
        return list(references)
    if any(r.get("controller") for r in kept):
        return kept
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    scaled_away = ordinal(pod) not in ordinals(stateful_set)
    if policy.get("whenScaled") == "Delete" and scaled_away:
        return [*kept, meta.owner_reference(kinds.POD, pod)] if meta.uid(pod) else kept
    if policy.get("whenDeleted") == "Delete":
        return [*kept, meta.owner_reference(kinds.STATEFUL_SET, stateful_set)]
    return kept
