"""What the whole server answers on real films: `cloister generate` with the bundle that was made.

Before it: `bundle` has sealed the folder. After it: `figures` keeps the shares, `card` shows them.
The films pass every guard, the redaction and the rules on the draft; this counts what becomes of
them. Nothing here looks at pixels, and no name of a file leaves this module.

The bundle is not in models/TRUSTED.toml yet, so a throwaway key signs a copy of it.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..statistics import wilson
from .figures import Facts, Figure, Figures, shown

OUTCOMES = ("delivered", "abstained", "escalated", "refused", "unanswered")
SETS = {
    "hannover": "Hannover, frontal films of COVID-19 patients, JPEG",
    "dicom": "real DICOM chest films",
    "dicom_rest": "DICOM files that are no chest film or hold no pixels",
}
RADIOGRAPHY = {"CR", "DX", "RG", "DR"}
CHEST = ("CHEST", "THORAX")
VIEW = re.compile(r"\b(PA|AP|lateral) view\b")  # as the grammar opens a full report
MOST_SECONDS = 4 * 3600

Log = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """A line for `cloister generate`, without its id."""

    record: dict[str, object]
    kind: str  # the form that the film comes in


class NotMeasured(Exception):
    """The server could not be asked; the text may stand in the card."""


def hannover_requests(folder: Path) -> list[Request]:
    """Every film of the set, with what its table says of view, sex and age."""
    found = []
    with (folder / "data.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            record: dict[str, object] = {
                "image": str((folder / "images" / f"{row['image_id']}.jpg").resolve()),
                "view": row["projection"].upper(),
                "sex": row["sex"].upper(),
                "age": int(float(row["age"])) if row["age"] else None,
            }
            # What the table leaves open is left open.
            found.append(Request({key: value for key, value in record.items() if value}, "JPEG"))
    return found


def dicom_requests(folder: Path) -> tuple[list[Request], list[Request]]:
    """The chest films with pixels, and everything else that the inventory lists."""
    chest: list[Request] = []
    rest: list[Request] = []
    with (folder / "inventory.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            request = Request({"image": str((folder / row["file"]).resolve())}, row["tsn"] or "unknown")
            part = row["body"].upper()
            is_chest = row["mod"] in RADIOGRAPHY and any(word in part for word in CHEST)
            (chest if is_chest and row["decode"] != "no pixels" else rest).append(request)
    return chest, rest


@dataclass(frozen=True)
class Server:
    """The binary with a bundle that it trusts."""

    cloister: Path
    bundle: Path
    public: Path
    scratch: Path

    @staticmethod
    def prepare(cloister: Path, bundle: Path, key: Path | None, scratch: Path) -> Server:
        """Signs a copy of the bundle; `key` is a private key beside its FILE.pub."""
        copy = scratch / bundle.resolve().name
        shutil.copytree(bundle, copy)
        if key is None:
            key = scratch / "signing.pem"
            _run([str(cloister), "keys", "signing", "--out", str(key)])
        _run([str(cloister), "bundle", "sign", "--key", str(key), str(copy)])
        return Server(cloister, copy, key.with_name(f"{key.name}.pub"), scratch)

    def answers(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """One answer per request, in order."""
        lines = self.scratch / "requests.jsonl"
        records = ({"id": number, **request.record} for number, request in enumerate(requests))
        lines.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        out = _run(
            [
                str(self.cloister),
                "generate",
                "--bundle",
                str(self.bundle),
                "--trust-key",
                str(self.public),
                str(lines),
            ],
            # 1 says that a line was not answered, which is counted here.
            allowed=(0, 1),
        )
        found = [json.loads(line) for line in out.splitlines()]
        if [answer.get("id") for answer in found] != list(range(len(requests))):
            raise NotMeasured(f"cloister generate gave {len(found)} answers to {len(requests)} lines")
        return found


def _run(command: list[str], allowed: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
    # Without one line of output an exit code 1 is a server that did not start.
    if done.returncode not in allowed or (done.returncode and not done.stdout):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotMeasured(f"cloister {command[1]} ended with {done.returncode}: {last}")
    return done.stdout


def thresholds(bundle: Path) -> dict[str, float]:
    """Probability from which each label counts as present."""
    manifest = tomllib.loads((bundle / "bundle.toml").read_text(encoding="utf-8"))
    return {label["name"]: label["threshold"] for label in manifest["labels"]}


def _outcome(answer: dict[str, Any]) -> str:
    return str(answer.get("outcome", "unanswered"))


def _views(requests: Sequence[Request], answers: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Drafts for which the caller states a view, and how many of them name another one."""
    named = [
        (request.record["view"], found.group(1).upper())
        for request, answer in zip(requests, answers, strict=True)
        if "view" in request.record and (found := VIEW.search(str(answer.get("findings"))))
    ]
    return len(named), sum(said != drafted for said, drafted in named)


def summary(
    requests: Sequence[Request], answers: Sequence[dict[str, Any]], limits: dict[str, float]
) -> dict[str, Any]:
    """Counts of one set."""
    assessed = [answer for answer in answers if answer.get("labels")]
    present = Counter(
        name for answer in assessed for name, value in answer["labels"].items() if value >= limits[name]
    )
    ways = Counter(
        (request.kind, _outcome(answer), ", ".join(sorted(answer.get("reasons", [answer.get("error")]))))
        for request, answer in zip(requests, answers, strict=True)
    )
    # Refusals are quick and say nothing about the time of a draft.
    seconds = [answer["timings_us"]["total"] / 1e6 for answer in assessed]
    views, other_view = _views(requests, answers)
    return {
        "films": len(answers),
        "outcomes": {name: sum(_outcome(answer) == name for answer in answers) for name in OUTCOMES},
        "reasons": dict(
            Counter(reason for answer in answers for reason in answer.get("reasons", [])).most_common()
        ),
        "assessed": len(assessed),
        "labels_present": {name: present[name] for name in limits},
        "without_label": sum(
            not any(value >= limits[name] for name, value in answer["labels"].items()) for answer in assessed
        ),
        "seconds_per_film": round(statistics.median(seconds), 2) if seconds else None,
        "views_stated": views,
        "other_view_drafted": other_view,
        "image_guard_absent": sum(
            answer.get("image_guard") is None for answer in answers if _outcome(answer) != "unanswered"
        ),
        "ways": [
            {"form": form, "outcome": outcome, "reasons": reasons, "films": count}
            for (form, outcome, reasons), count in sorted(ways.items())
        ],
    }


def outcomes(
    cloister: Path, bundle: Path, key: Path | None, hannover: Path | None, dicom: Path | None, log: Log
) -> tuple[Figures, Facts]:
    """Runs the sets that are there. `key` signs the copy; without one a throwaway key does."""
    sets: dict[str, list[Request]] = {}
    if hannover is not None and (hannover / "data.csv").is_file():
        sets["hannover"] = hannover_requests(hannover)
    if dicom is not None and (dicom / "inventory.csv").is_file():
        sets["dicom"], sets["dicom_rest"] = dicom_requests(dicom)
    figures: Figures = {}
    facts: dict[str, Any] = {"sets": {}}
    facts["missing"] = [name for name in SETS if not sets.get(name)]
    if not cloister.is_file():
        facts["note"] = "no cloister binary (`make build`): not measured"
        log(f"outcomes: {facts['note']}")
        return figures, {"outcomes": facts}
    with tempfile.TemporaryDirectory() as folder:
        try:
            server = Server.prepare(cloister.resolve(), bundle, key, Path(folder))
            for name, requests in sets.items():
                log(f"outcomes: {len(requests)} lines of {name}")
                found = summary(requests, server.answers(requests), thresholds(bundle))
                facts["sets"][name] = found
                for outcome, count in found["outcomes"].items():
                    low, high = wilson(count, len(requests))
                    figures[f"outcomes.{name}.{outcome}"] = Figure(
                        value=count / len(requests), low=low, high=high, n=len(requests)
                    )
                log(f"outcomes: {name}: {json.dumps(found['outcomes'])}")
        except (NotMeasured, OSError, subprocess.TimeoutExpired) as error:
            # Hours of training are not lost for it; the card says what is missing.
            reason = str(error) if isinstance(error, NotMeasured) else type(error).__name__
            facts["note"] = f"not measured: {reason}"
            log(f"outcomes: {facts['note']}")
    return figures, {"outcomes": facts}


def _shares(figures: Figures, sets: dict[str, Any]) -> list[str]:
    lines = [
        "| films | n | " + " | ".join(OUTCOMES) + " | seconds a film |",
        "|---|---|" + "---|" * len(OUTCOMES) + "---|",
    ]
    for name, found in sets.items():
        cells = [shown(figures.get(f"outcomes.{name}.{outcome}")) for outcome in OUTCOMES]
        seconds = "-" if found["seconds_per_film"] is None else f"{found['seconds_per_film']:.1f}"
        lines.append(f"| {SETS[name]} | {found['films']} | {' | '.join(cells)} | {seconds} |")
    return lines


def _reasons(sets: dict[str, Any]) -> list[str]:
    lines = ["| films | reason | count |", "|---|---|---|"]
    for name, found in sets.items():
        lines += [f"| {name} | {reason} | {count} |" for reason, count in found["reasons"].items()]
    return lines


def _labels(sets: dict[str, Any]) -> list[str]:
    assessed = {name: found for name, found in sets.items() if found["assessed"]}
    if not assessed:
        return []
    heads = [f"{name} ({found['assessed']} drafts)" for name, found in assessed.items()]
    lines = [f"| label at or above its threshold | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for label in next(iter(assessed.values()))["labels_present"]:
        lines.append(
            f"| {label} | {' | '.join(str(f['labels_present'][label]) for f in assessed.values())} |"
        )
    lines.append(f"| none | {' | '.join(str(f['without_label']) for f in assessed.values())} |")
    return [*lines, ""]


def tables(figures: Figures, facts: Facts) -> str:
    """The part of the card: shares, reasons, labels, and each form of DICOM chest film."""
    found: dict[str, Any] = facts.get("outcomes", {})
    sets: dict[str, Any] = {name: it for name, it in found.get("sets", {}).items() if it["films"]}
    lines = [f"Outcomes: {found['note']}.", ""] if "note" in found else []
    if sets:
        lines += [*_shares(figures, sets), "", *_reasons(sets), "", *_labels(sets)]
    if "dicom" in sets:
        lines += ["| DICOM chest film, transfer syntax | films | outcome | reasons |", "|---|---|---|---|"]
        lines += [
            f"| {way['form']} | {way['films']} | {way['outcome']} | {way['reasons']} |"
            for way in sets["dicom"]["ways"]
        ]
        lines.append("")
    lines += [
        f"Of {it['views_stated']} drafts ({name}) for which the caller states the view, "
        f"{it['other_view_drafted']} name another one.\n"
        for name, it in sets.items()
        if it["views_stated"]
    ]
    missing = [SETS[name] for name in found.get("missing", [])]
    if missing:
        lines += [f"Not at hand in this run: {'; '.join(missing)}.", ""]
    if any(it["image_guard_absent"] for it in sets.values()):
        lines += [
            "This version has no image guard: `image_guard` is empty in every answer, and what is "
            "refused is refused by its tags or because it cannot be read.",
            "",
        ]
    return "\n".join(lines)
