"""What the cluster is built from, and the cache that holds the result: pinned modules, and binaries by content hash."""
