"""The text-presence net, untrained or trained for a moment: shapes, targets, boxes, graph, bundle."""

import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from cloister_training import bundle
from cloister_training.fitting import reproducible
from cloister_training.pixels import (
    backgrounds,
    evaluate_presence,
    fit_presence,
    fonts,
    presence,
    presence_bundle,
    strokes,
)
from cloister_training.pixels.presence import Presence, Shape, Thresholds
from cloister_training.pixels.synthesis import Film, Word

TINY = Shape(4, 8, 8, 8, 8, (1, 1, 1))


@pytest.fixture(scope="module")
def net() -> Presence:
    torch.manual_seed(1)
    net = Presence(TINY).train()
    for _ in range(3):
        net(torch.rand(2, 1, 64, 64) * 255)  # batch norms that are not the identity
    return net.eval()


def word(corners: tuple[tuple[float, float], ...], **other: object) -> Word:
    said = {"number": 1, "kind": "text", "capital": 20, "contrast": 0.5, "place": "body", "angle": 0.0}
    return Word(corners=corners, face="sans", characters=4, **{**said, **other})  # type: ignore[arg-type]


def film(*words: Word, **other: object) -> Film:
    return Film(
        np.zeros((96, 128), dtype=np.uint8), list(words), np.zeros((96, 128), dtype=np.int32), **other
    )  # type: ignore[arg-type]


BOX = ((20.0, 40.0), (100.0, 40.0), (100.0, 60.0), (20.0, 60.0))


def test_the_target_is_the_whole_box_and_a_tenth_more() -> None:
    made = presence.target(film(word(BOX)))
    assert made.written.shape == (24, 32)
    assert made.written[10:15, 5:25].all()  # gaps between letters too
    assert made.weight[9, 15] == 0  # half covered by the margin: nobody says
    assert not made.written[:9].any()
    assert not made.written[16:].any()
    assert not made.marker.any()


def test_a_word_that_nobody_sees_is_neither() -> None:
    made = presence.target(film(word(BOX, contrast=0.01)))
    assert not made.written.any()
    assert not made.weight[11:14, 6:24].any()
    assert made.weight[2, 2] == 1


def test_small_and_faint_words_weigh_more() -> None:
    small = ((20.0, 40.0), (44.0, 40.0), (44.0, 48.0), (20.0, 48.0))
    plain, tiny, faint = (
        presence.target(film(one)).weight[11, 8] for one in (word(BOX), word(small), word(BOX, contrast=0.1))
    )
    assert tiny > plain
    assert faint == pytest.approx(1.6 * plain)


def test_a_marker_is_marked() -> None:
    made = presence.target(film(word(BOX, kind="marker")))
    assert made.marker[10:15, 5:25].all()


def test_boxes_are_components_in_film_pixels() -> None:
    probability = np.zeros((10, 12), dtype=np.float32)
    probability[2:4, 3:7] = 0.4
    probability[2, 3] = 0.8
    probability[7, 9] = 0.45  # never likely enough
    found = presence.boxes(probability, np.full_like(probability, 0.2), Thresholds(0.3, 0.3, 0.5, 0.9, 2))
    assert [(box.left, box.top, box.right, box.bottom) for box in found] == [(10, 6, 30, 18)]
    assert found[0].score == pytest.approx(0.8)
    far = presence.boxes(probability, probability, Thresholds(0.3, 0.3, 0.5, 0.9, 2), 3)
    assert (far[0].left, far[0].right) == (30, 90)


def test_sides_are_filled_up() -> None:
    grey = np.arange(40 * 70, dtype=np.uint32).reshape(40, 70).astype(np.uint8)
    full = presence.padded(grey)
    assert full.shape == (1, 1, 64, 96)
    assert (full[0, 0, 40:, :70] == grey[-1]).all()


def test_the_graph_says_what_the_net_says_at_any_size(tmp_path: Path, net: Presence) -> None:
    file = tmp_path / "presence.onnx"
    presence_bundle.export(net, file)
    for sides in ((64, 64), (96, 160), (32, 288)):
        assert presence_bundle.difference(net, file, sides) < 1e-4
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in presence_bundle.onnx.load(file).graph.node].count(
        "BatchNormalization"
    ) == 0
    found = evaluate_presence.looked(session, np.zeros((50, 130), dtype=np.uint8), Thresholds(1.1, 1.1, 1.1))
    assert found == []


def test_the_loss_falls_when_the_words_are_right() -> None:
    facts = torch.zeros(1, 3, 8, 8)
    facts[:, 0, 2:4, 2:6] = 1
    facts[:, 2] = 1
    right = torch.stack([facts[:, 0] * 12 - 6, facts[:, 1] * 12 - 6], dim=1)
    missed, false = right.clone(), right.clone()
    missed[:, 0, 2:4, 2:6] = -6
    false[:, 0, 6:, 2:6] = 6
    good = fit_presence.loss_of(right, facts)
    assert good < fit_presence.loss_of(missed, facts)
    assert good < fit_presence.loss_of(false, facts)
    facts[:, 2, 6:, 2:6] = 0  # where nobody can say, nothing is false
    assert fit_presence.loss_of(false, facts) == pytest.approx(float(good), rel=0.1)


@pytest.fixture(scope="module")
def outfit() -> tuple[list[presence.Plane], list[fonts.Face]]:
    phantoms = [backgrounds.phantom(np.random.default_rng(place), 96) for place in range(2)]
    listed = fonts.Listed("", "segment", (strokes.SEVEN_SEGMENTS,), (fonts.DIGITS,))
    return phantoms, [fonts.Face(strokes.SEVEN_SEGMENTS, listed)]


def test_a_broken_run_ends_like_a_whole_one(
    tmp_path: Path, outfit: tuple[list[presence.Plane], list[fonts.Face]]
) -> None:
    reproducible(1)
    try:
        plan = fit_presence.Plan(steps=4, batch=3, side=64, shard=4, fresh=2, every=2, shape=TINY)
        whole = fit_presence.fit_presence(plan, *outfit, tmp_path / "a", lambda _: None)
        fit_presence.fit_presence(plan, *outfit, tmp_path / "b", lambda _: None, 1, until=0.0)
        assert fit_presence.averaged(tmp_path / "b" / "presence.pt")[1] == 1
        broken = fit_presence.fit_presence(plan, *outfit, tmp_path / "b", lambda _: None, 2)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, broken.state_dict()[name]), name
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_bundle_is_whole_and_says_whether_it_was_measured(tmp_path: Path, net: Presence) -> None:
    presence_bundle.export(net, tmp_path / presence_bundle.GRAPH)
    facts = {"steps": 5, "nih": 7, "hannover": 0}
    hash_ = presence_bundle.seal(net, tmp_path, Thresholds(0.2, 0.3, 0.4), facts, None)
    assert bundle.whole(tmp_path)
    assert hash_ == bundle.sha256(tmp_path / "bundle.toml")
    said = tomllib.loads((tmp_path / "bundle.toml").read_text(encoding="utf-8"))
    assert (said["kind"], said["evaluated"], said["thresholds"]["pixel"]) == ("text-detector", False, 0.2)
    assert "Not measured yet" in (tmp_path / "CARD.md").read_text(encoding="utf-8")
    rows = [{"number": 0, "group": "bare", "pixels": 100, "blanked": 3, "quarantined": False, "words": []}]
    presence_bundle.seal(net, tmp_path, Thresholds(), facts, rows)
    assert bundle.whole(tmp_path)
    assert tomllib.loads((tmp_path / "bundle.toml").read_text(encoding="utf-8"))["evaluated"] is True
    assert "3.000 %" in (tmp_path / "CARD.md").read_text(encoding="utf-8")
