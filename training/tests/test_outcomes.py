import json
import stat
import sys
from pathlib import Path

import pytest

from cloister_training.evaluation import outcomes

# A stand-in for the binary: notes what it was called with, and answers by the film's name.
STAND_IN = """\
#!{python}
import json, pathlib, sys
calls = pathlib.Path({calls!r})
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
option = lambda name: pathlib.Path(sys.argv[sys.argv.index(name) + 1])
if sys.argv[1:3] == ["keys", "signing"]:
    option("--out").write_text("private")
    option("--out").with_name(option("--out").name + ".pub").write_text("public")
elif sys.argv[1:3] == ["bundle", "sign"]:
    (pathlib.Path(sys.argv[-1]) / "bundle.sig").write_bytes(b"0" * 64)
else:
    if not (option("--bundle") / "bundle.sig").is_file() or option("--trust-key").read_text() != "public":
        sys.exit("not trusted")
    code = 0
    for line in map(json.loads, open(sys.argv[-1])):
        name, answer = line["image"], {{"id": line["id"]}}
        if "gone" in name:
            answer, code = {{**answer, "error": "file_unreadable"}}, 1
        elif "hand" in name:
            answer.update(outcome="refused", reasons=["NOT_CHEST"], labels={{}}, image_guard=None, timings_us={{"total": 5}})
        else:
            labels = {{"mass": 0.3 if line.get("view") == "AP" else 0.1, "nodule": 0.2}}
            found = labels["mass"] >= 0.25
            answer.update(
                outcome="escalated" if found else "delivered",
                reasons=["CRITICAL_FINDING"] if found else [],
                findings="One film, PA view. Clear.", labels=labels, image_guard=None, timings_us={{"total": 1500000}},
            )
        print(json.dumps(answer))
    sys.exit(code)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "cxr-report-ref"
    folder.mkdir()
    text = "[[labels]]\nname = 'mass'\nthreshold = 0.25\n[[labels]]\nname = 'nodule'\nthreshold = 0.25\n"
    (folder / "bundle.toml").write_text(text)
    return folder


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "cloister"
    file.write_text(STAND_IN.format(python=sys.executable, calls=str(tmp_path / "calls")))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.fixture
def hannover(tmp_path: Path) -> Path:
    folder = tmp_path / "hannover"
    folder.mkdir()
    rows = ["image_id,sex,age,projection", "one,f,61.0,ap", "two,m,,pa", "gone,m,,pa"]
    (folder / "data.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    folder = tmp_path / "dicom"
    folder.mkdir()
    rows = [
        "file,tsn,mod,body,decode",
        "a/secret-name.dcm,JPEG Baseline (Process 1),CR,CHEST,ok 9x9 uint8",
        "a/hand.dcm,RLE Lossless,CR,HAND,ok 9x9 uint8",
        "a/hand-ct.dcm,RLE Lossless,CT,CHEST,ok 9x9 uint8",
        "a/hand-empty.dcm,RLE Lossless,DX,CHEST,no pixels",
    ]
    (folder / "inventory.csv").write_text("\n".join(rows))
    return folder


def said(_: str) -> None:
    pass


def test_a_request_says_what_the_table_says_and_leaves_open_what_it_leaves_open(hannover: Path) -> None:
    first, second, _ = outcomes.hannover_requests(hannover)
    assert first.record == {
        "image": str(hannover / "images" / "one.jpg"),
        "view": "AP",
        "sex": "F",
        "age": 61,
    }
    assert set(second.record) == {"image", "view", "sex"}


def test_outcomes_are_counted_with_their_intervals(
    binary: Path, bundle: Path, hannover: Path, dicom: Path, tmp_path: Path
) -> None:
    figures, facts = outcomes.outcomes(binary, bundle, None, hannover, dicom, said)
    found = facts["outcomes"]["sets"]
    assert found["hannover"]["outcomes"] == {
        "delivered": 1, "abstained": 0, "escalated": 1, "refused": 0, "unanswered": 1,
    }  # fmt: skip
    share = figures["outcomes.hannover.escalated"]
    assert share["value"] == 1 / 3 and share["n"] == 3
    assert share["low"] is not None and share["high"] is not None and share["low"] < 1 / 3 < share["high"]
    assert found["hannover"]["labels_present"] == {"mass": 1, "nodule": 0}
    assert found["hannover"]["without_label"] == 1 and found["hannover"]["seconds_per_film"] == 1.5
    assert found["hannover"]["views_stated"] == 2 and found["hannover"]["other_view_drafted"] == 1
    assert found["dicom"]["films"] == 1 and found["dicom_rest"]["films"] == 3
    assert figures["outcomes.dicom_rest.refused"]["value"] == 1.0
    assert found["dicom_rest"]["reasons"] == {"NOT_CHEST": 3} and found["dicom_rest"]["assessed"] == 0
    assert found["dicom"]["image_guard_absent"] == 1
    assert not (bundle / "bundle.sig").exists(), "the bundle itself is not touched"
    # No file is named, neither in what is kept nor in what is shown.
    told = json.dumps(facts) + "".join(figures) + outcomes.tables(figures, facts)
    assert "secret" not in told and "one.jpg" not in told and str(tmp_path) not in told
    assert "JPEG Baseline" in told


def test_a_given_key_signs_the_copy(binary: Path, bundle: Path, hannover: Path, tmp_path: Path) -> None:
    key = tmp_path / "mine.pem"
    key.write_text("private")
    key.with_name("mine.pem.pub").write_text("public")
    figures, facts = outcomes.outcomes(binary, bundle, key, hannover, None, said)
    assert "outcomes.hannover.delivered" in figures and "outcomes.dicom.refused" not in figures
    assert facts["outcomes"]["missing"] == ["dicom", "dicom_rest"]
    calls = (tmp_path / "calls").read_text()
    assert "keys" not in calls and str(key) in calls


def test_what_could_not_be_measured_is_said_in_the_card(
    binary: Path, bundle: Path, hannover: Path, tmp_path: Path
) -> None:
    log: list[str] = []
    figures, facts = outcomes.outcomes(tmp_path / "absent", bundle, None, hannover, None, log.append)
    assert not figures and "no cloister binary" in outcomes.tables(figures, facts) and log
    binary.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('ONNX Runtime is not in the cache')\n")
    figures, facts = outcomes.outcomes(binary, bundle, None, hannover, None, log.append)
    assert not figures and "ONNX Runtime is not in the cache" in outcomes.tables(figures, facts)
