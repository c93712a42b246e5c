"""A real cluster on one machine: built from pinned sources, started, watched, repaired and removed without a trace.

Run as `python -m sandbox <verb>`; tests import `sandbox.api_tier` and `sandbox.images`. Standard library only.
`tools` says what is built and `builds` builds it; `api_tier` runs etcd and the API server as plain processes;
`full_tier` runs a whole node inside its own namespaces (`node_space`, `network`), one small module per component group.
Not here: the operator, its charts and the demo, which use the sandbox like any other cluster.
"""
