"""API aggregation: groups of the API that programs of the cluster's users answer for.

An APIService with a Service names such a program (an extension API server); every request for its
group and version is passed on, with who asks. Source: Kubernetes documentation, "Kubernetes API
Aggregation Layer" and "Configure the Aggregation Layer"; `apiregistration.k8s.io/v1`.
"""
