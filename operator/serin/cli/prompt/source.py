"""Where a command finds prompts: the files that are named, or the cluster.

The client of Kubernetes is imported only where the cluster is asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from serin.cli.prompt.files import is_file_reference, read_documents
from serin.cli.prompt.registry import Registry, StoredPrompt, registry, stored
from serin.errors import InputError, SpecError

_REFERENCE = re.compile(r"[a-z0-9][-a-z0-9.]{0,252}(@[0-9A-Za-z.+-]{1,64})?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Source:
    """Files, or a namespace of a cluster."""

    files: Sequence[str] = ()
    """Files and folders; none: the cluster."""
    namespace: str | None = None
    context: str | None = None

    def registry(self) -> Registry:
        """All prompts.

        Raises:
            InputError: the files or the cluster cannot be read.
        """
        if self.files:
            return of_files(self.files)
        from serin.cli.prompt.cluster import list_prompts  # noqa: PLC0415 - takes a second, and files need none

        objects, namespace = asyncio.run(list_prompts(self._checked_namespace(), self.context))
        return registry([(obj, f"namespace {namespace}") for obj in objects], f"namespace {namespace}")

    def find(self, reference: str) -> StoredPrompt:
        """The prompt that a reference names; a file is also a reference.

        Raises:
            InputError: there is none, or more than one, or it is invalid.
        """
        if is_file_reference(reference):
            return only_one(of_files([reference]))
        if not _REFERENCE.fullmatch(reference):
            raise InputError(
                f"{reference[:80]!r} names no prompt; write the name of a PromptVersion, FAMILY@VERSION, FAMILY or "
                "a file."
            )
        if self.files or "@" in reference:
            return self.registry().find(reference)
        from serin.cli.prompt.cluster import get_prompt  # noqa: PLC0415 - as above

        # By name, one object is enough, and so is the right to get it.
        obj, namespace = asyncio.run(get_prompt(reference, self._checked_namespace(), self.context))
        if obj is None:
            return self.registry().find(reference)
        try:
            return stored(obj, f"namespace {namespace}")
        except SpecError as error:
            raise InputError(f"PromptVersion {reference} in namespace {namespace} is invalid: {error}") from error

    def _checked_namespace(self) -> str | None:
        if self.namespace is not None and not _NAMESPACE.fullmatch(self.namespace):
            raise InputError(f"{self.namespace[:80]!r} is no namespace; write lower case letters, digits and '-'.")
        return self.namespace


def of_files(paths: Sequence[str]) -> Registry:
    """The prompts of files and folders.

    Raises:
        InputError: one cannot be read.
    """
    documents = [document for path in paths for document in read_documents(path)]
    return registry([(d.manifest, d.origin) for d in documents], ", ".join(paths))


def only_one(found: Registry) -> StoredPrompt:
    """The single prompt of a file.

    Raises:
        InputError: there is none, or more than one, or it is invalid.
    """
    if found.problems:
        raise InputError(found.problems[0])
    if len(found.prompts) != 1:
        raise InputError(
            f"{found.place} holds {len(found.prompts)} PromptVersions; give a file with one, or -f and a name."
        )
    return found.prompts[0]
