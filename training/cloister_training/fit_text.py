"""Trains the text model on what the encoders see.

Before it: `crossfit`. After it: `export`.
The text model never sees the NIH labels: it learns to put calibrated probabilities into the
grammar's words, so a draft is as right as its probabilities and no more fluent than they are. It
reads the tokens of several encoders of the same film (the fold model that did not see it, and the
final one), because what it may rely on is the evidence token, not the style of one encoder.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from . import data, grammar, tokenizer
from .crossfit import Folds, see
from .fitting import Log, fit
from .model import Config, TextModel, Vision

EMPTY_SHARE = 0.3  # of the reports: a study that comes by DICOM often asks nothing
ROUND = 16  # lengths of texts are filled up to a multiple of this
FREE_SHARE = 0.5  # of the studies get label logits drawn over all bands, so that rare words are learned
OTHER_CONTEXT_SHARE = 0.4  # get a context that is not the film's


@dataclass(frozen=True)
class Leg:
    """A part of the training, from what is cheap to what the server does.

    `patches` of the 49 are kept in a batch; with `whole_prefix` the whole safety prefix stands
    before the query, otherwise its last few tokens: the first legs learn the words, the last ones to
    find them in full-length input.
    """

    steps: int
    peak: float
    patches: int
    whole_prefix: bool
    reports: float  # share of batches that are full reports; the others are answers


@dataclass(frozen=True)
class TextPlan:
    """How long and how large."""

    legs: tuple[Leg, ...] = (
        Leg(4500, 2e-3, 1, False, 0.5),
        Leg(300, 8e-4, 6, True, 0.5),
        Leg(60, 3e-4, 49, True, 0.5),
    )
    batch: int = 32
    views_per_film: int = 2  # augmented copies per encoder, beside the plain film
    seed: int = 20


@dataclass
class Studies:
    """Film tokens from which studies of 1 to 4 films are drawn: `[film, view, T, D]`."""

    tokens: Tensor
    films: list[data.Film]
    by_patient: dict[str, list[int]]

    @staticmethod
    def of(final: Vision, folds: Folds, films: list[data.Film], plan: TextPlan) -> Studies:
        """Every film plain and augmented, by its held-out fold model and by the final one."""
        generator = torch.Generator().manual_seed(plan.seed + 1)
        plain = data.load(films, data.SIZE)
        large = data.load(films, data.SIZE + data.MARGIN)
        looks = [plain]
        for _ in range(plan.views_per_film):
            parts = [data.augment(part, data.SIZE, generator) for part in large.split(64)]
            looks.append(torch.cat(parts))
        place = torch.tensor(folds.fold)
        views = []
        for look in looks:
            held_out = torch.empty(len(films), final.config.film_tokens, final.config.channels[-1])
            for number, vision in enumerate(folds.visions):
                held_out[place == number] = see(vision, look[place == number])[0]
            views += [held_out, see(final, look)[0]]
        by_patient: dict[str, list[int]] = defaultdict(list)
        for index, film in enumerate(films):
            by_patient[film.patient].append(index)
        return Studies(torch.stack(views, dim=1), films, by_patient)

    def draw(self, rng: random.Random, count: int) -> tuple[Tensor, grammar.Context]:
        """`count` films of one patient by one encoder, other looks at the same film where there are
        too few."""
        first = rng.randrange(len(self.films))
        others = [index for index in self.by_patient[self.films[first].patient] if index != first]
        rng.shuffle(others)
        chosen = ([first, *others] * count)[:count]
        encoder, looks = rng.randrange(2), self.tokens.shape[1] // 2
        parts = [self.tokens[index, 2 * rng.randrange(looks) + encoder] for index in chosen]
        return torch.stack(parts), self.films[first].context


Edges = Sequence[tuple[float, float, float, float]]


def edges_of(thresholds: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """Per label the probabilities at which the words change."""
    return [grammar.edges_for(threshold) for threshold in thresholds]


def bands_of(logits: Tensor, edges: Edges) -> list[grammar.Band]:
    """What the grammar says of a study's label logits `[labels]`."""
    probabilities = torch.sigmoid(logits).tolist()
    return [grammar.band_of(value, edge) for value, edge in zip(probabilities, edges, strict=True)]


def free_logits(rng: random.Random, edges: Edges) -> Tensor:
    """Label logits drawn evenly over the bands."""
    drawn = []
    for band, edge in zip(grammar.sample_bands(rng), edges, strict=True):
        bounds = (0.002, *edge, 0.998)
        place = grammar.BANDS.index(band)
        low, high = (math.log(value / (1 - value)) for value in bounds[place : place + 2])
        drawn.append(rng.uniform(low, high))
    return torch.tensor(drawn)


def _rounded(rows: list[list[int]]) -> int:
    return -(-max(map(len, rows)) // ROUND) * ROUND


class Batches:
    """Draws batches of studies with query, context and the text that follows from them."""

    def __init__(self, studies: Studies, tokens: Tokenizer, edges: Edges, batch: int) -> None:
        self.studies, self.tokens, self.edges, self.batch = studies, tokens, edges, batch
        self.prefix = len(tokenizer.encode(tokens, tokenizer.clean(tokenizer.prefix_text())))

    def draw(self, rng: random.Random, leg: Leg) -> dict[str, Tensor]:
        """Long reports and short answers stand in different batches: padding is work."""
        reports = rng.random() < leg.reports
        most = rng.choices((1, 2, 3, 4), (6, 2, 1, 1))[0]
        slots = grammar.MOST_FILMS
        image, masks, texts, wanted = [], [], [], []
        for _ in range(self.batch):
            count = rng.randint(1, most)
            parts, context = self.studies.draw(rng, count)
            labels = len(self.edges)
            if rng.random() < FREE_SHARE:
                # The maximum over the films counts: the others get out of the way of the drawn one.
                parts[:, -1, :labels] -= 8.0
                parts[rng.randrange(count), -1, :labels] = free_logits(rng, self.edges)
            if rng.random() < OTHER_CONTEXT_SHARE:
                context = grammar.sample_context(rng)
            query = grammar.sample_query(rng, grammar.QUESTIONS, reports)
            if reports and rng.random() < EMPTY_SHARE:
                query = grammar.Query("")
            highest = parts[:, -1, :labels].max(dim=0).values
            drafted = grammar.draft(query, bands_of(highest, self.edges), count, context)
            image.append(functional.pad(parts, (0, 0, 0, 0, 0, slots - count)))
            masks.append([1] * count + [0] * (slots - count))
            ids = tokenizer.text_input(self.tokens, query.text, context)
            texts.append(ids if leg.whole_prefix else ids[self.prefix - rng.randrange(9) :])
            wanted.append(tokenizer.target(self.tokens, drafted))
        images = torch.stack(image)
        patches = images.shape[2] - 1
        kept = sorted(rng.sample(range(patches), min(leg.patches, patches)))
        places = torch.tensor([*kept, patches])
        # Few distinct shapes: every new one costs a compilation of its kernels, and the memory for them.
        text_length, target_length = _rounded(texts), _rounded(wanted)
        pad = tokenizer.PAD
        return {
            "places": places,
            "image_tokens": images[:, :, places],
            "film_mask": torch.tensor(masks),
            "text_ids": torch.tensor([ids + [pad] * (text_length - len(ids)) for ids in texts]),
            "text_mask": torch.tensor([[1] * len(ids) + [0] * (text_length - len(ids)) for ids in texts]),
            "ids": torch.tensor(
                [[tokenizer.BOS, *ids[:-1]] + [pad] * (target_length - len(ids)) for ids in wanted]
            ),
            "wanted": torch.tensor([ids + [pad] * (target_length - len(ids)) for ids in wanted]),
        }


def fit_text(
    config: Config,
    studies: Studies,
    tokens: Tokenizer,
    thresholds: Sequence[float],
    plan: TextPlan,
    log: Log,
) -> TextModel:
    """Trains the encoder-decoder on drawn studies."""
    torch.manual_seed(plan.seed + 2)
    edges = edges_of(thresholds)
    text = TextModel(config).train()
    text.set_edges(edges)
    batches = Batches(studies, tokens, edges, plan.batch)
    for number, leg in enumerate(plan.legs):
        rng = random.Random(plan.seed + 2 + 100 * number)

        def loss_of(_: int, rng: random.Random = rng, leg: Leg = leg) -> Tensor:
            batch = batches.draw(rng, leg)
            wanted = batch.pop("wanted")
            logits = text(**batch).float()
            return functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=tokenizer.PAD
            )

        log(f"text, leg {number + 1} of {len(plan.legs)}")
        fit(text, loss_of, leg.steps, leg.peak, 0.01, log)
    return text.eval()
