"""Cross-fitting: five folds by patient, and one encoder from all films.

Before it: `fit_vision`. After it: `fit_text` trains on what these encoders see, `evaluate` reads
what the fold models say of films whose patients they never saw. Nothing that the card says about a
film comes from a model that was trained on its patient. Calibration is cross-fitted as well: a
fold's slope and shift come from the other folds' held-out films, and the final encoder's from all
of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import data
from .export import fold as fold_norms
from .fit_vision import VisionPlan, fit_vision
from .fitting import Log
from .model import Config, Vision
from .statistics import fit_platt

FOLDS = 5


@dataclass
class Folds:
    """What cross-fitting leaves behind, films in the order of `data.films`."""

    fold: list[int]
    logits: Tensor  # [n,labels], uncalibrated, by the model that did not see the film's patient
    visions: list[Vision]  # calibrated, batch norms folded
    calibrated: Tensor  # [n,labels]
    seconds: int = 0  # that the training took


def truth_of(films: Sequence[data.Film]) -> Tensor:
    """Labels `[n,labels]`, 0 or 1."""
    return torch.tensor([film.labels for film in films], dtype=torch.float32)


@torch.no_grad()
def see(vision: Vision, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and logits of already sized films."""
    tokens, logits = [], []
    for part in pixels.split(64):
        some_tokens, _, some_logits, _ = vision(part)
        tokens.append(some_tokens)
        logits.append(some_logits)
    return torch.cat(tokens), torch.cat(logits)


def calibrate(vision: Vision, slope: Tensor, shift: Tensor) -> None:
    """Puts a calibration into the encoder: its logits are calibrated from then on."""
    vision.slope.copy_(slope)
    vision.shift.copy_(shift)


def cross_fit(config: Config, films: list[data.Film], plan: VisionPlan, log: Log) -> Folds:
    """Trains the five fold models and has each judge the films that it has not seen."""
    started = time.monotonic()
    fold = data.folds(films, FOLDS, plan.seed)
    places = torch.tensor(fold)
    truth, pixels = truth_of(films), data.load(films, data.SIZE)
    logits = torch.zeros(len(films), config.labels)
    visions = []
    for number in range(FOLDS):
        log(f"fold {number + 1} of {FOLDS}")
        training = [film for film, place in zip(films, fold, strict=True) if place != number]
        vision = fold_norms(fit_vision(config, training, plan, log))
        logits[places == number] = see(vision, pixels[places == number])[1]
        visions.append(vision)
    calibrated = torch.zeros_like(logits)
    for number, vision in enumerate(visions):
        others, mine = places != number, places == number
        slope, shift = fit_platt(logits[others], truth[others])
        calibrate(vision, slope, shift)
        calibrated[mine] = logits[mine] * slope + shift
    return Folds(fold, logits, visions, calibrated, round(time.monotonic() - started))


def thresholds_at(probabilities: Tensor, truth: Tensor, specificity: float) -> list[float]:
    """Per label the held-out probability that the given share of negatives stays below."""
    return [
        round(float(torch.quantile(probabilities[truth[:, label] == 0, label], specificity)), 4)
        for label in range(truth.shape[1])
    ]


def save(folds: Folds, file: Path) -> None:
    """Writes runs/folds.pt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "config": folds.visions[0].config.as_dict(),
        "fold": folds.fold,
        "logits": folds.logits,
        "visions": [vision.state_dict() for vision in folds.visions],
        "calibrated": folds.calibrated,
        "seconds": folds.seconds,
    }
    torch.save(state, file)


def load(file: Path) -> Folds:
    """Reads a file of `save`. Plain data only: it cannot run code."""
    state = torch.load(file, weights_only=True)
    config = Config.of(state["config"])
    visions = []
    for weights in state["visions"]:
        vision = fold_norms(Vision(config))
        vision.load_state_dict(weights)
        visions.append(vision.eval())
    return Folds(state["fold"], state["logits"], visions, state["calibrated"], state["seconds"])
