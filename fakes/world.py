"""Simulates everything around the operator: user, Deployment controller, kubelet, gateway and traffic.

Stories advance its clock in steps of a few seconds. The simulated parts are simple; the end-to-end tests use real ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.fake_cluster import FakeCluster
from serin.analysis.counts import (
    Baseline,
    InFlight,
    Interval,
    MetricReadings,
    Names,
    Point,
    ShownDocument,
    Tally,
)
from serin.api.names import ANNOTATION_SPLIT, LABEL_DEPLOYMENT, LABEL_ENGINE_REVISION
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD,
    PROMPTVERSION,
    SERVICE,
)
from serin.kube_types import Key
from serin.manifests.controller_revision import read_or_explain
from serin.manifests.evidence_map import name_of
from serin.manifests.split_document import VOLUME, SplitDocument, engine_of_split, read_split
from serin.metric_sources.port import Watch
from serin.rollout.record import Record
from serin.rollout.snapshot import RouteView
from serin.routers.gateway_api import GatewayApiRouter
from serin.routers.split import combined

NAMESPACE, NAME = "default", "triage"
KEY = (NAMESPACE, NAME)
KUBELET_SECONDS = 75
"""After this time a kubelet delivers a changed ConfigMap without an annotation."""


Totals = Mapping[tuple[str, int], tuple[float, float]]
"""By revision and epoch, requests and bad requests."""
QUICK = {"0.1": 0.5, "0.5": 0.9, "1.0": 0.99, "2.5": 1.0, "+Inf": 1.0}
SLOW = {"0.1": 0.1, "0.5": 0.6, "1.0": 0.9, "2.5": 1.0, "+Inf": 1.0}


@dataclass
class Behaviour:
    """How the pods of one engine behave; chosen by the engine argument `test-behaviour`."""

    load_seconds: float = 60
    """Seconds from creation to Ready; infinite: never."""
    error_rate: float = 0.01
    crash: str | None = None
    """`CrashLoopBackOff` or `OOMKilled`; the pod then does not become Ready."""
    exits: int = 0
    """How often the engine has ended and been started again without a back-off."""
    schedulable: bool = True
    first_token: Mapping[str, float] = field(default_factory=lambda: dict(QUICK))
    """By seconds, the share of answers whose first token came within them."""
    drain_seconds: float = 20
    """Seconds until the last request in flight ends, after the pods left the route."""


@dataclass
class Traffic:
    """Finished requests by revision and epoch, with their history, so that any interval can be counted."""

    rps: float = 100
    totals: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    history: list[tuple[datetime, Totals]] = field(default_factory=list)
    unstamped: float = 0.0
    """Requests that no pod could count under a revision and an epoch."""
    unserved: float = 0.0
    """Requests that the route sent to a Service that does not exist."""


class World:
    """A cluster whose controllers act when `pass_time` is called; also the evidence source of the reconciler."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.started = self.now
        self.cluster = FakeCluster(lambda: self.now)
        self.behaviours: dict[str, Behaviour] = {}
        self.traffic = Traffic()
        self.kubelet: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] | None = None
        """Changes the status that a pod would have; stories about pods that are not all alike set it."""
        self.metrics_error: str | None = None
        self.gateway_works = True
        self.gateway_lags = False
        """Whether requests follow a changed route only once the gateway has confirmed it, one tick later."""
        self._served_rules: list[dict[str, Any]] | None = None
        self.watches: dict[Key, Watch] = {}
        self.revision_error_rates: dict[str, float] = {}
        """Error rates of revisions whose pods serve others too, which differ from those of the pods."""
        self.delivers_documents = True
        """Whether the kubelets deliver changed documents; a pod that starts always gets the current one."""
        self.loaded: dict[str, SplitDocument] = {}
        """The last good document of each pod, by the pod's name."""
        self.stuck: set[str] = set()
        """Pods whose kubelet delivers no document."""
        self.refusing: set[str] = set()
        """Pods that refuse the document on their volume."""
        self._shown: dict[str, ShownDocument] = {}
        """What the last scrape of each pod has seen of its document."""
        self._documents: dict[str, tuple[str, datetime]] = {}
        """Text of each ConfigMap, and when it appeared."""
        self._released: dict[str, datetime] = {}
        self._split: tuple[int, RouteView] | None = None
        """The split, and the number of changes of the cluster when it was read."""
        self._pods = 0

    # The user ---------------------------------------------------------------------------------------------------

    def user_applies(self, spec: Mapping[str, Any]) -> None:
        have = self.cluster.find(LLMDEPLOYMENT, *KEY)
        annotations = have["metadata"].get("annotations", {}) if have else {}
        self.cluster.put(
            {
                "apiVersion": "serin.dev/v1alpha1",
                "kind": "LLMDeployment",
                "metadata": {"namespace": NAMESPACE, "name": NAME, "annotations": annotations},
                "spec": copy.deepcopy(dict(spec)),
            }
        )

    def user_commands(self, command: str, by: str = "alice") -> None:
        have = self.cluster.find(LLMDEPLOYMENT, *KEY)
        assert have
        have["metadata"]["annotations"] = {"serin.dev/do": command, "serin.dev/by": by}
        self.cluster.put(have)

    def user_writes_prompt(self, name: str, text: str) -> None:
        self.cluster.put(
            {
                "apiVersion": "serin.dev/v1alpha1",
                "kind": "PromptVersion",
                "metadata": {"namespace": NAMESPACE, "name": name},
                "spec": {"prompt": "triage", "version": "1.0.0", "messages": [{"role": "system", "content": text}]},
            }
        )

    def evidence_is_lost(self) -> None:
        """Delete the ConfigMap with the trial's state."""
        self.cluster.remove(CONFIG_MAP, NAMESPACE, name_of(NAME))

    def user_deletes_prompt(self, name: str) -> None:
        self.cluster.remove(PROMPTVERSION, NAMESPACE, name)

    def status_is_lost(self) -> None:
        self.cluster.set_status(LLMDEPLOYMENT, *KEY, None)

    # Time ---------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Advance the clock and everything except the operator."""
        self._serve(seconds)
        self.now += timedelta(seconds=seconds)
        self._shown = {
            name: ShownDocument(frozenset({own.digest}), self.now, refused=name in self.refusing)
            for name, own in self.loaded.items()
        }
        self._run_deployments()
        self._run_pods()
        self._run_gateway()
        self.traffic.history.append((self.now, dict(self.traffic.totals)))

    def _run_deployments(self) -> None:
        deployments = {_chosen(d)[LABEL_ENGINE_REVISION]: d for d in self.cluster.all(DEPLOYMENT)}
        pods = [p for p in self.cluster.all(POD) if p["metadata"]["labels"].get(LABEL_DEPLOYMENT) == NAME]
        for pod in pods:
            engine = pod["metadata"]["labels"].get(LABEL_ENGINE_REVISION)
            if engine and engine not in deployments:  # without the label it is released, and stays
                self.cluster.remove(POD, NAMESPACE, pod["metadata"]["name"])
        for deployment in deployments.values():
            chosen = _chosen(deployment) | {"pod-template-hash": "test"}
            mine = [p for p in pods if chosen.items() <= p["metadata"]["labels"].items() and not _has_ended(p)]
            wanted = deployment["spec"]["replicas"]
            for pod in mine[wanted:]:
                self.cluster.remove(POD, NAMESPACE, pod["metadata"]["name"])
            for _ in range(wanted - len(mine)):
                self._create_pod(deployment)

    def _create_pod(self, deployment: Mapping[str, Any]) -> None:
        self._pods += 1
        volumes = deployment["spec"]["template"]["spec"].get("volumes") or ()
        mounted = [{"test/split": v["configMap"]["name"]} for v in volumes if v["name"] == VOLUME]
        self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "namespace": NAMESPACE,
                    "name": f"{deployment['metadata']['name']}-{self._pods:03}",
                    "labels": deployment["spec"]["template"]["metadata"]["labels"] | {"pod-template-hash": "test"},
                    "annotations": {
                        "test/args": " ".join(deployment["spec"]["template"]["spec"]["containers"][0]["args"])
                    }
                    | (mounted[0] if mounted else {}),
                },
                "spec": {},
            }
        )

    def _deliver_documents(self) -> None:
        """What kubelets and pods do: at once if the annotation names the document, else within 75 seconds."""
        for pod in self.cluster.all(POD):
            name, mounted = pod["metadata"]["name"], pod["metadata"]["annotations"].get("test/split")
            found = self.cluster.find(CONFIG_MAP, NAMESPACE, mounted) if mounted else None
            document = read_split(found) if found else None
            if not mounted or not found or document is None:
                continue
            text, since = self._documents.get(mounted, ("", self.now))
            if text != found["data"]["split.json"]:
                text, since = self._documents[mounted] = (found["data"]["split.json"], self.now)
            annotated = pod["metadata"]["annotations"].get(ANNOTATION_SPLIT) == document.digest
            due = annotated or (self.now - since).total_seconds() >= KUBELET_SECONDS
            if name not in self.loaded or (due and self.delivers_documents and name not in self.stuck):
                self.loaded[name] = document

    def _run_pods(self) -> None:
        self._deliver_documents()
        for pod in self.cluster.all(POD):
            if _has_ended(pod) or "test/args" not in pod["metadata"].get("annotations", {}):  # not from our template
                continue
            status = self._pod_status(pod)
            if self.kubelet:
                status = self.kubelet(pod, status)
            if status != pod.get("status"):
                self.cluster.set_status(POD, NAMESPACE, pod["metadata"]["name"], status)

    def _pod_status(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        behaviour = self.behaviour_of_pod(pod)
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        if not behaviour.schedulable:
            no_node = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            return {"conditions": [no_node | {"message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]}
        lacks_document = "test/split" in pod["metadata"]["annotations"] and pod["metadata"]["name"] not in self.loaded
        ready = (
            behaviour.crash is None
            and not lacks_document
            and (self.now - created).total_seconds() >= behaviour.load_seconds
        )
        old = {c["type"]: c for c in pod.get("status", {}).get("conditions", [])}
        conditions = [
            self._condition("PodScheduled", "True", old, created),
            self._condition("Ready", "True" if ready else "False", old, created),
        ]
        return {"conditions": conditions, "containerStatuses": [_container(behaviour, ready=ready)]}

    def _condition(self, type_: str, status: str, old: Mapping[str, Any], created: datetime) -> dict[str, Any]:
        same = type_ in old and old[type_]["status"] == status
        since = old[type_]["lastTransitionTime"] if same else (self.now if type_ in old else created).isoformat()
        return {"type": type_, "status": status, "lastTransitionTime": since}

    def behaviour_of_pod(self, pod: Mapping[str, Any]) -> Behaviour:
        return self._behaviour(pod["metadata"]["annotations"]["test/args"])

    def _behaviour(self, args: str) -> Behaviour:
        return next(
            (b for name, b in self.behaviours.items() if f"--test-behaviour {name} " in args.replace("=", " ") + " "),
            Behaviour(),
        )

    def _run_gateway(self) -> None:
        route = self.cluster.find(HTTP_ROUTE, *KEY)
        if not route or not self.gateway_works:
            return
        self._served_rules = route["spec"]["rules"]
        generation = route["metadata"]["generation"]
        conditions = [
            {"type": type_, "status": "True", "reason": type_, "message": "", "observedGeneration": generation}
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        status = {"parents": [{"parentRef": ref, "conditions": conditions} for ref in route["spec"]["parentRefs"]]}
        if status != route.get("status"):
            self.cluster.set_status(HTTP_ROUTE, *KEY, status)

    def operator_is_away(self, seconds: float) -> None:
        """Let time pass without the operator; its memory is lost."""
        self.watches.clear()
        for _ in range(int(seconds // 15)):
            self.pass_time(15)

    # Traffic and what Prometheus knows of it -------------------------------------------------------------------

    def weights(self) -> dict[str, int]:
        """The split by revision."""
        return dict(sorted(self.split().weights.items()))

    def split(self) -> RouteView:
        """The split by revision, from the route and the documents."""
        if self._split is None or self._split[0] != self.cluster.changes:
            route = GatewayApiRouter().read(self.cluster.find(HTTP_ROUTE, *KEY), NAME)
            read = map(read_or_explain, self.cluster.all(CONTROLLER_REVISION))
            records = [record for record in read if isinstance(record, Record)]
            self._split = self.cluster.changes, combined(route, self.documents(), records)
        return self._split[1]

    def documents(self) -> dict[str, SplitDocument]:
        """The readable split documents by engine revision."""
        found = {engine_of_split(NAME, obj): read_split(obj) for obj in self.cluster.all(CONFIG_MAP, NAMESPACE)}
        return {engine: document for engine, document in found.items() if engine and document}

    def _serve(self, seconds: float) -> None:
        route = self.cluster.find(HTTP_ROUTE, *KEY)
        rules = route["spec"]["rules"] if route else [{"backendRefs": []}]
        (rule,) = self._served_rules if self.gateway_lags and self._served_rules else rules
        for backend in rule["backendRefs"]:
            count = self.traffic.rps * seconds * backend["weight"] / 10_000
            service = self.cluster.find(SERVICE, NAMESPACE, backend["name"])
            if not service:
                self.traffic.unserved += count
                continue
            # Envoy applies the filters of the rule after those of the backend.
            headers = _with_filters(_with_filters({}, backend.get("filters")), rule.get("filters"))
            for (revision, epoch), share in self._stamps(service, headers).items():
                self._count(revision, epoch, count * share)

    def _count(self, revision: str | None, epoch: int | None, count: float) -> None:
        if revision is None or epoch is None:
            self.traffic.unstamped += count
            return
        requests, bad = self.traffic.totals.get((revision, epoch), (0.0, 0.0))
        rate = self._behaviour(self._args_of_revision(revision)).error_rate
        rate = self.revision_error_rates.get(revision, rate)
        self.traffic.totals[revision, epoch] = (requests + count, bad + count * rate)

    def _stamps(
        self, service: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[tuple[str | None, int | None], float]:
        """How the pods of a Service count a request: shares by revision and epoch."""
        pods = self.cluster.all(POD, NAMESPACE, service["spec"]["selector"])
        serving = [pod for pod in pods if _is_ready(pod)] or pods
        if not serving:
            return {(headers.get("x-serin-revision"), _plain_epoch(headers)): 1.0}
        shares: dict[tuple[str | None, int | None], float] = {}
        for pod in serving:
            for stamp, share in self._stamp(pod, headers):
                shares[stamp] = shares.get(stamp, 0.0) + share / len(serving)
        return shares

    def _stamp(
        self, pod: Mapping[str, Any], headers: Mapping[str, str]
    ) -> list[tuple[tuple[str | None, int | None], float]]:
        if "test/split" not in pod["metadata"]["annotations"]:
            return [((headers.get("x-serin-revision"), _plain_epoch(headers)), 1.0)]
        document = self.loaded.get(pod["metadata"]["name"])
        if document is None:
            return [((None, None), 1.0)]
        if document.epoch is not None:
            return [((revision, document.epoch), weight / 10_000) for revision, weight in document.shares]
        epoch, _, token = headers.get("x-serin-epoch", "").partition(".")
        ((revision, _),) = document.shares
        return [((revision, int(epoch) if epoch.isdecimal() and token == document.token else None), 1.0)]

    def _args_of_revision(self, revision: str) -> str:
        record = self.cluster.find(CONTROLLER_REVISION, NAMESPACE, f"{NAME}-{revision}")
        return " ".join(record["data"]["podTemplate"]["spec"]["containers"][0]["args"]) if record else ""

    def set_watch(self, watch: Watch) -> None:
        self.watches[watch.key] = watch

    def acknowledge(self, key: Key, until: datetime, epochs: tuple[int, ...]) -> None:  # noqa: ARG002
        watch = self.watches.get(key)
        if watch and watch.read_until is not None:
            self.watches[key] = replace(watch, read_until=until)

    def drop(self, key: Key) -> None:
        self.watches.pop(key, None)

    def watched(self, key: Key) -> Watch | None:
        return self.watches.get(key)

    def readings(self, key: Key) -> MetricReadings:
        watch = self.watches.get(key)
        if watch is None:
            return MetricReadings()
        if self.metrics_error:
            return MetricReadings(error=self.metrics_error)
        return MetricReadings(
            intervals=self._intervals(watch),
            baseline=self._baseline(watch) if watch.baseline_of else None,
            in_flight=self._in_flight(watch),
            documents={engine: self._documents_of(engine) for engine in watch.documents_of},
            in_progress={revision: self._in_progress(revision) for revision in watch.leaving},
        )

    def _intervals(self, watch: Watch) -> tuple[Interval, ...]:
        """One interval per step of the clock that was not acknowledged."""
        if watch.read_until is None:
            return ()
        begin, base = (
            watch.read_until,
            next((t for at, t in reversed(self.traffic.history) if at <= watch.read_until), {}),
        )
        found = []
        for end, totals in self.traffic.history:
            if end > begin:
                counts = {tally: self._growth(tally, base, totals, watch) for tally in watch.tallies}
                grown = {tally: points for tally, points in counts.items() if points}
                sampled = {revision: {f"pod-of-{revision}": end} for revision, _ in watch.engine_of}
                found.append(Interval(begin, end, grown, sampled=sampled))
                begin, base = end, totals
        return tuple(found)

    def _baseline(self, watch: Watch) -> Baseline:
        args = self._args_of_revision(watch.baseline_of or "")
        shares = self._behaviour(args).first_token
        seen = {le: 3_600 * self.traffic.rps * share for le, share in shares.items()}
        return Baseline(self.now, self.traffic.rps, {tally: seen for tally in watch.tallies if _is_first_token(tally)})

    def _growth(self, tally: Tally, base: Totals, totals: Totals, watch: Watch) -> dict[Point, int]:
        """The growth of a counter of requests or of the histogram of first tokens; others do not grow."""
        if _is_first_token(tally):
            return self._histogram(tally, base, totals, watch)
        if tally.selector.endswith("requests_started_total"):
            answered = self._growth(Tally("answered", by="outcome"), base, totals, watch)
            points = dict.fromkeys((revision, epoch, "") for revision, epoch, _ in answered)
            return {at: sum(count for point, count in answered.items() if point[:2] == at[:2]) for at in points}
        if tally.by not in {"outcome", "envoy_response_code"}:
            return {}
        good, failed = ("ok", "server_error") if tally.by == "outcome" else ("200", "500")
        grown: dict[Point, int] = {}
        for (revision, epoch), (n, x) in totals.items():
            if revision not in dict(watch.engine_of):
                continue
            then = base.get((revision, epoch), (0.0, 0.0))
            bad = int(x) - int(then[1])
            label = epoch if tally.names is Names.REVISION else None
            for value, count in ((good, int(n) - int(then[0]) - bad), (failed, bad)):
                point = (revision, label, value)
                grown[point] = grown.get(point, 0) + count
        return {point: count for point, count in grown.items() if count}

    def _histogram(self, tally: Tally, base: Totals, totals: Totals, watch: Watch) -> dict[Point, int]:
        grown: dict[Point, int] = {}
        for (revision, epoch), (n, _) in totals.items():
            if revision not in dict(watch.engine_of):
                continue
            then, _ = base.get((revision, epoch), (0.0, 0.0))
            label = epoch if tally.names is Names.REVISION else None
            for le, share in self._behaviour(self._args_of_revision(revision)).first_token.items():
                grown[revision, label, le] = grown.get((revision, label, le), 0) + int(n * share) - int(then * share)
        return {point: count for point, count in grown.items() if count > 0}

    def _in_flight(self, watch: Watch) -> dict[str, InFlight]:
        busy = {}
        for engine in watch.draining:
            since = self._released.setdefault(engine, self.now)
            seconds = max((self.behaviour_of_pod(p).drain_seconds for p in self.pods(engine)), default=0.0)
            busy[engine] = InFlight(2.0 if (self.now - since).total_seconds() < seconds else 0.0, self.now)
        return busy

    def _documents_of(self, engine: str) -> dict[str, ShownDocument]:
        names = [pod["metadata"]["name"] for pod in self.pods(engine)]
        return {name: self._shown[name] for name in names if name in self._shown}

    def _in_progress(self, revision: str) -> float:
        """Requests of a revision whose pods stay; they end some time after it was first asked for them."""
        since = self._released.setdefault(revision, self.now)
        seconds = self._behaviour(self._args_of_revision(revision)).drain_seconds
        return 2.0 if (self.now - since).total_seconds() < seconds else 0.0

    # What stories ask about ------------------------------------------------------------------------------------

    def ready_pods(self, engine: str) -> int:
        return sum(map(_is_ready, self.pods(engine)))

    def pods(self, engine: str) -> list[dict[str, Any]]:
        """The pods that the selector of an engine revision chooses."""
        return self.cluster.all(POD, NAMESPACE, {LABEL_DEPLOYMENT: NAME, LABEL_ENGINE_REVISION: engine})

    def status(self) -> dict[str, Any]:
        obj = self.cluster.find(LLMDEPLOYMENT, *KEY)
        assert obj
        return dict(obj.get("status") or {})


def _has_ended(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _with_filters(headers: Mapping[str, str], filters: Any) -> dict[str, str]:
    """The headers of a request after the filters, in lower case."""
    changed = dict(headers)
    for wanted in filters or ():
        modifier = wanted.get("requestHeaderModifier") or {}
        changed |= {header["name"].lower(): header["value"] for header in modifier.get("set") or ()}
        for name in modifier.get("remove") or ():
            changed.pop(name.lower(), None)
    return changed


def _plain_epoch(headers: Mapping[str, str]) -> int | None:
    """The epoch as pods of Serin 0.1 read it."""
    text = headers.get("x-serin-epoch", "")
    return int(text) if text.isdecimal() and "x-serin-revision" in headers else None


def _chosen(deployment: Mapping[str, Any]) -> dict[str, str]:
    return dict(deployment["spec"]["selector"]["matchLabels"])


def _is_first_token(tally: Tally) -> bool:
    return tally.by == "le" and "time_to_first_token" in tally.selector


def _container(behaviour: Behaviour, *, ready: bool) -> dict[str, Any]:
    exits = behaviour.exits
    base: dict[str, Any] = {"name": "engine", "restartCount": exits, "ready": ready, "state": {"running": {}}}
    last = {"terminated": {"reason": "Error", "exitCode": 1}}
    if behaviour.crash == "OOMKilled":
        return base | {"restartCount": exits + 1, "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    if behaviour.crash:
        waiting = {"waiting": {"reason": behaviour.crash}}
        return base | {"restartCount": exits + 2, "state": waiting, "lastState": last}
    return base | ({"lastState": last} if exits else {})
