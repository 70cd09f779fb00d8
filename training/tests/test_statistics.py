import time

import numpy as np
import pytest
import torch

from cloister_training import statistics
from cloister_training.statistics import Bootstrap, area, auroc, difference, mean, quantile


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def by_pairs(scores: np.ndarray, truth: np.ndarray) -> float:
    positive, negative = scores[truth][:, None], scores[~truth][None]
    return float((positive > negative).mean() + (positive == negative).mean() / 2)


def test_auroc_counts_ties_as_half() -> None:
    truth = np.array([True, True, False, False])
    assert auroc(np.array([3.0, 2.0, 1.0, 0.0]), truth) == 1.0
    assert auroc(np.zeros(4), truth) == 0.5
    rng = generator()
    scores, many = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.3
    assert auroc(scores, many) == pytest.approx(by_pairs(scores, many))


def test_auroc_of_one_class_is_nan() -> None:
    assert np.isnan(auroc(np.arange(3.0), np.ones(3, dtype=bool)))
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, dtype=bool)))


def test_auroc_of_many_films_needs_no_table_of_pairs() -> None:
    rng, started = generator(), time.monotonic()
    truth = rng.random(300_000) < 0.5
    assert auroc(rng.normal(size=300_000) + truth, truth) == pytest.approx(0.76, abs=0.01)
    assert time.monotonic() - started < 5


def test_a_weight_is_a_repeated_film() -> None:
    rng = generator()
    scores, truth, weights = (
        rng.integers(0, 5, 40).astype(float),
        rng.random(40) < 0.5,
        rng.integers(0, 4, 40),
    )
    again = np.repeat(np.arange(40), weights)
    row = weights[None].astype(float)
    assert area(scores, truth)(row)[0] == pytest.approx(auroc(scores[again], truth[again]))
    assert mean(scores)(row)[0] == pytest.approx(scores[again].mean())
    assert quantile(scores, 0.5)(row)[0] == np.quantile(scores[again], 0.5, method="inverted_cdf")


def test_patients_are_drawn_and_not_films() -> None:
    rng = generator()
    scores, truth = rng.normal(size=60), rng.random(60) < 0.5
    names = [str(number) for number in range(60)]
    once = Bootstrap(names).figure(area(scores, truth))
    copies = np.tile(scores, 6), np.tile(truth, 6)
    alike = Bootstrap(names * 6).figure(area(*copies))
    assert (alike["low"], alike["high"]) == pytest.approx((once["low"], once["high"]))
    apart = Bootstrap([str(number) for number in range(360)]).figure(area(*copies))
    assert apart["high"] - apart["low"] < 0.6 * (once["high"] - once["low"])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, held = generator(), 0
    for _ in range(120):
        of_patient = rng.normal(size=80)
        values = np.repeat(of_patient, 3) + rng.normal(size=240)
        figure = Bootstrap(np.repeat(np.arange(80), 3).astype(str).tolist(), draws=300).figure(mean(values))
        held += figure["low"] <= 0 <= figure["high"]
    assert 105 <= held <= 120


def test_draws_are_the_same_in_every_run_and_pairs_share_them() -> None:
    rng = generator()
    names = [str(number // 2) for number in range(80)]
    one, two, truth = rng.normal(size=80), rng.normal(size=80), rng.random(80) < 0.5
    first = Bootstrap(names).figure(area(one, truth))
    assert first == Bootstrap(names).figure(area(one, truth))
    same = Bootstrap(names).figure(difference(area(one, truth), area(2 * one + 1, truth)))
    assert (same["value"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    other = Bootstrap(names).figure(difference(area(one, truth), area(two, truth)))
    assert other["low"] < other["value"] < other["high"]


def test_a_subset_counts_its_own_films() -> None:
    values = np.arange(10.0)
    chosen = values >= 6
    figure = Bootstrap([str(number) for number in range(10)]).figure(mean(values[chosen]), chosen)
    assert figure["value"] == 7.5
    assert figure["n"] == 4
    assert 6 <= figure["low"] < figure["high"] <= 9


def test_too_few_positive_patients_have_no_interval() -> None:
    truth = np.zeros(60, dtype=bool)
    truth[:2] = True
    figure = Bootstrap([str(number) for number in range(60)]).figure(area(-np.arange(60.0), truth), n=2)
    assert figure["value"] == 1.0
    assert figure["low"] is None
    assert figure["high"] is None
    assert figure["n"] == 2


def test_wilson_leaves_room_where_nothing_was_hit() -> None:
    assert statistics.wilson(0, 40) == pytest.approx((0.0, 0.0876), abs=1e-4)
    assert statistics.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert statistics.wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_a_share_has_the_wider_interval_at_each_end() -> None:
    none = Bootstrap([str(number) for number in range(40)]).share(np.zeros(40, dtype=bool))
    assert (none["low"], none["high"]) == pytest.approx((0.0, 0.0876), abs=1e-4)
    hits = np.repeat(np.arange(10) < 5, 20)
    alike = Bootstrap(np.repeat(np.arange(10), 20).astype(str).tolist()).share(hits)
    assert alike["low"] < statistics.wilson(100, 200)[0] - 0.05


def test_the_usual_share_of_a_fold_comes_from_the_other_folds() -> None:
    truth, fold = np.array([[True], [True], [False], [True]]), np.array([0, 0, 1, 1])
    assert statistics.prevalence_elsewhere(truth, fold).ravel().tolist() == [0.5, 0.5, 1.0, 1.0]


def test_losses_are_what_they_are_called() -> None:
    probability, truth = np.array([0.8, 0.25]), np.array([True, False])
    assert statistics.squared_errors(probability, truth) == pytest.approx([0.04, 0.0625])
    assert statistics.log_losses(probability, truth) == pytest.approx(-np.log([0.8, 0.75]))
    assert np.isfinite(statistics.log_losses(np.array([0.0]), np.array([True]))).all()


def test_calibration_error_is_the_mean_gap_of_ten_even_bins() -> None:
    probability = np.repeat(np.arange(10) / 10, 4)
    truth = np.tile([True, False, False, False], 10)
    gaps = np.abs(np.arange(10) / 10 - 0.25)
    shuffled = generator().permutation(40)
    assert statistics.ece(probability[shuffled], truth[shuffled]) == pytest.approx(gaps.mean())
    assert statistics.ece(np.full(10, 0.3), np.zeros(10, dtype=bool)) == pytest.approx(0.3)


def test_a_perfect_model_stays_below_the_bound_and_a_cocky_one_does_not() -> None:
    rng, below = generator(), 0
    for _ in range(40):
        probability = rng.random(400)
        truth = rng.random(400) < probability
        below += statistics.ece(probability, truth) <= statistics.ece_when_perfect(probability, draws=200)
    assert below >= 33
    probability = rng.random(400)
    truth = rng.random(400) < 0.5 + 0.3 * (probability - 0.5)
    assert statistics.ece(probability, truth) > statistics.ece_when_perfect(probability)


def test_platt_finds_the_slope_and_the_shift_of_common_labels() -> None:
    torch.manual_seed(4)
    logits = 2 * torch.randn(4000, 2)
    truth = (torch.rand(4000, 2) < torch.sigmoid(0.6 * logits + torch.tensor([0.8, -0.5]))).float()
    slope, shift = statistics.fit_platt(logits, truth)
    assert slope.tolist() == pytest.approx([0.6, 0.6], abs=0.06)
    assert shift.tolist() == pytest.approx([0.8, -0.5], abs=0.12)


def test_platt_holds_the_shift_of_a_label_that_has_few_films() -> None:
    logits, truth = torch.zeros(12, 1), torch.zeros(12, 1)
    few = float(statistics.fit_platt(logits, truth)[1])
    many = float(statistics.fit_platt(logits.repeat(200, 1), truth.repeat(200, 1))[1])
    assert -2.0 < few < -0.5
    assert many < -4.0


def test_platt_never_turns_a_label_around() -> None:
    logits = torch.linspace(-3, 3, 200)[:, None]
    slope, _ = statistics.fit_platt(logits, (logits < 0).float())
    assert float(slope) == pytest.approx(0.2)


def test_pairs_of_one_fold_do_not_mind_its_scale() -> None:
    truth = np.array([True, False, True, False])
    scores, fold = np.array([1.0, 0.0, 101.0, 100.0]), np.array([0, 0, 1, 1])
    assert auroc(scores, truth) == 0.75
    assert statistics.auroc_same_fold(scores, truth, fold) == 1.0
    assert statistics.auroc_same_fold(scores[:1], truth[:1], fold[:1]) is None


def test_models_that_disagree_widen_a_figure_and_models_that_agree_do_not() -> None:
    patients = Bootstrap([f"p{number}" for number in range(200)])
    figure = patients.share(np.arange(200) % 4 == 0)
    assert statistics.retrained(figure, [0.25] * 5, 5, 1.0) == figure
    wide = statistics.retrained(figure, [0.0, 0.1, 0.2, 0.4, 0.9], 5, 1.0)
    assert wide["low"] == 0.0
    assert wide["high"] is not None and wide["high"] > 0.6
    one = statistics.retrained(figure, [0.2, 0.22, 0.25, 0.28, 0.3], 1, 1.0)
    five = statistics.retrained(figure, [0.2, 0.22, 0.25, 0.28, 0.3], 5, 1.0)
    assert one["low"] is not None and five["low"] is not None and one["low"] < five["low"]
    assert statistics.retrained(figure, [0.0, 1.0], 2, 1.0) == figure  # too few models to tell
