"""Command line of the tiny model: trains it if the cache does not have it, and prints its directory as the last line.

`python -m model_server.tiny [--steps N] [--seed N] [--out DIR]`, run with the vLLM environment's Python (if the model
is cached, any Python will do). Called by the sandbox, the demo and the slow tests. Not here: training (train) and
measuring (evaluate).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.host.cache import building, cache_root, key_of

HERE = Path(__file__).parent
RECIPE = ("tickets.py", "corpus.py", "tokenizer.py", "train.py")
LOCK = HERE.parent / "cpu" / "requirements.txt"
DEFAULT_STEPS = 700
DEFAULT_SEED = 7


def say(message: str) -> None:
    """Print a progress line."""
    print(f"tiny: {message}", flush=True)


def model_key(steps: int, seed: int) -> str:
    """The directory name of a trained model; it depends on sources, library versions and arguments."""
    sources = [(HERE / name).read_bytes() for name in RECIPE]
    return key_of(str(steps), str(seed), LOCK.read_bytes(), *sources)


def trained(steps: int, seed: int) -> Path:
    """The directory of a model trained for `steps`; it is trained if the cache does not have it."""
    target = cache_root() / "models" / model_key(steps, seed)
    with building(target) as partial:
        if partial is None:
            say("already trained")
        else:
            # Imported here because a caller with a cached model needs no torch.
            from model_server.tiny.train import train  # noqa: PLC0415

            train(partial, steps, seed, say)
            # safetensors makes files readable by their owner only, but the pod runs as another user.
            for file in partial.iterdir():
                file.chmod(0o644)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 if this Python cannot train."""
    parser = argparse.ArgumentParser(prog="python -m model_server.tiny", description="Train the tiny triage model.")
    parser.add_argument(
        "--steps", type=int, default=DEFAULT_STEPS, help="number of training batches; fewer give a worse model"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of all random choices")
    parser.add_argument("--out", type=Path, help="also copy the model into this directory")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    try:
        path = trained(options.steps, options.seed)
    except ModuleNotFoundError as error:
        print(
            f"tiny: {error.name} is not installed in {sys.executable}: "
            "run this with bin/python in the directory that `python3 -m model_server.cpu.install` prints.",
            file=sys.stderr,
        )
        return 1
    if options.out:
        shutil.copytree(path, options.out, dirs_exist_ok=True)
        path = options.out
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
