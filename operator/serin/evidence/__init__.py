"""Pure statistics: is the canary worse than the stable that serves beside it, and do we know it yet? Stdlib only.

An anytime-valid comparison: it is valid at every moment. The operator's verdict (`serin.analysis.verdict`)
rests on it, and `serin evidence` and `serin simulate` run it by hand. Sources are named where they are used.
"""
