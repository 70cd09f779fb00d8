"""Writes the graph and the folder `text-presence`: presence.onnx, figures, card, bundle.toml.

Before it: `fit_presence`. After it: `crates/redact` loads the folder if the SHA-256 of bundle.toml stands in
models/TRUSTED.toml. Batch norms are folded; arithmetic is single precision.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..bundle import CARD, FIGURES, _table, sha256
from . import evaluate_presence
from .backgrounds import FOLDS
from .fit_presence import Plan
from .fonts import LISTS
from .presence import COARSE, COARSE_FROM, MULTIPLE, STRIDE, Presence, Thresholds
from .synthesis import FAINTEST, LARGEST, SMALLEST

NAME, VERSION, GRAPH = "text-presence", "0.1.0", "presence.onnx"
OPSET = 18
HEAD = """\
# Where on a film is something written? Written by `cloister-train presence export`. Input: grey, 0 to 255,
# [1,1,H,W], sides multiples of `side_multiple` (the last row and column repeated). Output: probabilities
# [1,2,H/4,W/4]: written, and written as a marker. A second look at the film, means over blocks of
# `coarse` pixels, finds letters that fill the first one.
"""
TEMPLATE = """\
# {name} {version}

**What it is.** A small fully convolutional network ({weights:.2f} M weights), trained by this project on
synthetic text. It takes a grey film and gives, per {stride} by {stride} pixels, the probability that something is
written there, letters, gaps between them and a margin of a tenth of their height included, and the
probability that it is one of the usual markers (L, R, PA, ERECT and so on). It does not read.

**What Cloister does with it.** It looks at every pixel of every frame. Where it fires, other steps look again;
what it misses is not looked at again by anything but edge measures. So it is set to find too much
rather than too little. The marker map is a hint; what may stay is decided by recognition.

**Training.** {steps} steps ({planned} are planned) on windows of generated films: {nih} real chest films of NIH ChestX-ray14
(Wang et al., CVPR 2017, https://nihcc.app.box.com/v/ChestXray-NIHCC) and {hannover} of the COVID-19 Image Repository (Hannover Medical
School, CC BY 3.0, https://github.com/ml-workgroup/covid-19-image-repository), without the patients kept for evaluation, their own markers found with PP-OCRv4 and
by brightness and filled, and procedural phantoms; {training_faces} faces of {training_packages} packages and
alphabets. Lines are invented names in five scripts, numbers, dates, exposures and markers, {smallest} to {largest}
pixels, from a contrast of {faintest:.0f} % of the window on, at any angle. Fonts and films are not in the bundle.

**What it cannot see.** It was trained on letters laid over films whose native detail ends at 384 pixels a side; what is
finer was made by the generator. It has seen no other body parts, no ultrasound, no photographs of films.
Letters above about 180 pixels, text of less than 6 pixels or less contrast than its
surrounding noise are not found. Text drawn by hand on film with a pen is only as good as five handwriting fonts.

## Figures
{figures}
**Licence.** Apache-2.0.
"""
NOT_MEASURED = "Not measured yet; `evaluated = false` says so to every program that loads it.\n"


class Graph(nn.Module):
    """Probabilities instead of logits."""

    def __init__(self, net: Presence) -> None:
        super().__init__()
        self.net = net

    def forward(self, film: Tensor) -> Tensor:
        """`[1,2,H/4,W/4]`."""
        return torch.sigmoid(self.net(film))


def folded(net: Presence) -> Presence:
    """A copy with every batch norm in its convolution."""
    copied = copy.deepcopy(net).eval()
    for module in copied.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place in range(len(module) - 1):
            first, second = module[place], module[place + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[place] = fuse_conv_bn_eval(first, second)
                module[place + 1] = nn.Identity()
    return copied


def export(net: Presence, file: Path) -> None:
    """Writes the graph; height and width are free."""
    file.parent.mkdir(parents=True, exist_ok=True)
    graph = Graph(folded(net)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is old, and writes the smallest graph
        torch.onnx.export(
            graph,
            (torch.zeros(1, 1, 2 * MULTIPLE, 3 * MULTIPLE),),
            str(file),
            input_names=["film"],
            output_names=["map"],
            dynamic_axes={"film": {2: "height", 3: "width"}, "map": {2: "rows", 3: "columns"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(file))


def difference(net: Presence, file: Path, sides: tuple[int, int] = (96, 160)) -> float:
    """The largest difference of a probability between the graph and the net, on noise."""
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (1, 1, *sides)).astype(np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (said,) = session.run(None, {"film": picture})
    with torch.no_grad():
        wanted = torch.sigmoid(net.eval()(torch.from_numpy(picture))).numpy()
    return float(np.abs(said - wanted).max())


def card(net: Presence, facts: dict[str, Any], tables: str | None) -> str:
    """The card's text; every figure in it is measured."""
    training = LISTS["training"]
    return TEMPLATE.format(
        name=NAME,
        version=VERSION,
        weights=sum(weight.numel() for weight in net.parameters()) / 1e6,
        stride=STRIDE,
        steps=facts["steps"],
        planned=Plan().steps,
        nih=facts["nih"],
        hannover=facts["hannover"],
        training_faces=sum(len(listed.files) for listed in training),
        training_packages=len({listed.package for listed in training}),
        smallest=SMALLEST,
        largest=LARGEST,
        faintest=100 * FAINTEST,
        figures=NOT_MEASURED if tables is None else tables,
    )


def manifest(folder: Path, limits: Thresholds, evaluated: bool) -> str:
    """The text of bundle.toml."""
    files = [name for name in (GRAPH, FIGURES, CARD) if (folder / name).is_file()]
    parts = [
        _table(
            "",
            {
                "name": NAME,
                "version": VERSION,
                "kind": "text-detector",
                "evaluated": evaluated,
                "licence": "Apache-2.0",
                "training_data": "synthetic text over phantoms and, without their own markers, films of "
                f"{FOLDS - 1} of {FOLDS} patients; see CARD.md",
            },
        ),
        _table(
            "[input]",
            {
                "name": "film",
                "channels": "grey",
                "side_multiple": MULTIPLE,
                "stride": STRIDE,
                "coarse": COARSE,
                "coarse_from_px": COARSE_FROM,
            },
        ),
        _table(
            "[thresholds]",
            {
                "pixel": limits.cell,
                "doubtful": limits.doubtful,
                "component": limits.component,
                "grow_px": limits.grow,
            },
        ),
        *(_table("[[file]]", {"path": name, "sha256": sha256(folder / name)}) for name in files),
    ]
    return HEAD + "\n".join(parts)


def seal(
    net: Presence, folder: Path, limits: Thresholds, facts: dict[str, Any], rows: list[dict[str, Any]] | None
) -> str:
    """Writes figures, card and bundle.toml beside the graph; gives bundle.toml's SHA-256."""
    tables = None
    (folder / FIGURES).unlink(missing_ok=True)
    if rows:
        tables = (
            f"On {len(rows)} generated films, evaluation fonts and patients only, this net alone at its thresholds, "
            "everything it finds blanked. Square brackets are Wilson's 95 % intervals.\n\n"
            + evaluate_presence.tables({NAME: rows})
        )
        said = json.dumps(evaluate_presence.figures(rows), indent=1)
        (folder / FIGURES).write_text(said + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(net, facts, tables), encoding="utf-8")
    file = folder / "bundle.toml"
    file.write_text(manifest(folder, limits, bool(rows)), encoding="utf-8")
    return sha256(file)
