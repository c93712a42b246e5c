"""The chart grants exactly the permissions that the code uses, sets every setting and rejects invalid values.

What the code does is read from the code: the calls to the cluster port, the kinds that it renders, what it watches.
Whether the real API server agrees is shown end to end, by an audit log without a single denial.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.builds.cache import Cache
from sandbox.host.layout import from_environment
from sandbox.host.progress import Progress
from serin import handlers, owned_objects
from serin.api.names import LABEL_DEPLOYMENT, LABEL_ENGINE_REVISION
from serin.cluster import port
from serin.cluster.port import Kind
from serin.metric_sources.promql import with_matcher
from serin.rollout.commands import Verb
from serin.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "serin"
PACKAGE = ROOT / "operator" / "serin"
SHELL = (
    "reconciler.py",
    "prompt_reconciler.py",
    "owned_objects.py",
    "tolerant_reads.py",
    "plan_execution.py",
    "split_delivery.py",
    "status_writing.py",
    "cluster/lease.py",
)
LEASE_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Kinds that the planner deletes, by field of `Children`.
CHILDREN = {
    "deployments": port.DEPLOYMENT,
    "budgets": port.POD_DISRUPTION_BUDGET,
    "services": port.SERVICE,
    "records": port.CONTROLLER_REVISION,
    "splits": port.CONFIG_MAP,
    "route": port.HTTP_ROUTE,
}

MATCHERS = 'prometheus.requests.matchers=job="gateway"'
"""The one value without a default."""

Right = tuple[str, str, str]
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Path:
    cache = Cache(from_environment())
    if cache.missing(["helm"]):
        cache.provide_go(["helm"])
        cache.build(["helm"], Progress(cache.missing(["helm"])))
    return cache.path("helm")


@pytest.fixture(scope="session")
def run_helm(helm: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="session")
def render(run_helm: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    def run(*settings: str) -> list[dict[str, Any]]:
        sets = [word for setting in (MATCHERS, *settings) for word in ("--set", setting)]
        done = run_helm("template", "serin", str(CHART), "-n", "serin-system", "--kube-version", "1.35.4", *sets)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return run


def calls(name: str) -> Iterator[ast.Call]:
    """Every call of `<name>(…)` or `something.<name>(…)` in the modules that use the cluster."""
    for module in SHELL:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, ast.Call) and name in {
                getattr(node.func, "attr", None),
                getattr(node.func, "id", None),
            }:
                yield node


def kinds_given_to(function: str) -> set[Kind]:
    """Kinds that are an argument of its calls, as constants of the cluster port."""
    names = {argument.id for call in calls(function) for argument in call.args if isinstance(argument, ast.Name)}
    return {kind for name in names if isinstance(kind := getattr(port, name, None), Kind)}


def kinds_read_by_name() -> set[Kind]:
    """Kinds of `get`: a constant of the port, or in a loop the children that Serin writes itself."""
    expressions = {ast.unparse(call.args[0]) for call in calls("get") if call.args and _is_of_cluster(call)}
    constants = {name: kind for name in expressions if isinstance(kind := getattr(port, name, None), Kind)}
    computed = expressions - constants.keys()

    assert computed <= {"kind", "kind_of(obj)"}, "not a constant: say here which kinds it can be"
    return set(constants.values()) | (kinds_rendered() if computed else set())


def _is_of_cluster(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).endswith(("cluster", "reads"))


def kinds_rendered() -> set[Kind]:
    """Kinds of the whole objects that manifests and routers build."""
    found: set[str] = set()
    for module in (*(PACKAGE / "manifests").glob("*.py"), *(PACKAGE / "routers").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Dict):
                keys = {
                    key.value: value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                }
                kind = keys.get("kind")
                if {"apiVersion", "metadata"} <= keys.keys() and isinstance(kind, ast.Constant):
                    found.add(str(kind.value))
    return {kind for kind in port.KINDS if kind.kind in found}


def kinds_deleted() -> set[Kind]:
    """Kinds that the planner's `_surplus` iterates over."""
    tree = ast.parse((PACKAGE / "planner.py").read_text())
    (surplus,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_surplus")
    return {
        CHILDREN[node.attr]
        for node in ast.walk(surplus)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "existing"
    }


def rights(kinds: set[Kind] | tuple[Kind, ...], *verbs: str, subresource: str = "") -> set[Right]:
    return {
        (kind.api_version.rpartition("/")[0], f"{kind.plural}{subresource}", verb) for kind in kinds for verb in verbs
    }


def rights_of_the_code() -> set[Right]:
    """Calls of the operator in the namespaces of LLMDeployments."""
    watched = {port.LLMDEPLOYMENT, port.PROMPTVERSION, *handlers.CHILDREN}
    return (
        rights(watched, "list", "watch")
        | rights(owned_objects.LISTED_KINDS, "list")
        | rights(kinds_given_to("list"), "list")
        | rights(kinds_read_by_name(), "get")
        | rights(kinds_given_to("write_status"), "patch", subresource="/status")
        | rights(kinds_rendered(), "create", "patch")
        | rights(kinds_deleted(), "delete")
        | rights(kinds_given_to("annotate"), "patch")
        | (rights({port.POD}, "create", subresource="/eviction") if any(calls("evict")) else set())
        | (rights({port.EVENT}, "create") if any(calls("event")) else set())
        # blockOwnerDeletion, where the admission plugin OwnerReferencesPermissionEnforcement is on.
        | rights({port.LLMDEPLOYMENT}, "update", subresource="/finalizers")
    )


def granted(role: Mapping[str, Any]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def find(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def test_extraction_finds_known_calls() -> None:
    code = rights_of_the_code()

    assert ("serin.dev", "llmdeployments", "get") in code
    assert ("gateway.networking.k8s.io", "httproutes", "get") in code
    assert ("apps", "deployments", "delete") in code
    assert ("serin.dev", "llmdeployments/status", "patch") in code


def test_cluster_role_grants_exactly_the_calls_of_the_code(render: Render) -> None:
    role = find(render(), "ClusterRole", "serin-system:serin")
    # kopf finds kinds that are installed later.
    definitions = {("apiextensions.k8s.io", "customresourcedefinitions", verb) for verb in ("list", "watch")}

    assert granted(role) == rights_of_the_code() | definitions


def test_readme_lists_every_permission(render: Render) -> None:
    documents = render()
    roles = find(documents, "ClusterRole", "serin-system:serin"), find(documents, "Role", "serin-lease")
    told = set()
    section = (CHART / "README.md").read_text().partition("## Rights")[2].partition("\n## ")[0]
    for resources, verbs in re.findall(r"^\| (`.*?) \| (.*?) \|$", section, re.MULTILINE):
        allowed = re.findall(r"[a-z]+", verbs.partition(":")[0])
        told |= {(name, verb) for name in re.findall(r"`(.+?)`", resources) for verb in allowed}

    assert told == {(resource, verb) for role in roles for _, resource, verb in granted(role)}


def test_watch_namespaces_gives_roles_there_and_nowhere_else(render: Render) -> None:
    documents = render("watchNamespaces={team-a,team-b}", "rbac.aggregate=false")
    roles = [each for each in documents if each["kind"] == "Role" and not each["metadata"]["name"].endswith("-lease")]
    bindings = [each for each in documents if each["kind"] == "RoleBinding"]

    assert not [each for each in documents if each["kind"].startswith("Cluster")]
    assert [each["metadata"]["namespace"] for each in roles] == ["team-a", "team-b"]
    assert all(granted(role) == rights_of_the_code() for role in roles)
    assert sorted(each["metadata"]["namespace"] for each in bindings) == ["serin-system", "team-a", "team-b"]


def test_lease_role_grants_exactly_the_calls_of_the_election(render: Render) -> None:
    methods = {
        argument.value
        for call in calls("_request")
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant) and argument.value in LEASE_VERBS
    }
    role = find(render(), "Role", "serin-lease")
    named = [rule for rule in role["rules"] if "create" not in rule["verbs"]]

    assert granted(role) == rights({port.LEASE}, *(LEASE_VERBS[method] for method in methods))
    assert [rule["resourceNames"] for rule in named] == [["serin"]]
    assert environment(render())["SERIN_LEASE_NAME"] == "serin"


def test_every_binding_names_a_role_and_the_service_account(render: Render) -> None:
    documents = render("watchNamespaces={team-a}", "serviceAccount.name=somebody")
    roles = {(each["kind"], each["metadata"]["name"]) for each in documents if each["kind"].endswith("Role")}
    bindings = [each for each in documents if each["kind"].endswith("RoleBinding")]
    pod = find(documents, "Deployment", "serin")["spec"]["template"]["spec"]

    assert bindings
    assert pod["serviceAccountName"] == "somebody"
    for binding in bindings:
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "somebody", "namespace": "serin-system"}]


def test_only_the_operator_can_write_status(render: Render) -> None:
    aggregated = [each for each in render() if any("aggregate-to" in label for label in each["metadata"]["labels"])]

    assert len(aggregated) == 4
    for role in aggregated:
        assert not {
            right
            for right in granted(role)
            if right[1].endswith("/status") and right[2] not in {"get", "list", "watch"}
        }


VERBS = {"promote", "skip", "resume", "abort", "retry"}


@pytest.mark.parametrize(
    ("role", "verbs"), [("operate", VERBS), ("brake", {"abort"}), ("edit", set()), ("view", set())]
)
def test_commands_are_rights_of_two_roles(render: Render, role: str, verbs: set[str]) -> None:
    found = find(render(), "ClusterRole", f"serin:{role}")

    assert {verb for _, _, verb in granted(found)} & VERBS == verbs
    assert set(Verb) == VERBS


def test_release_for_some_namespaces_has_roles_and_policies_of_its_own(render: Render) -> None:
    documents = render("watchNamespaces={team-a}")
    bindings = [each for each in documents if each["kind"] == "ValidatingAdmissionPolicyBinding"]
    scopes = {each["metadata"]["name"].split(".")[0]: each["spec"].get("matchResources") for each in bindings}
    selector = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}
    scope = {"namespaceSelector": {"matchExpressions": [selector]}}

    assert find(documents, "ClusterRole", "serin-system:serin:operate")
    assert scopes == {
        "serin-no-more-than-yourself": scope,
        "serin-commands": scope,
        "serin-operator": None,  # its account has no business anywhere else either
        "serin-records": scope,
    }


@pytest.mark.parametrize(
    ("namespaces", "mentions"), [("{team-a}", 1), ("{serin-system,team-a}", 0)], ids=["apart", "its own"]
)
def test_namespace_of_the_release_is_protected_unless_it_is_served(
    render: Render, namespaces: str, mentions: int
) -> None:
    documents = render(f"watchNamespaces={namespaces}")
    rules = find(documents, "ValidatingAdmissionPolicy", "serin-operator.serin-system")["spec"]["validations"]
    (expression,) = (each["expression"] for each in rules if "kube-public" in each["expression"])

    assert expression.count("'serin-system'") == mentions


def test_policies_can_be_left_out(render: Render) -> None:
    assert not [each for each in render("admission.enabled=false") if "Admission" in each["kind"]]


def environment(documents: list[dict[str, Any]]) -> dict[str, str]:
    (container,) = find(documents, "Deployment", "serin")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_every_setting_has_a_value_and_equal_defaults(render: Render) -> None:
    given = environment(render())
    from_chart = Settings.from_environment({**given, "SERIN_IDENTITY": "pod", "SERIN_NAMESPACE": "serin-system"})
    # The chart never sets the address.
    expected = {f"SERIN_{name.upper()}" for name in Settings.model_fields} - {"SERIN_BIND_ADDRESS"}

    assert given.keys() == expected
    # Has no default in the operator, which does not know its own image.
    from_default = Settings(identity="pod", model_server_image="serin.dev/operator:0.1.0")
    # Which target the gateway is has no default.
    assert from_chart == from_default.model_copy(update={"requests_metric": REQUESTS})


@pytest.mark.parametrize(
    ("settings", "image", "policy"),
    [
        (("image.tag=v2", "image.pullPolicy=Never"), "serin.dev/operator:v2", "Never"),
        ((f"image.digest=sha256:{'0' * 64}",), f"serin.dev/operator@sha256:{'0' * 64}", "IfNotPresent"),
        (("modelServer.enabled=false",), "", "IfNotPresent"),
    ],
    ids=["tag", "digest", "off"],
)
def test_middleware_image_is_the_operator_image(
    render: Render, settings: tuple[str, ...], image: str, policy: str
) -> None:
    given = environment(render(*settings))

    assert given["SERIN_MODEL_SERVER_IMAGE"] == image
    assert given["SERIN_MODEL_SERVER_PULL_POLICY"] == policy


REQUESTS = 'envoy_cluster_upstream_rq{job="gateway"}'
CREDENTIALS = ("SERIN_PROMETHEUS_USERNAME", "SERIN_PROMETHEUS_PASSWORD", "SERIN_PROMETHEUS_BEARER_TOKEN")


def test_extra_env_sets_a_setting_without_value(render: Render) -> None:
    documents = render(
        "extraEnv[0].name=SERIN_BIND_ADDRESS", "extraEnv[0].value=127.0.0.1", "extraEnv[1].name=HTTPS_PROXY"
    )

    assert environment(documents)["SERIN_BIND_ADDRESS"] == "127.0.0.1"


def test_credentials_come_only_from_a_secret(render: Render) -> None:
    documents = render("prometheus.existingSecret=access", "prometheus.caFromSecret=true")
    pod = find(documents, "Deployment", "serin")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {each["name"]: each for each in container["env"] if each["name"] in CREDENTIALS}
    values = yaml.safe_load((CHART / "values.yaml").read_text())["prometheus"]

    assert [given[name]["valueFrom"]["secretKeyRef"] for name in CREDENTIALS] == [
        {"name": "access", "key": key, "optional": True} for key in ("username", "password", "token")
    ]
    assert not {"username", "password", "token", "bearerToken", "ca"} & values.keys()
    assert pod["volumes"] == [
        {"name": "prometheus-ca", "secret": {"secretName": "access", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    ]
    (mount,) = container["volumeMounts"]
    assert environment(documents)["SERIN_PROMETHEUS_CA_FILE"] == f"{mount['mountPath']}/ca.crt"
    assert mount["readOnly"] is True


def test_ca_without_secret_is_rejected(run_helm: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_helm(
        *("template", "serin", str(CHART), "--kube-version", "1.35.4"),
        *("--set", MATCHERS, "--set", "prometheus.caFromSecret=true"),
    )

    assert done.returncode != 0
    assert "prometheus.existingSecret" in done.stderr


def test_pod_ports_are_the_ports_of_the_operator(render: Render) -> None:
    documents = render()
    (container,) = find(documents, "Deployment", "serin")["spec"]["template"]["spec"]["containers"]
    given = environment(documents)
    ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}

    assert ports == {"http": given["SERIN_PROBE_PORT"], "metrics": given["SERIN_METRICS_PORT"]}
    assert {container["livenessProbe"]["httpGet"]["port"], container["readinessProbe"]["httpGet"]["port"]} == {"http"}
    assert find(documents, "Service", "serin-metrics")["spec"]["ports"][0]["targetPort"] == "metrics"


def test_pods_meet_the_restricted_pod_security_level(render: Render) -> None:
    pod = find(render(), "Deployment", "serin")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & pod.keys()


def test_replicas_are_spread_and_one_stays_available(render: Render) -> None:
    documents = render()
    deployment = find(documents, "Deployment", "serin")["spec"]
    selector = deployment["selector"]["matchLabels"]

    assert deployment["replicas"] == 2
    assert deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == selector
    assert find(documents, "PodDisruptionBudget", "serin")["spec"]["selector"]["matchLabels"] == selector
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()


def test_optional_objects_render_when_enabled(render: Render) -> None:
    kinds = {each["kind"] for each in render()}
    more = {
        each["kind"]
        for each in render(
            "metrics.serviceMonitor.enabled=true",
            "metrics.prometheusRule.enabled=true",
            "prometheus.podMonitor.enabled=true",
            "networkPolicy.enabled=true",
            "priorityClassName=high",
            "nodeSelector.disk=fast",
            "extraEnv[0].name=TZ",
            "extraVolumes[0].name=certificates",
            "extraVolumeMounts[0].name=certificates,extraVolumeMounts[0].mountPath=/certificates",
            "prometheus.existingSecret=access,prometheus.caFromSecret=true",
            "imagePullSecrets[0].name=pull",
        )
    }

    assert more - kinds == {"ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy"}


@pytest.mark.parametrize("namespaces", [[], ["team-a", "team-b"]], ids=["all", "some"])
def test_pod_monitor_sets_the_labels_that_the_operator_reads(render: Render, namespaces: list[str]) -> None:
    settings = (
        "prometheus.podMonitor.enabled=true",
        "prometheus.podMonitor.labels.release=stack",
        "prometheus.scrapeInterval=5",
        "prometheus.inFlight.deploymentLabel=llm",
    )
    only = (f"watchNamespaces={{{','.join(namespaces)}}}",) if namespaces else ()
    documents = render(*settings, *only)
    monitor = find(documents, "PodMonitor", "serin-engines")
    read = Settings.from_environment({**environment(documents), "SERIN_IDENTITY": "pod"})
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    sources = {rule["targetLabel"]: rule["sourceLabels"] for rule in endpoint["relabelings"] if "targetLabel" in rule}

    assert monitor["metadata"]["labels"]["release"] == "stack"
    assert monitor["spec"]["namespaceSelector"] == ({"matchNames": namespaces} if namespaces else {"any": True})
    assert monitor["spec"]["selector"]["matchExpressions"] == [{"key": LABEL_DEPLOYMENT, "operator": "Exists"}]
    assert (endpoint["port"], endpoint["interval"]) == ("http", "5000ms")
    assert sources == {
        read.namespace_label: ["__meta_kubernetes_namespace"],
        read.deployment_label: [_pod_label(LABEL_DEPLOYMENT)],
        read.engine_revision_label: [_pod_label(LABEL_ENGINE_REVISION)],
    }
    assert read.deployment_label == "llm"


def _pod_label(label: str) -> str:
    """The label that service discovery makes of a pod's label."""
    return "__meta_kubernetes_pod_label_" + re.sub("[^a-zA-Z0-9_]", "_", label)


ISTIO_SERVICE = "light-713e603413.docs.svc.cluster.local"
SERIES = {
    "contour": (
        'envoy_cluster_upstream_rq{job="gateway",envoy_cluster_name="docs_light-713e603413_8000"}',
        "envoy_response_code",
    ),
    "istio": (
        f'istio_requests_total{{reporter="source",job="gateway",destination_service="{ISTIO_SERVICE}"}}',
        "response_code",
    ),
    "traefik": ('traefik_service_requests_total{job="gateway",backend="docs-light-713e603413"}', "code"),
    "envoyGateway": ('none{envoy_cluster_name="docs_light-713e603413_8000"}', "envoy_response_code"),
    "none": ('none{envoy_cluster_name="docs_light-713e603413_8000"}', "envoy_response_code"),
}
"""By gateway, the selector of one backend's requests, and the label of the response code."""


@pytest.mark.parametrize("gateway", SERIES)
def test_gateway_preset_selects_requests_of_a_backend(render: Render, gateway: str) -> None:
    given = environment(render(f"prometheus.gateway={gateway}"))
    read = Settings.from_environment({**given, "SERIN_IDENTITY": "pod"})
    backend = read.requests_backend.format(namespace="docs", service="light-713e603413", port=8000)
    selector = with_matcher(read.requests_metric, f'{read.requests_backend_label}="{backend}"')

    assert (selector, read.requests_code_label) == SERIES[gateway]


COUNTERS = {
    "contour": ((), None),
    "istio": (("prometheus.gateway=istio",), None),
    "own name": (("prometheus.requests.metric=own_total",), None),
    "own matcher": (('prometheus.requests.metric=own_total{job="edge"}',), 'own_total{job="edge"}'),
    "both": (
        ('prometheus.requests.metric=own_total{job="edge"}', 'prometheus.requests.matchers=pod=~"edge-.+"\\,'),
        'own_total{job="edge",pod=~"edge-.+"}',
    ),
    "none": (("prometheus.gateway=none",), "none"),
    "envoyGateway": (("prometheus.gateway=envoyGateway",), "none"),
}


@pytest.mark.parametrize(("settings", "metric"), COUNTERS.values(), ids=COUNTERS)
def test_gateway_counter_needs_the_target_of_the_gateway(
    run_helm: Callable[..., subprocess.CompletedProcess[str]], settings: tuple[str, ...], metric: str | None
) -> None:
    sets = [word for setting in settings for word in ("--set", setting)]
    done = run_helm("template", "serin", str(CHART), "--kube-version", "1.35.4", *sets)

    if metric is None:
        assert "prometheus.requests.matchers is empty" in done.stderr
    else:
        assert (
            environment([each for each in yaml.safe_load_all(done.stdout) if each])["SERIN_REQUESTS_METRIC"] == metric
        )


def test_written_series_replace_those_of_the_gateway(render: Render) -> None:
    given = environment(render("prometheus.gateway=istio", "prometheus.requests.backendLabel=upstream"))

    assert given["SERIN_REQUESTS_BACKEND_LABEL"] == "upstream"
    assert given["SERIN_REQUESTS_CODE_LABEL"] == "response_code"


def test_alerts_use_only_exported_metrics(render: Render) -> None:
    rule = find(render("metrics.prometheusRule.enabled=true"), "PrometheusRule", "serin")
    expressions = " ".join(each["expr"] for group in rule["spec"]["groups"] for each in group["rules"])
    used = {word for word in _words(expressions) if word.startswith("serin_")}
    exported = {word for word in _words((PACKAGE / "telemetry.py").read_text()) if word.startswith("serin_")}

    assert used
    assert {name.removesuffix("_count") for name in used} <= exported


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split()


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("replicas=3", "replicas"),
        ("prometheus.url=prometheus:9090", "prometheus/url"),
        ("prometheus.ulr=x", "ulr"),
        ("prometheus.password=hush", "password"),
        ("prometheus.existingSecret=Not_A_Name", "existingSecret"),
        ("prometheus.scrapeInterval=0", "scrapeInterval"),
        ("prometheus.evidenceLag=-1", "evidenceLag"),
        ("prometheus.series.revisionLabel=a-b", "revisionLabel"),
        ("prometheus.series.engine=1x", "series/engine"),
        ("logLevel=loud", "logLevel"),
        ("workers=0", "workers"),
        ("leaseDuration=1", "leaseDuration"),
        ("leaseDuration=120", "leaseDuration"),
        ("image.digest=latest", "image/digest"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("prometheus.requests.backend=fixed", "requests/backend"),
        ("prometheus.requests.matchers=envoy", "requests/matchers"),
        ("prometheus.gateway=nginx", "prometheus/gateway"),
        ("prometheus.podMonitor.enabled=auto", "podMonitor/enabled"),
        ("rbac.create=maybe", "rbac/create"),
        ("admission.enabled=audit", "admission/enabled"),
        ("admission.controllers={a'b}", "admission/controllers"),
        ("admission.protectedNamespaces={Kube_System}", "protectedNamespaces"),
        ("extraEnv[0].name=SERIN_PROMETHEUS_TENANT", "extraEnv/0/name"),
    ],
    ids=lambda text: text.split("=")[0],
)
def test_invalid_values_are_rejected_by_name(
    run_helm: Callable[..., subprocess.CompletedProcess[str]], setting: str, complaint: str
) -> None:
    done = run_helm("template", "serin", str(CHART), "--kube-version", "1.35.4", "--set", setting)

    assert done.returncode != 0
    assert complaint in done.stderr


def test_values_and_schema_have_the_same_keys() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    assert values.keys() == schema["properties"].keys() - {"global"}


@pytest.mark.parametrize("chart", ["serin", "serin-crds"])
def test_helm_lint_passes(run_helm: Callable[..., subprocess.CompletedProcess[str]], chart: str) -> None:
    sets = ("--set", MATCHERS) if chart == "serin" else ()
    done = run_helm("lint", "--strict", str(ROOT / "charts" / chart), *sets)

    assert done.returncode == 0, done.stdout + done.stderr


def test_charts_and_package_have_the_same_version() -> None:
    charts = [yaml.safe_load((ROOT / "charts" / name / "Chart.yaml").read_text()) for name in ("serin", "serin-crds")]
    package = (ROOT / "pyproject.toml").read_text().split('\nversion = "')[1].split('"')[0]

    assert {version for chart in charts for version in (chart["version"], chart["appVersion"])} == {package}
