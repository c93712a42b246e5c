"""Every fixed name of the API: group, labels, annotations, field manager, and how children are named.

Read by all layers. Nothing here depends on anything, so that a name has one home.
"""

GROUP = "serin.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
LLMDEPLOYMENTS = "llmdeployments"
PROMPTVERSIONS = "promptversions"

FIELD_MANAGER = "serin"
"""The one field manager of every server-side apply."""

LABEL_DEPLOYMENT = f"{GROUP}/deployment"
"""Name of the LLMDeployment that owns the object; its presence is what the operator's watches select."""
LABEL_ENGINE_REVISION = f"{GROUP}/engine-revision"
LABEL_REVISION = f"{GROUP}/revision"

EVIDENCE = "serin-evidence"
"""What the ConfigMap with the state of the evidence is called, after the LLMDeployment's name."""

ANNOTATION_COMMAND = f"{GROUP}/do"
"""On an LLMDeployment: ``<verb>@<revision>#<token>``, a command from a person."""

# On a ControllerRevision: the memory of the rollout, one annotation per fact.
ANNOTATION_PROMOTION = f"{GROUP}/promotion"
"""Decimal counter; the record with the highest one is the stable."""
ANNOTATION_REJECTION = f"{GROUP}/rejection"
"""JSON ``{"reason", "message", "at"}``; absent unless the revision was rolled back."""
ANNOTATION_TRIAL = f"{GROUP}/trial"
"""JSON of the running trial (`serin.rollout.trial.Trial`); absent unless the revision is the canary."""
ANNOTATION_HANDLED = f"{GROUP}/handled"
"""JSON list of the tokens of commands already carried out on this revision, newest last, bounded."""

MAX_NAME_LENGTH = 40
"""Longest name of an LLMDeployment: a child adds ``-`` and a hash of 10, a pod 17 more; a label value takes 63."""

CONTAINER = "engine"
MIDDLEWARE_ARG = "--middleware=serin_model_server.Middleware"
"""Argument of the engine in whose pods the model server counts requests."""
PORT_NAME = "http"
PORT = 8000


def child_name(deployment: str, revision: str) -> str:
    """Name of a child: Deployments and PodDisruptionBudgets by engine revision, Services and records by revision."""
    return f"{deployment}-{revision}"
