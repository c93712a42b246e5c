"""Operator-wide defaults of engine pods.

`operator_process` fills them from the settings. A changed default takes effect with the next engine revision of an
LLMDeployment, because children are rendered from the recorded pod template.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineDefaults:
    """Operator-wide defaults. Durations are in whole seconds."""

    image: str
    """vLLM image of an LLMDeployment without `spec.engine.image`."""
    model_server_image: str | None = None
    """Image with Serin's middleware; None: engine pods run without it."""
    model_server_pull_policy: str = "IfNotPresent"
    leave_seconds: int = 5
    """How long a deleted pod keeps serving before SIGTERM, so that the gateway removes its address first."""
    shutdown_margin: int = 30
    """Time between the end of vLLM's drain and SIGKILL, for its processes to exit."""
    shared_memory_gi: int = 2
    """Size limit of /dev/shm per GPU, in GiB; only the used part counts as memory."""

    @property
    def serve_prompts(self) -> bool:
        """Whether new pods apply prompts."""
        return self.model_server_image is not None
