"""The text-presence net: where on a film is something written?

Before it: `synthesis`. After it: `fit_presence` trains it, `presence_bundle` writes its graph. Fully
convolutional: a grey picture of any size whose sides are multiples of 32, a probability per four by four
pixels. Positive is the whole box of a word, the gaps between its letters too and a tenth of its
height around it, so that a component of the map is a box that can be blanked as it is.

A second map says whether what is written looks like a known marker (L, PA, ERECT...). It is a hint: what
may stay is decided by recognition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from .filters import Mask, Plane
from .synthesis import GROWN, Corners, Film, Word

STRIDE = 4  # pixels of the film per cell of the map
MULTIPLE = 32  # of which the picture's sides are multiples
LOOKS = 2
COARSE = 3  # every further look is at a film so many times smaller, for letters that fill the one before
COARSE_FROM = 60  # pixels: boxes of the second look that are lower and narrower are not taken
FAINT = 0.15  # words of less contrast weigh more
UNSEEN = 0.03  # words of less contrast are neither text nor background
CELLS = 64.0  # of a word of usual size


@dataclass(frozen=True)
class Shape:
    """Channels per scale and blocks per scale."""

    first: int = 8
    quarter: int = 16
    eighth: int = 48
    sixteenth: int = 96
    thirtieth: int = 128  # at a thirty-second
    blocks: tuple[int, int, int] = (2, 3, 2)


def _unit(inside: int, outside: int, side: int, stride: int) -> nn.Sequential:
    padding = (side - stride + 1) // 2 if stride > 1 else side // 2
    return nn.Sequential(
        nn.Conv2d(inside, outside, side, stride, padding, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


class Halved(nn.Module):
    """Half the size: 3 x 3 per channel in steps of two, then 1 x 1 across channels."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            nn.Conv2d(inside, inside, 3, 2, 1, groups=inside, bias=False), nn.BatchNorm2d(inside)
        )
        self.flat = nn.Sequential(
            nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[n,outside,H/2,W/2]`."""
        return self.flat(self.deep(x))


class Separable(nn.Module):
    """A residual block: 3 x 3 per channel, then 1 x 1 across channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)
        )
        self.flat = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output has the input's shape."""
        return x + torch.relu(self.flat(self.deep(x)))


class Presence(nn.Module):
    """Grey `[n,1,H,W]`, 0 to 255, to logits `[n,2,H/4,W/4]`: written, and written as a marker."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        shape = shape or Shape()
        self.shape = shape
        self.stem = _unit(1, shape.first, 4, 2)
        self.to4 = _unit(shape.first, shape.quarter, 3, 2)
        self.to8 = _unit(shape.quarter, shape.eighth, 3, 2)
        self.to16 = Halved(shape.eighth, shape.sixteenth)
        self.to32 = Halved(shape.sixteenth, shape.thirtieth)
        at8, at16, at32 = shape.blocks
        self.at8 = nn.Sequential(*(Separable(shape.eighth) for _ in range(at8)))
        self.at16 = nn.Sequential(*(Separable(shape.sixteenth) for _ in range(at16)))
        self.at32 = nn.Sequential(*(Separable(shape.thirtieth) for _ in range(at32)))
        self.from32 = nn.Conv2d(shape.thirtieth, shape.sixteenth, 1)
        self.from16 = nn.Conv2d(shape.sixteenth, shape.eighth, 1)
        self.from8 = nn.Conv2d(shape.eighth, shape.quarter, 1)
        self.join16, self.join8, self.join4 = (
            Separable(shape.sixteenth),
            Separable(shape.eighth),
            Separable(shape.quarter),
        )
        self.head = nn.Conv2d(shape.quarter, 2, 1)
        nn.init.constant_(self.head.bias, -3.0)  # type: ignore[arg-type]  # most of a film is not written on
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, grey: Tensor) -> Tensor:
        """Logits."""
        x4 = self.to4(self.stem(grey * (1 / 127.5) - 1.0))
        x8 = self.at8(self.to8(x4))
        x16 = self.at16(self.to16(x8))
        x32 = self.at32(self.to32(x16))
        y = self.join16(x16 + self.up(self.from32(x32)))
        y = self.join8(x8 + self.up(self.from16(y)))
        y = self.join4(x4 + self.up(self.from8(y)))
        return self.head(y)


@dataclass(frozen=True)
class Target:
    """What the net should say of a film, per cell of the map."""

    written: Plane  # 0 or 1
    marker: Plane  # 0 or 1
    weight: Plane  # 0 where nobody can say


def _polygon(pen: ImageDraw.ImageDraw, corners: Corners, grown: float, value: float) -> None:
    """Draws a turned box, grown outwards on every side."""
    points = np.asarray(corners)
    middle = points.mean(axis=0)
    right, down = points[1] - points[0], points[3] - points[0]
    right = right / max(float(np.hypot(*right)), 1e-6)
    down = down / max(float(np.hypot(*down)), 1e-6)
    moved = [
        tuple(
            point
            + grown * (np.sign((point - middle) @ right) * right + np.sign((point - middle) @ down) * down)
        )
        for point in points
    ]
    pen.polygon([(float(x), float(y)) for x, y in moved], fill=value)


def height_of(word: Word) -> float:
    """Pixels from the top to the bottom of a word's ink, however it is turned."""
    (x0, y0), _, _, (x1, y1) = word.corners
    return float(np.hypot(x1 - x0, y1 - y0))


def _area(word: Word) -> float:
    (x0, y0), (x1, y1), _, _ = word.corners
    return float(np.hypot(x1 - x0, y1 - y0)) * height_of(word)


def target(film: Film) -> Target:
    """The maps of a film."""
    height, width = film.pixels.shape
    pages = [Image.new("F", (width, height)) for _ in range(3)]
    written, marker, weight = (ImageDraw.Draw(page) for page in pages)
    weight.rectangle((0, 0, width, height), fill=1.0)
    for corners in film.ignored:
        _polygon(weight, corners, 2.0, 0.0)
    for word in film.words:
        grown = max(1.0, GROWN * height_of(word))
        if word.contrast < UNSEEN:
            _polygon(weight, word.corners, grown + 2, 0.0)
            continue
        _polygon(written, word.corners, grown, 1.0)
        if word.kind == "marker":
            _polygon(marker, word.corners, grown, 1.0)
        cells = max(4.0, _area(word) / STRIDE**2)
        share = float(np.clip(np.sqrt(CELLS / cells), 0.3, 3.0))
        _polygon(weight, word.corners, grown, share * (1.6 if word.contrast < FAINT else 1.0))
    covered, marked, weighed = (np.asarray(page.reduce(STRIDE), dtype=np.float32) for page in pages)
    between = (covered > 0.1) & (covered < 0.6)
    return Target(
        (covered >= 0.6).astype(np.float32),
        (marked >= 0.6).astype(np.float32),
        np.where(between, 0.0, weighed).astype(np.float32),
    )


@dataclass(frozen=True)
class Box:
    """What would be blanked: pixels [left, right) x [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int
    score: float  # highest probability inside
    marker: float  # mean probability of being a marker


@dataclass(frozen=True)
class Thresholds:
    """Of the map: a cell counts, a component is asked about, a component counts, a box is kept as a marker;
    and how boxes grow."""

    cell: float = 0.3
    doubtful: float = 0.3
    component: float = 0.5
    marker: float = 0.9
    grow: int = 2  # pixels


def components(mask: Mask) -> NDArray[np.int32]:
    """Numbers of the connected parts (eight neighbours), 0 outside; by runs along rows."""
    columns = mask.shape[1]
    labels = np.zeros(mask.shape, dtype=np.int32)
    parent = [0]

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    before: list[tuple[int, int, int]] = []
    padded = np.zeros(columns + 2, dtype=np.int8)
    for row in np.flatnonzero(mask.any(axis=1)):
        padded[1:-1] = mask[row]
        edges = np.flatnonzero(np.diff(padded))
        if row and not mask[row - 1].any():
            before = []
        now: list[tuple[int, int, int]] = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            label = 0
            for first, last, other in before:
                if first <= end and last >= start:
                    other = root(other)
                    if label and label != other:
                        parent[max(label, other)] = min(label, other)
                        label = min(label, other)
                    else:
                        label = other
            if not label:
                label = len(parent)
                parent.append(label)
            labels[row, start:end] = label
            now.append((start, end, label))
        before = now
    roots = np.array([root(label) for label in range(len(parent))], dtype=np.int32)
    return np.asarray(np.unique(roots, return_inverse=True)[1].astype(np.int32)[labels])


def boxes(probability: Plane, marker: Plane, limits: Thresholds, scale: int = 1) -> list[Box]:
    """Boxes of a map, in pixels of the film, which is `scale` times larger than what was looked at."""
    labels = components(probability >= limits.cell)
    count = int(labels.max())
    if not count:
        return []
    places = np.argwhere(labels)
    owners = labels[labels > 0]
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(1, count + 1))
    places, likely, marked = places[order], probability[labels > 0][order], marker[labels > 0][order]
    lowest, highest = np.minimum.reduceat(places, starts), np.maximum.reduceat(places, starts)
    best = np.maximum.reduceat(likely, starts)
    means = np.add.reduceat(marked, starts) / np.diff(np.append(starts, len(places)))
    size, found = STRIDE * scale, []
    for place in np.flatnonzero(best >= limits.component):
        (top, left), (bottom, right) = lowest[place], highest[place] + 1
        grow = limits.grow * scale
        found.append(
            Box(
                int(left * size - grow), int(top * size - grow), int(right * size + grow), int(bottom * size + grow),
                float(best[place]), float(means[place]),
            )
        )  # fmt: skip
    return found


def padded(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`[1,1,H,W]`, sides filled up to multiples of 32 by repeating the last row and column."""
    height, width = grey.shape
    full = np.pad(grey, ((0, -height % MULTIPLE), (0, -width % MULTIPLE)), mode="edge")
    return full[None, None].astype(np.float32)


def smaller(grey: NDArray[np.uint8], factor: int = COARSE) -> NDArray[np.uint8]:
    """The film for a further look: means over blocks, what is left over at the ends dropped."""
    if factor == 1:
        return grey
    height, width = (side // factor * factor for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return (blocks.astype(np.float32).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def blanked(found: list[Box], height: int, width: int) -> Mask:
    """The pixels under the boxes."""
    mask = np.zeros((height, width), dtype=np.bool_)
    for box in found:
        mask[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)] = True
    return mask
