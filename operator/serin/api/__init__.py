"""The Kubernetes contract: what users write and read, as pydantic models, and the CRDs printed from them. Pure.

`llmdeployment` and `promptversion` are the specs, `status` is what Serin reports, `names` every fixed name, `parse` the
way in from a stored object, `content_hash` a prompt's identity. `crd` and `schema` print the CRDs, `rule` and `fields`
make the API server and the parser say the same. Everybody imports from here; nothing here knows how a rollout works.
"""
