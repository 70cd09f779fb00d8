"""Picture arithmetic that the generator needs, in numpy alone: blur, fill, resample, fields.

Used by `backgrounds`, `devices` and `synthesis`. Pictures are float32, 0 black to 1 white.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator


def _box(plane: Plane, reach: int, axis: int) -> Plane:
    widths = [(0, 0), (0, 0)]
    widths[axis] = (reach + 1, reach)
    sums = np.cumsum(np.pad(plane, widths, mode="edge"), axis=axis, dtype=np.float64)
    side, size = 2 * reach + 1, plane.shape[axis]
    if axis == 0:
        return ((sums[side : side + size] - sums[:size]) / side).astype(np.float32)
    return ((sums[:, side : side + size] - sums[:, :size]) / side).astype(np.float32)


def _kernel(plane: Plane, sigma: float) -> Plane:
    reach = max(1, int(np.ceil(2.5 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = plane.shape
    padded = np.pad(plane, ((reach, reach), (0, 0)), mode="edge")
    down = sum(weight * padded[place : place + height] for place, weight in enumerate(weights))
    padded = np.pad(np.asarray(down, dtype=np.float32), ((0, 0), (reach, reach)), mode="edge")
    across = sum(weight * padded[:, place : place + width] for place, weight in enumerate(weights))
    return np.asarray(across, dtype=np.float32)


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian; above two pixels as three boxes."""
    if sigma < 0.15:
        return plane
    if sigma <= 2.0:
        return _kernel(plane, sigma)
    reach = max(1, round((np.sqrt(4 * sigma * sigma + 1) - 1) / 2))
    for _ in range(3):
        plane = _box(_box(plane, reach, 0), reach, 1)
    return plane


def resized(
    plane: Plane, height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> Plane:
    """Bicubic; `box` (left, top, right, bottom) is the part of `plane` that is wanted."""
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box), dtype=np.float32)


def field(rng: Rng, height: int, width: int, grain: float) -> Plane:
    """Smooth random values of about unit spread whose bumps are `grain` pixels wide."""
    rows, columns = max(2, round(height / grain) + 1), max(2, round(width / grain) + 1)
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return resized(coarse, height, width) if grain > 1 else coarse[:height, :width]


def filled(plane: Plane, hole: Mask) -> Plane:
    """The picture with its holes filled from around them: means over ever larger blocks, then smoothed."""
    if not hole.any():
        return plane
    weight = (~hole).astype(np.float32)
    levels = [(plane * weight, weight)]
    while min(levels[-1][1].shape) > 1:
        values, weights = levels[-1]
        values = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2)))
        weights = np.pad(weights, ((0, weights.shape[0] % 2), (0, weights.shape[1] % 2)))
        levels.append(
            (
                values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2],
                weights[::2, ::2] + weights[1::2, ::2] + weights[::2, 1::2] + weights[1::2, 1::2],
            )
        )
    values, weights = levels[-1]
    known = np.where(weights > 0, values / np.maximum(weights, 1e-6), float(plane.mean())).astype(np.float32)
    for values, weights in reversed(levels[:-1]):
        coarse = resized(known, *values.shape)
        share = np.clip(weights, 0, 1)
        known = (values / np.maximum(weights, 1e-6) * share + coarse * (1 - share)).astype(np.float32)
    smooth = blur(known, 2.0)
    return np.where(hole, smooth, plane).astype(np.float32)
