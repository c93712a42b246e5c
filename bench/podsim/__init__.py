"""Latency comparisons on simulated pods: a continuous-batching engine per pod, scraped as Prometheus scrapes it.

`python -m bench.podsim` plays both tables of "like is compared with like": identical and slower canaries, first through
the plain histograms (loads mixed), then by load bucket with the margin as times. `make bench-decision` plays the same
rows (`tables`). `python -m bench.podsim --against-vllm URL` compares the load buckets that a real model server counts
with those seen by its client (`against`).
Modules: `engine` serves requests, `trial` makes the series of a trial, `compare` tests them.
"""
