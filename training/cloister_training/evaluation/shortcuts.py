"""Four baselines that know nothing of lungs: view, thumbnail, histogram, border.

Before it: `data` names films, `crossfit` splits them. After it: `films` puts them beside the
model. In these data they tell abnormal from normal far better than chance, so a model's area
means nothing without theirs. Each is a ridge logistic regression on the model's own patient
folds with nothing tuned, once on the film as it lies in the file, once on what the model's
preprocessing leaves of it. For a table of PA films it learns from PA films, for one of abnormal
films from those: a linear rule cannot find out the view as a network can, and a weak rival would
prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from .. import data
from ..statistics import Array, Mask

Floats = NDArray[np.float32]

NAMES = ("view", "thumbnail", "histogram", "border")
RIDGE = 1e-2  # on standardised inputs, against the mean loss of a film
STEPS = 300  # of LBFGS: the areas stand still long before
THUMBNAIL = 8
BINS = 64
BORDER = 8  # pixels of 224
SEGMENTS = 28  # per side


def _border(grey: Floats) -> Floats:
    """Means along the four sides, in segments."""
    sides = (
        grey[:BORDER].mean(axis=0),
        grey[-BORDER:].mean(axis=0),
        grey[:, :BORDER].mean(axis=1),
        grey[:, -BORDER:].mean(axis=1),
    )
    return np.concatenate([side.reshape(SEGMENTS, -1).mean(axis=1) for side in sides])


def of_file(image: Image.Image) -> dict[str, Floats]:
    """What the shortcuts see of the whole film, neither cut nor equalised."""
    grey = image.convert("L")
    values = np.asarray(grey, dtype=np.uint8)
    small = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    sized = grey.resize((data.SIZE, data.SIZE), Image.Resampling.BILINEAR)
    counts = np.bincount(values.ravel(), minlength=256).reshape(BINS, -1).sum(axis=1)
    return {
        "thumbnail": np.asarray(small, dtype=np.float32).ravel() / np.float32(255),
        "histogram": (counts / values.size).astype(np.float32),
        "border": _border(np.asarray(sized, dtype=np.float32) / np.float32(255)),
    }


def of_input(image: Image.Image) -> dict[str, Floats]:
    """The same of what the model is given: cut, resized, equalised. The histogram is nearly flat;
    what is left of it is how coarse the film's grey values were."""
    grey = (data.read(image, data.SIZE) * data.STD + data.MEAN).astype(np.float32)
    side = data.SIZE // THUMBNAIL
    counts = np.histogram(grey, bins=BINS, range=(0.0, 1.0))[0]
    return {
        "thumbnail": grey.reshape(THUMBNAIL, side, THUMBNAIL, side).mean(axis=(1, 3)).ravel(),
        "histogram": (counts / grey.size).astype(np.float32),
        "border": _border(grey),
    }


def cross_fitted(rows: Floats, truth: Mask, fold: NDArray[np.int64]) -> Array:
    """Scores `[films, labels]`, each film's from the regression that has not seen its patient.

    The intercept is left out: it follows the other folds' prevalence, which is high where this
    fold's is low, and would cost the baseline a little of its area."""
    scores = np.empty(truth.shape)
    for held_out in np.unique(fold):
        seen = fold != held_out
        centre, spread = rows[seen].mean(axis=0), rows[seen].std(axis=0) + 1e-6
        known = torch.from_numpy((rows - centre) / spread).double()
        wanted = torch.from_numpy(truth[seen]).double()
        weight = torch.zeros(known.shape[1], truth.shape[1], dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(truth.shape[1], dtype=torch.float64, requires_grad=True)
        _fit(known[torch.from_numpy(seen)], wanted, weight, bias)
        scores[~seen] = (known[torch.from_numpy(~seen)] @ weight).detach().numpy()
    return scores


def _fit(known: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = known @ weight + bias
        loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(wanted)
        loss = loss + RIDGE * weight.pow(2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)


def inputs(films: Sequence[data.Film]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """What every baseline sees, a row per film: of the file, and of the model's input (no view
    there: it is not in the picture)."""
    filed: list[dict[str, Floats]] = []
    given: list[dict[str, Floats]] = []
    for film in films:
        with Image.open(film.path) as image:
            filed.append(of_file(image))
            given.append(of_input(image))
    view = np.array([[film.context.view == "pa"] for film in films], dtype=np.float32)
    return {"view": view, **_stacked(filed)}, _stacked(given)


def _stacked(rows: list[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
