"""Errors of the demo: each one sentence that ends with what to do.

DemoError
├── CommandError   a program that the demo ran has failed
└── Waited         something did not come true in time
"""

from __future__ import annotations


class DemoError(Exception):
    """Why the demo cannot go on."""


class CommandError(DemoError):
    """A program that the demo ran has failed; the message ends with its own words."""


class Waited(DemoError):  # noqa: N818 - a word of the demo, not a suffix
    """Something did not come true in time, or cannot any more."""
