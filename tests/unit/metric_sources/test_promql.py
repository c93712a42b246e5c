"""Plain selectors, and the matchers that are added to them."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.errors import MetricsError
from serin.metric_sources.promql import CHUNK, PLAIN, chunks, is_plain, one_of, with_matcher


@pytest.mark.parametrize(
    ("selector", "narrowed"),
    [
        ("up", 'up{r="1"}'),
        (" up\n", 'up{r="1"}'),
        ("vllm:x_total", 'vllm:x_total{r="1"}'),
        ("up{}", 'up{r="1"}'),
        ("up { }", 'up{r="1"}'),
        ('up{a="b"}', 'up{a="b",r="1"}'),
        ('up{ a = "b" , c!~"d|e" , }  ', 'up{a = "b" , c!~"d|e",r="1"}'),
        ('up{a="}"}', 'up{a="}",r="1"}'),
        ('up{a="{,}[5m]"}', 'up{a="{,}[5m]",r="1"}'),
        (r'up{a="\"}"}', r'up{a="\"}",r="1"}'),
        (r'up{a=~"5\\d\\d"}', r'up{a=~"5\\d\\d",r="1"}'),
        ('up{a="ü"}', 'up{a="ü",r="1"}'),
    ],
)
def test_matcher_is_added_to_a_plain_selector(selector: str, narrowed: str) -> None:
    assert is_plain(selector)
    assert with_matcher(selector, 'r="1"') == narrowed


@pytest.mark.parametrize(
    "selector",
    [
        "",
        "up[5m]",
        'up{a="b"}[5m]',
        "rate(up[5m])",
        "sum(up)",
        "up + up",
        "up > 0",
        "up offset 5m",
        "up @ 0",
        '{a="b"}',
        '{"a.b"}',
        "1up",
        "up{a}",
        'up{a="b" c="d"}',
        'up{a="b",,}',
        "up{,}",
        'up{a="b"',
        'up{a="b}',
        'up{a="b\n"}',
        r'up{a="\d"}',
        "up{a='b'}",
        'up{a="b"} # comment',
        'up{a="b"}}',
        'up{a="b"} or up',
        'up{a=="b"}',
    ],
)
def test_other_selectors_are_refused(selector: str) -> None:
    assert not is_plain(selector)
    with pytest.raises(MetricsError, match=r"write a metric's name, or name\{label=\"value\"\}"):
        with_matcher(selector, 'r="1"')


def test_pattern_can_be_quoted_in_cel_and_is_valid_re2() -> None:
    assert "'" not in PLAIN
    assert "(?" not in PLAIN
    assert not re.search(r"\\[dwsbBAZ]", PLAIN)


LABELS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
MATCHERS = st.lists(st.tuples(LABELS, st.sampled_from(["=", "!=", "=~", "!~"]), VALUES), max_size=4)
SPACE = st.sampled_from(["", " ", "\n  "])


@given(LABELS, MATCHERS, SPACE, st.sampled_from(["", ","]))
def test_added_matcher_leaves_the_others_unchanged(
    name: str, matchers: list[tuple[str, str, str]], space: str, comma: str
) -> None:
    written = f"{space},{space}".join(f"{n}{o}{json.dumps(v, ensure_ascii=False)}" for n, o, v in matchers)
    selector = f"{space}{name}{space}{{{space}{written}{comma if matchers else ''}{space}}}{space}"
    narrowed = with_matcher(selector, one_of("r", ["x", "y.z"]))
    assert is_plain(narrowed)
    assert narrowed.startswith(f"{name}{{")
    read = re.findall(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")', narrowed)
    assert [(n, o, json.loads(v)) for n, o, v in read] == [*matchers, ("r", "=~", r"x|y\.z")]


@given(st.text(max_size=30))
def test_plain_selector_has_at_most_one_pair_of_braces(text: str) -> None:
    if is_plain(f"up{text}"):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", f"up{text}")
        assert not re.search(r"[\[\]()@+*/%^<>]", bare)
        assert bare.count("{") == bare.count("}") <= 1


def test_values_are_escaped_for_regex_and_string() -> None:
    assert one_of("a", ["v1.2", 'x"y']) == r'a=~"v1\\.2|x\"y"'


def test_values_are_split_into_lists_without_repetition() -> None:
    parts = chunks([f"n{number:03d}" for number in range(2 * CHUNK + 1)] * 2)
    assert [len(part) for part in parts] == [CHUNK, CHUNK, 1]
    assert chunks([]) == []
