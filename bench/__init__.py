"""Benchmarks: each is a package with a `main`, measures in one run, and depends on nothing but the code.

`make bench` runs those of time. Machines are noisy, so a claim there is a ratio of two things timed in turn, never a
time. `make bench-decision` runs that of the statistics: no clock in it, the same figures on any machine.
"""
