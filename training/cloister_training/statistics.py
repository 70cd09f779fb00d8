"""Figures with intervals: areas, shares, calibration, and the patient bootstrap under them.

Before it: held-out logits (`crossfit`). After it: `films`, and `crossfit` for Platt scaling.
Films of one patient are alike, so intervals come from drawing patients, not films. A draw is a row
of weights (how often each film counts), and a statistic is a function of such rows: the same rows
serve every figure, which makes differences paired and thousands of draws a matter of milliseconds.
The intervals say what other patients would change; nothing is trained again in a draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Array], Array]  # weights [draws, films] -> [draws]

DRAWS = 1000
SEED = 20
TAIL = 0.025
MOST_UNDEFINED = 0.01  # share of draws; with fewer than five positive patients there is no interval
BINS = 10
TRAININGS = 5  # fold models, from whose spread another training is judged
STUDENT = 2.776  # the 97.5 % point of Student's t with one degree of freedom fewer


class Figure(TypedDict):
    """A value with its 95 % interval, if it has one, and the count that it rests on."""

    value: float
    low: float | None
    high: float | None
    n: int


def area(scores: Array, truth: Mask) -> Statistic:
    """Area under the ROC curve by ranks, ties half; NaN where a draw has one class only."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.searchsorted(ranked, ranked, side="left")
    ends = np.searchsorted(ranked, ranked, side="right")
    places = np.flatnonzero(truth[order])
    positives, negative = order[places], ~truth[order]

    def of(weights: Array) -> Array:
        below = np.zeros((len(weights), len(scores) + 1))
        np.cumsum(weights[:, order] * negative, axis=1, out=below[:, 1:])
        mine = weights[:, positives]
        credit = (below[:, starts[places]] + below[:, ends[places]]) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return (mine * credit).sum(axis=1) / (mine.sum(axis=1) * below[:, -1])

    return of


def auroc(scores: Array, truth: Mask) -> float:
    """Area under the ROC curve by ranks; NaN with one class only."""
    return float(area(scores, truth)(np.ones((1, len(scores))))[0])


def auroc_same_fold(scores: Array, truth: Mask, fold: NDArray[np.int64]) -> float | None:
    """Area over pairs of films that the same fold model judged: its scale does not matter."""
    pairs, won = 0, 0.0
    for number in np.unique(fold):
        mine, said = truth[fold == number], scores[fold == number]
        count = int(mine.sum()) * int((~mine).sum())
        if count:
            pairs, won = pairs + count, won + count * auroc(said, mine)
    return won / pairs if pairs else None


def mean(values: Array | Mask) -> Statistic:
    """Mean over films; a share, where the values are yes and no."""

    def of(weights: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return (weights @ values.astype(np.float64)) / weights.sum(axis=1)

    return of


def quantile(values: Array, share: float) -> Statistic:
    """The value that the given share of films does not exceed."""
    order = np.argsort(values, kind="stable")

    def of(weights: Array) -> Array:
        upto = np.cumsum(weights[:, order], axis=1)
        reached = upto >= share * upto[:, -1:]
        return np.where(upto[:, -1] > 0, values[order][reached.argmax(axis=1)], np.nan)

    return of


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Paired: both see the same patients in every draw."""
    return lambda weights: first(weights) - second(weights)


class Bootstrap:
    """Patients drawn with replacement, once; every figure of these films uses the same draws."""

    def __init__(self, patients: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> None:
        names, owner = np.unique(np.asarray(patients), return_inverse=True)
        chances = np.full(len(names), 1 / len(names))
        times = np.random.default_rng(seed).multinomial(len(names), chances, size=draws)
        self.weights: Array = times[:, owner].astype(np.float64)

    def figure(self, statistic: Statistic, chosen: Mask | None = None, n: int | None = None) -> Figure:
        """The statistic over the chosen films. It was built on these films alone; `n` is their
        number unless given (positive films, where those are the scarce ones)."""
        weights = self.weights if chosen is None else self.weights[:, chosen]
        count = weights.shape[1]
        value = float(statistic(np.ones((1, count)))[0]) if count else math.nan
        figure = Figure(value=value, low=None, high=None, n=count if n is None else n)
        if count:
            drawn = statistic(weights)
            defined = drawn[~np.isnan(drawn)]
            if len(defined) >= (1 - MOST_UNDEFINED) * len(drawn):
                low, high = np.quantile(defined, (TAIL, 1 - TAIL))
                figure["low"], figure["high"] = float(low), float(high)
        return figure

    def share(self, hits: Mask, chosen: Mask | None = None) -> Figure:
        """A share with the wider of two intervals at each end: the bootstrap knows that films of a
        patient are alike, Wilson's knows that none of 40 is not none of all."""
        figure = self.figure(mean(hits), chosen)
        if len(hits):
            low, high = wilson(int(hits.sum()), len(hits))
            figure["low"] = low if figure["low"] is None else min(low, figure["low"])
            figure["high"] = high if figure["high"] is None else max(high, figure["high"])
        return figure


def retrained(figure: Figure, by_model: Sequence[float], averaged: int, top: float | None = None) -> Figure:
    """The figure with an interval that covers another training as well as other patients.

    How a model answers where the data do not hold it (a shifted film, no film, another hospital)
    hangs on the training's own chance. `by_model` is the figure by each of a few trainings, of which
    it averages `averaged`: two such averages differ by less than t * sd * sqrt(2 / averaged) in 95 of
    100 cases. `top` bounds the ends from above (1 for a share), 0 from below then."""
    values = np.array([value for value in by_model if not math.isnan(value)])
    if len(values) < TRAININGS or figure["low"] is None or figure["high"] is None:
        return figure
    reach = STUDENT * float(values.std(ddof=1)) * math.sqrt(2 / averaged)
    low, high = min(figure["low"], figure["value"] - reach), max(figure["high"], figure["value"] + reach)
    if top is not None:
        low, high = max(0.0, low), min(top, high)
    return {**figure, "low": low, "high": high}


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, as if films were independent."""
    z, share = 1.959964, hits / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def squared_errors(probability: Array, truth: Mask) -> Array:
    """Per film; their mean is the Brier score."""
    return (probability - truth) ** 2


def log_losses(probability: Array, truth: Mask) -> Array:
    """Per film: minus the logarithm of the probability that the truth was given."""
    given = np.where(truth, probability, 1 - probability)
    return -np.log(np.clip(given, 1e-7, 1.0))


def prevalence_elsewhere(truth: Mask, fold: NDArray[np.int64]) -> Array:
    """What a model says that knows only how common a label is in the other folds."""
    found = np.empty(truth.shape)
    for held_out in np.unique(fold):
        found[fold == held_out] = truth[fold != held_out].mean(axis=0)
    return found


def _bin_starts(n: int) -> NDArray[np.int64]:
    bins = min(BINS, n)
    return np.arange(bins) * n // bins


def ece(probability: Array, truth: Mask) -> float:
    """Expected calibration error in ten bins of equally many films."""
    order = np.argsort(probability, kind="stable")
    gaps = np.add.reduceat((probability - truth)[order], _bin_starts(len(order)))
    return float(np.abs(gaps).sum() / len(order))


def ece_when_perfect(probability: Array, draws: int = DRAWS, seed: int = SEED) -> float:
    """The calibration error that a model without any would stay below in 95 of 100 data sets of
    this size: its truth is drawn from its own probabilities, films independently."""
    ranked, generator = np.sort(probability), np.random.default_rng(seed)
    starts, found = _bin_starts(len(ranked)), []
    for _ in range(draws):
        gaps = np.add.reduceat(ranked - (generator.random(len(ranked)) < ranked), starts)
        found.append(np.abs(gaps).sum() / len(ranked))
    return float(np.quantile(found, 0.95))


def fit_platt(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """One slope for all labels (given per label) and a shift per label.

    Priors are normal and count as much as a few films, whatever the number of films: the shift of
    a label with many positive films is the data's, that of a rare one stays near zero."""
    inside, wanted = logits.double(), truth.double()
    slope = torch.ones(1, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(truth.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(inside * slope + shift, wanted, reduction="sum")
        loss = (loss + 2.0 * shift.pow(2).sum() + 2.0 * (slope - 1).pow(2).sum()) / len(wanted)
        loss.backward()
        return loss

    optimiser.step(closure)
    return slope.detach().clamp(0.2, 2.0).float().expand(truth.shape[1]).clone(), shift.detach().float()
