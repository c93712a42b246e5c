"""The command `serin evidence`: runs the tests on slices given as JSON lines, to check the operator's arithmetic. Pure.

A line `{"reset": {"alpha": …, "margin": …, "cap": …, "min_stratum": …}}` starts a trial; its keys are the fields of
`Parameters`, each optional. Any other line is a slice with the keys `n1`, `x1`, `n0`, `x0`, and optionally `t`, `epoch`
and `young`; `"young": true` keeps the stratum open (`ConditionalTest.add`). Each slice gives one line of output.
Invalid input gives `{"error": …}` and is otherwise ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Slice

_COUNTS = ("n1", "x1", "n0", "x0")
_ALWAYS_NAMED = ("alpha", "margin", "cap", "min_stratum")
_PARAMETERS = {parameter.name for parameter in fields(Parameters)}


@dataclass(frozen=True)
class RecordedTrial:
    """The test and the proof of one trial that is computed again from its slices."""

    test: ConditionalTest
    proof: NonInferiority = field(default_factory=NonInferiority)

    def add(self, s: Slice, *, young: bool) -> RecordedTrial:
        """The trial with one more slice."""
        return RecordedTrial(self.test.add(s, young=young), self.proof.add(s))

    @property
    def line(self) -> dict[str, Any]:
        """The output line."""
        return {
            "log_e": self.test.log_e,
            "evidence": self.test.evidence,
            "rolled_back": self.test.rolled_back,
            "non_inferiority_log_e": self.proof.log_e,
            "proven": self.proof.proven,
        }


def replay(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The output for each line, in order; blank lines give none."""
    trial = RecordedTrial(ConditionalTest())
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = _read(line)
        except ValueError as error:
            yield {"error": f"Line {number}: {error}"}
            continue
        if isinstance(read, Parameters):
            trial = RecordedTrial(ConditionalTest(read))
        else:
            s, young = read
            trial = trial.add(s, young=young)
            yield trial.line


def _read(line: str) -> Parameters | tuple[Slice, bool]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("This is not JSON; give one JSON object per line.") from error
    if not isinstance(data, dict):
        raise ValueError("This is not a JSON object; give a slice or a reset.")  # noqa: TRY004 - all bad input is a ValueError
    return _parameters(data) if "reset" in data else _slice(data)


def _parameters(data: dict[str, Any]) -> Parameters:
    given = data["reset"]
    if not isinstance(given, dict) or len(data) > 1 or not given.keys() <= _PARAMETERS:
        raise ValueError(
            f"A reset must be an object with some of the keys {', '.join(sorted(_PARAMETERS))}; correct its keys."
        )
    for name, value in given.items():
        if name == "of_rates":
            if not isinstance(value, bool):
                raise ValueError("of_rates must be true or false; give one.")
        elif not (_is_number(value) or (name == "cap" and value is None)):
            raise ValueError(f"{name} must be a number; give one.")
    for name in ("min_stratum", "most_open"):
        if not isinstance(given.get(name, 1), int):
            raise ValueError(f"{name} must be a whole number; give one.")  # noqa: TRY004 - as above
    return Parameters(**given)


def _slice(data: dict[str, Any]) -> tuple[Slice, bool]:
    young = data.pop("young", False)
    unknown = data.keys() - {*_COUNTS, "t", "epoch"}
    if unknown or not data.keys() >= set(_COUNTS):
        raise ValueError(
            f"A slice must have the keys {', '.join(_COUNTS)}, and can have t, epoch and young; correct its keys."
        )
    for name in (*_COUNTS, "epoch"):
        if not (_is_number(data.get(name, 0)) and isinstance(data.get(name, 0), int)):
            raise ValueError(f"{name} must be a whole number; give one.")
        if abs(data.get(name, 0)) > LARGEST:
            raise ValueError(f"{name} is outside the range 0 to {LARGEST}; split the slice.")
    if not (data.get("t") is None or _is_number(data["t"])):
        raise ValueError("t must be a number; give seconds since the canary's first traffic.")
    if not isinstance(young, bool):
        raise ValueError("young must be true or false; give one.")  # noqa: TRY004 - as above
    return Slice(**data), young


def parameters_of(parameters: Parameters) -> dict[str, Any]:
    """The keys of a reset with these parameters; those that few trials set are left out at their defaults."""
    default = asdict(Parameters())
    return {
        name: value for name, value in asdict(parameters).items() if name in _ALWAYS_NAMED or value != default[name]
    }


LARGEST = 10**12
"""Largest count that is accepted; floating point represents every whole number up to it exactly."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
