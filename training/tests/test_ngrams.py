import json
import random
from itertools import takewhile
from pathlib import Path

import pytest
from conftest import Exported
from tokenizers import Tokenizer

from cloister_training import ngrams, parity, tokenizer


@pytest.fixture(scope="module")
def table(tokens: Tokenizer) -> ngrams.Table:
    return ngrams.build(tokens, samples=4000)


def test_the_table_is_sorted_bounded_and_the_same_every_time(tokens: Tokenizer, tmp_path: Path) -> None:
    table = ngrams.build(tokens, seed=7, samples=500)
    assert table == ngrams.build(tokens, seed=7, samples=500)
    assert table != ngrams.build(tokens, seed=8, samples=50)
    pairs = [tuple(row[:2]) for row in table["next"]]
    assert pairs == sorted(set(pairs)) and pairs[0] == (tokenizer.BOS, tokenizer.FINDINGS)
    assert 0 < len(pairs) <= ngrams.MAX_ROWS
    assert all(0 <= token < tokens.get_vocab_size() for row in table["next"] for token in row)
    ngrams.write(tmp_path / "ngrams.json", table)
    assert json.loads((tmp_path / "ngrams.json").read_text(encoding="utf-8")) == table


def test_the_commonest_next_token_is_kept_and_the_commonest_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = [[1, 3, 40, 50], [1, 3, 40, 51], [1, 3, 40, 51], [1, 3, 60, 61, 62]]
    table = ngrams.of(drafts)
    assert table == {"order": 3, "next": [[1, 3, 40], [3, 40, 51], [3, 60, 61], [60, 61, 62]]}
    assert ngrams.of([[1, 3, 60], [1, 3, 40]])["next"] == [[1, 3, 40]]  # equally common
    monkeypatch.setattr(ngrams, "MAX_ROWS", 2)
    assert ngrams.of(drafts)["next"] == [[1, 3, 40], [3, 40, 51]]


def test_guesses_follow_each_other_and_stop_where_nothing_is_known() -> None:
    known = ngrams.lookup(ngrams.of([[tokenizer.BOS, tokenizer.FINDINGS, 40, 50, tokenizer.EOS]]))
    assert ngrams.guesses(known, [tokenizer.BOS], 2) == [tokenizer.FINDINGS, 40]
    assert ngrams.guesses(known, [tokenizer.BOS, tokenizer.FINDINGS, 40], 5) == [50, tokenizer.EOS]
    assert ngrams.guesses(known, [tokenizer.BOS, tokenizer.FINDINGS, 41], 5) == []
    assert ngrams.guesses(known, [tokenizer.BOS], 0) == []


def test_the_table_predicts_most_tokens_of_fresh_drafts(tokens: Tokenizer, table: ngrams.Table) -> None:
    known, rng = ngrams.lookup(table), random.Random(99)
    right = total = calls = 0
    for _ in range(300):
        draft = ngrams.sample(tokens, rng)
        right += sum(ngrams.guesses(known, draft[:at], 1) == [draft[at]] for at in range(1, len(draft)))
        total += len(draft) - 1
        at = 1
        while at < len(draft):  # as draft-and-verify at n = 3 goes through it
            guessed = zip(ngrams.guesses(known, draft[:at], 2), draft[at:], strict=False)
            at += 1 + len(list(takewhile(lambda pair: pair[0] == pair[1], guessed)))
            calls += 1
    print(f"predicted {right / total:.3f} of {total} tokens; {total / calls:.2f} tokens a call at n = 3")
    assert right / total > 0.6
    assert total / calls > 1.8


def test_verified_guesses_change_no_token(exported: Exported, table: ngrams.Table) -> None:
    """With the grammar's table, whose guesses an untrained model refuses, and with one of the drafts
    themselves, whose guesses it mostly takes."""
    graphs = parity.Graphs(exported.int8, exported.config)
    given = [parity.request(case, exported.tokens, exported.config) for case in parity.CASES]
    image, texts = parity.look(graphs, given)[0], [one.text_ids for one in given]
    calls = 0
    step = graphs.step_graph

    class Counting:
        def run(self, *arguments: object) -> object:
            nonlocal calls
            calls += 1
            return step.run(*arguments)

    graphs.step_graph = Counting()
    alone = graphs.draft(image, texts, batch=1)
    plain_calls, own = calls, ngrams.of([tokenizer.BOS, *one.tokens] for one in alone)
    assert plain_calls == sum(len(one.tokens) for one in alone)
    for guess, batch in ((table, 1), (own, 1), (own, 8)):
        calls = 0
        again = graphs.draft(image, texts, batch, 3, guess)
        assert [one.tokens for one in again] == [one.tokens for one in alone]
        assert all(abs(one.logprob - two.logprob) < 1e-5 for one, two in zip(again, alone, strict=True))
        if guess is own and batch == 1:
            assert calls < 0.7 * plain_calls
