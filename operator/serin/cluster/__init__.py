"""Access to the API server: a port with a few verbs, its adapter, and leader election. Only this package imports
`kubernetes`."""
