"""Before a cluster of the user's own is touched: which one it is, what it lacks, and whose Serin it runs.

Called by `__main__` in the place of making a sandbox. Everything here only reads. Not here: installing (prepare).
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
from sandbox.builds import Cache
from sandbox.layout import from_environment

TOOLS = ("kubectl", "helm")
OUR_CHARTS = re.compile(rf"({RELEASE}|{DEFINITIONS_RELEASE})-\d")
"""Name and version of a chart, as `helm list` shows them; the release may have any name."""


def ready(tell: Teller, place: Place) -> Place:
    """Check the cluster and say which one it is; returns the place with kubectl and helm on its PATH.

    Raises:
        DemoError: it lacks something, or runs a Serin that the demo did not install.
    """
    place = with_tools(tell, place)
    tell.say(f"using the cluster of your KUBECONFIG: {context(place)}")
    check_gateway(place)
    check_releases(place)
    return place


def with_tools(tell: Teller, place: Place) -> Place:
    """The place with the sandbox's own kubectl and helm, built if need be, where the PATH lacks them."""
    path = place.environment.get("PATH", os.defpath)
    missing = [name for name in TOOLS if shutil.which(name, path=path) is None]
    if not missing:
        return place
    tell.say(f"{' and '.join(missing)} not found on the PATH; using the sandbox's own, which are built once")
    stream(tell, [sys.executable, ".ci/provide.py", *missing], {**os.environ, "PYTHONPATH": str(ROOT)})
    cache = Cache(from_environment())
    # Behind the user's own: only what is missing comes from here.
    folders = [path, *(str(cache.path(name).parent) for name in missing)]
    return replace(place, environment={**place.environment, "PATH": os.pathsep.join(folders)})


def context(place: Place) -> str:
    """The context that kubectl and helm will use, and its API server."""
    cluster = Cluster(place.environment, SYSTEM_NAMESPACE)
    try:
        name = cluster.run(["kubectl", "config", "current-context"]).strip()
        server = cluster.run(
            ["kubectl", "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]
        )
    except CommandError as error:
        raise DemoError(
            f"KUBECONFIG names no cluster ({error}); choose one with `kubectl config use-context`."
        ) from error
    return f"context {name}, {server}"


def check_gateway(place: Place) -> None:
    """Refuse a cluster without the Gateway API or the Gateway.

    Raises:
        DemoError: the API server does not answer, or there is no Gateway API, or not the Gateway.
    """
    namespace, name = place.gateway
    gateways = Cluster(place.environment, namespace)
    try:
        known = gateways.kubectl("api-resources", "--api-group=gateway.networking.k8s.io", "--output=name")
    except CommandError as error:
        raise DemoError(f"The cluster does not answer ({error}); check KUBECONFIG.") from error
    if "httproutes." not in known:
        raise DemoError("The cluster has no Gateway API; install it with a gateway that implements it.")
    if gateways.find(f"gateways.gateway.networking.k8s.io/{name}") is None:
        raise DemoError(f"There is no Gateway {namespace}/{name}; create it, or correct DEMO_GATEWAY.")


def check_releases(place: Place) -> None:
    """Refuse a cluster with a Serin of somebody else: two operators would fight, and an upgrade would replace theirs.

    Raises:
        DemoError: there is a release of one of our charts that the demo did not make.
    """
    foreign = releases(place, OURS.replace("=", "!="))
    if foreign:
        raise DemoError(
            f"The cluster has a Serin that the demo did not install (helm release {', '.join(foreign)}); "
            "uninstall it, or name another cluster by KUBECONFIG."
        )


def releases(place: Place, selector: str) -> list[str]:
    """Helm releases of our charts with these labels, whatever their state and namespace, as namespace/name."""
    listing = ["helm", "list", "--all-namespaces", "--all", "--max=0", "--output=json", f"--selector={selector}"]
    listed = Cluster(place.environment, SYSTEM_NAMESPACE).run(listing)
    return [f"{each['namespace']}/{each['name']}" for each in json.loads(listed) if OUR_CHARTS.match(each["chart"])]
