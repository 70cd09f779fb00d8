import random
import re

import pytest

from cloister_training import grammar
from cloister_training.grammar import BANDS, LABELS, Band, Context, Query


def test_words_grow_surer_with_the_probability() -> None:
    edges = grammar.edges_for(0.5)
    seen = [BANDS.index(grammar.band_of(value / 1000, edges)) for value in range(1001)]
    assert seen == sorted(seen)
    assert set(seen) == set(range(5))


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.2, 0.5, 0.9])
def test_a_label_at_its_threshold_is_never_called_absent(threshold: float) -> None:
    assert grammar.band_of(threshold, grammar.edges_for(threshold)) != Band.ABSENT


def test_questions_have_at_least_ten_paraphrases_and_the_held_out_ones_are_not_among_them() -> None:
    assert len(set(grammar.QUESTIONS)) >= 10
    assert not set(grammar.QUESTIONS) & set(grammar.HELD_OUT_QUESTIONS)


def test_a_full_report_names_every_label_and_what_is_not_assessed() -> None:
    rng = random.Random(1)
    for _ in range(200):
        bands = grammar.sample_bands(rng)
        drafted = grammar.full_report(bands, rng.randint(1, 4), grammar.sample_context(rng))
        for label in LABELS:
            assert label.phrase.split()[-1].lower() in drafted.findings.lower()
        assert "Pneumothorax and heart size are not assessed." in drafted.findings


def test_an_answer_speaks_of_the_asked_finding_only() -> None:
    bands = [Band.CONSISTENT] * len(LABELS)
    drafted = grammar.draft(Query("any effusion?", (4,)), bands, 1, Context())
    assert "effusion" in drafted.findings
    assert "pneumonia" not in drafted.findings.lower()


def test_a_finding_without_a_head_is_refused_in_words() -> None:
    query = Query("any ptx?", (), ("pneumothorax",))
    drafted = grammar.draft(query, [Band.ABSENT] * len(LABELS), 1, Context())
    assert drafted.findings == "Pneumothorax is not assessed by this model."


def test_critical_findings_without_data_have_no_head() -> None:
    names = {label.name for label in LABELS}
    assert not names & {"pneumothorax", "cardiomegaly"}


def test_no_sentence_advises_compares_measures_or_names_a_side() -> None:
    banned = re.compile(
        r"\b(treat|mg|dose|drug|antibiotic|recommend|unchanged|new|previous|prior|cm|mm|left|right|mr|mrs|dr)\b|\d",
        re.IGNORECASE,
    )
    rng = random.Random(2)
    for _ in range(500):
        query = grammar.sample_query(rng)
        drafted = grammar.draft(
            query, grammar.sample_bands(rng), rng.randint(1, 4), grammar.sample_context(rng)
        )
        assert not banned.search(f"{drafted.findings} {drafted.impression}")


def test_impression_says_no_abnormality_only_when_every_label_is_absent() -> None:
    for band in BANDS:
        drafted = grammar.full_report([band] + [Band.ABSENT] * (len(LABELS) - 1), 1, Context())
        assert ("No abnormality among" in drafted.impression) == (band == Band.ABSENT)


def test_what_a_draft_states_is_read_back_from_its_words() -> None:
    rng = random.Random(4)
    for _ in range(300):
        bands = grammar.sample_bands(rng)
        report = grammar.full_report(bands, rng.randint(1, 4), grammar.sample_context(rng))
        assert grammar.read_bands(report) == {
            label.name: band for label, band in zip(LABELS, bands, strict=True)
        }
        question = grammar.sample_question(rng)
        stated = grammar.read_bands(grammar.answer(question, bands))
        assert stated == {LABELS[index].name: bands[index] for index in question.labels}


def test_words_that_are_not_the_grammars_state_nothing() -> None:
    assert grammar.read_bands(grammar.Draft("Mass effect is gone. No dragon is seen.", "Fine.")) == {}


def test_an_answer_has_one_order_whatever_the_order_of_the_question() -> None:
    bands = [Band.POSSIBLE] * len(LABELS)
    others = tuple(grammar.NOT_ASSESSED)[:2]
    asked = Query("mass or effusion, fracture or ptx?", (8, 4), others[::-1])
    assert grammar.answer(asked, bands) == grammar.answer(Query("", (4, 8), others), bands)
    assert grammar.answer(asked, bands).findings.startswith(
        "Pleural effusion is possible. A mass is possible."
    )


def test_every_finding_that_a_question_names_is_answered() -> None:
    rng = random.Random(5)
    told = 0
    for _ in range(2000):
        query = grammar.sample_question(rng)
        named = [*(LABELS[index].asked_as for index in query.labels)]
        named += [grammar.NOT_ASSESSED[phrase] for phrase in query.not_assessed if phrase != grammar.UNKNOWN]
        assert all(any(wording in query.text for wording in wordings) for wordings in named)
        told += any(query.text.startswith(text.split("{x}")[0]) for text in grammar.FINDING_CONTEXTS)
    assert told > 100


def test_a_finding_told_before_a_wish_for_a_report_changes_nothing() -> None:
    rng = random.Random(6)
    queries = [grammar.sample_report_query(rng) for _ in range(1000)]
    assert any(query.text.startswith("history of ") for query in queries)
    assert not any(query.labels or query.not_assessed for query in queries)
