from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Exported
from onnx import numpy_helper
from torch import nn

from cloister_training import export, parity, quantise

GRAPHS = ("vision", "prefix", "step")


@pytest.fixture(scope="module")
def twin(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rounded modules as plain f32 graphs."""
    folder = tmp_path_factory.mktemp("twin")
    export.export(exported.rounded_vision, exported.rounded_text, folder, "f32")
    return folder


def test_a_rounded_weight_is_near_and_one_scale_serves_one_output_channel() -> None:
    torch.manual_seed(1)
    weight = torch.randn(12, 5, 3, 3) * torch.logspace(-3, 1, 12)[:, None, None, None]
    held = quantise.rounded(weight)
    assert held.values.dtype == torch.int8 and held.values.shape == weight.shape
    assert held.scale.shape == (12, 1, 1, 1)
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert bool((held.values.abs().amax(dim=(1, 2, 3)) == quantise.LEVELS).all())
    # Within half a step of the widest scale, but for what the clip cuts off.
    off = (held.weight() - weight).abs()
    assert bool((off[weight.abs() <= held.scale * quantise.LEVELS] <= (largest / 127 * 0.51).max()).all())
    assert bool((off.square().mean(dim=(1, 2, 3)) <= (largest[:, 0, 0, 0] / 127).square() / 8).all())


def test_the_clip_that_loses_least_is_taken() -> None:
    # Twice the values of a normal row at one far value: a full scale wastes most levels.
    row = torch.cat([torch.linspace(-1, 1, 4000), torch.tensor([1.45])])[None]
    held = quantise.rounded(row)
    plain = (row / (1.45 / 127)).round() * (1.45 / 127)
    assert float((held.weight() - row).square().sum()) < float((plain - row).square().sum())
    assert float(held.scale) < 1.45 / 127


def test_rounding_twice_is_rounding_once_and_nothing_is_rounded_in_the_product() -> None:
    torch.manual_seed(2)
    for shape in ((64, 192), (1024, 192), (24, 1, 5, 5), (3, 700)):
        held = quantise.rounded(torch.randn(shape))
        again = quantise.rounded(held.weight())
        assert torch.equal(held.values, again.values) and torch.equal(held.scale, again.scale)
        assert torch.equal(held.weight().double(), held.values.double() * held.scale.double())


def test_a_row_of_zeros_stays_and_a_weight_that_is_not_finite_is_refused() -> None:
    weight = torch.randn(3, 50)
    weight[1] = 0.0
    assert bool((quantise.rounded(weight).weight()[1] == 0.0).all())
    weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        quantise.rounded(weight)


def test_every_large_weight_is_rounded_and_small_tables_are_not(exported: Exported) -> None:
    names = set(quantise.quantised(exported.text))
    assert {"embed.weight", "lm_head.weight", "place", "encoder.0.attention.query.weight"} <= names
    assert not names & {"kind_bias", "encoder_distance", "label", "film", "request", "decoder_norm.weight"}
    vision = set(quantise.quantised(exported.vision))
    assert {"stages.0.conv.weight", "stages.6.first.conv.weight", "head.weight"} <= vision
    for module, rounded in ((exported.text, names), (exported.vision, vision)):
        for name, weight in module.named_parameters():
            assert name in rounded or weight.numel() < quantise.LARGE
    # The given module is left alone, its copy is not.
    assert not torch.equal(exported.text.embed.weight, exported.rounded_text.embed.weight)
    assert torch.equal(exported.text.label, exported.rounded_text.label)


def test_the_graphs_hold_int8_and_scale_of_exactly_the_rounded_weights(exported: Exported) -> None:
    modules = (exported.rounded_vision, exported.rounded_text, exported.rounded_text)
    stored = set()
    for graph, module in zip(GRAPHS, modules, strict=True):
        held = onnx.load(exported.int8 / f"{graph}.onnx").graph
        tables = {tensor.name: numpy_helper.to_array(tensor) for tensor in held.initializer}
        weights = dict(module.named_parameters())
        for name, values in tables.items():
            if name.endswith(".int8"):
                weight = values.astype(np.float32) * tables[name.replace(".int8", ".scale")]
                original = name.removesuffix(".int8").removeprefix("model.")
                assert np.array_equal(weight, weights[original].detach().numpy()), name
                stored.add((module is exported.rounded_vision, original))
            assert values.dtype != np.float32 or values.size < quantise.LARGE, name
    expected = {(True, name) for name in quantise.quantised(exported.vision)}
    expected |= {(False, name) for name in quantise.quantised(exported.text)}
    assert stored == expected
    small, plain = (
        sum((folder / f"{graph}.onnx").stat().st_size for graph in GRAPHS)
        for folder in (exported.int8, exported.folder)
    )
    assert small < 0.32 * plain


def test_onnx_runtime_folds_cast_and_mul_on_loading(exported: Exported, tmp_path: Path) -> None:
    """So int8 costs nothing per step, and the graph that runs is the f32 graph's twin."""
    for graph in GRAPHS:
        loaded = []
        for folder in (exported.folder, exported.int8):
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # it warns that the file is for this processor only
            options.optimized_model_filepath = str(tmp_path / f"{graph}.onnx")
            source = str(folder / f"{graph}.onnx")
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            loaded.append(onnx.load(tmp_path / f"{graph}.onnx").graph)
        plain, small = loaded
        large = {tensor.name for tensor in small.initializer if np.prod(tensor.dims) >= quantise.SMALLEST}
        assert len(large) > 5
        assert not any(tensor.data_type == onnx.TensorProto.INT8 for tensor in small.initializer)
        # A norm's weight is a vector and is multiplied; a matrix never is, and nothing else is done
        # to a weight before its product.
        matrices = {tensor.name for tensor in small.initializer if len(tensor.dims) > 1} & large
        for node in small.node:
            if node.op_type in ("Cast", "Mul", "Transpose", "DequantizeLinear"):
                assert not matrices & set(node.input), node.name
        assert [node.op_type for node in small.node] == [node.op_type for node in plain.node]


def test_int8_graphs_answer_as_f32_graphs_of_the_rounded_weights_bit_for_bit(
    exported: Exported, twin: Path
) -> None:
    given = parity.request(parity.CASES[3], exported.tokens, exported.config)
    drafts = [list(range(20, 60))]
    answers = []
    for folder in (exported.int8, twin, exported.folder):
        graphs = parity.Graphs(folder, exported.config)
        image, logits = parity.look(graphs, [given])
        cross = graphs.encode(image, [given.text_ids])
        answers.append((logits, graphs.teacher_forced(cross, drafts, 8)[0]))
    for one, two, other in zip(*answers, strict=True):
        assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_large_weight_that_would_stay_in_f32_stops_the_export(exported: Exported, twin: Path) -> None:
    held = {f"model.{name}": weight for name, weight in quantise.quantised(exported.text).items()}
    with pytest.raises(ValueError, match="is not int8"):  # f32 weights that nobody rounded
        export.store_as_int8(onnx.load(exported.folder / "step.onnx"), held)
    del held["model.lm_head.weight"]
    with pytest.raises(ValueError, match=r"left in f32: model\.lm_head\.weight"):
        export.store_as_int8(onnx.load(twin / "step.onnx"), held)


def test_exporting_a_rounded_module_writes_the_same_graphs(exported: Exported, tmp_path: Path) -> None:
    export.export(exported.rounded_vision, exported.rounded_text, tmp_path, "int8")
    for graph in GRAPHS:
        assert (tmp_path / f"{graph}.onnx").read_bytes() == (exported.int8 / f"{graph}.onnx").read_bytes()


def test_a_layer_on_its_own_and_one_with_few_values() -> None:
    assert list(quantise.quantised(nn.Linear(40, 2))) == ["weight"]
    assert quantise.quantised(nn.Linear(20, 3)) == {}
    assert isinstance(quantise.dequantised(nn.Linear(40, 2)), nn.Linear)
