"""Where identifiers hide, as far as it can be seen from outside: the object is acknowledged or refused,
and the identifier comes back in no answer, log, metric, control answer or file in clear.

What leaves the receiver is tested in `tests/tests/canary.rs`; these are its placements, over the wire.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from ..dataset import (
    ITEM,
    ITEM_END,
    LITTLE,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    Part,
    Raw,
    encode,
    fragments,
    header,
    image,
    sequence,
    short,
    string,
    tag,
    with_parts,
    without,
)
from ..peer import CR, DEFLATED, EXPLICIT, IMPLICIT, context, identity, item, padded, user_info
from ..suite import ANSWERED, CATALOGUE, HANDLED, STORED, Expect, NotApplicable, Try

case = CATALOGUE.case
BASELINE = "1.2.840.10008.1.2.4.50"
J2K = "1.2.840.10008.1.2.4.90"
KEEPS = Expect(HANDLED, (*STORED, "STATUS C???"))
Parts = Callable[[str], "list[Part]"]
PLACEMENTS: list[str] = []
SEEN = "no answer holds it; cloister with --scan: see PH-900"


def canary(seed: str, number: str) -> str:
    """Twelve capital letters that nobody is called."""
    digest = hashlib.sha256(f"canary/{seed}/{number}".encode()).digest()
    return "".join("BCDFGHJKLMNPQRSTVWXZ"[byte % 20] for byte in digest[:12])


def digits(seed: str, number: str) -> str:
    """Fourteen digits that occur nowhere else."""
    return "7" + str(int.from_bytes(hashlib.sha256(f"digits/{seed}/{number}".encode()).digest()[:8], "big") % 10**13).zfill(13)


def forms(seed: str, number: str) -> list[bytes]:
    """How the canary of a case may show up."""
    found = []
    for plain in (canary(seed, number), digits(seed, number)):
        found += [plain.encode(), plain.lower().encode(), plain.encode("utf-16-le"), plain.encode("utf-16-be")]
    return found


def placed(number: int, title: str, build: Parts, *, syntax: str = EXPLICIT, sop_class: str = CR, source: str = "PS3.15 table E.1-1") -> None:
    """A canary in one place of an object."""
    name = f"PH-{number:03}"
    PLACEMENTS.append(name)

    def run(t: Try) -> None:
        made = t.storing(syntax, sop_class)
        instance = t.uid()
        base = image(instance, t.uid(), sop_class=sop_class)
        data = encode(with_parts(base, *build(canary(t.target.seed, name))), syntax)
        answer = t.match(made.store(data, instance, sop_class), KEEPS)
        _not_in_answer(t, name, answer.response.raw if answer.response else b"")
        made.after(answer)

    case(name, f"An identifier in {title}", source, f"C-STORE: an identifier in {title}", f"{KEEPS}; {SEEN}")(run)


def _not_in_answer(t: Try, name: str, raw: bytes) -> None:
    t.check(not any(form in raw for form in forms(t.target.seed, name)), "the identifier is in the response")


def text_in(group: int, number: int, vr: str) -> Parts:
    """In a text element."""
    return lambda c: [string(group, number, vr, c)]


def in_sequence(group: int, number: int, *inner: tuple[int, int, str]) -> Parts:
    """In elements of a sequence's item."""
    return lambda c: [sequence(group, number, [string(*one, c) for one in inner])]


def nested(depth: int) -> Parts:
    """The patient's name at a depth."""

    def build(c: str) -> list[Part]:
        inner: Part = string(0x10, 0x10, "PN", c)
        for _ in range(depth):
            inner = sequence(0x40, 0x0275, [inner], undefined=True, items_undefined=True)
        return [inner]

    return build


for depth in range(1, 9):
    placed(depth, f"the patient's name, {depth} sequence{'s' * (depth > 1)} deep", nested(depth))
for offset, (title, group, number, vr) in enumerate(
    (
        ("patient's name", 0x10, 0x10, "PN"),
        ("patient id", 0x10, 0x20, "LO"),
        ("other patient ids", 0x10, 0x1000, "LO"),
        ("other patient names", 0x10, 0x1001, "PN"),
        ("patient's address", 0x10, 0x1040, "LO"),
        ("patient's telephone numbers", 0x10, 0x2154, "SH"),
        ("patient's mother's birth name", 0x10, 0x1060, "PN"),
        ("additional patient history", 0x10, 0x21B0, "LT"),
        ("patient comments", 0x10, 0x4000, "LT"),
        ("accession number", 0x08, 0x50, "SH"),
        ("referring physician's name", 0x08, 0x90, "PN"),
        ("performing physician's name", 0x08, 0x1050, "PN"),
        ("operators' name", 0x08, 0x1070, "PN"),
        ("institution name", 0x08, 0x80, "LO"),
        ("institution address", 0x08, 0x81, "ST"),
        ("station name", 0x08, 0x1010, "SH"),
        ("study description", 0x08, 0x1030, "LO"),
        ("series description", 0x08, 0x103E, "LO"),
        ("protocol name", 0x18, 0x1030, "LO"),
        ("device serial number", 0x18, 0x1000, "LO"),
        ("image comments", 0x20, 0x4000, "LT"),
        ("requested procedure description", 0x32, 0x1060, "LO"),
        ("performed procedure step description", 0x40, 0x254, "LO"),
        ("text comments of group 4000", 0x4000, 0x4000, "LT"),
        ("a retrieve URL", 0x08, 0x1190, "UR"),
        ("unlimited text", 0x40, 0xA160, "UT"),
        ("a known element with VR UN", 0x10, 0x1002, "UN"),
    )
):
    placed(9 + offset, title, text_in(group, number, vr))
for offset, (title, build) in enumerate(
    (
        ("request attributes", in_sequence(0x40, 0x275, (0x40, 0x1001, "SH"), (0x40, 0x7, "LO"))),
        ("referenced patient", in_sequence(0x8, 0x1120, (0x10, 0x20, "LO"))),
        ("other patient ids sequence", in_sequence(0x10, 0x1002, (0x10, 0x20, "LO"))),
        ("original attributes", lambda c: [sequence(0x400, 0x561, [sequence(0x400, 0x550, [string(0x10, 0x10, "PN", c)])])]),
        ("person identification codes", in_sequence(0x40, 0x1101, (0x8, 0x104, "LO"))),
        ("issuer of accession number", in_sequence(0x8, 0x51, (0x40, 0x31, "UT"))),
        ("contributing equipment", in_sequence(0x18, 0xA001, (0x8, 0x1010, "SH"), (0x8, 0x80, "LO"))),
        ("an SR text item", lambda c: [sequence(0x40, 0xA730, [string(0x40, 0xA040, "CS", "TEXT"), string(0x40, 0xA160, "UT", c)])]),
        ("an SR person name item", lambda c: [sequence(0x40, 0xA730, [string(0x40, 0xA040, "CS", "PNAME"), string(0x40, 0xA123, "PN", c)])]),
        ("an SR item three levels deep", lambda c: [sequence(0x40, 0xA730, [sequence(0x40, 0xA730, [sequence(0x40, 0xA730, [string(0x40, 0xA160, "UT", c)])])])]),
        ("the text of a presentation state", lambda c: [sequence(0x70, 1, [sequence(0x70, 8, [string(0x70, 6, "ST", c)])])]),
        ("a waveform annotation", lambda c: [sequence(0x40, 0xB020, [string(0x70, 6, "ST", c)])]),
        ("waveform data", lambda c: [sequence(0x5400, 0x100, [Element((0x5400, 0x1010), "OW", c.encode())])]),
        ("an icon image", lambda c: [sequence(0x88, 0x200, [short(0x28, 0x10, 2), short(0x28, 0x11, 6), Element(PIXEL_DATA, "OB", c.encode())])]),
        ("a digital signature", lambda c: [sequence(0xFFFA, 0xFFFA, [Element((0x400, 0x115), "OB", c.encode())])]),
        ("encrypted attributes", lambda c: [sequence(0x400, 0x500, [Element((0x400, 0x520), "OB", c.encode())])]),
    )
):
    placed(36 + offset, title, build)
CREATOR = string(9, 0x10, "LO", "CLOISTER TEST")
for offset, (title, build) in enumerate(
    (
        ("a private LO element", lambda c: [CREATOR, string(9, 0x1001, "LO", c)]),
        ("a private UN element", lambda c: [CREATOR, string(9, 0x1002, "UN", c)]),
        ("a private OB element", lambda c: [CREATOR, Element((9, 0x1003), "OB", c.encode())]),
        ("a private OB element as UTF-16", lambda c: [CREATOR, Element((9, 0x1003), "OB", c.encode("utf-16-le"))]),
        ("a private sequence", lambda c: [CREATOR, sequence(9, 0x1004, [string(0x10, 0x10, "PN", c)])]),
        ("a private creator", lambda c: [string(9, 0x10, "LO", c), string(9, 0x1001, "LO", "x")]),
        ("a private element without creator", lambda c: [string(0x11, 0x1001, "LO", c)]),
        ("a Siemens CSA header", lambda c: [string(0x29, 0x10, "LO", "SIEMENS CSA HEADER"), Element((0x29, 0x1010), "OB", b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + c.encode().ljust(64, b"\0"))]),
        ("UN of undefined length", lambda c: [CREATOR, Raw((9, 0x1005), header((9, 0x1005), "UN", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + b"\xff\xff\xff\xff" + b"\x10\0\x10\0" + struct.pack("<I", 12) + c.encode() + tag(ITEM_END, LITTLE) + bytes(4) + tag(SEQUENCE_END, LITTLE) + bytes(4))]),
        ("an overlay's description", lambda c: [string(0x6000, 0x22, "LO", c)]),
        ("an overlay's label", lambda c: [string(0x6000, 0x1500, "LO", c)]),
        ("overlay data", lambda c: [short(0x6000, 0x10, 8), short(0x6000, 0x11, 12), Element((0x6000, 0x3000), "OW", c.encode())]),
        ("a curve's label", lambda c: [string(0x5000, 0x2500, "LO", c)]),
        ("curve data", lambda c: [Element((0x5000, 0x3000), "OW", c.encode())]),
        ("audio data", lambda c: [Element((0x5000, 0x200C), "OW", c.encode())]),
        ("an ICC profile", lambda c: [Element((0x28, 0x2000), "OB", bytes(128) + b"desc" + c.encode())]),
        ("a palette lookup table", lambda c: [Element((0x28, 0x1201), "OW", c.encode())]),
        ("a lookup table's explanation", in_sequence(0x28, 0x3010, (0x28, 0x3003, "LO"))),
        ("data set trailing padding", lambda c: [Element((0xFFFC, 0xFFFC), "OB", c.encode())]),
        ("bytes behind the last frame", lambda c: [Element(PIXEL_DATA, "OW", bytes(512) + c.encode())]),
        ("the unused high bits of pixels", lambda c: [Element(PIXEL_DATA, "OW", b"".join(bytes([0, (byte & 15) << 4]) for byte in c.encode() * 21).ljust(512, b"\0")[:512])]),
        ("bits of an overlay in the pixels", lambda c: [short(0x6000, 0x100, 16), short(0x6000, 0x102, 15), Element(PIXEL_DATA, "OW", b"".join(bytes([0, 128 * (byte >> bit & 1)]) for byte in c.encode() for bit in range(8)).ljust(512, b"\0"))]),
        ("a date inside a description", lambda c: [string(8, 0x1030, "LO", f"seen 1 JAN 1970 {c}")]),
        ("the second of several values", lambda c: [string(0x10, 0x1000, "LO", f"A\\{c}\\B")]),
        ("a name in small letters", lambda c: [string(0x10, 0x4000, "LT", f"seen with {c.lower()} today")]),
        ("a number with dashes", lambda c: [string(0x10, 0x20, "LO", "-".join((c[:4], c[4:8], c[8:])))]),
        ("a name in UTF-8", lambda c: [string(8, 5, "CS", "ISO_IR 192"), string(0x10, 0x10, "PN", f"{c}^Jürgen=王^小東")]),
        ("a name behind an escape sequence", lambda c: [string(8, 5, "CS", "\\ISO 2022 IR 87"), Element((0x10, 0x10), "PN", padded(b"\x1b$B;3ED\x1b(B^" + c.encode(), b" "))]),
        ("the group length of a retired group", lambda c: [Element((0x4FFE, 0x1), "LT", c.encode())]),
    )
):
    placed(52 + offset, title, build)
for offset, (title, build, sop_class) in enumerate(
    (
        ("an encapsulated PDF", lambda c: [string(0x42, 0x12, "LO", "application/pdf"), Element((0x42, 0x11), "OB", padded(f"%PDF-1.4 ({c}) Tj %%EOF"))], "1.2.840.10008.5.1.4.1.1.104.1"),
        ("an encapsulated CDA document", lambda c: [string(0x42, 0x12, "LO", "text/XML"), Element((0x42, 0x11), "OB", padded(f"<ClinicalDocument><name>{c}</name></ClinicalDocument>"))], "1.2.840.10008.5.1.4.1.1.104.2"),
        ("an encapsulated STL model", lambda c: [string(0x42, 0x12, "LO", "model/stl"), Element((0x42, 0x11), "OB", c.encode().ljust(84, b"\0"))], "1.2.840.10008.5.1.4.1.1.104.3"),
        ("a document title", lambda c: [string(0x42, 0x10, "ST", c)], "1.2.840.10008.5.1.4.1.1.104.1"),
    )
):
    placed(81 + offset, title, build, sop_class=sop_class)
JPEG_HEAD, JPEG_TAIL = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, data: bytes) -> bytes:
    """A JPEG marker segment."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


for offset, (title, build, syntax) in enumerate(
    (
        ("a JPEG comment", lambda c: JPEG_HEAD + segment(0xFE, c.encode()) + JPEG_TAIL, BASELINE),
        ("EXIF inside a JPEG fragment", lambda c: JPEG_HEAD + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + c.encode()) + JPEG_TAIL, BASELINE),
        ("an APP13 segment", lambda c: JPEG_HEAD + segment(0xED, b"Photoshop 3.0\0" + c.encode()) + JPEG_TAIL, BASELINE),
        ("bytes behind the end of a JPEG image", lambda c: JPEG_HEAD + JPEG_TAIL + c.encode(), BASELINE),
        ("a JPEG 2000 comment", lambda c: b"\xff\x4f" + segment(0x64, b"\0\1" + c.encode()) + b"\xff\xd9", J2K),
    )
):
    placed(85 + offset, title, lambda c, build=build: [fragments(padded(build(c)))], syntax=syntax, source="PS3.5 A.4; PS3.15 E.3")
placed(90, "the basic offset table", lambda c: [fragments(JPEG_HEAD + JPEG_TAIL, table=c.encode())], syntax=BASELINE)
placed(91, "a second fragment that no frame needs", lambda c: [fragments(JPEG_HEAD + JPEG_TAIL, c.encode())], syntax=BASELINE)
placed(92, "a deflated data set", text_in(0x10, 0x10, "PN"), syntax=DEFLATED)
placed(93, "an implicit VR private element", lambda c: [CREATOR, string(9, 0x1001, "LO", c)], syntax=IMPLICIT)


@case("PH-094", "An identifier in study and series UIDs", "PS3.15 table E.1-1 (U)", "C-STORE: digits of a record number in the study and series UID", f"{KEEPS}; {SEEN}")
def _(t: Try) -> None:
    made = t.storing()
    number = digits(t.target.seed, "PH-094")
    instance = t.uid()
    answer = t.match(made.store(encode(image(instance, f"1.2.826.0.1.{number}"), EXPLICIT), instance), KEEPS)
    _not_in_answer(t, "PH-094", answer.response.raw if answer.response else b"")
    made.after(answer)


@case("PH-095", "An identifier in a data set that cannot be read", "issue 4: errors carry no identifiers", "C-STORE: a name, then an element that passes the end", f"a failure status, ABORT or CLOSED; cloister: STATUS Cxxx; {SEEN}")
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    name = canary(t.target.seed, "PH-095")
    parts = with_parts(image(instance, t.uid()), string(0x10, 0x10, "PN", name), string(0x10, 0x20, "LO", name))
    data = encode(without(parts, PIXEL_DATA), EXPLICIT) + header((0x7001, 0x10), "LO", 60, LITTLE) + name.encode()
    answer = t.match(made.store(data, instance), Expect(HANDLED, ("STATUS C???",)))
    _not_in_answer(t, "PH-095", answer.response.raw if answer.response else b"")
    made.after(answer)


@case("PH-096", "An identifier where a UID should be", "issue 4: errors carry no identifiers", "C-STORE: a name as study instance UID", f"any status, ABORT or CLOSED; cloister: STATUS Cxxx; {SEEN}")
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    parts = with_parts(image(instance, t.uid()), string(0x20, 0xD, "UI", canary(t.target.seed, "PH-096")))
    answer = t.match(made.store(encode(parts, EXPLICIT), instance), Expect(HANDLED, ("STATUS C???",)))
    _not_in_answer(t, "PH-096", answer.response.raw if answer.response else b"")
    made.after(answer)


@case("PH-097", "User name and passcode of the user identity", "PS3.7 D.3.3.7: in clear on the wire, nowhere else", "user identity type 2", f"AC, RJ, ABORT or CLOSED; {SEEN}")
def _(t: Try) -> None:
    name = canary(t.target.seed, "PH-097").encode()
    t.match(t.reply(t.request(user=user_info(identity(2, 1, name, name))).encode()), ANSWERED)


@case("PH-098", "An identifier as called AE title", "issue 4: logs hold no identifiers", "a name as called AE title", f"AC, RJ, ABORT or CLOSED; {SEEN}")
def _(t: Try) -> None:
    t.match(t.reply(t.request(called=canary(t.target.seed, "PH-098")).encode()), ANSWERED)


@case("PH-099", "An identifier as implementation version name", "PS3.7 D.3.3.2; issue 4: logs hold no identifiers", "a name as implementation version name", f"AC, RJ, ABORT or CLOSED; {SEEN}")
def _(t: Try) -> None:
    version = item(0x55, canary(t.target.seed, "PH-099").encode())
    t.match(t.reply(t.request(contexts=[context(1)], user=user_info(version)).encode()), ANSWERED)


PLACEMENTS += [f"PH-{number:03}" for number in range(94, 100)]


@case("PH-900", "No identifier of any case in clear: files, logs, metrics, control answers", "issue 4; DESIGN: no identifier in a log, metric or file in clear", "nothing; every file under --scan, the metrics and the control answers are read", "no canary of PH-001 to PH-099, in ASCII, small letters or UTF-16", needs=("scan",), when="last", limit=120.0)
def _(t: Try) -> None:
    if not t.cloister:
        raise NotApplicable("the receiver may store in clear")
    wanted = {form: name for name in PLACEMENTS for form in forms(t.target.seed, name)}
    files = 0
    for root in t.target.scan:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file():
                files += 1
                _search(t, path.name, path, wanted)
    t.notes["files"] = files
    t.check(files, "nothing was scanned")
    for what in ("studies", "quarantine"):
        if t.target.control is not None:
            _found(t, f"the control socket's {what}", _control(t, what), wanted)
    if t.target.metrics is not None:
        _found(t, "the metrics", _get(t, "/metrics"), wanted)


def _search(t: Try, name: str, path: Path, wanted: dict[bytes, str]) -> None:
    try:
        # Larger files are pixel data of the storage cases, encrypted and without canaries.
        if path.stat().st_size <= 8 << 20:
            _found(t, f"a file {name}", path.read_bytes(), wanted)
    except FileNotFoundError:
        return


def _found(t: Try, where: str, data: bytes, wanted: dict[bytes, str]) -> None:
    for form, name in wanted.items():
        t.check(form not in data, f"the identifier of {name} is in {where}")


def _control(t: Try, what: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(t.target.patience)
        asked.connect(str(t.target.control))
        asked.sendall(f'{{"list":"{what}"}}\n'.encode())
        data = b""
        while not data.endswith(b"\n"):
            got = asked.recv(1 << 16)
            if not got:
                break
            data += got
        return data


def _get(t: Try, path: str) -> bytes:
    with socket.create_connection(t.target.metrics or ("", 0), timeout=t.target.patience) as asked:
        asked.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while got := asked.recv(1 << 16):
            data += got
        return data
