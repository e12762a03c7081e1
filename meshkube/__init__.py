"""Kubernetes in one asyncio process per host, with its focus on traffic."""

__version__ = "0.1.0"
