"""How the model's answers and features move on films of another hospital.

Before it: `shifts` (features and logits of the NIH films). After it: `films`. The Hannover
films carry no findings and all come from COVID patients. COVID is not a class of the model, so
there is no area here: only how the distribution moves, beside NIH's normal and abnormal films.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .. import data, statistics
from ..statistics import Array, Bootstrap, Figure, Mask, retrained
from .shifts import Floats, through

if TYPE_CHECKING:
    from ..crossfit import Folds
    from ..model import Vision

VIEWS = ("pa", "ap")
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


def _quantile(share: float, probability: Array) -> float:
    return float(np.quantile(probability, share, method="inverted_cdf"))


def _columns(threshold: float) -> dict[str, Callable[[Array], float]]:
    return {
        "present": lambda probability: float((probability >= threshold).mean()),
        "mean": lambda probability: float(probability.mean()),
        **{name: partial(_quantile, share) for name, share in QUANTILES.items()},
    }


def _spread(
    probability: Array,
    threshold: float,
    patients: Bootstrap,
    chosen: Mask,
    by_model: Sequence[Array],
    averaged: int,
) -> dict[str, Figure]:
    """Over the chosen films; `by_model` are the same or like films by each fold model, `averaged`
    says how many trainings stand behind `probability`."""
    mine = probability[chosen]
    found = {
        "present": patients.share(mine >= threshold, chosen),
        "mean": patients.figure(statistics.mean(mine), chosen),
        **{
            name: patients.figure(statistics.quantile(mine, share), chosen)
            for name, share in QUANTILES.items()
        },
    }
    return {
        name: retrained(found[name], [column(part) for part in by_model if len(part)], averaged, 1.0)
        for name, column in _columns(threshold).items()
    }


def _apart(first: Floats, second: Floats, spread: Floats) -> float:
    """Mean over the features of the distance between two groups' means, in standard deviations."""
    alive = spread > 1e-6
    gaps = np.abs(first.mean(axis=0) - second.mean(axis=0))
    return float((gaps[alive] / spread[alive]).mean())


def feature_shift(
    nih: Floats, abnormal: Mask, fold: Sequence[int], other: Sequence[Floats]
) -> dict[str, float]:
    """How far the other hospital's features lie from NIH's, model by model on films that it has not
    seen, beside two yardsticks: NIH abnormal from NIH normal, and what chance alone would give."""
    found: dict[str, list[float]] = {"hannover": [], "abnormal": [], "chance": []}
    folds = np.asarray(fold)
    for number, theirs in enumerate(other):
        mine, sick = nih[folds == number], abnormal[folds == number]
        if sick.all() or not sick.any():
            continue
        spread = mine.std(axis=0)
        found["hannover"].append(_apart(theirs, mine, spread))
        found["abnormal"].append(_apart(mine[sick], mine[~sick], spread))
        # The mean size of a normal variable is 0.8 of its deviation.
        found["chance"].append(float(np.sqrt(2 / np.pi * (1 / len(mine) + 1 / len(theirs)))))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def figures(
    films: Sequence[data.Film],
    folds: Folds,
    pooled: Floats,
    vision: Vision,
    threshold: float,
    patients: Bootstrap,
    hannover: Sequence[data.Film],
) -> dict[str, Figure]:
    """Pneumonia per view: NIH films by held-out models, Hannover's by the final one; features by the
    five held-out models on both."""
    found: dict[str, Figure] = {}
    pixels = data.load(list(hannover), data.SIZE)
    seen = [through(model, pixels) for model in folds.visions]
    theirs = [features for _, features in seen]
    by_model = [_probability(logits) for logits, _ in seen]
    given = _probability(through(vision, pixels)[0])
    held_out = _probability(folds.calibrated.numpy())
    places = np.asarray(folds.fold)
    abnormal = np.array([film.labels[0] == 1 for film in films])
    there = Bootstrap([film.patient for film in hannover])
    for view in VIEWS:
        chosen = np.array([film.context.view == view for film in hannover])
        mine = np.array([film.context.view == view for film in films])
        if not chosen.any() or not mine.any():
            continue
        groups = {
            "hannover": _spread(given, threshold, there, chosen, [part[chosen] for part in by_model], 1)
        }
        for group, kind in (("nih_normal", mine & ~abnormal), ("nih_abnormal", mine & abnormal)):
            parts = [held_out[kind & (places == number)] for number in range(len(folds.visions))]
            groups[group] = _spread(held_out, threshold, patients, kind, parts, len(parts))
        for group, columns in groups.items():
            found |= {f"hannover.{group}_{view}.{name}": figure for name, figure in columns.items()}
        fold = np.asarray(folds.fold)[mine]
        far = feature_shift(pooled[mine], abnormal[mine], list(fold), [part[chosen] for part in theirs])
        for name, value in far.items():
            found[f"hannover.features_{view}.{name}"] = Figure(
                value=value, low=None, high=None, n=int(chosen.sum())
            )
    return found


def _probability(logits: Floats) -> Array:
    return 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
