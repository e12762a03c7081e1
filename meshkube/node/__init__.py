"""The node agent: pods on a container runtime, probes, volumes, logs, exec, statistics."""
