"""The grammar: what is asked, and what a draft says for given label probabilities.

Before it: label probabilities of a study (`train`). After it: `tokenizer` and `train` take its
texts. There are no openly licensed image+report pairs, so every sentence of the model comes from
here, and the card says so in its first line. One wording per meaning in the answers: a draft's
token probabilities then speak of doubt about the film and not of style. Many wordings in the
questions, so that the query matters.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Label:
    """A finding that the vision encoder has a head for."""

    name: str  # as in bundle.toml and on the wire
    nih: str  # as in the NIH table
    phrase: str  # as in a sentence
    asked_as: tuple[str, ...]  # as in a question
    acr_category: int | None  # who has to be told how fast; our choice, see bundle.py


LABELS: tuple[Label, ...] = (
    Label("pneumonia", "Pneumonia", "pneumonia", ("pneumonia", "a pneumonia", "lung infection"), 2),
    Label(
        "infiltration",
        "Infiltration",
        "an infiltrate",
        ("infiltrate", "infiltration", "an infiltrate", "infiltrates"),
        None,
    ),
    Label(
        "atelectasis",
        "Atelectasis",
        "atelectasis",
        ("atelectasis", "lung collapse", "atelectatic change"),
        None,
    ),
    Label(
        "edema",
        "Edema",
        "pulmonary edema",
        ("edema", "pulmonary edema", "oedema", "pulmonary oedema"),
        2,
    ),
    Label(
        "effusion",
        "Effusion",
        "pleural effusion",
        ("effusion", "pleural effusion", "pleural fluid", "an effusion"),
        None,
    ),
    Label(
        "pleural_thickening",
        "Pleural_Thickening",
        "pleural thickening",
        ("pleural thickening", "thickened pleura", "thickening of the pleura"),
        None,
    ),
    Label(
        "consolidation",
        "Consolidation",
        "consolidation",
        ("consolidation", "a consolidation", "airspace consolidation"),
        None,
    ),
    Label("nodule", "Nodule", "a nodule", ("nodule", "a nodule", "lung nodules", "nodules"), 3),
    Label("mass", "Mass", "a mass", ("mass", "a mass", "lung mass", "a tumor"), 3),
)

# Findings that people ask for and this model has no head for (fewer than 15 positive patients, or
# no label at all): phrase -> wordings.
NOT_ASSESSED: dict[str, tuple[str, ...]] = {
    "pneumothorax": ("pneumothorax", "a pneumothorax", "ptx", "air in the pleural space"),
    "heart size": ("cardiomegaly", "an enlarged heart", "heart size", "a large heart"),
    "fracture": ("fracture", "a rib fracture", "broken ribs", "fractures"),
    "line or tube position": ("tube position", "line position", "a misplaced tube", "et tube"),
    "emphysema": ("emphysema", "copd", "hyperinflation"),
    "fibrosis": ("fibrosis", "scarring", "interstitial fibrosis"),
    "hernia": ("hernia", "hiatal hernia", "a hernia"),
    "free air": ("free air", "air under the diaphragm", "pneumoperitoneum"),
}

QUESTIONS: tuple[str, ...] = (
    "is there {x}?",
    "any {x}?",
    "does the film show {x}?",
    "do you see {x}?",
    "evidence of {x}?",
    "is {x} present?",
    "rule out {x}",
    "please assess for {x}.",
    "could this be {x}?",
    "{x}?",
    "any signs of {x} on this x-ray?",
    "check for {x}",
    "what about {x}?",
    "question of {x}",
    "concern for {x}",
    "look for {x} please",
    "tell me whether {x} is visible",
    "r/o {x}",
    "does [NAME] have {x}?",
    "can {x} be seen on these films?",
    "suspected {x}",
    "{x} yes or no",
)
# Kept out of training, to see whether an unseen wording works.
HELD_OUT_QUESTIONS: tuple[str, ...] = ("are there findings of {x}?", "i need to know if {x} is there")

REPORT_QUERIES: tuple[str, ...] = (
    "",
    "describe the films.",
    "write a report.",
    "findings and impression",
    "chest x-ray report",
    "please report this chest x-ray.",
    "draft the report",
    "what do you see?",
    "read this film",
    "interpret the chest radiograph",
    "give me the full report",
    "full read please",
    "report",
    "routine chest radiograph",
    "please read",
    "what does the film show?",
    "summarize the findings",
    "describe findings and impression.",
    "radiology report for [NAME]",
    "chest film, please report",
    "what are the findings?",
    "generate a report for this study",
    "anything abnormal?",
)
CONTEXTS: tuple[str, ...] = (
    "",
    "",
    "",
    "",
    "cough and fever.",
    "shortness of breath.",
    "fever for three days.",
    "dyspnea.",
    "chest pain.",
    "preoperative film.",
    "follow up.",
    "icu patient.",
    "smoker.",
    "seen on [DATE].",
    "history of heart failure.",
    "productive cough.",
    "weight loss.",
    "routine check.",
    "hypoxia.",
    "clinical question:",
    "indication: cough.",
)

COUNTS = ("One film", "Two films", "Three films", "Four films")


class Band(StrEnum):
    """How sure a sentence may sound; follows the label's probability."""

    ABSENT = "absent"
    NOT_EXCLUDED = "not_excluded"
    POSSIBLE = "possible"
    PROBABLE = "probable"
    CONSISTENT = "consistent"


BANDS: tuple[Band, ...] = tuple(Band)
UPPER_EDGES: tuple[float, float, float] = (0.35, 0.60, 0.85)
MAX_ABSENT = 0.20


def edges_for(threshold: float) -> tuple[float, float, float, float]:
    """Probabilities at which the wording changes. A label at its threshold is never called absent."""
    return (min(threshold, MAX_ABSENT), *UPPER_EDGES)


def band_of(probability: float, edges: Sequence[float]) -> Band:
    """The band of one probability."""
    return BANDS[sum(probability >= edge for edge in edges)]


@dataclass(frozen=True)
class Context:
    """What the request says beside the query; values are the closed lists of `proto`."""

    view: str = "unknown"  # pa | ap | lateral | unknown
    age: str = "unknown"  # under_18 | 18_39 | 40_64 | 65_89 | 90_and_over | unknown
    sex: str = "unknown"  # female | male | other | unknown


@dataclass(frozen=True)
class Query:
    """A query and what it asks for: nothing (a full report), labels, or findings without a head."""

    text: str
    labels: tuple[int, ...] = ()
    not_assessed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """The two sections of a report."""

    findings: str
    impression: str


def _joined(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bare(phrase: str) -> str:
    return phrase.removeprefix("an ").removeprefix("a ")


def sentence(label: Label, band: Band) -> str:
    """One finding in one sentence."""
    match band:
        case Band.ABSENT:
            return f"No {_bare(label.phrase)} is seen."
        case Band.NOT_EXCLUDED:
            return f"{_capital(label.phrase)} cannot be excluded."
        case Band.POSSIBLE:
            return f"{_capital(label.phrase)} is possible."
        case Band.PROBABLE:
            return f"{_capital(label.phrase)} is probable."
        case Band.CONSISTENT:
            return f"The appearance is consistent with {label.phrase}."


def _short(label: Label, band: Band) -> str:
    phrase = _bare(label.phrase)
    match band:
        case Band.ABSENT:
            return f"No {phrase}."
        case Band.NOT_EXCLUDED:
            return f"{_capital(phrase)} not excluded."
        case Band.POSSIBLE:
            return f"Possible {phrase}."
        case Band.PROBABLE:
            return f"Probable {phrase}."
        case Band.CONSISTENT:
            return f"{_capital(phrase)}."


def _opening(films: int, context: Context) -> list[str]:
    view = {"pa": "PA view", "ap": "AP view", "lateral": "lateral view"}.get(context.view)
    text = [f"{COUNTS[films - 1]}, {view or 'view not stated'}."]
    if context.age in ("under_18", "90_and_over"):
        text.append("Few patients of this age were in the training data.")
    return text


def full_report(bands: Sequence[Band], films: int, context: Context) -> Draft:
    """Findings by falling certainty within the label order, then what is absent, then limits."""
    findings = _opening(films, context)
    shown = [(label, band) for label, band in zip(LABELS, bands, strict=True) if band != Band.ABSENT]
    absent = [_bare(label.phrase) for label, band in zip(LABELS, bands, strict=True) if band == Band.ABSENT]
    findings += [sentence(label, band) for label, band in shown]
    if absent:
        findings.append(f"No {_joined(absent, 'or')} is seen.")
    findings.append("Pneumothorax and heart size are not assessed.")
    impression = [_short(label, band) for label, band in shown if band != Band.NOT_EXCLUDED]
    if not impression:
        open_ones = [_bare(label.phrase) for label, _ in shown]
        impression = [
            f"No definite abnormality; {_joined(open_ones, 'and')} not excluded."
            if open_ones
            else "No abnormality among the findings that are assessed."
        ]
    impression.append("Draft for a radiologist to read.")
    return Draft(" ".join(findings), " ".join(impression))


def answer(query: Query, bands: Sequence[Band]) -> Draft:
    """The asked findings, nothing else."""
    findings = [sentence(LABELS[index], bands[index]) for index in query.labels]
    impression = [_short(LABELS[index], bands[index]) for index in query.labels]
    findings += [f"{_capital(phrase)} is not assessed by this model." for phrase in query.not_assessed]
    impression += ["Not assessed." for _ in query.not_assessed]
    return Draft(" ".join(findings), " ".join(impression))


def draft(query: Query, bands: Sequence[Band], films: int, context: Context) -> Draft:
    """What the model is taught to say."""
    if query.labels or query.not_assessed:
        return answer(query, bands)
    return full_report(bands, films, context)


def _in_context(rng: random.Random, text: str) -> str:
    return f"{rng.choice(CONTEXTS)} {text}".strip()


def _noise(rng: random.Random) -> str:
    """Words that mean nothing here: whatever asks for no finding gets a full report."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(rng.randint(1, 5))]
    known = " ".join(CONTEXTS).split()
    words += rng.choices(known, k=rng.randint(1, 12))
    rng.shuffle(words)
    return " ".join(words)


def sample_report_query(rng: random.Random) -> Query:
    """A query for a full report, or one that asks for nothing known."""
    if rng.random() < 0.1:
        return Query(_noise(rng))
    return Query(_in_context(rng, rng.choice(REPORT_QUERIES)))


def sample_question(rng: random.Random, questions: Sequence[str] = QUESTIONS) -> Query:
    """A question for one finding, for two, or for one without a head."""
    kind, template = rng.random(), rng.choice(questions)
    if kind < 0.68:
        index = rng.randrange(len(LABELS))
        asked = rng.choice(LABELS[index].asked_as)
        return Query(_in_context(rng, template.format(x=asked)), (index,))
    if kind < 0.82:
        first, second = rng.sample(range(len(LABELS)), 2)
        asked = f"{rng.choice(LABELS[first].asked_as)} or {rng.choice(LABELS[second].asked_as)}"
        return Query(_in_context(rng, template.format(x=asked)), (first, second))
    phrase = rng.choice(tuple(NOT_ASSESSED))
    return Query(_in_context(rng, template.format(x=rng.choice(NOT_ASSESSED[phrase]))), (), (phrase,))


def sample_query(
    rng: random.Random, questions: Sequence[str] = QUESTIONS, report: bool | None = None
) -> Query:
    """A query as a clinician might type it; of either kind unless `report` says which."""
    if rng.random() < 0.42 if report is None else report:
        return sample_report_query(rng)
    return sample_question(rng, questions)


def sample_context(rng: random.Random) -> Context:
    """A context drawn evenly, used where a film's own is not wanted."""
    return Context(
        rng.choice(("pa", "ap", "lateral", "unknown")),
        rng.choice(("under_18", "18_39", "40_64", "65_89", "90_and_over", "unknown")),
        rng.choice(("female", "male", "other", "unknown")),
    )


def sample_bands(rng: random.Random) -> tuple[Band, ...]:
    """Bands drawn freely, with absent in front, so that every word of the grammar is seen."""
    return tuple(rng.choices(BANDS, (5, 1, 1, 1, 1))[0] for _ in LABELS)
