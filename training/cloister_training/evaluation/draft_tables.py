"""The card's tables on drafts.

Before it: `drafts`. After it: `card` and `make eval-model` print them.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import grammar
from .desk import REPORT
from .figures import Facts, Figures, shown
from .film_tables import table

F1_ROWS = {
    "draft": "**the drafts**",
    "grammar": "the grammar on the same probabilities (most that a text model can reach)",
    "heads": "the heads alone: at or above the threshold, no text",
    "template_normal": "fixed template: the report of a film without findings",
    "template_frequent": "fixed template: the most frequent label set of abnormal films",
    "zero_pixels": "image removed: pixels all zero",
    "zero_tokens": "image removed: film tokens all zero",
}
CUTS = {"uncertain_positive": "uncertain = positive", "uncertain_negative": "uncertain = negative"}
KINDS = {
    "report": "full report, one film",
    "report_studies": "full report, two to four films",
    "report_other_wording": "full report, asked for in other words",
    "report_after_context": "full report, clinical context in front",
    "report_after_finding": "full report, a finding told in front",
    "report_noise": "words that ask for nothing known",
    "question_one": "question on one finding",
    "question_two": "question on two findings",
    "question_no_head": "question on a finding without a head",
    "question_with_and_without_head": "question on two findings, one without a head",
    "question_unknown": "question on something that the grammar has no word for",
    "question_unseen_wording": "question in a wording kept out of training",
    "question_after_context": "question, clinical context in front",
    "question_after_finding": "question, another finding told in front (both are answered)",
}
REMOVED = {
    "zero_pixels": "pixels all zero",
    "zero_tokens": "film tokens all zero",
    "other_patient": "a film of another patient",
}
FILMS = {"normal": "films without a finding", "abnormal": "abnormal films"}
SHOWN = {"image_present": "the film", "image_removed": "pixels all zero"}


def _rows(figures: Figures, prefix: str, titles: dict[str, str], columns: Sequence[str]) -> list[list[str]]:
    """A row per title that has a figure."""
    rows = []
    for row, title in titles.items():
        cells = [shown(figures.get(f"{prefix}.{row}.{column}"), 3) for column in columns]
        if set(cells) != {"-"}:
            rows.append([title, *cells])
    return rows


def _overall(figures: Figures) -> str:
    columns = [f"{mean}_{cut}" for cut in CUTS for mean in ("micro", "macro")]
    head = ["F1", *(f"{mean}, {title}" for title in CUTS.values() for mean in ("micro", "macro"))]
    return table(head, _rows(figures, "label_f1", F1_ROWS, columns))


def _per_label(figures: Figures) -> str:
    first, second = CUTS
    columns = [("draft", first), ("draft", second), ("heads", first)]
    columns += [("template_frequent", first), ("zero_pixels", first)]
    rows = []
    for label in grammar.LABELS:
        cells = [figures.get(f"label_f1.{row}.{label.name}_{cut}") for row, cut in columns]
        rows.append([label.name, str(cells[0]["n"]) if cells[0] else "-", *map(shown, cells)])
    head = ["label", "positive films", *(f"drafts, {title}" for title in CUTS.values())]
    return table([*head, "heads", "most frequent set", "pixels zero"], rows)


def _wrong(facts: Facts) -> str:
    """A few drafts that are not the grammar's, word for word."""
    found = facts.get("drafts_wrong", [])
    if not found:
        return "No draft of this table differs from the grammar's."
    lines = ["Drawn at random from the drafts of this table that are not the grammar's:"]
    for one in found:
        wanted, got = (f"{one[key]['findings']} / {one[key]['impression']}" for key in ("wanted", "got"))
        lines.append(f'- asked "{one["query"]}", the grammar says "{wanted}", the model wrote "{got}"')
    return "\n".join(lines)


def draft_tables(figures: Figures, facts: Facts) -> str:
    """The card's part on drafts."""
    agreement = ["drafts", "bands", "findings", "opening", "below_threshold"]
    known, unseen = len(grammar.QUESTIONS), len(grammar.HELD_OUT_QUESTIONS)
    parts = [
        "### Label F1 of the drafts",
        f'{facts["drafts_reports"]} full reports ("{REPORT.text}", one film, its view, age band and sex) against the '
        "NIH labels, each film through the model that has not seen its patient. Uncertain = positive counts every wording "
        'but "No ... is seen" as a statement; uncertain = negative counts only "is probable" and "is consistent with", '
        'so that "cannot be excluded" and "is possible" are absent.',
        _overall(figures),
        _per_label(figures),
        "### Escalated and delivered",
        "Share of the same films that a label with an ACR category escalates, and share whose draft is neither escalated "
        "nor withheld.",
        table(
            ["", "escalated", "delivered"], _rows(figures, "escalation", FILMS, ["escalated", "delivered"])
        ),
        "### Does the film matter?",
        f"Of the {facts['drafts_abnormal']} drafts whose Impression states a finding, the share that changes when "
        "something else is shown instead of the film. Required: half of them with the pixels at zero.",
        table(
            ["shown instead", "other findings in the Impression", "another band of any finding"],
            _rows(figures, "image", REMOVED, ["labels_changed", "words_changed"]),
        ),
        "### Does the draft say what the grammar says?",
        "Share of drafts that are the grammar's word for word; of bands that are the grammar's; of drafts that speak of "
        "the findings asked for and of no other; of reports whose first sentence gives count and view of the films; "
        "of drafts below the confidence threshold, which are withheld.",
        table(
            ["request", "whole drafts", "bands", "findings", "first sentence", "withheld"],
            _rows(figures, "agreement", KINDS, agreement),
        ),
        _wrong(facts),
        "### Does the query matter?",
        "Pairs of different queries about one film: both drafts are exactly the grammar's, so that they differ as the "
        "grammar's do (required: 0.95); and, where the grammar's drafts differ, the share in which the model's do.",
        table(
            ["", "both as the grammar says", "drafts differ"],
            _rows(figures, "query", {"pairs": "pairs of queries"}, ["as_the_grammar", "changed"]),
        ),
        "### Does another wording of a question change the answer?",
        f"Every finding asked in {known} trained and {unseen} unseen wordings, its names taking turns: share of "
        "wordings whose band is not that of most trained ones, no answer included; share of findings with any such wording.",
        table(
            ["shown", "trained wordings", "unseen wordings", "findings with any change"],
            _rows(figures, "paraphrase", SHOWN, ["trained", "unseen", "any_flip"]),
        ),
    ]
    return "\n\n".join(parts) + "\n"
