"""Which pods are annotated with their document, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from serin.cluster.port import POD, Kind
from serin.errors import ClusterError, Conflict, Forbidden
from serin.split_delivery import AT_ONCE, deliver, evict

ENGINE, DIGEST = "a1a1a1a1a1", "0123456789ab"


class Pods:
    """The one call that `deliver` makes; `answers` are errors by the pod's name."""

    def __init__(self, answers: Mapping[str, ClusterError] | None = None) -> None:
        self.answers = answers or {}
        self.written: list[tuple[str, str, Mapping[str, str]]] = []
        self.now = self.most = 0

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str], *, uid: str
    ) -> None:
        assert (kind, namespace) == (POD, "default")
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        self.written.append((name, uid, annotations))
        if name in self.answers:
            raise self.answers[name]


def pod(number: int, engine: str = ENGINE, shown: str | None = None, **metadata: Any) -> dict[str, Any]:
    annotations = {} if shown is None else {"annotations": {"serin.dev/split": shown}}
    base = {"name": f"pod-{number:03}", "namespace": "default", "uid": f"uid-{number}"}
    return {"metadata": base | {"labels": {"serin.dev/engine-revision": engine}} | annotations | metadata}


async def run(cluster: Pods, pods: list[dict[str, Any]]) -> int:
    return await deliver(cluster, pods, {ENGINE: DIGEST})  # type: ignore[arg-type]


async def test_only_pods_that_lack_the_digest_are_annotated() -> None:
    cluster = Pods()
    pods = [
        pod(1),
        pod(2, shown="older"),
        pod(3, shown=DIGEST),
        pod(4, engine="of-another"),
        pod(5, deletionTimestamp="2026-05-04T12:00:00Z"),
    ]

    assert await run(cluster, pods) == 2
    assert cluster.written == [(f"pod-00{n}", f"uid-{n}", {"serin.dev/split": DIGEST}) for n in (1, 2)]


async def test_at_most_eight_writes_are_under_way() -> None:
    cluster = Pods()

    assert await run(cluster, [pod(n) for n in range(30)]) == 30
    assert cluster.most == AT_ONCE == 8


@pytest.mark.parametrize(
    ("error", "asked"),
    [(Forbidden("no right"), 8), (ClusterError("no answer"), 8), (Conflict("the pod is gone"), 30)],
    ids=["forbidden", "no-answer", "gone"],
)
async def test_refusal_of_all_ends_the_round_and_raises_nothing(error: ClusterError, asked: int) -> None:
    cluster = Pods({f"pod-{n:03}": error for n in range(30)})

    assert await run(cluster, [pod(n) for n in range(30)]) == 0
    assert len(cluster.written) == asked


async def test_refusal_of_one_pod_holds_up_no_other() -> None:
    cluster = Pods({"pod-000": Forbidden("a policy refuses this pod")})

    assert await run(cluster, [pod(n) for n in range(30)]) == 29


class Evicting:
    """Records evictions; `answer` is raised."""

    def __init__(self, answer: ClusterError | None = None) -> None:
        self.answer = answer
        self.evicted: list[tuple[str, str, str]] = []

    async def evict(self, namespace: str, name: str, *, uid: str) -> None:
        self.evicted.append((namespace, name, uid))
        if self.answer:
            raise self.answer


async def test_pod_is_evicted_by_its_uid() -> None:
    cluster = Evicting()
    said = await evict(cluster, [pod(1), pod(2)], "pod-002")  # type: ignore[arg-type]
    assert cluster.evicted == [("default", "pod-002", "uid-2")]
    assert said == "Serin has evicted pod pod-002, because it still used an earlier split document."


async def test_refused_eviction_is_said() -> None:
    said = await evict(Evicting(ClusterError("HTTP 429; Serin retries.")), [pod(1)], "pod-001")  # type: ignore[arg-type]
    assert said == (
        "Pod pod-001 still uses an earlier split document, and its eviction failed; delete it: HTTP 429; Serin retries."
    )


@pytest.mark.parametrize("name", [None, "pod-009", "pod-001"], ids=["none", "gone", "being deleted"])
async def test_nothing_is_evicted(name: str | None) -> None:
    cluster = Evicting()
    deleting = pod(1, deletionTimestamp="2026-05-04T12:00:00Z")
    assert await evict(cluster, [deleting], name) is None  # type: ignore[arg-type]
    assert cluster.evicted == []
