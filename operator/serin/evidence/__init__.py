"""Statistical tests that compare a canary with the stable that serves at the same time. Standard library only.

"Evidence" means one thing here: how strongly the counts speak against the canary, as the natural logarithm of an
e-value (`log_e`) or as a share of what a rollback needs (`evidence`, 0 to 1). The tests are anytime-valid: their error
probabilities hold however often the result is read. Called by the verdict (`serin.analysis.verdict`), and by
`serin evidence` and `serin simulate`. Specification: docs/reference/decision-engine.md.
"""
