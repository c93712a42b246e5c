"""The program of the child process: it judges what it is sent, one check after the other.

Frames on its standard input: four bytes of length, then `marshal` of (tasks, choices), written by `process` of the same
Python. It answers with one byte per task, as soon as that is known. It ends when its input does, and the kernel ends it
when a check takes too long, whether or not its parent is still there. A check that raises is `skipped`: nothing may end
the others.
"""

from __future__ import annotations

import json
import marshal
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO

from .answer import NOT_ASKED, RESULTS, SKIPPED, Choice, Judge, overall
from .kinds import IN_CHILD, prepare

READY = 255
CODES = (*RESULTS, NOT_ASKED)
"""The byte of a result is its place here."""
CPU_SECONDS = 0.5
"""After so much time of a processor for one check, the kernel ends the process; a busy machine alone does not."""
MOST_MEMORY = 2 << 30
"""Bytes of address space."""
_NICER = 5


def main() -> None:
    """Judge until the input ends."""
    with suppress(OSError, ValueError):
        os.nice(_NICER)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    source, answers = sys.stdin.buffer, os.dup(1)
    # Whatever prints must not answer.
    os.dup2(2, 1)
    for kind in IN_CHILD:
        with suppress(Exception):
            prepare(kind, {})  # imports its module
    os.write(answers, bytes([READY]))
    while (frame := _frame(source)) is not None:
        tasks, choices = marshal.loads(frame)  # noqa: S302 - from the parent
        choices = [Choice(*choice) for choice in choices]
        for task in tasks:
            # Nothing handles the signal, so it also ends code that never returns to the interpreter.
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            result = _judge(task, choices)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(answers, bytes([CODES.index(result)]))


def _judge(task: str, choices: list[Choice]) -> str:
    judge = _prepared(task)
    if judge is None:
        return SKIPPED
    try:
        return overall(map(judge, choices))
    except Exception:  # noqa: BLE001 - too deep, too large: it cannot be checked
        return SKIPPED


@lru_cache(maxsize=64)
def _prepared(task: str) -> Judge | None:
    """The check of a task; None if it is not valid, which is logged once."""
    try:
        kind, given = json.loads(task)
        return prepare(kind, given)
    except Exception as error:  # noqa: BLE001 - as above
        # To the engine's log.
        print(
            f"serin: a check of kind {task[2:20]!a} is skipped: {str(error)[:300]}. Correct it in "
            "spec.analysis.metrics or in the PromptVersion; a package that is missing belongs to vLLM's image.",
            file=sys.stderr,
            flush=True,
        )
        return None


def _frame(source: BinaryIO) -> bytes | None:
    length = source.read(4)
    if len(length) < 4:
        return None
    size = int.from_bytes(length, "big")
    frame = source.read(size)
    return frame if len(frame) == size else None
