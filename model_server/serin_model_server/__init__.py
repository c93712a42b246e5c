"""What Serin adds to a vLLM pod: it counts and times requests by revision and epoch.

In a pod: `vllm serve --middleware=serin_model_server.Middleware`, with this package's directory on PYTHONPATH.

Not part of the operator: the operator's image carries these files, an init container copies them into the engine's pod,
and vLLM's own Python (3.10 or newer) runs them with nothing but prometheus_client. One module per concern:

    identity     revision and epoch of a request, and its id, from the headers that the route sets
    outcome      how a request ended, from its status and a search of the response's bytes
    timings      the times that vLLM's engine reports for one request
    metrics      the time series, for at most 64 pairs of labels
    join         finds the request that an engine's report belongs to
    warmup       whether a revision's caches are still cold
    recorder     begins, ends and times a request; uses all of the above
    middleware   the ASGI shell around vLLM: passes every message through unchanged
    stat_logger  the plugin through which vLLM reports times (the only module that imports vLLM)

A module imports only modules above it in this list. vLLM's API server loads the last two.
Imports are relative because the package is `serin_model_server` in a pod and `model_server.serin_model_server` here.
Not here: rewriting of bodies (prompts); that will be a stage between the shell and vLLM, selected by `identity`.
"""

from .middleware import Middleware

__all__ = ["Middleware"]
