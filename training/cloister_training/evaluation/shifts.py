"""Films as another machine, archive or hand would have left them, through the held-out models.

Before it: `crossfit` (five models, each with the films that it has not seen). After it:
`films` says how far area, probabilities and labels move. Every shift acts on the 8-bit
film of the file, before cutting and equalising: that is where it would happen.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .. import data

if TYPE_CHECKING:
    from ..crossfit import Folds
    from ..model import Vision

Shift = Callable[[Image.Image, np.random.Generator], Image.Image]
Floats = NDArray[np.float32]

BATCH = 16  # the fastest on one core: more films do not fit its cache
FRAME = 12  # pixels
NOISE = 4.0  # grey values
LEVEL = 51  # a fifth of the grey values
FURTHEST = 0.05  # logit by which a model may differ from what `crossfit` kept of it


def _mapped(table: Callable[[float], float]) -> Shift:
    values = [round(min(255.0, max(0.0, table(value)))) for value in range(256)]
    return lambda image, _: image.point(values)


def _jpeg(image: Image.Image, _: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("L")


def _resized(image: Image.Image, _: np.random.Generator) -> Image.Image:
    width, height = image.size
    small = image.resize((round(0.6 * width), round(0.6 * height)), Image.Resampling.BILINEAR)
    return small.resize((width, height), Image.Resampling.BILINEAR)


def _noise(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    noisy = values + generator.normal(0.0, NOISE, values.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def _framed(image: Image.Image, _: np.random.Generator) -> Image.Image:
    values = np.array(image, dtype=np.uint8)
    values[:FRAME] = values[-FRAME:] = 255
    values[:, :FRAME] = values[:, -FRAME:] = 255
    return Image.fromarray(values)


def _labelled(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """A black box in the upper left corner, as redaction leaves one; the model's cut takes a part."""
    values = np.array(image, dtype=np.uint8)
    values[: image.height // 8, : image.width // 4] = 0
    return Image.fromarray(values)


SHIFTS: dict[str, Shift] = {
    "jpeg_50": _jpeg,
    "resize_60": _resized,
    "gamma_70": _mapped(lambda value: 255 * (value / 255) ** 0.7),
    "gamma_140": _mapped(lambda value: 255 * (value / 255) ** 1.4),
    "brighter_20": _mapped(lambda value: value + LEVEL),
    "darker_20": _mapped(lambda value: value - LEVEL),
    "noise_4": _noise,
    "blur": lambda image, _: image.filter(ImageFilter.GaussianBlur(1.5)),
    "rotation_3": lambda image, _: image.rotate(3, Image.Resampling.BILINEAR),
    "frame": _framed,
    "corner_box": _labelled,
    "flip": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}
PLAIN = "plain"


def _versions(film: data.Film, number: int) -> Floats:
    """The film plain and under every shift, as the model is given them `[1 + shifts,1,side,side]`."""
    with Image.open(film.path) as opened:
        grey = opened.convert("L")
    # Seeded by the film, so that its noise does not hang on the order of the work.
    moved = [shift(grey, np.random.default_rng(number)) for shift in SHIFTS.values()]
    return np.stack([data.read(image, data.SIZE)[None] for image in (grey, *moved)])


def _ahead(films: Sequence[data.Film], numbers: Sequence[int]) -> Iterator[tuple[int, Floats]]:
    """Each film's versions; the next film is read while the model works on this one."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_versions, films[numbers[0]], numbers[0])
        for number, following in zip(numbers, [*numbers[1:], None], strict=True):
            ready = coming.result()
            if following is not None:
                coming = reader.submit(_versions, films[following], following)
            yield number, ready


@torch.no_grad()
def through(vision: Vision, pixels: torch.Tensor) -> tuple[Floats, Floats]:
    """Logits and pooled features."""
    parts = [vision(part) for part in pixels.split(BATCH)]
    logits, pooled = (torch.cat([part[place] for part in parts]).numpy() for place in (2, 1))
    return logits, pooled


def held_out(
    films: Sequence[data.Film], folds: Folds, log: Callable[[str], None]
) -> tuple[dict[str, Floats], Floats]:
    """Calibrated logits `[films, labels]` plain and under every shift, and the features of the plain
    films, each film through the model that has not seen its patient."""
    names = (PLAIN, *SHIFTS)
    logits = np.empty((len(names), *folds.calibrated.shape), dtype=np.float32)
    pooled: list[Floats] = [np.empty(0, dtype=np.float32)] * len(films)
    started = time.monotonic()
    for fold, vision in enumerate(folds.visions):
        numbers = [number for number, other in enumerate(folds.fold) if other == fold]
        if not numbers:
            continue
        for number, versions in _ahead(films, numbers):
            logits[:, number], features = through(vision, torch.from_numpy(versions))
            pooled[number] = features[0]
        log(f"shifts: fold {fold}, {time.monotonic() - started:.0f} s")
    furthest = float(np.abs(logits[0] - folds.calibrated.numpy()).max())
    if not furthest <= FURTHEST:
        raise ValueError(f"the fold models do not give the folds' own logits: {furthest:.3f} apart")
    return dict(zip(names, logits, strict=True)), np.stack(pooled)
