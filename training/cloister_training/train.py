"""The training run: first the film encoder on labels, then the text model on its output.

Before it: `data`, `grammar`, `tokenizer`, `model`. After it: a checkpoint for `export`.
The text model never sees the NIH labels: it learns to put the encoder's calibrated probabilities
into the grammar's words. A draft is then as right as its probabilities and no more fluent than
they are.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from . import data, grammar, tokenizer
from .export import fold, round_to_half
from .model import Config, TextModel, Vision

SPECIFICITY = 0.90  # at which a label's threshold stands on the validation patients
KEPT_PATCHES = 9  # of 49, in most steps of the text training
EMPTY_SHARE = 0.3  # of the reports: a study that comes by DICOM often asks nothing
ABSTAIN = 0.02  # share of validation studies that the confidence threshold lets go


@dataclass(frozen=True)
class Plan:
    """How long and how large; `smoke` proves the whole way in a minute."""

    vision_epochs: int = 36
    # Steps, peak rate, share of batches that are full reports. The last leg is about questions.
    text_legs: tuple[tuple[int, float, float], ...] = (
        (900, 2e-3, 0.42),
        (500, 1.5e-3, 0.42),
        (800, 1.5e-3, 0.3),
    )
    batch: int = 32
    views_per_film: int = 8  # augmented copies of each film that the text model sees
    films: int | None = None  # use only so many films
    seed: int = 20

    @staticmethod
    def smoke() -> Plan:
        return Plan(vision_epochs=1, text_legs=((40, 2e-3, 0.42),), batch=16, views_per_film=1, films=96)


@dataclass
class Result:
    """What a run leaves behind."""

    config: Config
    vision: Vision
    text: TextModel
    tokens: Tokenizer
    thresholds: list[float]
    confidence_threshold: float
    figures: dict[str, object] = field(default_factory=dict)


def save(result: Result, file: Path) -> None:
    """Writes a checkpoint."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "config": result.config.as_dict(),
            "vision": result.vision.state_dict(),
            "text": result.text.state_dict(),
            "tokens": result.tokens.to_str(),
            "thresholds": result.thresholds,
            "confidence_threshold": result.confidence_threshold,
            "figures": result.figures,
        },
        file,
    )


def load(file: Path) -> Result:
    """Reads a checkpoint of `save`. Plain data only: a checkpoint cannot run code."""
    state = torch.load(file, weights_only=True)
    config = Config(**{**state["config"], "channels": tuple(state["config"]["channels"])})
    vision, text = fold(Vision(config)), TextModel(config)
    vision.load_state_dict(state["vision"])
    text.load_state_dict(state["text"])
    return Result(
        config,
        vision.eval(),
        text.eval(),
        Tokenizer.from_str(state["tokens"]),
        state["thresholds"],
        state["confidence_threshold"],
        state["figures"],
    )


def auroc(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks; NaN with one class only."""
    positive, negative = scores[truth], scores[~truth]
    if not len(positive) or not len(negative):
        return math.nan
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + (positive[:, None] == negative[None, :]).mean() / 2)


def _learning_rate(step: int, steps: int, peak: float) -> float:
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _fit(
    module: torch.nn.Module,
    loss_of: Callable[[int], Tensor],
    steps: int,
    peak: float,
    decay: float,
    log: Callable[[str], None],
) -> None:
    """AdamW, warm-up and cosine, and a running average of the weights, which is what is kept."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=decay, betas=(0.9, 0.98))
    average = {name: value.detach().clone() for name, value in module.state_dict().items()}
    started, shown, total = time.monotonic(), 0.0, 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(step, steps, peak)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        keep = min(0.995, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - keep)
                else:
                    average[name].copy_(value)
        total, shown = total + float(loss.detach()), shown + 1
        if (step + 1) % max(1, steps // 20) == 0:
            seconds = time.monotonic() - started
            log(f"step {step + 1}/{steps}, loss {total / shown:.4f}, {seconds:.0f} s")
            total, shown = 0.0, 0.0
    module.load_state_dict(average)


def fit_vision(config: Config, films: list[data.Film], plan: Plan, log: Callable[[str], None]) -> Vision:
    """Trains the encoder and its label heads."""
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    pixels = data.load(films, data.SIZE + data.MARGIN)
    truth = torch.tensor([film.labels for film in films], dtype=torch.float32)
    # A patient with many films counts no more than a patient with one.
    counts: dict[str, int] = defaultdict(int)
    for film in films:
        counts[film.patient] += 1
    weights = torch.tensor([counts[film.patient] ** -0.5 for film in films])
    vision = Vision(config).train()
    base = truth.mean(dim=0).clamp(0.01, 0.99)
    with torch.no_grad():
        vision.head.bias.copy_(base.logit())
    steps = plan.vision_epochs * math.ceil(len(films) / plan.batch)

    def loss_of(_: int) -> Tensor:
        chosen = torch.multinomial(weights, plan.batch, generator=generator)
        batch = data.augment(pixels[chosen], generator).contiguous(memory_format=torch.channels_last)
        wanted = truth[chosen] * 0.96 + base * 0.04
        logits = vision(batch)[2].float()
        return functional.binary_cross_entropy_with_logits(logits, wanted)

    _fit(vision, loss_of, steps, 2e-3, 0.05, log)
    return vision.eval()


def calibrate(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """One slope for all labels and a shift per label, held near identity: rare labels have few
    validation patients."""
    slope = torch.ones(1, requires_grad=True)
    shift = torch.zeros(truth.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(logits * slope + shift, truth)
        loss = loss + 0.01 * shift.pow(2).mean() + 0.01 * (slope - 1).pow(2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return slope.detach().clamp(0.2, 2.0).expand(truth.shape[1]).clone(), shift.detach()


def _in_batches(vision: Vision, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and logits of already sized films."""
    tokens, logits = [], []
    with torch.no_grad():
        for start in range(0, len(pixels), 64):
            some_tokens, _, some_logits = vision(pixels[start : start + 64])
            tokens.append(some_tokens)
            logits.append(some_logits)
    return torch.cat(tokens), torch.cat(logits)


def thresholds_at(logits: Tensor, truth: Tensor, specificity: float) -> list[float]:
    """Per label the probability that the given share of negatives stays below."""
    found = []
    for label in range(truth.shape[1]):
        negatives = torch.sigmoid(logits[truth[:, label] == 0, label])
        found.append(round(float(torch.quantile(negatives, specificity)), 4))
    return found


@dataclass
class Studies:
    """Film tokens from which studies of 1 to 4 films are drawn: `[film, view, T, D]`."""

    tokens: Tensor
    films: list[data.Film]
    by_patient: dict[str, list[int]]

    @staticmethod
    def of(vision: Vision, films: list[data.Film], plan: Plan) -> Studies:
        generator = torch.Generator().manual_seed(plan.seed + 1)
        pixels = data.load(films, data.SIZE + data.MARGIN)
        plain = data.load(films, data.SIZE)
        views = [_in_batches(vision, plain)[0]]
        for _ in range(plan.views_per_film - 1):
            moved = torch.cat([data.augment(part, generator) for part in pixels.split(64)])
            views.append(_in_batches(vision, moved)[0])
        by_patient: dict[str, list[int]] = defaultdict(list)
        for index, film in enumerate(films):
            by_patient[film.patient].append(index)
        return Studies(torch.stack(views, dim=1), films, by_patient)

    def draw(self, rng: random.Random, count: int) -> tuple[Tensor, grammar.Context]:
        """`count` films of one patient, other views of the same film where there are too few."""
        first = rng.randrange(len(self.films))
        others = [index for index in self.by_patient[self.films[first].patient] if index != first]
        rng.shuffle(others)
        chosen = ([first, *others] * count)[:count]
        parts = [self.tokens[index, rng.randrange(self.tokens.shape[1])] for index in chosen]
        return torch.stack(parts), self.films[first].context


def _edges(thresholds: Sequence[float]) -> list[tuple[float, float, float, float]]:
    return [grammar.edges_for(threshold) for threshold in thresholds]


def _bands(logits: Tensor, edges: Sequence[Sequence[float]]) -> list[grammar.Band]:
    probabilities = torch.sigmoid(logits).tolist()
    return [grammar.band_of(value, edge) for value, edge in zip(probabilities, edges, strict=True)]


def _free_logits(rng: random.Random, edges: Sequence[Sequence[float]]) -> Tensor:
    """Label logits drawn evenly over the bands, so that rare words are learned too."""
    drawn = []
    for band, edge in zip(grammar.sample_bands(rng), edges, strict=True):
        bounds = (0.002, *edge, 0.998)
        place = grammar.BANDS.index(band)
        low, high = (math.log(value / (1 - value)) for value in bounds[place : place + 2])
        drawn.append(rng.uniform(low, high))
    return torch.tensor(drawn)


def _rounded(rows: list[list[int]]) -> int:
    return -(-max(map(len, rows)) // 16) * 16


def batch_of(
    studies: Studies,
    tokens: Tokenizer,
    edges: Sequence[Sequence[float]],
    rng: random.Random,
    plan: Plan,
    reports: bool,
    questions: Sequence[str] = grammar.QUESTIONS,
    kept_patches: int | None = None,
    free_share: float = 0.5,
) -> dict[str, Tensor]:
    """A batch of studies with query, context and the text that follows from them. Long reports and
    short answers stand in different batches: padding is work."""
    most = rng.choices((1, 2, 3, 4), (6, 2, 1, 1))[0]
    image, masks, texts, wanted = [], [], [], []
    for _ in range(plan.batch):
        count = rng.randint(1, most)
        parts, context = studies.draw(rng, count)
        parts = parts.clone()
        if rng.random() < free_share:
            parts[:, -1, : len(edges)] -= 8.0
            parts[rng.randrange(count), -1, : len(edges)] = _free_logits(rng, edges)
        if rng.random() < 0.4:
            context = grammar.sample_context(rng)
        query = grammar.sample_query(rng, questions, reports)
        if reports and rng.random() < EMPTY_SHARE:
            query = grammar.Query("")
        highest = parts[:, -1, : len(edges)].max(dim=0).values
        drafted = grammar.draft(query, _bands(highest, edges), count, context)
        image.append(functional.pad(parts, (0, 0, 0, 0, 0, most - count)))
        masks.append([1] * count + [0] * (most - count))
        texts.append(tokenizer.text_input(tokens, query.text, context))
        wanted.append(tokenizer.target(tokens, drafted))
    # Few distinct shapes: every new one costs a compilation of its kernels.
    text_length, target_length = _rounded(texts), _rounded(wanted)
    pad = tokenizer.PAD
    images, extra = torch.stack(image), {}
    if kept_patches is not None:
        patches = images.shape[2] - 1
        places = torch.tensor([*sorted(rng.sample(range(patches), kept_patches)), patches])
        images, extra = images[:, :, places], {"places": places}
    return {
        **extra,
        "image_tokens": images,
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
    plan: Plan,
    log: Callable[[str], None],
    start: TextModel | None = None,
) -> TextModel:
    """Trains the encoder-decoder on drawn studies, from `start` if one is given."""
    torch.manual_seed(plan.seed + 2)
    edges = _edges(thresholds)
    text = start or TextModel(config)
    text.set_edges(edges)
    for leg, (steps, peak, report_share) in enumerate(plan.text_legs):
        rng = random.Random(plan.seed + 2 + 100 * leg)
        whole_from = steps * 0.85

        def loss_of(
            step: int, rng: random.Random = rng, whole_from: float = whole_from, share: float = report_share
        ) -> Tensor:
            # Most steps see a part of the patches, which costs half as much; the last see them all.
            kept = KEPT_PATCHES if step < whole_from else None
            reports = rng.random() < share
            batch = batch_of(studies, tokens, edges, rng, plan, reports, kept_patches=kept)
            wanted = batch.pop("wanted")
            logits = text.train()(**batch).float()
            return functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=tokenizer.PAD
            )

        _fit(text, loss_of, steps, peak, 0.01, log)
    return text.eval()


@torch.no_grad()
def words(
    text: TextModel,
    held_out: Studies,
    tokens: Tokenizer,
    thresholds: Sequence[float],
    plan: Plan,
    batches: int = 6,
) -> tuple[dict[str, float], float]:
    """How often the decoder writes the grammar's words on held-out patients, teacher-forced, and
    the confidence below which the stated share of these drafts lies."""
    found: dict[str, float] = {}
    confidences: list[float] = []
    kinds = (
        ("reports", True, grammar.QUESTIONS),
        ("questions", False, grammar.QUESTIONS),
        ("unseen_questions", False, grammar.HELD_OUT_QUESTIONS),
    )
    for name, reports, questions in kinds:
        rng = random.Random(plan.seed + 3)
        right_tokens = all_tokens = right_drafts = 0
        for _ in range(batches):
            batch = batch_of(
                held_out, tokens, _edges(thresholds), rng, plan, reports, questions, free_share=0.0
            )
            wanted = batch.pop("wanted")
            logits = text(**batch)
            real = wanted != tokenizer.PAD
            right = (logits.argmax(dim=-1) == wanted) & real
            right_tokens += int(right.sum())
            all_tokens += int(real.sum())
            right_drafts += int((right == real).all(dim=1).sum())
            best = torch.log_softmax(logits, dim=-1).max(dim=-1).values
            confidences += torch.exp((best * real).sum(1) / real.sum(1)).tolist()
        found[f"tokens_{name}"] = right_tokens / all_tokens
        found[f"drafts_{name}"] = right_drafts / (batches * plan.batch)
    return found, round(float(np.quantile(confidences, ABSTAIN)) - 0.005, 3)


def run(folder: Path, plan: Plan, log: Callable[[str], None]) -> Result:
    """The whole run. Gives rounded, folded modules ready for `export`."""
    started = time.monotonic()
    everything = data.films(folder)
    if plan.films is not None:
        everything = random.Random(plan.seed).sample(everything, plan.films)
    training, validation = data.split(everything, 0.2, plan.seed)
    tokens = tokenizer.build()
    config = Config(vocabulary=tokens.get_vocab_size())
    log(f"{len(training)} films for training, {len(validation)} for validation")

    vision = fit_vision(config, training, plan, log)
    truth = torch.tensor([film.labels for film in validation], dtype=torch.float32)
    _, logits = _in_batches(vision, data.load(validation, data.SIZE))
    slope, shift = calibrate(logits, truth)
    vision.slope.copy_(slope)
    vision.shift.copy_(shift)
    vision = fold(vision)
    round_to_half(vision)
    _, logits = _in_batches(vision, data.load(validation, data.SIZE))
    thresholds = thresholds_at(logits, truth, SPECIFICITY)
    scores, marks = torch.sigmoid(logits).double().numpy(), truth.bool().numpy()
    areas = {
        label.name: auroc(scores[:, index], marks[:, index]) for index, label in enumerate(grammar.LABELS)
    }
    log(f"validation AUROC {json.dumps({key: round(value, 3) for key, value in areas.items()})}")
    log(f"thresholds {thresholds}, {time.monotonic() - started:.0f} s")

    text = fit_text(config, Studies.of(vision, training, plan), tokens, thresholds, plan, log)
    round_to_half(text)
    held_out = Studies.of(vision, validation, Plan(views_per_film=1, seed=plan.seed))
    agreement, confidence = words(text, held_out, tokens, thresholds, plan)
    figures: dict[str, object] = {
        "seconds": round(time.monotonic() - started),
        "training_films": len(training),
        "validation_films": len(validation),
        "training_patients": len({film.patient for film in training}),
        "validation_patients": len({film.patient for film in validation}),
        "validation_auroc": areas,
        "validation_positive_films": dict(
            zip((label.name for label in grammar.LABELS), truth.sum(0).int().tolist(), strict=True)
        ),
        "calibration_slope": float(slope[0]),
        "calibration_shift": shift.tolist(),
        "agreement": agreement,
    }
    log(json.dumps(figures))
    return Result(config, vision, text, tokens, thresholds, confidence, figures)
