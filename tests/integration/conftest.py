"""A real kube-apiserver with etcd for every test that asks for one, started once per test process.

`api_server` is its handle, with Serin's CRDs and its chart in place, so the admission policies are in force; `kubectl`
runs commands against it; `api` speaks HTTP to it,
which is fast enough for hundreds of manifests. Nothing here runs controllers: no pod ever starts in this tier.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from sandbox.builds.cache import Cache, provide
from sandbox.control_plane import api_tier, credentials
from sandbox.errors import CommandError
from sandbox.host import kubectl as kubectl_of_sandbox
from sandbox.host.layout import from_environment
from tests.integration.installed import RELEASE, SYSTEM_NAMESPACE, install, kubeconfig_of

ROOT = Path(__file__).parents[2]
IDLE_SECONDS = 30.0
ESTABLISHED = "condition=Established"


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one API server, with manifests as objects and expected failures."""

    run: kubectl_of_sandbox.Kubectl

    @classmethod
    def of(cls, tier: api_tier.Handle) -> Kubectl:
        """Return the sandbox's kubectl for this API server."""
        # Its discovery cache is keyed by address; a later API server may have the same port.
        environment = {**os.environ, "KUBECACHEDIR": str(tier.directory / "kubectl")}
        binary = Cache(from_environment()).path("kubectl")
        return cls(kubectl_of_sandbox.Kubectl(environment, [f"--kubeconfig={tier.kubeconfig}"], binary))

    def __call__(
        self,
        *arguments: str,
        manifest: object = None,
        text: str | None = None,
        fails: bool = False,
        may_fail: bool = False,
    ) -> str:
        """Return its standard output, or its standard error when it is expected to fail, or fails where it may."""
        stdin = text if manifest is None else json.dumps(manifest)
        if may_fail:
            try:
                return self.run(*arguments, stdin=stdin)
            except CommandError as error:
                return error.stderr
        if fails:
            with pytest.raises(CommandError) as failure:
                self.run(*arguments, stdin=stdin)
            return failure.value.stderr
        return self.run(*arguments, stdin=stdin)


@dataclass(frozen=True)
class Answer:
    """A response of the API server."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and message of each error."""
        causes = self.body.get("details", {}).get("causes", [])
        return [(cause.get("field", ""), cause["message"]) for cause in causes]


@dataclass
class Api:
    """HTTP requests to one API server, as its administrator or as another user."""

    connection: HTTPSConnection
    used: float = 0.0

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        user: str | None = None,
        **query: str,
    ) -> Answer:
        target = f"{path}?{urlencode(query)}" if query else path
        payload = None if body is None else json.dumps(body)
        # The API server closes a connection after 90 s without a request: open a new one well before.
        if time.monotonic() - self.used > IDLE_SECONDS:
            self.connection.close()
        headers = {"Content-Type": content_type} | ({"Impersonate-User": user} if user else {})
        self.connection.request(method, target, payload, headers)
        response = self.connection.getresponse()
        content = json.loads(response.read())
        self.used = time.monotonic()
        return Answer(response.status, content, tuple(response.headers.get_all("Warning") or ()))


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_tier.Handle]:
    with api_tier.start(tmp_path_factory.mktemp("cluster") / "api") as handle:
        kubectl = Kubectl.of(handle)
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl("wait", "--for", ESTABLISHED, "--timeout=30s", "-f", str(ROOT / "crds"))
        install(kubectl)
        yield handle


@pytest.fixture(scope="session")
def operator_kubeconfig(api_server: api_tier.Handle, kubectl: Kubectl) -> Path:
    """A kubeconfig of the operator's own account, with the rights that the chart gives it."""
    return kubeconfig_of(api_server, kubectl, RELEASE, SYSTEM_NAMESPACE)


@pytest.fixture(scope="session")
def kubectl(api_server: api_tier.Handle) -> Kubectl:
    return Kubectl.of(api_server)


@pytest.fixture(scope="session")
def routes(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl against an API server that has the Gateway API."""
    cache = Cache(from_environment())
    # Contour's build contains the definitions of the Gateway API, and the sandbox needs that build anyway.
    provide(cache, ["contour"], tmp_path_factory.mktemp("contour"), None)
    for definitions in cache.definitions():
        kubectl("apply", "--server-side", "--filename", str(definitions))
    kubectl("wait", "--for=condition=Established", "crd/httproutes.gateway.networking.k8s.io", "--timeout=30s")
    return kubectl


@pytest.fixture(scope="session")
def api(api_server: api_tier.Handle) -> Iterator[Api]:
    address = urlsplit(api_server.url)
    context = credentials.client_context(api_server.directory / "certificates")
    connection = HTTPSConnection(str(address.hostname), address.port, context=context, timeout=30)
    yield Api(connection)
    connection.close()
