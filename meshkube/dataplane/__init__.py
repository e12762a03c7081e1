"""Services and pod addresses as kernel rules: a pure compile step and thin shells."""

from meshkube.dataplane.nftables import teardown

__all__ = ["teardown"]
