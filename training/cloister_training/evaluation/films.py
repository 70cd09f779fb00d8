"""What the label heads see, what the shortcuts see, and what films from elsewhere change.

Before it: `crossfit` (held-out logits, fold models), `train` (thresholds, final encoder). After it:
`evaluate` merges the figures, `card` prints `film_tables`. Every NIH film is judged by the model
that has not seen its patient; no figure here comes from a film that its model was trained on.
Areas are of uncalibrated logits over all folds at once: a fold's own scale then costs the model a
little, which is the honest direction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import data, statistics
from ..grammar import LABELS
from ..statistics import Array, Bootstrap, Figure, Mask, area, auroc, difference, retrained
from . import other_hospital, shifts, shortcuts
from .film_tables import CHANCE
from .film_tables import film_tables as film_tables

if TYPE_CHECKING:
    from ..crossfit import Folds
    from ..train import Result

VIEWS = ("pa", "ap")
WITHIN = "within_abnormal"
MIN_CALIBRATED = 40  # positive films, below which a label's calibration cannot be judged
NAMES = [label.name for label in LABELS]


class Known:
    """The films' truth, folds and domains (the sets of films that a table's column is about)."""

    def __init__(self, films: Sequence[data.Film], fold: Sequence[int]) -> None:
        self.films = films
        self.truth: Mask = np.array([film.labels for film in films], dtype=bool)
        self.fold = np.asarray(fold, dtype=np.int64)
        self.patients = Bootstrap([film.patient for film in films])
        self.domains: dict[str, Mask] = {
            "all": np.ones(len(films), dtype=bool),
            **{view: np.array([film.context.view == view for film in films]) for view in VIEWS},
            WITHIN: self.truth[:, 0],
        }

    @property
    def by_fold(self) -> list[Mask]:
        """The films that each fold model judged."""
        return [self.fold == number for number in np.unique(self.fold)]

    def rows(self, domain: str) -> range:
        """The labels that have two classes there by design: no pneumonia within the abnormal."""
        return range(1 if domain == WITHIN else 0, len(LABELS))

    def area(self, scores: Array, label: int, chosen: Mask) -> Figure:
        """Area of scores that were made for the chosen films alone; `n` is the positive ones."""
        truth = self.truth[chosen, label]
        return self.patients.figure(area(scores, truth), chosen, n=int(truth.sum()))


def _put(found: dict[str, Figure], key: str, figure: Figure) -> None:
    """A statistic without a value (one class only) is no figure."""
    if not np.isnan(figure["value"]):
        found[key] = figure


def areas(known: Known, logits: Array) -> dict[str, Figure]:
    """AUROC of the model per domain and label."""
    found: dict[str, Figure] = {}
    for domain, chosen in known.domains.items():
        for label in known.rows(domain):
            figure = known.area(logits[chosen, label], label, chosen)
            _put(found, f"auroc.{domain}.{NAMES[label]}", figure)
    return found


def rivals(known: Known, logits: Array) -> tuple[dict[str, Figure], dict[str, object]]:
    """The shortcuts on the same films and folds, and how far the model beats the best of them. The
    best is the one of the highest area on these very films, which favours it."""
    found: dict[str, Figure] = {}
    best: dict[str, dict[str, str]] = {}
    filed, given = shortcuts.inputs(known.films)
    for domain, chosen in known.domains.items():
        truth, fold = known.truth[chosen], known.fold[chosen]
        scores = {name: shortcuts.cross_fitted(rows[chosen], truth, fold) for name, rows in filed.items()}
        left = {name: shortcuts.cross_fitted(rows[chosen], truth, fold) for name, rows in given.items()}
        best[domain] = {}
        for label in known.rows(domain):
            of = f"{domain}.{NAMES[label]}"
            for table, group in (("shortcut", scores), ("shortcut_after", left)):
                for name, values in group.items():
                    _put(found, f"{table}.{name}.{of}", known.area(values[:, label], label, chosen))
            areas_of = {name: found.get(f"shortcut.{name}.{of}") for name in scores}
            known_ones = [(figure["value"], name) for name, figure in areas_of.items() if figure]
            if not known_ones:
                continue
            value, first = max(known_ones)
            rival = area(scores[first][:, label], truth[:, label])
            if value <= 0.5:  # A rule worse than a coin is no rival; the coin is.
                first, rival = CHANCE, lambda weights: np.full(len(weights), 0.5)
            best[domain][NAMES[label]] = first
            margin = difference(area(logits[chosen, label], truth[:, label]), rival)
            n = int(truth[:, label].sum())
            _put(found, f"margin.{of}", known.patients.figure(margin, chosen, n=n))
    return found, {"best_shortcut": best}


def verdict(found: dict[str, Figure]) -> dict[str, object]:
    """The issue's question: is pneumonia within each view above every shortcut's upper bound?"""
    said: dict[str, object] = {}
    for view in VIEWS:
        mine = found.get(f"auroc.{view}.{NAMES[0]}")
        theirs = {name: found.get(f"shortcut.{name}.{view}.{NAMES[0]}") for name in shortcuts.NAMES}
        rows = {
            name: {"upper": figure["high"], "by": mine["value"] - figure["high"]}
            for name, figure in theirs.items()
            if mine and figure and figure["high"] is not None
        }
        if mine and len(rows) == len(theirs):
            beaten = {name: row["by"] > 0 for name, row in rows.items()}
            said[view] = {
                "above_every_upper_bound": all(beaten.values()),
                "value": mine["value"],
                "shortcuts": {name: {"above": beaten[name], **row} for name, row in rows.items()},
            }
    return said


def groups(known: Known, logits: Array) -> dict[str, Figure]:
    """AUROC of pneumonia per sex and per age band, over all films and per view."""
    found: dict[str, Figure] = {}
    kinds = {
        "sex": [film.context.sex for film in known.films],
        "age": [film.context.age for film in known.films],
    }
    for kind, values in kinds.items():
        for group in sorted(set(values) - {"unknown"}):
            of_group = np.array([value == group for value in values])
            for domain in ("all", *VIEWS):
                chosen = known.domains[domain] & of_group
                figure = known.area(logits[chosen, 0], 0, chosen)
                _put(found, f"{kind}.{domain}.{group}", figure)
    return found


def calibration(known: Known, probability: Array) -> dict[str, Figure]:
    """Brier score, log-loss and calibration error, beside a model that knows only prevalence."""
    found: dict[str, Figure] = {}
    usual = statistics.prevalence_elsewhere(known.truth, known.fold)
    rows = {
        name: [index] for index, name in enumerate(NAMES) if known.truth[:, index].sum() >= MIN_CALIBRATED
    }
    for name, columns in {**rows, "pooled": list(range(len(NAMES)))}.items():
        truth, mine, base = known.truth[:, columns], probability[:, columns], usual[:, columns]
        n = int(truth.sum())
        measures = {"brier": statistics.squared_errors, "log_loss": statistics.log_losses}
        for measure, of in measures.items():
            here, there = (statistics.mean(of(said, truth).mean(axis=1)) for said in (mine, base))
            row = f"calibration.{name}.{measure}"
            found[row] = known.patients.figure(here, n=n)
            found[f"{row}_prevalence"] = known.patients.figure(there, n=n)
            found[f"{row}_gain"] = known.patients.figure(difference(there, here), n=n)
        # Draws with replacement have more calibration error than the films: no interval.
        error = statistics.ece(mine.ravel(), truth.ravel())
        perfect = statistics.ece_when_perfect(mine.ravel())
        found[f"calibration.{name}.ece"] = Figure(value=error, low=None, high=None, n=n)
        found[f"calibration.{name}.ece_if_perfect"] = Figure(value=perfect, low=None, high=None, n=n)
    return found


def operating(known: Known, probability: Array, thresholds: Sequence[float]) -> dict[str, Figure]:
    """Sensitivity and specificity at the bundle's thresholds; pneumonia per view as well."""
    found: dict[str, Figure] = {}
    for label, name in enumerate(NAMES):
        present = probability[:, label] >= thresholds[label]
        for domain in ("all", *VIEWS) if label == 0 else ("all",):
            for column, positive in (("sensitivity", True), ("specificity", False)):
                chosen = known.domains[domain] & (known.truth[:, label] == positive)
                hits = present[chosen] == positive
                _put(found, f"operating.{domain}_{name}.{column}", known.patients.share(hits, chosen))
    return found


def moved(known: Known, logits: dict[str, shifts.Floats], thresholds: Sequence[float]) -> dict[str, Figure]:
    """Per shift: area of pneumonia and its change, change of probability, films whose labels change."""
    found: dict[str, Figure] = {}
    truth, n = known.truth[:, 0], int(known.truth[:, 0].sum())
    plain = logits[shifts.PLAIN].astype(np.float64)
    before = _sigmoid(plain)
    for name, there in logits.items():
        values = there.astype(np.float64)
        own = area(values[:, 0], truth)
        _put(found, f"shift.{name}.auroc", known.patients.figure(own, n=n))
        if name == shifts.PLAIN:
            continue
        after = _sigmoid(values)
        change = known.patients.figure(difference(own, area(plain[:, 0], truth)), n=n)
        parts = [
            auroc(values[mine, 0], truth[mine]) - auroc(plain[mine, 0], truth[mine]) for mine in known.by_fold
        ]
        _put(found, f"shift.{name}.auroc_change", retrained(change, parts, len(parts)))
        sizes = np.abs(after - before)[:, 0]
        parts = [float(sizes[mine].mean()) for mine in known.by_fold]
        found[f"shift.{name}.probability_change"] = retrained(
            known.patients.figure(statistics.mean(sizes)), parts, len(parts), 1.0
        )
        labels = ((after >= thresholds) != (before >= thresholds)).any(axis=1)
        parts = [float(labels[mine].mean()) for mine in known.by_fold]
        found[f"shift.{name}.labels_changed"] = retrained(
            known.patients.share(labels), parts, len(parts), 1.0
        )
    return found


def film_figures(
    films: Sequence[data.Film],
    folds: Folds,
    result: Result,
    hannover_films: Sequence[data.Film] | None,
    log: Callable[[str], None],
) -> tuple[dict[str, Figure], dict[str, object]]:
    """All figures of the heads, and the facts that go with them."""
    started = time.monotonic()
    known = Known(films, folds.fold)
    logits = folds.logits.numpy().astype(np.float64)
    probability = _sigmoid(folds.calibrated.numpy().astype(np.float64))
    found = areas(known, logits)
    beside, facts = rivals(known, logits)
    found |= beside
    log(f"films: areas and shortcuts, {time.monotonic() - started:.0f} s")
    found |= groups(known, logits)
    found |= calibration(known, probability)
    found |= operating(known, probability, result.thresholds)
    versions, pooled = shifts.held_out(films, folds, log)
    found |= moved(known, versions, result.thresholds)
    if hannover_films:
        threshold = result.thresholds[0]
        found |= other_hospital.figures(
            films, folds, pooled, result.vision, threshold, known.patients, hannover_films
        )
    log(f"films: shifts, {time.monotonic() - started:.0f} s")
    facts |= {
        "verdict": verdict(found),
        "auroc_same_fold": {
            domain: statistics.auroc_same_fold(logits[chosen, 0], known.truth[chosen, 0], known.fold[chosen])
            for domain, chosen in known.domains.items()
            if domain != WITHIN
        },
        "films": len(films),
        "patients": len({film.patient for film in films}),
        "films_seconds": round(time.monotonic() - started),
    }
    return found, facts


def _sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))
