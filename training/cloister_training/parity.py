"""Compares the exported graphs with PyTorch and with each other, and writes the file by which the
server checks itself.

Before it: `export` and `quantise`. After it: `bundle` seals graphs and parity.json together.
`check` needs no films: its inputs are phantoms made of integers, so that Rust draws the same pixels
bit for bit. `agreement` (int8 against f32) and `identical` (alone, in a batch, several tokens a call)
take the caller's requests: only real films say how often a rounded weight changes a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from . import ngrams, tokenizer
from .data import MEAN, STD
from .export import vision_names
from .grammar import Context
from .graphs import MAX_TOKENS as MAX_TOKENS
from .graphs import Drafted, Floats
from .graphs import Graphs as Graphs
from .model import Config, TextModel, Vision

TOLERANCE = 1e-4  # of a log-probability, relative: |a - b| / max(1, |b|)
BATCH = 8
AT_ONCE = (1, 3, 8)
TEACHER_AT_ONCE = 32
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
    Case("three_films_empty_query_nothing_stated", (3, 0, 4), "", Context()),
    Case("four_films_full_report", (2, 5, 1, 6), "Please report.", Context("ap", "18_39", "other")),
    Case(
        "one_film_two_questions", (7,), "Fever. Any pneumonia or a mass?", Context("pa", "under_18", "male")
    ),
    Case("four_films_not_assessed", (3, 3, 8, 0), "ptx?", Context("lateral", "90_and_over", "female")),
    Case(
        "one_film_long_query",
        (9,),
        "Seen on [DATE]. " + "Weight loss, smoker, routine check. " * 4 + "Look for nodules please",
        Context("pa", "65_89", "unknown"),
    ),
    Case("two_films_odd_words", (4, 7), "Žluťoučký kůň? <eos>", Context("unknown", "40_64", "female")),
)


@dataclass(frozen=True)
class Request:
    """Films as `vision` takes them, `[films,1,H,W]`, and text ids."""

    pixels: Floats
    text_ids: list[int]


def request(case: Case, tokens: Tokenizer, config: Config) -> Request:
    """Draws the films and lays out the text."""
    planes = np.stack([phantom(film, config.image) for film in case.films])[:, None]
    return Request(planes, tokenizer.text_input(tokens, case.query, case.context))


# --- PyTorch ------------------------------------------------------------------------------------


def film_slots(tokens: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Zero-pads film tokens `[films,T,D]` to `[1,max_films,T,D]`, with the mask."""
    films = tokens.shape[0]
    slots = torch.zeros(1, config.max_films, *tokens.shape[1:])
    slots[0, :films] = tokens
    mask = torch.zeros(1, config.max_films, dtype=torch.long)
    mask[0, :films] = 1
    return slots, mask


def _prefix_inputs(vision: Vision, text: TextModel, given: Request) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen = vision(torch.from_numpy(given.pixels))[0]
    slots, mask = film_slots(seen, text.config)
    ids = torch.tensor([given.text_ids])
    return slots, mask, ids, torch.ones_like(ids)


@torch.no_grad()
def greedy(vision: Vision, text: TextModel, given: Request) -> tuple[list[int], Tensor]:
    """PyTorch's greedy draft, a token a step, and its log-probabilities per step `[n,V]`."""
    keys, values, cross_mask = text.prefix(*_prefix_inputs(vision, text, given))
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
    return written[1:], torch.stack(rows)


@torch.no_grad()
def forced(vision: Vision, text: TextModel, given: Request, draft: Sequence[int]) -> Tensor:
    """PyTorch's log-probabilities `[n,V]` before each token of a given draft, all in one pass."""
    ids = torch.tensor([[tokenizer.BOS, *draft[:-1]]])
    return torch.log_softmax(text(*_prefix_inputs(vision, text, given), ids)[0].double(), dim=-1)


# --- Graphs against PyTorch ---------------------------------------------------------------------


def relative(ours: Tensor, reference: Tensor) -> float:
    """Largest difference, relative where the reference is larger than one."""
    return float(((ours - reference).abs() / reference.abs().clamp(min=1.0)).max())


def way(batch: int, at_once: int) -> str:
    """`batch_8`, `n_3`, `n_3_batch_8`."""
    parts = [f"n_{at_once}"] * (at_once > 1) + [f"batch_{batch}"] * (batch > 1)
    return "_".join(parts) or "alone"


def check(folder: Path, vision: Vision, text: TextModel, tokens: Tokenizer) -> dict[str, float]:
    """Largest differences over all cases between the graphs of a folder and the modules that they
    were made of (for int8 graphs: `dequantised`). Raises if something is further off than
    `TOLERANCE`, or if a token differs anywhere.

    Log-probabilities are compared at every position and over the whole vocabulary, for two drafts a
    case: its own, and the next case's, which it finds surprising. `torch_logprob` and `vision` (all
    four outputs) are relative differences to PyTorch; `vision_logit` is absolute; the others (`n_3`,
    `batch_8`, ...) are the largest absolute differences of a logit from the same row alone at n = 1.
    """
    graphs = Graphs(folder, text.config)
    given = [request(case, tokens, text.config) for case in CASES]
    own = [greedy(vision, text, one)[0] for one in given]
    texts = [one.text_ids for one in given]
    figures = {"positions": 0.0}

    def worse(name: str, value: float) -> None:
        figures[name] = float(np.maximum(figures.get(name, 0.0), value))  # NaN stays

    names = vision_names()[1]
    for one in given:
        with torch.no_grad():
            expected = dict(zip(names, vision(torch.from_numpy(one.pixels)), strict=True))
        seen = dict(zip(names, graphs.vision.run(names, {"pixels": one.pixels}), strict=True))
        worse("vision_logit", float(np.abs(seen["logits"] - expected["logits"].numpy()).max()))
        for name in names:
            worse("vision", relative(torch.from_numpy(seen[name]).double(), expected[name].double()))
    image = [graphs.see(one.pixels)[0] for one in given]
    rows = range(len(given))
    cross = [graphs.encode([image[row]], [texts[row]]) for row in rows]
    together = graphs.encode(image, texts)
    for drafts in (own, own[1:] + own[:1]):
        reference = [forced(vision, text, one, draft) for one, draft in zip(given, drafts, strict=True)]
        figures["positions"] += sum(map(len, drafts))
        alone: list[Floats] = []
        for at_once in AT_ONCE:
            single = [graphs.teacher_forced(cross[row], [drafts[row]], at_once)[0] for row in rows]
            alone = alone or single
            batch = graphs.teacher_forced(together, drafts, at_once, ragged=True)
            for name, got in ((way(1, at_once), single), (way(BATCH, at_once), batch)):
                for row, logits in enumerate(got):
                    ours = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1)
                    worse("torch_logprob", relative(ours, reference[row]))
                    if name != way(1, 1):
                        worse(name, float(np.abs(logits - alone[row]).max()))
    for name in ("vision", "torch_logprob"):
        if not figures[name] <= TOLERANCE:
            raise ValueError(f"{name}: {figures[name]:.1e} off PyTorch's")
    if [drafted.tokens for drafted in graphs.draft(image, texts, batch=1)] != own:
        raise ValueError("ONNX Runtime writes other tokens than PyTorch")
    same = identical(graphs, image, texts)
    if min(same.values()) < 1.0:
        raise ValueError(f"batch mates or tokens a call change tokens: {same}")
    return figures


# --- Graphs against graphs ----------------------------------------------------------------------


def identical(
    graphs: Graphs,
    image: Sequence[Floats],
    texts: Sequence[Sequence[int]],
    table: ngrams.Table | None = None,
) -> dict[str, float]:
    """Share of drafts that are the same alone and in other company. Without a table the drafts
    themselves make one: its guesses are mostly right, and wrong where two drafts part."""
    alone = graphs.draft(image, texts, batch=1)
    table = table or ngrams.of([tokenizer.BOS, *drafted.tokens] for drafted in alone)
    ways = ((BATCH, 1), (1, 3), (BATCH, 3), (BATCH, 4))  # the server verifies four a call
    found = {}
    for batch, at_once in ways:
        other = graphs.draft(image, texts, batch, at_once, table)
        same = [one.tokens == two.tokens for one, two in zip(alone, other, strict=True)]
        found[way(batch, at_once)] = float(np.mean(same))
    return found


def look(graphs: Graphs, requests: Sequence[Request]) -> tuple[list[Floats], NDArray[np.float32]]:
    """Film tokens of each request, and the label logits of all films in order."""
    seen, logits = graphs.see(np.concatenate([one.pixels for one in requests]))
    ends = np.cumsum([len(one.pixels) for one in requests])
    return np.split(seen, ends[:-1]), logits


def agreement(
    f32: Path, int8: Path, config: Config, requests: Sequence[Request], threads: int = 1
) -> dict[str, float]:
    """How far int8 graphs say what f32 graphs say, each with its own vision: share of tokens with the
    same argmax when both read the f32 graphs' greedy drafts, and share of greedy drafts that are the
    same from end to end."""
    plain, small = Graphs(f32, config, threads), Graphs(int8, config, threads)
    texts = [one.text_ids for one in requests]
    (image, logits), (small_image, small_logits) = look(plain, requests), look(small, requests)
    drafts = plain.draft(image, texts, BATCH)
    others = small.draft(small_image, texts, BATCH)
    equal: list[bool] = []
    for start in range(0, len(requests), BATCH):
        rows = slice(start, start + BATCH)
        taught = [drafted.tokens for drafted in drafts[rows]]
        read = small.teacher_forced(small.encode(small_image[rows], texts[rows]), taught, TEACHER_AT_ONCE)
        for ids, logits_of in zip(taught, read, strict=True):
            equal += (logits_of.argmax(axis=-1) == np.array(ids)).tolist()
    same = [one.tokens == two.tokens for one, two in zip(drafts, others, strict=True)]
    return {
        "requests": float(len(requests)),
        "tokens": float(len(equal)),
        "token_agreement": float(np.mean(equal)),
        "draft_agreement": float(np.mean(same)),
        "label_logit": float(np.abs(logits - small_logits).max()),
        "confidence": _confidence_apart(drafts, others),
    }


def _confidence_apart(drafts: Sequence[Drafted], others: Sequence[Drafted]) -> float:
    """Largest difference of a draft's confidence."""
    pairs = zip(drafts, others, strict=True)
    return max(abs(float(np.exp(one.logprob) - np.exp(two.logprob))) for one, two in pairs)


# --- parity.json --------------------------------------------------------------------------------


def write(file: Path, vision: Vision, text: TextModel, tokens: Tokenizer) -> None:
    """Writes parity.json: inputs by formula, PyTorch's answers with the weights of the graphs (for
    int8 graphs: `dequantised`)."""
    cases = []
    for case in CASES:
        given = request(case, tokens, text.config)
        with torch.no_grad():
            logits = vision(torch.from_numpy(given.pixels))[2]
        written, rows = greedy(vision, text, given)
        values, ids = rows.topk(5, dim=-1)
        cases.append(
            {
                "name": case.name,
                "films": list(case.films),
                "query": case.query,
                "view": case.context.view,
                "age": case.context.age,
                "sex": case.context.sex,
                "text_ids": given.text_ids,
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
