"""The model card. Its first line says where the sentences come from.

Before it: `train` and `parity` give figures. After it: `bundle` hashes the card with the rest.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from . import grammar
from .train import ABSTAIN, SPECIFICITY, Result

TEMPLATE = """\
Every sentence of this model comes from a grammar that this project wrote: it has never read a radiologist's report, and fluent text is no sign that it is right.

# cxr-report-ref {version}: first training run, not evaluated
`evaluated = false` stands in bundle.toml, and the server tells every reader (MODEL_NOT_EVALUATED). This run proves the path: shapes, export, tokenizer, safety prefix, batch independence. The figures below come from one held-out fifth of the patients that also set the thresholds, so they flatter. No cross-validation, no intervals, no shortcut baselines, no shift test: a later version brings them.

**Must not be used** for any clinical decision, without a radiologist reading every film, on children, on lateral films, as a screening tool, or to say that a film is normal.

## What it is
- A convolutional film encoder ({vision_m:.1f} M weights, 224 x 224, one channel, 49 patch tokens and one evidence token per film) with {labels} label heads, and a T5-style encoder-decoder ({text_m:.1f} M weights, {layers} + {layers} layers, width {width}) that reads 1 to {films} films, the eight-rule safety prefix, the query, view, age band and sex, and writes Findings and Impression.
- The decoder puts the label probabilities of the study (maximum over its films, after Platt scaling) into the grammar's words. It learned from those probabilities, not from the NIH labels: the text can be no better than the heads. The patch tokens reach the decoder too, but nothing taught it to use them.
- Weights are stored in half precision and were rounded to it before export; all arithmetic is single precision. Nothing is quantised at run time.

| probability of a label | words in Findings |
|---|---|
| below {edge} or the label's threshold, whichever is lower | "No ... is seen." |
| up to 0.35 | "... cannot be excluded." |
| up to 0.60 | "... is possible." |
| up to 0.85 | "... is probable." |
| above | "The appearance is consistent with ..." |

## What it cannot see
Pneumothorax, cardiomegaly, emphysema, fibrosis, hernia (fewer than 15 positive patients in the data), fractures, lines and tubes, free air, aortic disease, and everything else without a row in the table below. Pneumothorax, tension, misplaced tubes and free air are critical findings (ACR category 1): **an uneventful draft says nothing about them.** Every full report says that pneumothorax and heart size are not assessed, and a question about a finding without a head is answered so. Laterality, size, severity and change over time are never stated.

## Data
NIH ChestX-ray14 (Wang et al., CVPR 2017; provided by the NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC): 813 frontal films of 546 patients, labels mined from text by NIH and noisy; {training_films} films of {training_patients} patients trained the heads, {validation_films} of {validation_patients} set calibration and thresholds. Every abnormal film carries Pneumonia, so the other labels were learned beside it and never without it. Film history, border, histogram and view separate abnormal from normal in these data (AUROC up to 0.92): borders are cropped by 5 %, intensity is equalised, films are moved, blurred and re-exposed, which lowers those shortcuts and removes none. Expect the AUROC of pneumonia to be partly the view (AP against PA) and the origin of the file.

## Figures of the run (validation patients, not an evaluation)
| label | positive films | AUROC | threshold at {specificity:.0%} specificity | ACR category |
|---|---|---|---|---|
{rows}

ACR categories are this project's choice, not a list of the College: 2 (hours) for pneumonia and edema, because treatment waits on them; 3 (days) for nodule and mass, because they need follow-up and no haste. The others are common, mostly known, and escalating them would bury the rest. At {specificity:.0%} specificity several labels together escalate more than 10 % of normal films.

- The decoder against the grammar on held-out patients, teacher-forced (share of tokens; share of whole drafts): full reports {tokens_reports:.3f}; {drafts_reports:.2f}. Questions {tokens_questions:.3f}; {drafts_questions:.2f}. Questions in two wordings that were never trained {tokens_unseen_questions:.3f}; {drafts_unseen_questions:.2f}. **A draft that is not the grammar's can speak of another finding than the asked one, or sound surer or less sure than the probability.** The text training was short: a later version trains on.
- The threshold {confidence} is compared with the geometric mean of the draft's token probabilities: it says how sure the decoder is of its words, which is sure of every film well inside a band, and nothing about whether the heads are right. About {abstain:.0%} of the validation studies lie below. The confidence that a report prints is that mean times the labels' mean distance from a coin toss (0.5 to 1).
- Largest difference of a log-probability from PyTorch on the phantoms of parity.json: {parity_torch:.1e}; of a logit alone against a batch of 8: {parity_batch:.1e}; against three tokens a call: {parity_n:.1e}. Tokens are identical in all three.
- Time of the run: {seconds} s on 2 cores that others used too.{note}
"""


def _rows(result: Result) -> str:
    areas: dict[str, float] = dict(_mapping(result.figures["validation_auroc"]))
    positive = _mapping(result.figures["validation_positive_films"])
    lines = []
    for label, threshold in zip(grammar.LABELS, result.thresholds, strict=True):
        area = areas[label.name]
        shown = "-" if math.isnan(area) else f"{area:.2f}"
        category = label.acr_category or "-"
        lines.append(f"| {label.name} | {positive[label.name]} | {shown} | {threshold:.3f} | {category} |")
    return "\n".join(lines)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a checkpoint's figures are not what `train` writes")
    return value


def write(file: Path, result: Result, differences: dict[str, float], version: str) -> None:
    """Writes CARD.md."""
    figures: dict[str, Any] = result.figures
    config = result.config
    text = TEMPLATE.format(
        version=version,
        labels=config.labels,
        layers=config.decoder_layers,
        width=config.width,
        films=config.max_films,
        edge=grammar.MAX_ABSENT,
        rows=_rows(result),
        vision_m=sum(weight.numel() for weight in result.vision.parameters()) / 1e6,
        text_m=sum(weight.numel() for weight in result.text.parameters()) / 1e6,
        training_films=figures["training_films"],
        training_patients=figures["training_patients"],
        validation_films=figures["validation_films"],
        validation_patients=figures["validation_patients"],
        seconds=figures["seconds"],
        **figures["agreement"],
        note=figures.get("note", ""),
        specificity=SPECIFICITY,
        abstain=ABSTAIN,
        confidence=result.confidence_threshold,
        parity_torch=differences["torch_logprob"],
        parity_batch=differences["batch_8"],
        parity_n=max(differences["n_3"], differences["n_3_batch_8"]),
    )
    file.write_text(text, encoding="utf-8")
