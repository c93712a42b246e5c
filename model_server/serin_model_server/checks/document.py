"""The key `checks` of the split document: at most 16 checks, the same for both revisions.

A list that is not as described makes the whole document refused, as for every other key. What only the child process
can find out does not (a pattern or a schema that is not valid): then the result is `skipped`, because a check must
never stop a pod from following its split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from .answer import Judge
from .kinds import IN_CHILD, INLINE, PARAMETERS

MOST = 16
MOST_CHARACTERS = 65_536
"""Of the definition of one check, a schema aside."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

Refuse = Callable[[str], NoReturn]


@dataclass(frozen=True)
class Check:
    """One check of one revision."""

    name: str
    definition: str
    """What it asks, as text; counts of two checks with one name and different definitions do not belong together."""
    sample: float
    """Share of the answers that are checked."""
    judge: Judge | None
    """None: the child process has it."""
    task: str
    """What the child process gets: JSON of the kind and its parameters."""


@dataclass(frozen=True)
class Checks:
    """The checks of a document."""

    of_revision: Mapping[str, tuple[Check, ...]]
    definitions: Mapping[str, str]
    """By name."""


def read_checks(entries: Any, revisions: Any, refuse: Refuse) -> Checks | None:
    """The checks of a document; None without any.

    Args:
        entries: value of the key `checks`.
        revisions: value of the key `revisions`, which has been checked.
        refuse: called with a sentence about what is wrong.
    """
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list) or len(entries) > MOST:
        refuse(f"its checks are not a list of at most {MOST}")
    names: list[str] = []
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            refuse("a check has no name of letters, digits and '-'")
        names.append(name)
    if len(set(names)) != len(names):
        refuse("two of its checks have the same name")
    found = {
        each["revision"]: tuple(_check(entry, _schema(each.get("prompts")), refuse) for entry in entries)
        for each in revisions
    }
    return Checks(found, {check.name: check.definition for checks in found.values() for check in checks})


def _check(entry: Mapping[str, Any], schema: Any, refuse: Refuse) -> Check:
    name, kind, sample = entry["name"], entry.get("kind"), entry.get("sample", 1.0)
    if not isinstance(kind, str) or (kind not in INLINE and kind not in IN_CHILD):
        refuse(f"check {name} is of a kind that this pod does not know")
    if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 < sample <= 1:
        refuse(f"the sample of check {name} is not a number above 0 and at most 1")
    given = {key: value for key, value in entry.items() if key not in {"name", "kind", "sample"}}
    definition = json.dumps([kind, sample, given], sort_keys=True, ensure_ascii=False)
    if len(definition) > MOST_CHARACTERS:
        refuse(f"check {name} has more than {MOST_CHARACTERS:,} characters")
    judge = None
    if kind in IN_CHILD:
        if unknown := sorted(given.keys() - PARAMETERS[kind]):
            refuse(f"check {name} has an unknown parameter {unknown[0][:40]!a}")
        given |= {"outputSchema": schema} if kind == "Schema" else {}
    else:
        try:
            judge = INLINE[kind](given)
        except ValueError as error:
            refuse(f"check {name} cannot be used: {error}")
    return Check(name, definition, float(sample), judge, json.dumps([kind, given], sort_keys=True))


def _schema(prompts: Any) -> Any:
    """The output schema of a revision's prompt; None without one."""
    found: Iterable[Any] = prompts.values() if isinstance(prompts, dict) else ()
    return next((prompt.get("outputSchema") for prompt in found if isinstance(prompt, dict)), None)
