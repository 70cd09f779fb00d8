"""The tokenizer: byte-level BPE over the grammar's words, in the Hugging Face file format.

Before it: `grammar`. After it: `model` takes ids; the server reads the same tokenizer.json with
the Rust crate `tokenizers` (no onig needed: the only pattern is the byte-level one).
Byte-level, so no query can make an unknown token. Words of the grammar become one token each.
"""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from . import grammar

PAD, BOS, EOS, FINDINGS, IMPRESSION, QUERY = range(6)
VIEWS = ("unknown", "pa", "ap", "lateral")
AGES = ("unknown", "under_18", "18_39", "40_64", "65_89", "90_and_over")
SEXES = ("unknown", "female", "male", "other")
SPECIAL: tuple[str, ...] = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<findings>",
    "<impression>",
    "<query>",
    *(f"<view:{name}>" for name in VIEWS),
    *(f"<age:{name}>" for name in AGES),
    *(f"<sex:{name}>" for name in SEXES),
)
VOCABULARY = 1024
MAX_QUERY_TOKENS = 64
PREFIX_FILE = Path(__file__).with_name("prefix.txt")


def clean(text: str) -> str:
    """What is done to every input text before encoding; the server does the same."""
    return " ".join(text.split()).lower()


def prefix_text() -> str:
    """The eight-rule safety prefix."""
    return PREFIX_FILE.read_text(encoding="utf-8")


def build(seed: int = 1, samples: int = 6000) -> Tokenizer:
    """Learns the vocabulary from the grammar alone: no data needed, the same result every time."""
    rng = random.Random(seed)
    corpus = [f" {clean(prefix_text())}"] * 20
    for index in range(samples):
        query = grammar.sample_query(rng)
        drafted = grammar.draft(query, grammar.sample_bands(rng), 1 + index % 4, grammar.sample_context(rng))
        corpus += [f" {clean(query.text)}", f" {drafted.findings}", f" {drafted.impression}"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text, without special tokens. A special token's name in a text stays text."""
    safe = text.replace("<", "(").replace(">", ")")
    return list(tokenizer.encode(safe, add_special_tokens=False).ids) if safe else []


def text_input(tokenizer: Tokenizer, query: str, context: grammar.Context) -> list[int]:
    """Layout of `text_ids`: prefix, <query>, query, view, age, sex."""
    ids = encode(tokenizer, clean(prefix_text()))
    ids.append(QUERY)
    ids += encode(tokenizer, clean(query))[:MAX_QUERY_TOKENS]
    names = (f"<view:{context.view}>", f"<age:{context.age}>", f"<sex:{context.sex}>")
    ids += [SPECIAL.index(name) for name in names]
    return ids


def target(tokenizer: Tokenizer, drafted: grammar.Draft) -> list[int]:
    """What the decoder has to write, without <bos>."""
    return [
        FINDINGS,
        *encode(tokenizer, drafted.findings),
        IMPRESSION,
        *encode(tokenizer, drafted.impression),
        EOS,
    ]


def read(tokenizer: Tokenizer, ids: list[int]) -> grammar.Draft:
    """Splits decoded ids into sections; the server does the same."""
    sections: dict[int, list[int]] = {FINDINGS: [], IMPRESSION: []}
    current: list[int] | None = None
    for token in ids:
        if token == EOS:
            break
        if token in sections:
            current = sections[token]
        elif current is not None and token >= len(SPECIAL):
            current.append(token)
    texts = {key: str(tokenizer.decode(value)).strip() for key, value in sections.items()}
    return grammar.Draft(texts[FINDINGS], texts[IMPRESSION])
