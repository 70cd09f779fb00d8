"""Asks the exported text graphs about films, and reads what their drafts state.

Before it: `export` wrote the graphs of the bundle, `crossfit` the fold models. After it:
`drafts` counts. Every film is seen by the fold model that did not see its patient; the text
graphs are the bundle's own, as the server runs them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .. import data, grammar, tokenizer
from ..crossfit import Folds, see
from ..grammar import Band, Context, Draft, Query
from ..graphs import Drafted, Graphs
from ..train import Result

REPORT = Query("Findings and impression")
# What the Impression says of one finding -> the finding. "... not excluded" states none.
IMPRESSIONS: dict[str, str] = {
    grammar.answer(Query("", (index,)), [band] * len(grammar.LABELS)).impression: label.name
    for index, label in enumerate(grammar.LABELS)
    for band in (Band.POSSIBLE, Band.PROBABLE, Band.CONSISTENT)
}
BATCH = 8  # the fastest on one thread: the prefix of more rows does not fit its cache
# What is shown: ("film", films by number), ("dark", folds) for pixels all zero as those folds' models
# see them, or ("blank", one entry per film) for film tokens all zero.
Image = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Asked:
    """One request, and the patient for whose sake it is made."""

    image: Image
    query: Query
    context: Context
    patient: str


class Plan(NamedTuple):
    """A request, its study's bands, and the grammar's draft."""

    asked: Asked
    bands: tuple[Band, ...]
    wanted: Draft


@dataclass(frozen=True)
class Answered:
    """A draft, what the grammar says on the same probabilities, and how sure the decoder was."""

    asked: Asked
    draft: Draft
    wanted: Draft
    bands: tuple[Band, ...]
    confidence: float

    @property
    def exact(self) -> bool:
        """The grammar's draft, word for word."""
        return self.draft == self.wanted

    @property
    def stated(self) -> dict[str, Band]:
        """Bands by label, as the Findings say."""
        return grammar.read_bands(self.draft)

    @property
    def impression(self) -> frozenset[str]:
        """Labels that the Impression states, sure or not."""
        sentences = (f"{text.removesuffix('.')}." for text in self.draft.impression.split(". "))
        return frozenset(IMPRESSIONS[text] for text in sentences if text in IMPRESSIONS)

    @property
    def opening_right(self) -> bool:
        """Whether the opening sentence counts the films and names the view as the request does."""
        return self.draft.findings.split(". ")[0] == self.wanted.findings.split(". ")[0]


class Desk:
    """Asks the exported text graphs, each different request once."""

    def __init__(self, films: Sequence[data.Film], folds: Folds, result: Result, bundle: Path) -> None:
        self.films, self.folds, self.tokens = films, folds, result.tokens
        self.graphs = Graphs(bundle, result.config)
        self.edges = [grammar.edges_for(threshold) for threshold in result.thresholds]
        side, labels = result.config.image, result.config.labels
        self.labels = labels
        self.seen = np.zeros((len(films), result.config.film_tokens, result.config.channels[-1]), np.float32)
        self.dark = np.zeros((len(folds.visions), *self.seen.shape[1:]), np.float32)
        pixels = data.load(list(films), side)
        for fold, vision in enumerate(folds.visions):
            mine = [index for index, of_film in enumerate(folds.fold) if of_film == fold]
            self.seen[mine] = see(vision, pixels[mine])[0].numpy()
            self.dark[fold] = see(vision, torch.zeros(1, 1, side, side))[0][0].numpy()
        self.answers: dict[Hashable, Answered] = {}

    def tokens_of(self, image: Image) -> NDArray[np.float32]:
        """Film tokens `[films,50,192]` of a request's image."""
        kind, which = image
        if kind == "blank":
            return np.zeros((len(which), *self.seen.shape[1:]), np.float32)
        return (self.dark if kind == "dark" else self.seen)[list(which)]

    def bands_of(self, image: Image) -> tuple[Band, ...]:
        """Bands of the study's probabilities: the maximum over its films."""
        highest = self.tokens_of(image)[:, -1, : self.labels].max(axis=0)
        probabilities = torch.sigmoid(torch.from_numpy(highest)).tolist()
        return tuple(
            grammar.band_of(value, edge) for value, edge in zip(probabilities, self.edges, strict=True)
        )

    def plan(self, asked: Asked) -> Plan:
        """What the grammar says to a request."""
        bands = self.bands_of(asked.image)
        return Plan(asked, bands, grammar.draft(asked.query, bands, len(asked.image[1]), asked.context))

    def write(self, some: Sequence[Plan]) -> list[Drafted]:
        """One batch through the graphs, which are told the request and not the plan."""
        asked = [plan.asked for plan in some]
        texts = [tokenizer.text_input(self.tokens, one.query.text, one.context) for one in asked]
        return self.graphs.draft([self.tokens_of(one.image) for one in asked], texts, BATCH)

    def ask(self, requests: Sequence[Asked]) -> list[Answered]:
        """Answers in the order of the requests."""

        def key(asked: Asked) -> Hashable:
            return asked.image, asked.query.text, asked.context

        fresh = {key(asked): asked for asked in requests if key(asked) not in self.answers}
        plans = [self.plan(asked) for asked in fresh.values()]
        # Drafts of like length share a batch: a row that has ended costs as much as one that has not.
        plans.sort(key=lambda plan: len(plan.wanted.findings) + len(plan.wanted.impression))
        parts = [plans[start : start + BATCH] for start in range(0, len(plans), BATCH)]
        # A session is one thread, as on the server; several batches run beside each other.
        with ThreadPoolExecutor(torch.get_num_threads()) as workers:
            for some, drafted in zip(parts, workers.map(self.write, parts), strict=True):
                for plan, (ids, logprob) in zip(some, drafted, strict=True):
                    draft = tokenizer.read(self.tokens, ids)
                    answered = Answered(plan.asked, draft, plan.wanted, plan.bands, math.exp(logprob))
                    self.answers[key(plan.asked)] = answered
        # The same answer may be asked for on behalf of several patients.
        return [replace(self.answers[key(asked)], asked=asked) for asked in requests]

    def about(self, film: int, query: Query = REPORT, image: str = "film") -> Asked:
        """A request for one film with its own context, or with its image taken away."""
        which = {"film": film, "dark": self.folds.fold[film], "blank": 0}[image]
        return Asked((image, (which,)), query, self.films[film].context, self.films[film].patient)
