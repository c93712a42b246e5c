"""The errors that Serin raises itself.

SerinError
├── SpecError        the user's manifest cannot be carried out; becomes a condition, never a traceback
├── RecordError      a ControllerRevision of ours cannot be read
├── ClusterError     the API server refused or could not be reached
└── MetricsError     the metric source refused or could not be reached

Every message is one sentence that ends with what to do. They are caught in the reconciler and nowhere else.
"""


class SerinError(Exception):
    """Root of the tree."""


class SpecError(SerinError):
    """The user's manifest cannot be carried out as written."""


class RecordError(SerinError):
    """A ControllerRevision carries data that this version cannot read."""


class ClusterError(SerinError):
    """A call to the API server failed."""


class MetricsError(SerinError):
    """The metric source did not answer, or not with what was asked."""
