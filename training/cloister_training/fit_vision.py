"""Trains a film encoder and its label heads.

Before it: `data`. After it: `crossfit` calls it once per fold and once for all films.
Most of the training sees small films, which is several times cheaper; the last stage brings the
encoder to the size at which the server runs it. Films of the four combinations of view and
pneumonia are drawn so that neither view tells of pneumonia, and pairs of films are mixed: 800 films
are few, and an encoder that may learn single films does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import data
from .fitting import Log, fit
from .model import Config, Vision

SMOOTHING = 0.04  # NIH labels are mined from text: no label is worth a certainty
DECAY = 0.1


@dataclass(frozen=True)
class Stage:
    """Part of the training at one size of film."""

    size: int
    epochs: int
    peak: float


@dataclass(frozen=True)
class VisionPlan:
    """How long and how large."""

    stages: tuple[Stage, ...] = (Stage(160, 26, 2e-3), Stage(224, 6, 4e-4))
    batch: int = 32
    mix: float = 0.4  # of the Beta distribution by which two films are mixed
    seed: int = 20


def weights_of(films: Sequence[data.Film]) -> Tensor:
    """How often each film is drawn. A patient with many films counts little more than one with one,
    and in either view half of what is drawn has pneumonia: the view then predicts nothing."""
    per_patient: dict[str, int] = defaultdict(int)
    for film in films:
        per_patient[film.patient] += 1
    weight = np.array([per_patient[film.patient] ** -0.5 for film in films])
    cells = np.array([2 * int(film.context.view == "pa") + film.labels[0] for film in films])
    for cell in np.unique(cells):
        weight[cells == cell] /= weight[cells == cell].sum()
    return torch.from_numpy(weight).float()


def fit_vision(config: Config, films: list[data.Film], plan: VisionPlan, log: Log) -> Vision:
    """Trains the encoder and its label heads on some films."""
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    mixing = np.random.default_rng(plan.seed)
    whole = data.load(films, data.SIZE + data.MARGIN)
    truth = torch.tensor([film.labels for film in films], dtype=torch.float32)
    weights = weights_of(films)
    base = truth.mean(dim=0).clamp(0.01, 0.99)
    vision = Vision(config).train()
    with torch.no_grad():
        vision.head.bias.copy_(base.logit())
    for stage in plan.stages:
        side = round(stage.size * (data.SIZE + data.MARGIN) / data.SIZE)
        pixels = (
            whole
            if side == whole.shape[-1]
            else functional.interpolate(whole, size=(side, side), mode="bilinear", antialias=True)
        )

        def loss_of(_: int, pixels: Tensor = pixels, size: int = stage.size) -> Tensor:
            chosen = torch.multinomial(weights, plan.batch, replacement=True, generator=generator)
            batch = data.augment(pixels[chosen], size, generator)
            share = float(mixing.beta(plan.mix, plan.mix))
            partner = torch.randperm(plan.batch, generator=generator)
            batch = torch.lerp(batch[partner], batch, share)
            wanted = torch.lerp(truth[chosen][partner], truth[chosen], share)
            wanted = wanted * (1 - SMOOTHING) + base * SMOOTHING
            logits = vision(batch.contiguous(memory_format=torch.channels_last))[2].float()
            return functional.binary_cross_entropy_with_logits(logits, wanted)

        log(f"vision at {stage.size} pixels")
        steps = stage.epochs * math.ceil(len(films) / plan.batch)
        fit(vision, loss_of, steps, stage.peak, DECAY, log)
    return vision.eval()
