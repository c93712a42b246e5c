"""Every fixed name of the API: group, labels, annotations, field manager, and names of children.

Used by all layers; imports nothing.
"""

GROUP = "serin.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
LLMDEPLOYMENTS = "llmdeployments"
PROMPTVERSIONS = "promptversions"

FIELD_MANAGER = "serin"
"""Field manager of every server-side apply."""

LABEL_DEPLOYMENT = f"{GROUP}/deployment"
"""On every child: the name of the LLMDeployment that owns it. The operator watches only objects with this label."""
LABEL_ENGINE_REVISION = f"{GROUP}/engine-revision"
LABEL_REVISION = f"{GROUP}/revision"

EVIDENCE = "serin-evidence"
"""Suffix of the ConfigMap that holds the trial state, after the LLMDeployment's name."""

ANNOTATION_COMMAND = f"{GROUP}/do"
"""On an LLMDeployment: a command, ``<verb>@<revision>#<token>``. Each token is carried out once."""

# On a ControllerRevision: the persisted state of the rollout, one annotation per fact.
ANNOTATION_PROMOTION = f"{GROUP}/promotion"
"""On a ControllerRevision: decimal counter; the revision with the highest value is the stable."""
ANNOTATION_REJECTION = f"{GROUP}/rejection"
"""On a ControllerRevision: JSON ``{"reason", "message", "at"}`` if the revision was rolled back."""
ANNOTATION_TRIAL = f"{GROUP}/trial"
"""On a ControllerRevision: JSON of the running trial (`serin.rollout.trial.Trial`) if the revision is the canary."""
ANNOTATION_HANDLED = f"{GROUP}/handled"
"""On a ControllerRevision: JSON list of the tokens of commands already handled, newest last, at most 20."""

MAX_NAME_LENGTH = 40
"""Longest name of an LLMDeployment: a child adds 11 characters, its pods 17 more (28), and a label value holds 63."""

CONTAINER = "engine"
MIDDLEWARE_ARG = "--middleware=serin_model_server.Middleware"
"""Argument of vLLM that loads Serin's middleware; its presence means that the pod counts requests."""
ENV_SPLIT = "SERIN_SPLIT"
"""Environment variable of the model server with the path of its split document."""
FULL_WEIGHT = 10_000
"""The weight of all requests: weights are shares in parts of 10,000."""

PORT_NAME = "http"
PORT = 8000


def child_name(deployment: str, revision: str) -> str:
    """Name of a child. Deployments and PodDisruptionBudgets: by engine revision; Services and records: by revision."""
    return f"{deployment}-{revision}"
