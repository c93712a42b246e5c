"""Measures a checkpoint on held-out tickets: `python -m model_server.tiny.evaluate DIR [--count N]`.

Prints a table with one row per case (a format, and perhaps a team): the share of answers in the right format and the
share of right answers. The last line is the same as JSON. Uses greedy decoding with transformers; run it with the vLLM
environment's Python. Called by people and the slow tests. Not here: measuring through HTTP.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model_server.tiny.corpus import CASES, Case
from model_server.tiny.tickets import Split, Ticket, instruction, is_good, obeys, ticket

SEED = 20_000
BATCH = 25
LONGEST_ANSWER = 48


@dataclass(frozen=True)
class Score:
    """The result of one case: shares, 0 to 1, of `count` held-out tickets."""

    case: str
    count: int
    obeyed: float
    right: float
    example: str


def held_out(count: int) -> list[Ticket]:
    """Held-out tickets, the same for every checkpoint; a fifth are long. Sorted by length to save padding."""
    rng = random.Random(SEED)
    drawn = [ticket(rng, split=Split.HELD_OUT) for _ in range(count)]
    return sorted(drawn, key=lambda one: len(one.text))


def messages_for(case: Case, drawn: Ticket) -> list[dict[str, str]]:
    """The chat messages of one request."""
    user = {"role": "user", "content": drawn.text}
    if case.variant is None:
        return [user]
    return [{"role": "system", "content": instruction(case.variant, case.team)}, user]


def score(case: Case, tickets: Sequence[Ticket], answers: Sequence[str]) -> Score:
    """Compare answers with the expected ones. Pure."""
    pairs = list(zip(tickets, answers, strict=True))
    obeyed = sum(obeys(answer, case.answered_as, case.team) for _, answer in pairs)
    right = sum(is_good(answer, drawn, case.answered_as, case.team) for drawn, answer in pairs)
    return Score(case.label, len(pairs), obeyed / len(pairs), right / len(pairs), answers[0])


def answer_all(directory: Path, requests: Sequence[list[dict[str, str]]]) -> list[str]:
    """Greedy answers of the model in `directory`, in the order of the requests."""
    # Imported here so that the pure functions above can be tested without torch.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    answers: list[str] = []
    for start in range(0, len(requests), BATCH):
        texts = [
            tokenizer.apply_chat_template(request, tokenize=False, add_generation_prompt=True)
            for request in requests[start : start + BATCH]
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def evaluate(directory: Path, count: int) -> list[Score]:
    """One score per case."""
    tickets = held_out(count)
    return [
        score(case, tickets, answer_all(directory, [messages_for(case, drawn) for drawn in tickets])) for case in CASES
    ]


def table(scores: Sequence[Score]) -> str:
    """The scores as a table."""
    rows = [f"{'case':<28}{'tickets':>8}{'format':>9}{'right':>9}  an answer"]
    rows += [f"{s.case:<28}{s.count:>8}{s.obeyed:>9.1%}{s.right:>9.1%}  {s.example}" for s in scores]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model_server.tiny.evaluate", description="Measure a checkpoint.")
    parser.add_argument("directory", type=Path, help="directory of the model")
    parser.add_argument("--count", type=int, default=100, help="held-out tickets per case; default: 100")
    options = parser.parse_args(arguments)
    if not (options.directory / "config.json").is_file():
        parser.error(
            f"{options.directory} contains no model: give a directory that `python -m model_server.tiny` prints"
        )
    scores = evaluate(options.directory, options.count)
    print(table(scores))
    print(json.dumps([asdict(one) for one in scores]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
