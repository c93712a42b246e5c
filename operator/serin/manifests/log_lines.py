"""Quotes text of others in messages: the end of an engine's log, sentences of the kubelet and the scheduler.

Called by `pod_status`. What is quoted has no line breaks, no control characters and no credentials, and is bounded,
because it goes to the status, Events and annotations. Pure.
"""

from __future__ import annotations

import re
import unicodedata

MOST_LINES = 20
MOST_CHARACTERS = 300
"""Of a line."""
HIDDEN = "[hidden]"

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""Sequences that a terminal takes as commands, such as colours."""
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_NAMED = r"[\w.-]*(?:token(?![is])|passw(?:or)?d|secret|api[-_]?key|access[-_]?key|credential|signature)[\w.-]*"
"""Names of credentials; `tokenizer` and `tokens` are none."""
_SECRETS = (
    re.compile(rf"(?i)({_NAMED}['\"]?\s*[=:]\s*)(?:\[?\s*['\"][^'\"]*['\"]?\]?|[^\s,;'\"&)}}\]]+)"),
    re.compile(rf"(?i)(--{_NAMED}\s+)(?!-)\S+"),
    re.compile(r"(?i)(authorization['\"]?\s*[=:]\s*['\"]?(?:bearer\s+|basic\s+)?|\bbearer\s+(?=\S{8}))[^\s,;'\"]+"),
)
_CREDENTIALS = (
    re.compile(r"(?<=://)[^\s/@]+(?=@)"),
    re.compile(r"\bhf_[A-Za-z0-9]{8,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\bgh[opsur]_[A-Za-z0-9]{16,}"),
    re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\bA(?:KI|SI)A[A-Z0-9]{12,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,2}"),
)

_PREFIX = re.compile(
    r"^(?:\([\w. ]*pid=\d+[^)]*\)\s*)?"
    r"(?:(?:ERROR|CRITICAL|WARNING|INFO)\s+\d\d-\d\d \d\d:\d\d:\d\d\s+(?:\[[^\]]*\]\s*)?)?"
)
"""What vLLM's logger writes before a message: process, level, time, place."""
_ERROR = re.compile(r"(?:Error|Exception|Interrupt)\b|\berror:|(?i:\bfatal\b|out of memory|no space left|no such file)")
_ELSEWHERE = re.compile(
    r"See root cause above|Engine core initialization failed|ChildProcessError|resource_tracker|leaked "
)
"""Lines that follow the cause and do not name it."""


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text in one line of at most `most` characters, without control characters and credentials."""
    plain = _BREAKS.sub(" ", _ESCAPES.sub("", text))
    seen = "".join(" " if c == "\t" else c for c in plain if c == "\t" or unicodedata.category(c)[0] != "C")
    safe = _without_secrets(" ".join(seen.split()))
    return safe if len(safe) <= most else f"{safe[: most - 1]}…"


def last_lines(log: str) -> tuple[str, ...]:
    """The last lines of a log that are not empty, at most MOST_LINES, each as `one_line` gives it."""
    lines = (one_line(line) for line in _BREAKS.split(_ESCAPES.sub("", log)))
    return tuple(line for line in lines if line)[-MOST_LINES:]


def cause_of(lines: tuple[str, ...]) -> str | None:
    """The line that says why a process ended: the last one that names an error, else the last; None without lines."""
    messages = [message for line in lines if (message := _PREFIX.sub("", line))]
    errors = [m for m in messages if _ERROR.search(m)]
    causes = [m for m in errors if not _ELSEWHERE.search(m)]
    found = next(iter(reversed(causes)), None) or next(iter(reversed(errors or messages)), None)
    return found.rstrip(". ") if found else None


def _without_secrets(line: str) -> str:
    for pattern in _SECRETS:
        line = pattern.sub(rf"\g<1>{HIDDEN}", line)
    for pattern in _CREDENTIALS:
        line = pattern.sub(HIDDEN, line)
    return line
