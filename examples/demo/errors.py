"""Errors of the demo. Each message says what happened and what to do.

DemoError
├── CommandError      a program that the demo ran failed
└── WaitFailedError   a state did not occur in time, or cannot occur any more
"""

from __future__ import annotations


class DemoError(Exception):
    """The demo must stop."""


class CommandError(DemoError):
    """A program that the demo ran failed; the message contains the program's error output."""


class WaitFailedError(DemoError):
    """A state did not occur in time, or cannot occur any more."""
