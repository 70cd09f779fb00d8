"""Figures with intervals: merged, written beside the bundle, compared with the committed ones.

Before it: the evaluations measure. After it: `card` prints, `evaluate` compares. A figure is a
number with the interval that other patients of the same kind could have given; a fact is anything
else that the card says (counts, times, texts, parity) and is never compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..statistics import Figure as Figure

FORMAT = 1
DIGITS = 6  # kept in the file; intervals are far wider
# Two trainings of the text model that differed by rounding alone: these shares moved by up to 0.093.
# The same machine repeats a training to the bit; another processor rounds otherwise and trains another.
ANOTHER_TEXT = 0.10
OF_THE_TEXT = ("agreement.", "paraphrase.")
# What the decoder says of tokens that no film gives is not trained: 0.23 in one training, 0.00 in another.
UNTRAINED = ("label_f1.zero_tokens.",)


Figures = dict[str, Figure]
Facts = dict[str, Any]


def bounded(figure: Figure) -> bool:
    """Whether there is an interval to compare with."""
    return figure["low"] is not None and figure["high"] is not None


def holds(figure: Figure, value: float) -> bool:
    """Whether a number lies within the interval, ends included, at the grain that the file keeps.
    NaN never does."""
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        raise ValueError("no interval")
    return round(low, DIGITS) <= round(value, DIGITS) <= round(high, DIGITS)


def shown(figure: Figure | None, digits: int = 2) -> str:
    """As in a table: `0.81 [0.77, 0.85]`; a dash for what was not measured."""
    if figure is None or math.isnan(figure["value"]):
        return "-"
    text = f"{figure['value']:.{digits}f}"
    low, high = figure["low"], figure["high"]
    return text if low is None or high is None else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def merge(*parts: Mapping[str, Figure]) -> Figures:
    """All parts in one. A key that two parts claim is a mistake: one would hide the other."""
    found: Figures = {}
    for part in parts:
        twice = sorted(found.keys() & part.keys())
        if twice:
            raise ValueError(f"figures measured twice: {twice}")
        found.update(part)
    return found


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), DIGITS)


def write(file: Path, figures: Mapping[str, Figure], facts: Mapping[str, object]) -> None:
    """Writes figures.json: one figure a line, so that a changed figure is a changed line."""
    rows = [
        f"{json.dumps(key)}: "
        + json.dumps(
            {**{part: _number(it[part]) for part in ("value", "low", "high")}, "n": it["n"]}, allow_nan=False
        )
        for key, it in sorted(figures.items())
    ]
    told = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in sorted(facts.items())
    ]
    text = f'{{"format": {FORMAT},\n"figures": {{\n' + ",\n".join(rows)
    text += '\n},\n"facts": {\n' + ",\n".join(told) + "\n}}\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def read(file: Path) -> tuple[Figures, Facts]:
    """Figures and facts of a file that `write` wrote."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{file}: format {content.get('format')}, not {FORMAT}")
    found = {
        key: Figure(
            value=math.nan if row["value"] is None else row["value"],
            low=row["low"],
            high=row["high"],
            n=row["n"],
        )
        for key, row in content["figures"].items()
    }
    return found, content["facts"]


class Verdict(StrEnum):
    """What came of one comparison."""

    INSIDE = "inside"
    ANOTHER_TEXT = "as another text training may give"  # outside by no more than ANOTHER_TEXT
    OUTSIDE = "OUTSIDE"
    MISSING = "MISSING"  # committed with an interval and not measured now
    NOT_COMPARED = "not compared"  # no interval, or not trained
    NEW = "new"  # measured now and not committed


@dataclass(frozen=True)
class Row:
    """One key of the comparison."""

    key: str
    committed: Figure | None
    now: Figure | None
    verdict: Verdict

    @property
    def failed(self) -> bool:
        """Whether the run does not reproduce this figure."""
        return self.verdict in (Verdict.OUTSIDE, Verdict.MISSING)


def _widened(figure: Figure) -> Figure:
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        raise ValueError("no interval")
    return Figure(value=figure["value"], low=low - ANOTHER_TEXT, high=high + ANOTHER_TEXT, n=figure["n"])


def _verdict(key: str, committed: Figure | None, now: Figure | None) -> Verdict:
    if committed is None:
        return Verdict.NEW
    if not bounded(committed) or key.startswith(UNTRAINED):
        return Verdict.NOT_COMPARED
    if now is None:
        return Verdict.MISSING
    if holds(committed, now["value"]):
        return Verdict.INSIDE
    if key.startswith(OF_THE_TEXT) and holds(_widened(committed), now["value"]):
        return Verdict.ANOTHER_TEXT
    return Verdict.OUTSIDE


def compare(committed: Mapping[str, Figure], now: Mapping[str, Figure]) -> list[Row]:
    """Every key of either side, by key."""
    return [
        Row(key, committed.get(key), now.get(key), _verdict(key, committed.get(key), now.get(key)))
        for key in sorted(committed.keys() | now.keys())
    ]


def printed(rows: Iterable[Row]) -> str:
    """The comparison as a table, and its sum in one line."""
    every = list(rows)
    lines = ["| figure | committed | now | |", "|---|---|---|---|"]
    for row in every:
        now = f"{row.now['value']:.3f}" if row.now else "-"
        lines.append(f"| {row.key} | {shown(row.committed, 3)} | {now} | {row.verdict} |")
    counts = {verdict: sum(row.verdict is verdict for row in every) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return "\n".join([*lines, "", told or "nothing to compare"]) + "\n"
