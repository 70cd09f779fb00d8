"""Seeded films with text and the truth about them.

Before it: `backgrounds`, `fonts`, `words`. After it: `fit_presence` trains on windows of such films,
`evaluate_presence` measures on whole ones. The same seed gives the same film. The text is drawn upright,
turned, and laid over the film; what happens to the film afterwards (blur, noise, JPEG, few levels)
happens to film and text alike.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from . import words
from .backgrounds import Window, background, grained
from .filters import Mask, Plane, Rng, blur
from .fonts import DIGITS, LATIN, Face

SMALLEST, LARGEST = 6, 60  # pixels of a capital letter
FAINTEST = 0.05  # of the window
GROWN = 0.1  # of a word's height: the target reaches so far beyond its ink
INKED = 0.5  # of full ink: what counts as a pixel of the word

Kind = Literal["text", "marker"]
Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Word:
    """One word as it stands on the film; pixels of the film's window."""

    number: int  # of the film's words, from 1
    kind: Kind
    corners: Corners  # of its ink's box, which may be turned
    capital: int  # pixels of a capital letter
    contrast: float  # median difference to the film without it, over its ink, as a share of the window
    place: str  # corner, edge, body
    angle: float  # degrees
    face: str  # kind of face
    characters: int  # with ink


@dataclass
class Film:
    """A film, or a window of one, with the truth."""

    pixels: NDArray[np.uint8]
    words: list[Word]
    # Per pixel: 0, or word * 256 + character + 1 where there is ink.
    owner: NDArray[np.int32]
    ignored: list[Corners] = field(default_factory=list)  # arrows and rings: neither text nor background

    def ink(self, word: Word) -> Mask:
        """The word's pixels."""
        return self.owner // 256 == word.number


@dataclass(frozen=True)
class Recipe:
    """How a film is written on."""

    blocks: float  # expected number on a window
    markers: float  # share of the blocks that are markers
    smallest: int = SMALLEST
    largest: int = LARGEST
    blanked: float = 0.0  # share of the films on which places are blanked already


@dataclass
class _Layer:
    """A block before it is turned."""

    ink: Plane
    owner: NDArray[np.int32]
    boxes: list[tuple[int, tuple[float, float, float, float], int, int]]  # word, box, capital, characters
    extra: list[tuple[float, float, float, float]]


def _words_of(text: str) -> list[tuple[int, int]]:
    """[start, end) of the words of a line."""
    found, start = [], None
    for place, letter in enumerate(text + " "):
        if letter.isspace():
            if start is not None:
                found.append((start, place))
            start = None
        elif start is None:
            start = place
    return found


def _layer(
    rng: random.Random, face: Face, block: words.Block, capital: int, first: int, smooth: bool
) -> _Layer | None:
    """Draws the lines of a block below each other."""
    weight = rng.uniform(0.06, 0.16)
    drawn = [(text, face.draw(text, capital, smooth, weight)) for text in block.lines]
    lines = [(text, line) for text, line in drawn if line is not None]
    if not lines:
        return None
    gap, pad = max(2, round(capital * rng.uniform(0.25, 0.9))), max(3, round(capital * 0.5))
    width = max(line.ink.shape[1] for _, line in lines) + 2 * pad
    height = sum(line.ink.shape[0] + gap for _, line in lines) + 2 * pad
    ink = np.zeros((height, width), dtype=np.float32)
    owner = np.zeros((height, width), dtype=np.int32)
    boxes: list[tuple[int, tuple[float, float, float, float], int, int]] = []
    top, number = pad, first
    right_aligned = rng.random() < 0.2
    for text, line in lines:
        rows, columns = line.ink.shape
        left = width - pad - columns if right_aligned else pad
        ink[top : top + rows, left : left + columns] = line.ink
        for start, end in _words_of(text):
            mine = [
                (place, span)
                for place, span in zip(line.characters, line.spans, strict=True)
                if start <= place < end
            ]
            if not mine:
                continue
            begin, last = mine[0][1][0], mine[-1][1][1]
            part = line.ink[:, begin:last] > 0.2
            inked = np.flatnonzero(part.any(axis=1))
            if not len(inked):
                continue
            number += 1
            upper, lower = top + int(inked[0]), top + int(inked[-1]) + 1
            for order, (_, (from_, to)) in enumerate(mine):
                area = owner[upper:lower, left + from_ : left + to]
                area[...] = number * 256 + min(order, 254) + 1
            boxes.append((number, (left + begin, upper, left + last, lower), capital, len(mine)))
        top += rows + gap
    layer = _Layer(ink, owner, boxes, [])
    return _ringed(rng, layer, capital) if block.marker else layer


def _ringed(rng: random.Random, layer: _Layer, capital: int) -> _Layer:
    """A marker may stand in a ring, in a box, or on a disc of lead with the letter cut out."""
    if rng.random() > 0.35 or len(layer.boxes) != 1:
        return layer
    margin = round(capital * rng.uniform(0.4, 0.9)) + 2
    ink, owner = np.pad(layer.ink, margin), np.pad(layer.owner, margin)
    number, (left, top, right, bottom), size, count = layer.boxes[0]
    box = (left + margin, top + margin, right + margin, bottom + margin)
    reach = capital * rng.uniform(0.25, 0.5)
    around = (box[0] - reach, box[1] - reach, box[2] + reach, box[3] + reach)
    thick = max(1, round(capital * rng.uniform(0.05, 0.15)))
    page = Image.new("L", (ink.shape[1] * 2, ink.shape[0] * 2))
    pen, doubled = ImageDraw.Draw(page), tuple(2 * edge for edge in around)
    solid = rng.random() < 0.35
    if right - left < 1.4 * (bottom - top) and rng.random() < 0.7:
        pen.ellipse(doubled, fill=255 if solid else None, outline=255, width=2 * thick)
    else:
        pen.rectangle(doubled, fill=255 if solid else None, outline=255, width=2 * thick)
    ring = np.asarray(page.reduce(2), dtype=np.float32) / 255
    ink = np.abs(ring - ink) if solid else np.maximum(ink, ring)
    return _Layer(ink.astype(np.float32), owner, [(number, box, size, count)], [around])


def _turned(layer: _Layer, angle: float) -> tuple[Plane, NDArray[np.int32], list[Corners], list[Corners]]:
    """The layer turned counter-clockwise by `angle` degrees, and the corners of its boxes."""
    height, width = layer.ink.shape
    quarter = angle % 90 == 0
    if quarter:
        turns = round(angle / 90) % 4
        ink, owner = np.rot90(layer.ink, turns), np.rot90(layer.owner, turns)
    else:
        picture = Image.fromarray(layer.ink).rotate(angle, Image.Resampling.BICUBIC, expand=True)
        ink = np.clip(np.asarray(picture, dtype=np.float32), 0, 1)
        marks = Image.fromarray(layer.owner).rotate(angle, Image.Resampling.NEAREST, expand=True)
        owner = np.asarray(marks, dtype=np.int32)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle = (ink.shape[1] / 2, ink.shape[0] / 2)

    def corners(box: tuple[float, float, float, float], grown: float) -> Corners:
        left, top, right, bottom = box[0] - grown, box[1] - grown, box[2] + grown, box[3] + grown
        found = []
        for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
            dx, dy = x - width / 2, y - height / 2
            found.append((middle[0] + dx * cosine + dy * sine, middle[1] - dx * sine + dy * cosine))
        return tuple(found)

    boxes = [corners(box, 0.0) for _, box, _, _ in layer.boxes]
    return (
        np.ascontiguousarray(ink),
        np.ascontiguousarray(owner),
        boxes,
        [corners(box, 1.0) for box in layer.extra],
    )


def _angle(rng: random.Random) -> float:
    kind = rng.random()
    if kind < 0.62:
        return 0.0
    if kind < 0.78:
        return float(rng.choice((90, 180, 270)))
    if kind < 0.92:
        return rng.choice((0, 0, 90, 270)) + rng.uniform(-12, 12)
    return rng.uniform(0, 360)


def _spot(rng: random.Random, window: Window, height: int, width: int) -> tuple[int, int, str]:
    """Where a block goes, in pixels of the window; mostly to corners and edges of what is seen."""
    rows, columns = window.rows, window.columns
    near = rng.random()
    low, high = max(1, rows - height), max(1, columns - width)
    if near < 0.3:
        inset = rng.choice((0, rng.randint(0, 12), rng.randint(0, 60)))
        y = inset if rng.random() < 0.5 else low - inset
        x = inset if rng.random() < 0.5 else high - inset
        place = "corner"
    elif near < 0.5:
        inset = rng.choice((-3, 0, rng.randint(0, 20)))
        y, x = rng.randint(0, low), rng.randint(0, high)
        side = rng.randrange(4)
        y, x = {0: (inset, x), 1: (low - inset, x), 2: (y, inset), 3: (y, high - inset)}[side]
        place = "edge"
    else:
        y, x = rng.randint(0, low), rng.randint(0, high)
        place = "body"
    return y, x, place


def _grey(rng: random.Random, under: float, contrast: float) -> float:
    """A grey that differs from what is under it by the contrast; to the brighter side if there is room."""
    up, down = under + contrast, under - contrast
    if up > 1 and down < 0:
        return 1.0 if under < 0.5 else 0.0
    if up > 1:
        return down
    if down < 0:
        return up
    return up if rng.random() < 0.7 else down


def _contrast(rng: random.Random) -> float:
    kind = rng.random()
    if kind < 0.2:
        return rng.uniform(FAINTEST, 0.12)
    if kind < 0.55:
        return rng.uniform(0.1, 0.35)
    if kind < 0.8:
        return rng.uniform(0.3, 0.8)
    return 1.0


def _arrow(rng: random.Random, plane: Plane, ignored: list[Corners]) -> Plane:
    rows, columns = plane.shape
    size = rng.uniform(8, 50)
    x, y = rng.uniform(size, max(size + 1, columns - size)), rng.uniform(size, max(size + 1, rows - size))
    page = Image.new("L", (columns, rows))
    shape = [(0, -1), (0.6, -0.2), (0.25, -0.2), (0.25, 1), (-0.25, 1), (-0.25, -0.2), (-0.6, -0.2)]
    turn = rng.choice((0.0, 0.0, math.pi, math.pi / 2, rng.uniform(0, 6.3)))
    points = [
        (
            x + size / 2 * (px * math.cos(turn) - py * math.sin(turn)),
            y + size / 2 * (px * math.sin(turn) + py * math.cos(turn)),
        )
        for px, py in shape
    ]
    ImageDraw.Draw(page).polygon(points, fill=255 if rng.random() < 0.7 else None, outline=255)
    mask = np.asarray(page, dtype=np.float32) / 255
    ignored.append(((x - size, y - size), (x + size, y - size), (x + size, y + size), (x - size, y + size)))
    grey = rng.choice((1.0, 0.9, 0.0))
    return (plane * (1 - mask) + grey * mask).astype(np.float32)


def _after(rng: Rng, plane: Plane, delta_blur: float) -> NDArray[np.uint8]:
    """Noise, blur, few levels, JPEG."""
    plane = blur(plane, delta_blur)
    levels = float(rng.choice([255, 255, 255, 1023, 127, 63]))
    stepped = np.round(np.clip(plane, 0, 1) * levels) / levels
    pixels = np.round(stepped * 255).astype(np.uint8)
    if rng.random() < 0.25:
        kept = io.BytesIO()
        Image.fromarray(pixels).save(kept, "JPEG", quality=int(rng.integers(40, 96)))
        with Image.open(kept) as image:
            pixels = np.asarray(image.convert("L"))
    return pixels


def film(seed: int, films: list[Plane], faces: list[Face], window: Window, recipe: Recipe) -> Film:
    """The film of a seed. `faces` and `films` are those of one family."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    plane = background(numbers, films, window)
    owner = np.zeros(plane.shape, dtype=np.int32)
    ignored: list[Corners] = []
    noise_first = rng.random() < 0.75  # an overlay stands on the noise, lead under it
    if noise_first:
        plane = grained(numbers, plane)
    softness = rng.choice((0.0, 0.0, 0.0, rng.uniform(0.3, 0.8), rng.uniform(0.5, 1.4)))
    taken = np.zeros(plane.shape, dtype=np.bool_)
    pending: list[tuple[int, Kind, Corners, int, str, float, str, int]] = []
    before = plane.copy()
    if rng.random() < 0.1 * bool(recipe.blocks):
        plane = _arrow(rng, plane, ignored)
        before = plane.copy()
    wanted = max(1, int(numbers.poisson(recipe.blocks))) if recipe.blocks else 0
    same_face = rng.choice(faces)
    count, laid = 0, 0
    for _ in range(4 * wanted):  # some do not fit
        if laid == wanted:
            break
        face = same_face if rng.random() < 0.3 else rng.choice(faces)
        marker = rng.random() < recipe.markers
        if marker and LATIN not in face.scripts:
            continue
        block = words.block(rng, face.scripts, marker)
        capital = round(math.exp(rng.uniform(math.log(recipe.smallest), math.log(recipe.largest + 0.49))))
        if len(block.lines) > 2:
            capital = min(capital, 28)
        smooth = face.kind != "bitmap" and rng.random() < 0.85
        layer = _layer(rng, face, block, max(recipe.smallest, capital), count, smooth)
        if layer is None or layer.ink.max() < INKED:
            continue
        angle = _angle(rng)
        ink, marks, boxes, around = _turned(layer, angle)
        height, width = ink.shape
        y, x, place = _spot(rng, window, height, width)
        plane, drawn = _laid(rng, plane, before, taken, owner, ink, marks, y, x)
        if not drawn:
            continue
        laid += 1
        kind: Kind = "marker" if block.marker else "text"
        for (number, _, size, characters), corners in zip(layer.boxes, boxes, strict=True):
            moved = tuple((px + x, py + y) for px, py in corners)
            pending.append((number, kind, moved, size, place, angle, face.kind, characters))
        ignored += [tuple((px + x, py + y) for px, py in corners) for corners in around]
        count += len(layer.boxes)
    delta = blur(np.abs(np.clip(plane, 0, 1) - np.clip(before, 0, 1)), softness)
    if not noise_first:
        plane = grained(numbers, plane)
    pixels = _after(numbers, plane, softness)
    found = []
    numbers_of = owner // 256
    for number, kind, corners, size, place, angle, face_kind, characters in pending:
        xs, ys = [px for px, _ in corners], [py for _, py in corners]
        top, left = max(0, int(min(ys)) - 1), max(0, int(min(xs)) - 1)
        part = (slice(top, max(top, int(max(ys)) + 2)), slice(left, max(left, int(max(xs)) + 2)))
        inked = numbers_of[part] == number
        if not inked.any():
            continue
        contrast = float(np.median(delta[part][inked]))
        found.append(Word(number, kind, corners, size, contrast, place, angle, face_kind, characters))
    made = Film(pixels, found, owner, ignored)
    return _blanked(rng, made) if recipe.blanked and rng.random() < recipe.blanked else made


def _blanked(rng: random.Random, made: Film) -> Film:
    """The film after a look: words and other places filled with one grey of what is around them. Nothing is
    written there any more, and the net is to say so when it looks again."""
    pixels, owner = made.pixels.copy(), made.owner.copy()
    rows, columns = pixels.shape
    places = []
    for word in made.words:
        if rng.random() < 0.5:
            xs, ys = [x for x, _ in word.corners], [y for _, y in word.corners]
            grown = rng.uniform(1, 10)
            places.append((min(xs) - grown, min(ys) - grown, max(xs) + grown, max(ys) + grown))
    for _ in range(rng.randint(0, 3)):
        tall, wide = math.exp(rng.uniform(2.2, 4.5)), math.exp(rng.uniform(2.5, 5.5))
        tall, wide = (wide, tall) if rng.random() < 0.2 else (tall, wide)
        y, x = rng.uniform(-tall / 2, rows), rng.uniform(-wide / 2, columns)
        places.append((x, y, x + wide, y + tall))
    before = {word.number: int(np.count_nonzero(owner // 256 == word.number)) for word in made.words}
    for left, top, right, bottom in places:
        box = tuple(max(0, round(edge)) for edge in (left, top, right, bottom))
        around = pixels[max(0, box[1] - 3) : box[3] + 3, max(0, box[0] - 3) : box[2] + 3]
        if not around.size:
            continue
        pixels[box[1] : box[3], box[0] : box[2]] = round(float(np.median(around)))
        owner[box[1] : box[3], box[0] : box[2]] = 0
    words_, ignored = [], list(made.ignored)
    for word in made.words:
        left_ = int(np.count_nonzero(owner // 256 == word.number))
        if left_ == before[word.number]:
            words_.append(word)
        elif left_ > 0.02 * before[word.number]:  # the rest of a word is neither
            ignored.append(word.corners)
    return Film(pixels, words_, owner, ignored)


def _laid(
    rng: random.Random,
    plane: Plane,
    before: Plane,
    taken: Mask,
    owner: NDArray[np.int32],
    ink: Plane,
    marks: NDArray[np.int32],
    y: int,
    x: int,
) -> tuple[Plane, bool]:
    """Lays a block's ink over the film at (y, x); false if it would touch another block. `before` gets what
    the ink is to be compared with: the film with the block's plate or shadow."""
    rows, columns = plane.shape
    top, left, bottom, right = (
        max(0, y),
        max(0, x),
        min(rows, y + ink.shape[0]),
        min(columns, x + ink.shape[1]),
    )
    if bottom - top < 3 or right - left < 3:
        return plane, False
    area = (slice(top, bottom), slice(left, right))
    part = (slice(top - y, bottom - y), slice(left - x, right - x))
    if taken[area].any():
        return plane, False
    own, mine = ink[part], marks[part]
    solid = own > INKED
    if not solid.any():
        return plane, False
    under = plane[area].copy()
    below = float(under[solid].mean())
    grey = _grey(rng, below, _contrast(rng))
    style = rng.random()
    strength = 1.0 if rng.random() < 0.75 else rng.uniform(0.4, 0.95)
    if style < 0.1:  # on a plate of its own
        plate = rng.choice((0.0, 1.0, 1 - round(grey), rng.random()))
        grey = _grey(rng, plate, max(0.15, _contrast(rng)))
        alpha = rng.choice((1.0, rng.uniform(0.4, 0.9)))
        under = under * (1 - alpha) + plate * alpha
    elif style < 0.25:  # a shadow or an outline of the other grey
        other = 0.0 if grey > 0.5 else 1.0
        if rng.random() < 0.5:
            shift = max(1, round(own.shape[0] * 0.02))
            shadow = np.roll(own, (shift, shift), (0, 1))
        else:
            shadow = np.clip(blur(own, rng.uniform(0.6, 1.5)) * 2.5, 0, 1)
        under = under * (1 - shadow * 0.8) + other * shadow * 0.8
    elif style < 0.33:  # drawn by exclusive or: inverse of what is under it
        grey, strength = float(1 - below), max(strength, 0.8)
        if abs(grey - below) < 0.2:
            grey = _grey(rng, below, 0.4)
    before[area] = under
    plane[area] = under * (1 - own * strength) + grey * own * strength
    owner[area] = np.where(solid, mine, owner[area])
    taken[area] = True
    return plane, True


def digits_only(face: Face) -> bool:
    """Whether the face has numbers alone."""
    return face.scripts == (DIGITS,)
