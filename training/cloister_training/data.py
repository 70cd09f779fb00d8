"""Films and labels: reading, splitting by patient, normalising, augmenting.

Before it: `../shared/data/cxr/nih1000` (never copied). After it: `train`.
The films are treacherous: file history, border and histogram alone tell
abnormal from normal. So borders are cropped, intensity is equalised to a flat histogram, and
augmentation blurs, re-exposes and moves the film.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from .grammar import LABELS, Context

SIZE = 224
MARGIN = 32  # kept around a training film so that it can be moved
BLUR_WIDER_FROM = 150  # pixels a side from which augmentation blurs over five pixels, not three
CROP_PER_SIDE = 0.05
MEAN, STD = 0.5, 0.28867513
MIN_POSITIVE_PATIENTS = 15


@dataclass(frozen=True)
class Film:
    """One row of the manifest."""

    path: Path
    patient: str
    labels: tuple[int, ...]  # 0 or 1 per entry of LABELS
    context: Context


def _age(years: int) -> str:
    # The NIH table has ages of 400 years: they are slips, not patients.
    if years > 120:
        return "unknown"
    for limit, name in ((17, "under_18"), (39, "18_39"), (64, "40_64"), (89, "65_89")):
        if years <= limit:
            return name
    return "90_and_over"


def films(folder: Path) -> list[Film]:
    """Every film of the folder; fails if a head would have too few positive patients."""
    found: list[Film] = []
    positive: dict[str, set[str]] = defaultdict(set)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            names = set(row["nih_labels"].split("|"))
            for name in names:
                positive[name].add(row["patient_id"])
            context = Context(
                row["view"].lower(),
                _age(int(row["age"])) if row["age"].isdigit() else "unknown",
                {"F": "female", "M": "male"}.get(row["sex"], "unknown"),
            )
            marks = tuple(int(label.nih in names) for label in LABELS)
            found.append(Film(folder / "images" / row["file"], row["patient_id"], marks, context))
    rare = [label.name for label in LABELS if len(positive[label.nih]) < MIN_POSITIVE_PATIENTS]
    if rare:
        raise ValueError(f"fewer than {MIN_POSITIVE_PATIENTS} positive patients: {rare}")
    return found


def hannover(folder: Path) -> list[Film]:
    """The films of Hannover: all COVID, no finding labels (the zeros mean nothing). For shift tests
    only: the disease is the same as the hospital, so a class made of it would be the hospital."""
    found: list[Film] = []
    with (folder / "data.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            context = Context(
                row["projection"].lower(),
                _age(int(float(row["age"]))) if row["age"] else "unknown",
                {"f": "female", "m": "male"}.get(row["sex"], "unknown"),
            )
            path = folder / "images" / f"{row['image_id']}.jpg"
            found.append(Film(path, row["patient_id"], (0,) * len(LABELS), context))
    return found


def folds(everything: list[Film], count: int, seed: int) -> list[int]:
    """The fold of every film; a patient's films share one. Patients with and without pneumonia are
    dealt out apart, most films first, so that the folds are of like size and like mixture."""
    of_patient: dict[str, list[int]] = defaultdict(list)
    for index, film in enumerate(everything):
        of_patient[film.patient].append(index)
    patients = sorted(of_patient)
    random.Random(seed).shuffle(patients)

    def kind(patient: str) -> tuple[bool, int]:
        mine = of_patient[patient]
        return any(everything[index].labels[0] for index in mine), -len(mine)

    fold = [0] * len(everything)
    for place, patient in enumerate(sorted(patients, key=kind)):
        for index in of_patient[patient]:
            fold[index] = place % count
    return fold


def equalise(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histogram equalisation over 256 bins: a value becomes the share of pixels below it, plus
    half of those equal to it. The server does the same, so it is written without a library."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    table = (np.cumsum(counts) - counts / 2) / grey.size
    return table.astype(np.float32)[grey]


def read(image: Image.Image, side: int) -> NDArray[np.float32]:
    """Crop, resize, equalise, normalise: the `[input]` section of bundle.toml, step by step."""
    grey = image.convert("L")
    width, height = grey.size
    dx, dy = int(width * CROP_PER_SIDE), int(height * CROP_PER_SIDE)
    grey = grey.crop((dx, dy, width - dx, height - dy))
    grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    return (equalise(np.asarray(grey, dtype=np.uint8)) - np.float32(MEAN)) / np.float32(STD)


def load(some: list[Film], side: int) -> torch.Tensor:
    """Normalised films `[n,1,side,side]`."""
    planes = np.empty((len(some), 1, side, side), dtype=np.float32)
    for index, film in enumerate(some):
        with Image.open(film.path) as image:
            planes[index, 0] = read(image, side)
    return torch.from_numpy(planes)


def augment(batch: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Moves, turns, scales, mirrors, re-exposes, blurs and adds noise; gives `[n,1,size,size]`.

    Blur, noise and exposure are what a film's history leaves in it: they pay less when any film may
    have any of them. No label has a side, so a mirrored film keeps its labels.
    """
    count = batch.shape[0]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*(shape or (count,)), generator=generator) * (high - low) + low

    angle, scale, stretch = uniform(-0.12, 0.12), uniform(0.75, 1.0), uniform(0.93, 1.07)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    room = 1.0 - scale
    rows = torch.stack(
        [
            torch.stack([cosine * stretch * mirror, -sine, uniform(-1, 1) * room], dim=1),
            torch.stack([sine * mirror, cosine / stretch, uniform(-1, 1) * room], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows, [count, 1, size, size], align_corners=False)
    out = functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    per_film = (count, 1, 1, 1)
    # A gamma on the equalised film, then blur with a random share, then noise.
    flat = (out * STD + MEAN).clamp(0.0, 1.0)
    flat = flat.pow(torch.exp(uniform(-0.4, 0.4, *per_film)))
    reach = 2 if size > BLUR_WIDER_FROM else 1
    soft = functional.avg_pool2d(
        functional.pad(flat, (reach, reach, reach, reach), mode="replicate"), 2 * reach + 1, 1
    )
    flat = torch.lerp(flat, soft, uniform(0.0, 0.9, *per_film))
    noise = torch.randn(flat.shape, generator=generator) * uniform(0.0, 0.08, *per_film)
    return (flat + noise - MEAN) / STD
