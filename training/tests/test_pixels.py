"""Films with text: what the generator promises, and what the measure says of known answers. No films and no
fonts from outside: phantoms and the strokes that are drawn here."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloister_training.pixels import (
    backgrounds,
    evaluate_presence,
    filters,
    fonts,
    stored,
    strokes,
    synthesis,
    zones,
)
from cloister_training.pixels.backgrounds import Window
from cloister_training.pixels.evaluate_presence import Blank, Case
from cloister_training.pixels.synthesis import Film, Recipe, Word

HERSHEY = "12345  1JZ\n12345  6JZNFNM RVFVM\n"


@pytest.fixture(scope="module")
def phantoms() -> list[filters.Plane]:
    return [backgrounds.phantom(np.random.default_rng(place), 96) for place in range(2)]


@pytest.fixture(scope="module")
def faces() -> list[fonts.Face]:
    listed = fonts.Listed("", "segment", (strokes.SEVEN_SEGMENTS,), (fonts.DIGITS,))
    return [fonts.Face(strokes.SEVEN_SEGMENTS, listed)]


def made(seed: int, phantoms: list[filters.Plane], faces: list[fonts.Face], blocks: float = 5.0) -> Film:
    return synthesis.film(seed, phantoms, faces, Window.whole(320, 360), Recipe(blocks, 0.0))


def test_a_seed_gives_the_same_film_again(phantoms: list[filters.Plane], faces: list[fonts.Face]) -> None:
    first, again, other = (made(seed, phantoms, faces) for seed in (4, 4, 5))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.words == again.words
    assert np.array_equal(first.owner, again.owner)
    assert not np.array_equal(first.pixels, other.pixels)


def test_ink_lies_where_its_word_says(phantoms: list[filters.Plane], faces: list[fonts.Face]) -> None:
    checked = 0
    for seed in range(12):
        film = made(seed, phantoms, faces)
        for word in film.words:
            ys, xs = np.nonzero(film.ink(word))
            corners = np.asarray(word.corners)
            right, down = corners[1] - corners[0], corners[3] - corners[0]
            away = np.stack([xs + 0.5, ys + 0.5], axis=1) - corners[0]
            across = away @ right / (right @ right) * np.hypot(*right)
            below = away @ down / (down @ down) * np.hypot(*down)
            assert across.min() > -2.5 and across.max() < np.hypot(*right) + 2.5
            assert below.min() > -2.5 and below.max() < np.hypot(*down) + 2.5
            checked += 1
    assert checked > 15


def test_a_film_without_blocks_has_no_text(phantoms: list[filters.Plane], faces: list[fonts.Face]) -> None:
    film = made(3, phantoms, faces, blocks=0.0)
    assert not film.words
    assert not film.owner.any()


def test_contrast_is_what_stands_out(phantoms: list[filters.Plane], faces: list[fonts.Face]) -> None:
    contrasts = [word.contrast for seed in range(12) for word in made(seed, phantoms, faces).words]
    assert min(contrasts) < 0.2 < 0.6 < max(contrasts)


def test_the_families_share_no_face_and_have_every_kind() -> None:
    training, evaluation = (
        {(listed.package, name) for listed in fonts.LISTS[family] for name in listed.files}
        for family in ("training", "evaluation")
    )
    assert not training & evaluation
    packages = [
        {listed.package for listed in fonts.LISTS[family]} - {"hershey-fonts-data", ""}
        for family in ("training", "evaluation")
    ]
    assert not packages[0] & packages[1]
    assert min(map(len, packages)) >= 12
    for family in ("training", "evaluation"):
        kinds = {listed.kind for listed in fonts.LISTS[family]}
        assert kinds >= {
            "sans",
            "serif",
            "mono",
            "condensed",
            "hand",
            "bitmap",
            "segment",
            "stroke",
            "cjk",
            "arabic",
        }
    pinned = {package.name for package in fonts.PACKAGES}
    assert pinned == packages[0] | packages[1] | {"hershey-fonts-data"}


def test_a_package_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fonts.Package("fonts-x", "1", "MIT", "0" * 64)
    monkeypatch.setattr(fonts, "PACKAGES", (package,))

    def download(*_: object, **__: object) -> None:
        (tmp_path / "fonts-x_1_all.deb").write_bytes(b"something else")

    monkeypatch.setattr(fonts.subprocess, "run", download)
    with pytest.raises(ValueError, match="not the pinned one"):
        fonts.fetch(tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_hershey_letters_are_read(tmp_path: Path) -> None:
    file = tmp_path / "two.jhf"
    file.write_text(HERSHEY)
    letters = strokes.alphabet(str(file))
    assert letters[" "][2] == ()
    left, right, paths = letters["!"]
    assert (left, right) == (-8, 8)
    assert paths == (((-4, -12), (-4, -5)), ((4, -12), (4, -5)))


def test_every_character_with_ink_has_its_columns(faces: list[fonts.Face]) -> None:
    drawn = faces[0].draw("12 8", 20)
    assert drawn is not None
    assert drawn.characters == (0, 1, 3)
    assert all(drawn.ink[:, start:end].max() > 0.9 for start, end in drawn.spans)
    assert 19 <= drawn.ink.shape[0] <= 26


def test_components_touch_by_corners() -> None:
    from cloister_training.pixels.presence import components

    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], dtype=bool)
    labels = components(mask)
    assert labels.max() == 4
    assert labels[0, 0] == labels[1, 1] != labels[0, 3]
    ring = np.ones((5, 5), dtype=bool)
    ring[1:4, 1:4] = False
    u_shape = ring.copy()
    u_shape[0, 1:4] = False
    assert components(ring).max() == 1
    assert components(u_shape).max() == 1


def test_lead_and_letters_of_real_films_are_zones() -> None:
    grey = np.full((120, 120), 90, dtype=np.uint8)
    grey[10:16, 10:14] = 250  # a letter of lead
    grey[40:110, 40:110] = 160  # something wide
    probability = np.zeros(grey.shape, dtype=np.float32)
    probability[100:104, 60:90] = 0.3  # a faint word
    probability[40:80, 40:80] = 0.9  # PP-OCR takes a lung for a letter
    zone = zones.zones(grey, probability)
    assert zone[8:18, 8:16].all()
    assert zone[100:104, 60:90].all()
    assert not zone[55:65, 55:65].any()
    clean = backgrounds.cleaned(grey, zone)
    assert clean[10:16, 10:14].max() < 0.5
    assert np.array_equal(clean[~zone], (grey.astype(np.float32) / 255)[~zone])


def test_filling_follows_what_is_around() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    hole = np.zeros((64, 64), dtype=bool)
    hole[20:30, 20:30] = True
    spoilt = np.where(hole, 5.0, ramp).astype(np.float32)
    assert np.abs(filters.filled(spoilt, hole) - ramp).max() < 0.08


def one_word(ink: float = 1.0) -> Case:
    owner = np.zeros((40, 100), dtype=np.int32)
    owner[10:20, 10:20], owner[10:20, 30:40] = 256 + 1, 256 + 2
    corners = ((10.0, 10.0), (40.0, 10.0), (40.0, 20.0), (10.0, 20.0))
    word = Word(1, "text", corners, 10, ink, "body", 0.0, "sans", 2)
    pixels = np.where(owner > 0, 255, 0).astype(np.uint8)
    return Case(0, "text", [pixels], 0, Film(pixels, [word], owner))


@pytest.mark.parametrize(
    ("blank", "found"),
    [
        (Blank(0, 10, 10, 30, 10), True),
        (Blank(0, 0, 0, 100, 40), True),
        (Blank(0, 10, 10, 29, 10), False),  # a twentieth of the ink is left
        (Blank(0, 10, 10, 20, 10), False),  # a character is left
        (Blank(0, 60, 10, 30, 10), False),
    ],
)
def test_a_word_is_found_when_all_of_it_is_blanked(blank: Blank, found: bool) -> None:
    line = evaluate_presence.score(one_word(), [blank])
    assert [word["found"] for word in line["words"]] == [found]


def test_boxes_on_another_frame_find_nothing() -> None:
    case = one_word()
    case = replace(case, frames=[np.zeros_like(case.frames[0]), case.frames[0]], shown=1)
    assert not evaluate_presence.score(case, [Blank(0, 0, 0, 100, 40)])["words"][0]["found"]
    assert evaluate_presence.score(case, [Blank(1, 0, 0, 100, 40)])["words"][0]["found"]


def test_a_quarantined_film_is_missed_and_blanked() -> None:
    line = evaluate_presence.score(one_word(), None)
    said = evaluate_presence.summary([line, {**line, "group": "bare", "words": []}])
    assert (said.films_missed.hits, said.films_missed.n) == (1, 1)
    assert said.blanked == 1.0
    assert said.quarantined.hits == 2


def test_faint_words_do_not_count() -> None:
    line = evaluate_presence.score(one_word(0.09), [])
    said = evaluate_presence.summary([line])
    assert said.films_missed.n == 0
    assert "8 px and more | 0.00 % (0/1)" in evaluate_presence.tables({"none": [line]})


def test_a_marker_is_kept_when_it_is_hardly_touched() -> None:
    case = one_word()
    case.film.words[0] = replace(case.film.words[0], kind="marker")
    kept, lost = (evaluate_presence.score(case, [Blank(0, 10, 10, wide, 10)]) for wide in (1, 6))
    assert evaluate_presence.summary([kept]).markers_kept.hits == 1
    assert evaluate_presence.summary([lost]).markers_kept.hits == 0


def test_an_evaluation_goes_on_where_it_stopped(
    tmp_path: Path, phantoms: list[filters.Plane], faces: list[fonts.Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_presence, "SMALL_FILM", 100)
    monkeypatch.setattr(evaluate_presence, "LARGE_FILM", 140)
    asked: list[int] = []

    def detector(cases: list[Case]) -> list[list[Blank]]:
        asked.extend(case.number for case in cases)
        return [[] for _ in cases]

    def run(numbers: range) -> None:
        evaluate_presence.evaluate(numbers, {"none": detector}, phantoms, faces, tmp_path, lambda _: None, 2)

    run(range(0, 3))
    run(range(0, 6))
    assert asked == [0, 1, 2, 3, 4, 5]
    rows = evaluate_presence.read(tmp_path / "none.jsonl")
    assert [row["group"] for row in rows] == ["text", "markers", "text", "bare", "text", "bare"]


def test_a_command_answers_by_id(tmp_path: Path) -> None:
    script = tmp_path / "detector.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    open(asked['image'], 'rb').read(4)\n"
        "    if asked['id'] == '0':\n"
        "        box = dict(frame=0, x=1, y=2, w=3, h=4)\n"
        "        print(json.dumps(dict(id='0', boxes=[dict(box, action='redact'), dict(box, action='keep')])))\n"
        "    else:\n"
        "        print(json.dumps(dict(id=asked['id'], error='quarantined')))\n"
    )
    import sys

    detector = evaluate_presence.command(f"{sys.executable} {script}")
    cases = [one_word(), replace(one_word(), number=1)]
    assert detector(cases) == [[Blank(0, 1, 2, 3, 4)], None]
    with pytest.raises(RuntimeError, match="judged no film"):
        evaluate_presence.command(f"{sys.executable} -c pass")(cases)


def test_stored_values_show_the_pixels_again() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for seed in range(60):
        how = stored.storage(seed)
        if not how.dicom:
            continue
        shown = (stored.values(pixels, how, seed).astype(np.float64) - how.low) / how.width * 255
        shown = 255 - shown if how.inverse else shown
        assert np.abs(shown - pixels).max() < 0.6
        assert stored.values(pixels, how, seed).max() < 1 << how.bits


def test_a_stored_film_is_dicom_or_png(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    png = stored.write([pixels], stored.Storage(8, False, 0, 255, False), 1, tmp_path)
    assert np.array_equal(np.asarray(Image.open(png)), pixels)
    file = stored.write([pixels, pixels], stored.Storage(12, True, 100, 1000, True), 2, tmp_path)
    data = file.read_bytes()
    assert data[128:132] == b"DICM"
    at = data.index(b"\xe0\x7f\x10\x00OW")
    assert int.from_bytes(data[at + 8 : at + 12], "little") == 2 * 64 * 2 == len(data) - at - 12
    assert b"MONOCHROME1" in data
    assert b"\x28\x00\x08\x00IS\x02\x002 " in data


def test_figures_are_plain(tmp_path: Path) -> None:
    line = evaluate_presence.score(one_word(), [Blank(0, 0, 0, 100, 40)])
    said = json.loads(json.dumps(evaluate_presence.figures([line])))
    assert said["words_found"]["hits"] == said["words_found"]["n"] == 1
    assert said["words_found"]["low"] < 0.3


def test_a_film_that_is_to_be_written_on_is(phantoms: list[filters.Plane], faces: list[fonts.Face]) -> None:
    assert all(made(seed, phantoms, faces, blocks=0.2).words for seed in range(8))
