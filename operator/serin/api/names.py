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

SPLIT = "split"
"""Suffix of the ConfigMap that holds the split document of an engine revision, after the Deployment's name."""
SPLIT_KEY = "split.json"
"""Key of that ConfigMap, and name of the file in the pods."""
SPLIT_DIRECTORY = "/etc/serin/split"
"""Where the pods mount it."""
SPLIT_VARIABLE = "SERIN_SPLIT"
"""Environment variable of an engine pod: path of the split document."""
PROMPTS_VARIABLE = "SERIN_PROMPTS"
"""Environment variable of an engine pod whose middleware applies the prompts of its split document."""
ANNOTATION_SEQUENCE = f"{GROUP}/sequence"
"""On the route: number of the split that it carries; the epoch is this number modulo 32."""
ANNOTATION_SPLIT = f"{GROUP}/split"
"""On an engine pod: digest of the split document; a change makes the kubelet deliver the document at once."""

ANNOTATION_IMPORTED_FROM = f"{GROUP}/imported-from"
"""On a PromptVersion: format, name and version of the prompt that `serin prompt import` made it of."""

ANNOTATION_COMMAND = f"{GROUP}/do"
"""On an LLMDeployment: a command, ``<verb>@<revision>#<token>``. Each token is carried out once."""

ANNOTATION_SIGNATURE = f"{GROUP}/by"
"""On an LLMDeployment: the user name of the person who wrote the command; the chart's policies refuse another one."""

# On a ControllerRevision: the persisted state of the rollout, one annotation per fact.
ANNOTATION_PROMOTION = f"{GROUP}/promotion"
"""On a ControllerRevision: decimal counter; the revision with the highest value is the stable."""
ANNOTATION_REJECTION = f"{GROUP}/rejection"
"""On a ControllerRevision: JSON ``{"reason", "message", "at"}`` if the revision was rolled back."""
ANNOTATION_TRIAL = f"{GROUP}/trial"
"""On a ControllerRevision: JSON of the running trial (`serin.rollout.trial.Trial`) if the revision is the canary."""
ANNOTATION_HANDLED = f"{GROUP}/handled"
"""On a ControllerRevision: JSON list of the commands already handled (`promote#token`), newest last, at most 500."""

MAX_NAME_LENGTH = 40
"""Longest name of an LLMDeployment: a child adds 11 characters, its pods 17 more (28), and a label value holds 63."""

CONTAINER = "engine"
MIDDLEWARE_ARG = "--middleware=serin_model_server.Middleware"
"""Argument of vLLM that loads Serin's middleware; its presence means that the pod counts requests."""
FULL_WEIGHT = 10_000
"""The weight of all requests: weights are shares in parts of 10,000."""

PORT_NAME = "http"
PORT = 8000


def child_name(deployment: str, revision: str) -> str:
    """Name of a child: records by revision, Services by backend, all others by engine revision."""
    return f"{deployment}-{revision}"
