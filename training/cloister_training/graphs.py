"""The exported graphs in ONNX Runtime, run as the server runs them.

Before it: `export` wrote the graphs. After it: `parity` compares them with PyTorch, and the
evaluation drafts with them. Every row has the same capacity of past places, as on the server: a row's
tokens then depend on neither its batch mates nor on how many tokens a call verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import tokenizer
from .export import kv_names
from .model import Config
from .ngrams import Lookup, Table, guesses, lookup

Floats = NDArray[np.float32]
Array = NDArray[Any]  # f32 or i64, as the graph's README entry says
MAX_TOKENS = 160
FILMS_AT_ONCE = 8


class Drafted(NamedTuple):
    """A greedy draft."""

    tokens: list[int]  # the end token included, <bos> not
    logprob: float  # mean over the tokens; exp of it is the server's confidence


class Graphs:
    """The three graphs, one thread unless told otherwise."""

    def __init__(self, folder: Path, config: Config, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.config = config
        self.vision, self.prefix_graph, self.step_graph = (
            onnxruntime.InferenceSession(
                str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for name in ("vision", "prefix", "step")
        )
        self.cross_names = kv_names("k", "v", config.decoder_layers)
        self.past_names = kv_names("past_k", "past_v", config.decoder_layers)
        self.new_names = kv_names("new_k", "new_v", config.decoder_layers)

    # --- One call each --------------------------------------------------------------------------

    def see(self, pixels: Array) -> tuple[Floats, Floats]:
        """Tokens and label logits of films `[films,1,H,W]`."""
        parts = [
            self.vision.run(["tokens", "logits"], {"pixels": pixels[start : start + FILMS_AT_ONCE]})
            for start in range(0, len(pixels), FILMS_AT_ONCE)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def prefix(self, image: Array, films: Array, texts: Array, mask: Array) -> dict[str, Array]:
        """Cross keys and values, and `cross_mask`, by name."""
        names = [*self.cross_names, "cross_mask"]
        feed = {"image_tokens": image, "film_mask": films, "text_ids": texts, "text_mask": mask}
        return dict(zip(names, self.prefix_graph.run(names, feed), strict=True))

    def step(
        self,
        ids: Array,
        lengths: Array,
        cross: dict[str, Array],
        past: dict[str, Array],
        names: Sequence[str] = ("top_ids", "top_logprobs", "logsumexp", "logits"),
    ) -> dict[str, Array]:
        """One call; `lengths` are both positions and valid past lengths."""
        wanted = [*names, *self.new_names]
        feed = {"ids": ids, "positions": lengths, "past_length": lengths, **cross, **past}
        return dict(zip(wanted, self.step_graph.run(wanted, feed), strict=True))

    def empty_past(self, batch: int, capacity: int = 0, fill: float = 0.0) -> dict[str, Array]:
        """A past with no valid places; what stands in the others is not looked at."""
        shape = (batch, self.config.heads, capacity, self.config.head_width)
        return {name: np.full(shape, fill, dtype=np.float32) for name in self.past_names}

    def keep(self, past: dict[str, Array], out: dict[str, Array], lengths: Array) -> None:
        """Writes a step's new keys and values behind each row's `lengths`; what does not fit is
        behind the last token that will be asked for."""
        rows = np.arange(len(lengths))
        for old, new in zip(self.past_names, self.new_names, strict=True):
            for ahead in range(out[new].shape[2]):
                places = lengths + ahead
                fit = places < past[old].shape[2]
                past[old][rows[fit], :, places[fit]] = out[new][fit, :, ahead]

    # --- Whole requests -------------------------------------------------------------------------

    def encode(self, image: Sequence[Floats], texts: Sequence[Sequence[int]]) -> dict[str, Array]:
        """`prefix` for requests of 1 to 4 films, tokens `[films,50,192]`, and text ids, padded."""
        config, rows = self.config, len(texts)
        films = np.zeros((rows, config.max_films, *image[0].shape[1:]), dtype=np.float32)
        film_mask = np.zeros((rows, config.max_films), dtype=np.int64)
        ids = np.full((rows, max(map(len, texts))), tokenizer.PAD, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, (seen, text) in enumerate(zip(image, texts, strict=True)):
            films[row, : len(seen)], film_mask[row, : len(seen)] = seen, 1
            ids[row, : len(text)], mask[row, : len(text)] = text, 1
        return self.prefix(films, film_mask, ids, mask)

    def teacher_forced(
        self, cross: dict[str, Array], drafts: Sequence[Sequence[int]], at_once: int, ragged: bool = False
    ) -> list[Floats]:
        """Logits `[tokens,V]` of given drafts of encoded requests, run as one batch, `at_once` tokens
        a call. If ragged, one row more joins at every call, as on the server, so that no two stand at
        the same place."""
        given = [[tokenizer.BOS, *draft[:-1]] for draft in drafts]
        past = self.empty_past(len(given), MAX_TOKENS, fill=7.0)
        lengths = np.zeros(len(given), dtype=np.int64)
        rows: list[list[Floats]] = [[] for _ in given]
        call = 0
        while any(length < len(draft) for length, draft in zip(lengths, given, strict=True)):
            # Rows that have not joined or have ended run along with padding; nobody looks at them.
            ids = np.full((len(given), at_once), tokenizer.PAD, dtype=np.int64)
            pieces = [
                draft[length : length + at_once] if call >= row or not ragged else []
                for row, (length, draft) in enumerate(zip(lengths, given, strict=True))
            ]
            for row, piece in enumerate(pieces):
                ids[row, : len(piece)] = piece
            out = self.step(ids, lengths, cross, past, ("logits",))
            self.keep(past, out, lengths)
            for row, piece in enumerate(pieces):
                rows[row].append(out["logits"][row, : len(piece)])
            lengths = lengths + np.array([len(piece) for piece in pieces], dtype=np.int64)
            call += 1
        return [np.concatenate(parts) for parts in rows]

    def greedy_batch(
        self, cross: dict[str, Array], at_once: int = 1, known: Lookup | None = None
    ) -> list[Drafted]:
        """Greedy drafts of encoded requests. With `at_once` > 1 a call verifies guesses from `known`:
        a guess counts only where the model itself would have written it."""
        count = len(cross["cross_mask"])
        written = [[tokenizer.BOS] for _ in range(count)]
        logprobs: list[list[float]] = [[] for _ in range(count)]
        places, done = list(range(count)), set[int]()
        past = self.empty_past(count, MAX_TOKENS)
        while len(done) < count:
            if 4 * sum(row not in done for row in places) <= 3 * len(places):  # else copying costs more
                kept = [place for place, row in enumerate(places) if row not in done]
                places = [places[place] for place in kept]
                cross = {name: value[kept] for name, value in cross.items()}
                past = {name: value[kept] for name, value in past.items()}
            ids = np.full((len(places), at_once), tokenizer.PAD, dtype=np.int64)
            for place, row in enumerate(places):
                guessed = guesses(known or {}, written[row], at_once - 1)
                ids[place, : 1 + len(guessed)] = [written[row][-1], *guessed]
            lengths = np.array([len(written[row]) - 1 for row in places], dtype=np.int64)
            out = self.step(ids, lengths, cross, past, ("top_ids", "top_logprobs"))
            self.keep(past, out, lengths)
            for place, row in enumerate(places):
                for ahead in range(0 if row in done else at_once):
                    token = int(out["top_ids"][place, ahead, 0])
                    written[row].append(token)
                    logprobs[row].append(float(out["top_logprobs"][place, ahead, 0]))
                    if token == tokenizer.EOS or len(written[row]) > MAX_TOKENS:
                        done.add(row)
                        break
                    if ahead + 1 < at_once and ids[place, ahead + 1] != token:
                        break
        return [Drafted(row[1:], float(np.mean(logprobs[at]))) for at, row in enumerate(written)]

    def draft(
        self,
        image: Sequence[Floats],
        texts: Sequence[Sequence[int]],
        batch: int = 16,
        at_once: int = 1,
        ngrams: Table | None = None,
    ) -> list[Drafted]:
        """Greedy drafts in the order of the requests: film tokens `[films,50,192]` of any vision, and
        text ids. Requests of like length share a batch."""
        known = lookup(ngrams) if ngrams else None
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found: dict[int, Drafted] = {}
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            cross = self.encode([image[row] for row in rows], [texts[row] for row in rows])
            found |= dict(zip(rows, self.greedy_batch(cross, at_once, known), strict=True))
        return [found[row] for row in range(len(texts))]
