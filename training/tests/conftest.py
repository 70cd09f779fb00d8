"""An untrained model, exported once: every property of the graphs but their wisdom holds for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from cloister_training import export, tokenizer
from cloister_training.model import Config, TextModel, Vision

torch.set_num_threads(1)


@dataclass
class Exported:
    folder: Path
    vision: Vision
    text: TextModel
    tokens: Tokenizer
    config: Config


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
    export.round_to_half(vision)
    export.round_to_half(text)
    folder = tmp_path_factory.mktemp("bundle")
    export.export(vision, text, folder)
    return Exported(folder, vision, text, tokens, config)
