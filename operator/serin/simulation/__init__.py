"""What the statistics would do on traffic that one can choose: `serin simulate`. Standard library only.

It runs the operator's own test and ramp (`serin.evidence`), not a copy of them. The operator never imports it: here,
and nowhere else in the package, random numbers are drawn.
"""
