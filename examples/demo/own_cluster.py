"""Checks a user's cluster before the demo changes anything there: context, Gateway API, and other Serin releases.

Called by `__main__` instead of starting a sandbox. Everything here only reads. Not here: installing (prepare).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import replace

from examples.demo.cluster import Cluster
from examples.demo.errors import CommandError, DemoError
from examples.demo.place import ROOT, Place
from examples.demo.prepare import DEFINITIONS_RELEASE, OURS, RELEASE, SYSTEM_NAMESPACE, stream
from examples.demo.say import Teller
from sandbox.builds.cache import Cache
from sandbox.host.layout import from_environment

TOOLS = ("kubectl", "helm")
OUR_CHARTS = re.compile(rf"({RELEASE}|{DEFINITIONS_RELEASE})-\d")
"""Name and version of Serin's charts, as in `helm list`; the release can have any name."""


def ready(tell: Teller, place: Place) -> Place:
    """Check the cluster and print its context; returns the place with kubectl and helm on its PATH.

    Raises:
        DemoError: the cluster lacks something, or has a Serin that the demo did not install.
    """
    place = with_tools(tell, place)
    tell.say(f"using the cluster of KUBECONFIG: {context(place)}")
    check_gateway(place)
    check_releases(place)
    return place


def with_tools(tell: Teller, place: Place) -> Place:
    """The place with kubectl and helm on its PATH; missing ones come from the sandbox, which builds them if needed."""
    path = place.environment.get("PATH", os.defpath)
    missing = [name for name in TOOLS if shutil.which(name, path=path) is None]
    if not missing:
        return place
    tell.say(f"not on the PATH: {', '.join(missing)}; building the sandbox's versions, or using those built before")
    stream(tell, [sys.executable, ".ci/provide.py", *missing], {**os.environ, "PYTHONPATH": str(ROOT)})
    cache = Cache(from_environment())
    # Appended, so that programs on the user's PATH come first.
    folders = [path, *(str(cache.path(name).parent) for name in missing)]
    return replace(place, environment={**place.environment, "PATH": os.pathsep.join(folders)})


def context(place: Place) -> str:
    """The context that kubectl and helm use, and its API server, as text.

    Raises:
        DemoError: KUBECONFIG has no current context.
    """
    cluster = Cluster(place.environment, SYSTEM_NAMESPACE)
    try:
        name = cluster.run(["kubectl", "config", "current-context"]).strip()
        server = cluster.run(
            ["kubectl", "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]
        )
    except CommandError as error:
        raise DemoError(
            f"KUBECONFIG has no current context ({error}); choose one with `kubectl config use-context`."
        ) from error
    return f"context {name}, {server}"


def check_gateway(place: Place) -> None:
    """Check that the cluster has the Gateway API and the Gateway.

    Raises:
        DemoError: the API server does not answer, or the Gateway API or the Gateway is missing.
    """
    namespace, name = place.gateway
    gateways = Cluster(place.environment, namespace)
    try:
        known = gateways.kubectl("api-resources", "--api-group=gateway.networking.k8s.io", "--output=name")
    except CommandError as error:
        raise DemoError(f"The cluster does not respond ({error}); check KUBECONFIG.") from error
    if "httproutes." not in known:
        raise DemoError("The cluster does not have the Gateway API; install its CRDs and a gateway that implements it.")
    if gateways.find(f"gateways.gateway.networking.k8s.io/{name}") is None:
        raise DemoError(f"The Gateway {namespace}/{name} does not exist; create it or correct DEMO_GATEWAY.")


def check_releases(place: Place) -> None:
    """Check that no other Serin is installed: two operators would conflict, and the demo would upgrade the other one.

    Raises:
        DemoError: there is a release of one of Serin's charts that the demo did not install.
    """
    foreign = releases(place, OURS.replace("=", "!="))
    if foreign:
        raise DemoError(
            f"The cluster has a Serin that the demo did not install (helm release {', '.join(foreign)}); "
            "uninstall it, or set KUBECONFIG to another cluster."
        )


def releases(place: Place, selector: str) -> list[str]:
    """Helm releases of Serin's charts with these labels, in any state and namespace, as namespace/name."""
    listing = ["helm", "list", "--all-namespaces", "--all", "--max=0", "--output=json", f"--selector={selector}"]
    listed = Cluster(place.environment, SYSTEM_NAMESPACE).run(listing)
    return [f"{each['namespace']}/{each['name']}" for each in json.loads(listed) if OUR_CHARTS.match(each["chart"])]
