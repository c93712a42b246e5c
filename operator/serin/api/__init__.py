"""The Kubernetes API of Serin as pydantic models, and the CRDs that are generated from them. Pure.

`llmdeployment` and `promptversion` hold the specs, `status` what Serin reports, `names` every fixed name. `parse` reads
a stored object into a model, `content_hash` computes a prompt's identity. `crd` and `schema` generate the CRDs; `rule`
and `fields` give the API server and the parser the same rules. Every other package may import this one; this one knows
nothing about rollouts.
"""
