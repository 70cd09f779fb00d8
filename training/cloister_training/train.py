"""The training run, step by step, and what it leaves behind.

Before it: `data`, `grammar`, `tokenizer`, `model`. After it: `export`.

1. `crossfit`: five encoders, each without one fifth of the patients. Why first: what they say of the
   films that they have not seen gives calibration and thresholds, and later every figure.
2. the final encoder, on every patient, calibrated by those held-out films.
3. `fit_text`: the text model, on the tokens of all these encoders.
4. the confidence below which a draft is withheld, from drafts on held-out films.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import crossfit, data, grammar, tokenizer
from .crossfit import Folds
from .export import fold
from .fit_text import Leg, Studies, TextPlan, bands_of, edges_of, fit_text
from .fit_vision import Stage, VisionPlan, fit_vision
from .fitting import Log
from .model import Config, TextModel, Vision
from .statistics import fit_platt

SPECIFICITY = 0.90  # at which a label's threshold stands on held-out films
ABSTAIN = 0.02  # share of held-out studies that the confidence threshold lets go


@dataclass(frozen=True)
class Plan:
    """How long and how large; `smoke` proves the whole way in a minute or two."""

    vision: VisionPlan = field(default_factory=VisionPlan)
    text: TextPlan = field(default_factory=TextPlan)
    films: int | None = None  # use only so many films

    @staticmethod
    def smoke() -> Plan:
        legs = (Leg(60, 2e-3, 1, False, 0.5), Leg(4, 5e-4, 49, True, 0.5))
        return Plan(
            VisionPlan(stages=(Stage(96, 1, 2e-3),), batch=16),
            TextPlan(legs=legs, batch=16, views_per_film=0),
            films=160,
        )


@dataclass
class Result:
    """What a run leaves behind: runs/report.pt."""

    config: Config
    vision: Vision  # all films, calibrated, batch norms folded
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
    config = Config.of(state["config"])
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


def films_of(folder: Path, plan: Plan) -> list[data.Film]:
    """The films of a plan, in the order in which `Folds` counts them."""
    everything = data.films(folder)
    if plan.films is None:
        return everything
    return random.Random(plan.vision.seed).sample(everything, plan.films)


@torch.no_grad()
def confidence_threshold(
    text: TextModel,
    tokens: Tokenizer,
    studies: Studies,
    thresholds: list[float],
    batch: int = 32,
    most: int = 400,
) -> float:
    """The confidence (geometric mean of token probabilities) below which the stated share of full
    reports on held-out films lies; just below it, so that rounding moves no draft across."""
    found: list[float] = []
    edges = edges_of(thresholds)
    places = random.Random(3).sample(range(len(studies.films)), min(most, len(studies.films)))
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        image = studies.tokens[some, 0].unsqueeze(1)
        drafted, texts = [], []
        for row, place in enumerate(some):
            context = studies.films[place].context
            bands = bands_of(image[row, 0, -1, : len(thresholds)], edges)
            drafted.append(tokenizer.target(tokens, grammar.draft(grammar.Query(""), bands, 1, context)))
            texts.append(tokenizer.text_input(tokens, "", context))
        longest = max(map(len, drafted))
        wanted = torch.tensor([ids + [tokenizer.PAD] * (longest - len(ids)) for ids in drafted])
        ids = torch.cat([torch.full((len(some), 1), tokenizer.BOS), wanted[:, :-1]], dim=1)
        given = torch.tensor(texts)  # an empty query: all of one length
        logits = text(image, torch.ones(len(some), 1, dtype=torch.long), given, torch.ones_like(given), ids)
        best: Tensor = torch.log_softmax(logits, dim=-1).max(dim=-1).values
        real = wanted != tokenizer.PAD
        found += torch.exp((best * real).sum(1) / real.sum(1)).tolist()
    return round(float(np.quantile(found, ABSTAIN)) - 0.005, 3)


def run(folder: Path, plan: Plan, folds_file: Path, log: Log) -> Result:
    """The whole run. A `folds_file` that is there is used: five of the six encoders are then not
    trained again."""
    started = time.monotonic()
    films = films_of(folder, plan)
    tokens = tokenizer.build()
    config = Config(vocabulary=tokens.get_vocab_size())
    seconds: dict[str, int] = {}

    def took(stage: str) -> None:
        nonlocal started
        seconds[stage] = round(time.monotonic() - started)
        started = time.monotonic()
        log(f"{stage}: {seconds[stage]} s")

    folds = _folds(config, films, plan, folds_file, log)
    took("folds")
    seconds["folds"] = folds.seconds  # as they took when they were trained
    truth = crossfit.truth_of(films)
    slope, shift = fit_platt(folds.logits, truth)
    vision = fold(fit_vision(config, films, plan.vision, log))
    crossfit.calibrate(vision, slope, shift)
    took("vision")
    thresholds = crossfit.thresholds_at(torch.sigmoid(folds.calibrated), truth, SPECIFICITY)
    log(f"thresholds {thresholds}")

    studies = Studies.of(vision, folds, films, plan.text)
    text = fit_text(config, studies, tokens, thresholds, plan.text, log)
    took("text")
    confidence = confidence_threshold(text, tokens, studies, thresholds)
    figures: dict[str, object] = {
        "seconds": seconds,
        "films": len(films),
        "patients": len({film.patient for film in films}),
        "positive_films": {
            label.name: int(count) for label, count in zip(grammar.LABELS, truth.sum(0).tolist(), strict=True)
        },
        "calibration_slope": float(slope[0]),
        "calibration_shift": [round(value, 4) for value in shift.tolist()],
        "threads": torch.get_num_threads(),
    }
    log(json.dumps(figures))
    return Result(config, vision, text, tokens, thresholds, confidence, figures)


def _folds(config: Config, films: list[data.Film], plan: Plan, file: Path, log: Log) -> Folds:
    if file.is_file():
        log(f"using {file}")
        return crossfit.load(file)
    folds = crossfit.cross_fit(config, films, plan.vision, log)
    crossfit.save(folds, file)
    return folds
