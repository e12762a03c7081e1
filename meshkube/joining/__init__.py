"""How a host comes into a cluster and stays in it: trust, certificates, the list of servers."""
