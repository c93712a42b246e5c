"""The split document: which revisions a pod serves, at which weights, in which epoch, and what the pod measures.

Pure: bytes in, a checked document out. `channel` reads the bytes, `selection` uses the document. The operator writes
the document; still, nothing in it is trusted: a document that is not exactly as described is refused as a whole, with a
sentence that says why. What a document may cost is bounded: its bytes, its depth, its elements.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeGuard

from .checks.document import Checks, read_checks
from .labels import EPOCHS, NO_EPOCH, Identity
from .prompting.prompt import Prompt, PromptInvalid, parse_prompts

SCHEMA = 1
FULL_WEIGHT = 10_000
"""Weights are parts of 10,000."""
MAX_BYTES = 1 << 20
MAX_DEPTH = 72
"""A prompt may be nested 64 deep, and begins at the fifth level of the document."""
MAX_ELEMENTS = 20_000
"""Brackets and commas outside of texts. They, not bytes, are what parsing takes time for."""
METRICS = ("ttft", "tpot", "e2e", "queue")
MAX_BOUNDARIES = 6
"""Boundaries per metric."""
MAX_RATIO = 10.0
LOAD_BUCKETS = 20
MAX_SALT_BYTES = 64
"""As many bytes as a blake2b key may have."""
DIGEST_LENGTH = 12
"""Hex digits of the hash that name a document in metrics."""

_REVISION = re.compile(r"[0-9a-f]{10}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_TOKEN = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A text, to be skipped (an unterminated one up to the end, so that it is read only once), a bracket or a comma.
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]},]', re.DOTALL)


class DocumentRefused(Exception):  # noqa: N818 - the word of the metric and of the condition
    """The document is not used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a trial has pinned for the pods to count."""

    boundaries: Mapping[str, tuple[float, ...]]
    """Seconds, by metric (one of METRICS); a boundary's number is its place here, from 0. At most six per metric."""
    load_from: float
    """Mean number of requests in the engine below which the load bucket is 0."""
    load_ratio: float
    """Growth from one load bucket to the next, above 1 and at most 10."""

    def bucket(self, load: float) -> int:
        """The number of a load's bucket, from 0 to 19; `load` is a mean number of requests in the engine."""
        if load < self.load_from:
            return 0
        # As a difference, because a quotient can be infinite. The tolerance lets a load on the lower end of a bucket
        # belong to that bucket in spite of rounding.
        above = (math.log(load) - math.log(self.load_from)) / math.log(self.load_ratio)
        return min(LOAD_BUCKETS - 1, 1 + math.floor(above + 1e-9))


@dataclass(frozen=True, slots=True)
class Key:
    """What of a request decides between the revisions, so that equal requests get the same one."""

    header: bytes | None
    """Name of a header, in lower case; None: the first user message of the conversation."""


@dataclass(frozen=True, slots=True)
class Document:
    """A checked split document. A request takes one at its headers and uses it to its end."""

    digest: str
    """First 12 hex digits of its hash."""
    sequence: int
    epoch: str | None
    """Epoch that the pod stamps itself; None if the gateway splits and stamps."""
    revisions: tuple[str, ...]
    """One revision, or the stable and the canary."""
    canary_weight: int
    """Parts of 10,000 for the second revision; 0 if there is only one."""
    salt: bytes
    token: bytes = field(repr=False)
    """What the header x-serin-epoch must have after the epoch."""
    reveal: bool
    """Whether responses name their revision."""
    measure: Measure | None
    checks: Checks | None
    """What is asked about each answer."""
    unstamped: Identity
    """Labels of a request that no split handled."""
    stamped: Mapping[bytes, Identity] = field(repr=False)
    """Labels by the epoch in the header; for a document in which the gateway splits."""
    split: tuple[Identity, ...]
    """Labels by the place in `revisions`; for a document in which the pod splits."""
    prompts: Mapping[str, Prompt] = field(default_factory=dict, repr=False)
    """Prompts by revision; a revision that has none is missing."""
    key: Key | None = None
    """None: each request is drawn at random."""
    access_log: bool = False
    """Whether the engine's log has a line for each request."""

    @property
    def needs_body(self) -> bool:
        """Whether the body decides which revision answers."""
        return self.key is not None and self.key.header is None and 0 < self.canary_weight < FULL_WEIGHT


def parse(raw: bytes) -> Document:
    """The document in these bytes.

    Raises:
        DocumentRefused: it is too large, is not JSON, does not match its hash, or is not as schema 1 says.
    """
    if len(raw) > MAX_BYTES:
        _refuse(f"it has more than {MAX_BYTES:,} bytes")
    _check_structure(raw)
    try:
        # As text, because json would guess the encoding of bytes.
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(f"it is not JSON: {_short(error)}")
    if not isinstance(content, dict):
        _refuse("it is not a JSON object")
    digest = _check_hash(content)
    # Only now: of a document of another schema nothing else is known.
    if not _is_int(content.get("schema")) or content["schema"] != SCHEMA:
        _refuse(f"its schema is {_short(content.get('schema'))}; this pod knows schema {SCHEMA}")
    return _document(content, digest)


def canonical(content: Mapping[str, Any]) -> bytes:
    """The bytes that the hash is over: the document without `sha256`, keys sorted, no spaces, UTF-8.

    Raises:
        ValueError: it has a number that is not finite, or half of a surrogate pair.
    """
    hashed = {name: value for name, value in content.items() if name != "sha256"}
    return json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _check_structure(raw: bytes) -> None:
    """Bound what parsing costs before it begins; the document of a trial has a handful of brackets and commas."""
    if sum(map(raw.count, (b"[", b"{", b","))) <= MAX_DEPTH:
        return
    depth = elements = 0
    for token in _STRUCTURE.finditer(raw):
        first = raw[token.start()]
        if first in b'"':
            continue
        elements += 1
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_DEPTH:
            _refuse(f"it is nested more than {MAX_DEPTH} deep")
        if elements > MAX_ELEMENTS:
            _refuse(f"it has more than {MAX_ELEMENTS:,} brackets and commas")


def _check_hash(content: Mapping[str, Any]) -> str:
    expected = content.get("sha256")
    if not isinstance(expected, str) or not _SHA256.fullmatch(expected):
        _refuse("its sha256 is missing or is not 64 hex digits")
    try:
        actual = hashlib.sha256(canonical(content)).hexdigest()
    except (ValueError, RecursionError) as error:
        _refuse(f"it has no canonical form: {_short(error)}")
    if actual != expected:
        _refuse(f"its content has the hash {actual[:DIGEST_LENGTH]}, but its sha256 is {expected[:DIGEST_LENGTH]}")
    return expected[:DIGEST_LENGTH]


def _document(content: Mapping[str, Any], digest: str) -> Document:
    sequence, epoch, token = content.get("sequence"), content.get("epoch"), content.get("token")
    if not _is_int(sequence) or sequence < 0:
        _refuse("its sequence is not a whole number from 0 on")
    if "epoch" not in content or (epoch is not None and not (_is_int(epoch) and 0 <= epoch < EPOCHS)):
        _refuse(f"its epoch is neither null nor a whole number from 0 to {EPOCHS - 1}")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        _refuse("its token is missing or is not 16 hex digits")
    reveal, access_log = content.get("reveal", False), content.get("accessLog", False)
    if not isinstance(reveal, bool):
        _refuse("its reveal is neither true nor false")
    if not isinstance(access_log, bool):
        _refuse("its accessLog is neither true nor false")
    revisions, canary_weight = _revisions(content.get("revisions"))
    if epoch is None and len(revisions) > 1:
        _refuse("it has two revisions but no epoch: if the gateway splits, a pod serves one revision")
    return Document(
        digest=digest,
        sequence=sequence,
        epoch=None if epoch is None else str(epoch),
        revisions=revisions,
        canary_weight=canary_weight,
        salt=_salt(content.get("salt")),
        token=token.encode(),
        reveal=reveal,
        measure=_measure(content.get("measure")),
        checks=read_checks(content.get("checks"), content["revisions"], _refuse),
        unstamped=Identity(revisions[0], NO_EPOCH),
        stamped={str(number).encode(): Identity(revisions[0], str(number)) for number in range(EPOCHS)},
        split=() if epoch is None else tuple(Identity(revision, str(epoch)) for revision in revisions),
        prompts=_prompts(content["revisions"]),
        key=_key(content.get("key")),
        access_log=access_log,
    )


def _prompts(entries: Any) -> dict[str, Prompt]:
    """The prompts of checked entries, by revision."""
    try:
        found = {entry["revision"]: parse_prompts(entry.get("prompts")) for entry in entries}
    except PromptInvalid as invalid:
        _refuse(str(invalid))
    return {revision: prompt for revision, prompt in found.items() if prompt is not None}


def _key(value: Any) -> Key | None:
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() == {"conversation"} and isinstance(value["conversation"], dict):
        return Key(header=None)
    header = value.get("header") if isinstance(value, dict) and value.keys() == {"header"} else None
    if not isinstance(header, str) or not _HEADER.fullmatch(header.lower()):
        _refuse("its key names neither a header nor the conversation")
    return Key(header=header.lower().encode())


def _revisions(entries: Any) -> tuple[tuple[str, ...], int]:
    """The revisions, and the canary's weight."""
    if not isinstance(entries, list) or len(entries) not in {1, 2}:
        _refuse("its revisions are not a list of one or two")
    names: list[str] = []
    weights: list[int] = []
    for entry in entries:
        name, weight = (entry.get("revision"), entry.get("weight")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not _REVISION.fullmatch(name):
            _refuse("a revision is not 10 hex digits")
        if not _is_int(weight) or not 0 <= weight <= FULL_WEIGHT:
            _refuse(f"the weight of revision {name} is not a whole number from 0 to {FULL_WEIGHT:,}")
        names.append(name)
        weights.append(weight)
    if len(set(names)) != len(names):
        _refuse(f"it has the revision {names[0]} twice")
    if sum(weights) != FULL_WEIGHT:
        _refuse(f"its weights add up to {sum(weights):,}, not to {FULL_WEIGHT:,}")
    return tuple(names), weights[1] if len(weights) > 1 else 0


def _salt(value: Any) -> bytes:
    salt = value.encode() if isinstance(value, str) else None
    if salt is None or len(salt) > MAX_SALT_BYTES:
        _refuse(f"its salt is not a text of at most {MAX_SALT_BYTES} bytes")
    return salt


def _measure(value: Any) -> Measure | None:
    if value is None:
        return None
    load = value.get("load") if isinstance(value, dict) else None
    boundaries = value.get("boundaries") if isinstance(value, dict) else None
    if not isinstance(load, dict) or not isinstance(boundaries, dict):
        _refuse("its measure lacks an object `load` or an object `boundaries`")
    start, ratio = _positive(load.get("from")), _positive(load.get("ratio"))
    if start is None or ratio is None or not 1 < ratio <= MAX_RATIO:
        _refuse(f"its measure needs load.from above 0 and load.ratio above 1 and at most {MAX_RATIO:g}")
    checked: dict[str, tuple[float, ...]] = {}
    for metric, seconds in boundaries.items():
        if metric not in METRICS:
            _refuse(f"its measure names the metric {_short(metric)}; this pod knows {', '.join(METRICS)}")
        numbers = [_positive(each) for each in seconds] if isinstance(seconds, list) else []
        found = tuple(number for number in numbers if number is not None)
        if not 1 <= len(found) <= MAX_BOUNDARIES or len(found) != len(numbers):
            _refuse(f"its boundaries of {metric} are not 1 to {MAX_BOUNDARIES} numbers above 0")
        checked[metric] = found
    return Measure(checked, load_from=start, load_ratio=ratio)


def _positive(value: Any) -> float | None:
    """The number, if it is finite and above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _is_int(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number; for Python, true and false are numbers, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has a key twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _short(found: Any) -> str:
    """What was found, in at most 80 characters, because it goes to a log."""
    text = str(found) if isinstance(found, Exception) else ascii(found)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse(why: str) -> NoReturn:
    raise DocumentRefused(why)
