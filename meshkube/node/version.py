"""The Kubernetes version that nodes report."""

KUBELET_VERSION = "v1.33.0+meshkube"
