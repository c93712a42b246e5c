"""What `up` records about a full sandbox for later runs of the command.

A JSON file in the state directory. One that is missing, incomplete or of another format reads as None, and `up` then
makes a new node. Callers: `full_tier`, `keeper`. Not here: whether the recorded processes still run (`processes`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from sandbox.builds import pins
from sandbox.host import processes
from sandbox.host.processes import Identity
from sandbox.node.network import Plan


@dataclass(frozen=True, slots=True)
class Started:
    """A component that was started: its process, and the fingerprint of what it was started from."""

    identity: Identity
    fingerprint: str


@dataclass(slots=True)
class Record:
    """What is recorded of one full sandbox."""

    plan: Plan
    components: dict[str, Started] = field(default_factory=dict)
    binds: dict[str, str] = field(default_factory=dict)
    definitions: str = ""
    images: str = ""
    gateway: str = pins.CONTOUR

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        content = {
            "block": str(self.plan.block),
            "binds": self.binds,
            "definitions": self.definitions,
            "images": self.images,
            "gateway": self.gateway,
            "components": {
                name: {"identity": each.identity.as_json(), "fingerprint": each.fingerprint}
                for name, each in self.components.items()
            },
        }
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)


def load(path: Path) -> Record | None:
    """Return the record that `save` wrote, or None."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        record = Record(
            plan=Plan(IPv4Network(content["block"])),
            binds={str(target): str(source) for target, source in content["binds"].items()},
            definitions=str(content["definitions"]),
            images=str(content.get("images", "")),
            gateway=str(content.get("gateway", pins.CONTOUR)),
        )
        if record.gateway not in pins.GATEWAYS:
            return None
        for name, each in content["components"].items():
            identity = processes.from_json(each["identity"])
            if identity is not None:
                record.components[name] = Started(identity, str(each["fingerprint"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record
