"""The demo: one good canary promoted and one bad canary rolled back, on real traffic, told as it happens.

place     where it runs: the sandbox, or the cluster that KUBECONFIG names (settings from the environment)
prepare   what has to be there first: sandbox, vLLM, checkpoints, operator image, charts
own_cluster   what a cluster of the user's own is asked first, so that nothing of theirs is changed
cluster   kubectl as a function
manifests the example's files, adapted to the place
follow    what an LLMDeployment went through, seen by a watch
scenes    the story, and what has to be true of it
report    the table at the end
Run it with `make demo` or `python -m examples.demo`. The end-to-end tests reuse all of it.
"""
