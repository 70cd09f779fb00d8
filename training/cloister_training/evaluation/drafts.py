"""What the drafts say: against the NIH labels, against the grammar, and whether film and query matter.

Before it: `desk` asks the exported graphs. After it: `evaluate` merges the figures, `draft_tables`
prints them. The text model was trained on the grammar and on film tokens, never on NIH labels: F1
says how right the heads are, agreement with the grammar how well they are put into words.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .. import data, grammar
from ..crossfit import Folds
from ..grammar import Band, Query
from ..statistics import Bootstrap, Statistic, retrained, wilson
from ..train import Result
from .desk import REPORT, Answered, Asked, Desk
from .figures import Facts, Figure, Figures

# Two ways to count a draft's words as a label.
CUTS: dict[str, frozenset[Band]] = {
    "uncertain_positive": frozenset(grammar.BANDS) - {Band.ABSENT},
    "uncertain_negative": frozenset({Band.PROBABLE, Band.CONSISTENT}),
}


@dataclass(frozen=True)
class Sizes:
    """How many drafts of each kind: about 6,500 together, some eight minutes on one thread."""

    reports: int | None = None  # films with a full report; all of them if absent
    shuffled: int = 300
    per_kind: int = 150
    studies: int = 120
    query_films: int = 150
    paraphrase_films: int = 12
    paraphrase_dark: int = 5

    @staticmethod
    def smoke() -> Sizes:
        """Enough to run every line."""
        return Sizes(12, 6, 4, 4, 3, 1, 1)


def drawn(part: str) -> random.Random:
    """A source of its own for every part: what one part draws must not hang on what the model said
    in another, or two runs would ask about different films."""
    return random.Random(f"31 {part}")


Mark = tuple[bool, str]  # whether it holds, and the patient whose film it is about


def share(marks: Sequence[Mark]) -> Figure:
    """The share of marks that hold, with patients drawn."""
    return Bootstrap([patient for _, patient in marks]).share(np.array([mark for mark, _ in marks]))


# --- Label F1 -----------------------------------------------------------------------------------


def f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Statistic:
    """F1 over `[films, labels]`: over all marks for one column or many, see `macro_f1`."""
    hits = 2.0 * (predicted & truth).sum(axis=1)
    either = predicted.sum(axis=1, dtype=np.float64) + truth.sum(axis=1)

    def of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return (weights @ hits) / (weights @ either)

    return of


def macro_f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Statistic:
    """The mean of the labels' F1. A label that a draw has neither stated nor true counts 0."""
    each = [f1(predicted[:, [label]], truth[:, [label]]) for label in range(truth.shape[1])]
    return lambda weights: np.mean([np.nan_to_num(of(weights)) for of in each], axis=0)


def _f1_figure(patients: Bootstrap, predicted: NDArray[np.bool_], truth: NDArray[np.bool_], n: int) -> Figure:
    """F1 and the wider of two intervals at each end. F1 = 2J / (1 + J) of the share J of marks that
    both sides make among those that either makes; where no mark is common, the bootstrap has no
    width, and Wilson's interval of that share knows better."""
    figure = patients.figure(f1(predicted, truth), n=n)
    common, either = int((predicted & truth).sum()), int((predicted | truth).sum())
    if either:
        low, high = (2 * share / (1 + share) for share in wilson(common, either))
        figure["low"] = low if figure["low"] is None else min(low, figure["low"])
        figure["high"] = high if figure["high"] is None else max(high, figure["high"])
    return figure


def f1_figures(
    row: str, cut: str, predicted: NDArray[np.bool_], truth: NDArray[np.bool_], patients: Bootstrap
) -> Figures:
    """F1 per label, over all marks (micro) and as the mean over labels (macro)."""
    found: Figures = {}
    for index, label in enumerate(grammar.LABELS):
        mine, theirs = predicted[:, [index]], truth[:, [index]]
        figure = _f1_figure(patients, mine, theirs, int(theirs.sum()))
        found[f"label_f1.{row}.{label.name}_{cut}"] = figure
    found[f"label_f1.{row}.micro_{cut}"] = _f1_figure(patients, predicted, truth, len(truth))
    found[f"label_f1.{row}.macro_{cut}"] = patients.figure(macro_f1(predicted, truth))
    return found


def _marks(stated: Iterable[dict[str, Band]], positive: frozenset[Band]) -> NDArray[np.bool_]:
    return np.array([[one.get(label.name) in positive for label in grammar.LABELS] for one in stated])


def _most_frequent(films: Sequence[data.Film], folds: Folds, chosen: Sequence[int]) -> NDArray[np.bool_]:
    """For each film the label set that most abnormal films of the other folds have."""
    best: dict[int, tuple[int, ...]] = {}
    for fold in sorted(set(folds.fold)):
        others = [film.labels for film, at in zip(films, folds.fold, strict=True) if at != fold]
        best[fold] = Counter(labels for labels in others if any(labels)).most_common(1)[0][0]
    return np.array([best[folds.fold[film]] for film in chosen], dtype=bool)


def _label_f1(desk: Desk, result: Result, chosen: Sequence[int], reports: Sequence[Answered]) -> Figures:
    films = desk.films
    truth = np.array([films[film].labels for film in chosen], dtype=bool)
    patients = Bootstrap([films[film].patient for film in chosen])
    probabilities = torch.sigmoid(desk.folds.calibrated[list(chosen)]).numpy()
    heads = probabilities >= np.array(result.thresholds)
    dark = desk.ask([desk.about(film, image="dark") for film in chosen])
    blank = desk.ask([desk.about(film, image="blank") for film in chosen])
    by_grammar = [
        {label.name: band for label, band in zip(grammar.LABELS, one.bands, strict=True)} for one in reports
    ]
    found: Figures = {}
    for cut, positive in CUTS.items():
        rows = {
            "draft": _marks((one.stated for one in reports), positive),
            "grammar": _marks(by_grammar, positive),
            "heads": heads,
            "template_normal": np.zeros_like(truth),
            "template_frequent": _most_frequent(films, desk.folds, chosen),
            "zero_pixels": _marks((one.stated for one in dark), positive),
            "zero_tokens": _marks((one.stated for one in blank), positive),
        }
        for row, predicted in rows.items():
            found |= f1_figures(row, cut, predicted, truth, patients)
    return found


# --- What would become of the films? ---------------------------------------------------------------


def _escalation(desk: Desk, result: Result, chosen: Sequence[int], reports: Sequence[Answered]) -> Figures:
    """Films that a label escalates, and films that are neither escalated nor withheld. The server's
    other reasons (an incomplete study, a rule on the draft) do not stand in a film."""
    urgent = [index for index, label in enumerate(grammar.LABELS) if label.acr_category]
    probabilities = torch.sigmoid(desk.folds.calibrated[list(chosen)]).numpy()
    escalated: NDArray[np.bool_] = np.any(
        probabilities[:, urgent] >= np.array(result.thresholds)[urgent], axis=1
    )
    groups: dict[str, list[tuple[bool, bool, str]]] = {"normal": [], "abnormal": []}
    for film, one, escalates in zip(chosen, reports, escalated.tolist(), strict=True):
        group = "abnormal" if any(desk.films[film].labels) else "normal"
        delivered = not escalates and one.confidence >= result.confidence_threshold
        groups[group].append((escalates, delivered, one.asked.patient))
    found: Figures = {}
    for group, rows in groups.items():
        if rows:
            found[f"escalation.{group}.escalated"] = share([(row[0], row[2]) for row in rows])
            found[f"escalation.{group}.delivered"] = share([(row[1], row[2]) for row in rows])
    return found


# --- Does the film matter? ----------------------------------------------------------------------


def _image_removed(desk: Desk, reports: Sequence[Answered], size: int, rng: random.Random) -> Figures:
    abnormal = [one for one in reports if one.impression]
    if not abnormal:
        return {}
    films = [one.asked.image[1][0] for one in abnormal]
    some = sorted(rng.sample(range(len(abnormal)), min(size, len(abnormal))))
    swapped = []
    for index in some:
        asked = abnormal[index].asked
        others = [at for at, film in enumerate(desk.films) if film.patient != asked.patient]
        swapped.append(Asked(("film", (rng.choice(others),)), asked.query, asked.context, asked.patient))
    rows = {
        "zero_pixels": (abnormal, desk.ask([desk.about(film, image="dark") for film in films])),
        "zero_tokens": (abnormal, desk.ask([desk.about(film, image="blank") for film in films])),
        "other_patient": ([abnormal[index] for index in some], desk.ask(swapped)),
    }
    found: Figures = {}
    for row, (before, after) in rows.items():
        pairs = list(zip(before, after, strict=True))
        places = [desk.folds.fold[one.asked.image[1][0]] for one, _ in pairs]
        for column, changed in (
            ("labels_changed", [one.impression != other.impression for one, other in pairs]),
            ("words_changed", [one.stated != other.stated for one, other in pairs]),
        ):
            marks = [(mark, one.asked.patient) for mark, (one, _) in zip(changed, pairs, strict=True)]
            # What a model says of no film is its own chance: its fold models differ in it.
            by_model = [
                float(np.mean([mark for mark, place in zip(changed, places, strict=True) if place == number]))
                for number in sorted(set(places))
            ]
            found[f"image.{row}.{column}"] = retrained(share(marks), by_model, len(by_model), 1.0)
    return found


# --- Does the draft say what the grammar says? --------------------------------------------------


def _noise(rng: random.Random) -> str:
    # Not the grammar's own noise, on which the model was trained.
    syllables = ("ba", "lor", "mi", "ten", "ku", "ras", "ov", "pel", "dun", "zi")
    return " ".join("".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 6)))


def _kinds() -> dict[str, Callable[[random.Random], Query]]:
    def one(rng: random.Random, questions: Sequence[str] = grammar.QUESTIONS) -> Query:
        index = rng.randrange(len(grammar.LABELS))
        return Query(rng.choice(questions).format(x=rng.choice(grammar.LABELS[index].asked_as)), (index,))

    def two(rng: random.Random) -> Query:
        first, second = rng.sample(range(len(grammar.LABELS)), 2)
        asked = " or ".join(rng.choice(grammar.LABELS[index].asked_as) for index in (first, second))
        return Query(rng.choice(grammar.QUESTIONS).format(x=asked), (first, second))

    def headless(rng: random.Random) -> Query:
        phrase = rng.choice(tuple(grammar.NOT_ASSESSED))
        asked = rng.choice(grammar.NOT_ASSESSED[phrase])
        return Query(rng.choice(grammar.QUESTIONS).format(x=asked), (), (phrase,))

    def mixed(rng: random.Random) -> Query:
        seen, other = one(rng), headless(rng)
        index = seen.labels[0]
        asked = [
            rng.choice(grammar.LABELS[index].asked_as),
            rng.choice(grammar.NOT_ASSESSED[other.not_assessed[0]]),
        ]
        rng.shuffle(asked)
        text = rng.choice(grammar.QUESTIONS).format(x=" or ".join(asked))
        return Query(text, seen.labels, other.not_assessed)

    def unknown(rng: random.Random) -> Query:
        made = rng.choice(("bronkular", "velith", "dramosis", "kelloid spots", "zenker pouch", "marble bone"))
        return Query(rng.choice(grammar.QUESTIONS).format(x=made), (), (grammar.UNKNOWN,))

    def in_front(rng: random.Random, query: Query) -> Query:
        context = rng.choice([text for text in grammar.CONTEXTS if text])
        return Query(f"{context} {query.text}".strip(), query.labels, query.not_assessed)

    def after_finding(rng: random.Random) -> Query:
        query = one(rng)
        told = rng.choice([index for index in range(len(grammar.LABELS)) if index not in query.labels])
        wording = rng.choice(grammar.LABELS[told].asked_as)
        return Query(
            f"{rng.choice(grammar.FINDING_CONTEXTS).format(x=wording)} {query.text}", (told, *query.labels)
        )

    def report_after_finding(rng: random.Random) -> Query:
        told = rng.choice(rng.choice(grammar.LABELS).asked_as)
        context = rng.choice(grammar.FINDING_CONTEXTS).format(x=told)
        return Query(f"{context} {report(rng).text}".strip())

    def report(rng: random.Random) -> Query:
        return Query(rng.choice(grammar.REPORT_QUERIES))

    return {
        "question_one": one,
        "question_two": two,
        "question_no_head": headless,
        "question_with_and_without_head": mixed,
        "question_unknown": unknown,
        "question_unseen_wording": lambda rng: one(rng, grammar.HELD_OUT_QUESTIONS),
        "question_after_context": lambda rng: in_front(rng, one(rng)),
        "question_after_finding": after_finding,
        "report_other_wording": report,
        "report_after_context": lambda rng: in_front(rng, report(rng)),
        "report_after_finding": report_after_finding,
        "report_noise": lambda rng: Query(_noise(rng)),
    }


def _studies(desk: Desk, count: int, rng: random.Random) -> list[Asked]:
    """Studies of two to four films of one patient, with the first film's context."""
    by_patient: dict[str, list[int]] = defaultdict(list)
    for index, film in enumerate(desk.films):
        by_patient[film.patient].append(index)
    several = [mine for mine in by_patient.values() if len(mine) > 1]
    found = []
    for mine in rng.sample(several, min(count, len(several))):
        chosen = tuple(rng.sample(mine, rng.randint(2, min(4, len(mine)))))
        first = desk.films[chosen[0]]
        found.append(Asked(("film", chosen), REPORT, first.context, first.patient))
    return found


def _agreement(row: str, answers: Sequence[Answered], threshold: float) -> Figures:
    bands: list[Mark] = []
    openings: list[Mark] = []
    named: list[Mark] = []
    for one in answers:
        query, stated, patient = one.asked.query, one.stated, one.asked.patient
        report = not query.labels and not query.not_assessed
        asked = {
            grammar.LABELS[index].name: one.bands[index]
            for index in (range(len(grammar.LABELS)) if report else query.labels)
        }
        bands += [(stated.get(name) == band, patient) for name, band in asked.items()]
        named.append((stated.keys() == asked.keys(), patient))
        if report:
            openings.append((one.opening_right, patient))
    columns: dict[str, list[Mark]] = {
        "drafts": [(one.exact, one.asked.patient) for one in answers],
        "bands": bands,
        "findings": named,
        "opening": openings,
        "below_threshold": [(one.confidence < threshold, one.asked.patient) for one in answers],
    }
    return {f"agreement.{row}.{column}": share(marks) for column, marks in columns.items() if marks}


def _query_pairs(desk: Desk, count: int, rng: random.Random) -> Figures:
    """Different queries on one film: right is a pair of which both drafts are the grammar's."""
    kinds = _kinds()
    asked = []
    for film in rng.sample(range(len(desk.films)), min(count, len(desk.films))):
        queries = [REPORT, kinds["report_after_context"](rng)]
        queries += [kinds[name](rng) for name in ("question_two", "question_no_head")]
        first, second = rng.sample(range(len(grammar.LABELS)), 2)
        for index in (first, second):
            wording = rng.choice(grammar.QUESTIONS)
            queries.append(Query(wording.format(x=rng.choice(grammar.LABELS[index].asked_as)), (index,)))
        asked.append([desk.about(film, query) for query in queries])
    answers = desk.ask([one for some in asked for one in some])
    as_said: list[Mark] = []
    changed: list[Mark] = []
    width = len(asked[0])
    for start in range(0, len(answers), width):
        of_film = answers[start : start + width]
        for index, one in enumerate(of_film):
            for other in of_film[index + 1 :]:
                who = one.asked.patient
                as_said.append((one.exact and other.exact, who))
                if one.wanted != other.wanted:
                    changed.append((one.draft != other.draft, who))
    return {
        "query.pairs.as_the_grammar": share(as_said),
        "query.pairs.changed": share(changed),
    }


def _paraphrases(desk: Desk, films: Sequence[int], image: str) -> Figures:
    """The same question in all wordings: how often does another band come back?"""
    wordings = (*grammar.QUESTIONS, *grammar.HELD_OUT_QUESTIONS)
    asked = [
        # The finding's own names take turns, too.
        desk.about(film, Query(text.format(x=label.asked_as[at % len(label.asked_as)]), (index,)), image)
        for film in films
        for index, label in enumerate(grammar.LABELS)
        for at, text in enumerate(wordings)
    ]
    answers = desk.ask(asked)
    trained: list[Mark] = []
    unseen: list[Mark] = []
    any_flip: list[Mark] = []
    for start in range(0, len(answers), len(wordings)):
        group = answers[start : start + len(wordings)]
        name = grammar.LABELS[group[0].asked.query.labels[0]].name
        stated = [one.stated.get(name) for one in group]
        known = stated[: len(grammar.QUESTIONS)]
        usual = Counter(known).most_common(1)[0][0]
        who = group[0].asked.patient
        # Saying nothing of the finding is never an answer, however many wordings do so.
        flips = [band is None or band != usual for band in stated]
        trained += [(flip, who) for flip in flips[: len(known)]]
        unseen += [(flip, who) for flip in flips[len(known) :]]
        any_flip.append((any(flips), who))
    row = {"film": "image_present", "dark": "image_removed"}[image]
    return {
        f"paraphrase.{row}.{column}": share(marks)
        for column, marks in (("trained", trained), ("unseen", unseen), ("any_flip", any_flip))
    }


def draft_figures(
    films: Sequence[data.Film],
    folds: Folds,
    result: Result,
    bundle: Path,
    log: Callable[[str], None],
    sizes: Sizes | None = None,
) -> tuple[Figures, Facts]:
    """Everything about drafts; `bundle` is the folder with the exported text graphs."""
    return measured(Desk(films, folds, result, bundle), result, sizes or Sizes(), log)


def measured(desk: Desk, result: Result, sizes: Sizes, log: Callable[[str], None]) -> tuple[Figures, Facts]:
    """The same at a desk that is there."""
    started, films = time.monotonic(), desk.films
    every = range(len(films))
    chosen: Sequence[int] = every
    if sizes.reports is not None:
        chosen = sorted(drawn("reports").sample(every, min(sizes.reports, len(films))))

    def told(what: str) -> None:
        log(f"drafts: {what}, {len(desk.answers)} drafts, {time.monotonic() - started:.0f} s")

    reports = desk.ask([desk.about(film) for film in chosen])
    told("full reports")
    found = _label_f1(desk, result, chosen, reports)
    found |= _escalation(desk, result, chosen, reports)
    found |= _image_removed(desk, reports, sizes.shuffled, drawn("shuffled"))
    told("image removed")
    threshold = result.confidence_threshold
    answers = {"report": reports, "report_studies": desk.ask(_studies(desk, sizes.studies, drawn("studies")))}
    for kind, draw in _kinds().items():
        rng = drawn(kind)
        asked = [desk.about(rng.choice(chosen), draw(rng)) for _ in range(sizes.per_kind)]
        answers[kind] = desk.ask(asked)
    for kind, some in answers.items():
        if some:
            found |= _agreement(kind, some, threshold)
    told("agreement with the grammar")
    found |= _query_pairs(desk, sizes.query_films, drawn("pairs"))
    told("pairs of queries")
    sample = drawn("paraphrases").sample(chosen, min(sizes.paraphrase_films, len(chosen)))
    found |= _paraphrases(desk, sample, "film")
    found |= _paraphrases(desk, sample[: sizes.paraphrase_dark], "dark")
    told("paraphrases")
    wrong = [one for some in answers.values() for one in some if not one.exact]
    facts: Facts = {
        "drafts_written": len(desk.answers),
        "drafts_seconds": round(time.monotonic() - started),
        "drafts_abnormal": sum(bool(one.impression) for one in reports),
        "drafts_reports": len(reports),
        "drafts_wrong": [
            {"query": one.asked.query.text, "wanted": vars(one.wanted), "got": vars(one.draft)}
            for one in drawn("wrong").sample(wrong, min(4, len(wrong)))
        ],
    }
    return found, facts
