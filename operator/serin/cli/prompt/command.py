"""The command `serin prompt`: declares the arguments, calls the part that does the work, prints.

Called by `serin.__main__`. What is printed to standard output is what was asked for; everything else goes to standard
error. Exit status: 0; 1 if `diff` finds a difference, `lint` an error, or `try` an answer against the schema; 2 if the
command could not do its work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from serin.cli.prompt import exchange_command, lint_command
from serin.cli.prompt.answer import answer_text, summary, violation
from serin.cli.prompt.difference import difference
from serin.cli.prompt.files import load_json, read_bytes, text_of
from serin.cli.prompt.model import complete, served_model
from serin.cli.prompt.registry import StoredPrompt
from serin.cli.prompt.render import Body, ExactFloat, render
from serin.cli.prompt.source import Source
from serin.cli.prompt.text import described, table, visible, yaml_text
from serin.errors import InputError, SerinError

SAME, DIFFERENT, FAILED = 0, 1, 2
Run = Callable[[argparse.Namespace], int]
_REFERENCE = "name of a PromptVersion, FAMILY@VERSION, FAMILY (its latest release), or a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of `serin prompt` and their arguments."""
    commands = parser.add_subparsers(dest="prompt_command", metavar="COMMAND", required=True)

    def command(name: str, run: Run, text: str, *, source: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if source:
            _add_source(added)
        return added

    listing = command("list", _list, "list prompts, newest version first, with content hash and users")
    listing.add_argument("family", nargs="?", help="only this prompt")
    listing.add_argument("--json", action="store_true", help="print a JSON array")
    latest = command("latest", _latest, "print the name of the PromptVersion with the latest version of a prompt")
    latest.add_argument("family", help="name of the prompt")
    latest.add_argument("--pre", action="store_true", help="pre-releases count, too")
    show = command("show", _show, "show one version of a prompt")
    show.add_argument("reference", metavar="NAME", help=_REFERENCE)
    show.add_argument("--output", "-o", choices=("text", "yaml", "json"), default="text", help="form of the output")
    rendering = command("render", _render, "print the body of a chat completion as the model would get it")
    _add_request(rendering)
    trying = command("try", _try, "ask a running model with a prompt, and check the answer against its schema")
    _add_request(trying)
    trying.add_argument("--url", required=True, help="OpenAI-compatible URL; the key is read from OPENAI_API_KEY")
    trying.add_argument("--timeout", type=_seconds, default=120.0, help="seconds to wait for the answer; default: 120")
    diff = command("diff", _diff, "show what changes between two versions of a prompt")
    diff.add_argument("old", metavar="A", help=_REFERENCE)
    diff.add_argument("new", metavar="B", help="likewise")
    linting = command("lint", _lint, "find mistakes in files before they are applied", source=False)
    lint_command.add_arguments(linting)
    importing = command("import", _import, "print a prompt of another tool as a PromptVersion", source=False)
    exchange_command.add_import_arguments(importing)
    exporting = command("export", _export, "print a prompt in the format of another tool")
    exchange_command.add_export_arguments(exporting, _REFERENCE)


def prompt(given: argparse.Namespace) -> int:
    """Run `serin prompt`; returns the exit status."""
    try:
        status: int = given.run(given)
        sys.stdout.flush()
    except SerinError as error:
        sys.stderr.write(f"serin prompt {given.prompt_command}: {visible(str(error))}\n")
        return FAILED
    except BrokenPipeError:
        # The reader has gone, such as `head`; the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file",
        "-f",
        action="append",
        default=[],
        metavar="PATH",
        help="file or folder with manifests, or - for standard input; may be repeated; default: the cluster",
    )
    parser.add_argument("--namespace", "-n", help="namespace in the cluster; default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="NAME", help=_REFERENCE)
    parser.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="a variable; may be repeated")
    parser.add_argument("--user", metavar="TEXT", help="a user message after the prompt")
    parser.add_argument(
        "--request", metavar="FILE", help="JSON body of a client's chat completion; - for standard input"
    )
    parser.add_argument("--model", help="name of the served model")


def _source(given: argparse.Namespace) -> Source:
    return Source(given.file, given.namespace, given.context)


def _list(given: argparse.Namespace) -> int:
    registry = _source(given).registry()
    for problem in registry.problems:
        _note(given, problem)
    prompts = registry.of_family(given.family) if given.family else registry.prompts
    if given.json:
        _print([json.dumps([_row(p) for p in prompts], indent=2)])
    elif prompts:
        head = ("PROMPT", "VERSION", "CONTENT HASH", "NAME", "USED BY")
        rows = [(p.family, p.version, p.content_hash, p.name, ", ".join(p.users) or "-") for p in prompts]
        _print(table(head, rows))
    else:
        _note(given, f"There is no PromptVersion in {registry.place}.")
    return SAME


def _row(stored: StoredPrompt) -> dict[str, Any]:
    return {
        "prompt": stored.family,
        "version": stored.version,
        "contentHash": stored.content_hash,
        "name": stored.name,
        "origin": stored.origin,
        "usedBy": list(stored.users),
    }


def _latest(given: argparse.Namespace) -> int:
    _print([_source(given).registry().latest(given.family, pre_releases=given.pre).name])
    return SAME


def _show(given: argparse.Namespace) -> int:
    found = _source(given).find(given.reference)
    if given.output == "text":
        _print(map(visible, described(found)))
        return SAME
    metadata = found.manifest.get("metadata") or {}
    kept = {name: metadata[name] for name in ("name", "namespace", "labels", "annotations") if metadata.get(name)}
    kept.get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    kept = {name: value for name, value in kept.items() if value}
    manifest = {
        "apiVersion": found.manifest["apiVersion"],
        "kind": "PromptVersion",
        "metadata": kept,
        "spec": found.raw,
    }
    text = yaml_text(manifest) if given.output == "yaml" else json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    _print([text.rstrip("\n")])
    return SAME


def _diff(given: argparse.Namespace) -> int:
    source = _source(given)
    old, new = source.find(given.old), source.find(given.new)
    _print(difference(old, new))
    return SAME if old.content_hash == new.content_hash else DIFFERENT


def _render(given: argparse.Namespace) -> int:
    found = _source(given).find(given.reference)
    _print([json.dumps(render(found.raw, _request(given, found)), indent=2, ensure_ascii=False)])
    return SAME


def _try(given: argparse.Namespace) -> int:
    found = _source(given).find(given.reference)
    request = _request(given, found)
    request["model"] = given.model or request.get("model") or served_model(given.url)
    body = render(found.raw, {**request, "stream": False})
    reply = complete(given.url, body, given.timeout)
    text = answer_text(reply.body)
    _print([visible(text)])
    _note(given, f"{found.reference} ({found.content_hash}) on {request['model']}: {summary(reply.body)}")
    if reply.served_prompt:
        _note(
            given,
            f"The server put {reply.served_prompt} in front as well; try an engine without a prompt to judge this one.",
        )
    schema = found.raw.get("outputSchema")
    if schema is not None and (why := violation(text, schema)):
        _note(given, f"The answer does not satisfy outputSchema: {why}.")
        return DIFFERENT
    return SAME


def _lint(given: argparse.Namespace) -> int:
    lines, failed = lint_command.lint_files(given)
    _print(lines)
    return DIFFERENT if failed else SAME


def _import(given: argparse.Namespace) -> int:
    return _exchanged(given, *exchange_command.imported(given))


def _export(given: argparse.Namespace) -> int:
    return _exchanged(given, *exchange_command.exported(given, _source(given).find(given.reference)))


def _exchanged(given: argparse.Namespace, text: str, notes: list[str]) -> int:
    _print([text])
    for note in notes:
        _note(given, note)
    return SAME


def _request(given: argparse.Namespace, found: StoredPrompt) -> Body:
    """The client's body that the arguments describe."""
    body: Body = {}
    if given.request:
        body = load_json(given.request, text_of(given.request, read_bytes(given.request)), parse_float=ExactFloat)
        if not isinstance(body, dict):
            raise InputError(f"{given.request} is not a JSON object; give the body of a chat completion.")
    if given.model:
        body["model"] = given.model
    messages = body.get("messages") or []
    if not isinstance(messages, list):
        raise InputError(f"{given.request}: messages is not a list; correct it.")
    body["messages"] = [*messages, *([{"role": "user", "content": given.user}] if given.user is not None else [])]
    kinds = {v["name"]: str(v.get("type") or "string").lower() for v in found.raw.get("variables") or ()}
    variables = body.get("prompt_variables") or {}
    for each in given.var:
        name, equals, value = each.partition("=")
        if not equals:
            raise InputError(f"--var {each[:80]!r} has no '='; write --var NAME=VALUE.")
        if name not in kinds:
            known = ", ".join(kinds) or "none"
            raise InputError(f"{found.reference} declares no variable {name[:80]!a}, but {known}; correct --var.")
        variables = {**variables, name: _typed(value, kinds[name])}
    return {**body, "prompt_variables": variables} if variables else body


def _typed(text: str, kind: str) -> object:
    """The JSON value of an argument; a text that is not of the declared type stays a text, and is refused later."""
    if kind == "string":
        return text
    try:
        value = json.loads(text, parse_float=ExactFloat, parse_int=int)
    except (ValueError, RecursionError):
        return text
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to 86400.")
    return value


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _note(given: argparse.Namespace, text: str) -> None:
    sys.stderr.write(f"serin prompt {given.prompt_command}: {visible(text)}\n")
