#!/usr/bin/env python3
"""Checks what `cloister deidentify` wrote against what it was given.

    cloister deidentify --in FILMS --out CLEAN --key KEY --report REPORT
    .venv/bin/python tools/check_outputs.py --in FILMS --out CLEAN --report REPORT

For the run: every input file has one line, clean or quarantined with a reason; every file in the output
folder is named by a line; two lines name one file only where the later says SAME_CONTENT.

For every clean file:
  opens       pydicom reads it without force, and every value of its header can be decoded.
  statement   (0012,0062) YES, (0028,0301) NO, (0012,0064) holds 113100 and 113101, (0012,0063) and
              (0028,0303) have a value.
  types       Of the attributes that its information object has as type 1, 1C, 2 or 2C (PS3.3, at any
              depth), none that the input had is missing, and none of type 1 or 1C that had a value is
              empty. A module that is optional may be gone as a whole.
  dciodvfy    The errors that dciodvfy (Debian: dicom3tools) finds are among those that it finds in the
              input, values and places apart; an input that it cannot read is written again by pydicom
              first. `--without-dciodvfy` leaves this out.

A sequence whose items were replaced as a whole is compared by dciodvfy alone; each is counted as a note.

What this proves: no attribute was lost that the object needs, judged by two tables that others made and
that know nothing of each other. What it does not: that a value which stayed or was replaced is right, that
a conditional attribute became required by a change (only dciodvfy sees that, for the conditions it knows),
and nothing about identifiers, which is the gate's part.

The table of types is data in the wheel of highdicom (tools/wheels.toml), fetched and hash-checked once.
Exit: 0 if all holds, 1 if not (a run without a clean file is not), 2 if it could not be checked.
"""

import argparse
import copy
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import setup
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

# Members of the wheel, pinned like everything that is fetched.
TYPES = {
    "iod_module_map": "2005935f6aa6a58cdad9944f0b2ef34d97f0520f88e20927905743b315eea8a3",
    "module_attribute_map": "9026a2f2037e868396bf74c55fef77183a7a69979b83e4cd3cc2b425e87f8fa6",
    "sop_class_iod_map": "5d9301911eb9c3d0e47fe32129a9f2d68deff6f2bfcbe5a2649ef4bf3fa63fd8",
}

# Conditional attributes whose condition goes with them, or changes by design.
CONDITION_GONE = {
    "PatientAlternativeCalendar": "required beside dates in that calendar, which go with it",
    "PixelDataProviderURL": "required in JPIP syntaxes; the output has the pixels",
    "SmallestImagePixelValue": "may be wrong after blanking",
    "LargestImagePixelValue": "may be wrong after blanking",
}
SECONDS = 120


# --- types -------------------------------------------------------------------------------------------


@dataclass
class Attribute:
    """An attribute of a data set: its type, and the attributes of its items."""

    type: str | None = None
    items: dict[str, "Attribute"] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        """Type 1 or 2, with or without a condition."""
        return bool(self.type) and self.type[0] in "12"

    def stricter(self, other: str) -> None:
        """Takes another module's word for it if that asks for more."""
        if self.type is None or other < self.type:
            self.type = other


@dataclass
class Module:
    """A module of an information object."""

    mandatory: bool
    attributes: dict[str, Attribute]


class Standard:
    """Which attributes the information object of a SOP class has."""

    def __init__(self) -> None:
        tables = {name: self._read(name, sha256) for name, sha256 in TYPES.items()}
        self._classes = tables["sop_class_iod_map"]
        self._objects = tables["iod_module_map"]
        self._attributes = tables["module_attribute_map"]
        self._known: dict[str, list[Module]] = {}

    @staticmethod
    def _read(name: str, sha256: str) -> dict:
        if not setup.present(sha256):
            wheels = setup.read_toml(setup.ROOT / "tools" / "wheels.toml")["wheel"]
            pin = next(wheel for wheel in wheels if wheel["name"] == "highdicom")
            with tempfile.TemporaryDirectory(prefix="cloister-types-") as folder:
                wheel = setup.download(pin["name"], pin["version"], pin["file"], pin["sha256"], Path(folder))
                setup.keep(wheel, f"highdicom/_standard/{name}.json", sha256)
        return json.loads((setup.cache_dir() / sha256).read_text(encoding="utf-8"))

    def modules(self, sop_class: str) -> list[Module] | None:
        """The modules of a SOP class; None if the table does not know it."""
        name = self._classes.get(sop_class)
        if name is None:
            return None
        if name not in self._known:
            self._known[name] = [
                Module(part["usage"] == "M", self._tree(part["key"])) for part in self._objects[name]
            ]
        return self._known[name]

    def _tree(self, module: str) -> dict[str, Attribute]:
        top: dict[str, Attribute] = {}
        for row in self._attributes.get(module, []):
            here = top
            for sequence in row["path"]:
                here = here.setdefault(sequence, Attribute()).items
            here.setdefault(row["keyword"], Attribute()).stricter(row["type"])
        return top


def present(data_set: Dataset, keyword: str) -> bool:
    """Whether the attribute is there, with or without a value."""
    tag = tag_for_keyword(keyword)
    return tag is not None and tag in data_set


def has_value(data_set: Dataset, keyword: str) -> bool:
    """Whether the attribute has a value."""
    if not present(data_set, keyword):
        return False
    element = data_set[keyword]
    return len(element.value) > 0 if element.VR == "SQ" else not element.is_empty


def condition_gone(name: str, after: Dataset) -> bool:
    """Whether the output need not have a conditional attribute of the input."""
    # Required with more than one sample per pixel (PS3.3 C.7.6.3.1.3), and meaningless with one.
    return name in CONDITION_GONE or name == "PlanarConfiguration" and after.get("SamplesPerPixel") == 1


def missing_types(
    modules: list[Module], before: Dataset, after: Dataset, skipped: set[str]
) -> Iterator[str]:
    """What the output lacks of what the input had; puts the sequences that could not be compared into
    `skipped`."""
    for module in modules:
        if not module.mandatory:
            required = [name for name, attribute in module.attributes.items() if attribute.required]
            if not any(present(after, name) for name in required):
                continue
        yield from missing_in(module.attributes, before, after, "", skipped)


def missing_in(
    attributes: dict[str, Attribute], before: Dataset, after: Dataset, place: str, skipped: set[str]
) -> Iterator[str]:
    """The same for one data set and its items."""
    for name, attribute in attributes.items():
        if not present(before, name):
            continue
        if attribute.required and not condition_gone(name, after):
            if not present(after, name):
                yield f"type {attribute.type} {place}{name} is gone"
            elif attribute.type[0] == "1" and has_value(before, name) and not has_value(after, name):
                yield f"type {attribute.type} {place}{name} has lost its value"
        if attribute.items and present(after, name):
            old, new = before[name], after[name]
            # Items that were replaced as a whole have no counterpart: dciodvfy judges those.
            if old.VR == new.VR == "SQ" and len(old.value) == len(new.value):
                for one, other in zip(old.value, new.value, strict=True):
                    yield from missing_in(attribute.items, one, other, f"{place}{name}.", skipped)
            else:
                skipped.add(f"{place}{name}")


# --- one file ----------------------------------------------------------------------------------------


def statement_faults(data_set: Dataset, redacted: bool) -> Iterator[str]:
    """What the object says of its own de-identification and should not."""
    said = [("PatientIdentityRemoved", "YES")]
    if redacted or "PixelData" in data_set:
        said.append(("BurnedInAnnotation", "NO" if redacted else "YES"))
    for keyword, value in said:
        if data_set.get(keyword) != value:
            yield f"{keyword} is not {value}"
    codes = {item.get("CodeValue") for item in data_set.get("DeidentificationMethodCodeSequence", [])}
    if "113100" not in codes:
        yield "DeidentificationMethodCodeSequence lacks 113100"
    if ("113101" in codes) != redacted:
        yield f"DeidentificationMethodCodeSequence {'lacks' if redacted else 'has'} 113101"
    for keyword in ("DeidentificationMethod", "LongitudinalTemporalInformationModified"):
        if not has_value(data_set, keyword):
            yield f"{keyword} is missing"


def complaints(path: Path) -> set[str] | None:
    """The errors of dciodvfy without values and places; None where it gives up on the file."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, timeout=SECONDS)
    lines = (done.stderr + done.stdout).decode("latin-1").splitlines()
    if done.returncode < 0 or any("read failed" in line for line in lines):
        return None
    found = set()
    for line in lines:
        if not line.startswith("Error"):
            continue
        # Names of attributes and modules stay; values, UIDs and numbers go.
        line = re.sub(r"(?<!Element=)(?<!Module=)<[^<>]*>", "<>", line)
        found.add(re.sub(r"(?<!Type )\b[0-9]+(\.[0-9]+)*\b(?!-n)", "#", line))
    return found


def complaints_again(data_set: Dataset) -> set[str] | None:
    """The same for what dciodvfy cannot read as it came (deflated, without file meta information), as
    pydicom writes it in Explicit VR Little Endian; two bytes stand for pixels that are compressed, and
    none for pixels of more than 16 bits, at which dciodvfy ends with an assertion."""
    plain = pydicom.Dataset(data_set)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = data_set.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = data_set.get("SOPInstanceUID", "")
    plain.file_meta = meta
    if (plain.get("BitsAllocated") or 0) > 16:
        plain.pop("PixelData", None)
    if plain.get("PixelData") is not None and plain["PixelData"].is_undefined_length:
        plain["PixelData"] = pydicom.DataElement(0x7FE00010, "OW", b"\0\0")
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        try:
            pydicom.dcmwrite(file, plain, little_endian=True, implicit_vr=False)
        except Exception:
            return None
        file.flush()
        return complaints(Path(file.name))


@dataclass
class Verdict:
    """What was found in one clean file."""

    faults: list[str]
    notes: list[str]


def judge(standard: Standard, before: Path, after: Path, verify: bool, redacted: bool) -> Verdict:
    """Compares one output with its input."""
    verdict = Verdict([], [])
    try:
        new = pydicom.dcmread(after)
        for element in new.iterall():
            _ = element.value
        str(new)
    except Exception as error:
        verdict.faults.append(f"opens: pydicom says {type(error).__name__}")
        return verdict
    old = pydicom.dcmread(before, force=True)
    verdict.faults += [f"statement: {fault}" for fault in statement_faults(new, redacted)]
    modules = standard.modules(str(new.get("SOPClassUID", "")))
    if modules is None:
        verdict.notes.append("SOP class not in the table of types")
    else:
        skipped: set[str] = set()
        verdict.faults += sorted({f"types: {fault}" for fault in missing_types(modules, old, new, skipped)})
        verdict.notes += sorted(f"items not compared: {name}" for name in skipped)
    if verify:
        was, now = complaints(before), complaints(after)
        if was is None or now is None:
            # Both the same way, or what was left out for one would count for the other.
            was, now = complaints_again(old), complaints_again(new)
        if now is None and redacted:
            verdict.faults.append("dciodvfy: cannot read the output")
        elif now is None:
            verdict.notes.append("dciodvfy cannot read the output")
        elif was is None:
            verdict.notes.append("dciodvfy cannot read the input")
        else:
            verdict.faults += [f"dciodvfy: {line}" for line in sorted(now - was)]
    return verdict


# --- the run -----------------------------------------------------------------------------------------


def run_faults(lines: list[dict], source: Path, target: Path) -> Iterator[str]:
    """What is wrong with the report as a whole."""
    if not any(line["status"] == "clean" for line in lines):
        yield "no file came out clean: nothing was checked"
    inputs = Counter(line["input"] for line in lines)
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    yield from (f"{name}: no line" for name in sorted(files - set(inputs)))
    yield from (f"{name}: {count} lines" for name, count in inputs.items() if count != 1)
    named = set()
    for line in lines:
        if line["status"] == "quarantined":
            if not line.get("reason"):
                yield f"{line['input']}: quarantined without a reason"
            continue
        same = "SAME_CONTENT" in line["flags"]
        if (line["output"] in named) != same:
            yield f"{line['input']}: {line['output']} is named {'first' if same else 'twice'}"
        named.add(line["output"])
    written = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    yield from (f"{name}: named by no line" for name in sorted(written - named))
    yield from (f"{name}: not written" for name in sorted(named - written))


def self_test(standard: Standard) -> None:
    """Breaks an object on purpose: a check that sees nothing proves nothing."""
    photo = Dataset()
    photo.PatientSetupPhotoDescription = "left arm up"
    preparation = Dataset()
    preparation.ReferencedPatientSetupPhotoSequence = [photo]
    whole = Dataset()
    whole.Modality, whole.PatientID, whole.StudyInstanceUID = "CT", "", "1.2"
    whole.PatientTreatmentPreparationSequence = [preparation]
    broken = copy.deepcopy(whole)
    broken.Modality = ""
    del broken.PatientID
    inner = broken.PatientTreatmentPreparationSequence[0].ReferencedPatientSetupPhotoSequence[0]
    del inner.PatientSetupPhotoDescription
    modules = standard.modules(pydicom.uid.CTImageStorage) or []
    expected = [
        "type 1 Modality has lost its value",
        "type 2 PatientID is gone",
        "type 2 PatientTreatmentPreparationSequence.ReferencedPatientSetupPhotoSequence."
        "PatientSetupPhotoDescription is gone",
    ]
    skipped: set[str] = set()
    if sorted(set(missing_types(modules, whole, broken, skipped))) != expected or set(
        missing_types(modules, whole, whole, skipped)
    ):
        raise ValueError("the check of types does not see what it must")
    broken.PatientTreatmentPreparationSequence.append(Dataset())
    list(missing_types(modules, whole, broken, skipped))
    if skipped != {"PatientTreatmentPreparationSequence"}:
        raise ValueError("the check of types does not say what it leaves out")

    colour, grey = Dataset(), Dataset()
    colour.SamplesPerPixel, colour.PlanarConfiguration, grey.SamplesPerPixel = 3, 0, 1
    interleaved = copy.deepcopy(colour)
    del interleaved.PlanarConfiguration
    planar = {"PlanarConfiguration": Attribute("1C")}
    if not list(missing_in(planar, colour, interleaved, "", set())) or list(
        missing_in(planar, colour, grey, "", set())
    ):
        raise ValueError("the check of types does not ask for Planar Configuration")

    quarantined = {"input": "a", "status": "quarantined", "reason": "NOT_DICOM", "flags": []}
    with tempfile.TemporaryDirectory(prefix="cloister-empty-") as empty:
        source, target = Path(empty) / "in", Path(empty) / "out"
        source.mkdir()
        target.mkdir()
        (source / "a").touch()
        if len(list(run_faults([quarantined], source, target))) != 1:
            raise ValueError("the check of the run takes no clean file for a good result")


def main() -> int:
    """Reads the report, judges every clean file, prints what was found."""
    parser = argparse.ArgumentParser(description="Checks what `cloister deidentify` wrote.")
    parser.add_argument("--in", dest="source", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", dest="target", type=Path, required=True, metavar="DIR")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--before-redaction",
        action="store_true",
        help="the objects come from crates/deid alone: they must say that their pixels are not clean",
    )
    parser.add_argument(
        "--without-dciodvfy",
        action="store_true",
        help="judge by the table of types alone (dciodvfy: Debian's dicom3tools)",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    arguments = parser.parse_args()

    with arguments.report.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    clean = [line for line in lines if line["status"] == "clean"]
    # What pydicom thinks of the form of values is not asked here.
    warnings.simplefilter("ignore")
    verify = not arguments.without_dciodvfy
    if verify and shutil.which("dciodvfy") is None:
        print(
            "check_outputs: dciodvfy is not installed (Debian: dicom3tools); --without-dciodvfy goes without",
            file=sys.stderr,
        )
        return 2
    if not verify:
        print("SKIPPED: dciodvfy")
    standard = Standard()
    self_test(standard)
    faults = [f"run: {fault}" for fault in run_faults(lines, arguments.source, arguments.target)]

    def one(line: dict) -> Verdict:
        before, after = arguments.source / line["input"], arguments.target / line["output"]
        return judge(standard, before, after, verify, not arguments.before_redaction)

    notes: Counter[str] = Counter()
    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        for line, verdict in zip(clean, pool.map(one, clean), strict=True):
            notes.update(verdict.notes)
            faults += [f"{line['input']}: {fault}" for fault in verdict.faults]

    reasons = Counter(line["reason"] for line in lines if line["status"] == "quarantined")
    flags = Counter(flag for line in lines for flag in line["flags"])
    print(f"{len(lines)} files: {len(clean)} clean, {sum(reasons.values())} quarantined")
    for title, counted in [("quarantined", reasons), ("flagged", flags), ("note", notes)]:
        for name, count in counted.most_common():
            print(f"  {title} {name}: {count}")
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (setup.SetupError, OSError, ValueError, KeyError) as error:
        print(f"check_outputs: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
