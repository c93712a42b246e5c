"""The triage model and its training loop: a Llama of about a million parameters, trained on the CPU in minutes.

Called by __main__. Needs torch and transformers, hence the vLLM environment. The same steps and seed give the same
files: seeds, thread count and the order of batches are fixed. Not here: caching (__main__) and measuring (evaluate).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from model_server.tiny.corpus import example
from model_server.tiny.tokenizer import VOCABULARY, prompt_ids, train_tokenizer

# With several threads the order of sums, and so the model, would depend on the number of cores. One thread is also
# fastest on a busy machine: while a compiler ran, two threads waited for each other and took ten times as long.
THREADS = 1
LONGEST = 2048
WIDTH, LAYERS, HEADS, INNER = 128, 3, 4, 320
PEAK_RATE, WARMUP = 2e-3, 40
# The usual 0.02 is for wide models. With it, a model of this width does not learn to find the topic within 600 steps.
INITIAL_SPREAD = 0.08
# The model also learns to predict the prompt, with less weight, because it then learns the words sooner.
PROMPT_WEIGHT = 0.3
SHORT_BATCH, LONG_BATCH, LONG_EVERY = 32, 5, 3
REPORT_EVERY = 50
IGNORED = -100


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model; weights are drawn from torch's global generator."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        initializer_range=INITIAL_SPREAD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batch(tokenizer: PreTrainedTokenizerFast, rng: random.Random, *, long: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, and labels that cover the answer only. Padding is on the right, which causal attention ignores."""
    rows: list[tuple[list[int], list[int]]] = []
    for _ in range(LONG_BATCH if long else SHORT_BATCH):
        drawn = example(rng, long=long)
        prompt = prompt_ids(tokenizer, drawn.messages)
        answer = [*tokenizer(drawn.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for _, row in rows])
    return ids, labels


def rate(step: int, steps: int) -> float:
    """The learning rate: it rises for WARMUP steps, then falls as a cosine to a hundredth at the last step."""
    if step < WARMUP:
        return PEAK_RATE * (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def prompt_loss(logits: torch.Tensor, ids: torch.Tensor, pad: int) -> torch.Tensor:
    """The mean cross entropy of all next tokens, without padding."""
    wanted = ids.masked_fill(ids == pad, IGNORED)[:, 1:]
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def train(target: Path, steps: int, seed: int, say: Callable[[str], None]) -> None:
    """Train for `steps` batches and save model and tokenizer into `target`."""
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = train_tokenizer(rng, LONGEST)
    model = build_model(tokenizer)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        ids, labels = batch(tokenizer, rng, long=step % LONG_EVERY == LONG_EVERY - 1)
        output = model(input_ids=ids, labels=labels, use_cache=False)
        loss = output.loss
        optimizer.zero_grad()
        (loss + PROMPT_WEIGHT * prompt_loss(output.logits, ids, tokenizer.pad_token_id)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            spent = time.monotonic() - started
            say(f"step {step + 1} of {steps}, loss {loss.item():.4f}, {spent:.0f} s")
    # The precision that vLLM uses, so the evaluation measures the model that a pod serves.
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
