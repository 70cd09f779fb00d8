"""Writes the three graphs.

Before it: trained `Vision` and `TextModel`. After it: `parity` compares, `bundle` seals.
Weights are stored as they are ("f32") or as int8 and scale ("int8", see `quantise`), behind a Cast
and a Mul that ONNX Runtime folds when it loads the graph. All arithmetic is f32: nothing is
quantised at run time, so a row's result does not depend on its batch mates.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .model import Attention, Config, ConvUnit, Residual, TextModel, Vision
from .quantise import LARGE, Quantised, dequantised, quantised

OPSET = 18
TOP = 64
Weights = Literal["f32", "int8"]


def fold(vision: Vision) -> Vision:
    """A copy with every batch norm folded into its convolution."""
    folded = copy.deepcopy(vision).eval()
    for module in folded.modules():
        if isinstance(module, (ConvUnit, Residual)) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return folded


class PrefixGraph(nn.Module):
    """`prefix.onnx`: flat inputs and outputs."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, image_tokens: Tensor, film_mask: Tensor, text_ids: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, ...]:
        keys, values, mask = self.model.prefix(image_tokens, film_mask, text_ids, text_mask)
        flat = [tensor for pair in zip(keys, values, strict=True) for tensor in pair]
        return (*flat, mask)


class StepGraph(nn.Module):
    """`step.onnx`: flat inputs and outputs, and the 64 likeliest tokens."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: Tensor, positions: Tensor, past_length: Tensor, cross_mask: Tensor, *kv: Tensor
    ) -> tuple[Tensor, ...]:
        layers = self.model.config.decoder_layers
        pairs = list(zip(kv[0::2], kv[1::2], strict=True))
        logits, keys, values = self.model.step(
            ids, positions, cross_mask, pairs[:layers], pairs[layers:], past_length
        )
        largest = logits.max(dim=-1, keepdim=True).values
        total = torch.log(torch.exp(logits - largest).sum(dim=-1, keepdim=True)) + largest
        top, top_ids = torch.topk(logits, TOP, dim=-1)
        flat = [tensor for pair in zip(keys, values, strict=True) for tensor in pair]
        return (top_ids, top - total, total.squeeze(-1), logits, *flat)


def kv_names(first: str, second: str, layers: int) -> list[str]:
    """`k_0, v_0, k_1, …`: one K and one V per decoder layer, never stacked."""
    return [f"{name}_{layer}" for layer in range(layers) for name in (first, second)]


def vision_names() -> tuple[list[str], list[str]]:
    """Inputs and outputs of `vision.onnx`."""
    return ["pixels"], ["tokens", "pooled", "logits", "patch_logits"]


def prefix_names(config: Config) -> tuple[list[str], list[str]]:
    """Inputs and outputs of `prefix.onnx`."""
    inputs = ["image_tokens", "film_mask", "text_ids", "text_mask"]
    return inputs, [*kv_names("k", "v", config.decoder_layers), "cross_mask"]


def step_names(config: Config) -> tuple[list[str], list[str]]:
    """Inputs and outputs of `step.onnx`."""
    layers = config.decoder_layers
    inputs = ["ids", "positions", "past_length", "cross_mask"]
    inputs += kv_names("k", "v", layers) + kv_names("past_k", "past_v", layers)
    outputs = ["top_ids", "top_logprobs", "logsumexp", "logits"]
    return inputs, outputs + kv_names("new_k", "new_v", layers)


def _trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    names: tuple[list[str], list[str]],
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        file = Path(folder) / "graph.onnx"
        # The tracing exporter is announced as legacy; the graphs are compared with PyTorch by
        # `parity` afterwards, which is what its warnings are about.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            file,
            input_names=names[0],
            output_names=names[1],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            # Folding would transpose weights and take away their names, by which `store_as_int8`
            # finds them. ONNX Runtime folds the same things when it loads the graph.
            do_constant_folding=False,
        )
        outputs = module(*example)
        graph = onnx.load(file)
    # The exporter names sizes that it could not follow; the server wants numbers where they are fixed.
    for value, output in zip(graph.graph.output, outputs, strict=True):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in axes.get(value.name, {}):
                dim.dim_param = axes[value.name][axis]
            else:
                dim.dim_value = output.shape[axis]
    graph.producer_name, graph.producer_version = "cloister_training", ""
    graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
    return graph


def _f32_tables(graph: onnx.GraphProto) -> list[tuple[str, int]]:
    """Names and sizes of the f32 tables of a graph, wherever they stand."""
    tables = [(tensor.name, tensor) for tensor in graph.initializer]
    tables += [
        (node.name, attribute.t)
        for node in graph.node
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.TENSOR
    ]
    return [
        (name, int(np.prod(tensor.dims))) for name, tensor in tables if tensor.data_type == TensorProto.FLOAT
    ]


def store_as_int8(graph: onnx.ModelProto, held: dict[str, Quantised]) -> None:
    """Replaces the weights of `held`, by name, with int8 and scale behind Cast and Mul.

    Raises if a weight of the graph is not bit for bit the one that is held, or if a large f32 table
    is left over: the exporter then did something with a weight that is not known here.
    """
    nodes = []
    for tensor in graph.graph.initializer:
        weight = held.get(tensor.name)
        if weight is None:
            continue
        if not np.array_equal(numpy_helper.to_array(tensor), weight.weight().numpy()):
            raise ValueError(f"{tensor.name}: the traced weight is not int8 * scale")
        name = tensor.name
        scale = numpy_helper.from_array(weight.scale.numpy(), f"{name}.scale")
        tensor.CopyFrom(numpy_helper.from_array(weight.values.numpy(), f"{name}.int8"))
        graph.graph.initializer.append(scale)
        nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]))
    for node in reversed(nodes):
        graph.graph.node.insert(0, node)
    left = [name for name, size in _f32_tables(graph.graph) if size >= LARGE]
    if left:
        raise ValueError(f"left in f32: {', '.join(left)}")


def export(vision: Vision, text: TextModel, folder: Path, weights: Weights = "f32") -> None:
    """Writes `vision.onnx`, `prefix.onnx` and `step.onnx` of a folded `Vision` and a `TextModel`."""
    config = text.config
    layers, heads, width = config.decoder_layers, config.heads, config.head_width
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, Quantised] = {}
    if weights == "int8":
        # The names of the graphs' weights: `PrefixGraph` and `StepGraph` put theirs under `model`.
        held = quantised(vision) | {f"model.{name}": weight for name, weight in quantised(text).items()}
        vision, text = dequantised(vision), dequantised(text)

    def save(graph: onnx.ModelProto, name: str) -> None:
        if weights == "int8":
            store_as_int8(graph, held)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, folder / name)

    text = copy.deepcopy(text).eval()
    for module in text.modules():
        if isinstance(module, Attention):
            module.guard_rows = True

    names = vision_names()
    pixels = torch.randn(2, 1, config.image, config.image)
    graph = _trace(vision, (pixels,), names, {name: {0: "b"} for name in [*names[0], *names[1]]})
    save(graph, "vision.onnx")

    names = prefix_names(config)
    image = torch.randn(2, config.max_films, config.film_tokens, config.channels[-1])
    films = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])[:, : config.max_films]
    texts = torch.randint(0, config.vocabulary, (2, 11))
    axes: dict[str, dict[int, str]] = {"image_tokens": {0: "b"}, "film_mask": {0: "b"}}
    axes |= {name: {0: "b", 1: "s"} for name in ("text_ids", "text_mask")}
    axes |= {name: {0: "b", 2: "sx"} for name in kv_names("k", "v", layers)}
    axes["cross_mask"] = {0: "b", 1: "sx"}
    graph = _trace(PrefixGraph(text), (image, films, texts, torch.ones_like(texts)), names, axes)
    save(graph, "prefix.onnx")

    names = step_names(config)
    cross = [torch.randn(2, heads, 7, width) for _ in range(2 * layers)]
    past = [torch.randn(2, heads, 5, width) for _ in range(2 * layers)]
    lengths = torch.tensor([4, 5])
    axes = {"ids": {0: "b", 1: "n"}, "positions": {0: "b"}, "past_length": {0: "b"}}
    axes["cross_mask"] = {0: "b", 1: "sx"}
    axes |= {name: {0: "b", 2: "sx"} for name in kv_names("k", "v", layers)}
    axes |= {name: {0: "b", 2: "p"} for name in kv_names("past_k", "past_v", layers)}
    axes |= {name: {0: "b", 1: "n"} for name in names[1][:4]}
    axes |= {name: {0: "b", 2: "n"} for name in kv_names("new_k", "new_v", layers)}
    example = (torch.randint(0, 9, (2, 3)), lengths, lengths, torch.ones(2, 7, dtype=torch.long))
    graph = _trace(StepGraph(text), (*example, *cross, *past), names, axes)
    save(graph, "step.onnx")
