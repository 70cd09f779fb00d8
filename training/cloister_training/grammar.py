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
    "aorta or mediastinum": ("a wide mediastinum", "aortic dissection", "an aneurysm", "pneumomediastinum"),
    "malignancy": ("malignancy", "cancer", "metastases", "metastatic disease"),
    "pulmonary embolism": ("pulmonary embolism", "an embolus", "embolism"),
    "tuberculosis": ("tuberculosis", "tb", "a cavity"),
    "covid": ("covid", "covid-19", "coronavirus"),
    "lymph node enlargement": ("enlarged lymph nodes", "hilar enlargement", "lymphadenopathy"),
    "bronchiectasis": ("bronchiectasis", "bronchial wall thickening"),
    "interstitial lung disease": ("interstitial lung disease", "ild", "sarcoidosis"),
    "bone or spine": ("scoliosis", "osteoporosis", "a bone lesion"),
    "device or foreign body": ("a pacemaker", "a foreign body", "an implant"),
}
# What an answer says of a finding that it has no word for.
UNKNOWN = "what is asked for"
NO_HEAD_ORDER = (*NOT_ASSESSED, UNKNOWN)

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

# What may stand before a query and names a finding. Before a wish for a report it changes nothing;
# before a question the told finding is answered too: an answer may say more than was asked, not less.
FINDING_CONTEXTS: tuple[str, ...] = (
    "history of {x}.",
    "known {x}.",
    "follow up of {x}.",
    "indication: {x}.",
    "previous {x}.",
    "treated for {x}.",
)
FINDING_CONTEXT_SHARE = 0.15
# Share of questions whose words are noise but for the finding: a wording that nobody thought of is
# understood by the finding that it names.
NOISY_SHARE = 0.15
# Share of findings in questions that have no head, and of single ones that are no word at all: a
# question about anything else must not be answered with a report that is silent about it.
NO_HEAD_SHARE = 0.22
UNKNOWN_SHARE = 0.10
LONG_SHARE = 0.15  # of the queries that ask for nothing known

LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
COUNTS = ("One film", "Two films", "Three films", "Four films")
MOST_FILMS = len(COUNTS)


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
    """A query and what it names: nothing (a full report), labels, or findings without a head. The
    order in which they are named does not matter: an answer has one order."""

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
    if context.view == "lateral":
        text.append("Lateral films were not in the training data.")
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
    """The named findings, nothing else: labels in their order, then what has no head in its order."""
    labels = sorted(query.labels)
    others = sorted(query.not_assessed, key=NO_HEAD_ORDER.index)
    findings = [sentence(LABELS[index], bands[index]) for index in labels]
    impression = [_short(LABELS[index], bands[index]) for index in labels]
    findings += [f"{_capital(phrase)} is not assessed by this model." for phrase in others]
    impression += [f"{_capital(phrase)}: not assessed." for phrase in others]
    return Draft(" ".join(findings), " ".join(impression))


def draft(query: Query, bands: Sequence[Band], films: int, context: Context) -> Draft:
    """What the model is taught to say."""
    if query.labels or query.not_assessed:
        return answer(query, bands)
    return full_report(bands, films, context)


def read_bands(drafted: Draft) -> dict[str, Band]:
    """What a draft's Findings state, by label: the inverse of `full_report` and `answer`. A label
    that is not spoken of is absent from the result; so is every sentence that is not the grammar's."""
    stated: dict[str, Band] = {}
    for text in drafted.findings.split(". "):
        sentence_text = text.removesuffix(".") + "."
        listed = sentence_text.removeprefix("No ").removesuffix(" is seen.")
        if sentence_text == f"No {listed} is seen.":
            names = [name for part in listed.split(", ") for name in part.split(" or ")]
            stated |= {BY_BARE_PHRASE[name].name: Band.ABSENT for name in names if name in BY_BARE_PHRASE}
        elif sentence_text in BY_SENTENCE:
            label, band = BY_SENTENCE[sentence_text]
            stated[label.name] = band
    return stated


BY_BARE_PHRASE: dict[str, Label] = {_bare(label.phrase): label for label in LABELS}
BY_SENTENCE: dict[str, tuple[Label, Band]] = {
    sentence(label, band): (label, band) for label in LABELS for band in BANDS
}


class _Naming:
    """Draws findings to name in a query, each at most once, and keeps what was named."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.labels: list[int] = []
        self.others: list[str] = []

    def name(self) -> str:
        """The wording of one more finding, with or without a head."""
        if self.rng.random() < NO_HEAD_SHARE:
            phrase = self.rng.choice([phrase for phrase in NOT_ASSESSED if phrase not in self.others])
            self.others.append(phrase)
            return self.rng.choice(NOT_ASSESSED[phrase])
        index = self.rng.choice([index for index in range(len(LABELS)) if index not in self.labels])
        self.labels.append(index)
        return self.rng.choice(LABELS[index].asked_as)

    def context(self) -> str:
        """What stands before the query; at times it names a finding."""
        if self.rng.random() < FINDING_CONTEXT_SHARE:
            return self.rng.choice(FINDING_CONTEXTS).format(x=self.name())
        return self.rng.choice(CONTEXTS)

    def query(self, text: str) -> Query:
        return Query(text.strip(), tuple(self.labels), tuple(self.others))


def _word(rng: random.Random) -> str:
    """No word: letters, at times with the end of a disease."""
    letters = "".join(rng.choices(LETTERS, k=rng.randint(3, 8)))
    return letters + rng.choice(("", "", "itis", "osis", "oma", "ia", "s"))


def _noise(rng: random.Random, most_known: int) -> str:
    """Words that mean nothing here: whatever asks for no finding gets a full report."""
    words = ["".join(rng.choices(LETTERS, k=rng.randint(2, 6))) for _ in range(rng.randint(1, 3))]
    known = " ".join(CONTEXTS).split()
    words += rng.choices(known, k=rng.randint(1, most_known))
    rng.shuffle(words)
    return " ".join(words)


def sample_report_query(rng: random.Random) -> Query:
    """A query for a full report, or one that asks for nothing known."""
    if rng.random() < 0.1:
        return Query(_noise(rng, 24 if rng.random() < LONG_SHARE else 6))
    return Query(f"{_Naming(rng).context()} {rng.choice(REPORT_QUERIES)}".strip())


def sample_question(rng: random.Random, questions: Sequence[str] = QUESTIONS) -> Query:
    """A question for one to three findings, with or without a head, or for something unknown."""
    template, named = rng.choice(questions), _Naming(rng)
    context = named.context()
    if rng.random() < UNKNOWN_SHARE:
        named.others.append(UNKNOWN)
        return named.query(f"{context} {template.format(x=_word(rng))}")
    if questions is QUESTIONS and rng.random() < NOISY_SHARE:
        template = f"{_noise(rng, 3)} {{x}} {_noise(rng, 3) if rng.random() < 0.5 else ''}".strip()
    asked = [named.name() for _ in range(rng.choices((1, 2, 3), (0.68, 0.22, 0.10))[0])]
    text = template.format(x=_joined(asked, rng.choice(("or", "or", "and"))))
    return named.query(f"{context} {text}")


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
