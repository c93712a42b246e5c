"""Configuration files of the node, the gateway and the metrics: text made from addresses and paths.

Pure. Callers: `components`. Each setting is needed on a small machine without systemd; the comments say what goes wrong
without it. Not here: command lines (`components`, `control_plane.programs`).
"""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.builds import pins
from sandbox.images.preloaded import PAUSE_IMAGE
from sandbox.node import cgroups
from sandbox.node.network import Plan

NODE = "serin"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
ENVOY_METRICS_PORT = 8002
PROMETHEUS_PORT = 9090
TRAEFIK_METRICS_PORT = 8004
# By gateway, its port for the Gateway's listener 8080: Contour adds 8000.
GATEWAY_PORTS = {pins.CONTOUR: 16080, pins.TRAEFIK: 8080}


def containerd(cni_plugins: Path, cni_configuration: Path) -> str:
    """Return containerd's configuration; without the shim's path, which containerd ignores after a restart."""
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# Unused here, and each costs start-up time or a warning.
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE no process may lower an OOM score.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{cni_plugins}"]
  conf_dir = "{cni_configuration}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def cni(plan: Plan) -> str:
    """Return the pod network: a veth pair per pod and a route on the node, so that no bridge filtering is involved."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "serin",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": "/var/lib/cni/networks",
                        "ranges": [[{"subnet": str(plan.pods)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        },
        indent=1,
    )


def kubelet(plan: Plan, certificates: Path) -> str:
    """Return the kubelet's configuration."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": str(plan.node),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(certificates / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.NAME}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # There is no cluster DNS. Loopback refuses a look-up at once, where another address may let it wait for
            # seconds (ICMP errors are rationed); with no address at all every pod would carry a warning.
            "clusterDNS": ["127.0.0.1"],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "healthzBindAddress": str(plan.node),
            "healthzPort": 10248,
            # Images cannot be pulled again: never collect one, nor evict a pod because a large disk is mostly used.
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "8760h",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "maxPods": 110,
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "5s",
            "shutdownGracePeriod": "0s",
            "oomScoreAdj": 0,
        },
        indent=1,
    )


def kube_proxy(plan: Plan, kubeconfig: Path) -> str:
    """Return kube-proxy's configuration: nftables, and no change of the machine-wide connection tracking limits."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": NODE,
            "clusterCIDR": str(plan.pods),
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "healthzBindAddress": f"{plan.node}:10256",
            "metricsBindAddress": f"{plan.node}:10249",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        },
        indent=1,
    )


def contour() -> str:
    """Return Contour's configuration: it serves the one Gateway that `gateway.yaml` defines.

    Compression is off: on two cores it would be the gateway's largest cost.
    """
    return "gateway:\n  gatewayRef:\n    namespace: gateway\n    name: llm\ncompression:\n  algorithm: disabled\n"


_POD_LABELS = """\
    - {source_labels: [__meta_kubernetes_pod_phase], regex: Pending|Succeeded|Failed, action: drop}
    - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
    - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
"""


# Traefik names a service by route and rule as well; Serin needs a label that names only the Kubernetes Service.
# Before 3.7.6 the name had neither route nor rule (traefik/traefik#13367).
TRAEFIK_BACKEND = r"(?:httproute-.+-[0-9a-f]{20}-svc-)?(.+)-\d+@kubernetesgateway"


def gateway_scrape(plan: Plan, gateway: str) -> str:
    """Return Prometheus' scrape job for a gateway."""
    if gateway == pins.TRAEFIK:
        return f"""\
- job_name: traefik
  static_configs:
  - targets: ["{plan.node}:{TRAEFIK_METRICS_PORT}"]
  metric_relabel_configs:
  - {{source_labels: [service], regex: '{TRAEFIK_BACKEND}', target_label: backend}}
"""
    return f"""\
- job_name: envoy
  metrics_path: /stats/prometheus
  static_configs:
  - targets: ["{plan.node}:{ENVOY_METRICS_PORT}"]
"""


def prometheus(plan: Plan, kubeconfig: Path, gateway: str = pins.CONTOUR) -> str:
    """Return Prometheus' configuration: the gateway, the engines of every LLMDeployment, and the operator."""
    pods = f"{{role: pod, kubeconfig_file: {kubeconfig}}}"
    return f"""\
global:
  scrape_interval: 5s
  scrape_timeout: 4s
  evaluation_interval: 5s
scrape_configs:
{gateway_scrape(plan, gateway).rstrip()}
- job_name: vllm
  kubernetes_sd_configs:
  - {pods}
  relabel_configs:
    - {{source_labels: [__meta_kubernetes_pod_labelpresent_serin_dev_deployment], regex: "true", action: keep}}
    - {{source_labels: [__meta_kubernetes_pod_container_port_name], regex: http, action: keep}}
{_POD_LABELS.rstrip()}
    - {{source_labels: [__meta_kubernetes_pod_label_serin_dev_deployment], target_label: deployment}}
    - {{source_labels: [__meta_kubernetes_pod_label_serin_dev_engine_revision], target_label: engine_revision}}
- job_name: serin-operator
  honor_labels: true  # our series say which LLMDeployment they are about; its namespace is not the operator's
  kubernetes_sd_configs:
  - {pods}
  relabel_configs:
    - {{source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], regex: serin, action: keep}}
    - {{source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}}
{_POD_LABELS.rstrip()}
"""
