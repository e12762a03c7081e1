"""How every room reads and writes the API: one Protocol, its HTTP form, and informers over it."""

from meshkube.client.base import Client, ObjectList, WatchEvent

__all__ = ["Client", "ObjectList", "WatchEvent"]
