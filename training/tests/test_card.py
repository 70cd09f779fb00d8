import re

import pytest
from conftest import Exported

from cloister_training import bundle, card, grammar, train
from cloister_training.evaluation.figures import Facts, Figure, Figures
from cloister_training.grammar import LABELS, Band

NAMES = [label.name for label in LABELS]


def figure(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(value=value, low=low, high=high, n=50)


def view(uppers: dict[str, float], value: float = 0.80) -> dict[str, object]:
    rows = {
        name: {"above": value > upper, "upper": upper, "by": value - upper} for name, upper in uppers.items()
    }
    above = all(row["above"] for row in rows.values())
    return {"above_every_upper_bound": above, "value": value, "shortcuts": rows}


FIGURES: Figures = {
    "auroc.pa.pneumonia": figure(0.80, 0.75, 0.85),
    "auroc.ap.pneumonia": figure(0.79, 0.74, 0.84),
    "shortcut_after.thumbnail.ap.pneumonia": figure(0.64, 0.6, 0.7),
    "image.zero_pixels.labels_changed": figure(0.91, 0.88, 0.94),
    "query.pairs.as_the_grammar": figure(0.984, 0.97, 0.99),
    "label_f1.draft.micro_uncertain_positive": figure(0.52, 0.48, 0.56),
    "label_f1.draft.mass_uncertain_positive": figure(0.2, 0.1, 0.3),
}
FACTS: Facts = {
    "films": 813,
    "patients": 546,
    "views": {"AP": 455, "PA": 358},
    "verdict": {
        "pa": view({"view": 0.55, "thumbnail": 0.79}),
        "ap": view({"view": 0.55, "thumbnail": 0.88}, 0.79),
    },
    "best_shortcut": {},
    "auroc_same_fold": {"pa": 0.81},
    "dropped": {"Pneumothorax": 10, "Cardiomegaly": 10, "Hernia": 1},
    "positive_films": dict.fromkeys(NAMES, 60),
    "positive_patients": dict.fromkeys(NAMES, 40),
    "thresholds": [0.5] * len(LABELS),
    "calibration_slope": 0.9,
    "calibration_shift": [0.1] * len(LABELS),
    "drafts_reports": 813,
    "drafts_abnormal": 400,
    "drafts_wrong": [
        {
            "query": "any mass?",
            "wanted": {"findings": "No mass is seen.", "impression": "No mass."},
            "got": {"findings": "No nodule is seen.", "impression": "No nodule."},
        }
    ],
    "parity": {
        "f32": {
            "torch_logprob": 2e-5,
            "positions": 812.0,
            "alone": 0.0,
            "batch_8": 2e-6,
            "n_3_batch_8": 6e-6,
        },
        "agreement": {
            "requests": 120.0,
            "tokens": 9000.0,
            "token_agreement": 0.9991,
            "draft_agreement": 0.96,
            "label_logit": 0.02,
            "confidence": 0.01,
        },
        "identical": {"batch_8": 1.0, "n_3": 0.975, "n_3_batch_8": 1.0},
    },
    "machine": "2 cores of something",
    "seconds": {"train folds": 600, "evaluate films": 60},
}


@pytest.fixture(scope="module")
def text(exported: Exported) -> str:
    result = train.Result(
        exported.config, exported.vision, exported.text, exported.tokens, [0.5] * len(LABELS), 0.4
    )
    return card.text_of(result, FIGURES, FACTS, bundle.VERSION)


def test_the_first_line_says_where_the_sentences_come_from(text: str) -> None:
    assert "grammar that this project wrote" in text.splitlines()[0]


def test_nothing_is_left_to_fill_in(text: str) -> None:
    assert not re.search(r"\{[a-z_]*\}|\bnan\b|None", text)


def test_the_verdict_follows_the_figures() -> None:
    pa, ap = card.verdict(FIGURES, FACTS)
    assert "above every shortcut's upper bound" in pa and "not above" not in pa
    assert "0.80 [0.75, 0.85]" in pa
    assert "**not above**" in ap and "(thumbnail 0.88)" in ap and "view" not in ap
    assert "cropping and equalising" in ap and "thumbnail 0.64" in ap
    turned = {**FACTS, "verdict": {"pa": view({"thumbnail": 0.81})}}
    pa, ap = card.verdict(FIGURES, turned)
    assert "**not above**" in pa
    assert "too few films" in ap


def test_a_shortcut_that_preprocessing_leaves_is_no_excuse() -> None:
    said = {**FACTS, "verdict": {"ap": view({"border": 0.83, "thumbnail": 0.88}, 0.79)}}
    left = {**FIGURES, "shortcut_after.border.ap.pneumonia": figure(0.81, 0.7, 0.9)}
    both = card.verdict(left, said)[1]
    assert "they make only thumbnail 0.64; and the model sees less than border" in both
    assert "(after cropping and equalising border 0.81)" in both
    only = {**FACTS, "verdict": {"ap": view({"view": 0.83}, 0.79)}}
    assert "because the model sees less than view gives away" in card.verdict(left, only)[1]


def test_what_the_model_cannot_see_is_named_with_its_reason(text: str) -> None:
    assert "hernia (1)" in text and "pneumothorax (10)" in text
    assert "fewer than 15 patients" in text
    for finding in grammar.NOT_ASSESSED:
        assert finding in text


def test_the_wording_table_has_the_edges_of_the_grammar(text: str) -> None:
    edges = grammar.edges_for(1.0)
    for low, high in zip((0.0, *edges), (*edges, 1.0), strict=True):
        assert f"| {low:.2f} to {high:.2f} |" in text
    words = grammar.sentence(grammar.Label("", "", "X", (), None), Band.PROBABLE)
    assert f'| {edges[2]:.2f} to {edges[3]:.2f} | "{words}" |' in text


def test_the_tables_can_be_cut_out_of_a_written_card(text: str) -> None:
    part = card.figures_part(text)
    assert part.startswith(card.FIGURES_HEAD)
    assert card.tables(FIGURES, FACTS) in part
    assert "## Data" not in part
    assert card.figures_part("an older card") == "an older card"


def test_parity_is_beside_what_is_required_and_drafts_that_went_wrong_are_quoted(text: str) -> None:
    assert re.search(r"same token, 9000 tokens.*\| 0\.9991 \| 0\.99 \|", text)
    assert "| 2.0e-05 | 1e-04 |" in text and "| 6.0e-06 | - |" in text
    assert "alone, 3 tokens a call | 0.975 | 1 |" in text and "batch of 8, a token a call | 1.000" in text
    assert 'asked "any mass?"' in text and "No nodule is seen." in text
    assert "| together | 660 |" in text
