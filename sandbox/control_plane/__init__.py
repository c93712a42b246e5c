"""etcd, the API server and Prometheus: their command lines and credentials, and the API tier, which is just these."""
