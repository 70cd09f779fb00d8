"""A clerk writes what the grammar says, or errs in a known way, in place of the trained graphs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Exported
from PIL import Image

from cloister_training import data, grammar, tokenizer, train
from cloister_training.crossfit import Folds
from cloister_training.evaluation import draft_tables, drafts
from cloister_training.evaluation.desk import REPORT, Answered, Desk, Plan
from cloister_training.evaluation.drafts import CUTS, Sizes
from cloister_training.evaluation.figures import Facts, Figures
from cloister_training.grammar import LABELS, Band, Context, Draft, Query
from cloister_training.graphs import Drafted

SIZES = Sizes(None, 10, 12, 4, 8, 2, 1)
FILMS = 12


class Clerk(Desk):
    """Writes the plan, after `err` has had a hand in it."""

    def __init__(self, *arguments: object, err: Callable[[Desk, Plan], Draft]) -> None:
        super().__init__(*arguments)
        self.err = err
        self.seen[:, -1, : self.labels] = np.random.default_rng(4).normal(0, 2.5, (FILMS, self.labels))
        self.dark[:, -1, : self.labels] = -4.0

    def write(self, some: Sequence[Plan]) -> list[Drafted]:
        return [Drafted(tokenizer.target(self.tokens, self.err(self, plan)), -0.01) for plan in some]


@pytest.fixture(scope="module")
def case(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[data.Film], Folds]:
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(1)
    films = []
    for number in range(FILMS):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(path)
        labels = tuple(int(number % 2 == 0 and (number + at) % 3 == 0) for at in range(len(LABELS)))
        context = Context("pa" if number % 3 else "ap", "40_64", "female")
        films.append(data.Film(path, f"p{number // 2}", labels, context))
    places = [number // 2 % 2 for number in range(FILMS)]
    logits = torch.randn(FILMS, len(LABELS))
    return films, Folds(places, logits, [exported.vision, exported.vision], logits)


def result_of(exported: Exported) -> train.Result:
    vision, text, tokens = exported.vision, exported.text, exported.tokens
    return train.Result(exported.config, vision, text, tokens, [0.5] * len(LABELS), 0.4)


def as_planned(_: Desk, plan: Plan) -> Draft:
    return plan.wanted


def run(
    exported: Exported, case: tuple[list[data.Film], Folds], err: Callable[[Desk, Plan], Draft] = as_planned
) -> tuple[Figures, Facts]:
    result = result_of(exported)
    clerk = Clerk(*case, result, exported.int8, err=err)
    return drafts.measured(clerk, result, SIZES, lambda _: None)


def values(found: Figures, prefix: str) -> dict[str, float]:
    return {key: figure["value"] for key, figure in found.items() if key.startswith(prefix)}


def test_a_clerk_who_writes_the_grammar_is_right_everywhere(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    found, facts = run(exported, case)
    for key, value in values(found, "agreement.").items():
        assert value == (0 if key.endswith("below_threshold") else 1), key
    assert values(found, "query.") == {"query.pairs.as_the_grammar": 1, "query.pairs.changed": 1}
    assert set(values(found, "paraphrase.").values()) == {0}
    assert facts["drafts_wrong"] == []
    for key, value in values(found, "label_f1.draft.").items():
        assert value == found[key.replace(".draft.", ".grammar.")]["value"]
    # A share of one is not known to be one for ever.
    assert found["query.pairs.as_the_grammar"]["low"] < 1


def test_a_clerk_who_never_looks_at_the_film_is_found_out(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    def blind(desk: Desk, plan: Plan) -> Draft:
        bands = [Band.PROBABLE, *[Band.ABSENT] * (len(LABELS) - 1)]
        return grammar.draft(plan.asked.query, bands, len(plan.asked.image[1]), plan.asked.context)

    found, _ = run(exported, case, blind)
    assert set(values(found, "image.").values()) == {0}
    assert found["agreement.report.drafts"]["value"] < 0.2
    seeing, _ = run(exported, case)
    assert seeing["image.zero_pixels.labels_changed"]["value"] == 1
    assert seeing["image.other_patient.labels_changed"]["value"] > 0.5


def test_a_clerk_who_never_reads_the_query_is_found_out(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    def deaf(desk: Desk, plan: Plan) -> Draft:
        return desk.plan(replace(plan.asked, query=REPORT)).wanted

    found, facts = run(exported, case, deaf)
    assert found["paraphrase.image_present.trained"]["value"] == 0  # a report speaks of every finding
    assert found["agreement.report.drafts"]["value"] == 1
    assert found["agreement.question_one.drafts"]["value"] == 0
    assert found["agreement.question_no_head.findings"]["value"] == 0  # speaks of findings not asked for
    assert found["query.pairs.as_the_grammar"]["value"] < 0.1
    assert found["query.pairs.changed"]["value"] == 0
    assert facts["drafts_wrong"]


def test_a_wording_that_changes_the_answer_is_counted(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    def touchy(desk: Desk, plan: Plan) -> Draft:
        query = plan.asked.query
        if query.text.startswith(("rule out", "are there findings")):
            return grammar.draft(query, [Band.CONSISTENT] * len(LABELS), 1, plan.asked.context)
        return plan.wanted

    found, _ = run(exported, case, touchy)
    trained, unseen = (found[f"paraphrase.image_removed.{name}"]["value"] for name in ("trained", "unseen"))
    assert trained == pytest.approx(1 / len(grammar.QUESTIONS))
    assert unseen == pytest.approx(1 / len(grammar.HELD_OUT_QUESTIONS))
    assert found["paraphrase.image_removed.any_flip"]["value"] == 1


def test_no_answer_is_no_steady_answer(exported: Exported, case: tuple[list[data.Film], Folds]) -> None:
    found, _ = run(exported, case, lambda *_: Draft("Something else.", ""))
    assert set(values(found, "paraphrase.").values()) == {1}
    # With nothing said, F1 is 0; how far above it other films would have been is not 0.
    nothing = found["label_f1.draft.micro_uncertain_positive"]
    assert nothing["value"] == nothing["low"] == 0 < nothing["high"]


def test_a_wrong_view_is_counted_where_nothing_else_is_wrong(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    def lateral(desk: Desk, plan: Plan) -> Draft:
        return grammar.draft(plan.asked.query, plan.bands, len(plan.asked.image[1]), Context("lateral"))

    found, _ = run(exported, case, lateral)
    assert found["agreement.report.opening"]["value"] == found["agreement.report.drafts"]["value"] == 0
    assert found["agreement.report.bands"]["value"] == 1


def test_the_image_is_taken_away_as_the_card_says(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    desk = Desk(*case, result_of(exported), exported.int8)
    pixels = torch.zeros(1, 1, exported.config.image, exported.config.image)
    dark, blank = (desk.tokens_of(desk.about(0, image=image).image) for image in ("dark", "blank"))
    with torch.no_grad():
        assert np.allclose(dark[0], exported.vision(pixels)[0][0].numpy(), atol=1e-5)
    assert not blank.any()
    film = case[0][3]
    with torch.no_grad():
        seen = exported.vision(data.load([film], exported.config.image))[0].numpy()
    assert np.allclose(desk.tokens_of(desk.about(3).image), seen, atol=1e-4)
    # Half of everything: every label is possible.
    assert set(desk.bands_of(("blank", (0,)))) == {Band.POSSIBLE}


def test_a_desk_writes_what_the_graphs_write_and_asks_once(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    desk = Desk(*case, result_of(exported), exported.int8)
    asked = [desk.about(2), desk.about(1, Query("any mass?", (8,))), desk.about(2)]
    answers = desk.ask(asked)
    assert len(desk.answers) == 2
    assert [one.asked for one in answers] == asked
    for one in answers:
        text = tokenizer.text_input(exported.tokens, one.asked.query.text, one.asked.context)
        alone = desk.graphs.draft([desk.tokens_of(one.asked.image)], [text])[0]
        assert one.draft == tokenizer.read(exported.tokens, alone.tokens)
        assert one.confidence == pytest.approx(np.exp(alone.logprob), rel=1e-3)


def test_an_impression_states_what_it_does_not_leave_open() -> None:
    bands = [Band.ABSENT] * len(LABELS)
    bands[0], bands[4], bands[7], bands[8] = (
        Band.CONSISTENT,
        Band.NOT_EXCLUDED,
        Band.POSSIBLE,
        Band.PROBABLE,
    )
    draft = grammar.full_report(bands, 1, Context("pa"))
    one = Answered(None, draft, draft, tuple(bands), 1.0)  # type: ignore[arg-type]
    assert one.impression == {"pneumonia", "nodule", "mass"}
    assert one.stated["effusion"] == Band.NOT_EXCLUDED


def test_f1_by_hand() -> None:
    predicted = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    truth = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], dtype=bool)
    one = np.ones((1, 4))
    assert drafts.f1(predicted, truth)(one)[0] == pytest.approx(6 / 9)
    assert drafts.f1(predicted[:, [1]], truth[:, [1]])(one)[0] == pytest.approx(2 / 3)
    assert drafts.macro_f1(predicted, truth)(one)[0] == pytest.approx(2 / 3)
    # The rarer label weighs as much in the mean over labels: it is missed here.
    predicted[3, 1] = False
    assert drafts.f1(predicted, truth)(one)[0] == pytest.approx(4 / 8)
    assert drafts.macro_f1(predicted, truth)(one)[0] == pytest.approx(1 / 3)
    # Drawn twice, a film counts twice.
    assert drafts.f1(predicted, truth)(np.array([[2.0, 0, 0, 0]]))[0] == 1


def test_uncertain_words_count_as_the_card_says() -> None:
    assert Band.NOT_EXCLUDED in CUTS["uncertain_positive"] and Band.ABSENT not in CUTS["uncertain_positive"]
    assert CUTS["uncertain_negative"] == {Band.PROBABLE, Band.CONSISTENT}


def test_the_tables_hold_every_row_that_was_measured(
    exported: Exported, case: tuple[list[data.Film], Folds]
) -> None:
    found, facts = run(exported, case)
    text = draft_tables.draft_tables(found, facts)
    tables = (draft_tables.F1_ROWS, draft_tables.KINDS, draft_tables.REMOVED, draft_tables.SHOWN)
    for title in (title for titles in tables for title in titles.values()):
        assert f"| {title} |" in text
    assert "nan" not in text
    measured = {key.split(".")[1] for key in found if key.startswith("agreement.")}
    assert measured == draft_tables.KINDS.keys()
