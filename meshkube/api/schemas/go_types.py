"""Go's names for the types of fields, where a schema does not tell them: a wrong type is reported
with the name of the type that was expected, such as `v1.Protocol`.

Source: the Kubernetes API's Go types. Each row names a type and the fields that have it.
"""

from __future__ import annotations

from typing import Final

_NAMED: Final = {
    "[]v1.Capability": ("Capabilities.add", "Capabilities.drop"),
    "[]v1.FinalizerName": ("NamespaceSpec.finalizers",),
    "[]v1.IPFamily": ("ServiceSpec.ipFamilies",),
    "[]v1.PersistentVolumeAccessMode": ("PersistentVolumeClaimSpec.accessModes",),
    "[]v1.UniqueVolumeName": ("NodeStatus.volumesInUse",),
    "types.UID": (
        "ConfigMapNodeConfigSource.uid",
        "ObjectMeta.uid",
        "ObjectReference.uid",
        "OwnerReference.uid",
        "Preconditions.uid",
    ),
    "v1.AddressType": ("EndpointSlice.addressType",),
    "v1.AppArmorProfileType": ("AppArmorProfile.type",),
    "v1.AzureDataDiskCachingMode": ("AzureDiskVolumeSource.cachingMode",),
    "v1.AzureDataDiskKind": ("AzureDiskVolumeSource.kind",),
    "v1.ConditionStatus": (
        "Condition.status",
        "DeploymentCondition.status",
        "NamespaceCondition.status",
        "NodeCondition.status",
        "PodCondition.status",
        "ReplicaSetCondition.status",
    ),
    "v1.ContainerRestartPolicy": ("Container.restartPolicy", "EphemeralContainer.restartPolicy"),
    "v1.CoordinatedLeaseStrategy": ("LeaseSpec.strategy",),
    "v1.DNSPolicy": ("PodSpec.dnsPolicy",),
    "v1.DeletionPropagation": ("DeleteOptions.propagationPolicy",),
    "v1.DeploymentConditionType": ("DeploymentCondition.type",),
    "v1.DeploymentStrategyType": ("DeploymentStrategy.type",),
    "v1.HostPathType": ("HostPathVolumeSource.type",),
    "v1.IPFamilyPolicy": ("ServiceSpec.ipFamilyPolicy",),
    "v1.LabelSelectorOperator": ("LabelSelectorRequirement.operator",),
    "v1.LoadBalancerIPMode": ("LoadBalancerIngress.ipMode",),
    "v1.ManagedFieldsOperationType": ("ManagedFieldsEntry.operation",),
    "v1.MountPropagationMode": ("VolumeMount.mountPropagation",),
    "v1.NamespaceConditionType": ("NamespaceCondition.type",),
    "v1.NamespacePhase": ("NamespaceStatus.phase",),
    "v1.NodeAddressType": ("NodeAddress.type",),
    "v1.NodeConditionType": ("NodeCondition.type",),
    "v1.NodeInclusionPolicy": (
        "TopologySpreadConstraint.nodeAffinityPolicy",
        "TopologySpreadConstraint.nodeTaintsPolicy",
    ),
    "v1.NodePhase": ("NodeStatus.phase",),
    "v1.NodeSelectorOperator": ("NodeSelectorRequirement.operator",),
    "v1.OSName": ("PodOS.name",),
    "v1.PathType": ("HTTPIngressPath.pathType",),
    "v1.PersistentVolumeMode": ("PersistentVolumeClaimSpec.volumeMode",),
    "v1.PodConditionType": ("PodCondition.type", "PodReadinessGate.conditionType"),
    "v1.PodFSGroupChangePolicy": ("PodSecurityContext.fsGroupChangePolicy",),
    "v1.PodPhase": ("PodStatus.phase",),
    "v1.PodQOSClass": ("PodStatus.qosClass",),
    "v1.PodResizeStatus": ("PodStatus.resize",),
    "v1.PodSELinuxChangePolicy": ("PodSecurityContext.seLinuxChangePolicy",),
    "v1.PreemptionPolicy": ("PodSpec.preemptionPolicy",),
    "v1.ProcMountType": ("SecurityContext.procMount",),
    "v1.Protocol": (
        "ContainerPort.protocol",
        "EndpointPort.protocol",
        "IngressPortStatus.protocol",
        "PortStatus.protocol",
        "ServicePort.protocol",
    ),
    "v1.PullPolicy": (
        "Container.imagePullPolicy",
        "EphemeralContainer.imagePullPolicy",
        "ImageVolumeSource.pullPolicy",
    ),
    "v1.RecursiveReadOnlyMode": (
        "VolumeMount.recursiveReadOnly",
        "VolumeMountStatus.recursiveReadOnly",
    ),
    "v1.ReplicaSetConditionType": ("ReplicaSetCondition.type",),
    "v1.ResourceHealthStatus": ("ResourceHealth.health",),
    "v1.ResourceID": ("ResourceHealth.resourceID",),
    "v1.ResourceList": (
        "ContainerStatus.allocatedResources",
        "NodeStatus.allocatable",
        "NodeStatus.capacity",
        "PodSpec.overhead",
        "ResourceRequirements.limits",
        "ResourceRequirements.requests",
        "VolumeResourceRequirements.limits",
        "VolumeResourceRequirements.requests",
    ),
    "v1.ResourceName": ("ContainerResizePolicy.resourceName", "ResourceStatus.name"),
    "v1.ResourceResizeRestartPolicy": ("ContainerResizePolicy.restartPolicy",),
    "v1.RestartPolicy": ("PodSpec.restartPolicy",),
    "v1.SeccompProfileType": ("SeccompProfile.type",),
    "v1.SecretType": ("Secret.type",),
    "v1.ServiceAffinity": ("ServiceSpec.sessionAffinity",),
    "v1.ServiceExternalTrafficPolicy": ("ServiceSpec.externalTrafficPolicy",),
    "v1.ServiceInternalTrafficPolicy": ("ServiceSpec.internalTrafficPolicy",),
    "v1.ServiceType": ("ServiceSpec.type",),
    "v1.Signal": ("ContainerStatus.stopSignal", "Lifecycle.stopSignal"),
    "v1.StorageMedium": ("EmptyDirVolumeSource.medium",),
    "v1.SupplementalGroupsPolicy": ("PodSecurityContext.supplementalGroupsPolicy",),
    "v1.TaintEffect": ("Taint.effect", "Toleration.effect"),
    "v1.TerminationMessagePolicy": (
        "Container.terminationMessagePolicy",
        "EphemeralContainer.terminationMessagePolicy",
    ),
    "v1.TolerationOperator": ("Toleration.operator",),
    "v1.URIScheme": ("HTTPGetAction.scheme",),
    "v1.UniqueVolumeName": ("AttachedVolume.name",),
    "v1.UnsatisfiableConstraintAction": ("TopologySpreadConstraint.whenUnsatisfiable",),
}
_BY_FIELD: Final = {field: name for name, fields in _NAMED.items() for field in fields}


def named_type(struct: str, field: str) -> str | None:
    """`v1.Protocol` for `ContainerPort` and `protocol`; nothing for a plain type."""
    return _BY_FIELD.get(f"{struct}.{field}")
