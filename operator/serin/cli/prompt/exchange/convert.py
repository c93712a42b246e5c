"""`serin prompt import` and `export`: a file of another tool becomes a PromptVersion, and the other way round. Pure.

What a format has no field for goes into a map of its own in that format, which only `import` reads again. An exported
file is read again before it is handed out: what comes back must have the content hash of the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serin.api.names import ANNOTATION_IMPORTED_FROM, API_VERSION
from serin.api.prompt_template import PLACEHOLDER
from serin.api.promptversion import PromptVersionSpec
from serin.cli.prompt.exchange.dotprompt import DOTPROMPT
from serin.cli.prompt.exchange.form import Draft, File, Format
from serin.cli.prompt.exchange.langfuse import LANGFUSE
from serin.cli.prompt.exchange.mlflow import MLFLOW
from serin.cli.prompt.exchange.prompty import PROMPTY
from serin.cli.prompt.findings import Level
from serin.cli.prompt.lint import lint
from serin.cli.prompt.registry import KIND, StoredPrompt, stored
from serin.errors import InputError, SpecError
from serin.kube_types import Object

FORMATS = {"langfuse": LANGFUSE, "prompty": PROMPTY, "dotprompt": DOTPROMPT, "mlflow": MLFLOW}
_NOT_IN_EXTENSION = frozenset({"prompt", "version", "messages"})
_FIELDS = frozenset(field.alias or name for name, field in PromptVersionSpec.model_fields.items())


@dataclass(frozen=True)
class Wanted:
    """What the user says about an imported prompt; None: what the file says."""

    family: str | None = None
    version: str | None = None
    name: str | None = None
    """Name of the PromptVersion; None: made of family and version."""


def import_prompt(kind: str, file: File, wanted: Wanted) -> tuple[Object, list[str]]:
    """A valid PromptVersion, and notes for the user: what was left out, and what was assumed.

    Args:
        kind: a key of FORMATS.

    Raises:
        InputError: the file is not in the format, says what a PromptVersion cannot, or makes an invalid one.
    """
    form = FORMATS[kind]
    draft = form.decode(file)
    spec = _with_extension(form, file, draft)
    family = wanted.family or draft.family
    if family is None:
        raise InputError(f"{file.origin} does not name the prompt; give --prompt NAME.")
    version = wanted.version or _semantic(draft.version)
    if version is None:
        raise InputError(f"{file.origin} has no version; give --version, such as 1.0.0.")
    notes = [*draft.notes, *_declare_used(spec)]
    if draft.left_out:
        notes.append(f"Left out, because a PromptVersion has no field for it: {', '.join(draft.left_out)}.")
    source = f"{kind}: {' version '.join(str(part) for part in (draft.family, draft.version) if part) or file.origin}"
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": wanted.name or re.sub(r"[+_]", "-", f"{family}-{version}".lower()),
            "annotations": {ANNOTATION_IMPORTED_FROM: source},
        },
        "spec": {"prompt": family, "version": version, **_ordered(spec)},
    }
    _validate(manifest, file)
    return manifest, notes


def export_prompt(kind: str, prompt: StoredPrompt) -> tuple[str, list[str]]:
    """A prompt in another format, and notes for the user.

    Raises:
        InputError: the format cannot say it.
    """
    form, spec = FORMATS[kind], prompt.content
    plain = form.decode(File(form.title, form.encode(spec, {}))).spec
    extension = {
        name: value
        for name, value in spec.items()
        if name not in _NOT_IN_EXTENSION and not _same(plain.get(name), value)
    }
    text = form.encode(spec, extension)
    _require_same(form, text, prompt)
    notes = list(form.notes(spec))
    if extension:
        notes.append(
            f"{form.title} has no field for {', '.join(extension)}: only serin prompt import reads {form.extension}."
        )
    return text, notes


def _semantic(version: str | None) -> str | None:
    """A version that is a mere number as a semantic one."""
    plain = version is not None and re.fullmatch("[0-9]{1,9}", version)
    return f"{int(plain[0])}.0.0" if plain else version


def _require_same(form: Format, text: str, prompt: StoredPrompt) -> None:
    """Refuse an exported file that would not come back as it was."""
    wanted = Wanted(prompt.family, prompt.version, prompt.name)
    name = next(name for name, known in FORMATS.items() if known is form)
    manifest, _ = import_prompt(name, File(form.title, text), wanted)
    if stored(manifest, "").content_hash != prompt.content_hash:
        raise InputError(f"{form.title} cannot say {prompt.reference} exactly; simplify it, or choose another format.")


def _with_extension(form: Format, file: File, draft: Draft) -> Object:
    """The spec with the fields of the extension, which must agree with what the format itself says."""
    extension = draft.extension
    for name in extension:
        if name not in _FIELDS or name in _NOT_IN_EXTENSION:
            file.refuse(form.extension, f"{name!a} is no field that stands here; remove it.")
    both = [name for name in extension if name in draft.spec]
    if both:
        whole = {"prompt": draft.family or "prompt", "version": "1.0.0", **draft.spec, **extension}
        again = form.decode(File(file.origin, form.encode(whole, {}), file.role)).spec
        for name in both:
            if not _same(again.get(name), draft.spec[name]):
                file.refuse(
                    form.extension,
                    f"{name} was changed outside of {form.extension} after the export; change it there, too, or "
                    "remove it there.",
                )
    return {**draft.spec, **extension}


def _declare_used(spec: Object) -> list[str]:
    """Declare variables that the messages use; returns a note about them."""
    declared = spec.get("variables") or []
    known = {variable.get("name") for variable in declared if isinstance(variable, dict)}
    texts = [message.get("content") or "" for message in spec.get("messages") or ()]
    used = dict.fromkeys(name for text in texts for name in PLACEHOLDER.findall(text))
    missing = [name for name in used if name not in known]
    if not missing:
        return []
    spec["variables"] = [*declared, *({"name": name, "required": True} for name in missing)]
    return [f"Declared as required, because the file does not declare them: {', '.join(missing)}."]


def _validate(manifest: Object, file: File) -> None:
    errors = [finding for finding in lint(manifest) if finding.level is Level.ERROR]
    if errors:
        # The name of the PromptVersion is made of that of the prompt, so that comes first.
        first = next((finding for finding in errors if finding.where == "spec.prompt"), errors[0])
        advice = {"spec.prompt": " (--prompt)", "spec.version": " (--version)", "metadata.name": " (--name)"}
        where = f"{first.where}{advice.get(first.where, '')}"
        raise InputError(f"{file.origin} makes no valid PromptVersion: {where}: {first.message}")
    try:
        stored(manifest, file.origin)
    except SpecError as error:
        raise InputError(f"{file.origin} makes no valid PromptVersion: {error}") from error


def _ordered(spec: Object) -> Object:
    """The fields in the order of the API."""
    names: Iterable[str] = (field.alias or name for name, field in PromptVersionSpec.model_fields.items())
    return {name: spec[name] for name in names if name in spec}


def _same(one: Any, other: Any) -> bool:
    # As JSON, because in Python true equals 1.
    return one is not None and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
