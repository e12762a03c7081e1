"""What a cluster asks of the place where its hosts run: see docs/cloud.md."""
