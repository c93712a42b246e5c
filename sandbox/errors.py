"""The one error that a user of the sandbox sees: a sentence that ends with what to do.

Raised everywhere in the package; `__main__` prints the sentence and exits with status 1, without a traceback.
Deliberately not here: wrapping of programming errors, which keep their tracebacks.
"""

from __future__ import annotations


class SandboxError(Exception):
    """Something about the machine or the sandbox that a person can put right; the message says how."""
