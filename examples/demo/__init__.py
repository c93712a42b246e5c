"""The demo: a good canary is promoted and a bad canary is rolled back, on real traffic; then the same with prompts.

place        the cluster it runs on: the sandbox or the one of KUBECONFIG (settings from the environment)
prepare      creates what the scenes need: sandbox, vLLM, checkpoints, operator image, charts
own_cluster  checks a user's cluster before the demo changes anything there
cluster      kubectl as a function
manifests    the example's files, adapted to the cluster
follow       watches an LLMDeployment and records its states
conditions   reads phase, conditions and sides from an LLMDeployment
story        the state that the scenes share, and what they expect of every trial
scenes       the four scenes of engines and their expectations
prompt_scenes  the two scenes of prompts and their expectations
report       the expectations' results and the tables at the end
say          prints lines with the elapsed time

Run it with `make demo` or `python -m examples.demo`. The end-to-end tests reuse its modules.
"""
