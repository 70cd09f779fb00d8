"""What lies on films and is no text: wires, electrodes, clips, plates, rulers, scratches, margins.

Before it: the bare film of `backgrounds`. They are drawn because they look like letters: a staple is an
I, a ring is an O, a screw is a row of Vs, a ruler is a line of ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .filters import Plane, Rng, blur

OVER = 2  # drawn so many times larger and averaged
PER_MEGAPIXEL = 5.0  # things on a film
Pen = ImageDraw.ImageDraw
Points = list[tuple[float, float]]


def curve(rng: Rng, width: float, height: float, bend: float, length: float) -> Points:
    """A smooth line from anywhere, in a drifting direction."""
    x, y = float(rng.uniform(-0.1, 1.1)) * width, float(rng.uniform(-0.1, 1.1)) * height
    angle, turn = float(rng.uniform(0, 2 * math.pi)), 0.0
    points = [(x, y)]
    step = max(3.0, length / 60)
    for _ in range(int(length / step)):
        turn = 0.85 * turn + float(rng.normal(0, bend))
        angle += turn
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        points.append((x, y))
    return points


def _wire(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    points = curve(rng, width, height, 0.06, float(rng.uniform(0.3, 1.5)) * max(width, height))
    thick = max(1, round(float(np.exp(rng.uniform(0, 2.3))) * unit))
    pen.line(points, fill=grey, width=thick, joint="curve")
    if thick >= 6 and rng.random() < 0.6:  # a tube: walls and a lumen
        pen.line(points, fill=grey * float(rng.uniform(0.2, 0.6)), width=max(1, thick // 2), joint="curve")
    if rng.random() < 0.2:  # a radio-opaque thread with dots along it
        for x, y in points[:: int(rng.integers(2, 9))]:
            pen.ellipse((x - thick, y - thick, x + thick, y + thick), fill=grey)


def _electrode(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    x, y = float(rng.random()) * width, float(rng.random()) * height
    outer = float(rng.uniform(4, 40)) * unit
    pen.ellipse((x - outer, y - outer, x + outer, y + outer), fill=grey * float(rng.choice([0.3, 1.0])))
    for share in rng.uniform(0.2, 0.85, int(rng.integers(0, 3))):
        inner = outer * float(share)
        pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=grey * float(rng.uniform(0, 1)))
    if rng.random() < 0.7:
        points = [(x + dx - 0, y + dy) for dx, dy in _around(rng, outer * 8)]
        pen.line(points, fill=grey, width=max(1, round(unit * float(rng.uniform(1, 4)))), joint="curve")


def _around(rng: Rng, length: float) -> Points:
    angle, points, x, y = float(rng.uniform(0, 6.3)), [(0.0, 0.0)], 0.0, 0.0
    for _ in range(20):
        angle += float(rng.normal(0, 0.2))
        x, y = x + length / 20 * math.cos(angle), y + length / 20 * math.sin(angle)
        points.append((x, y))
    return points


def _clips(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """Staples in a row or clips in a heap."""
    x, y = float(rng.random()) * width, float(rng.random()) * height
    row, way = rng.random() < 0.6, float(rng.uniform(0, 6.3))
    long, apart = float(rng.uniform(3, 18)) * unit, float(rng.uniform(5, 30)) * unit
    angle, thick = float(rng.uniform(0, 3.2)), max(1, round(float(rng.uniform(1, 4)) * unit))
    for number in range(int(rng.integers(1, 14))):
        if row:
            cx, cy = x + number * apart * math.cos(way), y + number * apart * math.sin(way)
            tilt = angle + float(rng.normal(0, 0.12))
        else:
            cx, cy = x + float(rng.normal(0, 40)) * unit, y + float(rng.normal(0, 40)) * unit
            tilt = float(rng.uniform(0, 3.2))
        dx, dy = long / 2 * math.cos(tilt), long / 2 * math.sin(tilt)
        pen.line((cx - dx, cy - dy, cx + dx, cy + dy), fill=grey, width=thick)


def _loops(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """Sternal wires: twisted loops below each other."""
    x, y = float(rng.random()) * width, float(rng.random()) * height
    wide, apart = float(rng.uniform(6, 25)) * unit, float(rng.uniform(25, 90)) * unit
    thick = max(1, round(float(rng.uniform(1, 3)) * unit))
    for number in range(int(rng.integers(1, 7))):
        cy = y + number * apart
        tall = wide * float(rng.uniform(0.3, 0.8))
        pen.arc(
            (x - wide, cy - tall, x + wide, cy + tall),
            int(rng.integers(0, 90)),
            int(rng.integers(270, 360)),
            fill=grey,
            width=thick,
        )
        tail = float(rng.uniform(2, 8)) * unit
        pen.line((x + wide, cy, x + wide + tail, cy - tail), fill=grey, width=thick)


def _generator(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """A pacemaker's can: a rounded box with a header, a battery and parts."""
    x, y = float(rng.random()) * width, float(rng.random()) * height
    wide, tall = float(rng.uniform(40, 140)) * unit, float(rng.uniform(40, 120)) * unit
    pen.rounded_rectangle(
        (x, y, x + wide, y + tall),
        radius=wide / 4,
        fill=grey * 0.7,
        outline=grey,
        width=max(1, round(2 * unit)),
    )
    for _ in range(int(rng.integers(2, 9))):
        left, top = x + float(rng.uniform(0.1, 0.7)) * wide, y + float(rng.uniform(0.1, 0.7)) * tall
        size = float(rng.uniform(0.05, 0.3)) * wide
        shape = pen.rectangle if rng.random() < 0.6 else pen.ellipse
        shape(
            (left, top, left + size, top + size * float(rng.uniform(0.3, 1.2))),
            fill=grey * float(rng.uniform(0.4, 1.1)),
        )
    for _ in range(int(rng.integers(1, 4))):
        points = [(x + dx, y + dy) for dx, dy in _around(rng, wide * 4)]
        pen.line(points, fill=grey, width=max(1, round(2.5 * unit)), joint="curve")


def _ruler(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """Ticks at equal distances, longer ones between; along a side as often as not."""
    upright, apart = rng.random() < 0.6, float(rng.uniform(4, 40)) * unit
    at = float(rng.choice([rng.random(), 0.01, 0.98])) * (width if upright else height)
    long, thick = float(rng.uniform(3, 20)) * unit, max(1, round(float(rng.uniform(0.5, 2)) * unit))
    start = float(rng.random()) * (height if upright else width) * 0.5
    every, count = int(rng.choice([5, 10])), int(rng.integers(5, 60))
    for number in range(count):
        place, reach = start + number * apart, long * (2 if number % every == 0 else 1)
        line = (at, place, at + reach, place) if upright else (place, at, place, at + reach)
        pen.line(line, fill=grey, width=thick)
    if rng.random() < 0.6:
        end = start + (count - 1) * apart
        pen.line((at, start, at, end) if upright else (start, at, end, at), fill=grey, width=thick)


def _scratches(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    for _ in range(int(rng.integers(1, 6))):
        points = curve(
            rng, width, height, float(rng.choice([0.0, 0.02, 0.3])), float(rng.uniform(10, 300)) * unit
        )
        pen.line(
            points,
            fill=grey * float(rng.uniform(0.2, 1)),
            width=max(1, round(float(rng.uniform(0.3, 1.5)) * unit)),
        )


def _chain(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """A necklace, beads, a zip: small equal things along a line."""
    points = curve(rng, width, height, 0.05, float(rng.uniform(60, 500)) * unit)
    size = float(rng.uniform(1.5, 7)) * unit
    hollow, kind = rng.random() < 0.5, rng.random()
    for number, (x, y) in enumerate(points[:: int(rng.integers(1, 4))]):
        if kind < 0.6:
            pen.ellipse(
                (x - size, y - size, x + size, y + size),
                fill=None if hollow else grey,
                outline=grey,
                width=max(1, round(unit)),
            )
        else:
            side = size if number % 2 else -size
            pen.rectangle(sorted_box(x, y, x + 2 * side, y + size), fill=grey)


def sorted_box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    """Corners in the order that Pillow wants."""
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _hardware(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """A plate with holes or a rod, and screws whose threads are zigzags."""
    x, y, angle = float(rng.random()) * width, float(rng.random()) * height, float(rng.uniform(0, 3.2))
    long, thick = float(rng.uniform(30, 200)) * unit, float(rng.uniform(4, 16)) * unit
    ux, uy = math.cos(angle), math.sin(angle)
    pen.line((x, y, x + long * ux, y + long * uy), fill=grey, width=max(1, round(thick)))
    for share in np.linspace(0.1, 0.9, int(rng.integers(2, 8))):
        cx, cy = x + long * float(share) * ux, y + long * float(share) * uy
        hole = thick * 0.3
        pen.ellipse((cx - hole, cy - hole, cx + hole, cy + hole), fill=grey * 0.3)
        if rng.random() < 0.5:
            depth, pitch = float(rng.uniform(10, 50)) * unit, max(2.0, 2.5 * unit)
            zigzag = [
                (
                    cx - uy * pitch * turn + ux * thick * (0.25 if turn % 2 else -0.25),
                    cy + ux * pitch * turn + uy * thick * (0.25 if turn % 2 else -0.25),
                )
                for turn in range(int(depth / pitch) + 2)
            ]
            pen.line(zigzag, fill=grey, width=max(1, round(1.2 * unit)))


def _button(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """Snaps, buttons, rings, coins."""
    for _ in range(int(rng.integers(1, 4))):
        x, y, size = (
            float(rng.random()) * width,
            float(rng.random()) * height,
            float(rng.uniform(3, 22)) * unit,
        )
        full = rng.random() < 0.4
        pen.ellipse(
            (x - size, y - size, x + size, y + size),
            fill=grey if full else None,
            outline=grey,
            width=max(1, round(float(rng.uniform(1, 5)) * unit)),
        )
        for _ in range(int(rng.choice([0, 0, 2, 4]))):
            hx, hy = x + float(rng.normal(0, 0.3)) * size, y + float(rng.normal(0, 0.3)) * size
            pen.ellipse((hx - size / 8, hy - size / 8, hx + size / 8, hy + size / 8), fill=0.0)


def _specks(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    for _ in range(int(rng.integers(3, 60))):
        x, y, size = (
            float(rng.random()) * width,
            float(rng.random()) * height,
            float(rng.exponential(1.2)) * unit + 0.5,
        )
        pen.ellipse(
            (x - size, y - size * float(rng.uniform(0.4, 1.5)), x + size, y + size),
            fill=grey * float(rng.uniform(0.3, 1)),
        )


def _wedge(rng: Rng, pen: Pen, width: float, height: float, unit: float, grey: float) -> None:
    """A grey scale or a grid of boxes."""
    x, y, size = float(rng.random()) * width, float(rng.random()) * height, float(rng.uniform(4, 40)) * unit
    upright, outline = rng.random() < 0.5, rng.random() < 0.3
    for number in range(int(rng.integers(2, 16))):
        left, top = (x, y + number * size) if upright else (x + number * size, y)
        value = grey * float(rng.uniform(-1, 1))
        pen.rectangle(
            (left, top, left + size, top + size),
            fill=None if outline else value,
            outline=grey if outline else None,
        )


THINGS: tuple[tuple[Callable[[Rng, Pen, float, float, float, float], None], float], ...] = (
    (_wire, 5), (_electrode, 3), (_clips, 4), (_loops, 2), (_generator, 1), (_ruler, 2), (_scratches, 2),
    (_chain, 2), (_hardware, 2), (_button, 2), (_specks, 1.5), (_wedge, 1),
)  # fmt: skip
CHANCES = np.array([chance for _, chance in THINGS]) / sum(chance for _, chance in THINGS)


def _plates(rng: Rng, plane: Plane, height: int, width: int, top: int, left: int) -> Plane:
    """Empty label plates and boxes."""
    if rng.random() < 0.25:
        tall, wide = float(rng.uniform(0.02, 0.15)) * height, float(rng.uniform(0.04, 0.4)) * width
        y = float(rng.choice([0.0, height - tall, rng.random() * height])) - top
        x = float(rng.choice([0.0, width - wide, rng.random() * width])) - left
        first, last = max(0, round(y)), max(0, round(y + tall))
        begin, end = max(0, round(x)), max(0, round(x + wide))
        part = plane[first:last, begin:end]
        strength = float(rng.choice([1.0, rng.uniform(0.2, 0.9)]))
        plane[first:last, begin:end] = part * (1 - strength) + strength * float(
            rng.choice([0.0, 1.0, rng.random()])
        )
    return plane


def _margins(rng: Rng, plane: Plane, height: int, width: int, top: int, left: int) -> Plane:
    """Collimated, unexposed or over-exposed margins, straight or a little askew, sharp or soft."""
    if rng.random() < 0.3:
        rows, columns = plane.shape
        y = (np.arange(rows, dtype=np.float32) + top)[:, None] / height
        x = (np.arange(columns, dtype=np.float32) + left)[None, :] / width
        askew = float(rng.normal(0, 0.03))
        y, x = y + askew * (x - 0.5), x - askew * (y - 0.5)
        limits = np.abs(rng.normal(0, 0.07, 4)) * (rng.random(4) < 0.7)
        outside = (y < limits[0]) | (y > 1 - limits[1]) | (x < limits[2]) | (x > 1 - limits[3])
        mask = outside.astype(np.float32)
        if rng.random() < 0.5:
            mask = blur(mask, float(rng.uniform(0.5, 6)))
        value = float(rng.choice([0.0, 0.0, 1.0, rng.random()]))
        plane = plane * (1 - mask) + value * mask
    if rng.random() < 0.08:  # lines of a grid or of a defective row
        step = int(rng.integers(2, 40))
        lines = np.zeros_like(plane)
        lines[:, int(rng.integers(step)) :: step] = 1
        plane = plane + lines * float(rng.normal(0, 0.02))
    if rng.random() < 0.05:
        plane[:, int(rng.integers(plane.shape[1]))] = float(rng.random())
    return np.asarray(plane, dtype=np.float32)


def clutter(rng: Rng, plane: Plane, height: int, width: int, top: int, left: int) -> Plane:
    """Draws things on a window of a film; how many follows from its size."""
    rows, columns = plane.shape
    plane = _plates(rng, plane.copy(), height, width, top, left)
    count = int(rng.poisson(max(0.9, rows * columns / 1e6 * PER_MEGAPIXEL * float(rng.uniform(0, 1.5)))))
    if rng.random() < 0.25:
        count = 0
    if count:
        page = Image.new("F", (columns * OVER, rows * OVER))
        pen = ImageDraw.Draw(page)
        unit = float(np.clip(min(height, width) / 1200, 0.5, 2.2)) * OVER
        for _ in range(count):
            draw = THINGS[int(rng.choice(len(THINGS), p=CHANCES))][0]
            grey = float(rng.choice([1, 1, 1, -1])) * float(np.exp(rng.uniform(np.log(0.05), np.log(0.9))))
            draw(rng, pen, columns * OVER, rows * OVER, unit * float(rng.uniform(0.6, 1.5)), grey)
        drawn = blur(np.asarray(page.reduce(OVER), dtype=np.float32), float(rng.choice([0.0, 0.5, 1.0, 2.0])))
        plane = plane + drawn
    return _margins(rng, plane, height, width, top, left)
