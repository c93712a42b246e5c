"""`model-server-metrics.md`: the series that the middleware adds to a pod of vLLM.

Called by `docs.reference.generate`. Names, labels and buckets are read from the middleware itself. Deliberately not
here: what is measured and why (docs/concepts/measuring.md), and vLLM's own series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from docs.reference.texts import table
from model_server.serin_model_server import metrics, outcome
from model_server.serin_model_server.identity import EPOCHS, NONE
from model_server.serin_model_server.timings import Times

# What each outcome is, in the words of the page.
OUTCOMES = {
    outcome.OK: "status 2xx, to its end",
    outcome.SERVER_ERROR: "5xx, or no answer at all",
    outcome.REJECTED: "400, 413, 422",
    outcome.STREAM_ERROR: "status 200 with an error event or `finish_reason` `error` inside, or broken off",
    outcome.ABORTED: "status 200 with `finish_reason` `abort`, which the client did not cause",
    outcome.TIMED_OUT: f"given up by client or gateway after {outcome.UNANSWERED:g} seconds without a byte of answer",
    outcome.EXCLUDED: "any other status (401, 403, 404, 408, 429, 499), and clients that went away otherwise",
}


def model_server_page() -> list[str]:
    """The series of the middleware.

    Raises:
        LookupError: an outcome has no meaning on this page.
    """
    if OUTCOMES.keys() != set(outcome.OUTCOMES):
        raise LookupError("An outcome has no meaning; give it one in docs/reference/model_server_page.py.")
    registry = CollectorRegistry()
    families = metrics.Metrics(registry)
    families.pair(NONE).observe(Times(ttft=0, e2e=0, queue=0, per_token=0))
    rows = []
    for family in registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        # prometheus_client's own companion of each counter and histogram.
        if not name.endswith("_created"):
            shown = ", ".join(f"`{label}`" for label in sorted(labels))
            rows.append((f"`{name}`", family.type, shown, family.documentation))
    buckets = [
        (f"`{name}`", ", ".join(f"{bound:g}" for bound in bounds))
        for name, bounds in (
            ("serin_time_to_first_token_seconds", metrics.TTFT_BUCKETS),
            ("serin_e2e_request_latency_seconds", metrics.LATENCY_BUCKETS),
            ("serin_request_time_per_output_token_seconds", metrics.PER_TOKEN_BUCKETS),
            ("serin_request_queue_time_seconds", metrics.LATENCY_BUCKETS),
        )
    ]
    return [
        "# Metrics of the model server",
        "",
        "On vLLM's own `/metrics` page, in pods that have the middleware. What they mean and what is left out:",
        "[what is measured](../concepts/measuring.md). A histogram has `_bucket`, `_count` and `_sum`; every counter",
        "and histogram has a `_created`.",
        "",
        *table(("metric", "type", "labels", "meaning"), rows),
        "",
        *table(
            ("label", "values"),
            [
                ("`revision`", "the revision that the route chose (10 hex digits), or `none`"),
                ("`epoch`", f"`0` to `{EPOCHS - 1}`, the weight that was in force, or `none`"),
                ("`outcome`", ", ".join(f"`{name}`" for name in outcome.OUTCOMES)),
            ],
        ),
        "",
        *table(("outcome", "what it is"), [(f"`{name}`", said) for name, said in OUTCOMES.items()]),
        "",
        f"At most {metrics.MAX_PAIRS} pairs of revision and epoch: beyond that the one that was idle longest goes from",
        "all families. Buckets are vLLM's for the same quantity:",
        "",
        *table(("histogram", "boundaries in seconds"), buckets),
    ]
