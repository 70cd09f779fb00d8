"""`cloister-train`: the steps from a shell.

Before it: a person or the Makefile. It calls the steps in their order and holds no logic.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from . import bundle, card, export, parity, tokenizer, train

DATA_MISSING = 3


def _log(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", file=sys.stderr, flush=True)


def _train(options: argparse.Namespace) -> int:
    if not (options.data / "manifest.csv").is_file():
        _log(f"no films in {options.data}: nothing to train on")
        return DATA_MISSING
    plan = train.Plan.smoke() if options.smoke else train.Plan()
    train.save(train.run(options.data, plan, _log), options.checkpoint)
    return 0


def _export(options: argparse.Namespace) -> int:
    result = train.load(options.checkpoint)
    out: Path = options.out
    export.export(result.vision, result.text, out)
    differences = parity.check(out, result.vision, result.text, result.tokens)
    _log(f"tokens agree; largest differences {json.dumps(differences)}")
    parity.write(out / "parity.json", result.vision, result.text, result.tokens)
    result.tokens.save(str(out / "tokenizer.json"), pretty=False)
    shutil.copyfile(tokenizer.PREFIX_FILE, out / "prefix.txt")
    card.write(out / "CARD.md", result, differences, bundle.VERSION)
    print(f"{bundle.seal(result, out)}  bundle.toml")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the exit code is 3 when the data are absent."""
    parser = argparse.ArgumentParser(prog="cloister-train", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads")
    commands = parser.add_subparsers(required=True)
    fit = commands.add_parser("train", help="one training run, to a checkpoint")
    fit.add_argument("--data", type=Path, required=True, help="folder cxr/nih1000")
    fit.add_argument("--checkpoint", type=Path, required=True)
    fit.add_argument("--smoke", action="store_true", help="one minute on a few films")
    fit.set_defaults(run=_train)
    write = commands.add_parser("export", help="checkpoint to bundle, compared with PyTorch")
    write.add_argument("--checkpoint", type=Path, required=True)
    write.add_argument("--out", type=Path, required=True, help="bundle folder")
    write.set_defaults(run=_export)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
