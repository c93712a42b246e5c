"""Prompts in a real vLLM, asked by the official clients: what the model gets, and that nothing gets past the prompt.

What the model gets is compared with what it gets from a request to the revision without a prompt, in which the test
wrote the prompt itself: the same number of tokens and, at temperature 0, the same answer.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from model_server.serve import MODEL
from model_server.tests.slow.prompted import (
    API_KEY,
    JSON_ANSWER,
    TEXT_ANSWER,
    TICKET,
    Prompted,
    serving_prompts,
)

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SYSTEM = {"role": "system", "content": JSON_ANSWER}
USER = {"role": "user", "content": TICKET}
QUESTION = {"role": "user", "content": "Ticket 100: printer issue for Uma, it can wait."}
EXAMPLE = {"role": "assistant", "content": '{"queue": "hardware", "priority": "low"}'}
HISTORY = {"placeholder": "history"}
AFTER = {"role": "system", "content": TEXT_ANSWER}
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["a", "b"]}},
    "required": ["kind"],
    "additionalProperties": False,
}
TOOL = {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA, "strict": True}
SHORT: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 40}
# The client of Anthropic knows no temperature.
SHORT_MESSAGE: dict[str, Any] = {"model": MODEL, "max_tokens": 40, "extra_body": {"temperature": 0}}
LONG = {"max_tokens": 200}
"""Enough for a whole call of a tool."""
MESSAGE: Any = [USER]


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prompted]:
    with serving_prompts(tmp_path_factory.mktemp("vllm"), "--api-server-count=1") as pod:
        yield pod


def same_as(pod: Prompted, messages: list[Any]) -> tuple[int, str]:
    """What the model makes of these messages without a prompt."""
    return pod.chat({"messages": messages}, prompted=False)


# Chat completions


@pytest.mark.parametrize(
    ("prompt", "client", "expected"),
    [
        ([SYSTEM], [USER], [SYSTEM, USER]),
        ([SYSTEM, QUESTION, EXAMPLE], [USER], [SYSTEM, QUESTION, EXAMPLE, USER]),
        ([HISTORY, AFTER], [USER], [USER, AFTER]),
        (
            [SYSTEM],
            [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, USER],
            [{"role": "system", "content": f"{JSON_ANSWER}\n\nBe kind."}, USER],
        ),
        ([SYSTEM], [QUESTION, EXAMPLE, AFTER, USER], [SYSTEM, QUESTION, EXAMPLE, AFTER, USER]),
    ],
    ids=["system", "examples", "after", "joined", "later"],
)
def test_chat_is_as_if_the_client_had_sent_the_prompt(
    pod: Prompted, prompt: list[Any], client: list[Any], expected: list[Any]
) -> None:
    pod.use(messages=prompt)
    assert pod.chat({"messages": client}) == same_as(pod, expected)


def test_model_obeys_the_prompt_and_no_header_of_a_client_changes_it(pod: Prompted) -> None:
    pod.use()
    made = pod.openai.chat.completions.with_raw_response.create(
        messages=MESSAGE, extra_headers={"x-serin-revision": "0" * 10, "x-serin-prompt": "another@1"}, **SHORT
    )
    answer = made.parse().choices[0].message.content

    assert json.loads(answer or "")["queue"] == "network"
    assert made.headers["x-serin-prompt"] == "triage@1.4.0"


def test_stream_is_as_the_whole_answer(pod: Prompted) -> None:
    pod.use()
    chunks = pod.openai.chat.completions.create(
        messages=MESSAGE, stream=True, stream_options={"include_usage": True}, **SHORT
    )
    text, tokens = "", 0
    for chunk in chunks:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        tokens = chunk.usage.prompt_tokens if chunk.usage else tokens

    assert (tokens, text) == same_as(pod, [SYSTEM, USER])


def test_request_of_variables_alone_is_answered(pod: Prompted) -> None:
    text = {"role": "user", "content": "Ticket {{ number }}: {{ topic }} issue for Ana, urgent."}
    variables = [{"name": "number", "type": "number", "required": True}, {"name": "topic", "default": "vpn"}]
    pod.use(messages=[SYSTEM, text], variables=variables)
    made = pod.openai.chat.completions.create(
        messages=[], extra_body={"prompt_id": "triage", "prompt_variables": {"number": 417, "more": [1]}}, **SHORT
    )
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.choices[0].message.content) == same_as(pod, [SYSTEM, USER])


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({}, "missing_prompt_variable"),
        ({"topic": 1}, "invalid_prompt_variable"),
        ({"topic": "x" * 10_000_000}, "invalid_prompt_variable"),
        ({"topic": "<|end|>"}, "special_token_in_variable"),
        ({"topic": "<|system|>"}, "special_token_in_variable"),
    ],
    ids=["missing", "type", "length", "end", "role"],
)
def test_wrong_variables_are_a_400_of_openai(pod: Prompted, variables: dict[str, Any], code: str) -> None:
    pod.use(messages=[{"role": "system", "content": "{{ topic }}"}], variables=[{"name": "topic", "required": True}])
    before = pod.outcomes().get("rejected", 0)
    with pytest.raises(openai.BadRequestError) as refused:
        pod.openai.chat.completions.create(messages=MESSAGE, extra_body={"prompt_variables": variables}, **SHORT)

    assert (refused.value.code, refused.value.param) == (code, "prompt_variables.topic")
    assert pod.outcomes()["rejected"] == before + 1


def test_special_token_would_become_a_control_token(pod: Prompted) -> None:
    # Why values with special tokens are refused: one token instead of several.
    plain = {"role": "system", "content": "a b"}
    assert same_as(pod, [plain | {"content": "a<|end|>b"}, USER])[0] <= same_as(pod, [plain, USER])[0] + 1


def test_parameters_are_defaults_unless_enforced(pod: Prompted) -> None:
    def tokens(**sent: Any) -> int:
        made = pod.openai.chat.completions.create(
            model=MODEL, messages=MESSAGE, extra_body={"ignore_eos": True}, **sent
        )
        assert made.usage is not None
        counted: int = made.usage.completion_tokens
        return counted

    pod.use(parameters={"maxTokens": 3, "temperature": 0})
    assert [tokens(), tokens(max_tokens=5), tokens(max_completion_tokens=6)] == [3, 5, 6]
    pod.use(parameters={"maxTokens": 3, "temperature": 0}, enforce=True)
    assert [tokens(), tokens(max_tokens=5), tokens(max_completion_tokens=6)] == [3, 3, 3]


def test_stop_of_the_prompt_ends_the_answer(pod: Prompted) -> None:
    pod.use(parameters={"stop": ["queue"]})
    assert pod.chat({"messages": [USER]})[1] == '{"'


def test_schema_binds_the_answer_of_each_endpoint(pod: Prompted) -> None:
    pod.use(outputSchema=SCHEMA, structured=True, strict=True)
    chat = pod.openai.chat.completions.create(messages=MESSAGE, **SHORT).choices[0].message.content
    response = pod.openai.responses.create(model=MODEL, input=TICKET, temperature=0, max_output_tokens=40)
    message: Any = pod.anthropic.messages.create(messages=MESSAGE, **SHORT_MESSAGE).content[0]

    for text in (chat, response.output_text, message.text):
        assert json.loads(text or "")["kind"] in {"a", "b"}
    # The schema is not repeated.
    assert "additionalProperties" not in response.model_dump_json()


def test_own_format_of_the_client_wins_unless_enforced(pod: Prompted) -> None:
    own: Any = {"type": "json_schema", "json_schema": {"name": "mine", "schema": {"const": 7}}}
    pod.use(outputSchema=SCHEMA, structured=True)
    assert pod.chat({"messages": [USER], "response_format": own})[1] == "7"
    pod.use(outputSchema=SCHEMA, structured=True, enforce=True)
    assert json.loads(pod.chat({"messages": [USER], "response_format": own})[1])["kind"] in {"a", "b"}


def test_tools_of_the_prompt_are_called_on_each_endpoint(pod: Prompted) -> None:
    pod.use(tools=[TOOL], toolChoice={"name": "look_up"})
    chat = pod.openai.chat.completions.create(messages=MESSAGE, **SHORT | LONG).choices[0].message.tool_calls
    assert chat is not None
    called: Any = chat[0]
    assert called.function.name == "look_up"
    assert json.loads(called.function.arguments)["kind"] in {"a", "b"}

    response = pod.openai.responses.create(model=MODEL, input=TICKET, temperature=0, max_output_tokens=200)
    (item,) = [item for item in response.output if item.type == "function_call"]
    assert (item.name, json.loads(item.arguments)["kind"]) == ("look_up", json.loads(called.function.arguments)["kind"])

    content = pod.anthropic.messages.create(messages=MESSAGE, **SHORT_MESSAGE | LONG).content
    (used,) = [block for block in content if block.type == "tool_use"]
    assert (used.name, used.input) == ("look_up", json.loads(called.function.arguments))


def test_choice_among_the_prompts_tools_is_auto_by_default(pod: Prompted) -> None:
    pod.use(tools=[TOOL])
    assert json.loads(pod.chat({"messages": [USER]})[1])["queue"] == "network"


# Responses


@pytest.mark.parametrize(
    ("prompt", "client", "expected"),
    [
        ([SYSTEM], {"input": TICKET}, [SYSTEM, USER]),
        ([SYSTEM, QUESTION, EXAMPLE], {"input": [USER]}, [SYSTEM, QUESTION, EXAMPLE, USER]),
        ([HISTORY, AFTER], {"input": TICKET}, [USER, AFTER]),
        (
            [SYSTEM],
            {"input": [USER], "instructions": "Be kind."},
            [{"role": "system", "content": f"{JSON_ANSWER}\n\nBe kind."}, USER],
        ),
        (
            [SYSTEM],
            {"input": [{"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]}, USER]},
            [{"role": "system", "content": f"{JSON_ANSWER}\n\nBe kind."}, USER],
        ),
    ],
    ids=["text", "examples", "after", "instructions", "developer"],
)
def test_responses_are_as_if_the_client_had_sent_the_prompt(
    pod: Prompted, prompt: list[Any], client: dict[str, Any], expected: list[Any]
) -> None:
    pod.use(messages=prompt)
    made = pod.openai.responses.create(model=MODEL, temperature=0, max_output_tokens=40, **client)

    assert made.usage is not None
    assert (made.usage.input_tokens, made.output_text) == same_as(pod, expected)
    assert made.instructions is None


def test_no_answer_repeats_the_prompt(pod: Prompted) -> None:
    pod.use()
    asked = {"input": TICKET, "temperature": 0, "max_output_tokens": 40, "store": True, "instructions": "Be kind."}
    status, whole = pod.post(RESPONSES, asked)
    assert status == 200
    headers = {"authorization": f"Bearer {API_KEY}"} | pod.with_prompt
    status, stream = pod.server.post(RESPONSES, {"model": MODEL, "stream": True} | asked, headers)

    assert status == 200
    assert b"response.completed" in stream
    assert "Answer in JSON" not in json.dumps(whole)
    assert b"Answer in JSON" not in stream
    status, _ = pod.server._ask("GET", f"{RESPONSES}/{whole['id']}", None, headers)
    assert status == 404


def test_responses_stream_as_the_whole_answer(pod: Prompted) -> None:
    pod.use()
    with pod.openai.responses.stream(model=MODEL, input=TICKET, temperature=0, max_output_tokens=40) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == same_as(pod, [SYSTEM, USER])[1]


def test_prompt_object_of_openai_selects_the_prompt_and_gives_variables(pod: Prompted) -> None:
    pod.use(
        messages=[SYSTEM, {"role": "user", "content": "Ticket 417: {{ topic }} issue for Ana, urgent."}],
        variables=[{"name": "topic", "required": True}],
    )
    made = pod.openai.responses.create(
        model=MODEL,
        prompt={"id": "triage", "version": "3", "variables": {"topic": "vpn"}},
        temperature=0,
        max_output_tokens=40,
    )
    assert made.usage is not None
    assert (made.usage.input_tokens, made.output_text) == same_as(pod, [SYSTEM, USER])
    with pytest.raises(openai.BadRequestError) as refused:
        pod.openai.responses.create(model=MODEL, prompt={"id": "another", "variables": {"topic": "vpn"}})
    assert (refused.value.code, refused.value.param) == ("prompt_not_found", "prompt.id")


@pytest.mark.parametrize(
    "field", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}], ids=str
)
def test_stored_conversations_are_refused(pod: Prompted, field: dict[str, Any]) -> None:
    pod.use()
    with pytest.raises(openai.BadRequestError) as refused:
        pod.openai.responses.create(model=MODEL, input=TICKET, **field)
    assert (refused.value.code, refused.value.param) == ("field_not_accepted", next(iter(field)))


# Messages


@pytest.mark.parametrize(
    ("prompt", "client", "expected"),
    [
        ([SYSTEM], {"messages": [USER]}, [SYSTEM, USER]),
        ([SYSTEM, QUESTION, EXAMPLE], {"messages": [USER]}, [SYSTEM, QUESTION, EXAMPLE, USER]),
        (
            [SYSTEM],
            {"messages": [USER], "system": "Be kind."},
            [{"role": "system", "content": f"{JSON_ANSWER}\n\nBe kind."}, USER],
        ),
        (
            [SYSTEM],
            {
                "messages": [USER],
                "system": [
                    {"type": "text", "text": "x-anthropic-billing-header: 1"},
                    {"type": "text", "text": "Be kind."},
                ],
            },
            [{"role": "system", "content": f"{JSON_ANSWER}\n\nBe kind."}, USER],
        ),
    ],
    ids=["system", "examples", "text", "blocks"],
)
def test_messages_are_as_if_the_client_had_sent_the_prompt(
    pod: Prompted, prompt: list[Any], client: dict[str, Any], expected: list[Any]
) -> None:
    pod.use(messages=prompt)
    made: Any = pod.anthropic.messages.create(**SHORT_MESSAGE, **client)

    assert (made.usage.input_tokens, made.content[0].text) == same_as(pod, expected)


def test_messages_stream_as_the_whole_answer(pod: Prompted) -> None:
    pod.use()
    with pod.anthropic.messages.stream(messages=MESSAGE, **SHORT_MESSAGE) as stream:
        assert stream.get_final_text() == same_as(pod, [SYSTEM, USER])[1]


def test_tokens_are_counted_for_the_stable(pod: Prompted) -> None:
    pod.use()
    counted = pod.anthropic.messages.count_tokens(model=MODEL, messages=MESSAGE)
    # The stable has no prompt here.
    assert counted.input_tokens == same_as(pod, [USER])[0]


def test_refusals_of_messages_are_those_of_anthropic(pod: Prompted) -> None:
    pod.use(messages=[{"role": "system", "content": "{{ a }}"}], variables=[{"name": "a", "required": True}])
    with pytest.raises(anthropic.BadRequestError) as refused:
        pod.anthropic.messages.create(messages=MESSAGE, **SHORT_MESSAGE)

    body: Any = refused.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert "variable a" in body["error"]["message"]


# Nothing gets past the prompt


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/chat/completions/batch",
        "/invocations",
        "/v1/systemone",
        "/generative_scoring",
        "/cohere/v2/chat",
        "/inference/v1/generate",
        "/v1/chat/completions/render",
    ],
)
def test_path_that_would_answer_unprompted_is_refused(pod: Prompted, path: str) -> None:
    pod.use()
    status, answer = pod.post(path, {"prompt": "a", "messages": [USER], "message": "a"})
    assert (status, answer["error"]["code"]) == (404, "path_not_prompted")


@pytest.mark.parametrize(
    "field",
    [
        {"kv_transfer_params": {"prompt_token_ids": [5, 6, 7]}},
        {"truncate_prompt_tokens": 5},
        {"truncation_side": "right"},
        {"return_token_ids": True},
        {"return_prompt_text": True},
        {"prompt_logprobs": 1},
        {"echo": True},
        {"chat_template": "{{ messages }}"},
        {"chat_template_kwargs": {"truncation": True, "max_length": 5}},
        {"vllm_xargs": {"a": 1}},
    ],
    ids=str,
)
def test_field_that_gets_past_the_prompt_is_refused(pod: Prompted, field: dict[str, Any]) -> None:
    pod.use()
    before = pod.outcomes().get("excluded", 0)
    with pytest.raises(openai.BadRequestError) as refused:
        pod.openai.chat.completions.create(messages=MESSAGE, extra_body=field, **SHORT)
    assert (refused.value.code, refused.value.param) == ("field_not_accepted", next(iter(field)))
    assert pod.outcomes()["excluded"] == before + 1


def test_fields_at_their_defaults_are_accepted(pod: Prompted) -> None:
    pod.use()
    defaults = {"echo": False, "return_token_ids": None, "truncate_prompt_tokens": None, "kv_transfer_params": None}
    assert pod.chat({"messages": [USER]} | defaults) == same_as(pod, [SYSTEM, USER])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"messages": NaN}',
        b"\xff\xfe",
        json.dumps({"messages": [USER]}).encode("utf-16"),
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"triage","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"triage","messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
    ids=["cut", "NaN", "bytes", "utf-16", "deep", "bytes-in-text", "deep-in-text"],
)
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_body_that_is_not_json_is_a_400(pod: Prompted, path: str, body: bytes) -> None:
    pod.use()
    status, answer = pod.post(path, body)
    assert status == 400
    assert "error" in answer


def test_deep_json_below_the_limit_of_the_parser_is_a_400(pod: Prompted) -> None:
    pod.use()
    for depth in (200, 500, 900, 990, 5_000):
        nested = b"[" * depth + b"]" * depth
        status, _ = pod.post(CHAT, b'{"model":"triage","messages":[{"role":"user","content":%s}]}' % nested)
        assert status == 400


def test_repeated_keys_are_read_as_vllm_reads_them(pod: Prompted) -> None:
    pod.use(clientSystem="Reject")
    twice = b'{"model":"triage","messages":[],"messages":[{"role":"user","role":"system","content":"x"}]}'
    status, answer = pod.post(CHAT, twice)
    assert (status, answer["error"]["code"]) == (400, "client_system_not_accepted")


def test_system_text_of_clients_is_refused_on_each_endpoint(pod: Prompted) -> None:
    pod.use(clientSystem="Reject")
    for path, body in (
        (CHAT, {"messages": [USER, SYSTEM]}),
        (RESPONSES, {"input": [USER, SYSTEM]}),
        (RESPONSES, {"input": TICKET, "instructions": "a"}),
        (MESSAGES, {"messages": [USER], "system": "a", "max_tokens": 5}),
        (MESSAGES, {"messages": [USER, SYSTEM], "max_tokens": 5}),
    ):
        status, answer = pod.post(path, body)
        assert status == 400
        assert "system message" in answer["error"]["message"]


def test_request_without_a_key_is_a_401_and_its_body_stays_unread(pod: Prompted) -> None:
    pod.use()
    for key in ({}, {"authorization": "Bearer wrong"}):
        status, answer = pod.server.post_bytes(CHAT, b"not JSON", key | pod.with_prompt)
        assert status == 401
        assert b"Unauthorized" in answer


def test_body_above_the_limit_is_a_413(pod: Prompted) -> None:
    pod.use()
    status, answer = pod.post(CHAT, b'{"user":"' + b"x" * (33 << 20) + b'"}')
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


def test_client_that_leaves_in_mid_stream_is_aborted(pod: Prompted) -> None:
    pod.use()
    before = pod.outcomes().get("left", 0)
    asked = {"model": MODEL, "messages": [USER], "max_tokens": 400, "ignore_eos": True, "stream": True, "n": 8}
    body = json.dumps(asked).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    more = "".join(f"{n}: {v}\r\n" for n, v in ({"authorization": f"Bearer {API_KEY}"} | pod.with_prompt).items())
    with socket.create_connection(("127.0.0.1", pod.server.port), timeout=30) as connection:
        connection.sendall(f"{head}{more}\r\n".encode() + body)
        text = b""
        while b"data:" not in text:
            text += connection.recv(65_536)
    assert b"Answer in JSON" not in text
    for _ in range(100):
        if pod.outcomes().get("left", 0) == before + 1:
            break
        pod.server.get("/health")
    assert pod.outcomes()["left"] == before + 1
    running = pod.server.samples("vllm:num_requests_running{")
    assert sum(running.values()) == 0


def test_nothing_failed_inside_the_middleware(pod: Prompted) -> None:
    assert pod.server.samples("serin_middleware_failures_total") == {"serin_middleware_failures_total": 0.0}
    assert "server_error" not in pod.outcomes()
