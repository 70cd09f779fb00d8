"""Films without text: real ones with their markers taken out, phantoms, and what surrounds them.

Before it: `zones` has looked at the real films. After it: `synthesis` writes on them. The films have
384 pixels a side; a background has 600 to 3,000, so what is finer than a rib's edge is made here: grain,
noise, sharpening, texture. Devices, rulers and scratches come from `devices`. Training and
evaluation share no patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import data
from . import zones
from .devices import clutter
from .filters import Mask, Plane, Rng, blur, field, filled, resized
from .fonts import Family

FOLDS, SPLIT_SEED, EVALUATED_FOLD = 4, 51, 0
MOST_FILLED = 0.35  # of a film; with more to fill it is left out


@dataclass(frozen=True)
class Window:
    """A part of a film of `height` x `width` pixels: rows and columns from `top` and `left`."""

    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int

    @staticmethod
    def whole(height: int, width: int) -> Window:
        """All of the film."""
        return Window(height, width, 0, 0, height, width)


def split(folder: Path, family: Family) -> list[data.Film]:
    """The films of a family: a quarter of the patients is kept for evaluation."""
    chosen: list[data.Film] = []
    for some in (data.films(folder / "nih1000"), data.hannover(folder / "hannover")):
        fold = data.folds(some, FOLDS, SPLIT_SEED)
        chosen += [
            film
            for film, place in zip(some, fold, strict=True)
            if (place == EVALUATED_FOLD) == (family == "evaluation")
        ]
    return chosen


def cleaned(grey: zones.Grey, zone: Mask) -> Plane:
    """A film without what may be text: filled from around, with the grain that was around."""
    plane = grey.astype(np.float32) / np.float32(255)
    rng = np.random.default_rng(int(grey.sum(dtype=np.int64)))
    rough = plane - blur(plane, 1.5)
    spread = float(np.std(rough[~zone])) if (~zone).any() else 0.0
    full = filled(plane, zone)
    noise = rng.standard_normal(plane.shape, dtype=np.float32) * spread * 0.7
    return np.clip(np.where(zone, full + noise, plane), 0, 1).astype(np.float32)


def sources(folder: Path, kept: Path, family: Family, log: Callable[[str], None]) -> list[Plane]:
    """Every real film of the family without its text, and phantoms. `kept` has the maps of `zones.look`; a film that
    was not looked at is not used. Cleaned films are kept beside the maps until there are more maps."""
    some = split(folder, family)
    ready = sum((kept / f"{zones.key_of(film.path)}.png").is_file() for film in some)
    cache = kept.parent / f"films-{family}-{ready}.npz"
    if cache.is_file():
        with np.load(cache) as stored:
            return [stored[name].astype(np.float32) / np.float32(255) for name in stored.files]
    found: list[Plane] = []
    for film in some:
        seen = kept / f"{zones.key_of(film.path)}.png"
        if not seen.is_file():
            continue
        with Image.open(film.path) as image, Image.open(seen) as looked:
            grey = np.asarray(image.convert("L"))
            zone = zones.zones(grey, np.asarray(looked, dtype=np.float32) / np.float32(255))
        if zone.mean() <= MOST_FILLED:
            found.append(cleaned(grey, zone))
    log(f"{family}: {len(found)} films")
    rng = np.random.default_rng(len(family))
    found += [phantom(rng) for _ in range(max(4, len(found) // 4))]
    whole = [np.round(plane * 255).astype(np.uint8) for plane in found]
    np.savez(cache.with_suffix(".part.npz"), *whole)
    cache.with_suffix(".part.npz").replace(cache)
    return [plane.astype(np.float32) / np.float32(255) for plane in whole]


def phantom(rng: Rng, side: int = zones.SIDE) -> Plane:
    """A chest made of ellipses and arcs: body, lungs, heart, spine, ribs. Like a film to a net that looks
    for letters, and surely without any."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    plane = np.full((side, side), float(rng.uniform(0, 0.1)), dtype=np.float32)

    def ellipse(cx: float, cy: float, rx: float, ry: float, value: float, soft: float) -> None:
        nonlocal plane
        inside = 1 / (1 + np.exp(np.minimum((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 - 1) / soft, 60)))
        plane = (plane + value * inside).astype(np.float32)

    ellipse(
        0,
        float(rng.uniform(0.05, 0.2)),
        float(rng.uniform(0.38, 0.6)),
        0.62,
        float(rng.uniform(0.4, 0.7)),
        0.08,
    )
    for way in (-1, 1):
        ellipse(
            way * float(rng.uniform(0.17, 0.22)),
            0.0,
            0.14,
            float(rng.uniform(0.25, 0.36)),
            -float(rng.uniform(0.2, 0.45)),
            0.12,
        )
        for rib in range(9):
            cy = -0.35 + 0.075 * rib
            distance = np.abs(np.hypot((x - way * 0.2) / 0.2, (y - cy - 0.1) / 0.13) - 1)
            lit = np.exp(-((distance / 0.06) ** 2)) * (y < cy + 0.08) * (np.abs(x - way * 0.2) < 0.2)
            plane = (plane + lit * float(rng.uniform(0.02, 0.1))).astype(np.float32)
        angle = float(rng.uniform(0.1, 0.3)) * way
        collar = np.exp(-(((y + 0.36 + angle * (x - way * 0.2)) / 0.015) ** 2)) * (
            np.abs(x - way * 0.2) < 0.18
        )
        plane = (plane + collar * 0.12).astype(np.float32)
    ellipse(0.06, 0.12, float(rng.uniform(0.1, 0.16)), 0.16, float(rng.uniform(0.1, 0.3)), 0.15)
    spine = np.exp(-((x / 0.035) ** 2)) * (0.8 + 0.2 * np.sin(y * float(rng.uniform(90, 120))))
    plane = (plane + spine * float(rng.uniform(0.08, 0.25))).astype(np.float32)
    plane += field(rng, side, side, float(rng.uniform(4, 30))) * float(rng.uniform(0, 0.03))
    plane = plane - float(plane.min())
    return (plane / max(float(plane.max()), 1e-3)).astype(np.float32)


def _anatomy(rng: Rng, films: list[Plane], window: Window) -> Plane:
    """A film, cropped, mirrored or turned, at the window's scale."""
    source = films[int(rng.integers(len(films)))]
    if rng.random() < 0.5:
        source = source[:, ::-1]
    if rng.random() < 0.12:
        source = np.rot90(source, int(rng.integers(1, 4)))
    height, width = source.shape
    share = float(rng.uniform(0.7, 1.0))
    left, top = float(rng.uniform(0, 1 - share)) * width, float(rng.uniform(0, 1 - share)) * height
    across, down = share * width / window.width, share * height / window.height
    box = (
        left + window.left * across,
        top + window.top * down,
        left + (window.left + window.columns) * across,
        top + (window.top + window.rows) * down,
    )
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    return np.clip(resized(source, window.rows, window.columns, box), 0, 1)


def _other(rng: Rng, window: Window) -> Plane:
    """What is no anatomy: plain, a gradient, or clouds; as in margins, plates, test pictures."""
    rows, columns = window.rows, window.columns
    plane = np.full((rows, columns), float(rng.choice([0.0, 0.03, 0.5, 1.0, rng.random()])), dtype=np.float32)
    if rng.random() < 0.6:
        across = np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None, :] * float(rng.normal(0, 0.4))
        down = np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None] * float(rng.normal(0, 0.4))
        plane = plane + across + down
    for _ in range(int(rng.integers(0, 3))):
        clouds = field(rng, rows, columns, float(np.exp(rng.uniform(np.log(8), np.log(300)))))
        plane = plane + clouds * float(rng.uniform(0.01, 0.15))
    return np.clip(plane, 0, 1).astype(np.float32)


def _detail(rng: Rng, plane: Plane) -> Plane:
    """What a larger film would show: sharper edges and texture that follows the tissue."""
    rows, columns = plane.shape
    if rng.random() < 0.7:
        soft = blur(plane, float(rng.uniform(2, 8)))
        plane = plane + (plane - soft) * float(rng.uniform(0, 2.5))
    if rng.random() < 0.6:
        tissue = (np.clip(plane, 0.05, 1) * float(rng.uniform(0.005, 0.05))).astype(np.float32)
        for grain in (2.0, 4.0, 9.0):
            if rng.random() < 0.6:
                bumps = field(rng, rows, columns, grain * float(rng.uniform(0.7, 1.4)))
                plane = plane + bumps * tissue * float(rng.uniform(0.2, 0.8))
    if rng.random() < 0.15:  # trabecles, vessels, fabric: thin ridges without end
        ridges = 1 - np.abs(field(rng, rows, columns, float(rng.uniform(5, 25))))
        plane = plane + np.clip(ridges - 0.6, 0, 1).astype(np.float32) * float(rng.uniform(0.02, 0.25))
    return np.asarray(plane, dtype=np.float32)


def _tone(rng: Rng, plane: Plane) -> Plane:
    """Exposure and window: gamma, contrast, sometimes clipped, sometimes inverse."""
    plane = (np.clip(plane, 0, 1) ** float(np.exp(rng.normal(0, 0.35)))).astype(np.float32)
    if rng.random() < 0.5:
        low, high = float(rng.uniform(-0.2, 0.25)), float(rng.uniform(0.7, 1.3))
        plane = ((plane - low) / (high - low)).astype(np.float32)
    if rng.random() < 0.15:
        plane = np.asarray(1 - plane, dtype=np.float32)
    return np.clip(plane, 0, 1).astype(np.float32)


def grained(rng: Rng, plane: Plane) -> Plane:
    """Sensor noise, more where there is more signal, sometimes coarser than a pixel."""
    strength = float(np.exp(rng.uniform(np.log(0.001), np.log(0.035))))
    noise = rng.standard_normal(plane.shape, dtype=np.float32)
    if rng.random() < 0.5:
        sigma = float(rng.uniform(0.4, 1.2))
        noise = blur(noise, sigma) * (1 + 2.5 * sigma)
    return np.asarray(
        plane + noise * strength * (0.4 + 0.6 * np.sqrt(np.clip(plane, 0, 1))), dtype=np.float32
    )


def background(rng: Rng, films: list[Plane], window: Window) -> Plane:
    """A film, or the window of one, without any text, 0 to 1, before noise (`grained`)."""
    plane = _anatomy(rng, films, window) if rng.random() < 0.88 else _other(rng, window)
    plane = _tone(rng, _detail(rng, plane))
    return np.clip(clutter(rng, plane, window.height, window.width, window.top, window.left), 0, 1)
