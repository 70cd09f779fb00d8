"""What the server relies on, on untrained weights and ONNX Runtime with one thread."""

import numpy as np
import onnx
import pytest
import torch
from conftest import Exported

from cloister_training import export, parity, quantise, tokenizer
from cloister_training.grammar import Context
from cloister_training.graphs import Array
from cloister_training.model import TextModel


@pytest.fixture(scope="module")
def graphs(exported: Exported) -> parity.Graphs:
    return parity.Graphs(exported.folder, exported.config)


def encode(exported: Exported, graphs: parity.Graphs, case: parity.Case) -> dict[str, Array]:
    given = parity.request(case, exported.tokens, exported.config)
    return graphs.encode([graphs.see(given.pixels)[0]], [given.text_ids])


@pytest.mark.parametrize("weights", ["f32", "int8"])
def test_names_types_and_shapes_are_those_of_the_readme(exported: Exported, weights: str) -> None:
    config, found = exported.config, {}
    for name in ("vision", "prefix", "step"):
        graph = onnx.load((exported.folder if weights == "f32" else exported.int8) / f"{name}.onnx")
        assert [entry.version for entry in graph.opset_import if not entry.domain] == [18]
        for value in [*graph.graph.input, *graph.graph.output]:
            kind = value.type.tensor_type
            shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
            found[f"{name}.{value.name}"] = (onnx.TensorProto.DataType.Name(kind.elem_type), shape)
    vocabulary = config.vocabulary
    assert found["vision.pixels"] == ("FLOAT", ["b", 1, 224, 224])
    assert found["vision.tokens"] == ("FLOAT", ["b", 50, 192])
    assert found["vision.pooled"] == ("FLOAT", ["b", 384])
    assert found["vision.logits"] == ("FLOAT", ["b", 9])
    assert found["vision.patch_logits"] == ("FLOAT", ["b", 49, 9])
    assert found["prefix.image_tokens"] == ("FLOAT", ["b", 4, 50, 192])
    assert found["prefix.film_mask"] == ("INT64", ["b", 4])
    assert found["prefix.text_ids"] == found["prefix.text_mask"] == ("INT64", ["b", "s"])
    assert found["prefix.cross_mask"] == found["step.cross_mask"] == ("INT64", ["b", "sx"])
    assert found["step.ids"] == ("INT64", ["b", "n"])
    assert found["step.positions"] == found["step.past_length"] == ("INT64", ["b"])
    assert found["step.top_ids"] == ("INT64", ["b", "n", 64])
    assert found["step.top_logprobs"] == ("FLOAT", ["b", "n", 64])
    assert found["step.logsumexp"] == ("FLOAT", ["b", "n"])
    assert found["step.logits"] == ("FLOAT", ["b", "n", vocabulary])
    for layer in range(config.decoder_layers):
        for part in ("k", "v"):
            assert found[f"prefix.{part}_{layer}"] == ("FLOAT", ["b", 6, "sx", 32])
            assert found[f"step.{part}_{layer}"] == ("FLOAT", ["b", 6, "sx", 32])
            assert found[f"step.past_{part}_{layer}"] == ("FLOAT", ["b", 6, "p", 32])
            assert found[f"step.new_{part}_{layer}"] == ("FLOAT", ["b", 6, "n", 32])
    assert len(found) == 5 + 5 + 6 + 4 + 12 + 4 + 6


def test_rows_of_different_length_do_not_touch_each_other(exported: Exported, graphs: parity.Graphs) -> None:
    case = parity.CASES[0]
    cross = encode(exported, graphs, case)
    both = {name: np.concatenate([value, value]) for name, value in cross.items()}
    past = graphs.empty_past(2, 6, fill=9.0)
    alone = graphs.empty_past(1, 4)
    rng = np.random.default_rng(1)
    for name in graphs.past_names:
        alone[name][:] = rng.standard_normal(alone[name].shape)
        past[name][1, :, :4] = alone[name][0]
    ids = np.array([[30, 31, 32]], dtype=np.int64)
    one = graphs.step(ids, np.array([4], dtype=np.int64), cross, alone)
    two = graphs.step(np.repeat(ids, 2, 0), np.array([0, 4], dtype=np.int64), both, past)
    assert np.abs(two["logits"][1] - one["logits"][0]).max() < 1e-4
    assert np.abs(two["logits"][0] - one["logits"][0]).max() > 1e-2


def test_padding_of_films_and_text_is_not_seen(exported: Exported, graphs: parity.Graphs) -> None:
    given = parity.request(parity.CASES[0], exported.tokens, exported.config)
    slots, mask = (
        part.numpy()
        for part in parity.film_slots(torch.from_numpy(graphs.see(given.pixels)[0]), exported.config)
    )
    texts = np.array([given.text_ids], dtype=np.int64)
    first = graphs.prefix(slots, mask, texts, np.ones_like(texts))
    dirty = slots.copy()
    dirty[:, 1:] = 50.0
    padded = np.pad(texts, ((0, 0), (0, 5)), constant_values=33)
    text_mask = np.pad(np.ones_like(texts), ((0, 0), (0, 5)))
    second = graphs.prefix(dirty, mask, padded, text_mask)
    at = np.array([0], dtype=np.int64)
    ids = np.array([[tokenizer.BOS]], dtype=np.int64)
    one, two = (graphs.step(ids, at, cross, graphs.empty_past(1)) for cross in (first, second))
    assert np.abs(one["logits"] - two["logits"]).max() < 1e-4


def test_top_tokens_and_logsumexp_agree_with_the_logits(exported: Exported, graphs: parity.Graphs) -> None:
    cross = encode(exported, graphs, parity.CASES[1])
    out = graphs.step(np.array([[1]]), np.array([0]), cross, graphs.empty_past(1))
    logits = torch.from_numpy(out["logits"])
    assert torch.allclose(torch.logsumexp(logits, -1), torch.from_numpy(out["logsumexp"]), atol=1e-5)
    values, ids = torch.log_softmax(logits, -1).topk(export.TOP)
    assert np.array_equal(ids.numpy(), out["top_ids"])
    assert np.allclose(values.numpy(), out["top_logprobs"], atol=1e-5)


def test_weights_are_stored_as_told_and_computed_in_single(exported: Exported) -> None:
    kinds = onnx.TensorProto
    for folder, kind in ((exported.folder, kinds.FLOAT), (exported.int8, kinds.INT8)):
        for name in ("vision", "prefix", "step"):
            graph = onnx.load(folder / f"{name}.onnx").graph
            big = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= quantise.LARGE]
            assert big and all(tensor.data_type == kind for tensor in big)
            assert not any("Quantize" in node.op_type or "Integer" in node.op_type for node in graph.node)


def test_patch_logits_add_up_to_the_logits_but_for_one_constant(
    exported: Exported, graphs: parity.Graphs
) -> None:
    films = np.stack([parity.phantom(film, exported.config.image) for film in range(3)])[:, None]
    logits, patches = graphs.vision.run(["logits", "patch_logits"], {"pixels": films})
    rest = logits - patches.sum(axis=1)
    assert np.abs(rest - rest[0]).max() < 1e-5 < np.abs(logits - logits[0]).max()
    assert np.abs(patches - patches.mean(axis=1, keepdims=True)).max() > 1e-5


def test_the_likeliest_token_is_not_the_one_just_read(exported: Exported, graphs: parity.Graphs) -> None:
    cross = encode(exported, graphs, parity.CASES[0])
    ids = np.arange(20, 120, dtype=np.int64)[None]
    out = graphs.step(ids, np.array([0], dtype=np.int64), cross, graphs.empty_past(1))
    assert (out["top_ids"][:, :, 0] == ids).mean() < 0.1


def test_query_films_and_context_change_the_logits(exported: Exported) -> None:
    def first_logits(case: parity.Case, text: TextModel) -> torch.Tensor:
        given = parity.request(case, exported.tokens, exported.config)
        return parity.forced(exported.vision, text, given, [tokenizer.EOS])[0]

    base = parity.Case("a", (0,), "", Context("pa"))
    others = (
        parity.Case("b", (1,), "", Context("pa")),
        parity.Case("c", (0,), "any effusion?", Context("pa")),
        parity.Case("d", (0,), "", Context("ap")),
    )
    reference = first_logits(base, exported.text)
    for other in others:
        assert float((first_logits(other, exported.text) - reference).abs().max()) > 1e-4
