"""The comparisons themselves: they hold for untrained weights, and they fail where they should."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Exported

from cloister_training import graphs, parity, tokenizer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some untrained drafts would never end; a few dozen tokens prove as much as 160."""
    monkeypatch.setattr(parity, "MAX_TOKENS", 40)
    monkeypatch.setattr(graphs, "MAX_TOKENS", 40)


@pytest.fixture(scope="module")
def f32(exported: Exported) -> parity.Graphs:
    return parity.Graphs(exported.folder, exported.config)


@pytest.fixture(scope="module")
def requests(exported: Exported) -> list[parity.Request]:
    return [parity.request(case, exported.tokens, exported.config) for case in parity.CASES]


def test_f32_graphs_are_within_1e_4_of_pytorch_at_every_position(exported: Exported) -> None:
    figures = parity.check(exported.folder, exported.vision, exported.text, exported.tokens)
    assert figures["positions"] > 200
    assert max(figures["torch_logprob"], figures["vision"]) <= parity.TOLERANCE
    assert max(figures[name] for name in ("batch_8", "n_3", "n_3_batch_8", "n_8", "n_8_batch_8")) < 1e-4


def test_int8_graphs_are_within_1e_4_of_their_rounded_modules_and_not_of_others(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = (exported.rounded_vision, exported.rounded_text, exported.tokens)
    assert parity.check(exported.int8, *rounded)["torch_logprob"] <= parity.TOLERANCE
    monkeypatch.setattr(parity, "CASES", parity.CASES[:2])
    with pytest.raises(ValueError, match="off PyTorch"):
        parity.check(exported.int8, exported.rounded_vision, exported.text, exported.tokens)
    with pytest.raises(ValueError, match="vision"):
        parity.check(exported.int8, exported.vision, exported.rounded_text, exported.tokens)


def test_a_rare_token_that_is_off_is_seen(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """No draft holds the token and no argmax moves: only the whole vocabulary shows it."""
    monkeypatch.setattr(parity, "CASES", parity.CASES[:2])
    text = copy.deepcopy(exported.text)
    with torch.no_grad():
        text.lm_head.weight[900] *= 1.01
    with pytest.raises(ValueError, match="torch_logprob"):
        parity.check(exported.folder, exported.vision, text, exported.tokens)


def test_nan_is_no_agreement(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        return torch.tensor(torch.nan)

    monkeypatch.setattr(parity, "CASES", parity.CASES[:1])
    monkeypatch.setattr(parity, "forced", broken)
    with pytest.raises(ValueError, match="nan off"):
        parity.check(exported.folder, exported.vision, exported.text, exported.tokens)


def test_a_draft_is_pytorchs_whatever_shares_its_batch(
    exported: Exported, f32: parity.Graphs, requests: list[parity.Request]
) -> None:
    image, texts = parity.look(f32, requests)[0], [one.text_ids for one in requests]
    drafts = f32.draft(image * 2, texts * 2, batch=5)
    assert len({len(one.tokens) for one in drafts}) > 1  # rows leave at different times
    for given, *same in zip(requests, drafts[:8], drafts[8:], strict=True):
        written, rows = parity.greedy(exported.vision, exported.text, given)
        assert all(one.tokens == written for one in same)
        mean = float(rows.max(dim=-1).values.mean())
        assert all(abs(one.logprob - mean) < 1e-5 for one in same)
    assert all(tokenizer.EOS not in one.tokens[:-1] for one in drafts)


def test_one_pass_reads_a_draft_as_the_steps_wrote_it(
    exported: Exported, requests: list[parity.Request]
) -> None:
    written, rows = parity.greedy(exported.vision, exported.text, requests[3])
    at_once = parity.forced(exported.vision, exported.text, requests[3], written)
    assert parity.relative(at_once, rows) < 1e-5


def test_identical_counts_drafts_that_company_changes(
    f32: parity.Graphs, requests: list[parity.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, texts = parity.look(f32, requests)[0], [one.text_ids for one in requests]
    same = parity.identical(f32, image, texts)
    assert same == dict.fromkeys(("batch_8", "n_3", "n_3_batch_8", "n_4_batch_8"), 1.0)
    step = parity.Graphs.step

    def touched(self: parity.Graphs, *arguments: object) -> dict[str, object]:
        """A row in company reads its neighbour's first answer."""
        out = step(self, *arguments)  # type: ignore[arg-type]
        out["top_ids"] = np.roll(out["top_ids"], 1, axis=0)
        return out  # type: ignore[return-value]

    monkeypatch.setattr(parity.Graphs, "step", touched)
    same = parity.identical(f32, image, texts)
    assert same["batch_8"] < 1.0 and same["n_3"] == 1.0


def test_agreement_counts_tokens_and_drafts(exported: Exported, requests: list[parity.Request]) -> None:
    config = exported.config
    equal = parity.agreement(exported.folder, exported.folder, config, requests)
    assert equal["token_agreement"] == equal["draft_agreement"] == 1.0
    assert equal["label_logit"] == equal["confidence"] == 0.0 and equal["requests"] == 8.0
    other = parity.agreement(exported.folder, exported.int8, config, requests)
    assert 0.9 < other["token_agreement"] <= 1.0
    assert other["label_logit"] > 0.0 and other["tokens"] == equal["tokens"] > 100


def test_parity_json_holds_the_rounded_modules_answers(exported: Exported, tmp_path: Path) -> None:
    file = tmp_path / "parity.json"
    parity.write(file, exported.rounded_vision, exported.rounded_text, exported.tokens)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["tolerance"] == {"label_logits": 0.002, "top_logprobs": 0.002}
    cases = content["cases"]
    assert {len(case["films"]) for case in cases} == {1, 2, 3, 4}
    assert any(not case["query"] for case in cases) and any("?" in case["query"] for case in cases)
    int8 = parity.Graphs(exported.int8, exported.config)
    for case, one in zip(cases, parity.CASES, strict=True):
        assert set(case) == {
            "name", "films", "query", "view", "age", "sex", "text_ids", "label_logits", "tokens", "draft",
            "top_ids", "top_logprobs",
        }  # fmt: skip
        given = parity.request(one, exported.tokens, exported.config)
        image, logits = parity.look(int8, [given])
        assert np.abs(logits - np.array(case["label_logits"])).max() < 1e-4
        drafted = int8.draft(image, [case["text_ids"]])[0]
        assert drafted.tokens == case["tokens"] == [ids[0] for ids in case["top_ids"]]
        assert abs(drafted.logprob - np.mean([top[0] for top in case["top_logprobs"]])) < 1e-4
