"""The errors that Serin raises itself.

SerinError
├── SpecError        a user's manifest is invalid; becomes a condition
├── RecordError      a ControllerRevision of Serin cannot be read
├── SettingsError    the operator's settings are invalid; ends the process
├── ClusterError     a request to the API server failed; the reconcile is retried
│   ├── NotFound     the object or its kind does not exist
│   ├── Conflict     the object has changed since it was read
│   ├── Forbidden    RBAC, a quota or a policy forbids the request
│   └── Invalid      the API server rejected the object; carries the server's message
├── MetricsError     the metric source refused the query or could not be reached
└── InputError       a command names what does not exist, or a file or an answer that it cannot use

Every message is one sentence with what to do. The reconciler catches these errors, except SettingsError, which ends the
process.
"""

from __future__ import annotations

from datetime import timedelta


class SerinError(Exception):
    """Base class of all errors that Serin raises."""


class SpecError(SerinError):
    """A user's manifest is invalid."""


class RecordError(SerinError):
    """A ControllerRevision has data that this version cannot read."""


class SettingsError(SerinError):
    """A setting of the operator is invalid."""


class ClusterError(SerinError):
    """A request to the API server failed."""

    due_in: timedelta | None = None
    """Time until the clock changes the decision of the reconcile that ends with this error; None: never."""


class NotFound(ClusterError):  # noqa: N818 - the API server's own word
    """The object does not exist, or the cluster does not have its kind."""


class Conflict(ClusterError):  # noqa: N818 - the API server's own word
    """The object of a conditional write has changed or was deleted."""


class Forbidden(ClusterError):  # noqa: N818 - the API server's own word
    """RBAC, a quota or a policy forbids the request."""


class Invalid(ClusterError):  # noqa: N818 - the API server's own word
    """The API server rejected the object; `detail` is its message, for a condition."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class MetricsError(SerinError):
    """The metric source did not answer, or its answer is invalid."""


class InputError(SerinError):
    """A person's command names something that does not exist, or a file or an answer that it cannot use."""
