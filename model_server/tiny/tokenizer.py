"""Byte-pair encoding of 640 tokens with a chat template, trained on the corpus.

Called by train. Needs `tokenizers` and `transformers`, hence the vLLM environment. The template is saved with the
tokenizer, so vLLM's `/v1/chat/completions` works with the directory. Not here: the training texts (corpus).
"""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from model_server.tiny.corpus import Example, example

VOCABULARY = 640
PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SAMPLE = 3000
LONG_EVERY = 10
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(rng: random.Random, longest: int) -> PreTrainedTokenizerFast:
    """A tokenizer for prompts of at most `longest` tokens; the same `rng` gives the same one."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        # Single digits: numbers have no meaning here and must not fill the vocabulary.
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((_plain(example(rng, long=n % LONG_EVERY == 0)) for n in range(SAMPLE)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=TEMPLATE,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def _plain(drawn: Example) -> str:
    return "\n".join([*(content for _, content in drawn.messages), drawn.answer])


def prompt_ids(tokenizer: PreTrainedTokenizerFast, messages: tuple[tuple[str, str], ...]) -> list[int]:
    """The tokens of a conversation up to the assistant's answer, as vLLM computes them for a chat request."""
    conversation = [{"role": role, "content": content} for role, content in messages]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
