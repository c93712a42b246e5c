"""The API server: a port of a few verbs, its adapter, and the leader's election. The only importer of `kubernetes`."""
