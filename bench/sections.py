"""Pages of results whose sections are measured separately. Pure but for git.

Called by the benchmarks `rollback`, `model_server` and, for the commit, `switching`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence


def joined(before: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """The sections of a page, in order; those that were not measured are kept as they are in `before`.

    Args:
        before: the page so far; may be empty.
        sections: text by title; the commit is added.
        order: titles of all sections.
    """
    old = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", before, re.MULTILINE | re.DOTALL))
    at = f"\nAt {commit()}."
    texts = {title: f"{text.strip()}\n{at}" for title, text in sections.items()}
    return "\n\n".join(
        f"## {title}\n\n{(texts.get(title) or old[title]).strip()}" for title in order if title in {*old, *texts}
    )


def commit() -> str:
    """The short hash of the checkout's commit."""
    where = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return where.stdout.strip() or "an unknown commit"
