"""Who asks, and what they may do: tokens, RBAC, nodes. Pure: plain data in, decisions out."""
