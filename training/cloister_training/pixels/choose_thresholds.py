"""Where does text begin? Thresholds are chosen on films of the training family, never on those that measure.

Before it: `presence_bundle` has written the graph. After it: `export` takes the chosen ones along. Every film
is made and looked at once; each choice is then scored on what was seen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from ..fitting import Log
from .evaluate_presence import Blank, boxes_of, case, counts, maps, score
from .filters import Plane
from .fonts import Face
from .presence import Thresholds

SEED = 9 << 40  # other films than those of the evaluation
CELLS = (0.15, 0.25, 0.35, 0.5)
COMPONENTS = (0.4, 0.55, 0.7, 0.8, 0.9)


@dataclass
class Tally:
    """What a choice would do."""

    words: int = 0
    found: int = 0
    films: int = 0
    missed: int = 0
    pixels: int = 0
    blanked: int = 0

    def line(self, cell: float, component: float) -> str:
        """One row of the table."""
        return (
            f"{cell:.2f} {component:.2f}  words {self.found}/{self.words} = {self.found / max(1, self.words):.4f}  "
            f"films missed {self.missed}/{self.films}  blanked {self.blanked / max(1, self.pixels):.5f}"
        )


def choose(graph: Path, films: list[Plane], faces: list[Face], count: int, grow: int, log: Log) -> list[str]:
    """A row per choice: words of text that count and are found, films missed, text-free pixels blanked."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    tallies = {choice: Tally() for choice in itertools.product(CELLS, COMPONENTS)}
    for number in range(count):
        one = case(number, films, faces, SEED)
        seen = [maps(session, frame) for frame in one.frames]
        for (cell, component), tally in tallies.items():
            limits = Thresholds(cell, component, component, grow=grow)
            found = [
                Blank(frame, box.left, box.top, box.right - box.left, box.bottom - box.top)
                for frame, some in enumerate(seen)
                for box in boxes_of(some, limits)
            ]
            line = score(one, found)
            if one.group == "text":
                words = [word for word in line["words"] if word["kind"] == "text" and counts(word)]
                tally.words += len(words)
                tally.found += sum(word["found"] for word in words)
                tally.films += bool(words)
                tally.missed += any(not word["found"] for word in words)
            elif one.group == "bare":
                tally.pixels += line["pixels"]
                tally.blanked += line["blanked"]
        if (number + 1) % 50 == 0:
            log(f"thresholds: {number + 1} of {count} films")
    return [tally.line(*choice) for choice, tally in tallies.items()]
