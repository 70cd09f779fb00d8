"""`cloister-train`: the steps from a shell.

Before it: a person or the Makefile. It calls the steps in their order and holds no logic of theirs. A
stage whose files are there and newer than what they were made of is not repeated, so that a broken
run goes on where it stopped; `--fresh` repeats it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import bundle, card, export, ngrams, parity, tokenizer, train
from .evaluation import evaluate, figures
from .evaluation.evaluate import Places, newer
from .fitting import reproducible
from .pixels import steps as pixels
from .quantise import dequantised

OUTSIDE, MISSING = 1, 3


def _log(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", file=sys.stderr, flush=True)


def _places(options: argparse.Namespace) -> Places:
    given = {name: value for name in Places.__dataclass_fields__ if (value := getattr(options, name, None))}
    return Places(**given)


def _train(options: argparse.Namespace) -> int:
    places = _places(options)
    if not (places.data / "manifest.csv").is_file():
        _log(f"no films in {places.data}: nothing to train on")
        return MISSING
    if options.fresh:
        places.folds.unlink(missing_ok=True)
    elif newer(places.report, [places.folds]):
        _log(f"using {places.report} (--fresh trains again)")
        return 0
    plan = train.Plan.smoke() if options.smoke else train.Plan()
    train.save(train.run(places.data, plan, places.folds, _log), places.report)
    return 0


def _export(options: argparse.Namespace) -> int:
    places = _places(options)
    if not places.report.is_file():
        _log(f"{places.report} is missing: nothing to export")
        return MISSING
    made = places.bundle / "parity.json"
    if newer(made, [places.report]) and not options.fresh:
        _log(f"using the graphs of {places.bundle} (--fresh exports again)")
        return 0
    result, started = train.load(places.report), time.monotonic()
    vision, text, tokens = result.vision, result.text, result.tokens
    shutil.rmtree(places.bundle, ignore_errors=True)
    export.export(vision, text, places.fp32, "f32")
    _log(f"f32 {json.dumps(parity.check(places.fp32, vision, text, tokens))}")
    export.export(vision, text, places.bundle, "int8")
    small, smaller = dequantised(vision), dequantised(text)
    _log(f"int8 {json.dumps(parity.check(places.bundle, small, smaller, tokens))}")
    ngrams.write(places.bundle / bundle.NGRAMS, ngrams.build(tokens))
    tokens.save(str(places.bundle / "tokenizer.json"), pretty=False)
    shutil.copyfile(tokenizer.PREFIX_FILE, places.bundle / "prefix.txt")
    parity.write(made, small, smaller, tokens)
    bundle.seal(result, places.bundle)
    figures.write(places.exported, {}, {"seconds": round(time.monotonic() - started)})
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    places = _places(options)
    if _stopped(places):
        return MISSING
    for gap in places.gaps():
        _log(gap)
    if options.fresh:
        shutil.rmtree(places.parts, ignore_errors=True)
    print(f"{evaluate.evaluate(places, _log, options.smoke)}  {places.bundle / 'bundle.toml'}")
    return 0


def _stopped(places: Places) -> bool:
    missing = places.missing()
    for text in missing:
        _log(text)
    return bool(missing)


def _eval_model(options: argparse.Namespace) -> int:
    places = _places(options)
    if places.missing():
        written = places.committed / bundle.CARD
        print(
            card.figures_part(written.read_text(encoding="utf-8"))
            if written.is_file()
            else "no committed card"
        )
        _stopped(places)
        _log("nothing was recomputed; the tables above are the committed card's")
        return MISSING
    for gap in places.gaps():
        _log(gap)
    tables, rows = evaluate.check(places, _log, options.smoke)
    print(tables)
    if not (places.committed / bundle.FIGURES).is_file():
        _log(f"no {bundle.FIGURES} in {places.committed}: nothing to compare with")
        return MISSING
    print("### Against the committed bundle\n")
    print(figures.printed(rows))
    failed = [row.key for row in rows if row.failed]
    for key in failed:
        _log(f"not reproduced: {key}")
    return OUTSIDE if failed else 0


def _install(options: argparse.Namespace) -> int:
    places = _places(options)
    if not bundle.whole(places.bundle):
        _log(f"{places.bundle} is not a sealed bundle (`make train`)")
        return MISSING
    print(bundle.install(places.bundle, places.committed))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand. Exit code 3: something is absent; 1: a figure is not reproduced."""
    parser = argparse.ArgumentParser(prog="cloister-train", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads")
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    for name in Places.__dataclass_fields__:
        shared.add_argument(f"--{name}", type=Path, help=f"default {getattr(Places(), name)}")
    shared.add_argument("--smoke", action="store_true", help="prove the way on a few films")
    staged = argparse.ArgumentParser(add_help=False)
    staged.add_argument("--fresh", action="store_true", help="repeat the stage even if it is finished")
    for name, run, parents, text in (
        ("train", _train, [shared, staged], "folds, final encoder and text model, into runs"),
        ("export", _export, [shared, staged], "graphs, compared with PyTorch"),
        ("evaluate", _evaluate, [shared, staged], "figures, card, sealed bundle"),
        ("eval-model", _eval_model, [shared], "measure again and compare with the committed bundle"),
        ("install", _install, [shared], "copy the bundle over the committed one"),
    ):
        commands.add_parser(name, parents=parents, help=text).set_defaults(run=run)
    pixels.add(commands, _log)
    options = parser.parse_args(arguments)
    reproducible(options.threads)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
