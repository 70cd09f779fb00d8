from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloister_training import data, grammar, train

COLUMNS = "file,nih_labels,view,age,sex,patient_id"


def folder_with(tmp_path: Path, patients: int) -> Path:
    names = "|".join(label.nih for label in grammar.LABELS)
    rows = [f"{number}.png,{names},PA,{number},F,p{number // 2}" for number in range(2 * patients)]
    (tmp_path / "manifest.csv").write_text("\n".join([COLUMNS, *rows, "x.png,No Finding,AP,412,M,q"]))
    return tmp_path


def test_a_head_with_too_few_positive_patients_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than 15"):
        data.films(folder_with(tmp_path, 14))


def test_no_patient_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    films = data.films(folder_with(tmp_path, 40))
    training, validation = data.split(films, 0.25, 1)
    assert len(training) + len(validation) == len(films)
    assert not {film.patient for film in training} & {film.patient for film in validation}


def test_an_impossible_age_is_unknown(tmp_path: Path) -> None:
    assert data.films(folder_with(tmp_path, 15))[-1].context.age == "unknown"


def test_equalising_gives_each_value_its_rank() -> None:
    got = data.equalise(np.array([[10, 10], [200, 250]], dtype=np.uint8))
    assert got.tolist() == [[0.25, 0.25], [0.625, 0.875]]


def test_exposure_does_not_change_what_the_model_sees() -> None:
    ramp = np.linspace(0, 100, 300 * 300).reshape(300, 300).astype(np.uint8)
    dark = data.read(Image.fromarray(ramp), 224)
    bright = data.read(Image.fromarray(ramp * 2 + 40), 224)
    assert dark.shape == (224, 224)
    assert np.abs(dark - bright).mean() < 0.02


def test_what_stands_at_the_border_is_not_seen() -> None:
    plain = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    marked = plain.copy()
    marked[:9, :] = 255
    marked[:, -9:] = 0
    assert np.array_equal(data.read(Image.fromarray(plain), 64), data.read(Image.fromarray(marked), 64))


def test_augmentation_keeps_size_and_finite_values() -> None:
    out = data.augment(torch.randn(3, 1, 256, 256), torch.Generator().manual_seed(1))
    assert out.shape == (3, 1, 224, 224)
    assert bool(torch.isfinite(out).all())


def test_auroc_counts_ties_as_half() -> None:
    truth = np.array([True, True, False, False])
    assert train.auroc(np.array([3.0, 2.0, 1.0, 0.0]), truth) == 1.0
    assert train.auroc(np.zeros(4), truth) == 0.5
    assert np.isnan(train.auroc(np.zeros(2), np.array([True, True])))


def test_thresholds_hold_the_stated_specificity() -> None:
    logits = torch.linspace(-3, 3, 101).repeat(2, 1).T
    truth = torch.zeros(101, 2)
    threshold = train.thresholds_at(logits, truth, 0.9)[0]
    assert abs(float((torch.sigmoid(logits[:, 0]) < threshold).float().mean()) - 0.9) < 0.02
