"""The command `serin prompt lint`: reads files, lints every PromptVersion in them, and prints findings or JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any

from serin.cli.prompt.files import Document, read_documents
from serin.cli.prompt.findings import Finding, Level
from serin.cli.prompt.length import Count, known_limits, lint_length, shortest_request
from serin.cli.prompt.lint import clashes, lint
from serin.cli.prompt.model import count_tokens, served_model
from serin.cli.prompt.registry import KIND, name_of, registry
from serin.cli.prompt.text import visible
from serin.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serin prompt lint`."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="file or folder with manifests, or - for standard input"
    )
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object per finding and line")
    parser.add_argument(
        "--max-model-len",
        type=int,
        metavar="TOKENS",
        help="context of the model; default: of the LLMDeployments in the files that use the prompt, or of --url",
    )
    parser.add_argument("--url", help="OpenAI-compatible URL of a vLLM that counts the tokens")
    parser.add_argument("--model", help="name of the model at --url; default: the first one that it lists")


def lint_files(given: argparse.Namespace) -> tuple[list[str], bool]:
    """The lines to print, and whether the exit status is 1.

    Raises:
        InputError: a file cannot be read, there is no PromptVersion, or --url does not answer.
    """
    documents = [document for path in given.files for document in read_documents(path)]
    prompts = [document for document in documents if document.manifest.get("kind") == KIND]
    if not prompts:
        raise InputError(f"There is no PromptVersion in {', '.join(given.files)}; correct the path.")
    model = given.model or served_model(given.url) if given.url else None
    limits = known_limits([document.manifest for document in documents])
    found = [(document, finding) for document in prompts for finding in lint(document.manifest)]
    invalid = {document.origin for document, finding in found if finding.level is Level.ERROR}
    for document in prompts:
        if document.origin not in invalid:
            limit = given.max_model_len or limits.get(name_of(document.manifest))
            found += [
                (document, f) for f in lint_length(document.manifest["spec"], _count(given, model, document), limit)
            ]
    valid = registry([(d.manifest, d.origin) for d in prompts], "")
    by_origin = {document.origin: document for document in prompts}
    found += [(by_origin[prompt.origin], finding) for prompt, finding in clashes(valid.prompts)]
    failing = [f for _, f in found if f.level is Level.ERROR or given.strict]
    if given.json:
        return [json.dumps(_record(document, finding)) for document, finding in found], bool(failing)
    errors = sum(finding.level is Level.ERROR for _, finding in found)
    return [*(_line(*each) for each in found), _total(len(prompts), errors, len(found) - errors)], bool(failing)


def _count(given: argparse.Namespace, model: str | None, document: Document) -> Count | None:
    if model is None:
        return None
    return count_tokens(given.url, model, shortest_request(document.manifest["spec"]))


def _line(document: Document, finding: Finding) -> str:
    return visible(f"{document.origin}: {finding.level}: {finding.where}: {finding.message}")


def _record(document: Document, finding: Finding) -> dict[str, Any]:
    return {
        "file": document.origin,
        "name": name_of(document.manifest),
        "level": finding.level,
        "where": finding.where,
        "message": finding.message,
    }


def _total(prompts: int, errors: int, warnings: int) -> str:
    def counted(number: int, word: str) -> str:
        return f"{number} {word}{'' if number == 1 else 's'}"

    return f"{counted(prompts, 'prompt')}: {counted(errors, 'error')}, {counted(warnings, 'warning')}."
