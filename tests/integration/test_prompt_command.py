"""`serin prompt` on a real API server, with the rights of several accounts, and without a server that can be used."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.control_plane import api_tier
from serin.__main__ import main
from tests.integration.conftest import Kubectl
from tests.unit.cli.samples import V13, V14, make_prompt

NAMESPACE = "prompts"
Run = Callable[..., tuple[int, str, str]]
ROLES = {
    "reader": [{"apiGroups": ["serin.dev"], "resources": ["promptversions"], "verbs": ["get", "list"]}],
    "getter": [{"apiGroups": ["serin.dev"], "resources": ["promptversions"], "verbs": ["get"]}],
    "stranger": [],
}


# Not for the module: tests of other modules run in between if another worker has taken some, and the namespace, which
# no controller empties, would be made a second time.
@pytest.fixture(scope="session", autouse=True)
def prompts(kubectl: Kubectl) -> Iterator[None]:
    """Three versions in a namespace, one of them in use, and accounts with some rights."""
    kubectl("create", "namespace", NAMESPACE)
    rc = make_prompt("2.0.0-rc.1", messages=V14["spec"]["messages"][:1])
    for manifest in (V13, V14, rc):
        kubectl("apply", "-n", NAMESPACE, "-f", "-", manifest=manifest)
    used = {"observedGeneration": 1, "usedBy": ["web"], "usedByCount": 1}
    arguments = ("-n", NAMESPACE, "promptversion", V13["metadata"]["name"], "--subresource=status", "--type=merge")
    kubectl("patch", *arguments, "-p", json.dumps({"status": used}))
    for account, rules in ROLES.items():
        kubectl("create", "serviceaccount", account, "-n", NAMESPACE)
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
        kubectl("apply", "-n", NAMESPACE, "-f", "-", manifest={**role, "metadata": {"name": account}})
        subject = f"--serviceaccount={NAMESPACE}:{account}"
        kubectl("create", "rolebinding", account, "-n", NAMESPACE, f"--role={account}", subject)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def run(
    api_server: api_tier.Handle,
    kubectl: Kubectl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run `serin prompt` as an account; the namespace is that of the kubeconfig's context."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def as_account(command: str, account: str | None = None, **changes: Any) -> tuple[int, str, str]:
        kubeconfig = json.loads(api_server.kubeconfig.read_text())
        kubeconfig["contexts"][0]["context"]["namespace"] = NAMESPACE
        if account:
            kubeconfig["users"][0]["user"] = {"token": kubectl("create", "token", account, "-n", NAMESPACE).strip()}
        kubeconfig["users"][0]["user"] |= changes.get("user", {})
        kubeconfig["clusters"][0]["cluster"] |= changes.get("cluster", {})
        for entry in (kubeconfig["users"][0]["user"], kubeconfig["clusters"][0]["cluster"]):
            for name in [name for name, value in entry.items() if value is None]:
                del entry[name]
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(kubeconfig))
        monkeypatch.setenv("KUBECONFIG", str(path))
        with pytest.raises(SystemExit) as ended:
            main(["prompt", *shlex.split(command)])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return as_account


@pytest.mark.parametrize("account", [None, "reader"])
def test_list_shows_versions_in_order_with_users(run: Run, account: str | None) -> None:
    status, out, err = run("list", account)

    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[1], row[3], row[4]) for row in rows] == [
        ("2.0.0-rc.1", "triage-2.0.0-rc.1", "-"),
        ("1.4.0", "triage-1.4.0", "-"),
        ("1.3.0", "triage-1.3.0", "web"),
    ]
    assert run("latest triage", account) == (0, "triage-1.4.0\n", "")


def test_stored_prompt_is_the_same_as_its_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text(yaml.safe_dump(V14))

    status, out, _ = run(f"diff triage-1.4.0 {file}")
    assert status == 0, out
    rendered = run("render triage-1.4.0 --var ticket=a --var customer=b")
    assert rendered[0] == 0
    assert rendered == run(f"render {file} --var ticket=a --var customer=b")
    shown, from_file = (run(f"show {reference}")[1].split("\n\n", 1)[1] for reference in ("triage@1.4.0", file))
    assert shown == from_file
    exported = yaml.safe_load(run("show triage-1.4.0 -o yaml")[1])
    assert exported["metadata"] == {"name": "triage-1.4.0", "namespace": NAMESPACE}


def test_right_to_get_is_enough_for_a_name(run: Run) -> None:
    assert run("show triage-1.4.0", "getter")[0] == 0
    status, out, err = run("list", "getter")

    assert (status, out) == (2, "")
    assert err.startswith(f"serin prompt list: You may not list PromptVersions in namespace {NAMESPACE} (")
    assert f"system:serviceaccount:{NAMESPACE}:getter" in err
    assert err.endswith("ask for the verbs get and list on promptversions.serin.dev.\n")


@pytest.mark.parametrize("command", ["show triage-1.4.0", "show triage@1.4.0", "list", "latest triage"])
def test_without_rights_the_message_names_them(run: Run, command: str) -> None:
    status, out, err = run(command, "stranger")

    assert (status, out) == (2, "")
    assert "You may not " in err
    assert err.count("\n") == 1


def test_unknown_name_names_the_nearest(run: Run) -> None:
    status, out, err = run("show triage-1.4.1")

    assert (status, out) == (2, "")
    assert err.startswith(
        f"serin prompt show: There is no PromptVersion triage-1.4.1 in namespace {NAMESPACE}; nearest: "
    )
    assert err.endswith(": triage-1.4.0, triage@1.4.0, triage-1.3.0.\n")


def test_empty_namespace_is_no_failure(run: Run) -> None:
    assert run("list -n kube-system") == (
        0,
        "",
        "serin prompt list: There is no PromptVersion in namespace kube-system.\n",
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cluster": {"server": "https://127.0.0.1:1"}}, "check the server of the kubeconfig, and the network."),
        (
            {"cluster": {"certificate-authority-data": None, "insecure-skip-tls-verify": False}},
            "check the server of the kubeconfig, and the network.",
        ),
        ({"user": {"client-certificate-data": None, "client-key-data": None, "token": "none"}}, "another --context."),
    ],
    ids=["nobody listens", "unknown certificate authority", "wrong credentials"],
)
def test_server_that_cannot_be_used_is_one_sentence(run: Run, changes: dict[str, Any], sentence: str) -> None:
    status, out, err = run("list", None, **changes)

    assert (status, out) == (2, "")
    assert err.endswith(f"{sentence}\n")
    assert "retries" not in err
    assert err.count("\n") == 1


def test_unknown_context_is_one_sentence(run: Run) -> None:
    status, out, err = run("list --context nowhere")

    assert (status, out) == (2, "")
    assert err.endswith("To work without a cluster, give files with -f.\n")


def test_cluster_without_the_kind_is_told_what_to_install(
    tmp_path_factory: pytest.TempPathFactory,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del run
    with api_tier.start(tmp_path_factory.mktemp("bare") / "api") as bare:
        monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig))
        for command in (["list"], ["show", "triage-1.4.0"]):
            with pytest.raises(SystemExit) as ended:
                main(["prompt", *command])
            assert ended.value.code == 2
            assert "does not have the kind PromptVersion; install the chart serin-crds" in capsys.readouterr().err
