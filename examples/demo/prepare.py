"""Creates what the scenes need: sandbox, vLLM, checkpoints, the operator's image, both charts.

Called by `__main__` and the end-to-end tests. Everything is cached or idempotent, so a second run takes seconds.
Not here: checks of a user's cluster (own_cluster), and the scenes.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.demo.cluster import Cluster
from examples.demo.errors import CommandError
from examples.demo.place import ROOT, Image, Place, sandbox_place, sandbox_state
from examples.demo.say import Teller

EARLY_STEPS = 150
"""Training steps of the first checkpoint: a real model whose training stopped too early."""
SYSTEM_NAMESPACE = "serin-system"
RELEASE = "serin"
DEFINITIONS_RELEASE = "serin-crds"
DEFINITIONS = ("llmdeployments.serin.dev", "promptversions.serin.dev")
OURS = "serin.dev/installed-by=demo"
"""Label of both helm releases; on a user's cluster the demo changes no others."""
OPERATOR_PODS = "app.kubernetes.io/name=serin"


def sandbox(tell: Teller) -> Place:
    """Start the sandbox, or repair a running one."""
    stream(tell, [sys.executable, "-m", "sandbox", "up"])
    return sandbox_place()


def engines(tell: Teller) -> None:
    """Build vLLM and two checkpoints of the tiny model, and mount them into the node under fixed paths."""
    vllm = Path(stream(tell, [sys.executable, "-m", "model_server.cpu.install"]))
    train = [str(vllm / "bin" / "python"), "-m", "model_server.tiny"]
    early = stream(tell, [*train, "--steps", str(EARLY_STEPS)])
    better = stream(tell, train)
    models = sandbox_state(os.environ) / "models"
    for name, checkpoint in (("early", early), ("better", better)):
        copy_checkpoint(Path(checkpoint), models / name)
    # One directory for all models, because a second mount on or below a mount can hide it.
    for target, source in (("/opt/serin/vllm", vllm), ("/opt/serin/models", models)):
        stream(tell, [sys.executable, "-m", "sandbox", "bind", str(source), target])


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint (a megabyte) if the target differs; pods may be reading it, so it is replaced as a whole."""
    if target.is_dir() and not _differ(source, target):
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _differ(source: Path, target: Path) -> bool:
    names = sorted(file.name for file in source.iterdir())
    if names != sorted(file.name for file in target.iterdir()):
        return True
    return bool(filecmp.cmpfiles(source, target, names, shallow=False)[0] != names)


def operator(tell: Teller, place: Place) -> None:
    """Install both charts, the operator in a namespace that enforces the restricted Pod Security Standard.

    Raises:
        CommandError: the operator does not become available.
    """
    image = place.operator_image or Image.parse(sandbox_operator_image(tell))
    system = Cluster(place.environment, SYSTEM_NAMESPACE)
    system.make_namespace({"pod-security.kubernetes.io/enforce": "restricted"})
    charts = ROOT / "charts"
    helm = ["helm", "upgrade", "--install", "--namespace", SYSTEM_NAMESPACE, "--labels", OURS, "--wait", "--timeout=3m"]
    tell.say("helm upgrade --install serin-crds charts/serin-crds")
    # CRDs stay when their release is uninstalled, and can have been installed with kubectl.
    system.run([*helm, "--take-ownership", DEFINITIONS_RELEASE, str(charts / "serin-crds")], timeout=200)
    for definition in DEFINITIONS:
        system.wait(f"customresourcedefinition/{definition}", "condition=Established", 60)
    tell.say("helm upgrade --install serin charts/serin")
    values = [f"--set-json={name}={json.dumps(value)}" for name, value in operator_values(image, place).items()]
    system.run([*helm, RELEASE, str(charts / "serin"), *values], timeout=200)


def operator_values(image: Image, place: Place) -> dict[str, str | int]:
    """The values of the operator's chart."""
    values: dict[str, str | int] = {
        "image.repository": image.repository,
        "image.tag": image.tag,
        "image.digest": image.digest,
        "prometheus.url": place.prometheus_url,
    }
    if place.sandbox:
        # The sandbox has no registry; the image is loaded into the node.
        values["image.pullPolicy"] = "Never"
        values["prometheus.gateway"] = place.gateway_program
        job = {"contour": "envoy"}.get(place.gateway_program, place.gateway_program)
        values["prometheus.requests.matchers"] = f'job="{job}"'
        # The sandbox's Prometheus scrapes every 5 seconds, with a timeout of 4 seconds (sandbox/node/config_files.py).
        values |= {"prometheus.scrapeInterval": 5, "prometheus.evidenceLag": 4, "prometheus.interval": 1}
    else:
        # Which target of the user's Prometheus is the gateway is not known; the pods count every request.
        values["prometheus.gateway"] = "none"
    return values


def sandbox_operator_image(tell: Teller) -> str:
    """Build the operator's image from this checkout and load it into the node; returns its tag."""
    archive = sandbox_state(os.environ) / "operator.tar"
    tag = stream(tell, [sys.executable, "-m", "sandbox.images.operator_image", str(archive)])
    stream(tell, [sys.executable, "-m", "sandbox", "load", str(archive)])
    return tag


def stream(tell: Teller, command: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Run a program of this checkout and print its output; returns the last line.

    Raises:
        CommandError: it failed.
    """
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=dict(environment)
    ) as process:
        try:
            for line in process.stdout or ():
                last = line.rstrip()
                tell.plain(f"         {last}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise CommandError(f"`{' '.join(command[1:4])}` failed; fix this error: {last}")
    return last
