"""Where real films already carry text: these places are never called background.

Before it: the films of `../shared/data/cxr`. After it: `backgrounds` fills the places from around them.
Two tools look, neither of which is trusted alone: PP-OCRv4's detector (the published file of the
bundle `text-ppocr`) on the enlarged film, upright and turned, at a threshold far below its authors';
and a plain measure of small things that are brighter or darker than all around them, which markers of lead
are. Electrodes, clips and ports go with them: `devices` draws others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIDE = 384  # the films' long side
# PP-OCR wants letters of about 15 pixels; the films' have five. Factor and quarter turns.
LOOKS = ((3, 0), (2, 1))
LIKELY = 0.12  # of PP-OCR's probability; its authors use 0.3
STANDS_OUT = 30  # grey levels over (or under) everything within reach
REACH = 7  # pixels to either side: wider than a letter of lead, narrower than a rib is long
BRIGHT = 200  # only what is nearly saturated counts as lead away from the film's edge
THICK = 10  # pixels to either side that no line of text on these films fills
OUTER = 0.2  # of a side: here anything that stands out counts


@dataclass(frozen=True)
class Finder:
    """PP-OCRv4's detector as a tool."""

    session: onnxruntime.InferenceSession

    @staticmethod
    def load(file: Path, threads: int = 1) -> Finder:
        """`file` is det.onnx of the bundle `text-ppocr`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return Finder(onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))

    def probability(self, grey: Grey) -> Floats:
        """Per pixel of `grey`, which may have any size."""
        height, width = grey.shape
        padded = np.pad(grey, ((0, -height % 32), (0, -width % 32)), mode="edge").astype(np.float32)
        planes = np.broadcast_to((padded / 255 - 0.5) / 0.5, (1, 3, *padded.shape))
        (found,) = self.session.run(None, {"x": np.ascontiguousarray(planes)})
        return np.asarray(found, dtype=np.float32)[0, 0, :height, :width]


def likely(grey: Grey, finder: Finder) -> Floats:
    """The highest probability of text at every pixel, over enlargements and a quarter turn."""
    height, width = grey.shape
    best = np.zeros(grey.shape, dtype=np.float32)
    for factor, turns in LOOKS:
        size = (width * factor, height * factor)
        large = np.rot90(np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)), turns)
        found = np.rot90(finder.probability(np.ascontiguousarray(large)), -turns)
        best = np.maximum(best, found.reshape(height, factor, width, factor).max(axis=(1, 3)))
    return best


def _highest(grey: Grey, reach: int) -> Grey:
    """The highest value within `reach` in either direction, rows and columns (a square)."""
    for axis in (0, 1):
        widths = [(0, 0), (0, 0)]
        widths[axis] = (reach, reach)
        padded = np.pad(grey, widths, mode="edge")
        side, covered = 2 * reach + 1, 1
        while covered < side:  # maxima over 1, 2, 4, ... neighbours, the last step overlapping
            step = min(covered, side - covered)
            kept = padded.shape[axis] - step
            first, later = np.take(padded, range(kept), axis), np.take(padded, range(step, kept + step), axis)
            padded, covered = np.maximum(first, later), covered + step
        grey = padded
    return grey


def widened(mask: Mask, reach: int) -> Mask:
    """The mask grown by `reach` pixels in every direction (a square)."""
    return _highest(mask.astype(np.uint8), reach) > 0


def standing_out(grey: Grey) -> Mask:
    """Small things that are brighter or darker than everything around them."""
    opened = _highest(255 - _highest(255 - grey, REACH), REACH)
    closed = 255 - _highest(255 - _highest(grey, REACH), REACH)
    values = grey.astype(np.int16)
    over = values - np.asarray(opened, dtype=np.int16)
    under = np.asarray(closed, dtype=np.int16) - values
    height, width = grey.shape
    outer = np.ones(grey.shape, dtype=np.bool_)
    dy, dx = int(height * OUTER), int(width * OUTER)
    outer[dy:-dy, dx:-dx] = False
    lead = (over > STANDS_OUT) & (grey > BRIGHT)
    return lead | ((over > 1.5 * STANDS_OUT) & outer) | ((under > 2 * STANDS_OUT) & outer)


def lines_of(probability: Floats) -> Mask:
    """Where PP-OCR sees text. It takes lungs for letters: what is far thicker than a line is left out."""
    seen = probability > LIKELY
    thick = widened(~widened(~seen, THICK), THICK + 4)
    return seen & ~thick


def zones(grey: Grey, probability: Floats) -> Mask:
    """Everything that may be text, a marker or a device, with a border around it."""
    return widened(lines_of(probability), 3) | widened(standing_out(grey), 3)


def key_of(file: Path) -> str:
    """The name under which a film's map is kept."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def look(files: list[Path], detector: Path, kept: Path, log: Callable[[str], None]) -> None:
    """Keeps PP-OCR's map of every film under `kept`, as a picture; those that are there stay."""
    kept.mkdir(parents=True, exist_ok=True)
    finder = Finder.load(detector)
    for number, file in enumerate(files):
        place = kept / f"{key_of(file)}.png"
        if place.is_file():
            continue
        with Image.open(file) as image:
            grey = np.asarray(image.convert("L"))
        made = Image.fromarray((likely(grey, finder) * 255).round().astype(np.uint8))
        unfinished = place.with_suffix(".part")
        made.save(unfinished, "PNG")
        unfinished.replace(place)
        if number % 50 == 0:
            log(f"text on real films: {number} of {len(files)}")
