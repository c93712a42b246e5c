"""Simulates trials with chosen traffic: `serin simulate`. Standard library only.

It runs the operator's own test and ramp (`serin.evidence`), not a copy of them. The operator never imports it, because
this is the only part of the package that draws random numbers.
"""
