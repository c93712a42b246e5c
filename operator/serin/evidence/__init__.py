"""Pure statistics: is the canary worse than the stable that serves beside it, and do we know it yet? Stdlib only.

An anytime-valid comparison: it may be looked at as often as one likes. Used by `serin evidence`; the operator's verdict
(`serin.rollout.verdict`) does not rest on it yet. Sources are named where they are used.
"""
