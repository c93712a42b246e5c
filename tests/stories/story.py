"""How a story runs: operator and world take turns, every tick is checked, every change is a transcript line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.fake_cluster import Call
from fakes.operator_in_memory import reconciler
from fakes.world import KEY, NAME, NAMESPACE, World
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    POD_DISRUPTION_BUDGET,
    SERVICE,
)
from serin.errors import ClusterError
from serin.manifests.controller_revision import read_or_explain
from serin.reconciler import Reconciler
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.record import Record

GOLDEN = Path(__file__).parent / "golden"
QUICK: dict[str, Any] = {
    "replicas": 2,
    "rollout": {
        "ramp": {"steps": [{"weight": 20, "hold": "10s"}, {"weight": 60, "hold": "10s"}]},
        "minimumBake": "0s",
        "drainTimeout": "30s",
        "progressDeadline": "1m",
    },
    "analysis": {"metrics": [{"name": "errors", "preset": "ErrorRate"}]},
}
"""Changes of a spec: two pods, and a ramp of two short steps that waits for nothing else."""
HELD: dict[str, Any] = {
    "replicas": 1,
    "rollout": {"ramp": {"steps": [{"weight": 25, "hold": "1h"}]}, "drainTimeout": "10s"},
    "analysis": {"metrics": [{"name": "errors", "preset": "ErrorRate"}]},
}
"""Changes of a spec: one pod, and a canary that gets 25 % and keeps it."""
OURS = (DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, CONTROLLER_REVISION, HTTP_ROUTE, CONFIG_MAP)
"""What Serin writes; pods belong to the controller of their Deployment."""
TICK_SECONDS = 5
FEW_ALIKE = 2
TURNS_PER_TICK = 12
"""A world that stands still must be at rest after this many reconciles."""


class CrashError(Exception):
    """The operator dies here."""


@dataclass
class Story:
    """One rollout from the outside."""

    world: World = field(default_factory=World)
    transcript: list[str] = field(default_factory=list)
    ever_failed: set[str] = field(default_factory=set)
    """Revisions whose last verdict was a Fail or that crashed: their weight must not rise."""
    crash_at: int | None = None
    """Die right after the write of this number, counted from 0."""
    writes: int = 0
    model_server: str | None = "serin:test"
    """None: pods carry no middleware, and the gateway counts."""
    each_tick: Callable[[Story], None] | None = None
    _most_ready: dict[str, int] = field(default_factory=dict)
    _last_line: str = ""
    _counting: int = 0
    _last_phase: Phase | None = None
    _weights_before: dict[str, int] = field(default_factory=dict)

    def reconciler(self) -> Reconciler:
        return reconciler(self.world, self.model_server)

    async def run(self, minutes: float, until: Callable[[Story], bool] | None = None) -> None:
        """Let time pass, at most this long, or until something is so (which must then happen)."""
        for _ in range(int(minutes * 60 / TICK_SECONDS)):
            await self.tick()
            if until and until(self):
                return
        assert until is None, f"did not happen in {minutes} minutes:\n" + "\n".join(self.transcript)

    async def until_phase(self, phase: Phase, minutes: float = 30) -> None:
        await self.run(minutes, lambda story: story.phase is phase)

    async def tick(self) -> None:
        self.world.pass_time(TICK_SECONDS)
        if self.each_tick:
            self.each_tick(self)
        for _ in range(TURNS_PER_TICK):
            wrote = await self._turn()
            if wrote is None:
                return
            if not wrote:
                self._check()
                return
        raise AssertionError("the operator keeps writing to a world that stands still:\n" + "\n".join(self.transcript))

    async def _turn(self) -> bool | None:
        """One reconcile; whether it wrote anything, or None if it was its last."""
        before = len(self.world.cluster.writes)
        self.world.cluster.after = self._maybe_crash
        try:
            await self.reconciler().reconcile(KEY)  # a new one each time: it must not depend on state in memory
        except CrashError:
            self.crash_at = None
            self.world.watches.clear()  # the collector died with it
            self._check_weights()
            return None  # it comes back with the next tick: until then the world lives with what was written
        except ClusterError as error:
            self.transcript.append(f"{self.clock} error: {error}")
            self._check_weights()
            return False
        finally:
            self.world.cluster.after = None
        self._check_weights()
        self._note()
        return len(self.world.cluster.writes) > before

    def _maybe_crash(self, call: Call) -> None:
        if not call.writes:
            return
        # What is written every few seconds while requests are counted: after the first, one death is like the other.
        self._counting = self._counting + 1 if call.kind is CONFIG_MAP or call.verb in {"apply_status", "event"} else 0
        if self._counting > FEW_ALIKE:
            return
        self.writes += 1
        if self.crash_at is not None and self.writes - 1 >= self.crash_at:
            raise CrashError

    # Invariants --------------------------------------------------------------------------------------------------

    def _check_weights(self) -> None:
        weights = self.world.weights()
        assert not weights or sum(weights.values()) == 10_000, weights
        for revision in weights.keys() | self._weights_before.keys():
            old, new = self._weights_before.get(revision), weights.get(revision)
            if self._weights_before:
                assert not (old is None and new), f"{revision} jumped into the route at {new}"
                assert not (old and new is None), f"{revision} left the route at {old}"
            if revision in self.ever_failed:
                assert (new or 0) <= (old or 0), f"{revision} failed and rose from {old} to {new}"
        self._weights_before = weights

    def _check(self) -> None:
        """After every tick, with the operator at rest."""
        records = {r.revision: r for r in self._records()}
        weights = self.world.weights()
        services = {s["metadata"]["name"] for s in self.world.cluster.all(SERVICE)}
        for backend in self.world.split().backends:
            assert f"{NAME}-{backend}" in services, f"the route names {backend}, which has no Service"
        for revision, weight in weights.items():
            if weight:
                self._check_pods(records[revision].engine_revision, weight)
        self.ever_failed = {r.revision for r in records.values() if r.rejection}
        for obj in self.world.cluster.all(DEPLOYMENT):
            assert obj["metadata"]["ownerReferences"][0]["uid"] == self.uid
        phase = self.phase
        assert phase
        if self._last_phase and phase is not self._last_phase:
            assert phase in TRANSITIONS[self._last_phase], f"{self._last_phase} -> {phase} is not in the table"
        self._last_phase = phase

    def _check_pods(self, engine: str, weight: int) -> None:
        ready = self.world.ready_pods(engine)
        self._most_ready[engine] = max(ready, self._most_ready.get(engine, 0))
        stable = self.world.status().get("stable", {}).get("engineRevision") == engine
        # New replicas of the stable take their time, and its traffic has nowhere else to go.
        replicas = min(self.replicas, self._most_ready[engine]) if stable else self.replicas
        needed = -(-replicas * weight // 10_000)
        assert ready >= needed, f"{engine} carries {weight} with {ready} of {needed} pods Ready"

    # Transcript -------------------------------------------------------------------------------------------------

    @property
    def uid(self) -> str:
        return str(self._object["metadata"]["uid"])

    @property
    def replicas(self) -> int:
        return int(self._object["spec"]["replicas"])

    @property
    def _object(self) -> dict[str, Any]:
        from serin.cluster.port import LLMDEPLOYMENT

        obj = self.world.cluster.find(LLMDEPLOYMENT, NAMESPACE, NAME)
        assert obj
        return obj

    @property
    def phase(self) -> Phase | None:
        phase = self.world.status().get("phase")
        return Phase(phase) if phase else None

    @property
    def canary(self) -> str:
        return str(self.world.status()["canary"]["revision"])

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c["reason"]) for c in self.world.status()["conditions"]}

    @property
    def clock(self) -> str:
        minutes, seconds = divmod(int((self.world.now - self.world.started).total_seconds()), 60)
        return f"{minutes:3}:{seconds:02}"

    def _records(self) -> list[Record]:
        """Those that can be read."""
        found = map(read_or_explain, self.world.cluster.all(CONTROLLER_REVISION))
        return [record for record in found if isinstance(record, Record)]

    def _note(self) -> None:
        status = self.world.status()
        records = self._records()
        names = {r.revision: str(r.number) for r in records}
        split = " ".join(f"r{names.get(r, '?')}={w / 100:g}%" for r, w in self.world.weights().items()) or "no route"
        engines = {
            d["metadata"]["name"].removeprefix(f"{NAME}-"): d["spec"]["replicas"]
            for d in self.world.cluster.all(DEPLOYMENT)
        }
        numbers = {r.engine_revision: r.number for r in records}
        pods = " ".join(
            f"e{numbers.get(e, '?')}:{self.world.ready_pods(e)}/{n}"
            for e, n in sorted(engines.items(), key=lambda i: numbers.get(i[0], 0))
        )
        reason = next(c["reason"] for c in status["conditions"] if c["type"] == "Stalled")
        line = f"{status['phase']:<12} {reason:<24} {split:<28} {pods}"
        if line != self._last_line:
            self._last_line = line
            self.transcript.append(f"{self.clock} {line}".rstrip())

    def read_as_golden(self, name: str) -> None:
        """Compare the transcript with the recorded one; with SERIN_GOLDEN=write, record it."""
        golden = GOLDEN / f"{name}.txt"
        text = "\n".join(self.transcript) + "\n"
        if os.environ.get("SERIN_GOLDEN") == "write":
            golden.write_text(text)
        assert text == golden.read_text()
