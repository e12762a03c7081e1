"""Connections that carry other than HTTP: taken over from a server's request, dialled, and passed
on both ways; and whole requests passed on. What the API server and the node agent share."""
