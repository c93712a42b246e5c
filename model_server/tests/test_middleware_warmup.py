"""Which revisions are cold: new ones, and those that come back after they left the pod."""

from __future__ import annotations

from pathlib import Path

from model_server.serin_model_server.warmup import COLD_REQUESTS, Warmup
from model_server.tests.prompting.test_stage import Pod, splitting
from model_server.tests.split_documents import CANARY, STABLE


def test_revision_that_comes_back_is_cold_again() -> None:
    warmup = Warmup()
    for _ in range(COLD_REQUESTS + 1):
        cold = [warmup.is_cold(name, 0) for name in ("stable", "canary")]
    assert cold == [False, False]
    warmup.keep_only(["stable"])
    assert [warmup.is_cold(name, 0) for name in ("stable", "canary")] == [False, True]


async def test_pod_forgets_the_warmth_of_revisions_that_left(tmp_path: Path) -> None:
    pod = Pod(tmp_path, splitting())
    kept: list[tuple[str, ...]] = []
    pod.recorder._warmup.keep_only = kept.append  # type: ignore[method-assign,assignment]
    for _ in range(3):
        await pod.ask()
    (tmp_path / "split.json").write_bytes(splitting(sequence=72))
    pod.middleware._channel.start()  # type: ignore[union-attr]
    await pod.ask()

    assert kept == [(STABLE, CANARY)] * 2
