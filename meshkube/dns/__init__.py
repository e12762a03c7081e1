"""Cluster DNS: records and answers, pure, and the server around them."""
