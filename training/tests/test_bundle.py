import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
from conftest import Exported

from cloister_training import bundle, cli, grammar, parity, tokenizer, train


def result_of(exported: Exported) -> train.Result:
    names = [label.name for label in grammar.LABELS]
    figures = {
        "seconds": 1, "training_films": 2, "validation_films": 2, "training_patients": 2,
        "validation_patients": 2, "validation_auroc": dict.fromkeys(names, 0.5),
        "validation_positive_films": dict.fromkeys(names, 1), "agreement": {
            f"{part}_{kind}": 0.5
            for part in ("tokens", "drafts") for kind in ("reports", "questions", "unseen_questions")
        },
    }  # fmt: skip
    return train.Result(
        exported.config, exported.vision, exported.text, exported.tokens, [0.5] * 9, 0.4, figures
    )


def test_a_checkpoint_becomes_a_bundle_whose_hashes_hold(exported: Exported, tmp_path: Path) -> None:
    train.save(result_of(exported), tmp_path / "model.pt")
    out = tmp_path / "bundle"
    assert cli.main(["export", "--checkpoint", str(tmp_path / "model.pt"), "--out", str(out)]) == 0
    manifest = tomllib.loads((out / "bundle.toml").read_text(encoding="utf-8"))
    assert manifest["evaluated"] is False
    assert [label["name"] for label in manifest["labels"]] == [label.name for label in grammar.LABELS]
    assert manifest["graphs"]["vocabulary"] == exported.tokens.get_vocab_size()
    for entry in manifest["file"]:
        assert hashlib.sha256((out / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    listed = {entry["path"] for entry in manifest["file"]} | {"bundle.toml"}
    assert {file.name for file in out.iterdir()} == listed
    assert "grammar" in (out / "CARD.md").read_text(encoding="utf-8").splitlines()[0]
    cases = json.loads((out / "parity.json").read_text(encoding="utf-8"))["cases"]
    assert all(len(case["tokens"]) == len(case["top_ids"]) for case in cases)
    assert sum(file.stat().st_size for file in out.iterdir()) < 12_000_000


def test_missing_films_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pt"
    arguments = ["train", "--data", str(tmp_path), "--checkpoint", str(checkpoint)]
    assert cli.main(arguments) == cli.DATA_MISSING
    assert not checkpoint.exists()


def test_phantoms_are_the_formula_in_plain_integers() -> None:
    drawn = parity.phantom(2, 224)
    for x, y in ((0, 0), (70, 110), (223, 5), (154, 200), (100, 223)):
        low = min((x - 70) ** 2 + (y - 110) ** 2 // 3, (x - 154) ** 2 + (y - 110) ** 2 // 3)
        a = (31 * x + 17 * y + 59 * 2 + (x * y) // 16) % 64
        value = np.float32((a + (180 if low < 2025 + 800 else 40)) % 256)
        assert drawn[y, x] == (value / np.float32(255) - np.float32(0.5)) / np.float32(0.28867513)


def test_the_committed_bundle_is_whole_where_it_stands() -> None:
    folder = Path(__file__).parents[2] / "models" / bundle.NAME
    manifest = tomllib.loads((folder / "bundle.toml").read_text(encoding="utf-8"))
    for entry in manifest["file"]:
        assert bundle.sha256(folder / entry["path"]) == entry["sha256"]
    assert (folder / "prefix.txt").read_text(encoding="utf-8") == tokenizer.prefix_text()
    assert (folder / "tokenizer.json").read_text(encoding="utf-8") == tokenizer.build().to_str()
