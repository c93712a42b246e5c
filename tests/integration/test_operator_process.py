"""The operator as a real process against a real API server: probes, metrics, leadership, and how it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from fakes.nested import nested
from sandbox.control_plane import api_tier, credentials
from sandbox.control_plane.api_tier import Handle
from sandbox.host.ports import free_port
from serin.cluster.api_server import ApiServer
from serin.recursion import allow_deep_json
from tests.integration.conftest import ESTABLISHED, Kubectl
from tests.integration.installed import RELEASE, SYSTEM_NAMESPACE, install, kubeconfig_of

ROOT = Path(__file__).parents[2]
LONG = 60.0
SOON = {"SERIN_LEASE_DURATION": "15"}
PROMPTVERSIONS = "/apis/serin.dev/v1alpha1/namespaces/default/promptversions"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
LLMDEPLOYMENTS = "/apis/serin.dev/v1alpha1/namespaces/default/llmdeployments"


@dataclass
class Process:
    """One operator process."""

    child: subprocess.Popen[bytes]
    probes: str
    metrics_url: str
    log: Path

    def get(self, url: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback, ours
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, series: str) -> float | None:
        for line in self.get(self.metrics_url)[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return None

    def wait(self, seen: Callable[[], object]) -> None:
        """Wait until a condition holds; fail with the log if the process ends or time runs out."""
        deadline = time.monotonic() + LONG
        while not seen():
            assert self.child.poll() is None, f"ended with {self.child.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"not seen in {LONG} s:\n{self.log.read_text()}"
            time.sleep(0.05)

    def looks(self) -> float:
        """Return how many reconciles succeeded."""
        return self.metric('serin_reconcile_duration_seconds_count{outcome="ok"}') or 0.0

    def writes(self) -> list[str]:
        """Return the counters of writes to the API server, by kind and verb."""
        return [line for line in self.get(self.metrics_url)[1].splitlines() if line.startswith("serin_api_writes")]

    def leads(self) -> bool:
        return self.metric("serin_leader") == 1.0

    def end(self, number: int = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        return self.child.wait(LONG)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def operator(tier: Handle, directory: Path, name: str, extra: Mapping[str, str] | None = None) -> Iterator[Process]:
    probes, metrics = free_port(), free_port()
    account = tier.directory / f"kubeconfig-{SYSTEM_NAMESPACE}-{RELEASE}"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "PYTHONSAFEPATH": "1",
        "KUBECONFIG": str(account if account.exists() else tier.kubeconfig),
        "SERIN_IDENTITY": name,
        "SERIN_NAMESPACE": "default",
        "SERIN_LEASE_NAME": directory.name.lower().replace("_", "-")[:50],
        "SERIN_BIND_ADDRESS": "127.0.0.1",
        "SERIN_PROBE_PORT": str(probes),
        "SERIN_METRICS_PORT": str(metrics),
        "SERIN_PROMETHEUS_URL": "http://127.0.0.1:1",
        # No leader loses its Lease because the machine is busy; tests of that case set a shorter duration.
        "SERIN_LEASE_DURATION": "120",
        **(extra or {}),
    }
    log = directory / f"{name}.log"
    with log.open("wb") as sink:
        child = subprocess.Popen([sys.executable, "-m", "serin"], env=environment, stderr=sink, stdout=sink)
    try:
        yield Process(child, f"http://127.0.0.1:{probes}", f"http://127.0.0.1:{metrics}/metrics", log)
    finally:
        child.kill()
        child.wait()


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    """An API tier with the chart in force, whose kubeconfig is that of the operator's account."""
    with api_tier.start(tmp_path_factory.mktemp("process")) as handle:
        kubectl = Kubectl.of(handle)
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl("wait", "--for", ESTABLISHED, "--timeout=30s", "-f", str(ROOT / "crds"))
        install(kubectl)
        # Here each test has a Lease of its own, in the namespace default.
        kubectl("create", "role", "leases", "--verb=create,get,update", "--resource=leases.coordination.k8s.io")
        kubectl("create", "rolebinding", "leases", "--role=leases", f"--serviceaccount={SYSTEM_NAMESPACE}:{RELEASE}")
        yield handle


@pytest.fixture(scope="module", autouse=True)
def account(tier: Handle) -> Path:
    """The kubeconfig with which `operator` runs."""
    return kubeconfig_of(tier, Kubectl.of(tier), RELEASE, SYSTEM_NAMESPACE)


@pytest.fixture
async def api(tier: Handle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(tier.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    connection = await ApiServer.connect(10.0)
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        await _install(connection, yaml.safe_load(file.read_text()))
    yield connection
    await connection.close()


async def _install(api: ApiServer, crd: dict[str, Any]) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    query = {"fieldManager": "test", "force": "true"}
    content_type = "application/apply-patch+yaml"
    async with asyncio.timeout(LONG):
        seen = await api.request("PATCH", path, body=crd, query=query, content_type=content_type)
        while not any(c["type"] == "Established" and c["status"] == "True" for c in _conditions(seen)):
            await asyncio.sleep(0.05)
            seen = await api.request("GET", path)


def _conditions(obj: Mapping[str, Any]) -> list[dict[str, str]]:
    return list(obj.get("status", {}).get("conditions") or [])


def _llmdeployment(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"name": "triage", "source": "file:///models/triage"},
            "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
        },
    }


async def _holder(api: ApiServer, lease: str) -> str:
    found = await api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{lease}")
    return str(found["spec"]["holderIdentity"])


async def test_operator_leads_answers_probes_and_ends_in_order(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    with operator(tier, tmp_path, "one") as one:
        one.wait(lambda: one.get(f"{one.probes}/readyz")[0] == 200)
        one.wait(one.leads)
        assert one.get(f"{one.probes}/healthz") == (200, "ok\n")
        lease = tmp_path.name.lower().replace("_", "-")[:50]
        assert await _holder(api, lease) == "one"
        assert one.end() == 0
        assert await _holder(api, lease) == ""
        assert all({"event", "level", "timestamp"} <= line.keys() for line in one.lines())
        assert [line["cause"] for line in one.lines() if line["event"] == "process stopping"] == ["signal"]


@pytest.mark.usefixtures("api")
def test_standby_is_ready_and_takes_over_from_a_leader_that_stops(tier: Handle, tmp_path: Path) -> None:
    with operator(tier, tmp_path, "one") as one, operator(tier, tmp_path, "two") as two:
        for process in (one, two):
            process.wait(lambda process=process: process.get(f"{process.probes}/readyz")[0] == 200)
        one.wait(lambda: one.leads() or two.leads())
        leader, standby = (one, two) if one.leads() else (two, one)
        assert not standby.leads()
        assert leader.end() == 0
        standby.wait(standby.leads)  # long before the Lease expires
        assert standby.end() == 0


@pytest.mark.usefixtures("api")
def test_frozen_leader_ends_with_an_error_after_its_replacement(tier: Handle, tmp_path: Path) -> None:
    with operator(tier, tmp_path, "one", SOON) as one:
        one.wait(one.leads)
        with operator(tier, tmp_path, "two", SOON) as two:
            one.child.send_signal(signal.SIGSTOP)
            two.wait(two.leads)
            one.child.send_signal(signal.SIGCONT)
            assert one.child.wait(LONG) == 1
            assert two.leads()
            assert two.end() == 0


async def test_leader_without_an_api_server_ends_with_an_error(tmp_path: Path) -> None:
    with api_tier.start(tmp_path / "tier") as own, operator(own, tmp_path, "one", SOON) as one:
        one.wait(one.leads)
        own.kill("kube-apiserver")
        assert one.child.wait(LONG) == 1


async def test_applied_object_is_reconciled_and_a_deleted_one_has_no_series(
    tier: Handle, api: ApiServer, tmp_path: Path
) -> None:
    await api.request("POST", LLMDEPLOYMENTS, body=_llmdeployment("triage"))
    with operator(tier, tmp_path, "one") as one:
        series = 'serin_rollout_canary_weight_ratio{name="triage",namespace="default"}'
        one.wait(lambda: one.metric(series) == 0.0)
        found = await api.request("GET", f"{LLMDEPLOYMENTS}/triage")
        assert {c["type"] for c in found["status"]["conditions"]} >= {"Available", "Ready", "Reconciling", "Stalled"}
        assert "finalizers" not in found["metadata"]
        assert "annotations" not in found["metadata"]
        deployments = await api.request("GET", "/apis/apps/v1/namespaces/default/deployments")
        owners = {ref["uid"] for d in deployments["items"] for ref in d["metadata"]["ownerReferences"]}
        assert owners == {found["metadata"]["uid"]}
        assert one.metric('serin_api_writes_total{kind="Deployment",verb="apply"}') == 1.0
        await api.request("DELETE", f"{LLMDEPLOYMENTS}/triage")
        one.wait(lambda: one.metric(series) is None)
        assert one.end() == 0


async def test_prompt_status_shows_its_hash_and_users(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    spec = {"prompt": "triage", "version": "1.4.0", "messages": [{"role": "system", "content": "Be brief."}]}
    meta = {"name": "triage-1.4.0", "namespace": "default"}
    body = {"apiVersion": "serin.dev/v1alpha1", "kind": "PromptVersion", "metadata": meta, "spec": spec}
    with operator(tier, tmp_path, "one") as one:
        one.wait(one.leads)
        await api.request("POST", PROMPTVERSIONS, body=body)
        user = _llmdeployment("prompted")
        user["spec"]["prompt"] = {"name": "triage-1.4.0"}
        await api.request("POST", LLMDEPLOYMENTS, body=user)
        status: dict[str, Any] = {}
        async with asyncio.timeout(LONG):
            while status.get("usedBy") != ["prompted"]:
                await asyncio.sleep(0.05)
                status = (await api.request("GET", f"{PROMPTVERSIONS}/triage-1.4.0")).get("status", {})
        assert len(status["contentHash"]) == 12
        await api.request("DELETE", f"{LLMDEPLOYMENTS}/prompted")
        async with asyncio.timeout(LONG):
            while status.get("usedBy"):
                await asyncio.sleep(0.05)
                status = (await api.request("GET", f"{PROMPTVERSIONS}/triage-1.4.0"))["status"]
        assert one.end() == 0
    await api.request("DELETE", f"{PROMPTVERSIONS}/triage-1.4.0")


async def test_deleted_child_is_created_again(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    await api.request("POST", LLMDEPLOYMENTS, body=_llmdeployment("repaired"))
    with operator(tier, tmp_path, "one") as one:
        applied = 'serin_api_writes_total{kind="Deployment",verb="apply"}'
        one.wait(lambda: one.metric(applied) == 1.0)
        query = {"labelSelector": "serin.dev/deployment=repaired"}
        before = await api.request("GET", DEPLOYMENTS, query=query)
        await api.request("DELETE", f"{DEPLOYMENTS}/{before['items'][0]['metadata']['name']}")
        one.wait(lambda: one.metric(applied) == 2.0)
        assert one.end() == 0
    await api.request("DELETE", f"{LLMDEPLOYMENTS}/repaired")


async def test_settled_world_is_reconciled_without_a_write(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    await api.request("POST", LLMDEPLOYMENTS, body=_llmdeployment("settled"))
    with operator(tier, tmp_path, "one", {"SERIN_RESYNC_INTERVAL": "0.5"}) as one:
        one.wait(lambda: one.looks() >= 1 and one.writes())
        # First everything settles, on a slow machine, too; after that no write may follow.
        settled, since = one.writes(), one.looks()

        def quiet() -> bool:
            nonlocal settled, since
            if (now := one.writes()) != settled:
                settled, since = now, one.looks()
            return one.looks() >= since + 5

        one.wait(quiet)
        before, seen = one.writes(), one.looks()
        one.wait(lambda: one.looks() >= seen + 5)
        assert one.writes() == before
        assert one.end() == 0
    await api.request("DELETE", f"{LLMDEPLOYMENTS}/settled")


async def test_refused_host_pod_is_explained_in_the_status(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    manifest = _llmdeployment("host")
    volumes = [{"name": "usr", "hostPath": {"path": "/usr"}}]
    manifest["spec"]["podTemplate"] = {"spec": {"volumes": volumes}}
    await api.request("POST", LLMDEPLOYMENTS, body=manifest)
    with operator(tier, tmp_path, "one") as one:
        message = ""
        async with asyncio.timeout(LONG):
            while "serin.dev/pods=Unrestricted" not in message:
                await asyncio.sleep(0.05)
                message = (await api.request("GET", f"{LLMDEPLOYMENTS}/host")).get("status", {}).get("message", "")
        assert "podTemplate must not mount a hostPath; an administrator may allow it" in message
        assert one.end() == 0
    await api.request("DELETE", f"{LLMDEPLOYMENTS}/host")


DEEP = 9_000
"""Levels; about the most that an API server takes, other fields and managedFields around them included."""


@pytest.fixture
def deep_json() -> Iterator[None]:
    """The test itself reads and writes deep objects."""
    before = sys.getrecursionlimit()
    allow_deep_json()
    yield
    sys.setrecursionlimit(before)


def _deep_objects(number: int) -> list[tuple[str, dict[str, Any]]]:
    """Path and body: an LLMDeployment and a PromptVersion, each nested DEEP levels."""
    deployment = _llmdeployment(f"deep-{number}")
    deployment["spec"]["podTemplate"] = {"spec": {"affinity": nested(DEEP)}}
    spec = {"prompt": "deep", "version": "1.0.0", "messages": [{"role": "system", "content": "Be brief."}]}
    prompt = {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "PromptVersion",
        "metadata": {"name": f"deep-{number}", "namespace": "default"},
        "spec": spec | {"outputSchema": nested(DEEP)},
    }
    return [(LLMDEPLOYMENTS, deployment), (PROMPTVERSIONS, prompt)]


def _post(tier: Handle, path: str, body: dict[str, Any]) -> None:
    """Create an object. Serin's own client would walk it recursively, two calls a level."""
    address = urlsplit(tier.url)
    context = credentials.client_context(tier.directory / "certificates")
    connection = HTTPSConnection(str(address.hostname), address.port, context=context, timeout=LONG)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()[:1000]
    connection.close()


async def _refusal(api: ApiServer, path: str) -> str:
    """The message of the condition Accepted=False, once it is there."""
    async with asyncio.timeout(LONG):
        while True:
            found = _conditions(await api.request("GET", path))
            if refused := [c["message"] for c in found if (c["type"], c["status"]) == ("Accepted", "False")]:
                return refused[0]
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("deep_json")
async def test_deep_objects_are_refused_and_stop_nobody_else(tier: Handle, api: ApiServer, tmp_path: Path) -> None:
    applied = 'serin_api_writes_total{kind="Deployment",verb="apply"}'
    await api.request("POST", LLMDEPLOYMENTS, body=_llmdeployment("healthy"))
    for path, body in _deep_objects(1):  # in the first list
        _post(tier, path, body)
    with operator(tier, tmp_path, "one") as one:
        one.wait(lambda: one.metric(applied) == 1.0)
        for path, body in _deep_objects(2):  # as watch events
            _post(tier, path, body)
        for path, field in ((LLMDEPLOYMENTS, "podTemplate"), (PROMPTVERSIONS, "outputSchema")):
            for name in ("deep-1", "deep-2"):
                refusal = await _refusal(api, f"{path}/{name}")
                assert refusal.startswith(f"spec.{field} is nested more than 64 levels deep")
        await api.request("POST", LLMDEPLOYMENTS, body=_llmdeployment("later"))
        one.wait(lambda: one.metric(applied) == 2.0)
        assert "RecursionError" not in one.log.read_text()
        for path, name in ((p, f"deep-{n}") for p in (LLMDEPLOYMENTS, PROMPTVERSIONS) for n in (1, 2)):
            await api.request("DELETE", f"{path}/{name}")
        assert one.end() == 0
    for name in ("healthy", "later"):
        await api.request("DELETE", f"{LLMDEPLOYMENTS}/{name}")


@pytest.mark.usefixtures("api")
def test_standby_that_stops_leaves_the_lease_alone(tier: Handle, tmp_path: Path) -> None:
    with operator(tier, tmp_path, "one") as one:
        one.wait(one.leads)
        with operator(tier, tmp_path, "two") as two:
            two.wait(lambda: two.get(f"{two.probes}/readyz")[0] == 200)
            assert two.end() == 0
        assert one.leads()
        assert one.end() == 0


def test_version_is_printed_without_a_cluster() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator")}
    told = subprocess.run(
        [sys.executable, "-m", "serin", "--version"], env=environment, capture_output=True, check=True
    )
    assert told.stdout.startswith(b"serin ")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"SERIN_WORKERS": "many"}, "SERIN_WORKERS must be a whole number of at least 1, but it is 'many'."),
        ({"SERIN_LOG_LEVEL": "loud"}, "SERIN_LOG_LEVEL must be debug, info, warning or error, but it is 'loud'."),
        ({"KUBECONFIG": "/nowhere"}, "run in a pod with a ServiceAccount, or set KUBECONFIG."),
    ],
    ids=["not a number", "not a level", "no way to the API server"],
)
def test_invalid_settings_end_the_operator_with_one_sentence(environment: dict[str, str], sentence: str) -> None:
    base = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "SERIN_BIND_ADDRESS": "127.0.0.1",
        "SERIN_PROBE_PORT": str(free_port()),
        "SERIN_METRICS_PORT": str(free_port()),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "serin"], env=base | environment, capture_output=True, check=False, timeout=LONG
    )
    assert ended.returncode == 2
    assert sentence in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()
