"""Renders the command line of `vllm serve`, as the container's `args`.

The image's entrypoint is `vllm serve`, so vLLM is PID 1 and receives SIGTERM directly. Every option is one word,
`--flag=value`, because a value may begin with a dash. A rule of the API rejects flags that Serin sets itself. Facts
about flags are from vLLM 0.32.
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
    """The arguments in a fixed order: the model, the flags of Serin, the user's flags by name.

    Raises:
        SpecError: a flag is given twice, or the GPUs cannot be divided evenly.
    """
    flags = _user_flags(spec)
    owned = {"served-model-name": spec.model.name, "port": str(PORT)}
    if source.commit:
        owned["revision"] = source.commit
    # The default of 0 aborts requests in flight, and an aborted answer has the status 200.
    owned["shutdown-timeout"] = str(drain_seconds(spec))
    if _TENSOR not in flags:
        owned |= _tensor_parallel(flags, gpu_count(spec.engine.resources))
    return [
        source.argument,
        *(f"--{name}={value}" for name, value in owned.items()),
        *(_render(name, flags[name]) for name in sorted(flags)),
    ]


def drain_seconds(spec: LLMDeploymentSpec) -> int:
    """Time that vLLM has after SIGTERM to finish answers, in seconds."""
    return int(spec.rollout.drain_timeout.total_seconds())


def gpu_count(resources: Resources | None) -> int:
    """Number of GPUs of the engine container. Default: 1."""
    if resources is None:
        return 1
    return int(resources.limits.get(GPU, resources.requests.get(GPU, 0)))


def _user_flags(spec: LLMDeploymentSpec) -> dict[str, str]:
    """The user's flags with dashes: vLLM treats underscores before the first dot as dashes."""
    flags: dict[str, str] = {}
    for written, value in spec.engine.args.items():
        head, dot, path = written.partition(".")
        name = head.replace("_", "-") + dot + path
        if name in flags:
            raise SpecError(
                f"spec.engine.args sets {name} twice, with dashes and with underscores; remove one of them."
            )
        flags[name] = value
    return flags


def _tensor_parallel(flags: dict[str, str], gpus: int) -> dict[str, str]:
    """The flag that makes vLLM use all GPUs, given the user's pipeline and data parallelism."""
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
            f"spec.engine.resources has {gpus} GPUs, which cannot be divided evenly into {split} groups; "
            f"set {_TENSOR} in spec.engine.args, or change the number of {GPU}."
        )
    return {_TENSOR: str(gpus // split)}


def _render(name: str, value: str) -> str:
    """One option.

    `true` renders a flag without a value and `false` its negation, because vLLM's switches take no value. A dotted name
    sets a field of a JSON option and always has a value.
    """
    if "." in name or value not in {"true", "false"}:
        return f"--{name}={value}"
    return f"--{name}" if value == "true" else f"--no-{name}"
