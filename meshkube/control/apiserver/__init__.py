"""The API: a registry over the store, the in-process Client, and HTTP in front of them."""
