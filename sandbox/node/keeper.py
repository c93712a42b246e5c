"""Starts components that do not run, replaces those that changed, and restarts those that hang.

A keeper serves one `up`; it records each start at once, so that an interrupted `up` loses no process.
Callers: `full_tier`. Not here: which components there are (`components`), and the order of starting (`full_tier`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import machine, processes
from sandbox.host.layout import Layout
from sandbox.host.log_tail import last_line
from sandbox.node import namespaces
from sandbox.node.namespaces import Init
from sandbox.node.record import Record, Started
from sandbox.node.site import Component

_STARTED_SECONDS = 90.0
# For a component that ran before: longer than this means that it hangs.
_RUNNING_SECONDS = 10.0


@dataclass
class Keeper:
    """The components of one running node, and those that this run has started."""

    layout: Layout
    init: Init
    memory: Record
    file: Path
    components: Mapping[str, Component]
    started: set[str] = field(default_factory=set)

    def start(self, *names: str) -> None:
        """Start those of `names` that do not run, or run from an older command line or configuration."""
        for name in names:
            known = self.memory.components.get(name)
            if known is not None and processes.alive(known.identity):
                if known.fingerprint == self.components[name].fingerprint:
                    continue
                processes.end([known.identity])
            self._launch(name)

    def wait(self, *names: str) -> None:
        """Wait until each is ready; one that ran before and does not answer is restarted once.

        Raises:
            SandboxError: a component that this run started is not ready in time.
        """
        for name in names:
            if self._ready_in_time(name):
                continue
            if name in self.started:
                log = self.log(name)
                raise SandboxError(
                    f"{name} is not ready after {_STARTED_SECONDS:.0f} s ({last_line(log)}). "
                    f"Read {log}, then run the same command again."
                )
            if self.alive(name):
                processes.end([self.memory.components[name].identity])
            self._launch(name)
            self.wait(name)

    def alive(self, name: str) -> bool:
        """Whether the component that was started under this name still runs."""
        known = self.memory.components.get(name)
        return known is not None and processes.alive(known.identity)

    def log(self, name: str) -> Path:
        """Return the log file of a component."""
        return self.layout.logs / f"{name}.log"

    def _ready_in_time(self, name: str) -> bool:
        seconds = _STARTED_SECONDS if name in self.started else _RUNNING_SECONDS
        settled = processes.happens(lambda: not self.alive(name) or self.components[name].ready(), seconds=seconds)
        return settled and self.alive(name)

    def _launch(self, name: str) -> None:
        component = self.components[name]
        for path, content in component.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        variables = {
            "PATH": f"{self.layout.node_bin}:{machine.search_path()}",
            "HOME": "/run/serin",
            "TMPDIR": "/run/serin",
            **component.environment,
        }
        identity = namespaces.spawn(self.init, component.command, log=self.log(name), environment=variables)
        self.memory.components[name] = Started(identity, component.fingerprint)
        self.memory.save(self.file)
        self.started.add(name)


def states(components: Mapping[str, Component], memory: Record) -> list[tuple[str, str]]:
    """Return each component with `ready`, `not ready` or `ended`."""
    rows = []
    for name, component in components.items():
        known = memory.components.get(name)
        alive = known is not None and processes.alive(known.identity)
        rows.append((name, "ended" if not alive else "ready" if component.ready() else "not ready"))
    return rows
