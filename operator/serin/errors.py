"""The errors that Serin raises itself.

SerinError
├── SpecError        the user's manifest cannot be carried out; becomes a condition, never a traceback
├── RecordError      a ControllerRevision of ours cannot be read
├── SettingsError    the operator's own settings are wrong; the process ends with the sentence
├── ClusterError     the API server refused or could not be reached; worth another try
│   ├── NotFound     there is no such object, or no such kind
│   ├── Conflict     the object is not what it was when it was read; look again
│   ├── Forbidden    the operator's ServiceAccount may not do that, or a quota or policy forbids it
│   └── Invalid      the API server refuses the object as it is; carries the server's own message
└── MetricsError     the metric source refused or could not be reached

Every message is one sentence that ends with what to do. They are caught in the reconciler and nowhere else, but for
SettingsError, which ends the process.
"""


class SerinError(Exception):
    """Root of the tree."""


class SpecError(SerinError):
    """The user's manifest cannot be carried out as written."""


class RecordError(SerinError):
    """A ControllerRevision carries data that this version cannot read."""


class SettingsError(SerinError):
    """The operator was started with settings that make no sense."""


class ClusterError(SerinError):
    """A call to the API server failed."""


class NotFound(ClusterError):  # noqa: N818 - the API server's own word
    """There is no such object, or the cluster does not have its kind."""


class Conflict(ClusterError):  # noqa: N818 - the API server's own word
    """A conditional write met an object that has changed, or is gone."""


class Forbidden(ClusterError):  # noqa: N818 - the API server's own word
    """The API server understood and said no."""


class Invalid(ClusterError):  # noqa: N818 - the API server's own word
    """The API server refuses the object; `detail` is its message, fit for a condition."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class MetricsError(SerinError):
    """The metric source did not answer, or not with what was asked."""
