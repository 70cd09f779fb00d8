"""Seals the folder: bundle.toml with the SHA-256 of every file.

Before it: `export`, `parity` and `card` have written their files. After it: the server loads the
folder if the SHA-256 of bundle.toml stands in models/TRUSTED.toml.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from . import data, grammar, parity, tokenizer
from .export import TOP
from .train import Result

NAME, VERSION = "cxr-report-ref", "0.1.0"
FILES = (
    "vision.onnx",
    "prefix.onnx",
    "step.onnx",
    "tokenizer.json",
    "prefix.txt",
    "parity.json",
    "CARD.md",
)
HEAD = """\
# Reference report model, first training run, not evaluated. Written by `cloister-train export`;
# every key is explained in training/README.md. The graphs' names, types and shapes stand there too.
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


def manifest(result: Result, folder: Path) -> str:
    """The text of bundle.toml."""
    config = result.config
    tables = [
        _table(
            "",
            {
                "name": NAME,
                "version": VERSION,
                "kind": "report",
                "evaluated": False,
                "licence": "Apache-2.0",
                "training_data": "NIH ChestX-ray14: 813 frontal films of 546 patients (attribution in CARD.md); "
                "sentences from cloister_training's grammar",
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
    ]
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
    tables += [_table("[[file]]", {"path": name, "sha256": sha256(folder / name)}) for name in FILES]
    return HEAD + "\n".join(tables)


def seal(result: Result, folder: Path) -> str:
    """Writes bundle.toml; gives its SHA-256, which goes into models/TRUSTED.toml."""
    file = folder / "bundle.toml"
    file.write_text(manifest(result, folder), encoding="utf-8")
    return sha256(file)
