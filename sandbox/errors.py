"""Errors that a person can correct; each message says what happened, why, and what to do.

SandboxError
└── CommandError   a program that the sandbox ran has failed

`cli.main` prints the message and exits with status 1, without a traceback. Not here: programming errors, which keep
their tracebacks.
"""

from __future__ import annotations

_SHOWN = 600


class SandboxError(Exception):
    """Something about the machine or the sandbox that a person can correct; the message says how."""


class CommandError(SandboxError):
    """A program has failed; `stderr` is its whole standard error, of which the message shows the end."""

    def __init__(self, *, doing: str, stderr: str, advice: str) -> None:
        self.stderr = stderr
        shown = stderr.strip()[-_SHOWN:] or "it printed no error"
        super().__init__(f"{doing} failed ({shown}). {advice}")
