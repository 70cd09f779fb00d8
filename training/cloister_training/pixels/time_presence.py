"""How long a look at a chest film of 2,000 by 2,000 pixels takes, ours beside others in one run.

Before it: detectors, as in `evaluate_presence`. After it: a line per detector. The films are the common case: no
text, or lines in a corner. A detector is asked for one film and for all; the difference is what the others
took, without its start. Where a command says itself how long looking took (`look_ms`), that is shown too,
with the 99th percentile.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from . import stored
from .backgrounds import Window
from .evaluate_presence import Case, Detector
from .filters import Plane
from .fonts import Face
from .synthesis import Film, Recipe, film

SIDE = 2000
SEED = 11 << 40
HOW = stored.Storage(12, False, 0, 4095, True)


def common(count: int, films: list[Plane], faces: list[Face]) -> list[Case]:
    """Films without text, and every second one with text of usual size in corners."""
    made = []
    for number in range(count):
        window = Window.whole(SIDE, SIDE)
        one = film(SEED + number, films, faces, window, Recipe(0.0, 0.0))
        if number % 2:
            one = _with_corner(number, one, films, faces)
        made.append(Case(number, "text" if number % 2 else "bare", [one.pixels], 0, one))
    return made


def _with_corner(number: int, one: Film, films: list[Plane], faces: list[Face]) -> Film:
    """A corner of another film, with text, in the place of this one's."""
    side = 400
    window = Window(SIDE, SIDE, 0, 0, side, side)
    corner = film(SEED + number, films, faces, window, Recipe(2.0, 0.2, 16, 30))
    pixels = one.pixels.copy()
    pixels[:side, :side] = corner.pixels
    return Film(pixels, corner.words, one.owner)


def in_process(detector: Detector, cases: list[Case]) -> float:
    """Milliseconds a film."""
    detector(cases[:1])
    started = time.perf_counter()
    detector(cases)
    return (time.perf_counter() - started) * 1000 / len(cases)


def by_command(line: str, cases: list[Case]) -> tuple[float, list[float]]:
    """Milliseconds a film, and what the command itself says."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            json.dumps(
                {"id": one.number, "image": str(stored.write(one.frames, HOW, one.number, Path(folder)))}
            )
            for one in cases
        ]

        def run(lines: list[str]) -> tuple[float, str]:
            started = time.perf_counter()
            done = subprocess.run(
                shlex.split(line), input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
            )
            return time.perf_counter() - started, done.stdout

        one, _ = run(asked[:1])
        all_, said = run(asked)
    looks = [answer["look_ms"] for answer in map(json.loads, said.splitlines()) if "look_ms" in answer]
    return (all_ - one) * 1000 / (len(cases) - 1), looks


def table(cases: list[Case], detectors: dict[str, Detector], commands: dict[str, str]) -> list[str]:
    """A line per detector; ratios to the first command."""
    rows: list[tuple[str, float, str]] = []
    for name, line in commands.items():
        took, looks = by_command(line, cases)
        said = f", looking alone {np.median(looks):.0f}, p99 {np.percentile(looks, 99):.0f}" if looks else ""
        rows.append((name, took, said))
    rows += [(name, in_process(detector, cases), "") for name, detector in detectors.items()]
    first = rows[0][1]
    return [f"{name}: {took:.0f} ms a film ({took / first:.1f} x){said}" for name, took, said in rows]
