"""How many bad answers the decision engine lets through, beside the rules of others, on the same simulated traffic.

`make bench-decision` plays every row of docs/reference/decision-engine.md, section 9, writes `results.md` and three
plots beside this file, and fails if a limit is not met. Under ten minutes on two cores; `--scale 0.05` tries it out and
writes nothing. Parts: the test alone (`rows`), whole trials with every comparison (`whole_rows`), and latencies on
simulated pods (`latency_rows`).
NumPy, Numba, SciPy and matplotlib serve it; the operator has none of them.
"""
