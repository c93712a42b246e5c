"""Benchmarks: each is a package with a `main`.

`make bench` runs those that need only a process: `settled` and `reading`. Their results are ratios of two things timed
in turn, because times vary with the machine. `make bench-decision` simulates rollouts: no clock, equal figures on any
machine. `make bench-latency`, `bench-rollback`, `bench-switching`, `bench-gateways` and `bench-model-server` need the
sandbox or a real vLLM.
"""
