"""What Serin adds to a vLLM pod: it counts and times requests by revision and epoch, and applies prompts.

In a pod: `vllm serve --middleware=serin_model_server.Middleware`, with this package's directory on PYTHONPATH.

Not part of the operator: the operator's image carries these files, an init container copies them into the engine's pod,
and vLLM's own Python (3.10 or newer) runs them with packages that vLLM brings: prometheus_client, msgspec, and for
checks regex and jsonschema. One module per concern:

    asgi         the types of an ASGI application
    labels       revision and epoch, the labels of every series
    checks       yes/no questions about answers (a package; its docstring lists its modules)
    outcome      how a request ended, from its status and a search of the response's bytes
    prompting    puts the prompt of a revision into requests (a package; its docstring lists its modules)
    document     the split document: what a good one says
    identity     what a request's headers say about its revision and epoch, and its id
    selection    which revision answers a request, by the split document
    timings      the times that vLLM's engine reports for one request
    metrics      the time series, for at most 64 pairs of labels
    join         finds the request that an engine's report belongs to
    silence      finds the requests on whose connection no byte passes
    warmup       whether a revision's caches are still cold
    ticker       calls a function at an interval
    recorder     begins, ends and times a request; uses all of the above
    access_log   one line per request: which revision and prompt produced its answer
    exchange     observes one request and its response
    channel      loads the split document from the pod's volume, and shows which one is in force
    middleware   the ASGI shell around vLLM: passes every message on
    stat_logger  the plugin through which vLLM reports times (the only module that imports vLLM)

A module imports only modules above it in this list. vLLM's API server loads the last two.
Imports are relative because the package is `serin_model_server` in a pod and `model_server.serin_model_server` here.
"""

from .middleware import Middleware

__all__ = ["Middleware"]
