"""The commands `serin prompt import` and `serin prompt export`: read a file or a prompt, and return what to print."""

from __future__ import annotations

import argparse

from serin.cli.prompt.exchange.convert import FORMATS, Wanted, export_prompt, import_prompt
from serin.cli.prompt.exchange.form import File
from serin.cli.prompt.files import STANDARD_INPUT, read_bytes, text_of
from serin.cli.prompt.registry import StoredPrompt
from serin.cli.prompt.text import yaml_text


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serin prompt import`."""
    parser.add_argument("file", metavar="FILE", help="one prompt of the other tool, or - for standard input")
    _add_format(parser)
    parser.add_argument("--prompt", metavar="FAMILY", help="name of the prompt; default: that of the file")
    parser.add_argument("--version", help="semantic version; default: that of the file, 7.0.0 for a version 7")
    parser.add_argument("--name", help="name of the PromptVersion; default: made of family and version")
    parser.add_argument(
        "--role", choices=("system", "user"), default="system", help="role of a text that has none; default: system"
    )


def add_export_arguments(parser: argparse.ArgumentParser, reference: str) -> None:
    """Declare the arguments of `serin prompt export`, apart from where the prompt is read.

    Args:
        reference: help text of what names a prompt.
    """
    parser.add_argument("reference", metavar="NAME", help=reference)
    _add_format(parser)


def imported(given: argparse.Namespace) -> tuple[str, list[str]]:
    """The manifest as YAML, and notes.

    Raises:
        InputError: the file cannot be read, or says what a PromptVersion cannot.
    """
    origin = "standard input" if given.file == STANDARD_INPUT else given.file
    file = File(origin, text_of(origin, read_bytes(given.file)), given.role)
    manifest, notes = import_prompt(given.format, file, Wanted(given.prompt, given.version, given.name))
    return yaml_text(manifest).rstrip("\n"), notes


def exported(given: argparse.Namespace, prompt: StoredPrompt) -> tuple[str, list[str]]:
    """The file of the other tool, and notes.

    Raises:
        InputError: the format cannot say the prompt.
    """
    return export_prompt(given.format, prompt)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=tuple(FORMATS), required=True, help="format of the other tool")
