"""The model card. Its first line says where the sentences come from.

Before it: `evaluate` gives figures and facts. After it: `bundle` hashes the card with the rest. Every
number and every judgement in it is written from the figures, so that a weaker run writes a weaker
card. `tables` is what `make eval-model` prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import grammar, parity, train
from .data import CROP_PER_SIDE, MIN_POSITIVE_PATIENTS
from .evaluation import outcomes
from .evaluation.draft_tables import KINDS, draft_tables
from .evaluation.figures import ANOTHER_TEXT, Facts, Figures, shown
from .evaluation.film_tables import film_tables, table
from .grammar import LABELS, Band, Label

FIGURES_HEAD = "## Figures"
FIRST = LABELS[0].name
AS_THE_GRAMMAR = 0.95  # share of drafts; a kind of request below it is named in the summary
VIEWS = {"pa": "PA", "ap": "AP"}

TEMPLATE = """\
Every sentence of this model comes from a grammar that this project wrote: it has never read a radiologist's report, and fluent text is no sign that it is right.

# cxr-report-ref {version}
A reference model for Cloister's demo, tests and measurements. `evaluated = true` in bundle.toml says that the figures below were measured as they say. It does not say that the model is fit for any purpose.

**Must not be used** for any clinical decision, without a radiologist reading every film, on children, on lateral films, as a screening tool, or to say that a film is normal. A film without a stated finding is not a normal film.

{summary}

## What it is
- A convolutional film encoder ({vision_m:.1f} M weights, {image} x {image} pixels, one channel) that gives {patches} patch tokens, one evidence token and {labels} label probabilities per film; and a T5-style encoder-decoder ({text_m:.1f} M weights, {layers} + {layers} layers, width {width}) that reads 1 to {films} films, the eight-rule safety prefix, the query, view, age band and sex, and writes Findings and Impression.
- The decoder puts the study's label probabilities (maximum over its films) into the grammar's words. It learned them from the probabilities, never from the NIH labels: the text can be no better than the heads. The patch tokens reach the decoder as well; nothing taught it to use them.
- `patch_logits` of the film encoder says which parts of the film a label's logit comes from. It shows what the model used, which may be a shortcut, and not where a disease is.
- Weights are stored as int8 with a scale per output channel and unpacked on loading; all arithmetic is single precision. `ngrams.json` guesses next tokens to save time and changes no token.

| calibrated probability of a label | words in Findings |
|---|---|
{bands}

A label's lowest edge is its threshold where that is lower than {lowest}: a label at its threshold is never called absent.

## What it cannot see
{blind}

## Data
- **NIH ChestX-ray14** (Wang et al., CVPR 2017; provided by the NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC): {film_count} frontal films of {patient_count} patients ({view_counts}). Labels were mined from report text by NIH and are noisy; nobody read the films again for this card. {abnormal_note}
- **Hannover** (COVID-19 Image Repository, Hannover Medical School, CC BY 3.0, https://github.com/ml-workgroup/covid-19-image-repository): frontal films of COVID-19 patients, for shift tests and outcomes only. No weight was trained on them: the disease is the same as the hospital, and a class made of it would be the hospital.
- What a film's file has been through, its border, its histogram and its view tell abnormal from normal in the NIH films (tables below). {crop:.0f} % of each side are cut off, intensity is equalised, and in training films are moved, re-exposed and blurred, and drawn so that either view has pneumonia as often as not. That lowers these shortcuts and removes none.

## How it was trained
- Film encoder: {stages}, pairs of films mixed. Once without each fifth of the patients (the models of the figures), once on all of them (the model of the bundle).
- Calibration: one slope ({slope:.2f}) for all labels and a shift per label, fitted on films that the model had not seen; each fold's probabilities in the figures come from a calibration that had not seen them either. The bundle's encoder carries the calibration of the fold models, since every film was used to train it: **no figure below was measured on the bundle's own film encoder**, except where a table says so.
- Text model: {legs}, on the tokens of all six encoders; half of the studies with label logits drawn over all bands, so that rare words were learned.
{note}- Thresholds: the held-out probability that {specificity:.0f} % of the films without the label stay below. Several labels together escalate more than {false:.0f} % of normal films (table below). The confidence threshold {confidence} was set where {abstain:.0f} % of the full reports on held-out films lie below. That confidence is the decoder's trust in its words; it does not know whether the heads are right.

{label_rows}

ACR categories are this project's choice, not a list of the College: 2 (hours) for pneumonia and edema, because treatment waits on them; 3 (days) for nodule and mass, because they need follow-up and no haste. The others are common, mostly known, and escalating them would bury the rest.

{figures_head}
Square brackets are 95 % intervals over draws of patients; shares take the wider of that and Wilson's. They say what other patients of these hospitals would change, not what another hospital would. Figures under shifts, at the other hospital and without the image also cover what another training would change, judged from how the five fold models differ. `figures.json` holds every figure, and `make eval-model` compares a new run with it: the same machine and number of threads give the same weights to the bit; where another processor rounds otherwise, a share of drafts or of changed answers may leave its interval by {another_text:.2f} (two trainings that differed by rounding moved one by 0.09) and is then named so, and F1 with all film tokens zero, which is not trained, is not compared.

{tables}"""


def _said(figures: Figures, key: str, digits: int = 2) -> str:
    return shown(figures.get(key), digits)


def _shortfall(figures: Figures, view: str, said: Mapping[str, Any]) -> str:
    """Why pneumonia is not above every shortcut in a view, from what the preprocessing leaves of them."""
    ahead = {name: row["upper"] for name, row in said["shortcuts"].items() if not row["above"]}
    after = {name: figures.get(f"shortcut_after.{name}.{view}.{FIRST}") for name in ahead}
    left = {name: figure["value"] for name, figure in after.items() if figure is not None}
    kept_out = [name for name, value in left.items() if value < said["value"]]
    others = [name for name in ahead if name not in kept_out]

    def named(names: Sequence[str], values: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {values[name]:.2f}" for name in names)

    told = f"**not above** every shortcut's upper bound ({named(list(ahead), ahead)})"
    if kept_out:
        told += (
            ", because shortcuts of file history survive in a small thumbnail, a histogram or a border of the "
            "original film, and the model is kept from them by cropping and equalising: of what it is given they "
            f"make only {named(kept_out, left)}"
        )
    if others:
        known = named([name for name in others if name in left], left)
        after_words = f" (after cropping and equalising {known})" if known else ""
        told += (
            f"{'; and' if kept_out else ', because'} the model sees less than {', '.join(others)}{after_words} "
            "gives away, which cropping and equalising do not explain"
        )
    return told


def verdict(figures: Figures, facts: Facts) -> list[str]:
    """Pneumonia against the shortcuts, a sentence per view, from the figures alone."""
    found = []
    for view, name in VIEWS.items():
        said = facts.get("verdict", {}).get(view)
        if said is None:
            found.append(
                f"Within {name} films there are too few films to set pneumonia beside the shortcuts."
            )
            continue
        if said["above_every_upper_bound"]:
            judged = "above every shortcut's upper bound"
        else:
            judged = _shortfall(figures, view, said)
        own = _said(figures, f"auroc.{view}.{FIRST}")
        found.append(f"Within {name} films the AUROC of pneumonia, {own}, is {judged}.")
    return found


def _weakest(figures: Figures) -> str:
    """The kinds of request whose drafts are too often not the grammar's."""
    weak = [
        f"{title} {_said(figures, f'agreement.{kind}.drafts')} "
        f"({_said(figures, f'agreement.{kind}.below_threshold')} withheld as too unsure)"
        for kind, title in KINDS.items()
        if (figure := figures.get(f"agreement.{kind}.drafts")) is not None
        and figure["value"] < AS_THE_GRAMMAR
    ]
    if not weak:
        return f"Every kind of request below is answered word for word as the grammar says in at least {AS_THE_GRAMMAR} of cases."
    return f"Answered word for word as the grammar says in fewer than {AS_THE_GRAMMAR} of cases: {'; '.join(weak)}."


def summary(figures: Figures, facts: Facts) -> str:
    """The few figures that matter most."""
    agreed: Mapping[str, Any] = facts.get("parity", {}).get("agreement", {})
    f1 = "label_f1.{}.micro_uncertain_positive"
    lines = [
        "## In short",
        *(f"- {text}" for text in verdict(figures, facts)),
        f"- Label F1 of the drafts (micro, uncertain = positive): {_said(figures, f1.format('draft'))}; of a fixed "
        f"report with the most frequent label set {_said(figures, f1.format('template_frequent'))}; with the image "
        f"removed {_said(figures, f1.format('zero_pixels'))}.",
        f"- Zeroing the image changes the stated findings in {_said(figures, 'image.zero_pixels.labels_changed')} of "
        "the drafts that state any.",
        f"- Two queries about one film are answered as the grammar says in "
        f"{_said(figures, 'query.pairs.as_the_grammar', 3)} of pairs. Another trained wording of a question changes "
        f"its answer in {_said(figures, 'paraphrase.image_present.trained', 3)} of cases, an unseen one in "
        f"{_said(figures, 'paraphrase.image_present.unseen', 3)}.",
        f"- {_weakest(figures)}",
        f"- Labels with an ACR category escalate {_said(figures, 'escalation.normal.escalated')} of the films without "
        f"a finding and {_said(figures, 'escalation.abnormal.escalated')} of the abnormal ones.",
    ]
    if agreed:
        lines.append(
            f"- int8 weights agree with f32 on {agreed['token_agreement']:.4f} of {int(agreed['tokens'])} tokens."
        )
    return "\n".join(lines)


def _bands() -> str:
    """The grammar's wording by probability, from the grammar itself."""
    edges = (0.0, *grammar.edges_for(1.0), 1.0)
    words = Label("", "", "X", (), None)
    return "\n".join(
        f'| {low:.2f} to {high:.2f} | "{grammar.sentence(words, band)}" |'
        for band, low, high in zip(Band, edges[:-1], edges[1:], strict=True)
    )


def _blind(facts: Facts) -> str:
    dropped = ", ".join(f"{name.lower()} ({count})" for name, count in sorted(facts["dropped"].items()))
    answered = ", ".join(grammar.NOT_ASSESSED)
    return "\n".join(
        [
            "- **Critical findings without a head: pneumothorax and tension pneumothorax, misplaced tubes and lines, free air, "
            "a widened mediastinum or aortic disease, pneumomediastinum, fractures.** An uneventful draft says nothing about them. "
            "Every full report says that pneumothorax and heart size are not assessed.",
            f"- Dropped labels of the data, because fewer than {MIN_POSITIVE_PATIENTS} patients have them (patients in brackets): {dropped}. "
            "The other critical findings have no label in the data at all.",
            f'- A question about one of these is answered with "not assessed": {answered}. Asked for any other finding, '
            "the model was taught to answer that it is not assessed (table of drafts: how often it does); where it takes the words "
            "for no question, the answer is a full report that does not speak of it.",
            "- Side, place, size, number, severity and change over time are never stated; no earlier film is compared.",
            "- COVID-19 is not a class.",
        ]
    )


def _labels(facts: Facts) -> str:
    rows = [
        [
            label.name,
            str(facts["positive_films"].get(label.name, "-")),
            str(facts["positive_patients"].get(label.name, "-")),
            f"{threshold:.3f}",
            f"{shift:+.2f}",
            str(label.acr_category or "-"),
        ]
        for label, threshold, shift in zip(
            LABELS, facts["thresholds"], facts["calibration_shift"], strict=True
        )
    ]
    return table(
        ["label", "positive films", "patients", "threshold", "shift of the logit", "ACR category"], rows
    )


def _way(name: str) -> str:
    """`n_3_batch_8` of `parity.way`, in words."""
    found = dict(re.findall(r"(n|batch)_(\d+)", name))
    calls = "a token a call" if "n" not in found else f"{found['n']} tokens a call"
    return f"batch of {found['batch']}, {calls}" if "batch" in found else f"alone, {calls}"


COMPARED = {
    "f32": "f32 graphs against PyTorch",
    "int8": "int8 graphs against PyTorch with the same rounded weights",
}


def _parity(facts: Facts) -> str:
    found: Mapping[str, Any] = facts.get("parity", {})
    limit = f"{parity.TOLERANCE:.0e}"
    rows = []
    for key, title in COMPARED.items():
        one = found.get(key, {})
        if one:
            positions = f"{int(one['positions'])} positions"
            what = f"{title}: largest relative difference of a log-probability, {positions}, whole vocabulary"
            rows.append([what, f"{one['torch_logprob']:.1e}", limit])
            company = max(value for name, value in one.items() if name.startswith(("n_", "batch_")))
            what = f"{key} graphs: largest difference of a logit from the same row alone, a token a call"
            rows.append([what, f"{company:.1e}", "-"])
    one = found.get("agreement", {})
    if one:
        where = f"{int(one['tokens'])} tokens of {int(one['requests'])} requests on films"
        rows += [
            [f"int8 against f32: same token, {where}", f"{one['token_agreement']:.4f}", "0.99"],
            ["int8 against f32: same draft from end to end", f"{one['draft_agreement']:.3f}", "-"],
            ["int8 against f32: largest difference of a label logit", f"{one['label_logit']:.2g}", "-"],
            ["int8 against f32: largest difference of a confidence", f"{one['confidence']:.2g}", "-"],
        ]
    for name, share in found.get("identical", {}).items():
        rows.append([f"int8: drafts with the same tokens as alone: {_way(name)}", f"{share:.3f}", "1"])
    return table(["comparison", "found", "required"], rows) if rows else "Not measured in this run."


def _times(facts: Facts) -> str:
    rows = [[stage, str(seconds)] for stage, seconds in facts.get("seconds", {}).items()]
    rows.append(["together", str(sum(facts.get("seconds", {}).values()))])
    return f"{facts.get('machine', 'The machine is not known')}.\n\n" + table(["stage", "seconds"], rows)


def tables(figures: Figures, facts: Facts) -> str:
    """Every table of the card."""
    parts = [
        film_tables(figures, facts).rstrip(),
        draft_tables(figures, facts).rstrip(),
        "### What the server does with real films",
        "`cloister generate` with this bundle: every film passes the guards, the redaction and the rules on the draft. "
        "Escalated and abstained are answers too; only a line without an answer is a failure.",
        outcomes.tables(figures, facts).rstrip() or "Not measured in this run.",
        "### Parity of the graphs",
        _parity(facts),
        "### Times",
        _times(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _stages(plan: train.Plan) -> str:
    return " and ".join(
        f"{stage.epochs} epochs at {stage.size} x {stage.size}" for stage in plan.vision.stages
    )


def text_of(result: train.Result, figures: Figures, facts: Facts, version: str) -> str:
    """The whole card."""
    config, plan = result.config, train.Plan()
    views = " and ".join(f"{count} {name}" for name, count in facts["views"].items())
    share = facts["positive_films"][FIRST]
    steps = sum(leg.steps for leg in plan.text.legs)
    return TEMPLATE.format(
        version=version,
        note=f"- This run: {result.figures['note']}\n" if "note" in result.figures else "",
        summary=summary(figures, facts),
        vision_m=sum(weight.numel() for weight in result.vision.parameters()) / 1e6,
        text_m=sum(weight.numel() for weight in result.text.parameters()) / 1e6,
        image=config.image,
        patches=config.patches,
        labels=config.labels,
        layers=config.decoder_layers,
        width=config.width,
        films=config.max_films,
        bands=_bands(),
        lowest=f"{grammar.MAX_ABSENT:.2f}",
        blind=_blind(facts),
        film_count=facts["films"],
        patient_count=facts["patients"],
        view_counts=views,
        abnormal_note=f"All {share} abnormal films carry the label Pneumonia, so every other label was learned beside it and never without it.",
        crop=100 * CROP_PER_SIDE,
        stages=_stages(plan),
        slope=facts["calibration_slope"],
        legs=f"{steps} steps of {plan.text.batch} studies in {len(plan.text.legs)} legs, the last with all patches and the whole prefix",
        specificity=100 * train.SPECIFICITY,
        false=100 * (1 - train.SPECIFICITY),
        abstain=100 * train.ABSTAIN,
        confidence=result.confidence_threshold,
        label_rows=_labels(facts),
        figures_head=FIGURES_HEAD,
        another_text=ANOTHER_TEXT,
        tables=tables(figures, facts),
    )


def write(file: Path, result: train.Result, figures: Figures, facts: Facts, version: str) -> None:
    """Writes CARD.md."""
    file.write_text(text_of(result, figures, facts, version), encoding="utf-8")


def figures_part(text: str) -> str:
    """The part of a written card that holds its tables; all of a card that has no such part."""
    head, mark, rest = text.partition(f"\n{FIGURES_HEAD}")
    return f"{mark.lstrip()}{rest}" if mark else head
