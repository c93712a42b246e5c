"""Quotes of logs: the line that names the cause, in one bounded line without control characters and credentials."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.manifests.log_lines import MOST_CHARACTERS, MOST_LINES, cause_of, last_lines, one_line

VLLM = """\
\x1b[0;36m(EngineCore_DP0 pid=87)\x1b[0;0m ERROR 11-22 10:00:00 [core.py:708] Traceback (most recent call last):
\x1b[0;36m(EngineCore_DP0 pid=87)\x1b[0;0m ERROR 11-22 10:00:00 [core.py:708]   File "core.py", line 5, in run
(EngineCore_DP0 pid=87) ERROR 11-22 10:00:00 [core.py:708] ValueError: 16 GiB of KV cache needed, 2 GiB free.
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1)   File "utils.py", line 732, in launch_core_engines
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        pytest.param(VLLM, "ValueError: 16 GiB of KV cache needed, 2 GiB free", id="vLLM's engine process"),
        pytest.param(
            "usage: vllm serve [options]\nvllm: error: unrecognized arguments: --foo\n\n",
            "vllm: error: unrecognized arguments: --foo",
            id="argument",
        ),
        pytest.param(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n[rank0]: destroyed\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
            id="GPU memory",
        ),
        pytest.param("loading\ncp: No space left on device", "cp: No space left on device", id="disk"),
        pytest.param("one\ntwo\n", "two", id="no line names an error"),
        pytest.param(
            "RuntimeError: Engine core initialization failed.",
            "RuntimeError: Engine core initialization failed",
            id="only the line that follows a cause",
        ),
        pytest.param("", None, id="empty"),
        pytest.param("\n\x1b[0m\n \t\n", None, id="nothing visible"),
    ],
)  # fmt: skip
def test_cause_is_the_last_line_that_names_an_error(log: str, cause: str | None) -> None:
    assert cause_of(last_lines(log)) == cause


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("HF_TOKEN=hf_aaaaaaaaaaaa set", "HF_TOKEN=[hidden] set"),
        ("401 for hf_aaaaaaaaaaaa", "401 for [hidden]"),
        ("--api-key s3cr3t --max-model-len 5", "--api-key [hidden] --max-model-len 5"),
        ("args: {'api_key': ['one'], 'x': 1}", "args: {'api_key': [hidden], 'x': 1}"),
        ('{"password": "p w", "user": "u"}', '{"password": [hidden], "user": "u"}'),
        ("pull https://user:pw@registry.test/v2", "pull https://[hidden]@registry.test/v2"),
        ("Authorization: Bearer abcdefghij.k", "Authorization: Bearer [hidden]"),
        ("GET /w?X-Amz-Signature=abcd&b=1", "GET /w?X-Amz-Signature=[hidden]&b=1"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "got [hidden]"),
        ("tokenizer=org/model max_num_batched_tokens=8192", "tokenizer=org/model max_num_batched_tokens=8192"),
        ("only 21472 tokens fit; number of tokens: 5", "only 21472 tokens fit; number of tokens: 5"),
    ],
)
def test_quote_hides_credentials_and_nothing_else(line: str, quoted: str) -> None:
    assert one_line(line) == quoted


@given(st.text(max_size=2_000))
def test_quotes_are_bounded_single_visible_lines(text: str) -> None:
    lines = last_lines(text)
    assert len(lines) <= MOST_LINES
    for line in (*lines, one_line(text)):
        assert len(line) <= MOST_CHARACTERS
        assert not any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in line)
