"""In all of the other end-to-end tests no request of the operator's ServiceAccount was denied, by RBAC or by a policy.

The last file by name, hence the last to run. Denials before this run, perhaps caused by a person, are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from examples.demo.place import Place
from examples.demo.prepare import RELEASE, SYSTEM_NAMESPACE

ACCOUNT = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{RELEASE}"
DECISION = "authorization.k8s.io/decision"
POLICY = "ValidatingAdmissionPolicy"


def test_no_request_of_the_operator_was_denied(place: Place, began: datetime) -> None:
    allowed, denied = judged(events(Path(place.environment["SERIN_AUDIT_LOG"])), since=began)
    assert allowed > 0
    assert denied == []


def test_denial_of_this_run_is_found_and_named() -> None:
    began = datetime(2026, 1, 2, tzinfo=UTC)

    def event(verb: str, decision: str, after: timedelta, user: str = ACCOUNT, message: str = "") -> dict[str, Any]:
        return {
            "responseStatus": {"message": message},
            "verb": verb,
            "user": {"username": user},
            "annotations": {DECISION: decision},
            "requestURI": "/leases/serin",
            "requestReceivedTimestamp": (began + after).isoformat().replace("+00:00", "Z"),
        }

    later = timedelta(seconds=1.5)
    log = [
        event("get", "allow", later),
        event("update", "forbid", later),
        event("list", "forbid", later, "other"),
    ]
    assert judged(log, since=began) == (1, ["update /leases/serin"])
    refused = event("patch", "allow", later, message=f"it is forbidden: {POLICY} 'serin-operator' denied request")
    assert judged([refused], since=began) == (0, ["patch /leases/serin"])
    assert judged([event("get", "allow", -later), event("update", "forbid", -later)], since=began) == (1, [])


def judged(log: Iterable[dict[str, Any]], *, since: datetime) -> tuple[int, list[str]]:
    """Return how many requests of the operator were ever allowed, and which were denied since then."""
    allowed, denied = 0, []
    for event in log:
        if event["user"]["username"] != ACCOUNT:
            continue
        by_policy = POLICY in str((event.get("responseStatus") or {}).get("message"))
        if (event.get("annotations") or {}).get(DECISION) != "forbid" and not by_policy:
            allowed += 1
        elif datetime.fromisoformat(event["requestReceivedTimestamp"]) >= since:
            denied.append(f"{event['verb']} {event['requestURI']}")
    return allowed, denied


def events(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the requests of the operator, oldest first, also from rotated files of the log."""
    for file in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")):
        with file.open() as lines:
            yield from (json.loads(line) for line in lines if ACCOUNT in line)
