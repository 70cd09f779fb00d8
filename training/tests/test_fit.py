"""The trainings on invented films: what they promise, not how well they do."""

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from cloister_training import crossfit, data, fit_text, fit_vision, fitting, grammar, tokenizer
from cloister_training.model import Config, TextModel, Vision

SMALL = Config(channels=(8, 8, 16, 16, 192))
PLAN = fit_vision.VisionPlan(stages=(fit_vision.Stage(64, 1, 1e-3),), batch=8)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[data.Film]:
    """Twenty patients with two films; the ill ones have a bright lower half."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(5)
    made = []
    for number in range(40):
        ill = number // 2 % 2
        pixels = rng.integers(0, 90, (80, 80), dtype=np.uint8)
        pixels[40:] += np.uint8(120 * ill)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        view = "pa" if number % 3 else "ap"
        marks = (ill, *(0 for _ in grammar.LABELS[1:]))
        made.append(data.Film(path, f"p{number // 2}", marks, grammar.Context(view)))
    return made


def test_in_either_view_half_of_what_is_drawn_has_pneumonia(films: list[data.Film]) -> None:
    weights = fit_vision.weights_of(films)
    for view in ("pa", "ap"):
        drawn = [float(w) for w, film in zip(weights, films, strict=True) if film.context.view == view]
        ill = [
            float(w)
            for w, film in zip(weights, films, strict=True)
            if film.context.view == view and film.labels[0]
        ]
        assert sum(ill) / sum(drawn) == pytest.approx(0.5)


def test_a_film_is_judged_by_the_model_that_did_not_see_its_patient(
    films: list[data.Film], tmp_path: Path
) -> None:
    seen: list[set[str]] = []
    original = crossfit.fit_vision

    def spy(config: Config, some: list[data.Film], plan: fit_vision.VisionPlan, log: fitting.Log) -> Vision:
        seen.append({film.patient for film in some})
        return original(config, some, plan, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "fit_vision", spy)
        folds = crossfit.cross_fit(SMALL, films, PLAN, lambda _: None)
    pixels = data.load(films, data.SIZE)
    for index, film in enumerate(films):
        number = folds.fold[index]
        assert film.patient not in seen[number]
        # The fold models carry their calibration: what they say is what is noted.
        said = crossfit.see(folds.visions[number], pixels[index : index + 1])[1][0]
        assert torch.allclose(said, folds.calibrated[index], atol=1e-4)
    crossfit.save(folds, tmp_path / "folds.pt")
    again = crossfit.load(tmp_path / "folds.pt")
    assert again.fold == folds.fold
    assert torch.equal(again.calibrated, folds.calibrated)
    assert torch.equal(
        crossfit.see(again.visions[2], pixels[:2])[1], crossfit.see(folds.visions[2], pixels[:2])[1]
    )


def test_thresholds_hold_the_stated_specificity() -> None:
    probabilities = torch.linspace(0, 1, 101).repeat(2, 1).T
    threshold = crossfit.thresholds_at(probabilities, torch.zeros(101, 2), 0.9)[0]
    assert threshold == pytest.approx(0.9, abs=0.01)


def test_what_the_patches_say_adds_up_to_the_logits() -> None:
    torch.manual_seed(1)
    vision = Vision(SMALL).eval()
    vision.slope.fill_(0.7)
    with torch.no_grad():
        _, _, logits, by_patch = vision(torch.randn(3, 1, 224, 224))
    rest = logits - by_patch.sum(dim=1)
    assert by_patch.shape == (3, 49, 9)
    assert torch.allclose(rest, rest[:1].expand_as(rest), atol=1e-6)
    assert float((logits[0] - logits[1]).abs().max()) > 1e-5  # films differ, and the rest does not


def studies(count: int = 30) -> fit_text.Studies:
    torch.manual_seed(2)
    some = [data.Film(Path(), f"p{n // 3}", (0,) * 9, grammar.Context("pa")) for n in range(count)]
    by_patient: dict[str, list[int]] = defaultdict(list)
    for index, film in enumerate(some):
        by_patient[film.patient].append(index)
    return fit_text.Studies(torch.randn(count, 2, 50, 192), some, by_patient)


def test_a_batch_asks_and_answers_as_the_grammar_says(tokens: Tokenizer) -> None:
    edges = fit_text.edges_of([0.3] * 9)
    batches = fit_text.Batches(studies(), tokens, edges, 16)
    rng = random.Random(6)
    for reports in (0.0, 1.0):
        batch = batches.draw(rng, fit_text.Leg(1, 1e-3, 4, True, reports))
        assert batch["image_tokens"].shape[2] == batch["places"].numel() == 5
        assert int(batch["places"][-1]) == 49  # evidence is never left out
        for row in range(16):
            films = int(batch["film_mask"][row].sum())
            evidence = batch["image_tokens"][row, :films, -1, :9].max(dim=0).values
            bands = fit_text.bands_of(evidence, edges)
            drafted = tokenizer.read(tokens, batch["wanted"][row].tolist())
            for name, band in grammar.read_bands(drafted).items():
                index = [label.name for label in grammar.LABELS].index(name)
                assert bands[index] == band
        # What is given is what was wanted, one place later; the end token is never given.
        given, wanted = batch["ids"][:, 1:], batch["wanted"][:, :-1]
        assert torch.equal(given, wanted.where(wanted != tokenizer.EOS, torch.tensor(tokenizer.PAD)))


def test_a_short_prefix_keeps_the_query(tokens: Tokenizer) -> None:
    batches = fit_text.Batches(studies(), tokens, fit_text.edges_of([0.3] * 9), 16)
    batch = batches.draw(random.Random(7), fit_text.Leg(1, 1e-3, 1, False, 0.0))
    assert bool((batch["text_ids"] == tokenizer.QUERY).any(dim=1).all())
    assert batch["text_ids"].shape[1] < batches.prefix


def test_training_lowers_the_loss_and_repeats_itself(tokens: Tokenizer) -> None:
    fitting.reproducible(2)  # one thread would repeat itself anyway
    config = Config(vocabulary=tokens.get_vocab_size(), encoder_layers=1, decoder_layers=1)
    plan = fit_text.TextPlan(legs=(fit_text.Leg(24, 3e-3, 1, False, 0.0),), batch=8)
    lines: list[str] = []
    first, second = (
        fit_text.fit_text(config, studies(), tokens, [0.3] * 9, plan, lines.append) for _ in range(2)
    )
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines if "loss" in line]
    assert losses[len(losses) // 2 - 1] < losses[0] - 1.0
    assert isinstance(first, TextModel)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
