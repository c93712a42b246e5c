"""Generates `cli.md`: the commands of `serin` with their arguments, from the parser.

Called by `docs.reference.generate`. Not the help texts of argparse, whose layout differs between versions of Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docs.reference.texts import code, table
from serin.__main__ import make_parser

GUIDES = {
    "serin evidence": "../how-to/replay-evidence.md",
    "serin replay": "../how-to/replay-evidence.md",
    "serin simulate": "../how-to/simulate.md",
    "serin prompt": "../how-to/work-with-prompts.md",
    "serin prompt import": "../how-to/move-from-langfuse.md",
    "serin prompt export": "../how-to/move-from-langfuse.md#and-back",
}
_HEAD = """# Commands

`serin` without a command runs the operator, with the settings of [its environment](settings.md). The commands below are
for people; they need no operator. [Install them](../how-to/install.md#the-command-serin) with `pip install .` in a
checkout, or write `PYTHONPATH=operator .venv/bin/python -m serin` for `serin` there.
The exit status is 0, or 2 if the command could not do its work. It is 1 if `replay --check` or `prompt diff` finds a
difference, `prompt lint` an error, or `prompt try` an answer that does not satisfy the output schema.
"""


def cli_page() -> list[str]:
    """The page of all commands."""
    lines = [*_HEAD.splitlines(), ""]
    for name, text, parser in _commands(make_parser()):
        target = GUIDES.get(name, "")
        guide = f" Guide: [{target.rpartition('/')[2].partition('#')[0]}]({target})." if target else ""
        lines += [f"{'##' if name.count(' ') == 1 else '###'} {name}", "", f"{_sentence(text)}{guide}", ""]
        if rows := list(_rows(parser)):
            lines += [*table(("argument", "default", "meaning"), rows), ""]
    return lines[:-1]


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each subcommand with its help text, in the order of their declaration, and below each its own."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to read a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, below in action.choices.items():
                yield below.prog, texts[name], below
                yield from _commands(below)


def _rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):  # noqa: SLF001
            continue
        takes_value = action.nargs != 0
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        names = [f"{name} {value}" if takes_value else name for name in action.option_strings] or [str(value)]
        default = action.default if takes_value and action.default != argparse.SUPPRESS else None
        meaning, _, stated = (action.help or "").partition("default: ")
        shown = code(default) if default not in (None, [], "") else stated
        required = "required" if action.required and not shown else shown
        yield ", ".join(f"`{name}`" for name in names), required, _sentence(meaning.rstrip("; "))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
