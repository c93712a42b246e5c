"""A real single-node cluster on this machine, built from pinned sources: `python -m sandbox up`.

host           this machine: paths, locks, programs and processes, ports, progress
builds         what is built or fetched (`pins`), and the cache that holds the result
images         container images without docker
control_plane  etcd, API server and Prometheus; alone they are the API tier, which tests start with `api_tier.start`
node           the full tier: a node in its own namespaces, its components, gateway and images
cli            the verbs of the command line

A folder imports only from folders above it in this list. Standard library only. Not here: the operator, its charts and
the demo, which use the sandbox like any other cluster.
"""
