"""The n-gram table: which token mostly follows two others in the grammar's drafts.

Before it: `grammar` and `tokenizer`; no data and no model. After it: `bundle` seals ngrams.json, and
the server guesses with it what the step graph then verifies. A wrong guess costs time, never a token.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from tokenizers import Tokenizer

from . import grammar, tokenizer

ORDER = 3
MAX_ROWS = 20_000
SEED, SAMPLES = 1, 20_000


class Table(TypedDict):
    """The content of ngrams.json."""

    order: int
    next: list[list[int]]  # [a, b, c], sorted by (a, b), each pair once


Lookup = dict[tuple[int, int], int]


def sample(tokens: Tokenizer, rng: random.Random) -> list[int]:
    """A draft of the grammar as the decoder has to write it, <bos> first."""
    query = grammar.sample_query(rng)
    drafted = grammar.draft(
        query, grammar.sample_bands(rng), rng.randint(1, len(grammar.COUNTS)), grammar.sample_context(rng)
    )
    return [tokenizer.BOS, *tokenizer.target(tokens, drafted)]


def of(drafts: Iterable[Sequence[int]]) -> Table:
    """The table of given drafts, each with <bos> first. Of equally frequent tokens the lowest wins."""
    seen: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for draft in drafts:
        for a, b, c in zip(draft, draft[1:], draft[2:], strict=False):
            seen[a, b][c] += 1
    kept = sorted(seen, key=lambda pair: (-seen[pair].total(), pair))[:MAX_ROWS]
    rows = [[*pair, min(seen[pair], key=lambda token: (-seen[pair][token], token))] for pair in sorted(kept)]
    return {"order": ORDER, "next": rows}


def build(tokens: Tokenizer, seed: int = SEED, samples: int = SAMPLES) -> Table:
    """The table of the grammar's drafts: the same every time."""
    rng = random.Random(seed)
    return of(sample(tokens, rng) for _ in range(samples))


def write(file: Path, table: Table) -> None:
    """Writes ngrams.json."""
    file.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


def lookup(table: Table) -> Lookup:
    """The table to look up in. Every draft opens alike, so what follows <bos> is known as well."""
    return {(tokenizer.PAD, tokenizer.BOS): tokenizer.FINDINGS} | {(a, b): c for a, b, c in table["next"]}


def guesses(known: Lookup, written: Sequence[int], count: int) -> list[int]:
    """At most `count` guesses for what follows `written`, which starts with <bos>."""
    before, last = written[-2] if len(written) > 1 else tokenizer.PAD, written[-1]
    found: list[int] = []
    while len(found) < count and (before, last) in known:
        before, last = last, known[before, last]
        found.append(last)
    return found
