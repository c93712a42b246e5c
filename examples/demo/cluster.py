"""kubectl, helm and other programs as functions, with a time limit and readable errors.

Called by all modules that use a cluster. Not here: watching (follow).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from examples.demo.errors import CommandError
from sandbox.errors import SandboxError
from sandbox.host import commands
from sandbox.host.kubectl import Kubectl

Object = dict[str, Any]

HOST_PODS = {"serin.dev/pods": "Unrestricted"}
"""Label of a namespace whose pods may mount the sandbox's vLLM by hostPath."""


@dataclass(frozen=True)
class Cluster:
    """One namespace of one cluster."""

    environment: Mapping[str, str]
    """Environment variables of the programs: KUBECONFIG, and PATH with kubectl and helm."""
    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run kubectl in the namespace and return what it printed.

        Raises:
            CommandError: it failed, or took longer than `timeout` seconds.
        """
        kubectl = Kubectl(self.environment, ["--namespace", self.namespace])
        return self.run(kubectl.command(*arguments), stdin=stdin, timeout=timeout)

    def run(self, command: Sequence[str], *, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a program and return what it printed.

        Raises:
            CommandError: it failed, or took longer than `timeout` seconds.
        """
        try:
            return commands.output(
                command,
                doing=f"`{' '.join(command[:6])}`",
                seconds=timeout,
                advice="Correct that, then run it again.",
                env=self.environment,
                stdin=None if stdin is None else stdin.encode(),
            )
        except SandboxError as error:
            raise CommandError(str(error)) from error

    def user(self) -> str:
        """The name that the API server knows this user by, with which commands are signed."""
        return self.kubectl("auth", "whoami", "--output=jsonpath={.status.userInfo.username}").strip()

    def get(self, resource: str, *arguments: str) -> Object:
        """One object, or a List object, from `kubectl get`."""
        found: Object = json.loads(self.kubectl("get", resource, *arguments, "--output=json"))
        return found

    def find(self, resource: str) -> Object | None:
        """One object, or None if it does not exist."""
        text = self.kubectl("get", resource, "--ignore-not-found", "--output=json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def items(self, resource: str, labels: str) -> list[Object]:
        """All objects with these labels."""
        found: list[Object] = self.get(resource, f"--selector={labels}")["items"]
        return found

    def apply(self, manifest: Object) -> str:
        """`kubectl apply` an object; returns kubectl's line, which ends with created, configured or unchanged."""
        return self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(manifest)).strip()

    def wait(self, what: str, condition: str, seconds: float) -> None:
        """`kubectl wait --for=<condition>`."""
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={seconds:.0f}s", timeout=seconds + 30)

    def wait_gone(self, kind: str, labels: str, seconds: float) -> None:
        """Wait until no object of a kind has these labels."""
        if self.items(kind, labels):
            command = ("wait", kind, f"--selector={labels}", "--for=delete", f"--timeout={seconds:.0f}s")
            self.kubectl(*command, timeout=seconds + 30)

    def make_namespace(self, labels: Mapping[str, str] | None = None) -> None:
        """Create the namespace with these labels, or add the labels to it."""
        metadata = {"name": self.namespace, "labels": dict(labels or {})}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(manifest))


@contextmanager
def temporary_namespace(
    environment: Mapping[str, str], name: str, labels: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """A namespace with these labels that is removed at the end with everything in it."""
    here = Cluster(environment, name)
    here.make_namespace(labels)
    try:
        yield here
    finally:
        # The model first: a namespace needs a minute to end its pods, and the operator would report them as failures.
        here.kubectl("delete", "llmdeployments", "--all", "--wait", timeout=60)
        here.kubectl("delete", "namespace", name, "--wait=false")


def load_manifests(path: Path) -> list[Object]:
    """The objects of a YAML file, in their order."""
    return list(yaml.safe_load_all(path.read_text()))


def load_manifest(path: Path) -> Object:
    """The one object of a YAML file."""
    (manifest,) = load_manifests(path)
    return manifest
