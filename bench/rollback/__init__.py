"""How long a bad canary goes on getting requests, on the sandbox: real Envoy and Prometheus.

engines   canaries that fail 90 % of their requests
prompts   canaries of prompts that spoil 90 % of their answers, with status 200
page      the page of results
"""
