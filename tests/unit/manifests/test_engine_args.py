"""The command line of `vllm serve`."""

from __future__ import annotations

from typing import Any

import pytest

from serin.errors import SpecError
from serin.manifests.engine_args import engine_args
from serin.manifests.model_source import read_source
from tests.unit.manifests.samples import COMMIT, make_spec


def args_of(**changes: Any) -> list[str]:
    spec = make_spec(**changes)
    return engine_args(spec, read_source(spec.model.source))


def test_args_are_model_then_serin_flags_then_user_flags_by_name() -> None:
    assert args_of(engine={"args": {"max-model-len": "8192", "dtype": "auto"}}) == [
        "org/model",
        "--served-model-name=triage",
        "--port=8000",
        f"--revision={COMMIT}",
        "--shutdown-timeout=600",
        "--dtype=auto",
        "--max-model-len=8192",
    ]


def test_shutdown_timeout_equals_drain_timeout() -> None:
    assert "--shutdown-timeout=90" in args_of(rollout={"drainTimeout": "1m30s"})


@pytest.mark.parametrize(
    ("flags", "rendered"),
    [
        ({"enforce-eager": "true"}, ["--enforce-eager"]),
        ({"enable-prefix-caching": "false"}, ["--no-enable-prefix-caching"]),
        ({"max_model_len": "8192"}, ["--max-model-len=8192"]),
        ({"num-gpu-blocks-override": "-1"}, ["--num-gpu-blocks-override=-1"]),
        ({"chat-template": ""}, ["--chat-template="]),
        ({"speculative-config.x+": "a,b"}, ["--speculative-config.x+=a,b"]),
        ({"compilation_config.use_inductor": "true"}, ["--compilation-config.use_inductor=true"]),
        ({"structured-outputs-config.x": "false"}, ["--structured-outputs-config.x=false"]),
        ({"override-generation-config": '{"top_p": 1}'}, ['--override-generation-config={"top_p": 1}']),
    ],
    ids=["bare", "negated", "underscores", "dash-value", "empty", "dotted-list", "dotted-true", "dotted-false", "json"],
)
def test_flag_and_value_are_one_word(flags: dict[str, str], rendered: list[str]) -> None:
    assert args_of(engine={"args": flags})[5:] == rendered


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({}, None),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, None),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}}, "4"),
        ({"resources": {"limits": {"nvidia.com/gpu": "8"}}}, "8"),
        ({"resources": {"requests": {"nvidia.com/gpu": 2}}}, "2"),
        ({"resources": {"limits": {}}}, None),
        ({"resources": {"limits": {"cpu": 8}}}, None),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}, "args": {"tensor_parallel_size": "2"}}, "2"),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}, "args": {"pipeline-parallel-size": "2"}}, "2"),
        (
            {
                "resources": {"limits": {"nvidia.com/gpu": 8}},
                "args": {"pipeline-parallel-size": "2", "data-parallel-size": "4"},
            },
            "1",
        ),
    ],
    ids=["default", "one", "four", "text", "requested", "empty", "cpu", "set", "pipeline", "pipeline-and-data"],
)
def test_tensor_parallel_size_defaults_to_number_of_gpus(engine: dict[str, Any], expected: str | None) -> None:
    found = [arg.split("=")[1] for arg in args_of(engine=engine) if arg.startswith("--tensor-parallel-size")]

    assert found == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"args": {"max-model-len": "1", "max_model_len": "2"}}, "sets max-model-len twice"),
        (
            {"resources": {"limits": {"nvidia.com/gpu": 4}}, "args": {"pipeline-parallel-size": "3"}},
            "spec.engine.resources has 4 GPUs, which cannot be divided evenly into 3 groups",
        ),
        (
            {"resources": {"limits": {"nvidia.com/gpu": 4}}, "args": {"pipeline-parallel-size": "two"}},
            "write a whole number above zero",
        ),
    ],
    ids=["twice", "uneven", "not-a-number"],
)
def test_args_that_vllm_rejects_are_an_error(engine: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        args_of(engine=engine)


@pytest.mark.parametrize(
    ("source", "argument", "claim"),
    [
        ("hf://org/model@main", "org/model", None),
        ("hf://org/model", "org/model", None),
        ("hf://gpt2@607a30d", "gpt2", None),
        ("pvc://weights/llama/70b", "/models/weights/llama/70b", "weights"),
        ("pvc://weights/", "/models/weights", "weights"),
        ("pvc://weights", "/models/weights", "weights"),
        ("file:///opt/model", "/opt/model", None),
    ],
)
def test_source_becomes_the_first_argument(source: str, argument: str, claim: str | None) -> None:
    read = read_source(source)

    assert (read.argument, read.claim) == (argument, claim)


@pytest.mark.parametrize(
    "source",
    ["oci://image", "org/model", "hf://a/b/c@main", "hf://-x/y@main", "pvc:///path", "file://", "s3://bucket/x", ""],
)
def test_invalid_source_is_an_error(source: str) -> None:
    with pytest.raises(SpecError, match="write hf://org/model@commit"):
        read_source(source)
