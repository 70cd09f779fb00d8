"""No films and no training: pictures of noise, folds made by hand, tiny networks."""

import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cloister_training import data, export
from cloister_training.evaluation import films as judged
from cloister_training.evaluation import other_hospital, shifts, shortcuts
from cloister_training.evaluation.films import Known, film_figures, film_tables
from cloister_training.grammar import LABELS, Context
from cloister_training.model import Config, Vision
from cloister_training.statistics import Bootstrap

COUNT = len(LABELS)
SMALL = Config(channels=(8, 8, 8, 8, 16), patches=49)


@pytest.fixture(scope="module", autouse=True)
def rough() -> Iterator[None]:
    """The baselines' own tests fit them to the end, and fewer draws do here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "STEPS", 4)
        patch.setattr(judged, "Bootstrap", functools.partial(Bootstrap, draws=200))
        yield


def films(folder: Path, count: int, glow: int = 0) -> list[data.Film]:
    """Films of noise, two per patient; `glow` lights those with pneumonia, for the shortcuts to see."""
    rng, found = np.random.default_rng(8), []
    for number in range(count):
        patient = number // 2
        values = rng.integers(30, 200, (256, 256)).astype(np.uint8)
        sick = patient % 2
        values[:128] += np.uint8(glow * sick)
        path = folder / f"{number}.png"
        Image.fromarray(values).save(path)
        others = [sick * int(rng.random() < 0.5) for _ in range(COUNT - 1)]
        context = Context(
            ("pa", "ap")[patient // 2 % 2],
            ("18_39", "40_64")[number % 2],
            ("female", "male")[patient % 3 % 2],
        )
        found.append(data.Film(path, f"p{patient}", (sick, *others), context))
    return found


def fold_of(some: list[data.Film]) -> list[int]:
    return [int(film.patient[1:]) // 2 % 5 for film in some]


def folds(some: list[data.Film]) -> SimpleNamespace:
    """Untrained models with the logits that they really give."""
    fold, pixels = fold_of(some), data.load(some, data.SIZE)
    visions = []
    logits = torch.zeros(len(some), COUNT)
    for number in range(5):
        torch.manual_seed(number)
        vision = export.fold(Vision(SMALL))
        chosen = torch.tensor(fold) == number
        with torch.no_grad():
            logits[chosen] = vision(pixels[chosen])[2]
        visions.append(vision)
    return SimpleNamespace(fold=fold, logits=logits, visions=visions, calibrated=logits)


def result_of(made: SimpleNamespace) -> SimpleNamespace:
    thresholds = torch.sigmoid(made.calibrated).median(dim=0).values.tolist()
    return SimpleNamespace(vision=made.visions[0], thresholds=thresholds)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    some = films(tmp_path_factory.mktemp("films"), 48)
    made = folds(some)
    return film_figures(some, made, result_of(made), some[:20], quiet)


def test_every_table_is_measured(measured: tuple[dict, dict]) -> None:
    figures, facts = measured
    for name in (label.name for label in LABELS[1:]):
        for domain in ("all", "pa", "ap", "within_abnormal"):
            assert f"auroc.{domain}.{name}" in figures
            assert f"margin.{domain}.{name}" in figures
            for shortcut in ("view", "thumbnail", "histogram", "border"):
                assert f"shortcut.{shortcut}.{domain}.{name}" in figures
            assert f"shortcut_after.thumbnail.{domain}.{name}" in figures
        assert f"operating.all_{name}.sensitivity" in figures
    assert "auroc.within_abnormal.pneumonia" not in figures
    for key in (
        "auroc.pa.pneumonia",
        "operating.pa_pneumonia.specificity",
        "sex.all.female",
        "age.ap.40_64",
        "calibration.pooled.log_loss_prevalence",
        "calibration.pooled.ece_if_perfect",
        "hannover.hannover_pa.present",
        "hannover.nih_normal_ap.q90",
        "hannover.features_pa.chance",
    ):
        assert key in figures
    for name in shifts.SHIFTS:
        for column in ("auroc", "auroc_change", "probability_change", "labels_changed"):
            assert f"shift.{name}.{column}" in figures
    assert set(facts["verdict"]) == {"pa", "ap"}


def test_keys_have_no_dots_of_their_own_and_numbers_can_be_written(measured: tuple[dict, dict]) -> None:
    figures, facts = measured
    for key, figure in figures.items():
        assert key.count(".") == (3 if key.startswith("shortcut") else 2), key
        assert math.isfinite(figure["value"]), key
        assert figure["n"] > 0, key
    json.dumps([figures, facts], allow_nan=False)


def test_what_the_cut_removes_changes_nothing_and_a_flip_does(measured: tuple[dict, dict]) -> None:
    figures, _ = measured
    assert figures["shift.frame.labels_changed"]["value"] == 0.0
    assert figures["shift.frame.probability_change"]["value"] == 0.0
    assert figures["shift.frame.labels_changed"]["high"] > 0.0
    assert figures["shift.flip.probability_change"]["value"] > 0.0


def test_tables_show_the_figures_and_do_without_what_is_missing(measured: tuple[dict, dict]) -> None:
    figures, facts = measured
    text = film_tables(figures, facts)
    shown = figures["auroc.all.pneumonia"]
    assert f"| {shown['value']:.2f} [{shown['low']:.2f}" in text
    assert text.count("every shortcut's upper interval bound") == 2
    assert "Films of another hospital" in text
    for line in text.splitlines():
        assert "nan" not in line.split()
    bare = film_tables({key: it for key, it in figures.items() if key.startswith("auroc.")}, facts)
    assert "Films of another hospital" not in bare
    widths = [line.count("|") for line in bare.splitlines() if line.startswith("|")]
    assert min(widths) >= 3


def test_a_model_that_sees_more_than_the_shortcuts_is_said_to(tmp_path: Path) -> None:
    some = films(tmp_path, 80)
    known = Known(some, fold_of(some))
    seeing = np.where(known.truth, 2.0, -2.0) + np.random.default_rng(1).normal(size=known.truth.shape)
    found = judged.areas(known, seeing)
    beside, facts = judged.rivals(known, seeing)
    said = judged.verdict(found | beside)
    for view in ("pa", "ap"):
        assert said[view]["above_every_upper_bound"]
        assert all(row["above"] and row["by"] > 0 for row in said[view]["shortcuts"].values())
        assert beside[f"margin.{view}.pneumonia"]["low"] > 0
    tables = film_tables(found | beside, {**facts, "verdict": said, **counts(some)})
    assert tables.count("is above every shortcut's upper") == 2


def test_a_model_that_sees_no_more_than_a_shortcut_is_not_praised(tmp_path: Path) -> None:
    some = films(tmp_path, 80, glow=20)
    known = Known(some, fold_of(some))
    weak = 0.5 * known.truth + np.random.default_rng(1).normal(size=known.truth.shape)
    found = judged.areas(known, weak)
    beside, facts = judged.rivals(known, weak)
    said = judged.verdict(found | beside)
    assert not said["pa"]["above_every_upper_bound"]
    assert not said["pa"]["shortcuts"]["thumbnail"]["above"]
    assert said["pa"]["shortcuts"]["view"]["upper"] == 0.5
    assert beside["margin.pa.pneumonia"]["high"] < 0
    assert "is **not** above" in film_tables(found | beside, {**facts, "verdict": said, **counts(some)})


def test_the_verdict_is_about_the_upper_bound() -> None:
    found = {"auroc.pa.pneumonia": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}
    for name, high in zip(shortcuts.NAMES, (0.5, 0.79, 0.81, 0.6), strict=True):
        found[f"shortcut.{name}.pa.pneumonia"] = {"value": high - 0.1, "low": 0.3, "high": high, "n": 50}
    said = judged.verdict(found)
    assert set(said) == {"pa"}
    above = {name: row["above"] for name, row in said["pa"]["shortcuts"].items()}
    assert above == {"view": True, "thumbnail": True, "histogram": False, "border": True}
    assert said["pa"]["shortcuts"]["histogram"]["by"] == pytest.approx(-0.01)
    assert not said["pa"]["above_every_upper_bound"]


def counts(some: list[data.Film]) -> dict[str, object]:
    return {"films": len(some), "patients": len(some) // 2, "auroc_same_fold": {"all": 0.5}}


def test_a_coin_is_the_rival_where_every_shortcut_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = films(tmp_path, 40)
    known = Known(some, fold_of(some))
    noise = np.random.default_rng(4).normal(size=known.truth.shape)

    def worse(_: np.ndarray, truth: np.ndarray, __: np.ndarray) -> np.ndarray:
        return noise[: len(truth)] - truth

    monkeypatch.setattr(shortcuts, "cross_fitted", worse)
    model = known.truth.astype(np.float64)
    beside, facts = judged.rivals(known, model)
    assert 0.1 < beside["shortcut.border.all.pneumonia"]["value"] < 0.5
    assert facts["best_shortcut"]["all"]["pneumonia"] == "chance"
    assert beside["margin.all.pneumonia"]["value"] == 0.5


def test_groups_and_thresholds_count_the_right_films(tmp_path: Path) -> None:
    some = films(tmp_path, 80)
    known = Known(some, fold_of(some))
    logits = known.truth.astype(np.float64)
    women = np.array([film.context.sex == "female" for film in some])
    figure = judged.groups(known, logits)["sex.pa.female"]
    assert figure["value"] == 1.0
    assert figure["n"] == int((known.truth[:, 0] & women & known.domains["pa"]).sum())
    probability = np.where(known.truth, 0.7, 0.6)
    found = judged.operating(known, probability, [0.65, 0.75, *[0.6] * (COUNT - 2)])
    name = [label.name for label in LABELS]
    assert found[f"operating.all_{name[0]}.sensitivity"]["value"] == 1.0
    assert found[f"operating.all_{name[0]}.specificity"]["value"] == 1.0
    assert found[f"operating.all_{name[1]}.sensitivity"]["value"] == 0.0
    assert found[f"operating.all_{name[1]}.sensitivity"]["n"] == int(known.truth[:, 1].sum())
    assert found[f"operating.all_{name[2]}.specificity"]["value"] == 0.0


def test_calibration_is_held_against_prevalence(tmp_path: Path) -> None:
    some = films(tmp_path, 100)
    known = Known(some, fold_of(some))
    sure = judged.calibration(known, np.where(known.truth, 0.9, 0.1))
    assert sure["calibration.pneumonia.log_loss"]["value"] == pytest.approx(-math.log(0.9))
    assert sure["calibration.pneumonia.log_loss_gain"]["low"] > 0
    wrong = judged.calibration(known, np.where(known.truth, 0.1, 0.9))
    assert wrong["calibration.pneumonia.brier_gain"]["high"] < 0
    assert (
        wrong["calibration.pneumonia.ece"]["value"] > wrong["calibration.pneumonia.ece_if_perfect"]["value"]
    )
    # Fewer than 40 positive films: only in the pooled row.
    assert "calibration.mass.ece" not in sure


def test_fold_models_that_are_not_the_folds_own_stop_the_run(tmp_path: Path) -> None:
    some = films(tmp_path, 20)
    made = folds(some)
    made.calibrated = made.calibrated + 1.0
    with pytest.raises(ValueError, match="fold models"):
        shifts.held_out(some, made, quiet)


def test_every_film_goes_through_the_model_that_has_not_seen_it(tmp_path: Path) -> None:
    some, asked = films(tmp_path, 20), []

    def model(number: int) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        def see(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            asked.append(len(pixels))
            rows = torch.full((len(pixels), COUNT), float(number))
            return torch.zeros(1), rows[:, :2], rows, torch.zeros(1)

        return see

    fold = fold_of(some)
    calibrated = torch.tensor(fold).float()[:, None].expand(-1, COUNT)
    made = SimpleNamespace(fold=fold, visions=[model(number) for number in range(5)], calibrated=calibrated)
    logits, pooled = shifts.held_out(some, made, quiet)
    assert set(logits) == {"plain", *shifts.SHIFTS}
    assert all((values == calibrated.numpy()).all() for values in logits.values())
    assert (pooled[:, 0] == np.array(fold)).all()
    assert sum(asked) == 20 * (1 + len(shifts.SHIFTS))


@pytest.mark.parametrize("name", shifts.SHIFTS)
def test_a_shift_moves_the_film_and_keeps_its_form(name: str) -> None:
    values = np.random.default_rng(1).integers(20, 235, (90, 110)).astype(np.uint8)
    image = Image.fromarray(values)
    moved = shifts.SHIFTS[name](image, np.random.default_rng(2))
    assert (moved.size, moved.mode) == (image.size, "L")
    assert not np.array_equal(np.asarray(moved), values)
    again = shifts.SHIFTS[name](image, np.random.default_rng(2))
    assert np.array_equal(np.asarray(moved), np.asarray(again))
    assert np.array_equal(np.asarray(image), values)


def test_features_of_another_hospital_lie_further_away_than_chance() -> None:
    rng = np.random.default_rng(6)
    nih, fold = rng.normal(size=(400, 50)).astype(np.float32), [number % 2 for number in range(400)]
    sick = np.arange(400) % 3 == 0
    like = [rng.normal(size=(60, 50)).astype(np.float32) for _ in range(2)]
    near = other_hospital.feature_shift(nih, sick, fold, like)
    far = other_hospital.feature_shift(nih, sick, fold, [part + 1 for part in like])
    assert near["hannover"] == pytest.approx(near["chance"], rel=0.4)
    assert far["hannover"] == pytest.approx(1.0, abs=0.15)
    assert far["chance"] == near["chance"]
