"""The docs quote only sentences that the code can print.

A quoted sentence is one of these, in any Markdown page of the repository:
- inline code of four words or more that ends like a sentence (`.` or `…`);
- the last column of an output line (in a fenced block without a language, or `text`) of five words or more that ends
  with `.`;
- a message in a fenced block of JSON or YAML.

The code's sentences are the string literals of its modules, docstrings excluded; a hole of an f-string stands for any
one word. A quote is cut into clauses at punctuation and at values (numbers, names, hashes, `…`). Each word of a clause
of three words or more must lie in three words in a row that the code has too.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCES = ("operator", "examples", "sandbox", "model_server")
IGNORED = {".venv", ".git", ".sandbox", "tests", "node_modules"}
HOLE = "\0"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
MESSAGE = re.compile(r'"message": ?"((?:[^"\\]|\\.)*)"')
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def pages() -> list[Path]:
    """Every page that is written by hand or generated."""
    return sorted(page for page in ROOT.rglob("*.md") if not IGNORED & set(page.relative_to(ROOT).parts))


# What the code says ---------------------------------------------------------------------------------------------------


def literals(source: str) -> Iterator[str]:
    """The string literals of a module with holes in them, docstrings excluded."""
    tree = ast.parse(source)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts = [part.value if isinstance(part, ast.Constant) else HOLE for part in node.values]
            yield "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation | parts:
            yield node.value


def clauses(text: str) -> Iterator[list[str]]:
    """The words of a sentence, cut at punctuation and at what is no plain word."""
    clause: list[str] = []
    for token in re.sub(r"([:;,.()\[\]\"…]+)(?=\s|$)|(?<=\s)[(\"…]+|^[(\"…]+", r" \n ", text).split(" "):
        word = token.strip()
        if word == HOLE or WORD.fullmatch(word):
            clause.append(word.lower())
        elif token:
            yield clause
            clause = []
    yield clause


@functools.cache
def known() -> frozenset[tuple[str, ...]]:
    """Three words in a row that the code can print; at most one of them is a hole."""
    files = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = (literals(path.read_text()) for path in files if not IGNORED & set(path.relative_to(ROOT).parts))
    threes = {
        tuple(clause[i : i + 3])
        for text in itertools.chain.from_iterable(texts)
        for clause in clauses(text)
        for i in range(len(clause) - 2)
    }
    return frozenset(three for three in threes if three.count(HOLE) < 2)


def is_known(three: tuple[str, ...]) -> bool:
    """Whether the code can print these three words in a row."""
    return three in known() or any((*three[:i], HOLE, *three[i + 1 :]) in known() for i in range(3))


def unknown(quote: str) -> list[str]:
    """The clauses of a quote that the code cannot print."""
    found = []
    for clause in clauses(quote):
        covered = {i + k for i in range(len(clause) - 2) if is_known(tuple(clause[i : i + 3])) for k in range(3)}
        if len(clause) > 2 and len(covered) < len(clause):
            found.append(" ".join(word if i in covered else word.upper() for i, word in enumerate(clause)))
    return found


# What the docs quote --------------------------------------------------------------------------------------------------


def quotes(page: str) -> Iterator[str]:
    """The quoted sentences of a page."""
    for language, block in FENCE.findall(page):
        if language in {"", "text", "console"}:
            columns = (
                re.split(r"\s{2,}", re.sub(r"^\[ *\d+ s\]", "", line).rstrip())[-1] for line in block.splitlines()
            )
            yield from (column for column in columns if column.endswith(".") and len(column.split()) > 4)
        elif language in {"yaml", "json"}:
            yield from itertools.chain.from_iterable(map(_messages, yaml.safe_load_all(block)))
        yield from MESSAGE.findall(block)
    for code in INLINE.findall(FENCE.sub("", page)):
        if code.endswith((".", "…")) and len(code.split()) > 3:
            yield code


def _messages(node: object, key: str = "") -> Iterator[str]:
    """The strings under `message`, `verdict` and `caveats`."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _messages(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _messages(value, key)
    elif isinstance(node, str) and key in {"message", "verdict", "caveats"}:
        yield node


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_quotes_only_sentences_of_the_code(page: Path) -> None:
    wrong = {quote: found for quote in quotes(page.read_text()) if (found := unknown(quote))}

    assert wrong == {}, "the code prints no such sentence; words in capitals were not found"


def test_docs_quote_many_sentences() -> None:
    assert sum(1 for page in pages() for _ in quotes(page.read_text())) > 30


@pytest.mark.parametrize(
    "quote",
    [
        "errors: the canary is worse than the stable: canary 6 bad of 22, stable 0 bad of 96.",
        "PromptVersion triage-1.4.0 does not exist in this namespace; create it, or correct spec.prompt.name.",
    ],
)
def test_sentence_of_the_code_is_known(quote: str) -> None:
    assert unknown(quote) == []


@pytest.mark.parametrize(
    "quote",
    [
        "The canary fails more requests than the stable: canary 3 bad of 5, stable 0 bad of 55.",
        "errors: the canary answers worse than the stable: canary 6 bad of 22, stable 0 bad of 96.",
    ],
)
def test_invented_sentence_is_unknown(quote: str) -> None:
    assert unknown(quote) != []
