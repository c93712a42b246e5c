"""Which pods are annotated with their document, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from serin.cluster.port import POD, Kind
from serin.errors import ClusterError, Conflict, Forbidden
from serin.split_delivery import AT_ONCE, deliver

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
