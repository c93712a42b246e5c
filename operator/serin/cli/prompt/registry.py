"""The prompts that a command can see: their order, and what a reference names. Pure.

A reference is the name of a PromptVersion (`triage-1.4.0`), a family with a version (`triage@1.4.0`), or a family alone
(`triage`), which names its latest release.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from serin.api.content_hash import content_hash
from serin.api.names import API_VERSION
from serin.api.parse import parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.cli.prompt.versions import is_pre_release, precedence
from serin.errors import InputError, SpecError
from serin.kube_types import Object

KIND = "PromptVersion"
USER_KIND = "LLMDeployment"
_SCHEMAS = frozenset({"outputSchema", "tools"})


@dataclass(frozen=True)
class StoredPrompt:
    """A valid PromptVersion."""

    name: str
    manifest: Object = field(repr=False)
    spec: PromptVersionSpec = field(repr=False)
    content_hash: str
    origin: str
    """File or namespace that it comes from."""
    users: tuple[str, ...] = ()
    """Names of the LLMDeployments that use it."""

    @property
    def family(self) -> str:
        """Name of the prompt, the same for all its versions."""
        return self.spec.prompt

    @property
    def version(self) -> str:
        """Its semantic version."""
        return self.spec.version

    @property
    def reference(self) -> str:
        """Family and version."""
        return f"{self.family}@{self.version}"

    @property
    def content(self) -> Object:
        """The spec without defaults, whether its author, the API server or nobody wrote them."""
        content: Object = self.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        # As it was written: a schema may hold what pydantic would change.
        return {name: self.raw[name] if name in _SCHEMAS else value for name, value in content.items()}

    @property
    def raw(self) -> Object:
        """The spec as it was written."""
        spec: Object = self.manifest["spec"]
        return spec


@dataclass(frozen=True)
class Registry:
    """All prompts that were read.

    Args:
        prompts: the valid ones, newest version first within a family.
        problems: one sentence for each invalid one.
        place: where they were read, for messages.
    """

    prompts: tuple[StoredPrompt, ...]
    problems: tuple[str, ...]
    place: str

    def of_family(self, family: str) -> list[StoredPrompt]:
        """All versions of a prompt, newest first.

        Raises:
            InputError: there is none.
        """
        found = [prompt for prompt in self.prompts if prompt.family == family]
        if not found:
            raise self._missing(f"no prompt {family}", family, {prompt.family for prompt in self.prompts})
        return found

    def latest(self, family: str, *, pre_releases: bool = False) -> StoredPrompt:
        """The version with the highest precedence; pre-releases count only if asked for, or if there is nothing else.

        Raises:
            InputError: there is none, or two PromptVersions have this version and differ.
        """
        found = self.of_family(family)
        released = [prompt for prompt in found if not is_pre_release(prompt.version)]
        best = (found if pre_releases else released or found)[0]
        return self._one([prompt for prompt in found if prompt.version == best.version], best.reference)

    def find(self, reference: str) -> StoredPrompt:
        """The prompt that a reference names.

        Raises:
            InputError: there is none, or more than one.
        """
        named = [prompt for prompt in self.prompts if reference in {prompt.name, prompt.reference}]
        if named:
            return self._one(named, reference)
        if any(prompt.family == reference for prompt in self.prompts):
            return self.latest(reference)
        known = {prompt.name for prompt in self.prompts} | {prompt.reference for prompt in self.prompts}
        raise self._missing(f"no PromptVersion {reference}", reference, known)

    def _one(self, found: Sequence[StoredPrompt], reference: str) -> StoredPrompt:
        if len({prompt.content_hash for prompt in found}) > 1:
            where = ", ".join(f"{prompt.name} ({prompt.origin})" for prompt in found[:5])
            raise InputError(
                f"{reference} names {len(found)} PromptVersions with different content: {where}; "
                "a version is immutable, so give one of them another version, or use its name."
            )
        return found[0]

    def _missing(self, what: str, wanted: str, known: Iterable[str]) -> InputError:
        near = difflib.get_close_matches(wanted[:253], sorted(known), n=3)
        if self.problems:
            advice = self.problems[0]
        elif near:
            advice = f"nearest: {', '.join(near)}."
        else:
            advice = "serin prompt list shows what there is."
        return InputError(f"There is {what} in {self.place}; {advice}")


def registry(manifests: Iterable[tuple[Object, str]], place: str) -> Registry:
    """The registry of manifests, each with its origin; other kinds than PromptVersion and LLMDeployment are ignored."""
    prompts: list[StoredPrompt] = []
    problems: list[str] = []
    users: dict[str, set[str]] = {}
    for manifest, origin in manifests:
        if manifest.get("apiVersion") != API_VERSION:
            continue
        if manifest.get("kind") == USER_KIND:
            for prompt in _used(manifest):
                users.setdefault(prompt, set()).add(name_of(manifest))
        elif manifest.get("kind") == KIND:
            try:
                prompts.append(stored(manifest, origin))
            except SpecError as error:
                problems.append(f"{name_of(manifest)} ({origin}) is invalid: {error}")
    found = [replace(prompt, users=tuple(sorted({*prompt.users, *users.get(prompt.name, ())}))) for prompt in prompts]
    return Registry(tuple(_ordered(found)), tuple(problems), place)


def stored(manifest: Object, origin: str) -> StoredPrompt:
    """A PromptVersion as it was read.

    Raises:
        SpecError: it breaks the schema or a rule.
    """
    spec = parse_promptversion(manifest)
    status = manifest.get("status")
    used_by = status.get("usedBy") if isinstance(status, dict) else None
    users = tuple(user for user in used_by if isinstance(user, str)) if isinstance(used_by, list) else ()
    return StoredPrompt(name_of(manifest), manifest, spec, content_hash(spec), origin, users)


def name_of(manifest: Object) -> str:
    """The name in the metadata, or a text that says that there is none."""
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name else "(no name)"


def _used(deployment: Object) -> list[str]:
    spec = deployment.get("spec")
    prompt = spec.get("prompt") if isinstance(spec, dict) else None
    name = prompt.get("name") if isinstance(prompt, dict) else None
    return [name] if isinstance(name, str) else []


def _ordered(prompts: list[StoredPrompt]) -> list[StoredPrompt]:
    """By family; within a family the newest version first."""
    prompts = sorted(prompts, key=lambda prompt: (prompt.version, prompt.name))
    prompts.sort(key=lambda prompt: precedence(prompt.version), reverse=True)
    return sorted(prompts, key=lambda prompt: prompt.family)
