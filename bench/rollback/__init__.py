"""How long a canary that fails 90 % of its requests goes on getting them, on the sandbox: real Envoy and Prometheus."""
