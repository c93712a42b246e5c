"""A vLLM on this machine that measures by load, for `--against-vllm` without a URL; and results.md. For `main`."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.model_server.load import split_document
from bench.podsim.against import METRICS, Report, Target
from model_server.cpu.install import VLLM_VERSION
from model_server.serin_model_server.document import canonical
from model_server.serve import MODEL, serving, split_path

RESULTS = Path(__file__).with_name("results.md")
LARGER = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "head_dim": 128}
"""The tiny model answers in less time than the API server and the client need to pass its tokens on, so nothing would
be seen of its own times. With these sizes, and random weights, a step takes several milliseconds."""
FLAGS = (
    "--load-format=dummy",
    f"--hf-overrides={json.dumps(LARGER)}",
    "--max-model-len=256",
    "--uvicorn-log-level=warning",
    "--disable-uvicorn-access-log",
)
LOAD = {"from": 1.0, "ratio": 1.3}
"""As the operator writes it (docs/reference/decision-engine.md, section 1)."""
TOKENS = 48
"""Of each answer."""
BOUNDARIES = [0.01, 0.1]
"""Seconds; only the number of requests in each bucket is compared, not how many are above these."""


@contextmanager
def vllm() -> Iterator[Target]:
    """A vLLM with the tiny model and the middleware, as the target of the check; ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with serving(scratch, *FLAGS, middleware=True, split=document()) as server:
            yield replace(Target.of(f"http://127.0.0.1:{server.port}", MODEL, split_path(scratch)), tokens=TOKENS)


def document() -> bytes:
    """The split document of a pod that measures by load."""
    content = json.loads(split_document()) | {
        "measure": {"load": LOAD, "boundaries": dict.fromkeys(METRICS, BOUNDARIES)}
    }
    del content["sha256"]
    return json.dumps(content | {"sha256": hashlib.sha256(canonical(content)).hexdigest()}).encode()


def write(report: Report, load: float) -> None:
    """Write results.md; `load` is the machine's load average before."""
    lines = [
        "<!-- Written by `python -m bench.podsim --against-vllm`. -->",
        "# Load buckets of a real vLLM",
        "",
        f"vLLM {VLLM_VERSION} on a CPU with the tiny model, {os.cpu_count()} cores, everything on loopback, load",
        f"{load:.0f} before; {TOKENS} tokens an answer. The client computes each request's load bucket from its",
        "own clock, as the simulation does; the pod counts its own. The distance is the mean number of buckets between",
        "the two distributions. Where other programs keep a machine busy, a client that waits for its turn reads many",
        "tokens at once, and its time per token is too short.",
        "",
        "| requests in flight | latency | median | buckets of the client (bucket:requests) | of the pod | distance |",
        "|---|---|---|---|---|---|",
        *report.table(),
        "",
        *(f"- {sentence}" for sentence in report.wrong or (report.FITS,)),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
