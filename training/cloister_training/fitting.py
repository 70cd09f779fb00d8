"""The loop that both trainings share: AdamW, warm-up and cosine, and a running average of weights.

Before it: a module and a function that gives the loss of a step. After it: the averaged weights are
in the module. One seed and one number of threads give the same weights again on the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

Log = Callable[[str], None]
BETAS = (0.9, 0.98)
LONGEST_AVERAGE = 0.995  # share of the average that a step keeps, once there are enough of them
WARM_UP = 0.05  # share of the steps in which the rate rises
SAID = 15  # lines in the log


def reproducible(threads: int) -> None:
    """Sets PyTorch up so that a run on the same machine can be repeated to the bit."""
    torch.set_num_threads(threads)
    # An optimiser's running means fade towards zero; numbers that small cost ten times as much.
    torch.set_flush_denormal(True)
    # Gradients of indexed weights would be summed in the order in which threads come.
    torch.use_deterministic_algorithms(True)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Rises in a straight line, falls as a cosine."""
    warm = max(1, round(steps * WARM_UP))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def fit(
    module: torch.nn.Module,
    loss_of: Callable[[int], Tensor],
    steps: int,
    peak: float,
    decay: float,
    log: Log,
) -> None:
    """Trains `module` in place for `steps` and leaves the running average in it."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=decay, betas=BETAS)
    average = {name: value.detach().clone() for name, value in module.state_dict().items()}
    started, shown, total = time.monotonic(), 0, 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        keep = min(LONGEST_AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - keep)
                else:
                    average[name].copy_(value)
        total, shown = total + float(loss.detach()), shown + 1
        if (step + 1) % max(1, steps // SAID) == 0:
            log(f"step {step + 1}/{steps}, loss {total / shown:.4f}, {time.monotonic() - started:.0f} s")
            total, shown = 0.0, 0
    module.load_state_dict(average)
