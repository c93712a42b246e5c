"""What the operator, not the user, decides about engine pods.

Filled by the composition root from the settings. A change here reaches a deployment only with its next engine
revision, because children are made from what was resolved, never rendered again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineDefaults:
    """Operator-wide defaults; durations are whole seconds."""

    image: str
    """Engine image of an LLMDeployment that names none."""
    model_server_image: str | None = None
    """Image that the measuring middleware is copied from; None: engines do not measure."""
    model_server_pull_policy: str = "IfNotPresent"
    leave_seconds: int = 5
    """How long a pod that is deleted goes on serving, so that the gateway drops its address before SIGTERM."""
    shutdown_margin: int = 30
    """What vLLM gets beyond its own drain to end its processes, before SIGKILL."""
    shared_memory_gi: int = 2
    """Limit of /dev/shm per GPU, in GiB; only what is used counts as memory."""
