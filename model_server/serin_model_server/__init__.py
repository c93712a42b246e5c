"""What Serin adds to a vLLM pod: it counts and times requests by revision and epoch.

In a pod: `vllm serve --middleware=serin_model_server.Middleware`, with this package's directory on PYTHONPATH.

Not part of the operator: the operator's image carries these files, an init container copies them into the engine's pod,
and vLLM's own Python (3.10 or newer) runs them with nothing but prometheus_client. One module per concern:

    identity     which revision and epoch a request belongs to, and its id, from the headers that the route sets
    outcome      how a request ended, from the status and a cheap look at the answer's bytes
    timings      the join of a request with what vLLM's engine says about it; samples of a cold cache
    metrics      the series, at most 64 pairs of labels
    recorder     those four together: begin, end, and what the engine reported
    middleware   the ASGI shell around vLLM: passes everything through untouched
    stat_logger  vLLM's plugin interface (the only module that imports vLLM)

Imports are relative because the package has this name in a pod and another one in the repository.
Deliberately not here: rewriting bodies (prompts); that will be a stage between the shell and vLLM, by `identity`.
"""

from .middleware import Middleware

__all__ = ["Middleware"]
