"""The network: a convolutional film encoder and a small T5-style encoder-decoder.

Before it: `data` gives pixels, `tokenizer` gives ids. After it: `train` fits it, `export` writes
its three parts (`vision`, `prefix`, `step`) as graphs.

What is worth knowing:
- A film becomes 49 patch tokens and one evidence token, whose first entries are the film's
  calibrated label logits. `prefix` takes the maximum of these over the films (the study's label
  logits) and gives the decoder one token per label, in which the probability stands as a
  thermometer over the grammar's bands. So the words follow the probabilities by construction; the
  patch tokens are there for a later version.
- The query's few tokens are lost among hundreds of others, and a short run does not find them. So
  the encoder also gets their mean as one request token, and as another the sum of the context and
  of how many films there are: counted over hundreds of patches, two films looked like three.
- The decoder's output matrix is not tied to its embeddings: tied and untrained, the likeliest
  token is the input token, and a parity test on that proves nothing.
- Nothing depends on batch mates: no batch statistics at inference, no per-tensor activation scale.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .grammar import LABELS, MAX_ABSENT, MOST_FILMS, UPPER_EDGES
from .tokenizer import QUERY, SPECIAL, VOCABULARY

MASKED = -1e9
# How sharply a label's token changes where the words change: at 16 the two words are equally likely
# only within a few hundredths of a logit around an edge.
STEEPNESS = 16.0


@dataclass(frozen=True)
class Config:
    """Sizes. Stored with the checkpoint; the exported shapes follow from it."""

    image: int = 224
    channels: tuple[int, ...] = (24, 32, 96, 160, 192)
    patches: int = 49
    labels: int = len(LABELS)
    max_films: int = MOST_FILMS
    width: int = 192
    heads: int = 6
    inner: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 3
    vocabulary: int = VOCABULARY
    buckets: int = 32
    max_distance: int = 128
    max_positions: int = 512

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def film_tokens(self) -> int:
        return self.patches + 1

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @staticmethod
    def of(entries: dict[str, Any]) -> Config:
        """From `as_dict`, as a checkpoint holds it."""
        return Config(**{**entries, "channels": tuple(entries["channels"])})


class ConvUnit(nn.Module):
    """Convolution, batch norm, ReLU. `export` folds the norm into the convolution."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=True)
        self.norm: nn.Module = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvUnit(width, width, 3, 1)
        self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=True)
        self.norm: nn.Module = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.conv(self.first(x))))


class Vision(nn.Module):
    """pixels `[b,1,H,W]` -> tokens `[b,T,D]`, pooled `[b,P]`, label logits `[b,L]`, and the share of
    each patch in these logits `[b,T-1,L]`: summed over the patches it is the logits but for one
    constant per label, because pooling and head are linear."""

    slope: Tensor
    shift: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.stages = nn.Sequential(
            ConvUnit(1, c[0], 5, 2),
            ConvUnit(c[0], c[1], 3, 2),
            ConvUnit(c[1], c[2], 3, 2),
            ConvUnit(c[2], c[3], 3, 2),
            Residual(c[3]),
            ConvUnit(c[3], c[4], 3, 2),
            Residual(c[4]),
        )
        self.attention = nn.Linear(c[4], 4)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * c[4], config.labels)
        # Platt scaling, fitted on held-out patients: probability = sigmoid(slope * logit + shift).
        self.register_buffer("slope", torch.ones(config.labels))
        self.register_buffer("shift", torch.zeros(config.labels))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = self.stages(pixels)
        patches = grid.flatten(2).transpose(1, 2)
        weights = torch.softmax(self.attention(patches), dim=1).mean(dim=2, keepdim=True)
        pooled = torch.cat([patches.mean(dim=1), (weights * patches).sum(dim=1)], dim=1)
        logits = self.head(self.dropout(pooled)) * self.slope + self.shift
        evidence = functional.pad(logits, (0, patches.shape[2] - logits.shape[1])).unsqueeze(1)
        mean_part, weighted_part = self.head.weight.chunk(2, dim=1)
        by_patch = patches @ mean_part.t() / patches.shape[1] + weights * (patches @ weighted_part.t())
        return torch.cat([patches, evidence], dim=1), pooled, logits, by_patch * self.slope


class Norm(nn.Module):
    """RMS norm, as in T5: no mean, no shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    """Multi-head attention with an additive bias.

    `guard_rows` repeats the first query row, so that a product never has a single row: ONNX
    Runtime's one-row kernel sums in another order than the others, and n = 1 would then differ
    from n = 3 in the last bits.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.guard_rows = False

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, self.head_width)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.key(x)), self.split(self.value(x))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        queries = self.split(self.query(x)) * (self.head_width**-0.5)
        if self.guard_rows:
            queries = torch.cat([queries, queries[:, :, :1]], dim=2)
            bias = torch.cat([bias, bias[:, :, :1]], dim=2)
        weights = torch.softmax(queries @ keys.transpose(2, 3) + bias, dim=-1)
        mixed = weights @ values
        if self.guard_rows:
            mixed = mixed[:, :, :-1]
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with a ReLU between."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.inner, bias=False)
        self.down = nn.Linear(config.inner, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.relu(self.up(x)))


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1, self.attention = Norm(config.width), Attention(config)
        self.norm2, self.forward_part = Norm(config.width), FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        inside = self.norm1(x)
        keys, values = self.attention.keys_values(inside)
        x = x + self.attention.attend(inside, keys, values, bias)
        return x + self.forward_part(self.norm2(x))


class DecoderLayer(nn.Module):
    """Pre-norm self-attention over past and new tokens, cross-attention, feed-forward."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1, self.own = Norm(config.width), Attention(config)
        self.norm2, self.cross = Norm(config.width), Attention(config)
        self.norm3, self.forward_part = Norm(config.width), FeedForward(config)

    def forward(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor],
        cross: tuple[Tensor, Tensor],
        own_bias: Tensor,
        cross_bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inside = self.norm1(x)
        keys, values = self.own.keys_values(inside)
        all_keys, all_values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.own.attend(inside, all_keys, all_values, own_bias)
        x = x + self.cross.attend(self.norm2(x), cross[0], cross[1], cross_bias)
        return x + self.forward_part(self.norm3(x)), keys, values


def relative_bucket(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """T5's buckets for distances >= 0: exact when near, logarithmic when far."""
    exact = buckets // 2
    far = (
        exact
        + (
            torch.log(distance.clamp(min=1).float() / exact)
            / math.log(max_distance / exact)
            * (buckets - exact)
        ).long()
    )
    return torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class TextModel(nn.Module):
    """The encoder-decoder; `prefix` and `step` are what the server runs."""

    film_code: Tensor
    kinds: Tensor
    buckets: Tensor
    edges: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Embedding(config.vocabulary, width)
        self.patch = nn.Linear(config.channels[-1], width)
        self.place = nn.Parameter(torch.randn(config.film_tokens, width) * 0.02)
        self.film = nn.Parameter(torch.randn(config.max_films, width) * 0.02)
        self.label = nn.Parameter(torch.randn(config.labels, width) * 0.3)
        self.thermometer = nn.Linear(5, width)
        self.film_evidence = nn.Linear(config.labels, width)
        self.asked = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.context = nn.Linear(width, width)
        self.request = nn.Parameter(torch.randn(2, width) * 0.3)
        self.count = nn.Parameter(torch.randn(config.max_films, width) * 0.3)
        # Where the grammar changes its words, per label, as logits; set before the text training.
        start = torch.tensor((MAX_ABSENT, *UPPER_EDGES)).logit()
        self.register_buffer("edges", start.repeat(config.labels, 1))
        self.kind_bias = nn.Parameter(torch.zeros(9, config.heads))
        self.encoder_distance = nn.Parameter(torch.zeros(2 * config.buckets, config.heads))
        self.decoder_distance = nn.Parameter(torch.zeros(config.buckets, config.heads))
        table = relative_bucket(torch.arange(config.max_positions), config.buckets, config.max_distance)
        self.register_buffer("buckets", table, persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = Norm(width)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = Norm(width)
        self.lm_head = nn.Linear(width, config.vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(weight, std=0.02)
        nn.init.normal_(self.embed.weight, std=0.3)

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def set_edges(self, edges: list[tuple[float, float, float, float]]) -> None:
        """Gives the encoder the probabilities at which the words change."""
        self.edges.copy_(torch.tensor(edges).logit())

    def label_tokens(self, image_tokens: Tensor, film_mask: Tensor) -> Tensor:
        """One token per label from the maximum over the films of its logit."""
        evidence = image_tokens[:, :, -1, : self.config.labels]
        hidden = (1.0 - film_mask.to(evidence.dtype)).unsqueeze(2) * MASKED
        logits = (evidence + hidden).max(dim=1).values.clamp(-12.0, 12.0).unsqueeze(2)
        steps = torch.sigmoid((logits - self.edges) * STEEPNESS)
        return self.thermometer(torch.cat([steps, logits / 4.0], dim=2)) + self.label

    def request_tokens(
        self, film_mask: Tensor, text_ids: Tensor, text_mask: Tensor, embedded: Tensor
    ) -> Tensor:
        """What is asked (mean over the query's tokens), and the context (sum of its three) with the
        number of films."""
        context = ((text_ids > QUERY) & (text_ids < len(SPECIAL))).long() * text_mask
        begun = (torch.cumsum((text_ids == QUERY).long(), dim=1) > 0).long()
        query = begun * text_mask * (1 - context)
        query = query.to(embedded.dtype).unsqueeze(2)
        # <query> itself is counted, so that an empty query has a mean too.
        asked = self.asked((embedded * query).sum(dim=1) / query.sum(dim=1).clamp(min=1.0))
        about = self.context((embedded * context.to(embedded.dtype).unsqueeze(2)).sum(dim=1))
        counts = torch.arange(1, self.config.max_films + 1)
        given = film_mask.sum(dim=1, keepdim=True) == counts
        about = about + given.to(embedded.dtype) @ self.count
        return torch.stack([asked, about], dim=1) + self.request

    def film_part(self, image_tokens: Tensor, places: Tensor | None) -> Tensor:
        films = image_tokens.shape[1]
        patches = self.patch(image_tokens[:, :, :-1])
        evidence = self.film_evidence(image_tokens[:, :, -1:, : self.config.labels].clamp(-12.0, 12.0) / 4.0)
        place = self.place if places is None else self.place[places]
        tokens = torch.cat([patches, evidence], dim=2) + place
        return (tokens + self.film[:films].unsqueeze(1)).flatten(1, 2)

    def encoder_bias(self, image: int, texts: Tensor, mask: Tensor) -> Tensor:
        """Bias `[b,heads,Sx,Sx]`: by the kinds of the two tokens, and by distance within text."""
        labels = self.config.labels + 2
        kinds = torch.cat(
            [
                torch.zeros(image, dtype=torch.long),
                torch.ones(labels, dtype=torch.long),
                torch.full_like(texts[0], 2),
            ]
        )
        places = torch.cumsum(
            torch.cat([torch.zeros(image + labels, dtype=torch.long), torch.ones_like(texts[0])]), dim=0
        )
        by_kind = self.kind_bias[kinds.unsqueeze(1) * 3 + kinds.unsqueeze(0)]
        apart = places.unsqueeze(0) - places.unsqueeze(1)
        bucket = self.buckets[apart.abs().clamp(max=self.config.max_positions - 1)]
        bucket = bucket + (apart > 0).long() * self.config.buckets
        text = (kinds == 2).to(by_kind.dtype)
        within = (text.unsqueeze(1) * text.unsqueeze(0)).unsqueeze(2)
        bias = (by_kind + self.encoder_distance[bucket] * within).permute(2, 0, 1).unsqueeze(0)
        return bias + (1.0 - mask.to(bias.dtype)).unsqueeze(1).unsqueeze(2) * MASKED

    def prefix(
        self,
        image_tokens: Tensor,
        film_mask: Tensor,
        text_ids: Tensor,
        text_mask: Tensor,
        places: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Runs once per study: cross-attention keys and values per decoder layer, and their mask.

        `places` names the film tokens that are given, evidence last; all of them if absent
        (training leaves patches out).
        """
        per_film = self.config.film_tokens if places is None else places.shape[0]
        films = self.film_part(image_tokens, places)
        labels = self.label_tokens(image_tokens, film_mask)
        embedded = self.embed(text_ids)
        labels = torch.cat([labels, self.request_tokens(film_mask, text_ids, text_mask, embedded)], dim=1)
        x = torch.cat([films, labels, embedded], dim=1)
        film_places = film_mask.unsqueeze(2).expand(-1, -1, per_film).flatten(1)
        mask = torch.cat([film_places, torch.ones_like(labels[:, :, 0], dtype=torch.long), text_mask], 1)
        bias = self.encoder_bias(image_tokens.shape[1] * per_film, text_ids, mask)
        for layer in self.encoder:
            x = layer(x, bias)
        x = self.encoder_norm(x)
        pairs = [layer.cross.keys_values(x) for layer in self.decoder_layers()]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs], mask

    def decoder_bias(self, count: int, past: int, positions: Tensor, past_length: Tensor) -> Tensor:
        """Bias `[b,heads,n,past+n]` over past places (valid below `past_length`) and new ones."""
        offsets = torch.arange(count)
        queries = positions.unsqueeze(1) + offsets
        places = torch.arange(past)
        old = queries.unsqueeze(2) - places
        new = (offsets.unsqueeze(1) - offsets).unsqueeze(0).expand(positions.shape[0], -1, -1)
        apart = torch.cat([old, new], dim=2)
        valid_old = (places.unsqueeze(0) < past_length.unsqueeze(1)).unsqueeze(1).expand(-1, count, -1)
        valid = torch.cat([valid_old, new >= 0], dim=2)
        bucket = self.buckets[apart.clamp(0, self.config.max_positions - 1)]
        bias = self.decoder_distance[bucket].permute(0, 3, 1, 2)
        return bias + (1.0 - valid.to(bias.dtype)).unsqueeze(1) * MASKED

    def step(
        self,
        ids: Tensor,
        positions: Tensor,
        cross_mask: Tensor,
        cross: list[tuple[Tensor, Tensor]],
        past: list[tuple[Tensor, Tensor]],
        past_length: Tensor,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Next-token logits `[b,n,V]` for n new tokens, and their keys and values per layer."""
        x = self.embed(ids)
        own_bias = self.decoder_bias(ids.shape[1], past[0][0].shape[2], positions, past_length)
        cross_bias = (1.0 - cross_mask.to(x.dtype)).unsqueeze(1).unsqueeze(2) * MASKED
        cross_bias = cross_bias.expand(-1, -1, ids.shape[1], -1)
        keys, values = [], []
        for layer, layer_past, layer_cross in zip(self.decoder, past, cross, strict=True):
            x, key, value = layer(x, layer_past, layer_cross, own_bias, cross_bias)
            keys.append(key)
            values.append(value)
        return self.lm_head(self.decoder_norm(x)), keys, values

    def no_past(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """The past before the first token: no places at all."""
        empty = torch.zeros(batch, self.config.heads, 0, self.config.head_width)
        return [(empty, empty) for _ in self.decoder]

    def forward(
        self,
        image_tokens: Tensor,
        film_mask: Tensor,
        text_ids: Tensor,
        text_mask: Tensor,
        ids: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits: `ids` starts with <bos>."""
        keys, values, mask = self.prefix(image_tokens, film_mask, text_ids, text_mask, places)
        start = torch.zeros(ids.shape[0], dtype=torch.long)
        cross = list(zip(keys, values, strict=True))
        return self.step(ids, start, mask, cross, self.no_past(ids.shape[0]), start)[0]
