"""Compares the exported graphs with PyTorch, and writes the file by which the server checks itself.

Before it: `export`. After it: `bundle` seals graphs and parity.json together.
The inputs are phantoms made of integers, so that Rust draws the same pixels bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from . import tokenizer
from .data import MEAN, STD
from .export import kv_names
from .grammar import Context
from .model import Config, TextModel, Vision

Array = NDArray[np.float32] | NDArray[np.int64]
MAX_TOKENS = 160
FORMULA = (
    "v(x,y,film) = (a + b) mod 256, a = (31*x + 17*y + 59*film + (x*y) div 16) mod 64, "
    "b = 180 if min(dl,dr) < 2025 + 400*film else 40, dl = (x-70)^2 + ((y-110)^2) div 3, "
    "dr = (x-154)^2 + ((y-110)^2) div 3; pixels[y][x] = (f32(v)/255 - mean)/std, all in f32"
)


def phantom(film: int, size: int) -> NDArray[np.float32]:
    """The film of `FORMULA`: two ellipses on a woven ground."""
    y, x = np.mgrid[0:size, 0:size].astype(np.int64)
    weave = (31 * x + 17 * y + 59 * film + (x * y) // 16) % 64
    left = (x - 70) ** 2 + (y - 110) ** 2 // 3
    right = (x - 154) ** 2 + (y - 110) ** 2 // 3
    lungs = np.where(np.minimum(left, right) < 2025 + 400 * film, 180, 40)
    value = ((weave + lungs) % 256).astype(np.float32)
    return (value / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


@dataclass(frozen=True)
class Case:
    """One request: films by phantom number, query, context."""

    name: str
    films: tuple[int, ...]
    query: str
    context: Context


CASES = (
    Case("one_film_full_report", (0,), "", Context("pa", "40_64", "female")),
    Case(
        "two_films_one_question",
        (1, 2),
        "Cough. Is there pleural effusion?",
        Context("ap", "65_89", "male"),
    ),
)


@dataclass
class Inputs:
    """A request as tensors, batch of one."""

    pixels: Tensor  # [films,1,H,W]
    text_ids: Tensor  # [1,S]


def inputs(case: Case, tokens: Tokenizer, config: Config) -> Inputs:
    """Draws the films and lays out the text."""
    planes = np.stack([phantom(film, config.image) for film in case.films])[:, None]
    ids = tokenizer.text_input(tokens, case.query, case.context)
    return Inputs(torch.from_numpy(planes), torch.tensor([ids]))


def film_slots(tokens: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Zero-pads film tokens `[films,T,D]` to `[1,max_films,T,D]`, with the mask."""
    films = tokens.shape[0]
    slots = torch.zeros(1, config.max_films, *tokens.shape[1:])
    slots[0, :films] = tokens
    mask = torch.zeros(1, config.max_films, dtype=torch.long)
    mask[0, :films] = 1
    return slots, mask


@torch.no_grad()
def greedy(vision: Vision, text: TextModel, given: Inputs) -> tuple[Tensor, list[int], Tensor]:
    """PyTorch's greedy draft: film logits, tokens, and log-probabilities per step `[n,V]`."""
    tokens, _, logits = vision(given.pixels)
    slots, mask = film_slots(tokens, text.config)
    keys, values, cross_mask = text.prefix(slots, mask, given.text_ids, torch.ones_like(given.text_ids))
    cross = list(zip(keys, values, strict=True))
    past, written, rows = text.no_past(1), [tokenizer.BOS], []
    for position in range(MAX_TOKENS):
        at = torch.tensor([position])
        out, new_keys, new_values = text.step(torch.tensor([[written[-1]]]), at, cross_mask, cross, past, at)
        past = [
            (torch.cat([old[0], key], 2), torch.cat([old[1], value], 2))
            for old, key, value in zip(past, new_keys, new_values, strict=True)
        ]
        rows.append(torch.log_softmax(out[0, -1].double(), dim=-1))
        written.append(int(rows[-1].argmax()))
        if written[-1] == tokenizer.EOS:
            break
    return logits, written[1:], torch.stack(rows)


class Graphs:
    """The exported graphs in ONNX Runtime, one thread, as the server runs them."""

    def __init__(self, folder: Path, config: Config) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
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

    def see(self, pixels: Array) -> tuple[Array, Array]:
        """Tokens and label logits of films."""
        tokens, logits = self.vision.run(["tokens", "logits"], {"pixels": pixels})
        return tokens, logits

    def prefix(self, image: Array, films: Array, texts: Array, mask: Array) -> dict[str, Array]:
        """Cross keys and values, and `cross_mask`, by name."""
        names = [*self.cross_names, "cross_mask"]
        feed = {"image_tokens": image, "film_mask": films, "text_ids": texts, "text_mask": mask}
        return dict(zip(names, self.prefix_graph.run(names, feed), strict=True))

    def step(
        self, ids: Array, lengths: Array, cross: dict[str, Array], past: dict[str, Array]
    ) -> dict[str, Array]:
        """One call; `lengths` are both positions and valid past lengths."""
        names = ["top_ids", "top_logprobs", "logsumexp", "logits", *self.new_names]
        feed = {"ids": ids, "positions": lengths, "past_length": lengths, **cross, **past}
        return dict(zip(names, self.step_graph.run(names, feed), strict=True))

    def empty_past(self, batch: int, capacity: int = 0, fill: float = 0.0) -> dict[str, Array]:
        """A past with no valid places."""
        shape = (batch, self.config.heads, capacity, self.config.head_width)
        return {name: np.full(shape, fill, dtype=np.float32) for name in self.past_names}

    def request(self, case: Case, tokens: Tokenizer) -> tuple[Array, Array, Array]:
        """Film slots, film mask and text ids of a case, films seen by the exported encoder."""
        given = inputs(case, tokens, self.config)
        seen, _ = self.see(given.pixels.numpy())
        slots, mask = film_slots(torch.from_numpy(seen), self.config)
        return slots.numpy(), mask.numpy(), given.text_ids.numpy()

    def greedy(self, case: Case, tokens: Tokenizer) -> tuple[list[int], NDArray[np.float32]]:
        """The exported graphs' draft, alone, and its full logits per step."""
        slots, mask, texts = self.request(case, tokens)
        cross = self.prefix(slots, mask, texts, np.ones_like(texts))
        past, written, rows = self.empty_past(1), [tokenizer.BOS], []
        for position in range(MAX_TOKENS):
            ids = np.array([[written[-1]]], dtype=np.int64)
            out = self.step(ids, np.array([position], dtype=np.int64), cross, past)
            for new, old in zip(self.new_names, self.past_names, strict=True):
                past[old] = np.concatenate([past[old], out[new]], axis=2)
            rows.append(out["logits"][0, 0])
            written.append(int(out["top_ids"][0, 0, 0]))
            if written[-1] == tokenizer.EOS:
                break
        return written[1:], np.stack(rows)

    def teacher_forced(
        self, cases: list[Case], drafts: list[list[int]], tokens: Tokenizer, at_once: int, capacity: int
    ) -> list[NDArray[np.float32]]:
        """Logits of given drafts, run as one batch, `at_once` tokens a call, with a past of fixed
        capacity whose unused places hold rubbish."""
        parts = [self.request(case, tokens) for case in cases]
        longest = max(part[2].shape[1] for part in parts)
        widths = [longest - part[2].shape[1] for part in parts]
        texts = np.concatenate(
            [np.pad(part[2], ((0, 0), (0, width))) for part, width in zip(parts, widths, strict=True)]
        )
        mask = np.concatenate(
            [
                np.pad(np.ones_like(part[2]), ((0, 0), (0, width)))
                for part, width in zip(parts, widths, strict=True)
            ]
        )
        slots = np.concatenate([part[0] for part in parts])
        cross = self.prefix(slots, np.concatenate([part[1] for part in parts]), texts, mask)
        given = [[tokenizer.BOS, *draft[:-1]] for draft in drafts]
        past = self.empty_past(len(cases), capacity, fill=7.0)
        rows: list[list[NDArray[np.float32]]] = [[] for _ in cases]
        for start in range(0, max(map(len, given)), at_once):
            # A row that has ended goes on with padding: its results are not looked at.
            ids = np.zeros((len(cases), at_once), dtype=np.int64)
            for row, draft in enumerate(given):
                piece = draft[start : start + at_once]
                ids[row, : len(piece)] = piece
            out = self.step(ids, np.full(len(cases), start, dtype=np.int64), cross, past)
            for new, old in zip(self.new_names, self.past_names, strict=True):
                past[old][:, :, start : start + at_once] = out[new]
            for row, draft in enumerate(given):
                rows[row] += list(out["logits"][row, : max(0, len(draft) - start)])
        return [np.stack(row[: len(draft)]) for row, draft in zip(rows, given, strict=True)]


def check(folder: Path, vision: Vision, text: TextModel, tokens: Tokenizer) -> dict[str, float]:
    """Largest differences; raises if a token differs anywhere."""
    graphs = Graphs(folder, text.config)
    alone: list[NDArray[np.float32]] = []
    drafts: list[list[int]] = []
    figures = {"torch_logprob": 0.0, "vision_logit": 0.0}
    for case in CASES:
        given = inputs(case, tokens, text.config)
        logits, written, reference = greedy(vision, text, given)
        got, rows = graphs.greedy(case, tokens)
        if got != written:
            raise ValueError(f"{case.name}: ONNX Runtime writes other tokens than PyTorch")
        ours = torch.log_softmax(torch.from_numpy(rows).double(), dim=-1)
        figures["torch_logprob"] = max(figures["torch_logprob"], float((ours - reference).abs().max()))
        seen = torch.from_numpy(graphs.see(given.pixels.numpy())[1])
        figures["vision_logit"] = max(figures["vision_logit"], float((seen - logits).abs().max()))
        alone.append(rows)
        drafts.append(got)
    order = [0, 1, 1, 0, 1, 0, 0, 1]
    for name, at_once, which in (("batch_8", 1, order), ("n_3", 3, [0]), ("n_3_batch_8", 3, order)):
        got_rows = graphs.teacher_forced(
            [CASES[index] for index in which], [drafts[index] for index in which], tokens, at_once, 192
        )
        worst = 0.0
        for index, rows in zip(which, got_rows, strict=True):
            if rows.argmax(axis=-1).tolist() != drafts[index]:
                raise ValueError(f"{name}: other tokens than alone")
            worst = max(worst, float(np.abs(rows - alone[index]).max()))
        figures[name] = worst
    return figures


def write(file: Path, vision: Vision, text: TextModel, tokens: Tokenizer) -> None:
    """Writes parity.json: inputs by formula, PyTorch's answers in full precision."""
    cases = []
    for case in CASES:
        given = inputs(case, tokens, text.config)
        logits, written, rows = greedy(vision, text, given)
        values, ids = rows.topk(5, dim=-1)
        cases.append(
            {
                "name": case.name,
                "films": list(case.films),
                "query": case.query,
                "view": case.context.view,
                "age": case.context.age,
                "sex": case.context.sex,
                "text_ids": given.text_ids[0].tolist(),
                "label_logits": [[round(value, 6) for value in row] for row in logits.tolist()],
                "tokens": written,
                "draft": vars(tokenizer.read(tokens, written)),
                "top_ids": ids.tolist(),
                "top_logprobs": [[round(value, 6) for value in row] for row in values.tolist()],
            }
        )
    content = {
        "about": "PyTorch's greedy answers on phantoms; tokens must agree, numbers within tolerance.",
        "pixels": FORMULA,
        "tolerance": {"label_logits": 0.002, "top_logprobs": 0.002},
        "cases": cases,
    }
    file.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
