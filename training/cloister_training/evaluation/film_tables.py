"""The card's tables on films: what the heads see, beside what the shortcuts see.

Before it: `films`. After it: `card` and `make eval-model` print them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..grammar import LABELS
from .figures import Facts, Figures, shown

NAMES = [label.name for label in LABELS]
FIRST = NAMES[0]
CHANCE = "chance"  # the rival where every shortcut is worse than a coin
DOMAINS = {"all": "all films", "pa": "PA", "ap": "AP"}
SHORTCUTS = {
    "view": "view alone (PA or AP)",
    "thumbnail": "8 x 8 thumbnail",
    "histogram": "64-bin histogram",
    "border": "8-pixel border",
}
GROUPS = {
    "sex": {"female": "female", "male": "male"},
    "age": {
        "under_18": "under 18",
        "18_39": "18 to 39",
        "40_64": "40 to 64",
        "65_89": "65 to 89",
        "90_and_over": "90 and over",
    },
}
SHIFTS = {
    "plain": "none",
    "jpeg_50": "JPEG, quality 50",
    "resize_60": "resized to 60 % and back",
    "gamma_70": "gamma 0.7 (brighter)",
    "gamma_140": "gamma 1.4 (darker)",
    "brighter_20": "window: 20 % of the grey values brighter, clipped",
    "darker_20": "window: 20 % of the grey values darker, clipped",
    "noise_4": "Gaussian noise, 4 of 255",
    "blur": "Gaussian blur, 1.5 pixels of 384",
    "rotation_3": "turned by 3 degrees",
    "frame": "white frame, 12 pixels",
    "corner_box": "black box in a corner",
    "flip": "left and right exchanged",
}
HOSPITALS = {"nih_normal": "NIH, no finding", "nih_abnormal": "NIH, pneumonia", "hannover": "Hannover"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cells(figures: Figures, *keys: str, digits: int = 2) -> list[str]:
    return [shown(figures.get(key), digits) for key in keys]


def _rows(figures: Figures, titles: dict[str, str], keys: Sequence[str], digits: int = 2) -> list[list[str]]:
    """A row per title; `keys` have a gap for its name. Rows of dashes are left out."""
    rows = [
        [title, *_cells(figures, *(key.format(name) for key in keys), digits=digits)]
        for name, title in titles.items()
    ]
    return [row for row in rows if any(cell != "-" for cell in row[1:])]


def _areas(figures: Figures) -> str:
    rows = []
    for name in NAMES:
        figure = figures.get(f"auroc.all.{name}")
        keys = [f"auroc.{domain}.{name}" for domain in (*DOMAINS, "within_abnormal")]
        rows.append([name, str(figure["n"]) if figure else "-", *_cells(figures, *keys)])
    return table(["label", "positive films", *DOMAINS.values(), "within abnormal films"], rows)


def _same_fold(facts: Facts) -> str:
    known = [f"{DOMAINS[it]} {area:.2f}" for it, area in facts["auroc_same_fold"].items() if area is not None]
    return f"Pneumonia over pairs of films that the same fold model judged (its own scale then does not matter): {', '.join(known)}."


def _pneumonia(figures: Figures) -> str:
    keys = [f"shortcut.{{}}.{domain}.{FIRST}" for domain in DOMAINS]
    after = [key.replace("shortcut.", "shortcut_after.") for key in keys]
    rows = [
        ["**the model**", *_cells(figures, *(f"auroc.{domain}.{FIRST}" for domain in DOMAINS))],
        *_rows(figures, SHORTCUTS, keys),
        [
            "**model minus the best of the four**",
            *_cells(figures, *(f"margin.{it}.{FIRST}" for it in DOMAINS)),
        ],
        *_rows(figures, {name: f"after preprocessing: {title}" for name, title in SHORTCUTS.items()}, after),
    ]
    return table(["pneumonia, AUROC", *DOMAINS.values()], rows)


def verdict_lines(facts: Facts) -> str:
    """The verdict in words, a line per view."""
    lines = []
    for view, said in facts["verdict"].items():
        ahead = "is above" if said["above_every_upper_bound"] else "is **not** above"
        each = ", ".join(
            f"{name} {row['upper']:.2f} ({row['by']:+.2f})" for name, row in said["shortcuts"].items()
        )
        lines.append(
            f"- {DOMAINS[view]}: the model's {said['value']:.2f} {ahead} every shortcut's upper interval bound: {each}."
        )
    return "\n".join(lines) or "- Too few films for a verdict."


def _others(figures: Figures, facts: Facts) -> str:
    best = facts["best_shortcut"]
    rows = []
    for name in NAMES[1:]:
        row = [name]
        for domain in ("all", "within_abnormal"):
            first = best.get(domain, {}).get(name, "-")
            theirs, margin = _cells(figures, f"shortcut.{first}.{domain}.{name}", f"margin.{domain}.{name}")
            row += [first, "0.50" if first == CHANCE else theirs, margin]
        rows.append(row)
    head = ["label", "best shortcut, all films", "its AUROC", "model minus it"]
    return table([*head, "best, within abnormal films", "its AUROC", "model minus it"], rows)


def _groups(figures: Figures) -> str:
    rows = []
    for kind, titles in GROUPS.items():
        for name, title in titles.items():
            keys = [f"{kind}.{domain}.{name}" for domain in DOMAINS]
            known = [figures.get(key) for key in keys]
            if any(known):
                cells = [f"{shown(it)} ({it['n']})" if it else "-" for it in known]
                rows.append([f"{kind}: {title}", *cells])
    return table(["group", *DOMAINS.values()], rows)


def _calibration(figures: Figures) -> str:
    rows = []
    for name in (*NAMES, "pooled"):
        if f"calibration.{name}.ece" in figures:
            key = f"calibration.{name}."
            columns = ("brier", "brier_prevalence", "log_loss", "log_loss_prevalence", "log_loss_gain")
            cells = _cells(figures, *(key + column for column in columns), digits=3)
            rows.append([name, *cells, *_cells(figures, key + "ece", key + "ece_if_perfect", digits=3)])
    head = ["label", "Brier", "Brier, prevalence", "log-loss", "log-loss, prevalence", "log-loss gained"]
    return table([*head, "ECE", "ECE, 95 % bound if perfect"], rows)


def _operating(figures: Figures) -> str:
    rows = []
    for name in NAMES:
        for domain, title in DOMAINS.items():
            keys = [f"operating.{domain}_{name}.{column}" for column in ("sensitivity", "specificity")]
            if keys[0] in figures:
                rows.append([name if domain == "all" else f"{name}, {title}", *_cells(figures, *keys)])
    return table(["label", "sensitivity", "specificity"], rows)


def _hannover(figures: Figures) -> str:
    columns = ("present", "mean", "q10", "q50", "q90")
    titles, counts = {}, {}
    for view in ("pa", "ap"):
        for name, title in HOSPITALS.items():
            figure = figures.get(f"hannover.{name}_{view}.mean")
            if figure:
                titles[f"{name}_{view}"] = f"{title}, {DOMAINS[view]}"
                counts[f"{title}, {DOMAINS[view]}"] = str(figure["n"])
    rows = _rows(figures, titles, [f"hannover.{{}}.{column}" for column in columns])
    head = ["films", "n", "at or above the threshold", "mean probability", "10 %", "median", "90 %"]
    return table(head, [[row[0], counts[row[0]], *row[1:]] for row in rows])


def _features(figures: Figures) -> str:
    rows = {"features_pa": "PA", "features_ap": "AP"}
    keys = [f"hannover.{{}}.{column}" for column in ("hannover", "abnormal", "chance")]
    return table(
        ["view", "Hannover from NIH", "NIH abnormal from NIH normal", "chance alone"],
        _rows(figures, rows, keys),
    )


def film_tables(figures: Figures, facts: Facts) -> str:
    """The card's part on films."""
    shifts = [f"shift.{{}}.{it}" for it in ("auroc", "auroc_change", "probability_change", "labels_changed")]
    parts = [
        "### What the heads see (AUROC, 5-fold cross-validation by patient)",
        f"{facts['films']} films of {facts['patients']} patients, each judged by a model that has not seen its patient; in "
        "brackets the 95 % interval over 1,000 draws of patients (nothing is trained again in a draw). Every abnormal film "
        "carries pneumonia, so the last column is the one that says whether another label is seen and not just abnormality.",
        _areas(figures),
        _same_fold(facts),
        "### Pneumonia beside the shortcuts",
        "Logistic regressions that know nothing of lungs, on the same patient folds, learned on the films of their column; the "
        "last rows show what cutting and equalising leave of them.",
        _pneumonia(figures),
        verdict_lines(facts),
        "### The other labels beside their best shortcut",
        "The best of the four by its AUROC on these films; a margin whose interval holds zero means that the head has shown "
        "nothing beyond a shortcut. With few positive films a cross-fitted rule that knows nothing falls below 0.5; where all four do, the rival is chance.",
        _others(figures, facts),
        "### Pneumonia by sex and age",
        "AUROC, and in round brackets the positive films that it rests on.",
        _groups(figures),
        "### Calibration",
        "Cross-fitted probabilities beside a predictor that knows only how common the label is in the other folds; an ECE "
        "below the last column is what a perfect model of this many films could show. Labels with fewer than 40 positive films are in the pooled row alone.",
        _calibration(figures),
        "### At the bundle's thresholds",
        "Share of positive films at or above the threshold and of negative films below it; thresholds were set on these "
        "held-out films, so specificity is a little flattered.",
        _operating(figures),
        "### Films from another machine, archive or hand",
        "Held-out films changed before preprocessing: AUROC of calibrated pneumonia over all films, its paired change, the mean "
        "change of its probability, and the share of films whose set of labels at or above the threshold changes.",
        table(
            ["change", "AUROC", "change of AUROC", "change of probability", "films with other labels"],
            _rows(figures, SHIFTS, shifts, 3),
        ),
    ]
    if _has_hannover(figures):
        parts += [
            "### Films of another hospital",
            "Hannover's films all come from COVID patients and carry no findings, so this shows where the pneumonia "
            "probabilities lie (final model; NIH rows are held out), not whether they are right.",
            _hannover(figures),
            "Distance of the mean features, in standard deviations of NIH's, averaged over the features of the five held-out models.",
            _features(figures),
        ]
    return "\n\n".join(parts) + "\n"


def _has_hannover(figures: Figures) -> bool:
    return any(key.startswith("hannover.hannover_") for key in figures)
