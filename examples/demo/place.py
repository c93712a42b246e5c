"""The cluster that the demo runs on: the sandbox of this checkout, or the one of KUBECONFIG. Read from the environment.

Called by `__main__` and the end-to-end tests. Not here: creating anything (prepare).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo.errors import DemoError

ROOT = Path(__file__).resolve().parents[2]
TAG = r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
DIGEST = r"(sha256:[0-9a-f]{64})?"
SANDBOX_GATEWAY = ("gateway", "llm")
NEEDED = {
    "PROMETHEUS_URL": "URL for pods of the Prometheus that scrapes gateway and pods",
    "GATEWAY_URL": "URL of the gateway for this machine",
    "DEMO_GATEWAY": "namespace/name of the Gateway",
    "DEMO_OPERATOR_IMAGE": "the operator's image, repository:tag or repository@digest",
    "DEMO_MODEL": "source of the first model, such as hf://org/model@commit",
    "DEMO_BETTER_MODEL": "source of the second model",
}
"""Variables that a user's cluster needs, with their meaning. DEMO_IMAGE, an engine image, is optional."""


@dataclass(frozen=True)
class Image:
    """An image reference, split as the operator's chart needs it; a digest takes precedence over a tag."""

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, reference: str) -> Image:
        """Parse `repository:tag`, `repository@sha256:…` or both; the repository can contain a registry with a port.

        Raises:
            DemoError: the reference is invalid or has neither tag nor digest.
        """
        rest, _, digest = reference.partition("@")
        # A colon before the last slash belongs to the registry's port.
        folder, slash, last = rest.rpartition("/")
        name, _, tag = last.partition(":")
        known = cls(f"{folder}{slash}{name}", tag, digest)
        if not name or not re.fullmatch(TAG, tag) or not re.fullmatch(DIGEST, digest) or not (tag or digest):
            raise DemoError(f"{reference!r} is not a valid image; write it as repository:tag or repository@sha256:….")
        return known


@dataclass(frozen=True)
class Place:
    """Everything that differs between the sandbox and another cluster."""

    environment: Mapping[str, str]
    gateway_url: str
    prometheus_url: str
    gateway: tuple[str, str] = SANDBOX_GATEWAY
    """Namespace and name of the Gateway."""
    sandbox: bool = True
    gateway_program: str = "contour"
    """The sandbox's gateway, as a value of the chart's `prometheus.gateway`."""
    operator_image: Image | None = None
    """None: built from this checkout."""
    engine_image: str | None = None
    """Replaces the examples' engine image on a user's cluster; None: the operator's default."""
    models: Mapping[str, str] = field(default_factory=dict)
    """By model source in the examples, the source that replaces it."""


def users_cluster(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The cluster of KUBECONFIG; None if the demo should use the sandbox.

    Raises:
        DemoError: a variable is missing or invalid.
    """
    kubeconfig = environment.get("KUBECONFIG")
    if not kubeconfig or Path(kubeconfig) == sandbox_state(environment) / "kubeconfig":
        return None
    missing = [f"{name} ({what})" for name, what in NEEDED.items() if not environment.get(name)]
    if missing:
        raise DemoError(
            f"KUBECONFIG is set, but variables for that cluster are missing: set {', '.join(missing)}, "
            "or unset KUBECONFIG to use the sandbox."
        )
    namespace, slash, name = environment["DEMO_GATEWAY"].partition("/")
    if not slash or not namespace or not name:
        raise DemoError(f"DEMO_GATEWAY is {environment['DEMO_GATEWAY']!r}; write it as namespace/name.")
    return Place(
        environment=environment,
        gateway_url=environment["GATEWAY_URL"].rstrip("/"),
        prometheus_url=environment["PROMETHEUS_URL"].rstrip("/"),
        gateway=(namespace, name),
        sandbox=False,
        operator_image=Image.parse(environment["DEMO_OPERATOR_IMAGE"]),
        engine_image=environment.get("DEMO_IMAGE") or None,
        models={
            "file:///opt/serin/models/early": environment["DEMO_MODEL"],
            "file:///opt/serin/models/better": environment["DEMO_BETTER_MODEL"],
        },
    )


def sandbox_place(environment: Mapping[str, str] = os.environ) -> Place:
    """The running sandbox, from the file that `python -m sandbox up` writes.

    Raises:
        DemoError: the file does not exist or describes the API tier only.
    """
    path = sandbox_state(environment) / "env"
    if not path.exists():
        raise DemoError("The sandbox is not running; start it with `make sandbox`.")
    known = {**environment, **read_exports(path.read_text(), environment.get("PATH", ""))}
    if "GATEWAY_URL" not in known:
        raise DemoError("Only the API tier of the sandbox is running; start all of it with `make sandbox`.")
    return Place(
        known, known["GATEWAY_URL"], known["PROMETHEUS_URL"], gateway_program=known.get("GATEWAY") or "contour"
    )


def sandbox_state(environment: Mapping[str, str]) -> Path:
    """The state directory of this checkout's sandbox."""
    return Path(environment.get("SERIN_SANDBOX_DIR") or ROOT / ".sandbox").absolute()


def read_exports(text: str, path: str) -> dict[str, str]:
    """The variables of a file of shell `export` lines; `$PATH` in them is `path`."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) == 2 and words[0] == "export":
            name, _, value = words[1].partition("=")
            variables[name] = value.replace("$PATH", path)
    return variables
