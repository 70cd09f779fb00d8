"""`cloister-train presence …`: the steps of the text-presence net from a shell.

Before it: `cli`, which hands over the options. Every step goes on where it stopped; `train` needs `look`,
`export` a checkpoint, `evaluate` nothing but films and a detector.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .. import bundle
from . import (
    backgrounds,
    choose_thresholds,
    evaluate_presence,
    fit_presence,
    fonts,
    presence_bundle,
    time_presence,
    zones,
)
from .evaluate_presence import Detector
from .filters import Plane
from .presence import Thresholds

Log = Callable[[str], None]
MISSING = 3
DETECTOR = Path("../models/text-ppocr")


def _ppocr(options: argparse.Namespace) -> Path:
    """PP-OCRv4's file: the one named, else the cache of `make setup` under its hash."""
    named: Path | None = options.ppocr
    if named is not None:
        return named
    text = (DETECTOR / "bundle.toml").read_text(encoding="utf-8")
    hash_ = text.split('sha256 = "')[1].split('"')[0]
    return fonts.cache().parent / "cloister" / hash_


def _films(options: argparse.Namespace, family: fonts.Family, log: Log) -> list[Plane]:
    return backgrounds.sources(options.films, options.runs / "zones", family, log)


def fetch(options: argparse.Namespace, log: Log) -> int:
    """Fonts into the cache."""
    fonts.fetch(options.fonts, log)
    return 0


def look(options: argparse.Namespace, log: Log) -> int:
    """PP-OCR over every real film: where it already carries text."""
    files = [
        film.path
        for family in ("training", "evaluation")
        for film in backgrounds.split(options.films, family)
    ]
    zones.look(files, _ppocr(options), options.runs / "zones", log)
    return 0


def _plan(options: argparse.Namespace) -> fit_presence.Plan:
    if options.smoke:
        return fit_presence.Plan.smoke()
    return fit_presence.Plan(steps=options.steps) if options.steps else fit_presence.Plan()


def train(options: argparse.Namespace, log: Log) -> int:
    """The net, into runs."""
    films = _films(options, "training", log)
    faces = fonts.faces("training", options.fonts)
    until = time.time() + 60 * options.minutes if options.minutes else None
    fit_presence.fit_presence(_plan(options), films, faces, options.runs, log, options.workers, until)
    return 0


def _limits(options: argparse.Namespace) -> Thresholds:
    usual = Thresholds()
    return Thresholds(
        options.pixel or usual.cell,
        options.doubtful or usual.doubtful,
        options.component or usual.component,
    )


def export(options: argparse.Namespace, log: Log) -> int:
    """Graph, card and manifest; figures of `evaluate` with the name `text-presence` are taken along."""
    checkpoint, folder = options.runs / "presence.pt", options.runs / "bundle"
    if not checkpoint.is_file():
        log(f"{checkpoint} is missing: nothing to export")
        return MISSING
    net, steps = fit_presence.averaged(checkpoint)
    presence_bundle.export(net, folder / presence_bundle.GRAPH)
    log(f"largest difference {presence_bundle.difference(net, folder / presence_bundle.GRAPH):.2e}")
    lines = options.runs / "evaluation" / f"{presence_bundle.NAME}.jsonl"
    rows = evaluate_presence.read(lines) if lines.is_file() and options.measured else None
    kept = [
        film.path.parent.parent.name
        for film in backgrounds.split(options.films, "training")
        if (options.runs / "zones" / f"{zones.key_of(film.path)}.png").is_file()
    ]
    facts = {"steps": steps, "nih": kept.count("nih1000"), "hannover": kept.count("hannover")}
    print(presence_bundle.seal(net, folder, _limits(options), facts, rows))
    return 0


def choose(options: argparse.Namespace, log: Log) -> int:
    """A table of thresholds on films of the training family."""
    films, faces = _films(options, "training", log), fonts.faces("training", options.fonts)
    graph = options.runs / "bundle" / presence_bundle.GRAPH
    rows = choose_thresholds.choose(graph, films, faces, options.count, Thresholds().grow, log)
    print("\n".join(rows))
    return 0


def _detectors(options: argparse.Namespace, commands: bool = True) -> dict[str, Detector]:
    found: dict[str, Detector] = {}
    if options.net:
        graph = options.runs / "bundle" / presence_bundle.GRAPH
        found[presence_bundle.NAME] = evaluate_presence.net(graph, _limits(options), False)
    if options.with_ppocr:
        found["ppocr-v4"] = evaluate_presence.ppocr(_ppocr(options))
    if options.with_tesseract:
        found["tesseract"] = evaluate_presence.tesseract()
    for named in (options.command or []) if commands else []:
        name, _, line = named.partition("=")
        found[name] = evaluate_presence.command(line)
    return found


def evaluate(options: argparse.Namespace, log: Log) -> int:
    """Films `--first` to `--last`; prints the tables of every detector that has lines for them."""
    folder = options.runs / "evaluation"
    detectors = _detectors(options)
    numbers = range(options.first, options.last)
    if detectors:
        films, faces = _films(options, "evaluation", log), fonts.faces("evaluation", options.fonts)
        evaluate_presence.evaluate(numbers, detectors, films, faces, folder, log, options.batch)
    kept = {file.stem: evaluate_presence.read(file, numbers) for file in sorted(folder.glob("*.jsonl"))}
    kept = {name: rows for name, rows in kept.items() if rows}
    if not kept:
        log("nothing was evaluated")
        return MISSING
    print(evaluate_presence.tables(kept))
    return 0


def measure(options: argparse.Namespace, log: Log) -> int:
    """Times of the detectors on films of 2,000 by 2,000."""
    films, faces = _films(options, "evaluation", log), fonts.faces("evaluation", options.fonts)
    cases = time_presence.common(options.count, films, faces)
    commands = dict(named.split("=", 1) for named in options.command or [])
    print("\n".join(time_presence.table(cases, _detectors(options, commands=False), commands)))
    return 0


def install(options: argparse.Namespace, log: Log) -> int:
    """The bundle over the committed one; prints its entry for models/TRUSTED.toml."""
    folder = options.runs / "bundle"
    if not bundle.whole(folder):
        log(f"{folder} is not a sealed bundle")
        return MISSING
    to: Path = options.committed
    shutil.rmtree(to, ignore_errors=True)
    bundle.install(folder, to)
    print(f'[[bundle]]\nname = "{presence_bundle.NAME}"\nsha256 = "{bundle.sha256(to / "bundle.toml")}"')
    return 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], log: Log) -> None:
    """The subcommands of `presence`."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--films", type=Path, default=Path("../../shared/data/cxr"), help="real films")
    shared.add_argument("--fonts", type=Path, default=fonts.cache(), help="unpacked font packages")
    shared.add_argument("--runs", type=Path, default=Path("runs/presence"))
    shared.add_argument("--ppocr", type=Path, help="PP-OCRv4's det.onnx; from the cache by default")
    shared.add_argument("--pixel", type=float, help="probability from which a cell counts")
    shared.add_argument("--doubtful", type=float, help="probability from which another net is asked")
    shared.add_argument("--component", type=float, help="probability that a component must reach")
    parser = commands.add_parser("presence", help="the text-presence net of crates/redact")
    steps = parser.add_subparsers(required=True)

    def step(name: str, run: Callable[[argparse.Namespace, Log], int], text: str) -> argparse.ArgumentParser:
        made = steps.add_parser(name, parents=[shared], help=text)
        made.set_defaults(run=lambda options: run(options, log))
        return made

    step("fonts", fetch, "Debian's fonts into the cache")
    step("look", look, "find the text that real films already carry")
    made = step("train", train, "the net, into runs")
    made.add_argument("--steps", type=int, help="in all, those of the checkpoint included")
    made.add_argument("--minutes", type=float, help="break off in time; the next run goes on")
    made.add_argument("--workers", type=int, default=1, help="processes that make films")
    made.add_argument("--smoke", action="store_true", help="prove the way")
    made = step("export", export, "graph, card and manifest, into runs/presence/bundle")
    made.add_argument("--measured", action="store_true", help="with the figures of `evaluate`")
    made = step("choose", choose, "what thresholds would do, on films of the training family")
    made.add_argument("--count", type=int, default=300, help="films")
    made = step(
        "evaluate", evaluate, "films by number: even ones have text, of the others a third has markers"
    )
    made.add_argument("--first", type=int, default=0)
    made.add_argument("--last", type=int, default=12000)
    made.add_argument("--batch", type=int, default=20, help="films that are made at once")
    timed = step("time", measure, "milliseconds a film, with one thread; the first command is the measure")
    timed.add_argument("--count", type=int, default=12, help="films")
    for asked in (made, timed):
        asked.add_argument("--net", action="store_true", help="the exported graph alone")
        asked.add_argument("--with-ppocr", action="store_true", help="PP-OCRv4's detector, plain")
        asked.add_argument("--with-tesseract", action="store_true")
        asked.add_argument(
            "--command",
            action="append",
            metavar="NAME=COMMAND",
            help="e.g. cloister='cloister detect-text -'",
        )
    step("install", install, "copy the bundle over the committed one").add_argument(
        "--committed", type=Path, default=Path("../models/text-presence")
    )
