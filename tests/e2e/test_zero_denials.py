"""Whatever the other end-to-end tests made the operator do, its ServiceAccount was never refused anything.

The last file by name, hence the last to run. What was refused while the chart was uninstalled does not count: helm
takes the rights away before the pods have ended, so the last write of a leader, releasing its lease, is too late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from examples.demo.place import Place
from examples.demo.prepare import RELEASE, SYSTEM_NAMESPACE

ACCOUNT = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{RELEASE}"
DECISION = "authorization.k8s.io/decision"
BINDINGS = {("rolebindings", f"{RELEASE}-lease"), ("clusterrolebindings", f"{SYSTEM_NAMESPACE}:{RELEASE}")}


def test_the_operator_was_never_denied_anything(place: Place) -> None:
    allowed, denied = judged(events(Path(place.environment["SERIN_AUDIT_LOG"])))
    assert allowed > 0
    assert denied == []


def test_a_denial_counts_only_while_the_rights_are_bound() -> None:
    def event(verb: str, resource: str, name: str, user: str, decision: str = "allow") -> dict[str, Any]:
        reference = {"resource": resource, "name": name, "namespace": SYSTEM_NAMESPACE}
        return {
            "verb": verb,
            "objectRef": reference,
            "user": {"username": user},
            "annotations": {DECISION: decision},
            "requestURI": f"/{resource}/{name}",
        }

    refused = event("update", "leases", "serin", ACCOUNT, "forbid")
    unbound = event("delete", "rolebindings", "serin-lease", "helm")
    bound = event("create", "rolebindings", "serin-lease", "helm")
    assert judged([event("get", "leases", "serin", ACCOUNT), refused]) == (1, ["update /leases/serin"])
    assert judged([unbound, refused, bound]) == (0, [])
    assert judged([unbound, bound, refused]) == (0, ["update /leases/serin"])


def judged(log: Iterable[dict[str, Any]]) -> tuple[int, list[str]]:
    """How many requests of the operator were allowed, and which were denied."""
    allowed, denied, unbound = 0, [], set[tuple[str, str]]()
    for event in log:
        reference = event.get("objectRef") or {}
        key = (reference.get("resource", ""), reference.get("name", ""))
        if key in BINDINGS and event["verb"] == "delete":
            unbound.add(key)
        elif key in BINDINGS and event["verb"] == "create":
            unbound.discard(key)
        if event["user"]["username"] != ACCOUNT:
            continue
        if (event.get("annotations") or {}).get(DECISION) != "forbid":
            allowed += 1
        elif not unbound:
            denied.append(f"{event['verb']} {event['requestURI']}")
    return allowed, denied


def events(log: Path) -> Iterator[dict[str, Any]]:
    """Requests of the operator and changes of bindings, oldest first, from older files of the log too."""
    for file in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")):
        with file.open() as lines:
            yield from (json.loads(line) for line in lines if ACCOUNT in line or "rolebindings" in line)
