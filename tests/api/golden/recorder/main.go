// Recorder answers, for each line {"object": ..., "old": ...} on its input, what Kubernetes' own
// decoder, defaults and validation make of the object: {"error", "strict", "object", "faults"}.
// It is not part of the tests; README.md says how to run it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	apps "k8s.io/kubernetes/pkg/apis/apps"
	appsinstall "k8s.io/kubernetes/pkg/apis/apps/install"
	appsval "k8s.io/kubernetes/pkg/apis/apps/validation"
	batch "k8s.io/kubernetes/pkg/apis/batch"
	batchinstall "k8s.io/kubernetes/pkg/apis/batch/install"
	batchval "k8s.io/kubernetes/pkg/apis/batch/validation"
	coordination "k8s.io/kubernetes/pkg/apis/coordination"
	coordinstall "k8s.io/kubernetes/pkg/apis/coordination/install"
	coordval "k8s.io/kubernetes/pkg/apis/coordination/validation"
	core "k8s.io/kubernetes/pkg/apis/core"
	coreinstall "k8s.io/kubernetes/pkg/apis/core/install"
	coreval "k8s.io/kubernetes/pkg/apis/core/validation"
	discovery "k8s.io/kubernetes/pkg/apis/discovery"
	discinstall "k8s.io/kubernetes/pkg/apis/discovery/install"
	discval "k8s.io/kubernetes/pkg/apis/discovery/validation"
	networking "k8s.io/kubernetes/pkg/apis/networking"
	netinstall "k8s.io/kubernetes/pkg/apis/networking/install"
	netval "k8s.io/kubernetes/pkg/apis/networking/validation"

	autoscaling "k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalinginstall "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingval "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	node "k8s.io/kubernetes/pkg/apis/node"
	nodeinstall "k8s.io/kubernetes/pkg/apis/node/install"
	nodeval "k8s.io/kubernetes/pkg/apis/node/validation"
	policy "k8s.io/kubernetes/pkg/apis/policy"
	policyinstall "k8s.io/kubernetes/pkg/apis/policy/install"
	policyval "k8s.io/kubernetes/pkg/apis/policy/validation"
	rbac "k8s.io/kubernetes/pkg/apis/rbac"
	rbacinstall "k8s.io/kubernetes/pkg/apis/rbac/install"
	rbacval "k8s.io/kubernetes/pkg/apis/rbac/validation"
	scheduling "k8s.io/kubernetes/pkg/apis/scheduling"
	schedinstall "k8s.io/kubernetes/pkg/apis/scheduling/install"
	schedval "k8s.io/kubernetes/pkg/apis/scheduling/validation"
	storage "k8s.io/kubernetes/pkg/apis/storage"
	storageinstall "k8s.io/kubernetes/pkg/apis/storage/install"
	storageval "k8s.io/kubernetes/pkg/apis/storage/validation"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podutil "k8s.io/kubernetes/pkg/api/pod"
)

type req struct {
	Object json.RawMessage `json:"object"`
	Old    json.RawMessage `json:"old"`
}
type fe struct{ Field, Type, Message string }
type resp struct {
	Error  string          `json:"error,omitempty"`
	Strict string          `json:"strict,omitempty"`
	Object json.RawMessage `json:"object,omitempty"`
	Faults []fe            `json:"faults"`
}

var sch = runtime.NewScheme()

func main() {
	coreinstall.Install(sch)
	appsinstall.Install(sch)
	batchinstall.Install(sch)
	coordinstall.Install(sch)
	discinstall.Install(sch)
	netinstall.Install(sch)
	autoscalinginstall.Install(sch)
	nodeinstall.Install(sch)
	policyinstall.Install(sch)
	rbacinstall.Install(sch)
	schedinstall.Install(sch)
	storageinstall.Install(sch)
	metav1.AddToGroupVersion(sch, schema.GroupVersion{Version: "v1"})
	strict := serializer.NewCodecFactory(sch, serializer.EnableStrict)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<26)
	for in.Scan() {
		var r req
		out := resp{}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			panic(err)
		}
		obj, gvk, err := strict.UniversalDeserializer().Decode(r.Object, nil, nil)
		if err != nil && !runtime.IsStrictDecodingError(err) {
			out.Error = err.Error()
		} else {
			if err != nil {
				out.Strict = err.Error()
			}
			sch.Default(obj)
			internal, e3 := sch.UnsafeConvertToVersion(obj, runtime.InternalGroupVersioner)
			enc, e2 := runtime.Encode(strict.LegacyCodec(gvk.GroupVersion()), internal)
			if e2 != nil {
				out.Error = e2.Error()
			}
			out.Object = enc

			if e3 != nil {
				out.Error = e3.Error()
			} else {
				var old runtime.Object
				if len(r.Old) > 0 && string(r.Old) != "null" {
					o, _, err := strict.UniversalDeserializer().Decode(r.Old, nil, nil)
					if err != nil && !runtime.IsStrictDecodingError(err) {
						panic(err)
					}
					sch.Default(o)
					old, _ = sch.UnsafeConvertToVersion(o, runtime.InternalGroupVersioner)
				}
				for _, f := range validate(internal, old, gvk.GroupVersion()) {
					out.Faults = append(out.Faults, fe{f.Field, string(f.Type), f.ErrorBody()})
				}
			}
		}
		b, _ := json.Marshal(out)
		fmt.Println(string(b))
	}
}

func validate(obj, old runtime.Object, gv schema.GroupVersion) (faults field.ErrorList) {
	// Kubernetes' own validation fails on some objects, where an API server answers 500.
	defer func() {
		if recover() != nil {
			faults = field.ErrorList{field.InternalError(nil, fmt.Errorf("0x"))}
		}
	}()
	switch o := obj.(type) {
	case *core.Pod:
		if old != nil {
			p := old.(*core.Pod)
			return coreval.ValidatePodUpdate(o, p, podutil.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, &p.Spec, &o.ObjectMeta, &p.ObjectMeta))
		}
		opts := podutil.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, nil, &o.ObjectMeta, nil)
		opts.ResourceIsPod = true
		return coreval.ValidatePodCreate(o, opts)
	case *core.Service:
		if old != nil {
			return coreval.ValidateServiceUpdate(o, old.(*core.Service))
		}
		return coreval.ValidateServiceCreate(o)
	case *core.Namespace:
		return coreval.ValidateNamespace(o)
	case *core.Node:
		if old != nil {
			return coreval.ValidateNodeUpdate(o, old.(*core.Node))
		}
		return coreval.ValidateNode(o)
	case *core.ConfigMap:
		if old != nil {
			return coreval.ValidateConfigMapUpdate(o, old.(*core.ConfigMap))
		}
		return coreval.ValidateConfigMap(o)
	case *core.Secret:
		if old != nil {
			return coreval.ValidateSecretUpdate(o, old.(*core.Secret))
		}
		return coreval.ValidateSecret(o)
	case *core.ServiceAccount:
		return coreval.ValidateServiceAccount(o)
	case *core.Endpoints:
		return coreval.ValidateEndpointsCreate(o)
	case *core.Event:
		return coreval.ValidateEventCreate(o, gv)
	case *apps.Deployment:
		if old != nil {
			p := old.(*apps.Deployment)
			l := appsval.ValidateDeploymentUpdate(o, p, podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &p.Spec.Template))
			return append(l, coreval.ValidateImmutableField(o.Spec.Selector, p.Spec.Selector, field.NewPath("spec").Child("selector"))...)
		}
		return appsval.ValidateDeployment(o, podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *apps.ReplicaSet:
		return appsval.ValidateReplicaSet(o, podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *core.ReplicationController:
		opts := podutil.GetValidationOptionsFromPodTemplate(o.Spec.Template, nil)
		if old != nil {
			return append(coreval.ValidateReplicationController(o, opts), coreval.ValidateReplicationControllerUpdate(o, old.(*core.ReplicationController), opts)...)
		}
		return coreval.ValidateReplicationController(o, opts)
	case *apps.DaemonSet:
		opts := podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil)
		if old != nil {
			p := old.(*apps.DaemonSet)
			// What the API server counts for itself.
			o.Spec.TemplateGeneration = p.Spec.TemplateGeneration
			p.Spec.Template = o.Spec.Template
			l := append(appsval.ValidateDaemonSet(o, opts), appsval.ValidateDaemonSetUpdate(o, p, opts)...)
			return append(l, coreval.ValidateImmutableField(o.Spec.Selector, p.Spec.Selector, field.NewPath("spec").Child("selector"))...)
		}
		return appsval.ValidateDaemonSet(o, opts)
	case *apps.StatefulSet:
		opts := podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil)
		if old != nil {
			return appsval.ValidateStatefulSetUpdate(o, old.(*apps.StatefulSet), opts)
		}
		return appsval.ValidateStatefulSet(o, opts)
	case *batch.Job:
		opts := batchval.JobValidationOptions{PodValidationOptions: podutil.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil), RequirePrefixedLabels: true}
		if old != nil {
			return append(batchval.ValidateJob(o, opts), batchval.ValidateJobUpdate(o, old.(*batch.Job), opts)...)
		}
		return batchval.ValidateJob(o, opts)
	case *batch.CronJob:
		opts := podutil.GetValidationOptionsFromPodTemplate(&o.Spec.JobTemplate.Spec.Template, nil)
		if old != nil {
			return batchval.ValidateCronJobUpdate(o, old.(*batch.CronJob), opts)
		}
		return batchval.ValidateCronJobCreate(o, opts)
	case *apps.ControllerRevision:
		return appsval.ValidateControllerRevisionCreate(o)
	case *coordination.Lease:
		return coordval.ValidateLease(o)
	case *discovery.EndpointSlice:
		return discval.ValidateEndpointSliceCreate(o)
	case *networking.Ingress:
		return netval.ValidateIngressCreate(o)
	case *networking.IngressClass:
		return netval.ValidateIngressClass(o)
	case *core.PersistentVolume:
		opts := coreval.ValidationOptionsForPersistentVolume(o, nil)
		l := coreval.ValidatePersistentVolume(o, opts)
		if old != nil {
			p := old.(*core.PersistentVolume)
			l = append(l, coreval.ValidatePersistentVolumeUpdate(o, p, opts)...)
		}
		return l
	case *core.PersistentVolumeClaim:
		opts := coreval.ValidationOptionsForPersistentVolumeClaim(o, nil)
		l := coreval.ValidatePersistentVolumeClaim(o, opts)
		if old != nil {
			l = append(l, coreval.ValidatePersistentVolumeClaimUpdate(o, old.(*core.PersistentVolumeClaim), opts)...)
		}
		return l
	case *core.ResourceQuota:
		if old != nil {
			return coreval.ValidateResourceQuotaUpdate(o, old.(*core.ResourceQuota))
		}
		return coreval.ValidateResourceQuota(o)
	case *core.LimitRange:
		return coreval.ValidateLimitRange(o)
	case *autoscaling.HorizontalPodAutoscaler:
		opts := autoscalingval.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1}
		if old != nil {
			return autoscalingval.ValidateHorizontalPodAutoscalerUpdate(o, old.(*autoscaling.HorizontalPodAutoscaler), opts)
		}
		return autoscalingval.ValidateHorizontalPodAutoscaler(o, opts)
	case *policy.PodDisruptionBudget:
		return policyval.ValidatePodDisruptionBudget(o, policyval.PodDisruptionBudgetValidationOptions{})
	case *networking.NetworkPolicy:
		opts := netval.ValidationOptionsForNetworking(o, nil)
		l := netval.ValidateNetworkPolicy(o, opts)
		if old != nil {
			l = append(l, netval.ValidateNetworkPolicyUpdate(o, old.(*networking.NetworkPolicy), opts)...)
		}
		return l
	case *networking.IPAddress:
		if old != nil {
			return netval.ValidateIPAddressUpdate(o, old.(*networking.IPAddress))
		}
		return netval.ValidateIPAddress(o)
	case *networking.ServiceCIDR:
		if old != nil {
			return netval.ValidateServiceCIDRUpdate(o, old.(*networking.ServiceCIDR))
		}
		return netval.ValidateServiceCIDR(o)
	case *rbac.Role:
		return rbacval.ValidateRole(o)
	case *rbac.ClusterRole:
		return rbacval.ValidateClusterRole(o, rbacval.ClusterRoleValidationOptions{})
	case *rbac.RoleBinding:
		if old != nil {
			return rbacval.ValidateRoleBindingUpdate(o, old.(*rbac.RoleBinding))
		}
		return rbacval.ValidateRoleBinding(o)
	case *rbac.ClusterRoleBinding:
		if old != nil {
			return rbacval.ValidateClusterRoleBindingUpdate(o, old.(*rbac.ClusterRoleBinding))
		}
		return rbacval.ValidateClusterRoleBinding(o)
	case *scheduling.PriorityClass:
		if old != nil {
			return schedval.ValidatePriorityClassUpdate(o, old.(*scheduling.PriorityClass))
		}
		return schedval.ValidatePriorityClass(o)
	case *node.RuntimeClass:
		l := nodeval.ValidateRuntimeClass(o)
		if old != nil {
			l = append(l, nodeval.ValidateRuntimeClassUpdate(o, old.(*node.RuntimeClass))...)
		}
		return l
	case *storage.StorageClass:
		l := storageval.ValidateStorageClass(o)
		if old != nil {
			l = append(l, storageval.ValidateStorageClassUpdate(o, old.(*storage.StorageClass))...)
		}
		return l
	case *storage.CSIDriver:
		if old != nil {
			return storageval.ValidateCSIDriverUpdate(o, old.(*storage.CSIDriver))
		}
		return storageval.ValidateCSIDriver(o)
	case *storage.VolumeAttachment:
		if old != nil {
			return storageval.ValidateVolumeAttachmentUpdate(o, old.(*storage.VolumeAttachment))
		}
		l := storageval.ValidateVolumeAttachment(o)
		return append(l, storageval.ValidateVolumeAttachmentV1(o)...)
	case *storage.CSINode:
		return storageval.ValidateCSINode(o, storageval.CSINodeValidationOptions{AllowLongNodeID: true})
	case *storage.CSIStorageCapacity:
		l := storageval.ValidateCSIStorageCapacity(o, storageval.CSIStorageCapacityValidateOptions{})
		if old != nil {
			l = append(l, storageval.ValidateCSIStorageCapacityUpdate(o, old.(*storage.CSIStorageCapacity))...)
		}
		return l
	}
	panic(fmt.Sprintf("%T", obj))
}
