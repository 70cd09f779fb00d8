from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloister_training import data
from cloister_training.evaluation import shortcuts
from cloister_training.grammar import LABELS, Context
from cloister_training.statistics import auroc


def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(40, 160, (300, 260)).astype(np.uint8)


def films(folder: Path, count: int, change: Callable[[np.ndarray], None]) -> list[data.Film]:
    """Noise, but for what `change` does to the films with the first label."""
    rng, found = np.random.default_rng(2), []
    for number in range(count):
        sick, values = number % 2, picture(rng)
        if sick:
            change(values)
        path = folder / f"{number}.png"
        Image.fromarray(values).save(path)
        marks = (sick, *rng.integers(0, 2, len(LABELS) - 1).tolist())
        found.append(data.Film(path, f"p{number}", marks, Context(("pa", "ap")[number // 2 % 2])))
    return found


def area_of(some: list[data.Film], rows: np.ndarray) -> float:
    truth = np.array([film.labels for film in some], dtype=bool)
    scores = shortcuts.cross_fitted(rows, truth, np.arange(len(some)) // 2 % 5)
    return auroc(scores[:, 0], truth[:, 0])


def darker(values: np.ndarray) -> None:
    values -= 20


def bright_corner(values: np.ndarray) -> None:
    values[:60, :60] += 60


def bright_edge(values: np.ndarray) -> None:
    values[:6] = 250


def test_exposure_is_a_shortcut_of_the_file_and_not_of_what_the_model_gets(tmp_path: Path) -> None:
    some = films(tmp_path, 60, darker)
    filed, given = shortcuts.inputs(some)
    for name in ("thumbnail", "histogram", "border"):
        assert area_of(some, filed[name]) > 0.95
        assert area_of(some, given[name]) < 0.8


def test_a_marked_edge_is_cut_away(tmp_path: Path) -> None:
    some = films(tmp_path, 60, bright_edge)
    filed, given = shortcuts.inputs(some)
    assert area_of(some, filed["border"]) > 0.95
    assert area_of(some, given["border"]) < 0.8


def test_a_bright_corner_is_left_for_the_thumbnail(tmp_path: Path) -> None:
    some = films(tmp_path, 60, bright_corner)
    filed, given = shortcuts.inputs(some)
    assert area_of(some, filed["thumbnail"]) > 0.95
    assert area_of(some, given["thumbnail"]) > 0.95


def test_inputs_have_the_shapes_that_the_issue_names(tmp_path: Path) -> None:
    filed, given = shortcuts.inputs(films(tmp_path, 4, darker))
    widths = {"thumbnail": 64, "histogram": 64, "border": 4 * 28}
    assert tuple(filed) == shortcuts.NAMES
    assert {name: rows.shape for name, rows in filed.items()} == {
        "view": (4, 1),
        **{name: (4, width) for name, width in widths.items()},
    }
    assert {name: rows.shape for name, rows in given.items()} == {
        name: (4, width) for name, width in widths.items()
    }
    assert filed["histogram"].sum(axis=1) == pytest.approx(np.ones(4))
    # Equalised: every grey value is about as frequent as any other.
    assert given["histogram"].max() < 2.5 / shortcuts.BINS


def test_a_film_never_speaks_for_itself() -> None:
    rng = np.random.default_rng(3)
    rows, truth = rng.normal(size=(120, 100)).astype(np.float32), rng.random((120, 3)) < 0.5
    fold = np.arange(120) % 5
    before = shortcuts.cross_fitted(rows, truth, fold)
    changed = truth.copy()
    changed[fold == 2] = ~changed[fold == 2]
    after = shortcuts.cross_fitted(rows, changed, fold)
    assert np.array_equal(before[fold == 2], after[fold == 2])
    assert not np.allclose(before[fold == 1], after[fold == 1])
    # A hundred inputs of noise would fit these films perfectly if they had been seen.
    assert 0.3 < auroc(before[:, 0], truth[:, 0]) < 0.7


def test_labels_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(3)
    rows, truth = rng.normal(size=(80, 4)).astype(np.float32), rng.random((80, 3)) < 0.5
    fold = np.arange(80) % 4
    alone = shortcuts.cross_fitted(rows, truth[:, [1]], fold)
    assert shortcuts.cross_fitted(rows, truth, fold)[:, 1] == pytest.approx(alone[:, 0], abs=1e-2)


def test_the_view_says_nothing_within_a_view() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((50, 1)) < 0.5
    scores = shortcuts.cross_fitted(np.ones((50, 1), dtype=np.float32), truth, np.arange(50) % 5)
    assert auroc(scores[:, 0], truth[:, 0]) == 0.5
