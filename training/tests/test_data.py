from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloister_training import data, grammar

COLUMNS = "file,nih_labels,view,age,sex,patient_id"


def folder_with(tmp_path: Path, patients: int) -> Path:
    names = "|".join(label.nih for label in grammar.LABELS)
    rows = [f"{number}.png,{names},PA,{number},F,p{number // 2}" for number in range(2 * patients)]
    (tmp_path / "manifest.csv").write_text("\n".join([COLUMNS, *rows, "x.png,No Finding,AP,412,M,q"]))
    return tmp_path


def test_a_head_with_too_few_positive_patients_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than 15"):
        data.films(folder_with(tmp_path, 14))


def test_a_patient_is_in_one_fold_and_every_fold_has_both_kinds(tmp_path: Path) -> None:
    films = data.films(folder_with(tmp_path, 40))
    fold = data.folds(films, 5, 1)
    of_patient = {(film.patient, place) for film, place in zip(films, fold, strict=True)}
    assert len(of_patient) == len({film.patient for film in films})
    sizes = [fold.count(number) for number in range(5)]
    assert max(sizes) - min(sizes) <= 2
    assert data.folds(films, 5, 1) == fold
    assert data.folds(films, 5, 2) != fold


def test_films_of_hannover_have_a_view_and_no_finding(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("patient_id,image_id,sex,age,projection\na,b,f,52.0,ap\nc,d,m,,pa\n")
    films = data.hannover(tmp_path)
    assert [film.context for film in films] == [
        grammar.Context("ap", "40_64", "female"),
        grammar.Context("pa", "unknown", "male"),
    ]
    assert not any(any(film.labels) for film in films)


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


@pytest.mark.parametrize("size", [160, 224])
def test_augmentation_keeps_size_and_finite_values(size: int) -> None:
    out = data.augment(torch.randn(3, 1, size + 32, size + 32), size, torch.Generator().manual_seed(1))
    assert out.shape == (3, 1, size, size)
    assert bool(torch.isfinite(out).all())
    again = data.augment(torch.zeros(3, 1, 64, 64), size, torch.Generator().manual_seed(2))
    assert float(again.std()) > 0.0  # noise, even on a flat film
