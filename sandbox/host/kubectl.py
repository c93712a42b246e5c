"""kubectl as a function: one call, bounded in time, whose failure is one error.

Callers: the sandbox, the demo, the tests and the benchmarks. Not here: watches, which go on running
(`examples.demo.follow` starts the command that `Kubectl.command` returns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.host import commands

ADVICE = "Correct what it says, then run the same command again."


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl against one cluster."""

    environment: Mapping[str, str]
    """All of its environment: at least a PATH, unless `binary` is a path, and KUBECONFIG, unless it is an option."""
    options: Sequence[str] = ()
    """Before every command, such as `--namespace=default`."""
    binary: str | Path = "kubectl"

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        return [str(self.binary), *self.options, *arguments]

    def __call__(
        self, *arguments: str, stdin: str | None = None, seconds: float = commands.QUICK_SECONDS, advice: str = ADVICE
    ) -> str:
        """Run it and return its standard output.

        Raises:
            CommandError: it failed.
            SandboxError: it is not on the PATH, or took longer than `seconds`.
        """
        return commands.output(
            self.command(*arguments),
            doing=f"`kubectl {' '.join(arguments[:4])}`",
            seconds=seconds,
            advice=advice,
            env=self.environment,
            stdin=None if stdin is None else stdin.encode(),
        )
