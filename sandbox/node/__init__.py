"""The full tier: one node with every component of a cluster, inside namespaces of its own on this machine."""
