"""A continuous-batching engine like vLLM's, step by step, compiled. Called by `trial`.

The time of a step is `STEP` + `PER_SEQUENCE` times the running sequences + `PER_TOKEN` times the prompt tokens of the
step. Prompts are processed first come, first served, in chunks within a budget of tokens per step. The figures are
those of an 8B-class model on one GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.decision.kernel import Floats, Ints, compiled

STEP, PER_SEQUENCE, PER_TOKEN = 0.010, 0.00015, 0.00006
"""Seconds."""
TOKENS_PER_STEP, SEQUENCES = 2048, 128
"""Largest number of tokens in a step, and of sequences in the engine; more requests wait."""


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their arrival; one number per request in each array."""

    arrived: Floats
    """Seconds."""
    prompt: Ints
    """Tokens of the prompt."""
    output: Ints
    """Tokens of the answer, 1 or more."""
    cached: Floats
    """Share of the prompt that the prefix cache holds, 0 to 1."""

    def __len__(self) -> int:
        return len(self.arrived)

    def __getitem__(self, chosen: Ints) -> Requests:
        return Requests(self.arrived[chosen], self.prompt[chosen], self.output[chosen], self.cached[chosen])


@dataclass(frozen=True)
class Served:
    """When each request was admitted, had its first token, and ended; seconds."""

    admitted: Floats
    first: Floats
    ended: Floats


def draw(random: np.random.Generator, rate: float, seconds: float) -> Requests:
    """Poisson arrivals of `rate` per second with log-normal lengths, nothing cached."""
    n = int(random.poisson(rate * seconds))
    arrived = np.sort(random.random(n) * seconds)
    prompt = np.clip(random.lognormal(np.log(600), 1.0, n), 16, 8000).astype(np.int64)
    output = np.clip(random.lognormal(np.log(150), 0.8, n), 1, 2000).astype(np.int64)
    return Requests(arrived, prompt, output, np.zeros(n))


def serve(requests: Requests, slow: float = 1.0) -> Served:
    """Serve the requests on one engine whose steps take `slow` times as long."""
    todo = np.maximum(1, (requests.prompt * (1 - requests.cached)).astype(np.int64))
    return Served(*_serve(requests.arrived, todo, requests.output, STEP * slow, PER_SEQUENCE * slow, PER_TOKEN * slow))


@compiled
def _serve(
    arrived: Floats, todo: Ints, output: Ints, step: float, per_sequence: float, per_token: float
) -> tuple[Floats, Floats, Floats]:
    n = len(arrived)
    admitted, first, ended = np.zeros(n), np.zeros(n), np.zeros(n)
    left, running, active = np.zeros(SEQUENCES, np.int64), np.zeros(SEQUENCES, np.int64), 0
    prefilling, filling = np.zeros(SEQUENCES, np.int64), 0
    head, now, done = 0, 0.0, 0  # requests before `head` have been admitted
    while done < n:
        while head < n and arrived[head] <= now and active + filling < SEQUENCES:
            prefilling[filling] = head
            admitted[head] = now
            filling += 1
            head += 1
        if active + filling == 0:
            now = arrived[head]
            continue
        budget, used, complete = TOKENS_PER_STEP - active, 0, 0
        while complete < filling and budget > 0:
            request = prefilling[complete]
            taken = min(budget, todo[request])
            todo[request] -= taken
            budget -= taken
            used += taken
            if todo[request] > 0:
                break
            complete += 1
        now += step + per_sequence * active + per_token * used
        slot = 0
        while slot < active:
            left[slot] -= 1
            if left[slot] <= 0:
                ended[running[slot]] = now
                done += 1
                active -= 1
                left[slot], running[slot] = left[active], running[active]
            else:
                slot += 1
        for slot in range(complete):
            request = prefilling[slot]
            first[request] = now
            if output[request] <= 1:
                ended[request] = now
                done += 1
            else:
                left[active], running[active] = output[request] - 1, request
                active += 1
        for slot in range(complete, filling):
            prefilling[slot - complete] = prefilling[slot]
        filling -= complete
    return admitted, first, ended


def mean_load(arrived: Floats, ended: Floats, begin: Floats, end: Floats) -> Floats:
    """The mean number of requests in the engine from each `begin` to its `end`, the request itself included.

    The integral of the number over time at the end, minus that at the beginning, divided by the time: what the
    middleware computes from a counter. `arrived` and `ended` are of all requests of the engine.
    """
    times = np.concatenate([arrived, ended])
    order = np.argsort(times, kind="stable")
    times = times[order]
    number = np.cumsum(np.where(order < len(arrived), 1.0, -1.0))
    integral = np.concatenate([[0.0], np.cumsum(number[:-1] * np.diff(times))])
    spent = np.interp(end, times, integral) - np.interp(begin, times, integral)
    return np.asarray(spent / np.maximum(end - begin, 1e-9))
