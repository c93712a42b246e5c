"""From `spec.analysis` to a verdict: what is counted, the state of a trial, and what the counts say. Pure.

It does not know the rollout: steps, weights and pods are in `serin.rollout`.
"""
