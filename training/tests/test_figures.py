import json
import math
from pathlib import Path

import pytest

from cloister_training.evaluation import figures
from cloister_training.evaluation.figures import Figure, Verdict


def figure(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(value=value, low=low, high=high, n=10)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "figures.json"
    found = {"auroc.pa.mass": figure(1 / 3, 0.25, 0.5), "calibration.mass.ece": figure(math.nan)}
    figures.write(file, found, {"machine": "a", "dropped": {"Hernia": 1}})
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["format"] == 1
    assert content["figures"]["calibration.mass.ece"]["value"] is None  # NaN is no JSON
    read, facts = figures.read(file)
    assert read["auroc.pa.mass"] == {"value": 0.333333, "low": 0.25, "high": 0.5, "n": 10}
    assert math.isnan(read["calibration.mass.ece"]["value"])
    assert facts == {"machine": "a", "dropped": {"Hernia": 1}}


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text('{"format": 2, "figures": {}, "facts": {}}')
    with pytest.raises(ValueError, match="format 2"):
        figures.read(file)


def test_a_key_that_two_parts_claim_is_refused() -> None:
    assert figures.merge({"a": figure(1)}, {"b": figure(2)}).keys() == {"a", "b"}
    with pytest.raises(ValueError, match="'a'"):
        figures.merge({"a": figure(1)}, {"a": figure(1)})


def test_a_figure_is_compared_with_the_committed_interval_and_no_wider() -> None:
    committed = {
        "inside": figure(0.5, 0.4, 0.6),
        "on_the_end": figure(0.5, 0.4, 0.6),
        "outside": figure(0.5, 0.4, 0.6),
        "gone": figure(0.5, 0.4, 0.6),
        "no_number": figure(0.5, 0.4, 0.6),
        "gone_without_interval": figure(0.5),
        "no_interval": figure(0.5),
    }
    now = {
        "inside": figure(0.41, 0.0, 0.45),
        "on_the_end": figure(0.6),
        "outside": figure(0.60001, 0.5, 0.7),  # its own interval does not help it
        "no_number": figure(math.nan),
        "no_interval": figure(0.9),
        "fresh": figure(0.1, 0.0, 0.2),
    }
    rows = {row.key: row for row in figures.compare(committed, now)}
    assert {key: row.verdict for key, row in rows.items()} == {
        "inside": Verdict.INSIDE,
        "on_the_end": Verdict.INSIDE,
        "outside": Verdict.OUTSIDE,
        "gone": Verdict.MISSING,
        "no_number": Verdict.OUTSIDE,
        "gone_without_interval": Verdict.NOT_COMPARED,
        "no_interval": Verdict.NOT_COMPARED,
        "fresh": Verdict.NEW,
    }
    assert {key for key, row in rows.items() if row.failed} == {"outside", "gone", "no_number"}


def test_what_another_text_training_moves_is_named_apart_and_bounded() -> None:
    committed = {
        "agreement.report.drafts": figure(0.87, 0.81, 0.92),
        "paraphrase.image_present.trained": figure(0.0, 0.0, 0.002),
        "agreement.question_one.drafts": figure(0.98, 0.95, 1.0),
        "auroc.pa.pneumonia": figure(0.78, 0.73, 0.84),
        "label_f1.zero_tokens.micro": figure(0.23, 0.2, 0.26),
    }
    now = {
        "agreement.report.drafts": figure(0.78),
        "paraphrase.image_present.trained": figure(0.003),
        "agreement.question_one.drafts": figure(0.8499),  # further off than the reach
        "auroc.pa.pneumonia": figure(0.729),  # a film figure has no such reach
        "label_f1.zero_tokens.micro": figure(0.0),
    }
    rows = {row.key: row for row in figures.compare(committed, now)}
    assert [rows[key].verdict for key in committed] == [
        Verdict.ANOTHER_TEXT,
        Verdict.ANOTHER_TEXT,
        Verdict.OUTSIDE,
        Verdict.OUTSIDE,
        Verdict.NOT_COMPARED,
    ]


def test_the_printed_comparison_names_every_key_and_counts() -> None:
    rows = figures.compare({"a": figure(0.5, 0.4, 0.6), "b": figure(0.5, 0.4, 0.6)}, {"a": figure(0.9)})
    text = figures.printed(rows)
    assert "| a | 0.500 [0.400, 0.600] | 0.900 | OUTSIDE |" in text
    assert "| b | 0.500 [0.400, 0.600] | - | MISSING |" in text
    assert "1 OUTSIDE, 1 MISSING" in text


def test_a_figure_without_a_number_shows_as_a_dash() -> None:
    assert figures.shown(figure(math.nan, 0.1, 0.2)) == figures.shown(None) == "-"
    assert figures.shown(figure(0.814, 0.77, 0.85)) == "0.81 [0.77, 0.85]"
    assert figures.shown(figure(0.8142), 3) == "0.814"
