"""An untrained model, exported once: every property of the graphs but their wisdom holds for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from cloister_training import export, quantise, tokenizer
from cloister_training.model import Config, TextModel, Vision

torch.set_num_threads(1)


@dataclass
class Exported:
    folder: Path  # f32 graphs
    vision: Vision
    text: TextModel
    tokens: Tokenizer
    config: Config
    int8: Path  # int8 graphs, and the modules that they compute with
    rounded_vision: Vision
    rounded_text: TextModel


@pytest.fixture(scope="session")
def tokens() -> Tokenizer:
    return tokenizer.build()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tokens: Tokenizer) -> Exported:
    torch.manual_seed(3)
    config = Config(vocabulary=tokens.get_vocab_size(), channels=(8, 8, 16, 16, 192))
    vision = Vision(config)
    vision.stages(torch.randn(4, 1, 224, 224))  # batch norms that are not the identity
    vision = export.fold(vision)
    text = TextModel(config).eval()
    with torch.no_grad():
        for bias in (text.kind_bias, text.encoder_distance, text.decoder_distance):
            bias.normal_()
        text.lm_head.weight[tokenizer.EOS] *= 2.2  # drafts that end, each at another place
    folder, int8 = tmp_path_factory.mktemp("f32"), tmp_path_factory.mktemp("int8")
    export.export(vision, text, folder, "f32")
    export.export(vision, text, int8, "int8")
    return Exported(
        folder,
        vision,
        text,
        tokens,
        config,
        int8,
        quantise.dequantised(vision),
        quantise.dequantised(text),
    )
