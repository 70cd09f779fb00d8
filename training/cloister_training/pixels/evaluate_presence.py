"""Films with and without text, in thousands, made from seeds; who finds what on them.

Before it: a detector, which is a Python callable or a command that reads and prints JSON lines (`cloister
detect-text`). After it: a line of findings per film and detector, and the tables. Only evaluation fonts and
evaluation patients. Any part can be done at any time: films that have their line are not made again.

- A word counts with capitals of 8 pixels or more and a contrast of 10 % of the window or more.
- It is found if 99 % of its ink is blanked, and nine tenths of every character.
- A film with a word that counts and is not found is missed.
- A marker is kept if no more than a tenth of its ink is blanked.
"""

from __future__ import annotations

import json
import math
import random
import shlex
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..fitting import Log
from ..statistics import wilson
from . import stored, zones
from .backgrounds import Window
from .filters import Mask, Plane
from .fonts import LATIN, Face
from .presence import (
    COARSE,
    COARSE_FROM,
    LOOKS,
    MULTIPLE,
    STRIDE,
    Box,
    Thresholds,
    blanked,
    boxes,
    components,
    padded,
    smaller,
)
from .synthesis import LARGEST, SMALLEST, Film, Recipe, film

Grey = NDArray[np.uint8]
Group = Literal["text", "markers", "bare"]
SMALL_FILM, LARGE_FILM = 600, 2400
COUNTS_FROM, COUNTS_CONTRAST = 8, 0.10
INK_FOUND, CHARACTER_FOUND, MARKER_TOUCHED = 0.99, 0.9, 0.1
SEVERAL_FRAMES = 0.05  # share of films with text that have it on one frame of several
SEED = 7 << 40
SIZES = ((6, 8), (8, 12), (12, 20), (20, 32), (32, 61))
CONTRASTS = ((0.05, 0.1), (0.1, 0.15), (0.15, 0.3), (0.3, 0.6), (0.6, 1.01))


@dataclass(frozen=True)
class Case:
    """One film of the evaluation."""

    number: int
    group: Group
    frames: list[Grey]
    shown: int  # the frame that has the text
    film: Film


@dataclass(frozen=True)
class Blank:
    """A rectangle to be blanked on a frame."""

    frame: int
    left: int
    top: int
    width: int
    height: int


# What a detector gives per film; none is a film that it could not judge (quarantine).
Found = list[Blank] | None
Detector = Callable[[Sequence[Case]], list[Found]]


def group_of(number: int) -> Group:
    """Half of the films have text; of the others a third has markers only."""
    return "text" if number % 2 == 0 else "markers" if number % 6 == 1 else "bare"


def case(number: int, films: list[Plane], faces: list[Face], seed: int = SEED) -> Case:
    """The film of a number."""
    rng = random.Random(seed + number)
    group = group_of(number)
    height = round(math.exp(rng.uniform(math.log(SMALL_FILM), math.log(LARGE_FILM))))
    several = group == "text" and rng.random() < SEVERAL_FRAMES
    height = min(height, 900) if several else height
    width = round(height * rng.uniform(0.75, 1.25))
    window = Window.whole(height, width)
    latin = [face for face in faces if LATIN in face.scripts] or faces
    recipe = {
        "text": Recipe(rng.uniform(1.5, 7), rng.choice((0.0, 0.3)), SMALLEST, LARGEST),
        "markers": Recipe(2.5, 1.0, COUNTS_FROM, LARGEST),
        "bare": Recipe(0.0, 0.0),
    }[group]
    made = film(seed + number, films, faces if group == "text" else latin, window, recipe)
    frames, shown = [made.pixels], 0
    if several:
        for extra in range(rng.randint(1, 3)):
            frames.append(
                film(seed + number + ((extra + 1) << 32), films, faces, window, Recipe(0.0, 0.0)).pixels
            )
        shown = rng.randrange(len(frames))
        frames[0], frames[shown] = frames[shown], frames[0]
    return Case(number, group, frames, shown, made)


def counts(word: dict[str, Any]) -> bool:
    """Whether a word is one that has to be found."""
    return word["capital"] >= COUNTS_FROM and word["contrast"] >= COUNTS_CONTRAST


def score(one: Case, found: Found) -> dict[str, Any]:
    """A film's line: every word, how much of it is blanked, and what else is blanked."""
    height, width = one.film.pixels.shape
    masks = [np.zeros((height, width), dtype=np.bool_) for _ in one.frames]
    if found is None:
        for mask in masks:
            mask[...] = True
    else:
        for box in found:
            part = (
                slice(max(0, box.top), max(0, box.top + box.height)),
                slice(max(0, box.left), max(0, box.left + box.width)),
            )
            masks[box.frame][part] = True
    here = masks[one.shown]
    owner = one.film.owner
    inked = owner > 0
    codes, under = owner[inked], here[inked]
    totals: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    names, inverse = np.unique(codes, return_inverse=True)
    pixels = np.bincount(inverse, minlength=len(names))
    hits = np.bincount(inverse, weights=under, minlength=len(names))
    worst: dict[int, float] = {}
    for name, count, hit in zip(names.tolist(), pixels.tolist(), hits.tolist(), strict=True):
        number = name // 256
        totals[number][0] += count
        totals[number][1] += int(hit)
        worst[number] = min(worst.get(number, 1.0), hit / count)
    words = []
    for word in one.film.words:
        count, hit = totals.get(word.number, [0, 0])
        if not count:
            continue
        share = hit / count
        words.append(
            {
                "kind": word.kind,
                "capital": word.capital,
                "contrast": round(word.contrast, 4),
                "place": word.place,
                "face": word.face,
                "turned": word.angle != 0,
                "ink": round(share, 4),
                "found": bool(
                    found is not None and share >= INK_FOUND and worst[word.number] >= CHARACTER_FOUND
                ),
            }
        )
    return {
        "number": one.number,
        "group": one.group,
        "pixels": height * width * len(masks),
        "blanked": int(sum(int(mask.sum()) for mask in masks)),
        "quarantined": found is None,
        "words": words,
    }


def net(file: Path, limits: Thresholds, markers: bool, threads: int = 1) -> Detector:
    """The net's graph alone. With `markers`, boxes that look like a marker are kept."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def look(cases: Sequence[Case]) -> list[Found]:
        answers: list[Found] = []
        for one in cases:
            found: list[Blank] = []
            for frame, grey in enumerate(one.frames):
                for box in looked(session, grey, limits):
                    if not (markers and box.marker >= limits.marker):
                        found.append(
                            Blank(frame, box.left, box.top, box.right - box.left, box.bottom - box.top)
                        )
            answers.append(found)
        return answers

    return look


# The map of a look, its marker map, how much smaller the film was, and how large boxes of it are at least.
Maps = list[tuple[Plane, Plane, int, int]]


def maps(session: onnxruntime.InferenceSession, grey: Grey) -> Maps:
    """A look at native scale, and those from afar."""
    found: Maps = []
    for look in range(LOOKS):
        factor = COARSE**look
        if look and min(grey.shape) < MULTIPLE * factor:
            break
        picture = smaller(grey, factor)
        (said,) = session.run(None, {"film": padded(picture)})
        height, width = (-(-side // STRIDE) for side in picture.shape)
        least = COARSE_FROM * COARSE ** (look - 1) if look else 0
        found.append((said[0, 0, :height, :width], said[0, 1, :height, :width], factor, least))
    return found


def boxes_of(seen: Maps, limits: Thresholds) -> list[Box]:
    """What would be blanked on a frame."""
    return [
        box
        for near, marker, factor, least in seen
        for box in boxes(near, marker, limits, factor)
        if min(box.right - box.left, box.bottom - box.top) >= least
    ]


def looked(session: onnxruntime.InferenceSession, grey: Grey, limits: Thresholds) -> list[Box]:
    """Boxes on one frame."""
    return boxes_of(maps(session, grey), limits)


def ppocr(file: Path, pixel: float = 0.3, mean: float = 0.6, unclip: float = 1.5) -> Detector:
    """PP-OCRv4's detector with its authors' thresholds, at native scale."""
    finder = zones.Finder.load(file)

    def look(cases: Sequence[Case]) -> list[Found]:
        answers: list[Found] = []
        for one in cases:
            found: list[Blank] = []
            for frame, grey in enumerate(one.frames):
                probability = finder.probability(grey)
                labels = components(probability > pixel)
                for label in range(1, int(labels.max()) + 1):
                    ys, xs = np.nonzero(labels == label)
                    if probability[ys, xs].mean() < mean:
                        continue
                    tall, wide = int(ys.max() - ys.min()) + 1, int(xs.max() - xs.min()) + 1
                    grow = math.ceil(tall * wide * unclip / (2 * (tall + wide)))
                    found.append(
                        Blank(
                            frame,
                            int(xs.min()) - grow,
                            int(ys.min()) - grow,
                            wide + 2 * grow,
                            tall + 2 * grow,
                        )
                    )
            answers.append(found)
        return answers

    return look


def tesseract(program: str = "tesseract") -> Detector:
    """Tesseract's words (`--psm 11`), as far as it gives them any text."""

    def look(cases: Sequence[Case]) -> list[Found]:
        answers: list[Found] = []
        with tempfile.TemporaryDirectory() as folder:
            for one in cases:
                found: list[Blank] = []
                for frame, grey in enumerate(one.frames):
                    file = stored.write(
                        [grey], stored.Storage(8, False, 0, 255, False), one.number, Path(folder)
                    )
                    said = subprocess.run(
                        [program, str(file), "stdout", "--psm", "11", "tsv"], capture_output=True, check=True
                    ).stdout.decode("utf-8", "replace")
                    for row in (line.split("\t") for line in said.splitlines()[1:]):
                        if len(row) == 12 and row[0] == "5" and row[11].strip():
                            found.append(Blank(frame, *(int(value) for value in row[6:10])))
                answers.append(found)
        return answers

    return look


def command(line: str) -> Detector:
    """A command that reads `{id,image}` lines and prints `{id,boxes:[{frame,x,y,w,h,action}]}` lines.
    A line with `error`, or none, is a film that it could not judge."""

    def look(cases: Sequence[Case]) -> list[Found]:
        with tempfile.TemporaryDirectory() as folder:
            asked = [
                json.dumps(
                    {
                        "id": str(one.number),
                        "image": str(
                            stored.write(one.frames, stored.storage(one.number), one.number, Path(folder))
                        ),
                    }
                )
                for one in cases
            ]
            done = subprocess.run(
                shlex.split(line), input="\n".join(asked) + "\n", capture_output=True, text=True, check=False
            )
        said: dict[str, Found] = {}
        for text in done.stdout.splitlines():
            answer = json.loads(text)
            if "boxes" in answer:
                said[str(answer["id"])] = [
                    Blank(box["frame"], box["x"], box["y"], box["w"], box["h"])
                    for box in answer["boxes"]
                    if box.get("action", "redact") == "redact"
                ]
        if not done.stdout.strip() and cases:
            raise RuntimeError(f"{line!r} judged no film; exit code {done.returncode}: {done.stderr[-500:]}")
        return [said.get(str(one.number)) for one in cases]

    return look


def numbers_done(file: Path) -> set[int]:
    """Films that have their line."""
    if not file.is_file():
        return set()
    return {json.loads(line)["number"] for line in file.read_text(encoding="utf-8").splitlines()}


def evaluate(
    numbers: Iterable[int],
    detectors: dict[str, Detector],
    films: list[Plane],
    faces: list[Face],
    folder: Path,
    log: Log,
    batch: int = 20,
) -> None:
    """Makes the films that a detector has not seen, asks it and keeps its lines."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.jsonl" for name in detectors}
    done = {name: numbers_done(file) for name, file in files.items()}
    wanted = [number for number in numbers if any(number not in done[name] for name in detectors)]
    for start in range(0, len(wanted), batch):
        cases = [case(number, films, faces) for number in wanted[start : start + batch]]
        for name, detector in detectors.items():
            mine = [one for one in cases if one.number not in done[name]]
            answers = detector(mine)
            lines = [json.dumps(score(one, found)) for one, found in zip(mine, answers, strict=True)]
            with files[name].open("a", encoding="utf-8") as kept:
                kept.writelines(line + "\n" for line in lines)
        log(f"films {start + len(cases)} of {len(wanted)}")


def read(file: Path, numbers: range | None = None) -> list[dict[str, Any]]:
    """A detector's lines, in the films' order."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if numbers is None or row["number"] in numbers]
    return sorted(chosen, key=lambda row: int(row["number"]))


@dataclass(frozen=True)
class Share:
    """A share of n with Wilson's 95 % interval."""

    hits: int
    n: int

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = wilson(self.hits, self.n)
        return f"{100 * self.hits / self.n:.2f} % ({self.hits}/{self.n}) [{100 * low:.2f}, {100 * high:.2f}]"


def _found(words: list[dict[str, Any]]) -> Share:
    return Share(sum(word["found"] for word in words), len(words))


@dataclass(frozen=True)
class Summary:
    """A detector's figures."""

    films_missed: Share
    words_found: Share
    blanked: float  # share of the pixels of films without text
    markers_kept: Share
    quarantined: Share


def summary(rows: list[dict[str, Any]]) -> Summary:
    """The figures of the issue's first line."""
    with_text = [row for row in rows if row["group"] == "text"]
    without = [row for row in rows if row["group"] != "text"]
    due = [[word for word in row["words"] if word["kind"] == "text" and counts(word)] for row in with_text]
    holding = [words for words in due if words]
    missed = sum(not all(word["found"] for word in words) for words in holding)
    marks = [word for row in rows for word in row["words"] if word["kind"] == "marker" and counts(word)]
    pixels = sum(row["pixels"] for row in without)
    return Summary(
        Share(missed, len(holding)),
        _found([word for words in due for word in words]),
        sum(row["blanked"] for row in without) / pixels if pixels else 0.0,
        Share(sum(word["ink"] <= MARKER_TOUCHED for word in marks), len(marks)),
        Share(sum(row["quarantined"] for row in rows), len(rows)),
    )


def tables(by_detector: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: the summary, then words found by size, contrast, place and kind of face."""
    names = list(by_detector)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    said = {name: summary(rows) for name, rows in by_detector.items()}
    for label, key in (
        ("films with text missed", "films_missed"),
        ("words found", "words_found"),
        ("pixels of text-free films blanked", "blanked"),
        ("markers kept", "markers_kept"),
        ("quarantined", "quarantined"),
    ):
        cells = [getattr(said[name], key) for name in names]
        shown = [f"{100 * cell:.3f} %" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {label} | {' | '.join(shown)} |")
    words = {
        name: [word for row in rows for word in row["words"] if word["kind"] == "text"]
        for name, rows in by_detector.items()
    }

    def row(label: str, chosen: Callable[[dict[str, Any]], bool]) -> None:
        cells = [str(_found([word for word in words[name] if chosen(word)])) for name in names]
        lines.append(f"| {label} | {' | '.join(cells)} |")

    lines += ["", f"| words of text found | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for low, high in SIZES:
        row(
            f"{low} to {high - 1} px, contrast 10 % and more",
            lambda word, low=low, high=high: (
                low <= word["capital"] < high and word["contrast"] >= COUNTS_CONTRAST
            ),  # type: ignore[misc]
        )
    for least, most in CONTRASTS:
        row(
            f"contrast {100 * least:.0f} to {min(100.0, 100 * most):.0f} %, 8 px and more",
            lambda word, least=least, most=most: (
                word["capital"] >= COUNTS_FROM and least <= word["contrast"] < most
            ),  # type: ignore[misc]
        )
    for place in ("corner", "edge", "body"):
        row(f"{place}", lambda word, place=place: word["place"] == place and counts(word))  # type: ignore[misc]
    row("turned", lambda word: word["turned"] and counts(word))
    for face in sorted({word["face"] for name in names for word in words[name]}):
        row(f"{face} face", lambda word, face=face: word["face"] == face and counts(word))  # type: ignore[misc]
    return "\n".join(lines) + "\n"


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary as plain data, for figures.json."""
    said = summary(rows)
    found: dict[str, Any] = {"films": len(rows), "blanked": said.blanked}
    for key in ("films_missed", "words_found", "markers_kept", "quarantined"):
        share: Share = getattr(said, key)
        low, high = wilson(share.hits, share.n) if share.n else (0.0, 1.0)
        found[key] = {**asdict(share), "low": low, "high": high}
    return found


def mask_of(found: list[Box], one: Case) -> Mask:
    """The pixels of the frame with the text that boxes would blank; for looking at pictures."""
    return blanked(found, *one.film.pixels.shape)
