"""Numbered folders hold examples to read and apply; `load`, `demo` and `light` are Python that drives them.

load    an open-loop load generator that speaks as a user's application does
demo    `make demo`: a whole story on a real cluster, with a table and an exit status at its end
light   LLMDeployments on an engine without a model, for end-to-end tests and benchmarks
"""
