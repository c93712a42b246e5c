"""Generates `model-server-metrics.md`: the metrics that the middleware adds to an engine pod.

Called by `docs.reference.generate`. Names, labels and buckets come from the middleware. docs/concepts/measuring.md
explains what is measured and why.
"""

from __future__ import annotations

from typing import NoReturn

from prometheus_client import CollectorRegistry

from docs.reference.texts import table
from model_server.serin_model_server import metrics, outcome
from model_server.serin_model_server.channel import Series
from model_server.serin_model_server.checks.answer import RESULTS
from model_server.serin_model_server.checks.document import MOST, read_checks
from model_server.serin_model_server.document import DIGEST_LENGTH
from model_server.serin_model_server.labels import EPOCHS, NONE
from model_server.serin_model_server.timings import Times

# The meaning of each outcome, as printed on the page.
OUTCOMES = {
    outcome.OK: "status 2xx and a complete response",
    outcome.SERVER_ERROR: "status 5xx, or no response",
    outcome.REJECTED: "status 400, 413 or 422",
    outcome.STREAM_ERROR: "status 2xx, but the response contains an error event or `finish_reason` `error`, or is "
    "incomplete",
    outcome.ABORTED: "status 2xx, but the server aborted the response (`finish_reason` `abort`)",
    outcome.TIMED_OUT: f"client or gateway disconnected after {outcome.SILENT:g} seconds or more without a byte, "
    "at the start or in mid-stream",
    outcome.EXCLUDED: "any other status (401, 402, 403, 404, 405, 409, 415, 429, 3xx)",
    outcome.LEFT: "status 408 or 499, or client or gateway disconnected while bytes were coming",
}


def model_server_page() -> list[str]:
    """The page of the middleware's metrics.

    Raises:
        LookupError: an outcome has no entry in OUTCOMES.
    """
    if OUTCOMES.keys() != set(outcome.OUTCOMES):
        raise LookupError("An outcome has no entry in OUTCOMES; add it in docs/reference/model_server_page.py.")
    registry = CollectorRegistry()
    families = metrics.Metrics(registry)
    Series(registry).show("0" * DIGEST_LENGTH)
    families.pair(NONE).observe(Times(ttft=0, e2e=0, queue=0, per_token=0))
    check = [{"name": "empty", "kind": "Empty"}]
    families.checks.arrive(NONE, read_checks(check, [{"revision": NONE.revision}], _unexpected))
    rows = []
    for family in registry.collect():
        labels = {label for sample in family.samples for label in sample.labels}
        # Every histogram has it.
        labels -= {"le"} if family.type == "histogram" else set()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        # prometheus_client adds a `_created` series to each counter and histogram.
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
        "Pods with the middleware show these metrics on vLLM's own `/metrics` page. What they mean and what they leave",
        "out: [what is measured](../concepts/measuring.md). A histogram has `_bucket`, `_count` and `_sum`; every",
        "counter and histogram has a `_created`.",
        "",
        *table(("metric", "type", "labels", "meaning"), rows),
        "",
        *table(
            ("label", "values"),
            [
                (
                    "`revision`",
                    "the revision that answers (10 hex digits), from the split document or the route; or `none`",
                ),
                (
                    "`epoch`",
                    f"`0` to `{EPOCHS - 1}`, the period with one split of traffic; `none`: counted, and never evidence",
                ),
                ("`le`", ", ".join(f"`{limit}`" for limit in metrics.SILENCE_LABELS) + ": seconds without a byte"),
                ("`digest`", f"the first {DIGEST_LENGTH} hex digits of a split document's hash"),
                ("`check`", f"the names of the checks in the split document, at most {MOST}"),
                (
                    "`result`",
                    ", ".join(f"`{result}`" for result in RESULTS) + "; skipped: not judged, and never evidence",
                ),
                ("`outcome`", ", ".join(f"`{name}`" for name in outcome.OUTCOMES)),
            ],
        ),
        "",
        *table(("outcome", "meaning"), [(f"`{name}`", meaning) for name, meaning in OUTCOMES.items()]),
        "",
        f"There are at most {metrics.MAX_PAIRS} pairs of revision and epoch. Beyond that, the pair that was idle",
        "longest is removed from all families. The buckets are those of vLLM for the same quantity:",
        "",
        *table(("histogram", "boundaries in seconds"), buckets),
        "",
        f"`serin_output_tokens` has the boundaries {', '.join(map(str, metrics.TOKEN_BUCKETS))} tokens.",
    ]


def _unexpected(why: str) -> NoReturn:
    raise ValueError(why)
