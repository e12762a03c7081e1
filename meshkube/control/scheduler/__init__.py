"""Which node a pod runs on: a pure plan, and the loop that binds."""
