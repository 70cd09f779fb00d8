import hashlib
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import Exported

from cloister_training import bundle, card, cli, crossfit, grammar, parity, tokenizer, train
from cloister_training.crossfit import Folds
from cloister_training.evaluation import evaluate, figures
from cloister_training.model import Vision


def result_of(exported: Exported) -> train.Result:
    facts: dict[str, object] = {"films": 6, "patients": 5, "seconds": {}, "calibration_slope": 1.0}
    facts["calibration_shift"] = [0.0] * len(grammar.LABELS)
    vision, text, tokens = exported.vision, exported.text, exported.tokens
    return train.Result(exported.config, vision, text, tokens, [0.5] * len(grammar.LABELS), 0.4, facts)


@pytest.fixture(scope="module")
def runs(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder after training and export. The comparison with PyTorch is slow and has tests of
    its own; here it only has to be asked for."""
    folder, compared = tmp_path_factory.mktemp("runs"), []

    def check(graphs: Path, vision: Vision, *_: object) -> dict[str, float]:
        compared.append((graphs, torch.equal(vision.head.weight, exported.vision.head.weight)))
        return {}

    train.save(result_of(exported), folder / "report.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "check", check)
        assert cli.main(["--threads", "1", "export", "--runs", str(folder)]) == 0
        # f32 graphs against the weights, int8 graphs against the rounded weights.
        assert compared == [(folder / "fp32", True), (folder / "bundle", False)]
        yield folder


def manifest_of(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "bundle.toml").read_text(encoding="utf-8"))


def test_a_checkpoint_becomes_a_bundle_whose_hashes_hold(exported: Exported, runs: Path) -> None:
    out = runs / "bundle"
    manifest = tomllib.loads((out / "bundle.toml").read_text(encoding="utf-8"))
    assert manifest["version"] == bundle.VERSION
    assert manifest["evaluated"] is False  # no figures yet
    assert [label["name"] for label in manifest["labels"]] == [label.name for label in grammar.LABELS]
    assert manifest["graphs"]["vocabulary"] == exported.tokens.get_vocab_size()
    assert manifest["graphs"]["weights"] == "int8"
    assert manifest["ngrams"] == {"file": "ngrams.json", "order": 3}
    assert manifest["calibration"]["method"] == "platt-cross-fitted"
    assert manifest["calibration"]["slope"] == 1.0
    assert len(manifest["calibration"]["shift"]) == len(grammar.LABELS)
    for entry in manifest["file"]:
        assert hashlib.sha256((out / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    assert {file.name for file in out.iterdir()} == {entry["path"] for entry in manifest["file"]} | {
        "bundle.toml"
    }
    cases = json.loads((out / "parity.json").read_text(encoding="utf-8"))["cases"]
    assert all(len(one["tokens"]) == len(one["top_ids"]) for one in cases)
    table = json.loads((out / "ngrams.json").read_text(encoding="utf-8"))
    assert table["next"] == sorted(table["next"])
    assert (runs / "fp32" / "step.onnx").stat().st_size > (out / "step.onnx").stat().st_size * 3


def test_a_finished_export_is_not_repeated_unless_asked_or_outdated(runs: Path) -> None:
    made = runs / "bundle" / "step.onnx"
    before = made.stat().st_mtime_ns
    assert cli.main(["--threads", "1", "export", "--runs", str(runs)]) == 0
    assert made.stat().st_mtime_ns == before
    assert evaluate.newer(made, [runs / "report.pt"])
    os.utime(made, ns=(1, 1))
    assert not evaluate.newer(made, [runs / "report.pt"])
    os.utime(made, ns=(before, before))


def test_figures_and_card_make_it_evaluated_and_install_replaces_the_old_one(
    exported: Exported, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, committed = runs / "bundle", tmp_path / "models" / bundle.NAME
    found = {"auroc.pa.mass": figures.Figure(value=0.7, low=0.6, high=0.8, n=3)}
    figures.write(folder / bundle.FIGURES, found, {})
    (folder / bundle.CARD).write_text("a card", encoding="utf-8")
    assert not bundle.whole(tmp_path)
    sealed = bundle.seal(result_of(exported), folder)
    assert manifest_of(folder)["evaluated"] is True
    assert bundle.whole(folder)
    committed.mkdir(parents=True)
    (committed / "old.onnx").write_bytes(b"of an older bundle")
    places = ["--runs", str(runs), "--committed", str(committed)]
    assert cli.main(["install", *places]) == 0
    said = tomllib.loads(capsys.readouterr().out)
    assert said == {"bundle": [{"name": bundle.NAME, "sha256": sealed}]}
    assert bundle.whole(committed)
    assert {file.name for file in committed.iterdir()} == {file.name for file in folder.iterdir()}
    # One byte less is another bundle.
    (folder / bundle.CARD).write_text("a car", encoding="utf-8")
    assert cli.main(["install", *places]) == cli.MISSING
    assert (committed / bundle.CARD).read_text(encoding="utf-8") == "a card"
    for name in (bundle.CARD, bundle.FIGURES):
        (folder / name).unlink()


def test_a_slope_per_label_has_no_place_in_the_manifest(exported: Exported, runs: Path) -> None:
    result = result_of(exported)
    slopes = result.vision.slope.clone()
    result.vision.slope[0] = 2.0
    try:
        with pytest.raises(ValueError, match="slope"):
            bundle.manifest(result, runs / "bundle")
    finally:
        result.vision.slope.copy_(slopes)


def test_missing_films_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    arguments = ["train", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert cli.main(arguments) == cli.MISSING
    assert not (tmp_path / "runs").exists()


def test_without_runs_the_committed_tables_are_shown_and_said_to_be_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / bundle.CARD).write_text(f"# card\n\n{card.FIGURES_HEAD}\n| a | 1 |\n", encoding="utf-8")
    arguments = ["eval-model", "--data", str(tmp_path), "--runs", str(tmp_path), "--committed", str(tmp_path)]
    assert cli.main(arguments) == cli.MISSING
    out, told = capsys.readouterr()
    assert "| a | 1 |" in out and "# card" not in out
    for what in ("no films", "report.pt", "folds.pt", "bundle", "fp32", "nothing was recomputed"):
        assert what in told


def test_a_gap_names_the_figures_that_it_costs(tmp_path: Path) -> None:
    places = evaluate.Places(hannover=tmp_path, dicom=tmp_path, cloister=tmp_path / "cloister")
    gaps = " ".join(places.gaps())
    assert "hannover.*" in gaps and "outcomes.dicom*" in gaps and "make build" in gaps


def test_a_finished_part_is_kept_until_its_models_change(
    exported: Exported, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = exported.vision.slope.new_zeros(2, len(grammar.LABELS))
    crossfit.save(Folds([0, 1], logits, [exported.vision] * 2, logits), runs / "folds.pt")
    monkeypatch.setattr(train, "films_of", lambda *_: [None, None])
    calls = []

    def measure() -> tuple[figures.Figures, figures.Facts]:
        calls.append(1)
        return {"a.b.c": figures.Figure(value=0.5, low=0.4, high=0.6, n=2)}, {"told": "once"}

    places = evaluate.Places(runs=runs)
    for _ in range(2):
        evaluation = evaluate.Evaluation(places, lambda _: None, keep=True)
        found, facts = evaluation.part("some", measure)
        assert found["a.b.c"]["value"] == 0.5 and facts == {"told": "once"}
    assert len(calls) == 1
    assert "evaluate some" in evaluation.timed({})["seconds"]
    os.utime(runs / "folds.pt", ns=(2**62, 2**62))
    evaluate.Evaluation(places, lambda _: None, keep=True).part("some", measure)
    assert len(calls) == 2
    evaluate.Evaluation(places, lambda _: None, keep=False).part("other", measure)
    assert not (runs / "parts" / "other.json").exists()


def test_facts_of_two_parts_must_agree() -> None:
    assert evaluate.joined({"films": 3}, {"films": 3, "a": 1}) == {"films": 3, "a": 1}
    with pytest.raises(ValueError, match="films"):
        evaluate.joined({"films": 3}, {"films": 4})


def test_the_committed_bundle_is_whole_where_it_stands() -> None:
    folder = Path(__file__).parents[2] / "models" / bundle.NAME
    assert bundle.whole(folder)
    trusted = tomllib.loads((folder.parent / "TRUSTED.toml").read_text(encoding="utf-8"))["bundle"]
    assert {"name": bundle.NAME, "sha256": bundle.sha256(folder / "bundle.toml")} in trusted
    assert (folder / "prefix.txt").read_text(encoding="utf-8") == tokenizer.prefix_text()
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == tokenizer.build().to_str()
