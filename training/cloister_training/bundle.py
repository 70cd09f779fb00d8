"""Seals the folder: bundle.toml with the SHA-256 of every file.

Before it: `export`, `parity`, `figures` and `card` have written their files. After it: the server
loads the folder if the SHA-256 of bundle.toml stands in models/TRUSTED.toml. A folder without
figures.json can be sealed too: it is then not evaluated and says so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path

from . import data, grammar, ngrams, parity, tokenizer
from .export import TOP, Weights
from .train import Result

NAME, VERSION = "cxr-report-ref", "0.3.1"
GRAPHS = ("vision.onnx", "prefix.onnx", "step.onnx")
NGRAMS, FIGURES, CARD = "ngrams.json", "figures.json", "CARD.md"
REQUIRED = (*GRAPHS, "tokenizer.json", "prefix.txt", "parity.json")
OPTIONAL = (NGRAMS, FIGURES, CARD)
HEAD = """\
# Reference report model. Written by `cloister-train evaluate`; every key is explained in
# training/README.md. The graphs' names, types and shapes stand there too.
"""


def sha256(file: Path) -> str:
    """Lower-case hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _value(value: object) -> str:
    # JSON's strings, numbers, booleans and flat arrays are TOML's as well.
    return json.dumps(value, ensure_ascii=True)


def _table(name: str, entries: dict[str, object]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in entries.items() if value is not None]
    return "\n".join([name, *lines] if name else lines) + "\n"


def _tokens(kind: str, names: Iterable[str]) -> dict[str, object]:
    return {name: tokenizer.SPECIAL.index(f"<{kind}:{name}>") for name in names}


def _slope(result: Result) -> float:
    """The one slope of all labels: the calibration has no others, and the manifest no place for them."""
    slopes = {round(value, 6) for value in result.vision.slope.tolist()}
    if len(slopes) != 1:
        raise ValueError(f"a slope per label: {sorted(slopes)}")
    return slopes.pop()


def manifest(result: Result, folder: Path, weights: Weights = "int8") -> str:
    """The text of bundle.toml."""
    config = result.config
    files = [*REQUIRED, *(name for name in OPTIONAL if (folder / name).is_file())]
    tables = [
        _table(
            "",
            {
                "name": NAME,
                "version": VERSION,
                "kind": "report",
                "evaluated": FIGURES in files and CARD in files,
                "licence": "Apache-2.0",
                "training_data": f"NIH ChestX-ray14: {result.figures['films']} frontal films of "
                f"{result.figures['patients']} patients (attribution in CARD.md); sentences from "
                "cloister_training's grammar",
                "max_films": config.max_films,
            },
        ),
        _table(
            "[input]",
            {
                "height": config.image,
                "width": config.image,
                "crop_per_side": data.CROP_PER_SIDE,
                "resize": "triangle",
                "equalise": "histogram-256",
                "mean": data.MEAN,
                "std": data.STD,
            },
        ),
        _table(
            "[graphs]",
            {
                "vision": "vision.onnx",
                "prefix": "prefix.onnx",
                "step": "step.onnx",
                "weights": weights,
                "film_tokens": config.film_tokens,
                "film_width": config.channels[-1],
                "pooled_width": 2 * config.channels[-1],
                "decoder_layers": config.decoder_layers,
                "heads": config.heads,
                "head_width": config.head_width,
                "vocabulary": config.vocabulary,
                "top": TOP,
                "max_positions": config.max_positions,
            },
        ),
        _table(
            "[text]",
            {
                "tokenizer": "tokenizer.json",
                "prefix": "prefix.txt",
                "layout": ["prefix", "query_token", "query", "view", "age", "sex"],
                "lowercase": True,
                "query_token": tokenizer.QUERY,
                "max_query_tokens": tokenizer.MAX_QUERY_TOKENS,
            },
        ),
        _table("[text.view]", _tokens("view", tokenizer.VIEWS)),
        _table("[text.age]", _tokens("age", tokenizer.AGES)),
        _table("[text.sex]", _tokens("sex", tokenizer.SEXES)),
        _table(
            "[decode]",
            {
                "max_tokens": parity.MAX_TOKENS,
                "pad": tokenizer.PAD,
                "bos": tokenizer.BOS,
                "eos": tokenizer.EOS,
                "findings": tokenizer.FINDINGS,
                "impression": tokenizer.IMPRESSION,
                "first_text_token": len(tokenizer.SPECIAL),
            },
        ),
        _table(
            "[confidence]",
            {
                "method": "geometric-mean-token-probability",
                "threshold": result.confidence_threshold,
            },
        ),
        _table(
            "[calibration]",
            {
                "method": "platt-cross-fitted",
                "slope": _slope(result),
                "shift": [round(value, 6) for value in result.vision.shift.tolist()],
            },
        ),
    ]
    if NGRAMS in files:
        tables.append(_table("[ngrams]", {"file": NGRAMS, "order": ngrams.ORDER}))
    tables += [
        _table(
            "[[labels]]",
            {
                "name": label.name,
                "threshold": threshold,
                "acr_category": label.acr_category,
            },
        )
        for label, threshold in zip(grammar.LABELS, result.thresholds, strict=True)
    ]
    tables += [_table("[[file]]", {"path": name, "sha256": sha256(folder / name)}) for name in files]
    return HEAD + "\n".join(tables)


def seal(result: Result, folder: Path, weights: Weights = "int8") -> str:
    """Writes bundle.toml; gives its SHA-256, which goes into models/TRUSTED.toml."""
    file = folder / "bundle.toml"
    file.write_text(manifest(result, folder, weights), encoding="utf-8")
    return sha256(file)


def whole(folder: Path) -> bool:
    """Whether the folder is sealed and every file is the one that was sealed."""
    file = folder / "bundle.toml"
    if not file.is_file():
        return False
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["file"]
    return all(
        (folder / entry["path"]).is_file() and sha256(folder / entry["path"]) == entry["sha256"]
        for entry in entries
    )


def install(folder: Path, to: Path) -> str:
    """Copies a sealed folder over the committed one; gives the lines for models/TRUSTED.toml. Files
    that the new bundle does not have are removed: an unlisted file is no part of a bundle."""
    if not whole(folder):
        raise ValueError(f"{folder} is not a sealed bundle")
    manifest_file = folder / "bundle.toml"
    names = [entry["path"] for entry in tomllib.loads(manifest_file.read_text(encoding="utf-8"))["file"]]
    to.mkdir(parents=True, exist_ok=True)
    for old in to.iterdir():
        if old.is_file() and old.name not in (*names, manifest_file.name):
            old.unlink()
    for name in (*names, manifest_file.name):
        shutil.copyfile(folder / name, to / name)
    return f'[[bundle]]\nname = "{NAME}"\nsha256 = "{sha256(to / manifest_file.name)}"'
