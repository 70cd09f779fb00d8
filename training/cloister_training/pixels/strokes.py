"""Letters made of strokes, as X-ray consoles draw them: Hershey's alphabets and seven segments.

Before it: `fonts` names the alphabet. After it: ink and the columns at which characters begin. A
Hershey file has a line per character from the space on: number, count of points, left and right edge, then
pairs of letters whose distance from R is the coordinate; ` R` lifts the pen.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SEVEN_SEGMENTS = "seven-segments"
CAPITAL = 21.0  # Hershey units of a capital letter
BASE = 9.0  # Hershey units from the middle to the base line
OVER = 2  # ink is drawn so many times larger and averaged

Point = tuple[float, float]
Path_ = tuple[Point, ...]

# Which of the segments a (top), b, c, d (bottom), e, f, g (middle) a character lights.
LIT = {
    "0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd", "6": "afgedc",
    "7": "abc", "8": "abcdefg", "9": "abcdfg", "-": "g", "A": "abcefg", "E": "adefg", "H": "bcefg",
    "L": "def", "P": "abefg", "U": "bcdef", "C": "adef", "F": "aefg", "b": "cdefg", "d": "bcdeg",
}  # fmt: skip
ENDS: dict[str, tuple[Point, Point]] = {
    "a": ((0, 0), (1, 0)), "b": ((1, 0), (1, 1)), "c": ((1, 1), (1, 2)), "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)), "f": ((0, 0), (0, 1)), "g": ((0, 1), (1, 1)),
}  # fmt: skip


@lru_cache(maxsize=64)
def alphabet(file: str) -> dict[str, tuple[float, float, tuple[Path_, ...]]]:
    """Left edge, right edge and pen paths per character of a Hershey file."""
    text = Path(file).read_text(encoding="ascii", errors="replace").replace("\r", "")
    found: dict[str, tuple[float, float, tuple[Path_, ...]]] = {}
    records: list[str] = []
    for line in text.split("\n"):
        # A long character goes on in the next line, which does not begin with a number.
        if len(line) >= 8 and line[:5].strip().isdigit() and line[5:8].strip().isdigit():
            records.append(line)
        elif records:
            records[-1] += line
    for place, record in enumerate(records):
        left, right = (float(ord(letter) - ord("R")) for letter in record[8:10])
        paths: list[Path_] = []
        pen: list[Point] = []
        for at in range(10, len(record) - 1, 2):
            pair = record[at : at + 2]
            if pair == " R":
                paths.append(tuple(pen))
                pen = []
            else:
                pen.append((float(ord(pair[0]) - ord("R")), float(ord(pair[1]) - ord("R"))))
        paths.append(tuple(pen))
        found[chr(32 + place)] = (left, right, tuple(path for path in paths if path))
    return found


def _segments(letter: str) -> tuple[float, float, tuple[Path_, ...]]:
    gap = 0.08
    paths = []
    for name in LIT.get(letter, ""):
        (x0, y0), (x1, y1) = ENDS[name]
        dx, dy = (x1 - x0) * gap, (y1 - y0) * gap
        paths.append(((x0 * 11 + dx * 11, (y0 + dy) * 10.5 - 12), (x1 * 11 - dx * 11, (y1 - dy) * 10.5 - 12)))
    if letter in ".:":
        paths += [((0.0, y), (0.5, y)) for y in ((8.0,) if letter == "." else (-4.0, 4.0))]
        return -3.0, 4.0, tuple(paths)
    return -4.0, 15.0, tuple(paths)


def draw(
    file: str, text: str, capital: int, smooth: bool, weight: float
) -> tuple[NDArray[np.float32], list[float]]:
    """Ink of a text, and the column at which every character begins (one more at the end)."""
    scale = capital / CAPITAL
    thick = max(1.0, (weight or 0.1) * capital)
    letters = [
        _segments(letter) if file.endswith(SEVEN_SEGMENTS) else alphabet(file).get(letter, (-8, 8, ()))
        for letter in text
    ]
    margin = thick + capital * 0.6
    starts, at = [], margin
    for left, right, _ in letters:
        starts.append(at)
        at += (right - left) * scale
    starts.append(at)
    over = OVER if smooth else 1
    size = (int((at + margin) * over) + 1, int((capital * 2 + 2 * margin) * over) + 1)
    page = Image.new("L", size)
    pen = ImageDraw.Draw(page)
    base = margin + capital * 1.4
    for start, (left, _, paths) in zip(starts, letters, strict=False):
        for path in paths:
            points = [
                ((start + (x - left) * scale) * over, (base + (y - BASE) * scale) * over) for x, y in path
            ]
            pen.line(
                points if len(points) > 1 else points * 2,
                fill=255,
                width=max(1, round(thick * over)),
                joint="curve",
            )
    if over > 1:
        page = page.reduce(over)
    return np.asarray(page, dtype=np.float32) / np.float32(255), starts
