import random

from tokenizers import Tokenizer

from cloister_training import grammar, tokenizer


def test_the_vocabulary_is_the_same_every_time(tokens: Tokenizer) -> None:
    assert tokenizer.build().to_str() == tokens.to_str()
    assert tokens.get_vocab_size() <= 4096


def test_special_tokens_have_the_ids_that_the_manifest_states(tokens: Tokenizer) -> None:
    assert [tokens.token_to_id(name) for name in tokenizer.SPECIAL] == list(range(len(tokenizer.SPECIAL)))


def test_drafts_come_back_unchanged(tokens: Tokenizer) -> None:
    rng = random.Random(4)
    for _ in range(300):
        query = grammar.sample_query(rng)
        drafted = grammar.draft(
            query, grammar.sample_bands(rng), rng.randint(1, 4), grammar.sample_context(rng)
        )
        ids = tokenizer.target(tokens, drafted)
        assert tokenizer.read(tokens, ids) == drafted


def test_no_text_can_name_a_special_token(tokens: Tokenizer) -> None:
    for text in ("<eos>", "a <findings> b <bos>", "<view:pa>"):
        assert min(tokenizer.encode(tokens, text)) >= len(tokenizer.SPECIAL)


def test_any_text_has_ids_and_an_empty_one_has_none(tokens: Tokenizer) -> None:
    for text in ("Žluťoučký kůň", "肺炎ですか", "\u0000\ufffd", "x" * 500):
        assert tokenizer.encode(tokens, tokenizer.clean(text))
    assert tokenizer.encode(tokens, tokenizer.clean(" \n ")) == []


def test_a_long_query_is_cut_and_the_context_stays(tokens: Tokenizer) -> None:
    context = grammar.Context("pa", "40_64", "female")
    ids = tokenizer.text_input(tokens, "zq " * 500, context)
    short = tokenizer.text_input(tokens, "", context)
    assert len(ids) == len(short) + tokenizer.MAX_QUERY_TOKENS
    assert [tokenizer.SPECIAL[token] for token in ids[-3:]] == ["<view:pa>", "<age:40_64>", "<sex:female>"]


def test_the_prefix_has_eight_rules() -> None:
    assert len(tokenizer.prefix_text().strip().splitlines()) == 8
