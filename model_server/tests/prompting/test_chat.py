"""A prompt in chat completions: order, joining, what is refused; by tables and properties."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.outcome import EXCLUDED, REJECTED
from model_server.serin_model_server.prompting.apply import apply
from model_server.serin_model_server.prompting.fields import CHAT_COMPLETIONS
from model_server.serin_model_server.prompting.refusal import Refusal
from model_server.tests.prompting.prompts import HISTORY, SPECIALS, SYSTEM, ask, prompt, refusal, user

ASSISTANT = {"role": "assistant", "content": "Yes."}
DEVELOPER = {"role": "developer", "content": "Be polite."}
CLIENT = {"role": "system", "content": "Answer in French."}
AFTER = {"role": "system", "content": "Remember."}
JOINED = {"role": "system", "content": "Be brief.\n\nAnswer in French."}


@pytest.mark.parametrize(
    ("prompted", "client", "expected"),
    [
        ([SYSTEM], [user("a")], [SYSTEM, user("a")]),
        ([SYSTEM], [], [SYSTEM]),
        ([SYSTEM, user("q"), ASSISTANT], [user("a")], [SYSTEM, user("q"), ASSISTANT, user("a")]),
        ([SYSTEM, HISTORY], [user("a")], [SYSTEM, user("a")]),
        ([SYSTEM, HISTORY, AFTER], [user("a")], [SYSTEM, user("a"), AFTER]),
        ([HISTORY, AFTER], [CLIENT, user("a")], [CLIENT, user("a"), AFTER]),
        ([SYSTEM], [CLIENT, user("a")], [JOINED, user("a")]),
        (
            [SYSTEM],
            [CLIENT, DEVELOPER, user("a"), CLIENT],
            [
                {"role": "system", "content": "Be brief.\n\nAnswer in French.\n\nBe polite."},
                user("a"),
                CLIENT,
            ],
        ),
        ([user("q"), ASSISTANT], [CLIENT, user("a")], [CLIENT, user("q"), ASSISTANT, user("a")]),
        ([SYSTEM, user("q"), ASSISTANT], [CLIENT, user("a")], [JOINED, user("q"), ASSISTANT, user("a")]),
        ([AFTER, SYSTEM], [CLIENT, user("a")], [AFTER, JOINED, user("a")]),
        ([SYSTEM], [CLIENT | {"content": ""}, user("a")], [SYSTEM, user("a")]),
        ([SYSTEM], [CLIENT | {"content": None}, user("a")], [SYSTEM, user("a")]),
        (
            [SYSTEM],
            [CLIENT | {"content": [{"type": "text", "text": "Answer"}, {"type": "text", "text": '"ü"'}]}],
            [{"role": "system", "content": 'Be brief.\n\nAnswer\n"ü"'}],
        ),
    ],
)
def test_messages_of_prompt_and_client(prompted: list[Any], client: list[Any], expected: list[Any]) -> None:
    assert ask({"messages": client}, messages=prompted)["messages"] == expected


@pytest.mark.parametrize("body", [{}, {"messages": None}, {"messages": []}], ids=str)
def test_prompt_alone_is_a_conversation(body: dict[str, Any]) -> None:
    assert ask(body)["messages"] == [SYSTEM]


def test_elements_of_the_client_keep_their_bytes() -> None:
    mine = b'{ "role":"user" , "content" : "\\u00e9 \xc3\xa9 1.0e5 \\/" , "x":1E5}'
    made = apply("/v1/chat/completions", b'{"messages":[' + mine + b"]}", prompt(), SPECIALS)

    assert mine in made


def test_role_with_escapes_is_the_same_role() -> None:
    body = b'{"messages":[{"role":"\\u0073ystem","content":"Answer in French."}]}'

    assert ask(body)["messages"] == [JOINED]
    assert refusal(body, clientSystem="Reject").code == "client_system_not_accepted"


@pytest.mark.parametrize(
    "client", [[CLIENT], [DEVELOPER], [user("a"), CLIENT], [user("a"), ASSISTANT, user("b"), DEVELOPER]]
)
def test_system_message_anywhere_is_refused_where_the_prompt_says_so(client: list[Any]) -> None:
    found = refusal({"messages": client}, clientSystem="Reject")

    assert (found.status, found.code, found.outcome) == (400, "client_system_not_accepted", REJECTED)


def test_role_that_comes_twice_counts_once_as_for_vllm() -> None:
    body = b'{"messages":[{"role":"user","role":"system","content":"x"}]}'
    assert refusal(body, clientSystem="Reject").code == "client_system_not_accepted"
    assert json.loads(body)["messages"][0]["role"] == "system"


def test_field_that_comes_twice_counts_once_as_for_vllm() -> None:
    body = b'{"messages":[{"role":"user","content":"a"}],"mess\\u0061ges":[{"role":"user","content":"b"}]}'
    assert ask(body)["messages"] == [SYSTEM, user("b")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"{} {}",
        b'{"messages":1}',
        b'{"messages":[1]}',
        b'{"messages":[{"role":"system","content":{}}]}',
        b'{"temperature":NaN}',
        b'{"temperature":-Infinity}',
        b'{"\xff":1}',
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"user":"\\ud800"}',
        '{"messages":[]}'.encode("utf-16"),
        '{"messages":[]}'.encode("utf-32-le"),
        b'{"messages":' + b"[" * 100_000,
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[{"role":"system","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda body: str(body[:30]),
)
def test_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    found = refusal(body)

    assert (found.status, found.outcome) == (400, EXCLUDED)
    assert found.code in {"invalid_json", "invalid_body"}
    assert len(found.message) < 300


def test_byte_order_mark_is_skipped() -> None:
    assert ask(b'\xef\xbb\xbf{"messages":[]}')["messages"] == [SYSTEM]


BYPASSES: dict[str, Any] = {
    "kv_transfer_params": {"prompt_token_ids": [1]},
    "ec_transfer_params": {"a": 1},
    "truncate_prompt_tokens": 1,
    "truncation_side": "left",
    "truncation": "auto",
    "return_token_ids": True,
    "return_prompt_text": True,
    "prompt_logprobs": 0,
    "echo": True,
    "enable_response_messages": True,
    "previous_response_id": "resp_1",
    "previous_input_messages": [],
    "conversation": "conv_1",
    "background": True,
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"messages": []},
    "vllm_xargs": {"a": 1},
    "routed_experts_prompt_start": 1,
    "mm_payload": "none",
    "prompt_token_ids": [1],
    "prompt_embeds": "x",
    "a_field_of_a_later_vllm": 1,
    "Messages": [],
}


@pytest.mark.parametrize("name", BYPASSES)
def test_field_that_is_not_known_to_be_safe_is_refused(name: str) -> None:
    found = refusal({"messages": [user("a")], name: BYPASSES[name]})

    assert (found.status, found.code, found.outcome, found.param) == (400, "field_not_accepted", EXCLUDED, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, None) for name in BYPASSES if name not in CHAT_COMPLETIONS.allowed),
        ("echo", False),
        ("truncation", "disabled"),
        ("return_token_ids", False),
        ("background", False),
        ("vllm_xargs", {}),
    ],
)
def test_field_that_is_not_used_is_removed(name: str, value: Any) -> None:
    assert name not in ask({"messages": [], name: value})


@pytest.mark.parametrize(
    "name", ["messages", "tokenize", "chat_template", "truncation", "max_length", "documents", "x"]
)
def test_template_argument_that_could_change_messages_is_refused(name: str) -> None:
    assert refusal({"chat_template_kwargs": {name: 1}}).param == "chat_template_kwargs"


@pytest.mark.parametrize("value", [[1], {"a": 1}, "x" * 100], ids=str)
def test_template_argument_of_another_form_is_refused(value: Any) -> None:
    assert refusal({"chat_template_kwargs": {"enable_thinking": value}}).param == "chat_template_kwargs"


def test_harmless_template_arguments_pass() -> None:
    arguments = {"enable_thinking": False, "reasoning_effort": "low"}
    assert ask({"messages": [], "chat_template_kwargs": arguments})["chat_template_kwargs"] == arguments


@pytest.mark.parametrize("field", [{"continue_final_message": True}, {"add_generation_prompt": False}], ids=str)
def test_prefill_is_refused_where_the_prompt_ends_the_conversation(field: dict[str, Any]) -> None:
    body = {"messages": [user("a"), ASSISTANT]} | field

    assert ask(body)["messages"][-1] == ASSISTANT
    assert refusal(body, messages=[SYSTEM, HISTORY, AFTER]).code == "message_not_last"


def test_picture_in_a_system_message_is_refused() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    assert refusal({"messages": [CLIENT | {"content": [picture]}]}).code == "system_content_not_text"


def test_name_of_a_field_in_a_message_is_short_and_ascii() -> None:
    found = refusal({"ü\u202e" * 10_000: 1})
    assert found.message.isascii()
    assert len(found.message) < 500
    assert found.param is None


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_CONTENTS = _TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": _TEXTS}), max_size=3)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]), "content": _CONTENTS},
        optional={"name": _TEXTS, "tool_call_id": _TEXTS},
    ),
    max_size=6,
)
_PROMPTS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": _TEXTS}), max_size=4
)


def flat(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


@given(_PROMPTS, _MESSAGES, st.sampled_from([{}, {"indent": 2}, {"ensure_ascii": False}]), st.lists(_TEXTS, max_size=2))
def test_every_message_arrives_once_in_order(
    before: list[Any], client: list[Any], style: dict[str, Any], after: list[str]
) -> None:
    ends = [{"role": "system", "content": text} for text in after]
    body = json.dumps({"messages": client}, **style).encode()
    before = [message | {"content": message["content"].replace("{", "")} for message in before]
    ends = [message | {"content": message["content"].replace("{", "")} for message in ends]
    made = ask(body, messages=[*before, HISTORY, *ends])["messages"]

    lead = next((n for n, message in enumerate(client) if message["role"] not in {"system", "developer"}), len(client))
    own = next((n for n, message in enumerate(before) if message["role"] != "system"), len(before))
    systems = [text for message in client[:lead] if (text := flat(message["content"]))]
    front = before[:own]
    if systems:
        last = front.pop()["content"] if front else ""
        front.append({"role": "system", "content": "\n\n".join([text for text in (last, *systems) if text])})
    assert made == [*front, *before[own:], *client[lead:], *ends]


@given(st.binary(max_size=200))
def test_any_body_gives_a_body_with_the_prompt_or_a_refusal(body: bytes) -> None:
    with suppress(Refusal):
        assert ask(body)["messages"] == [SYSTEM]


@given(
    st.dictionaries(
        st.sampled_from(sorted(CHAT_COMPLETIONS.allowed | {"echo", "prompt_variables", "prompt_id", "x"})),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_any_fields_give_the_prompt_first_or_a_refusal(body: dict[str, Any]) -> None:
    try:
        made = ask(body)
    except Refusal:
        return
    assert made["messages"][0]["content"].startswith("Be brief.")
    assert made.keys() <= CHAT_COMPLETIONS.allowed
