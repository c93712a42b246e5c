"""Benchmarks: each is a package with a `main`, prints a ratio measured in one run, and depends on nothing but the code.

`make bench` runs them all. Machines are noisy, so a claim is a ratio of two things timed in turn, never a time.
"""
