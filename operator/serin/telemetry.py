"""The operator's JSON logs and Prometheus metrics.

Configured by `serin.__main__`; called by the reconciler, the cluster adapter, the collector and the election. Every
reconcile logs exactly one event. The series of an LLMDeployment are removed when it is deleted. Kubernetes Events are
written by `serin.cluster`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from serin.api.names import FULL_WEIGHT
from serin.api.status import Condition
from serin.cluster.port import Kind
from serin.kube_types import Key
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase

log = structlog.get_logger(__name__)


def configure_logging(level: str, stream: Any = None) -> None:
    """Configure JSON lines for all loggers of the process, including kopf's."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Their debug level logs every request.
    for chatty in ("kopf", "asyncio", "urllib3", "kubernetes", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(max(logging.INFO, root.level))
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # kopf logs "handler succeeded" for every watch event.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


class Telemetry:
    """The metrics of one process, in their own registry."""

    def __init__(self) -> None:
        # The `_created` series would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        of = ("namespace", "name")
        self._phase = Gauge(
            "serin_rollout_phase",
            "1 for the current phase of the LLMDeployment.",
            (*of, "phase"),
            registry=self.registry,
        )
        self._weight = Gauge(
            "serin_rollout_canary_weight_ratio",
            "Share of requests that the canary gets, 0 to 1.",
            of,
            registry=self.registry,
        )
        self._stalled = Gauge(
            "serin_rollout_stalled",
            "1 while the rollout is Stalled: a person or a change in the cluster is needed.",
            of,
            registry=self.registry,
        )
        self._blind = Gauge(
            "serin_rollout_blind", "1 while the metrics of a canary cannot be read.", of, registry=self.registry
        )
        self._verdicts = Counter(
            "serin_verdicts", "Changes of the verdict, by its new value.", (*of, "verdict"), registry=self.registry
        )
        self._seconds = Histogram(
            "serin_reconcile_duration_seconds",
            "Duration of one reconcile, in seconds.",
            ("outcome",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 120),
            registry=self.registry,
        )
        self._writes = Counter(
            "serin_api_writes", "Successful writes to the API server.", ("kind", "verb"), registry=self.registry
        )
        self._evidence = Histogram(
            "serin_evidence_read_duration_seconds",
            "Duration of one read of Prometheus for all active rollouts, in seconds.",
            ("outcome",),
            registry=self.registry,
        )
        self._leader = Gauge("serin_leader", "1 in the replica that leads, 0 in the others.", registry=self.registry)
        self._queue = Gauge(
            "serin_workqueue_keys", "Number of LLMDeployments in the work queue.", registry=self.registry
        )
        self._leader.set(0)
        self._last_verdict: dict[Key, str] = {}
        self._last_phase: dict[Key, str] = {}

    def decided(
        self, key: Key, generation: int, decision: Decision, conditions: Iterable[Condition], writes: int
    ) -> None:
        """Record a finished reconcile: its log event and the gauges, which alerts read; they follow the conditions."""
        canary = decision.canary.revision if decision.canary else None
        weight = decision.weights.get(canary, 0) / FULL_WEIGHT if canary else 0.0
        verdict = str(decision.judgement.verdict) if decision.judgement else None
        self._set_phase(key, decision.phase)
        self._weight.labels(*key).set(weight)
        statuses = {condition.type: condition.status for condition in conditions}
        self._stalled.labels(*key).set(statuses.get("Stalled") == "True")
        self._blind.labels(*key).set(statuses.get("MetricsAvailable") == "False")
        if verdict is None:
            self._last_verdict.pop(key, None)
        elif self._last_verdict.get(key) != verdict:
            self._last_verdict[key] = verdict
            self._verdicts.labels(*key, verdict).inc()
        # A reconcile without writes is logged only at debug level.
        write_log = log.info if writes else log.debug
        write_log(
            "reconciled",
            namespace=key[0],
            name=key[1],
            generation=generation,
            phase=str(decision.phase),
            reason=str(decision.reason),
            message=decision.message,
            canary=canary,
            weight=weight,
            verdict=verdict,
            writes=writes,
            due_in=decision.due_in.total_seconds() if decision.due_in else None,
        )

    def forget(self, key: Key) -> None:
        """Remove the series of a deleted LLMDeployment."""
        self._last_verdict.pop(key, None)
        self._last_phase.pop(key, None)
        for metric in (self._phase, self._weight, self._stalled, self._blind, self._verdicts):
            metric.remove_by_labels({"namespace": key[0], "name": key[1]})

    def timed(self, outcome: str, seconds: float) -> None:
        """Record the duration of a reconcile; `outcome` is ok or error."""
        self._seconds.labels(outcome).observe(seconds)

    def wrote(self, kind: Kind, verb: str) -> None:
        """Record a successful write to the API server."""
        self._writes.labels(kind.kind, verb).inc()

    def read_evidence(self, seconds: float, *, failed: bool) -> None:
        """Record a read of Prometheus."""
        self._evidence.labels("error" if failed else "ok").observe(seconds)

    def leads(self, *, leading: bool) -> None:
        """Record whether this process leads."""
        self._leader.set(leading)

    def exposition(self, known: int) -> bytes:
        """All series in the text format of Prometheus; `known` is the number of keys in the work queue."""
        self._queue.set(known)
        return generate_latest(self.registry)

    def _set_phase(self, key: Key, phase: Phase) -> None:
        before = self._last_phase.get(key)
        if before not in {None, phase}:
            self._phase.remove(*key, before)
        self._last_phase[key] = phase
        self._phase.labels(*key, phase).set(1)
