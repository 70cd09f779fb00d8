"""Rounds weights to int8, one scale per output channel. Activations are never quantised.

Before it: trained modules. After it: `export` stores `quantised(module)` as int8 and scale, and
`parity` compares these graphs with `dequantised(module)`, whose weights are exactly int8 * scale.

What is worth knowing:
- Symmetric, -127..127. The clip of a channel is the one among some that loses least (squared).
- A scale has 16 significant bits. int8 * scale then fits into a float without rounding, so the
  weight is the same whoever multiplies; and rounding a rounded module changes nothing.
- Small tables stay as they are: norms, biases, distance biases, the bands' edges, the label, film
  and request codes. Together they are some 20 kB, and everything hangs on them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

SMALLEST = 64  # a layer's weight with fewer values stays f32
LARGE = 2048  # any table with so many values is rounded
LEVELS = 127
SCALE_BITS = 16
CLIPS = tuple(1.0 - step / 64 for step in range(21))  # of the largest value; 1.0 first
LAYERS = (nn.Linear, nn.Embedding, nn.Conv2d)

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Quantised:
    """A weight as it is stored."""

    values: Tensor  # int8, the weight's shape
    scale: Tensor  # f32, [channels, 1, ...]

    def weight(self) -> Tensor:
        """int8 * scale, as the graphs' Cast and Mul compute it."""
        return self.values.float() * self.scale


def _short(scale: Tensor) -> Tensor:
    """Rounds to 16 significant bits."""
    mantissa, exponent = torch.frexp(scale.double())
    return torch.ldexp((mantissa * 2**SCALE_BITS).round() / 2**SCALE_BITS, exponent)


def rounded(weight: Tensor) -> Quantised:
    """The best int8 values and scales of one weight; its first axis are the channels."""
    rows = weight.detach().double().flatten(1)
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("a weight is not finite")
    largest = rows.abs().amax(dim=1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    best = torch.full_like(largest, torch.inf)
    scale, values = torch.zeros_like(largest), torch.zeros_like(rows)
    for clip in CLIPS:
        trial = _short(largest * clip / LEVELS)
        whole = (rows / trial).round().clamp(-LEVELS, LEVELS)
        lost = (whole * trial - rows).square().sum(dim=1, keepdim=True)
        better = lost < best
        best, scale = torch.where(better, lost, best), torch.where(better, trial, scale)
        values = torch.where(better, whole, values)
    return Quantised(
        values.to(torch.int8).reshape(weight.shape),
        scale.float().reshape(-1, *(1 for _ in weight.shape[1:])),
    )


def _names(module: nn.Module) -> list[str]:
    """Parameters that are rounded."""
    layers = {
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, LAYERS) and layer.weight.numel() >= SMALLEST
    }
    return [
        name
        for name, weight in module.named_parameters()
        if weight.dim() >= 2 and (name in layers or weight.numel() >= LARGE)
    ]


def quantised(module: nn.Module) -> dict[str, Quantised]:
    """Every rounded weight by its name; the same for a module and for its dequantised copy."""
    weights = dict(module.named_parameters())
    return {name: rounded(weights[name]) for name in _names(module)}


def dequantised(module: Module) -> Module:
    """A copy whose weights are what the int8 graphs compute with."""
    copied = copy.deepcopy(module).eval()
    weights = dict(copied.named_parameters())
    with torch.no_grad():
        for name, held in quantised(module).items():
            weights[name].copy_(held.weight())
    return copied
