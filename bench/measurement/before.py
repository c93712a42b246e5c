"""What commit af6ca3c did in the same simulations. Called by `main`, for the column *before* of results.md."""

from __future__ import annotations

from collections.abc import Mapping

COMMIT = "af6ca3c"
_LOST = "promoted after 32-35 min; adaptive 12-48 min"
_UNSEEN = "promoted after 33 min"
_HANGS = "promoted after 22-34 or rolled back after 12-39 min; adaptive: promoted after 11 min"

CANARIES: Mapping[str, str] = {
    **{f"{share}% {how}": _LOST for share in (10, 30, 50, 90) for how in ("lost before the pod",)},
    "100% lost before the pod": "kept its weight beyond the deadline of 24 h",
    **{f"{share}% answered 503 by the gateway": _LOST for share in (10, 30, 50, 90)},
    "40% excluded (404, 401, 429)": _UNSEEN,
    "100% excluded (404, 401, 429)": "kept 5 % for 24 h, then paused",
    "40% left by the client within 10 s": _UNSEEN,
    "40% stalled for 300 s": _UNSEEN,
    **{f"{share}% hang for 600 s": _HANGS for share in (3, 10, 30)},
}
"""By row of `canaries`."""

LATENCIES: Mapping[str, str] = {
    "TTFT, 4 requests/s per pod, 4 replicas": "off 40 of 40, noisy 23",
    "TTFT, 6 requests/s per pod, 3 replicas": "off 37 of 40, noisy 29",
    "TTFT, 6 requests/s per pod, 4 replicas": "off 40 of 40, noisy 30",
    "TPOT, 4 requests/s per pod, 4 replicas": "off 30 of 30, noisy 18",
    "end to end, 4 requests/s per pod, 4 replicas": "off 30 of 30, noisy 0",
    "TTFT, held at 25 %, 8 replicas, 4 per pod": "off 12 of 20, noisy 18",
    "TTFT, held at 25 %, 8 replicas, 6 per pod": "off 19 of 20, noisy 20",
    "TTFT, holdback 98/2, 4 replicas, 4 per pod": "off 20 of 20, noisy 1",
    "TTFT, equal load, 1 per pod, 4 replicas": "off 0 of 40, noisy 10",
    "TTFT, equal load, 2 per pod, 4 replicas": "off 0 of 40, noisy 19",
    "TTFT, equal load, 3 per pod, 4 replicas": "off 0 of 40, noisy 38",
    "TTFT, cold prefix cache for 15 min, 4 per pod, 4 replicas": "off 20 of 20, noisy 0",
    "TTFT, 5/10 % ramp, 6 per pod, 4 replicas, 1.3 times slower": "proven no worse 16 of 20",
}
"""By row of `bench.podsim.tables`."""

TWO_JOBS = "each request counted twice; false rollbacks at margin 1.0 from 0.3 to 9.5 %"
LATE = (
    "2,336 of 51,032 of the canary's requests counted; a canary with five times the errors was off after 11 min, not 2"
)
SKEWED = "a proven canary was held at the first step, and the deadline had no say"
RENAMED = "1,003,000 counted where 2,000 happened"
READING = "9.9 s and 935 MiB"
HALVES = "blind in 2 of 3 two-pod stables"
AT_MARGIN = "margin was of odds: rolled back 100 % at a boundary near the median"
DEFAULT_RAMP = "602 bad answers (steps were the default)"
DEFAULT_TOLERANCE = "promoted 22 of 40"
