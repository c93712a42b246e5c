"""The admission policies of the chart on a real API server, with real users: what each allows and what each denies.

Every request is a dry run unless a later one needs its object. Users are impersonated, with roles of their own in the
namespace `team`; the operator's account has the rights that the chart gives it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.conftest import Answer, Api, Kubectl
from tests.integration.installed import ACCOUNT, SYSTEM_NAMESPACE
from tests.integration.manifests import LLMDEPLOYMENT, Manifest, changed

TEAM = "team"
FREE = "team-with-host-pods"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
ARGO = "system:serviceaccount:argocd:argocd-application-controller"
REPLICASETS = "system:serviceaccount:kube-system:replicaset-controller"
DEPLOYMENTS = "system:serviceaccount:kube-system:deployment-controller"
GARBAGE = "system:serviceaccount:kube-system:generic-garbage-collector"
LLMDEPLOYMENTS = f"/apis/serin.dev/v1alpha1/namespaces/{TEAM}/llmdeployments"

PODS = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}
ROUTES = {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["create"]}
SECRETS = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
ONE_SECRET = SECRETS | {"resourceNames": ["token"]}
ACT_AS = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["reader"]}
ALL_BUT_SERIN = {"apiGroups": ["", "apps", "gateway.networking.k8s.io"], "resources": ["*"], "verbs": ["*"]}

USERS: dict[str, tuple[tuple[str, ...], tuple[Mapping[str, Any], ...]]] = {
    "author": (("serin:edit",), (PODS, ROUTES, SECRETS)),
    "no-pods": (("serin:edit",), (ROUTES, SECRETS)),
    "no-routes": (("serin:edit",), (PODS, SECRETS)),
    "no-secrets": (("serin:edit",), (PODS, ROUTES)),
    "one-secret": (("serin:edit",), (PODS, ROUTES, ONE_SECRET, ACT_AS)),
    "operate": (("serin:operate",), ()),
    "brake": (("serin:brake",), ()),
    "view": (("serin:view",), ()),
    "tenant": (("serin:edit", "system:aggregate-to-edit"), (ALL_BUT_SERIN,)),
    ARGO: (("cluster-admin",), ()),
    REPLICASETS: (("cluster-admin",), ()),
    DEPLOYMENTS: (("cluster-admin",), ()),
    GARBAGE: ((), (ALL_BUT_SERIN,)),
}


def _role(kubectl: Kubectl, user: str, rules: tuple[Mapping[str, Any], ...], number: int) -> None:
    metadata = {"name": f"test-{number}", "namespace": TEAM}
    group = "rbac.authorization.k8s.io"
    kubectl(
        "create",
        "--filename=-",
        manifest={"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)},
    )
    _bind(kubectl, user, "Role", f"test-{number}", f"test-{number}")


def _bind(kubectl: Kubectl, user: str, kind: str, role: str, name: str) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": TEAM},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }
    kubectl("create", "--filename=-", manifest=binding)


# Not for the module: tests of other modules run in between if another worker has taken some, and the namespaces, which
# no controller empties, would be made a second time.
@pytest.fixture(scope="session", autouse=True)
def team(routes: Kubectl) -> Iterator[None]:
    """Two namespaces, one of which allows host-level pods, and the users."""
    routes("create", "namespace", TEAM)
    for place in (TEAM, SYSTEM_NAMESPACE):
        routes("create", "serviceaccount", "default", f"--namespace={place}")
    routes("create", "namespace", FREE)
    routes("label", "namespace", FREE, "serin.dev/pods=Unrestricted")
    for number, (user, (roles, rules)) in enumerate(USERS.items()):
        for role in roles:
            _bind(routes, user, "ClusterRole", role, f"test-{number}-{role.replace(':', '-')}")
        if rules:
            _role(routes, user, rules, number)
    yield
    routes("delete", "serviceaccount", "default", f"--namespace={SYSTEM_NAMESPACE}")
    routes("delete", "namespace", TEAM, FREE, "--wait=false")


def _create(
    api: Api, user: str | None, path: str, body: Manifest, *, dry_run: bool = True, validation: str = "Warn"
) -> Answer:
    query = {"dryRun": "All"} if dry_run else {}
    return api("POST", path, body, user=user, fieldValidation=validation, **query)


def _assert(answer: Answer, sentence: str | None) -> None:
    """Allowed if there is no sentence, otherwise denied with it."""
    if sentence is None:
        assert answer.status in {200, 201}, answer.body
    else:
        assert answer.status in {403, 422}, answer.body
        assert "ValidatingAdmissionPolicy" in answer.body["message"], answer.body
        assert sentence in answer.body["message"]


# No more than yourself ------------------------------------------------------------------------------------------------

BASE = changed(LLMDEPLOYMENT, "metadata.namespace", TEAM)
AUTH = changed(BASE, "spec.analysis.prometheus", {"url": "https://p.example", "authSecretRef": {"name": "token"}})
TOKEN = changed(BASE, "spec.engine.hfTokenSecretRef", {"name": "token"})


def _with_pod(spec: Mapping[str, Any]) -> Manifest:
    return changed(BASE, "spec.podTemplate", {"spec": dict(spec)})


def _from_secret(name: str) -> dict[str, Any]:
    return {"name": name.upper(), "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}


ENGINE = {"name": "engine"}
IN_ENV = _with_pod({"containers": [ENGINE | {"env": [{"name": "A", "value": "b"}, _from_secret("token")]}]})
IN_ENV_FROM = _with_pod({"containers": [ENGINE | {"envFrom": [{"secretRef": {"name": "token"}}]}]})
IN_INIT = _with_pod({"initContainers": [{"name": "i", "image": "i", "env": [_from_secret("token")]}]})
IN_VOLUME = _with_pod({"volumes": [{"name": "v", "secret": {"secretName": "token"}}, {"name": "e", "emptyDir": {}}]})
IN_PROJECTED = _with_pod({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "token"}}]}}]})
MANY = _with_pod({"containers": [ENGINE | {"env": [_from_secret("token") for _ in range(12)]}]})
TOO_MANY = _with_pod({"containers": [ENGINE | {"env": [_from_secret("token") for _ in range(13)]}]})
ELSEWHERE = changed(IN_ENV, "spec.podTemplate.spec.containers.0.env.1.valueFrom.secretKeyRef.name", "other")
AS_READER = _with_pod({"serviceAccountName": "reader"})

SPECS = {
    "author": ("author", BASE, None),
    "without pods": ("no-pods", BASE, "needs the right to create deployments.apps in namespace team"),
    "without routes": ("no-routes", BASE, "needs the right to create httproutes.gateway.networking.k8s.io"),
    "no Secret named": ("no-secrets", BASE, None),
    "every Secret": ("author", AUTH, None),
    **{
        f"Secret {where}": ("no-secrets", spec, "would read Secret token")
        for where, spec in {
            "of Prometheus": AUTH,
            "of Hugging Face": TOKEN,
            "in env": IN_ENV,
            "in envFrom": IN_ENV_FROM,
            "in an init container": IN_INIT,
            "in a volume": IN_VOLUME,
            "in a projected volume": IN_PROJECTED,
        }.items()
    },
    **{
        f"own Secret {where}": ("one-secret", spec, None)
        for where, spec in {"of Prometheus": AUTH, "in env": IN_ENV, "in a volume": IN_PROJECTED, "often": MANY}.items()
    },
    "another Secret": ("one-secret", ELSEWHERE, "would read Secret other"),
    "one Secret too often": ("one-secret", TOO_MANY, "in 13 places"),
    "many of all Secrets": ("author", TOO_MANY, None),
    "own ServiceAccount": ("one-secret", AS_READER, None),
    "another ServiceAccount": ("author", AS_READER, "would run as ServiceAccount reader"),
    "its older name": ("author", _with_pod({"serviceAccount": "reader"}), "would run as ServiceAccount reader"),
    "default ServiceAccount": ("author", _with_pod({"serviceAccountName": "default"}), None),
    "GitOps": (ARGO, AUTH, None),
    "administrator": (None, TOO_MANY, None),
}


@pytest.mark.parametrize(("user", "manifest", "sentence"), SPECS.values(), ids=SPECS)
def test_creator_needs_the_rights_that_the_spec_uses(
    api: Api, user: str | None, manifest: Manifest, sentence: str | None
) -> None:
    _assert(_create(api, user, LLMDEPLOYMENTS, manifest), sentence)


@pytest.mark.parametrize(("user", "manifest", "sentence"), SPECS.values(), ids=SPECS)
def test_server_side_apply_needs_the_same_rights(
    api: Api, user: str | None, manifest: Manifest, sentence: str | None
) -> None:
    query = {"fieldManager": "test", "dryRun": "All"}
    _assert(api("PATCH", f"{LLMDEPLOYMENTS}/triage", manifest, content_type=APPLY, user=user, **query), sentence)


@pytest.fixture
def deployed(api: Api) -> Iterator[Manifest]:
    """An LLMDeployment with the Secrets that its author may read."""
    manifest = changed(AUTH, "metadata.name", "deployed")
    created = _create(api, "author", LLMDEPLOYMENTS, manifest, dry_run=False)
    assert created.status == 201, created.body
    yield created.body
    api("DELETE", f"{LLMDEPLOYMENTS}/deployed")


def _patch(api: Api, user: str | None, change: object, subresource: str = "", *, dry_run: bool = True) -> Answer:
    path, query = f"{LLMDEPLOYMENTS}/deployed{subresource}", {"dryRun": "All"} if dry_run else {}
    return api("PATCH", path, change, content_type=MERGE, user=user, **query)


CHANGES: dict[str, tuple[str | None, object, str, str | None]] = {
    "own change": ("author", {"spec": {"replicas": 2}}, "", None),
    "change without pods": ("no-pods", {"spec": {"replicas": 2}}, "", "create deployments.apps"),
    "spec by commander": ("operate", {"spec": {"replicas": 2}}, "", "create deployments.apps"),
    "spec by brake": ("brake", {"spec": {"paused": True}}, "", "create deployments.apps"),
    "another server with an old Secret": (
        "no-secrets",
        {"spec": {"analysis": {"prometheus": {"url": "https://evil.example"}}}},
        "",
        "would read Secret token",
    ),
    "removal of the Secret": ("no-secrets", {"spec": {"analysis": {"prometheus": None}}}, "", None),
    "label": ("no-pods", {"metadata": {"labels": {"team": "a"}}}, "", None),
    "finalizer": ("no-pods", {"metadata": {"finalizers": ["example.com/wait"]}}, "", None),
    "same spec": ("no-pods", {"spec": {"model": LLMDEPLOYMENT["spec"]["model"]}}, "", None),
    "scale": ("no-pods", {"spec": {"replicas": 3}}, "/scale", None),
    "status by the operator": (ACCOUNT, {"status": {"phase": "Stable"}}, "/status", None),
}


@pytest.mark.parametrize(("user", "change", "subresource", "sentence"), CHANGES.values(), ids=CHANGES)
@pytest.mark.usefixtures("deployed")
def test_changed_spec_needs_the_rights_and_nothing_else_does(
    api: Api, user: str | None, change: object, subresource: str, sentence: str | None
) -> None:
    _assert(_patch(api, user, change, subresource), sentence)


def test_deletion_needs_no_right_of_a_spec(api: Api, deployed: Manifest) -> None:
    assert deployed["metadata"]["name"] == "deployed"
    assert api("DELETE", f"{LLMDEPLOYMENTS}/deployed", user="no-pods").status == 200


# Commands -------------------------------------------------------------------------------------------------------------


def _command(text: str | None, by: str | None) -> object:
    return {"metadata": {"annotations": {"serin.dev/do": text, "serin.dev/by": by}}}


VERBS = ("promote", "skip", "resume", "abort", "retry")
RIGHT = "serin:operate has all commands"
SIGN_IT = (
    "The command is signed by nobody, but written by operate; sign it yourself, in the same write: kubectl annotate"
    " --overwrite llmdeployment deployed --namespace=team serin.dev/do=abort@ab12#1 'serin.dev/by=operate'"
)
COMMANDS: dict[str, tuple[str | None, object, str | None]] = {
    **{f"{verb} by operate": ("operate", _command(f"{verb}@ab12#1", "operate"), None) for verb in VERBS},
    **{
        f"{verb} by brake": ("brake", _command(f"{verb}@ab12#1", "brake"), None if verb == "abort" else RIGHT)
        for verb in VERBS
    },
    **{f"{verb} by author": ("author", _command(f"{verb}@ab12#1", "author"), RIGHT) for verb in VERBS},
    "unsigned": (
        "operate",
        _command("abort@ab12#1", None),
        SIGN_IT,
    ),
    "signed by another": ("operate", _command("abort@ab12#1", "author"), "signed by author, but written by operate"),
    "unsigned by an administrator": (None, _command("abort@ab12#1", None), "signed by nobody"),
    "signed by a ServiceAccount": (ARGO, _command("abort@ab12#1", ARGO), None),
    "unknown verb": ("operate", _command("delete@ab12#1", "operate"), "must read <verb>@<revision>#<token>"),
    "no token": ("operate", _command("abort@ab12", "operate"), "must read <verb>@<revision>#<token>"),
    "line break": ("operate", _command("abort@ab12#1\n", "operate"), "must read <verb>@<revision>#<token>"),
    "blank": ("operate", _command(" abort@ab12#1", "operate"), "must read <verb>@<revision>#<token>"),
    "signature alone": ("author", _command(None, "somebody"), None),
}


@pytest.mark.parametrize(("user", "change", "sentence"), COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("deployed")
def test_command_needs_its_verb_and_the_signature_of_its_writer(
    api: Api, user: str | None, change: object, sentence: str | None
) -> None:
    _assert(_patch(api, user, change), sentence)


@pytest.fixture
def commanded(api: Api, deployed: Manifest) -> Manifest:
    """The LLMDeployment with a command of `operate`."""
    assert deployed
    answer = _patch(api, "operate", _command("abort@ab12#1", "operate"), dry_run=False)
    assert answer.status == 200, answer.body
    return answer.body


LATER: dict[str, tuple[str | None, object, str | None]] = {
    "the same again": ("no-pods", _command("abort@ab12#1", "operate"), None),
    "removal": ("no-pods", _command(None, None), None),
    "command without signature": ("no-pods", {"metadata": {"annotations": {"serin.dev/by": None}}}, RIGHT),
    "signature removed": ("operate", {"metadata": {"annotations": {"serin.dev/by": None}}}, "signed by nobody"),
    "new token": ("author", {"metadata": {"annotations": {"serin.dev/do": "abort@ab12#2"}}}, RIGHT),
    "new token under an old signature": (
        "brake",
        {"metadata": {"annotations": {"serin.dev/do": "abort@ab12#2"}}},
        "signed by operate, but written by brake",
    ),
    "spec of another person": ("author", {"spec": {"replicas": 2}}, None),
    "status": (ACCOUNT, {"status": {"phase": "Stable"}}, None),
}


@pytest.mark.parametrize(("user", "change", "sentence"), LATER.values(), ids=LATER)
@pytest.mark.usefixtures("commanded")
def test_command_that_stays_is_not_checked_again(
    api: Api, user: str | None, change: object, sentence: str | None
) -> None:
    _assert(_patch(api, user, change, "/status" if user == ACCOUNT else ""), sentence)


@pytest.mark.usefixtures("commanded")
def test_gitops_applies_the_same_manifest_beside_a_command(api: Api) -> None:
    query = {"fieldManager": "argocd", "force": "true", "dryRun": "All"}
    manifest = changed(AUTH, "metadata.name", "deployed")
    answer = api("PATCH", f"{LLMDEPLOYMENTS}/deployed", manifest, content_type=APPLY, user=ARGO, **query)
    _assert(answer, None)
    assert answer.body["metadata"]["annotations"]["serin.dev/by"] == "operate"


@pytest.mark.parametrize("subresource", ["/status", "/scale"])
@pytest.mark.usefixtures("deployed")
def test_subresources_carry_no_command(api: Api, subresource: str) -> None:
    answer = _patch(api, None, _command("abort@ab12#1", None), subresource, dry_run=False)
    assert answer.status == 200, answer.body
    stored = api("GET", f"{LLMDEPLOYMENTS}/deployed").body
    assert "serin.dev/do" not in stored["metadata"].get("annotations", {})


CREATED = {
    "with the right to restore": (ARGO, "operate", None),
    "unsigned": (ARGO, "", "signed by nobody"),
    "without that right": ("author", "operate", RIGHT),
}


@pytest.mark.parametrize(("user", "by", "sentence"), CREATED.values(), ids=CREATED)
def test_backup_with_a_command_is_restored_by_who_may(api: Api, user: str, by: str, sentence: str | None) -> None:
    manifest = changed(BASE, "metadata.annotations", {"serin.dev/do": "abort@ab12#1", "serin.dev/by": by})
    _assert(_create(api, user, LLMDEPLOYMENTS, manifest), sentence)


def test_command_is_in_the_audit_log(api: Api, api_server: Any, deployed: Manifest) -> None:
    assert deployed
    assert _patch(api, "operate", _command("skip@ab12#audited", "operate"), dry_run=False).status == 200
    key = "serin-commands.serin-system/command"
    lines = [json.loads(line) for line in api_server.audit_log.read_text().splitlines() if "#audited" in line]
    assert [line["annotations"][key] for line in lines] == ["skip@ab12#audited by operate"]


# The operator's account -----------------------------------------------------------------------------------------------


def _owner(name: str = "triage", **changes: Any) -> dict[str, Any]:
    facts = {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "LLMDeployment",
        "name": name,
        "uid": "0-0",
        "controller": True,
    }
    return facts | changes


def _child(kind: str, place: str = TEAM, /, **fields: Any) -> Manifest:
    metadata = {
        "name": "triage-0123456789",
        "namespace": place,
        "labels": {"serin.dev/deployment": "triage"},
        "ownerReferences": [_owner()],
    }
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, **fields}


API_VERSIONS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "ControllerRevision": "apps/v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
}
PLURALS = {kind: f"{kind.lower()}s" for kind in API_VERSIONS}


def _path(obj: Manifest, *, named: bool = False) -> str:
    api_version, meta = obj["apiVersion"], obj["metadata"]
    root = "/api" if api_version == "v1" else "/apis"
    path = f"{root}/{api_version}/namespaces/{meta['namespace']}/{PLURALS[obj['kind']]}"
    return f"{path}/{meta['name']}" if named else path


def _workload(kind: str, place: str = TEAM, /, **pod: Any) -> Manifest:
    labels = {"serin.dev/deployment": "triage", "serin.dev/engine-revision": "0123456789"}
    container = {"name": "engine", "image": "vllm"} | pod.pop("container", {})
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]} | pod}
    return _child(kind, place, spec={"selector": {"matchLabels": labels}, "template": template})


SMALL = _child("ConfigMap", data={"a": "b"})
ROUTE = _child("HTTPRoute", spec={"parentRefs": [{"name": "llm"}]})
SERVICE = _child("Service", spec={"ports": [{"port": 8000}]})
CHILDREN = {
    "Deployment": _workload("Deployment"),
    "ControllerRevision": _child("ControllerRevision", revision=1, data={}),
    "ConfigMap": SMALL,
    "Service": SERVICE,
    "PodDisruptionBudget": _child("PodDisruptionBudget", spec={"maxUnavailable": 1}),
    "HTTPRoute": ROUTE,
}


def _without(obj: Manifest, *fields: str) -> Manifest:
    result = copy.deepcopy(obj)
    for field in fields:
        del result["metadata"][field]
    return result


ONLY_CHILDREN = "Serin creates only children"
HOST = "serin.dev/pods=Unrestricted on the namespace"
OF_THE_OPERATOR: dict[str, tuple[Manifest, str | None]] = {
    **{kind: (child, None) for kind, child in CHILDREN.items()},
    **{
        f"{kind} without owner": (_without(child, "ownerReferences"), ONLY_CHILDREN) for kind, child in CHILDREN.items()
    },
    **{
        f"{kind} in {place}": (changed(child, "metadata.namespace", place), "Serin writes nothing in this namespace")
        for kind, child in CHILDREN.items()
        for place in ("kube-system", SYSTEM_NAMESPACE)
    },
    "of another kind": (changed(SMALL, "metadata.ownerReferences", [_owner(kind="Other")]), ONLY_CHILDREN),
    "of another group": (changed(SMALL, "metadata.ownerReferences", [_owner(apiVersion="x.dev/v1")]), ONLY_CHILDREN),
    "without label": (_without(SMALL, "labels"), ONLY_CHILDREN),
    "with the label of another": (changed(SMALL, "metadata.ownerReferences", [_owner("other")]), ONLY_CHILDREN),
    "LoadBalancer": (changed(SERVICE, "spec.type", "LoadBalancer"), "only Services of the type ClusterIP"),
    "NodePort": (changed(SERVICE, "spec.type", "NodePort"), "only Services of the type ClusterIP"),
    "external address": (changed(SERVICE, "spec.externalIPs", ["192.0.2.1"]), "only Services of the type ClusterIP"),
}


@pytest.mark.parametrize(("manifest", "sentence"), OF_THE_OPERATOR.values(), ids=OF_THE_OPERATOR)
def test_operator_creates_only_children(api: Api, manifest: Manifest, sentence: str | None) -> None:
    _assert(_create(api, ACCOUNT, _path(manifest), manifest), sentence)


def _secure(**context: Any) -> dict[str, Any]:
    return {"container": {"securityContext": context}}


HOST_LEVEL: dict[str, dict[str, Any]] = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "nodeName": {"nodeName": "one"},
    "hostPath": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "hostPort": {"container": {"ports": [{"containerPort": 80, "hostPort": 80}]}},
    "privileged": _secure(privileged=True),
    "capability": _secure(capabilities={"add": ["SYS_ADMIN"]}),
    "all capabilities": _secure(capabilities={"add": ["ALL"]}),
    "procMount": {"hostUsers": False, **_secure(procMount="Unmasked")},
    "seccomp": _secure(seccompProfile={"type": "Unconfined"}),
    "seccomp of the pod": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "AppArmor": _secure(appArmorProfile={"type": "Unconfined"}),
    "SELinux type": _secure(seLinuxOptions={"type": "spc_t"}),
    "SELinux user": {"securityContext": {"seLinuxOptions": {"user": "system_u"}}},
    "hostProcess": {"hostNetwork": True, **_secure(windowsOptions={"hostProcess": True})},
    "sysctl": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "privileged init container": {
        "initContainers": [{"name": "i", "image": "i", "securityContext": {"privileged": True}}]
    },
}
ORDINARY: dict[str, dict[str, Any]] = {
    "volumes": {"volumes": [{"name": "e", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s"}}]},
    "restricted": _secure(
        privileged=False,
        runAsNonRoot=True,
        capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        seccompProfile={"type": "RuntimeDefault"},
    ),
    "ports": {"container": {"ports": [{"containerPort": 8000}]}},
    "safe sysctl": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
}


@pytest.mark.parametrize("pod", HOST_LEVEL.values(), ids=HOST_LEVEL)
def test_host_level_pod_needs_the_label_of_its_namespace(api: Api, pod: dict[str, Any]) -> None:
    for place, sentence in ((TEAM, HOST), (FREE, None)):
        manifest = _workload("Deployment", place, **copy.deepcopy(pod))
        _assert(_create(api, ACCOUNT, _path(manifest), manifest), sentence)


@pytest.mark.parametrize("pod", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_pod_needs_no_label(api: Api, pod: dict[str, Any]) -> None:
    manifest = _workload("Deployment", **copy.deepcopy(pod))
    _assert(_create(api, ACCOUNT, _path(manifest), manifest), None)


def test_operator_may_not_write_where_its_role_is_only_theory(api: Api) -> None:
    """Nothing in the policies stands in for RBAC: what the chart does not grant stays denied."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": TEAM}, "spec": {}}
    answer = _create(api, ACCOUNT, _path(pod), pod)
    assert answer.status == 403
    assert "cannot create resource" in answer.body["message"]


@pytest.fixture
def existing(api: Api, request: pytest.FixtureRequest) -> Iterator[Manifest]:
    """An object that was there before, written by the administrator."""
    manifest = request.param
    created = _create(api, None, _path(manifest), manifest, dry_run=False)
    assert created.status == 201, created.body
    yield created.body
    api("DELETE", _path(manifest, named=True), {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})


def _change(api: Api, user: str | None, existing: Manifest, change: object) -> Answer:
    # A pod's containers are merged by name; Serin adopts by a patch that replaces all owners.
    content_type = STRATEGIC if existing["kind"] == "Pod" else MERGE
    return api("PATCH", _path(existing, named=True), change, content_type=content_type, user=user, dryRun="All")


FOREIGN = _without(SMALL, "ownerReferences", "labels")
ORPHAN = _without(SMALL, "ownerReferences")
STALE = changed(SMALL, "metadata.ownerReferences", [_owner(uid="9-9")])
SHARED = changed(SMALL, "metadata.ownerReferences", [_owner(controller=False)])
HOST_PODS = _workload("Deployment", hostNetwork=True)
OPEN = changed(SERVICE, "spec.type", "NodePort")
ADOPT: object = {"metadata": {"ownerReferences": [_owner(uid="1-1")]}}
MADE = "Serin changes and deletes only what it made"
UPDATES: dict[str, tuple[Manifest, object, str | None]] = {
    "own child": (SMALL, {"data": {"a": "c"}}, None),
    "orphan": (ORPHAN, ADOPT, None),
    "orphan without adoption": (ORPHAN, {"data": {"a": "c"}}, None),
    "stale owner": (STALE, ADOPT, None),
    "beside another controller": (SHARED, {"data": {"a": "c"}}, None),
    "foreign object": (FOREIGN, {"data": {"a": "c"}}, MADE),
    "foreign object taken over": (FOREIGN, {"metadata": SMALL["metadata"]}, MADE),
    "owner removed": (SMALL, {"metadata": {"ownerReferences": None}}, "takes no child away"),
    "replicas of old host pods": (HOST_PODS, {"spec": {"replicas": 3}}, None),
    "new host pods": (HOST_PODS, {"spec": {"template": {"spec": {"hostPID": True}}}}, HOST),
    "old open Service": (OPEN, {"metadata": {"labels": {"a": "b"}}}, None),
    "newly open Service": (SERVICE, {"spec": {"type": "NodePort"}}, "only Services of the type ClusterIP"),
}


@pytest.mark.parametrize(("existing", "change", "sentence"), UPDATES.values(), ids=UPDATES, indirect=["existing"])
def test_operator_changes_only_what_it_made(api: Api, existing: Manifest, change: object, sentence: str | None) -> None:
    _assert(_change(api, ACCOUNT, existing, change), sentence)


DELETIONS = {
    "child": (SMALL, None),
    "orphan": (ORPHAN, None),
    "foreign": (FOREIGN, MADE),
    "in a system namespace": (changed(SMALL, "metadata.namespace", "kube-system"), "writes nothing in this namespace"),
}


@pytest.mark.parametrize(("existing", "sentence"), DELETIONS.values(), ids=DELETIONS, indirect=["existing"])
def test_operator_deletes_only_what_it_made(api: Api, existing: Manifest, sentence: str | None) -> None:
    _assert(api("DELETE", _path(existing, named=True), user=ACCOUNT, dryRun="All"), sentence)


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "triage-0123456789-x",
        "namespace": TEAM,
        "labels": {"serin.dev/deployment": "triage", "serin.dev/engine-revision": "0123456789"},
    },
    "spec": {"containers": [{"name": "engine", "image": "vllm"}]},
}
PLAIN = changed(POD, "metadata.labels", {"app": "theirs"})
SPLIT = {"metadata": {"annotations": {"serin.dev/split": "0123"}}}
OF_PODS = "Of a pod, Serin changes only the annotation"
POD_UPDATES: dict[str, tuple[Manifest, object, str | None]] = {
    "annotation": (POD, SPLIT, None),
    "annotation of a foreign pod": (PLAIN, SPLIT, OF_PODS),
    "another annotation": (POD, {"metadata": {"annotations": {"a": "b"}}}, OF_PODS),
    "image": (POD, {"spec": {"containers": [{"name": "engine", "image": "evil"}]}}, OF_PODS),
    "label": (POD, {"metadata": {"labels": {"a": "b"}}}, OF_PODS),
    "finalizer": (POD, {"metadata": {"finalizers": ["a.b/c"]}}, OF_PODS),
}


@pytest.mark.parametrize(
    ("existing", "change", "sentence"), POD_UPDATES.values(), ids=POD_UPDATES, indirect=["existing"]
)
def test_operator_changes_one_annotation_of_its_pods(
    api: Api, existing: Manifest, change: object, sentence: str | None
) -> None:
    _assert(_change(api, ACCOUNT, existing, change), sentence)


@pytest.mark.parametrize(
    ("existing", "sentence"),
    [(POD, None), (changed(POD, "metadata.namespace", SYSTEM_NAMESPACE), "writes nothing in this namespace")],
    ids=["team", "system"],
    indirect=["existing"],
)
def test_operator_evicts_nothing_in_a_system_namespace(api: Api, existing: Manifest, sentence: str | None) -> None:
    meta = {field: existing["metadata"][field] for field in ("name", "namespace")}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"{_path(existing, named=True)}/eviction"
    _assert(_create(api, ACCOUNT, path, eviction), sentence)


# Records --------------------------------------------------------------------------------------------------------------

ONLY_SERIN = "Only Serin"
BY_MANAGER = {"fieldManager": "serin"}
REPLICASET = changed(
    _workload("ReplicaSet"), "metadata.ownerReferences", [_owner(apiVersion="apps/v1", kind="Deployment")]
)
FROM_REPLICASET = changed(POD, "metadata.ownerReferences", [_owner(apiVersion="apps/v1", kind="ReplicaSet")])
FROM_STATEFULSET = changed(POD, "metadata.ownerReferences", [_owner(apiVersion="apps/v1", kind="StatefulSet")])
RECORD = CHILDREN["ControllerRevision"]
DEPLOYMENT = CHILDREN["Deployment"]
HIDDEN_DEPLOYMENT = _without(DEPLOYMENT, "labels", "ownerReferences")

WRITES: dict[str, tuple[str | None, Manifest, str | None]] = {
    "record by a tenant": ("tenant", RECORD, ONLY_SERIN),
    "record with the label alone": ("tenant", _without(RECORD, "ownerReferences"), ONLY_SERIN),
    "record with the owner alone": ("tenant", _without(RECORD, "labels"), ONLY_SERIN),
    "record by the operator": (ACCOUNT, RECORD, None),
    "record by a restorer": (ARGO, RECORD, None),
    "record of a StatefulSet": ("tenant", _without(RECORD, "labels", "ownerReferences"), None),
    "trial state by a tenant": ("tenant", SMALL, ONLY_SERIN),
    "ConfigMap of a tenant": ("tenant", FOREIGN, None),
    "pod by a tenant": ("tenant", POD, ONLY_SERIN),
    "pod of a tenant": ("tenant", PLAIN, None),
    "pod of a ReplicaSet by a tenant": ("tenant", FROM_REPLICASET, ONLY_SERIN),
    "pod of a ReplicaSet": (REPLICASETS, FROM_REPLICASET, None),
    "ReplicaSet by a tenant": ("tenant", REPLICASET, ONLY_SERIN),
    "ReplicaSet without labels of its own": ("tenant", _without(REPLICASET, "labels", "ownerReferences"), ONLY_SERIN),
    "ReplicaSet of a Deployment": (DEPLOYMENTS, REPLICASET, None),
    "Deployment by a tenant": ("tenant", DEPLOYMENT, ONLY_SERIN),
    "Deployment with labelled pods": ("tenant", HIDDEN_DEPLOYMENT, ONLY_SERIN),
    "Deployment by the operator": (ACCOUNT, DEPLOYMENT, None),
    "Service by a tenant": ("tenant", SERVICE, None),
}


@pytest.mark.parametrize(("user", "manifest", "sentence"), WRITES.values(), ids=WRITES)
def test_only_serin_creates_what_verdicts_rest_on(
    api: Api, user: str, manifest: Manifest, sentence: str | None
) -> None:
    _assert(_create(api, user, _path(manifest), manifest), sentence)


@pytest.mark.parametrize("manifest", [FOREIGN, _without(RECORD, "labels", "ownerReferences")], ids=["state", "record"])
def test_field_manager_of_serin_is_a_mark_as_well(api: Api, manifest: Manifest) -> None:
    query = {"fieldManager": "serin", "dryRun": "All"}
    answer = api("PATCH", _path(manifest, named=True), manifest, content_type=APPLY, user="tenant", **query)
    _assert(answer, ONLY_SERIN)


LABELS = SMALL["metadata"]["labels"]
TAMPERED: dict[str, tuple[Manifest, str | None, object, str | None]] = {
    "number of a record": (RECORD, "tenant", {"revision": 9}, ONLY_SERIN),
    "promotion": (RECORD, "tenant", {"metadata": {"annotations": {"serin.dev/promotion": "9"}}}, ONLY_SERIN),
    "label removed": (RECORD, "tenant", {"metadata": {"labels": None}}, ONLY_SERIN),
    "label changed": (RECORD, "tenant", {"metadata": {"labels": {"serin.dev/deployment": "x"}}}, ONLY_SERIN),
    "owner removed": (RECORD, "tenant", {"metadata": {"ownerReferences": None}}, ONLY_SERIN),
    "owner removed by the garbage collector": (RECORD, GARBAGE, {"metadata": {"ownerReferences": None}}, None),
    "annotation of a backup": (RECORD, "tenant", {"metadata": {"annotations": {"backup": "1"}}}, None),
    "no change": (RECORD, "tenant", {"metadata": {"name": RECORD["metadata"]["name"]}}, None),
    "promotion by a restorer": (RECORD, ARGO, {"metadata": {"annotations": {"serin.dev/promotion": "9"}}}, None),
    "data of a trial state": (SMALL, "tenant", {"data": {"a": "evil"}}, ONLY_SERIN),
    "trial state that nobody can write any more": (SMALL, "tenant", {"immutable": True}, ONLY_SERIN),
    "binary data": (SMALL, "tenant", {"binaryData": {"b": "YQ=="}}, ONLY_SERIN),
    "ConfigMap that becomes one": (
        FOREIGN,
        "tenant",
        {"metadata": {"labels": SMALL["metadata"]["labels"]}},
        ONLY_SERIN,
    ),
    "ConfigMap that gets an owner": (FOREIGN, "tenant", {"metadata": {"ownerReferences": [_owner()]}}, ONLY_SERIN),
    "image of a pod": (POD, "tenant", {"spec": {"containers": [{"name": "engine", "image": "x"}]}}, ONLY_SERIN),
    "pod that becomes one": (PLAIN, "tenant", {"metadata": {"labels": POD["metadata"]["labels"]}}, ONLY_SERIN),
    "pod that is one no more": (POD, "tenant", {"metadata": {"labels": {"serin.dev/deployment": None}}}, ONLY_SERIN),
    "label of a pod": (POD, "tenant", {"metadata": {"labels": {"a": "b"}}}, None),
    "adoption of a pod": (
        POD,
        REPLICASETS,
        {"metadata": {"ownerReferences": FROM_REPLICASET["metadata"]["ownerReferences"]}},
        None,
    ),
    "image of a Deployment": (
        DEPLOYMENT,
        "tenant",
        {"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "x"}]}}}},
        ONLY_SERIN,
    ),
    "restart": (DEPLOYMENT, "tenant", {"spec": {"template": {"metadata": {"annotations": {"at": "1"}}}}}, None),
    "replicas": (DEPLOYMENT, "tenant", {"spec": {"replicas": 0}}, None),
    "image of a ReplicaSet": (
        REPLICASET,
        "tenant",
        {"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "x"}]}}}},
        ONLY_SERIN,
    ),
    "replicas of a ReplicaSet": (REPLICASET, DEPLOYMENTS, {"spec": {"replicas": 2}}, None),
}


@pytest.mark.parametrize(
    ("existing", "user", "change", "sentence"), TAMPERED.values(), ids=TAMPERED, indirect=["existing"]
)
def test_only_serin_changes_what_verdicts_rest_on(
    api: Api, existing: Manifest, user: str | None, change: object, sentence: str | None
) -> None:
    _assert(_change(api, user, existing, change), sentence)


@pytest.mark.parametrize("existing", [FOREIGN], indirect=True)
def test_nobody_writes_the_field_manager_of_serin_by_hand(api: Api, existing: Manifest) -> None:
    (entry, *_) = existing["metadata"]["managedFields"]
    forged = [entry | {"manager": "serin", "operation": "Apply"}]
    path, change = _path(existing, named=True), {"metadata": {"managedFields": forged}}
    _assert(api("PATCH", path, change, content_type=MERGE, user="tenant", dryRun="All"), ONLY_SERIN)


@pytest.mark.parametrize(("existing", "sentence"), [(POD, ONLY_SERIN), (PLAIN, None)], indirect=["existing"])
def test_ephemeral_container_is_no_way_into_an_engine_pod(api: Api, existing: Manifest, sentence: str | None) -> None:
    change = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "x"}]}}
    path = f"{_path(existing, named=True)}/ephemeralcontainers"
    _assert(api("PATCH", path, change, content_type=STRATEGIC, user="tenant", dryRun="All"), sentence)


@pytest.mark.parametrize("existing", [RECORD, SMALL, POD, DEPLOYMENT, ROUTE], indirect=True)
def test_deletion_is_left_to_everybody_who_may(api: Api, existing: Manifest) -> None:
    assert api("DELETE", _path(existing, named=True), user="tenant", dryRun="All").status in {200, 202}


# Fuzz -----------------------------------------------------------------------------------------------------------------

WORDS = ("spec", "env", "envFrom", "secretRef", "valueFrom", "secretKeyRef", "name", "volumes", "projected", "secret")


def _anything(random_: random.Random, depth: int = 4) -> Any:
    """Any JSON, with the field names that the policies read."""
    leaves: list[Any] = [None, True, 0, -1, 1.5, "", "token", "a,b", [], {}]
    if depth == 0 or random_.random() < 0.3:
        return random_.choice(leaves)
    if random_.random() < 0.5:
        return [_anything(random_, depth - 1) for _ in range(random_.randrange(3))]
    return {random_.choice(WORDS): _anything(random_, depth - 1) for _ in range(random_.randrange(4))}


def _names_a_secret(value: Any) -> bool:
    return "token" in json.dumps(value)


@pytest.mark.parametrize("seed", range(200))
def test_no_manifest_gets_a_secret_past_the_policy(api: Api, seed: int) -> None:
    """Whatever the pod template is, it is refused with a sentence, or names nothing that the API server reads."""
    random_ = random.Random(seed)
    overlay = {random_.choice((*WORDS, "containers", "initContainers")): _anything(random_) for _ in range(3)}
    manifest = changed(BASE, "spec.podTemplate", {"spec": overlay})
    answer = _create(api, "no-secrets", LLMDEPLOYMENTS, manifest)
    assert answer.status in {201, 400, 403, 422}, answer.body
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": TEAM}}
    spec = overlay | {"containers": [{"name": "engine", "image": "i"}, *_as_list(overlay.get("containers"))]}
    valid = _create(api, None, _path(pod), pod | {"spec": spec}, validation="Strict").status == 201
    if answer.status == 201 and valid:
        assert not _names_a_secret(overlay)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
