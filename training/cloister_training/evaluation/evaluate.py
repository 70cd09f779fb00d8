"""Measures everything that the card says, and compares it with what the committed card says.

Before it: `train` left runs/report.pt and runs/folds.pt, `cli export` the graphs in runs/fp32 and
runs/bundle. After it: figures.json, CARD.md and a sealed bundle; or, for `make eval-model`, the
tables and a comparison with the committed figures.json.

1. films: heads, shortcuts, shifts, the other hospital. Needs the fold models.
2. drafts: what the exported text graphs write. Needs the fold models and runs/bundle.
3. parity: graphs against PyTorch and int8 against f32 on real films.
4. outcomes: the whole server on real films. Last, because it needs a sealed bundle.
"""

from __future__ import annotations

import csv
import os
import platform
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch

from .. import bundle, card, crossfit, data, grammar, ngrams, parity, train
from ..fitting import Log
from ..grammar import LABELS
from ..graphs import Graphs
from ..quantise import dequantised
from ..tokenizer import text_input
from . import figures, outcomes
from .drafts import Sizes, draft_figures
from .figures import Facts, Figures
from .films import film_figures

PARITY_FILMS = 120
IDENTICAL = 40
Part = Callable[[], tuple[Figures, Facts]]


@dataclass(frozen=True)
class Places:
    """Where everything lies; the defaults are those of a checkout, seen from training/."""

    data: Path = Path("../../shared/data/cxr/nih1000")
    hannover: Path = Path("../../shared/data/cxr/hannover")
    dicom: Path = Path("../../shared/data/dicom")
    runs: Path = Path("runs")
    committed: Path = Path("../models") / bundle.NAME
    cloister: Path = Path("../target/debug/cloister")

    @property
    def report(self) -> Path:
        """The trained models."""
        return self.runs / "report.pt"

    @property
    def folds(self) -> Path:
        """The fold models and what they say."""
        return self.runs / "folds.pt"

    @property
    def bundle(self) -> Path:
        """The int8 graphs; becomes the bundle."""
        return self.runs / "bundle"

    @property
    def fp32(self) -> Path:
        """The f32 graphs; never committed."""
        return self.runs / "fp32"

    @property
    def exported(self) -> Path:
        """What the export took."""
        return self.runs / "export.json"

    @property
    def parts(self) -> Path:
        """Figures of finished parts, so that a broken run goes on where it stopped."""
        return self.runs / "parts"

    def missing(self) -> list[str]:
        """What stops an evaluation, in words."""
        found = [] if (self.data / "manifest.csv").is_file() else [f"no films in {self.data}"]
        found += [
            f"{file} is missing (`make train`)" for file in (self.report, self.folds) if not file.is_file()
        ]
        for folder in (self.bundle, self.fp32):
            if not all((folder / name).is_file() for name in bundle.GRAPHS):
                found.append(f"the graphs in {folder} are missing (`make train`)")
        return found

    def gaps(self) -> list[str]:
        """What a run can do without, and the figures that it then has not."""
        found = []
        if not (self.hannover / "data.csv").is_file():
            found.append(
                f"no films in {self.hannover}: figures hannover.* and outcomes.hannover.* are not recomputed"
            )
        if not (self.dicom / "inventory.csv").is_file():
            found.append(f"no files in {self.dicom}: figures outcomes.dicom* are not recomputed")
        if not self.cloister.is_file():
            found.append(f"no {self.cloister} (`make build`): figures outcomes.* are not recomputed")
        return found


def data_facts(folder: Path, films: list[data.Film]) -> Facts:
    """What the card says of the data: views, positive patients, and the labels that were dropped."""
    positive: dict[str, set[str]] = defaultdict(set)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            for name in row["nih_labels"].split("|"):
                positive[name].add(row["patient_id"])
    kept = {label.nih for label in LABELS} | {"No Finding"}
    of_label = {
        label.name: {film.patient for film in films if film.labels[index]}
        for index, label in enumerate(LABELS)
    }
    return {
        "dropped": {name: len(who) for name, who in sorted(positive.items()) if name not in kept},
        "positive_patients": {name: len(who) for name, who in of_label.items()},
        "positive_films": {
            label.name: sum(film.labels[index] for film in films) for index, label in enumerate(LABELS)
        },
        "views": dict(sorted(Counter(film.context.view.upper() for film in films).items())),
    }


def machine() -> str:
    """Processor, cores and versions."""
    cpu = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else platform.machine()
    return (
        f"{os.cpu_count()} cores of {cpu}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}"
    )


def requests(films: list[data.Film], result: train.Result, count: int) -> list[parity.Request]:
    """Requests on films for the comparison of graphs: reports and questions, one to three films."""
    rng = random.Random("parity")
    found = []
    for number in range(min(count, len(films))):
        chosen = rng.sample(films, rng.choice((1, 1, 1, 2, 3)))
        query = grammar.sample_query(rng, report=number % 2 == 0)
        pixels = data.load(chosen, result.config.image).numpy()
        found.append(parity.Request(pixels, text_input(result.tokens, query.text, chosen[0].context)))
    return found


def parity_facts(places: Places, films: list[data.Film], result: train.Result, count: int) -> Facts:
    """Differences between PyTorch, f32 graphs and int8 graphs. They say what the export did and not
    what another run would find, so they are facts and have no intervals."""
    vision, text, tokens = result.vision, result.text, result.tokens
    some = requests(films, result, count)
    small = Graphs(places.bundle, result.config)
    few = some[: min(IDENTICAL, len(some))]
    image, _ = parity.look(small, few)
    table = ngrams.build(tokens)
    return {
        "parity": {
            "f32": parity.check(places.fp32, vision, text, tokens),
            "int8": parity.check(places.bundle, dequantised(vision), dequantised(text), tokens),
            "agreement": parity.agreement(
                places.fp32, places.bundle, result.config, some, torch.get_num_threads()
            ),
            "identical": parity.identical(small, image, [one.text_ids for one in few], table),
        }
    }


class Evaluation:
    """One evaluation; `keep` says whether finished parts are read from and written to runs/parts."""

    def __init__(self, places: Places, log: Log, keep: bool, smoke: bool = False) -> None:
        self.places, self.log, self.keep, self.smoke = places, log, keep, smoke
        self.result = train.load(places.report)
        self.folds = crossfit.load(places.folds)
        self.films = train.films_of(places.data, train.Plan.smoke() if smoke else train.Plan())
        if len(self.films) != len(self.folds.fold):
            raise ValueError(f"{places.folds} is about {len(self.folds.fold)} films, not {len(self.films)}")
        self.seconds: dict[str, int] = {}

    def part(self, name: str, measure: Part, more: Sequence[Path] = ()) -> tuple[Figures, Facts]:
        """A part's figures and facts: measured, or read where a kept file is newer than the models
        and what else it is about (folders stand for their graphs)."""
        file = self.places.parts / f"{name}.json"
        about = [self.places.report, self.places.folds]
        for path in more:
            about += [path / graph for graph in bundle.GRAPHS] if path.is_dir() else [path]
        if self.keep and newer(file, about):
            self.log(f"{name}: using {file}")
            found, facts = figures.read(file)
        else:
            started = time.monotonic()
            found, facts = measure()
            facts[f"seconds_{name}"] = round(time.monotonic() - started)
            # A part that says in a note why it was not measured is asked again next time.
            told = facts.get(name)
            if self.keep and not (isinstance(told, dict) and "note" in told):
                figures.write(file, found, facts)
        self.seconds[f"evaluate {name}"] = facts.pop(f"seconds_{name}")
        self.log(f"{name}: {self.seconds[f'evaluate {name}']} s")
        return found, facts

    def measured(self) -> tuple[Figures, Facts]:
        """Everything but outcomes."""
        places, result, films, folds = self.places, self.result, self.films, self.folds
        sizes = Sizes.smoke() if self.smoke else Sizes()
        count = 8 if self.smoke else PARITY_FILMS
        there = (places.hannover / "data.csv").is_file()
        hannover = data.hannover(places.hannover) if there and not self.smoke else None

        def films_part() -> tuple[Figures, Facts]:
            return film_figures(films, folds, result, hannover, self.log)

        def drafts_part() -> tuple[Figures, Facts]:
            return draft_figures(films, folds, result, places.bundle, self.log, sizes)

        def parity_part() -> tuple[Figures, Facts]:
            return {}, parity_facts(places, films, result, count)

        parts = [
            self.part("films", films_part),
            self.part("drafts", drafts_part, [places.bundle]),
            self.part("parity", parity_part, [places.bundle, places.fp32]),
        ]
        run: Facts = {
            **data_facts(places.data, films),
            "thresholds": result.thresholds,
            "confidence_threshold": result.confidence_threshold,
            "calibration_slope": result.figures["calibration_slope"],
            "calibration_shift": result.figures["calibration_shift"],
            "machine": machine(),
        }
        return figures.merge(*(found for found, _ in parts)), joined(run, *(facts for _, facts in parts))

    def with_outcomes(self, found: Figures, facts: Facts) -> tuple[Figures, Facts]:
        """Outcomes on the sealed bundle put beside the rest."""
        places = self.places

        def outcomes_part() -> tuple[Figures, Facts]:
            return outcomes.outcomes(
                places.cloister, places.bundle, None, places.hannover, places.dicom, self.log
            )

        more, told = self.part("outcomes", outcomes_part, [places.bundle, places.cloister])
        return figures.merge(found, more), joined(facts, told)

    def timed(self, facts: Facts) -> Facts:
        """The facts with the seconds of every stage so far."""
        trained = self.result.figures.get("seconds")
        before = (
            {f"train {name}": value for name, value in trained.items()} if isinstance(trained, dict) else {}
        )
        if self.places.exported.is_file():
            before["export"] = figures.read(self.places.exported)[1]["seconds"]
        return {**facts, "seconds": {**before, **self.seconds}}

    def publish(self, found: Figures, facts: Facts) -> str:
        """Writes figures.json and CARD.md into the bundle and seals it; gives the SHA-256."""
        folder, told = self.places.bundle, self.timed(facts)
        figures.write(folder / bundle.FIGURES, found, told)
        card.write(folder / bundle.CARD, self.result, found, told, bundle.VERSION)
        return bundle.seal(self.result, folder)


def joined(*parts: Facts) -> Facts:
    """All facts in one; two parts that claim a name must agree on it."""
    found: Facts = {}
    for part in parts:
        apart = [name for name in found.keys() & part.keys() if found[name] != part[name]]
        if apart:
            raise ValueError(f"facts told twice: {sorted(apart)}")
        found |= part
    return found


def newer(file: Path, than: list[Path]) -> bool:
    """Whether a file is there and none of the others was written after it."""
    if not file.is_file():
        return False
    made = file.stat().st_mtime_ns
    return all(other.stat().st_mtime_ns <= made for other in than if other.is_file())


def evaluate(places: Places, log: Log, smoke: bool = False) -> str:
    """Measures, writes figures and card, seals. The bundle is sealed once before the outcomes, so
    that the server can be asked, and once after."""
    evaluation = Evaluation(places, log, keep=True, smoke=smoke)
    found, facts = evaluation.measured()
    if not smoke:
        evaluation.publish(found, facts)
        found, facts = evaluation.with_outcomes(found, facts)
    return evaluation.publish(found, facts)


def check(places: Places, log: Log, smoke: bool = False) -> tuple[str, list[figures.Row]]:
    """Measures everything afresh and writes nothing; gives the tables and the comparison."""
    evaluation = Evaluation(places, log, keep=False, smoke=smoke)
    found, facts = evaluation.measured()
    if not smoke:
        found, facts = evaluation.with_outcomes(found, facts)
    committed = places.committed / bundle.FIGURES
    before: Figures = figures.read(committed)[0] if committed.is_file() else {}
    text = f"{card.summary(found, facts)}\n\n{card.tables(found, evaluation.timed(facts))}"
    return text, figures.compare(before, found)
