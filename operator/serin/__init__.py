"""Serin: canary rollouts of LLMs on Kubernetes.

api/             the Kubernetes contract: LLMDeployment, PromptVersion, their CRDs (pure)
rollout/         the functional core: snapshot in, decision out (pure)
manifests/       builders of children from a resolved revision (pure); routers/ the same for the split
metric_sources/  Prometheus, one collector for all active rollouts; cluster/ the API server
reconciler.py    observe -> decide -> plan -> execute -> report
handlers.py      what wakes the reconciler; __main__.py wires it all together
"""
