"""Trains the text-presence net on films made by worker processes.

Before it: `synthesis`, `presence`. After it: `presence_bundle` writes the graph. Shards of windows are a
function of the seed and their number, and a step's windows are a function of the step, so that one
seed and one number of threads give the same weights again, however fast the workers are and however often
the run is broken off: it goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..fitting import Log
from .backgrounds import Window
from .filters import Plane
from .fonts import Face
from .presence import STRIDE, Presence, Shape, target
from .synthesis import LARGEST, SMALLEST, Film, Recipe, film

# Pixels of a side. The look from afar sees a film of 768 as one of 256, all of its anatomy in one window.
SMALL_FILM, LARGE_FILM = 256, 3000
FACTS = 3  # maps per window: written, marker, weight
WEIGHTS = 50.0  # of a cell are kept as bytes, so many steps to one
BARE = 0.3  # share of windows without any text
MARKED = 0.3  # share of blocks that are markers
BLANKED = 0.15  # share of windows that were looked at before, and blanked in places


@dataclass(frozen=True)
class Plan:
    """How long and how large."""

    steps: int = 20000
    batch: int = 20
    side: int = 256  # pixels of a window
    shard: int = 320  # windows
    fresh: int = 6  # windows of a batch that no step has seen
    ahead: int = 6  # shards that workers may be ahead
    peak: float = 3e-3
    decay: float = 0.01
    every: int = 250  # steps between checkpoints
    seed: int = 50
    shape: Shape = field(default_factory=Shape)

    @staticmethod
    def smoke() -> Plan:
        """Proves the way in a minute."""
        shape = Shape(4, 8, 16, 16, 16, (1, 1, 1))
        return Plan(steps=6, batch=4, side=96, shard=8, fresh=2, every=3, shape=shape)


def window_of(rng: random.Random, side: int) -> Window:
    """A square of a film of any size; a quarter of them touch the film's edge."""
    height = round(math.exp(rng.uniform(math.log(max(SMALL_FILM, side)), math.log(LARGE_FILM))))
    width = max(side, round(height * rng.uniform(0.75, 1.25)))
    top, left = rng.randint(0, height - side), rng.randint(0, width - side)
    if rng.random() < 0.25:
        top, left = rng.choice(((0, left), (height - side, left), (top, 0), (top, width - side)))
    return Window(height, width, top, left, side, side)


def window(seed: int, films: list[Plane], faces: list[Face], side: int) -> Film:
    """One window to learn from."""
    rng = random.Random(seed)
    bare = rng.random() < BARE
    # Small letters are many, and the ones that are missed: half of the windows have no other.
    largest = rng.choice((16, 30, LARGEST + 4))
    blocks = 0.0 if bare else rng.uniform(0.8, 3.2) * (side / 256) ** 2
    return film(seed, films, faces, window_of(rng, side), Recipe(blocks, MARKED, SMALLEST, largest, BLANKED))


def shard(number: int, plan: Plan, films: list[Plane], faces: list[Face]) -> dict[str, NDArray[np.uint8]]:
    """The windows of a shard and their maps, as bytes."""
    cells = plan.side // STRIDE
    pixels = np.empty((plan.shard, plan.side, plan.side), dtype=np.uint8)
    facts = np.empty((plan.shard, FACTS, cells, cells), dtype=np.uint8)
    for place in range(plan.shard):
        made = window((plan.seed << 32) + number * plan.shard + place, films, faces, plan.side)
        wanted = target(made)
        pixels[place] = made.pixels
        facts[place, 0], facts[place, 1] = wanted.written * 255, wanted.marker * 255
        facts[place, 2] = np.clip(np.round(wanted.weight * WEIGHTS), 0, 255)
    return {"pixels": pixels, "facts": facts}


def _file(folder: Path, number: int, part: str) -> Path:
    return folder / f"shard-{number:05d}-{part}.npy"


def _work(
    first: int, workers: int, last: int, plan: Plan, films: list[Plane], faces: list[Face], folder: Path
) -> None:
    """Makes every `workers`-th shard; waits while it is too far ahead of the training."""
    os.nice(2)
    parent = os.getppid()
    for number in range(first, last, workers):
        if os.getppid() != parent:
            return  # the training was killed
        if _file(folder, number, "facts").is_file():
            continue
        while number > _wanted(folder) + plan.ahead:
            time.sleep(0.5)
            if os.getppid() != parent:
                return
        for part, values in shard(number, plan, films, faces).items():
            unfinished = folder / f"{part}-{number}.part.npy"
            np.save(unfinished, values)
            unfinished.replace(_file(folder, number, part))


def _wanted(folder: Path) -> int:
    try:
        return int((folder / "wanted").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


class Windows:
    """The windows of every step: some fresh, the others from all shards up to now, turned and re-exposed."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self._kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def _shard(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if number not in self._kept:
            (self.folder / "wanted").write_text(str(number), encoding="ascii")
            # The maps are written after the pixels: where they are, both are.
            while not _file(self.folder, number, "facts").is_file():
                time.sleep(0.2)
            self._kept[number] = (
                np.load(_file(self.folder, number, "pixels"), mmap_mode="r"),
                np.load(_file(self.folder, number, "facts"), mmap_mode="r"),
            )
        return self._kept[number]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels `[n,1,S,S]`, 0 to 255, and maps `[n,3,S/4,S/4]` of a step."""
        plan = self.plan
        rng = random.Random(plan.seed * 1_000_003 + step)
        newest = (step + 1) * plan.fresh - 1
        places = list(range(step * plan.fresh, newest + 1))
        places += [rng.randint(0, newest) for _ in range(plan.batch - plan.fresh)]
        pixels, facts = [], []
        for place in places:
            picture, maps = self._shard(place // plan.shard)
            one, truth = picture[place % plan.shard].astype(np.float32), maps[place % plan.shard]
            turns, mirrored = rng.randrange(4), rng.random() < 0.15
            one, truth = np.rot90(one, turns), np.rot90(truth, turns, (1, 2))
            if mirrored:
                one, truth = one[:, ::-1], truth[:, :, ::-1]
            if rng.random() < 0.3:
                one = 255 - one
            if rng.random() < 0.5:  # never so little that a faint word is lost
                low, high = rng.uniform(0, 25), rng.uniform(215, 255)
                one = low + one * (high - low) / 255
            pixels.append(np.ascontiguousarray(one))
            facts.append(np.ascontiguousarray(truth).astype(np.float32))
        maps_ = np.stack(facts) / np.array([255, 255, WEIGHTS], dtype=np.float32)[None, :, None, None]
        return torch.from_numpy(np.stack(pixels))[:, None].float(), torch.from_numpy(maps_).float()


def loss_of(logits: Tensor, facts: Tensor) -> Tensor:
    """Words count alike whatever their size, faint ones more; of the background, what looks like text."""
    written, marker, weight = facts.unbind(1)
    said, marked = logits.float().unbind(1)
    each = functional.binary_cross_entropy_with_logits(said, written, reduction="none")
    with torch.no_grad():
        likely = torch.sigmoid(said)
        # Cells that are right already count less: gently for words, strongly for background.
        keen = torch.where(written > 0.5, (1 - likely).clamp_min(0.05).sqrt(), likely.square() + 0.02)
    words = weight * written
    ground = ((weight > 0) & (written < 0.5)).float()
    size = words.sum() + 20.0
    presence = (each * keen * words).sum() / size + 3.0 * (each * keen * ground).sum() / size
    kinds = functional.binary_cross_entropy_with_logits(marked, marker, reduction="none")
    return presence + 0.3 * (kinds * words).sum() / size


def learning_rate(step: int, plan: Plan) -> float:
    """Rises, stays, and falls to nothing over the last 35 %."""
    warm, fall = max(1, plan.steps // 50), 0.65
    if step < warm:
        return plan.peak * (step + 1) / warm
    done = step / plan.steps
    return plan.peak if done < fall else plan.peak * max(0.0, (1 - done) / (1 - fall)) + 1e-6


@dataclass
class Run:
    """What a checkpoint holds."""

    net: Presence
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0


def begin(plan: Plan) -> Run:
    """Random weights."""
    torch.manual_seed(plan.seed)
    net = Presence(plan.shape).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.peak, weight_decay=plan.decay, betas=(0.9, 0.98))
    return Run(net, optimiser, {name: value.detach().clone() for name, value in net.state_dict().items()})


def save(run: Run, plan: Plan, file: Path) -> None:
    """Writes a checkpoint; a broken write leaves the old one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    torch.save(
        {
            "plan": asdict(plan),
            "net": run.net.state_dict(),
            "optimiser": run.optimiser.state_dict(),
            "average": run.average,
            "step": run.step,
        },
        unfinished,
    )
    unfinished.replace(file)


def resume(plan: Plan, file: Path) -> Run:
    """The run of a checkpoint, or a new one. Plain data only: a checkpoint cannot run code."""
    run = begin(plan)
    if file.is_file():
        state = torch.load(file, weights_only=True)
        run.net.load_state_dict(state["net"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.average, run.step = state["average"], int(state["step"])
    return run


def averaged(file: Path) -> tuple[Presence, int]:
    """The averaged net of a checkpoint, and its step."""
    state = torch.load(file, weights_only=True)
    kept = state["plan"]["shape"]
    net = Presence(Shape(**{**kept, "blocks": tuple(kept["blocks"])}))
    net.load_state_dict(state["average"])
    return net.eval(), int(state["step"])


def fit_presence(
    plan: Plan,
    films: list[Plane],
    faces: list[Face],
    folder: Path,
    log: Log,
    workers: int = 1,
    until: float | None = None,
) -> Presence:
    """Trains from where the folder's checkpoint is; `until` (seconds since 1970) breaks off in time."""
    shards, file = folder / "shards", folder / "presence.pt"
    shards.mkdir(parents=True, exist_ok=True)
    last = -(-plan.steps * plan.fresh // plan.shard)
    run, source = resume(plan, file), Windows(plan, shards)
    (shards / "wanted").write_text(str(run.step * plan.fresh // plan.shard), encoding="ascii")
    context = multiprocessing.get_context("fork")
    helpers = [
        context.Process(target=_work, args=(first, workers, last, plan, films, faces, shards), daemon=True)
        for first in range(workers)
    ]
    for helper in helpers:
        helper.start()
    try:
        _steps(run, plan, source, file, log, until)
    finally:
        for helper in helpers:
            helper.terminate()
    net = Presence(plan.shape)
    net.load_state_dict(run.average)
    return net.eval()


def _steps(run: Run, plan: Plan, source: Windows, file: Path, log: Log, until: float | None) -> None:
    started, total, shown, waited = time.monotonic(), 0.0, 0, 0.0
    for step in range(run.step, plan.steps):
        before = time.monotonic()
        pixels, facts = source.draw(step)
        waited += time.monotonic() - before
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(step, plan)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = run.net(pixels)
        loss = loss_of(logits, facts)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.net.parameters(), 1.0)
        run.optimiser.step()
        run.step = step + 1
        keep = min(0.998, (run.step + 1) / (run.step + 10))
        with torch.no_grad():
            for name, value in run.net.state_dict().items():
                if value.is_floating_point():
                    run.average[name].lerp_(value, 1 - keep)
                else:
                    run.average[name].copy_(value)
        total, shown = total + float(loss.detach()), shown + 1
        late = until is not None and time.time() > until
        if run.step % 50 == 0 or late or run.step == plan.steps:
            took = time.monotonic() - started
            log(
                f"presence {run.step}/{plan.steps}, loss {total / shown:.4f}, {took:.0f} s, waited {waited:.0f} s"
            )
            total, shown = 0.0, 0
        if run.step % plan.every == 0 or late or run.step == plan.steps:
            save(run, plan, file)
        if late:
            log("time is up")
            return
