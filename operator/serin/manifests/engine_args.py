"""The command line of `vllm serve`, as the container's `args`.

The image's entrypoint is `vllm serve`, so vLLM is PID 1 and gets SIGTERM itself: no shell stands between. Every option
is one word, `--flag=value`, because a value may begin with a dash. That the user names no flag of Serin's is a rule of
the API. Facts about flags are from vLLM 0.32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serin.api.engine import GPU
from serin.api.names import PORT
from serin.errors import SpecError

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec, Resources
    from serin.manifests.model_source import ModelSource

_TENSOR = "tensor-parallel-size"
_ALSO_PARALLEL = ("pipeline-parallel-size", "data-parallel-size")


def engine_args(spec: LLMDeploymentSpec, source: ModelSource) -> list[str]:
    """Arguments in a fixed order: the model, what Serin owns, what the user asks for by name.

    Raises:
        SpecError: a flag is given twice, or the GPUs cannot be shared out.
    """
    flags = _user_flags(spec)
    owned = {"served-model-name": spec.model.name, "port": str(PORT)}
    if source.commit:
        owned["revision"] = source.commit
    # Its default of 0 aborts what is in flight, and an aborted answer is an HTTP 200.
    owned["shutdown-timeout"] = str(drain_seconds(spec))
    if _TENSOR not in flags:
        owned |= _tensor_parallel(flags, gpu_count(spec.engine.resources))
    return [
        source.argument,
        *(f"--{name}={value}" for name, value in owned.items()),
        *(_render(name, flags[name]) for name in sorted(flags)),
    ]


def drain_seconds(spec: LLMDeploymentSpec) -> int:
    """How long vLLM may go on answering after SIGTERM."""
    return int(spec.rollout.drain_timeout.total_seconds())


def gpu_count(resources: Resources | None) -> int:
    """How many GPUs the engine container gets: one unless the user says otherwise."""
    if resources is None:
        return 1
    return int(resources.limits.get(GPU, resources.requests.get(GPU, 0)))


def _user_flags(spec: LLMDeploymentSpec) -> dict[str, str]:
    """Flags with dashes, as vLLM reads them: it takes underscores for dashes up to the first dot."""
    flags: dict[str, str] = {}
    for written, value in spec.engine.args.items():
        head, dot, path = written.partition(".")
        name = head.replace("_", "-") + dot + path
        if name in flags:
            raise SpecError(f"spec.engine.args sets {name} twice, with dashes and with underscores; remove one.")
        flags[name] = value
    return flags


def _tensor_parallel(flags: dict[str, str], gpus: int) -> dict[str, str]:
    """Every GPU is used; what the user already splits by other means is taken into account."""
    split = 1
    for name in _ALSO_PARALLEL:
        value = flags.get(name, "1")
        if not value.isdecimal() or int(value) == 0:
            raise SpecError(f"spec.engine.args sets {name} to {value!r}; write a whole number above zero.")
        split *= int(value)
    if gpus <= 1:
        return {}
    if gpus % split:
        raise SpecError(
            f"{gpus} GPUs cannot be shared out evenly over {split} groups; set {_TENSOR} in spec.engine.args, "
            f"or another number of {GPU}."
        )
    return {_TENSOR: str(gpus // split)}


def _render(name: str, value: str) -> str:
    """One option.

    `true` is a bare flag and `false` its negation, since vLLM's switches take no value. A dotted name sets a field
    inside a JSON option and always takes one.
    """
    if "." in name or value not in {"true", "false"}:
        return f"--{name}={value}"
    return f"--{name}" if value == "true" else f"--no-{name}"
