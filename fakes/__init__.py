"""The world in memory: an API server, a Prometheus, and the pods, users and traffic of one LLMDeployment.

Callers: the stories, other tests, and benchmarks that need no cluster. Not here: the operator, which is always real.
"""
