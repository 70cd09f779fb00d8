"""The storage service class: PS3.4 annex B, and what issue 4 adds to it."""

from __future__ import annotations

import struct
import threading
import time
from pathlib import Path

from ..dataset import LITTLE, PIXEL_DATA, Part, encode, header, image, string, with_parts, without
from ..peer import CR, EXPLICIT, IMPLICIT, Store, context, p_data, padded, pdv
from ..suite import (
    CATALOGUE,
    ENDED,
    FAILURE,
    HANDLED,
    SHOULD,
    STORED,
    Association,
    Expect,
    Failed,
    NotApplicable,
    Try,
)

case = CATALOGUE.case
NOT_STORED = (*FAILURE, *ENDED)
TABLE = "PS3.4 B.2.3, table B.2-1"
# PS3.4 table B.5-1, a choice of every kind; retired ones at the end.
CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX for presentation": "1.2.840.10008.5.1.4.1.1.1.1",
    "DX for processing": "1.2.840.10008.5.1.4.1.1.1.1.1",
    "mammography": "1.2.840.10008.5.1.4.1.1.1.2",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "ultrasound": "1.2.840.10008.5.1.4.1.1.6.1",
    "secondary capture": "1.2.840.10008.5.1.4.1.1.7",
    "multi-frame true colour secondary capture": "1.2.840.10008.5.1.4.1.1.7.4",
    "12-lead ECG": "1.2.840.10008.5.1.4.1.1.9.1.1",
    "grayscale presentation state": "1.2.840.10008.5.1.4.1.1.11.1",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
    "PET": "1.2.840.10008.5.1.4.1.1.128",
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "VL photographic": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "whole slide": "1.2.840.10008.5.1.4.1.1.77.1.6",
    "basic text SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "X-ray dose SR": "1.2.840.10008.5.1.4.1.1.88.67",
    "key object selection": "1.2.840.10008.5.1.4.1.1.88.59",
    "encapsulated PDF": "1.2.840.10008.5.1.4.1.1.104.1",
    "RT structure set": "1.2.840.10008.5.1.4.1.1.481.3",
    "RT plan": "1.2.840.10008.5.1.4.1.1.481.5",
    "retired ultrasound": "1.2.840.10008.5.1.4.1.1.6",
    "retired nuclear medicine": "1.2.840.10008.5.1.4.1.1.5",
}


def new_image(t: Try, *changes: Part, study: str | None = None, syntax: str = EXPLICIT, side: int = 16) -> tuple[str, bytes]:
    """UID and bytes of a new image."""
    instance = t.uid()
    return instance, encode(with_parts(image(instance, study or t.uid(), side=side), *changes), syntax)


# --- what is stored ------------------------------------------------------------------------------------


@case("ST-001", "An object is stored, the association stays usable", TABLE, "C-STORE, C-ECHO, release", "STATUS 0000 twice; RELEASE-RP")
def _(t: Try) -> None:
    made = t.storing()
    made.after(t.match(made.store_image(), STORED))


@case("ST-002", "Twenty objects on one association", TABLE, "20 C-STORE of one study", "STATUS 0000 each; with a control socket: one study, 20 objects")
def _(t: Try) -> None:
    made, study = t.storing(), t.uid()
    for _ in range(20):
        instance, data = new_image(t, study=study)
        t.match(made.store(data, instance), STORED)
    made.release()
    if t.target.control is not None:
        rows = t.ask("studies")
        t.check([row["objects"] for row in rows] == [20], f"{[row['objects'] for row in rows]} objects")


@case("ST-003", "C-STORE and C-ECHO in turn", TABLE, "three times C-STORE, C-ECHO", "STATUS 0000 each")
def _(t: Try) -> None:
    made = t.storing()
    for _ in range(3):
        t.match(made.store_image(), STORED)
        made.usable()
    made.release()


@case("ST-004", "Two transfer syntaxes on two contexts of one association", "PS3.8 7.1.1.13", "CR storage on context 3 implicit and 5 explicit, an object on each", "STATUS 0000 each")
def _(t: Try) -> None:
    made = t.associate([context(1), context(3, CR, (IMPLICIT,)), context(5, CR, (EXPLICIT,))])
    for number, syntax in ((3, IMPLICIT), (5, EXPLICIT), (3, IMPLICIT)):
        if made.accepted.result(number) != 0:
            raise NotApplicable(f"context {number} not accepted")
        t.match(made.store_image(syntax, number=number), STORED)
    made.release()


for offset, (name, uid) in enumerate(CLASSES.items()):

    @case(
        f"ST-{5 + offset:03}",
        f"Storage SOP class: {name}",
        "PS3.4 table B.5-1 and annex B.6; issue 4: every storage SOP class",
        f"context for {uid}, an object if it is accepted",
        "STATUS 0000, or the context is not accepted; cloister: STATUS 0000",
    )
    def _(t: Try, uid: str = uid) -> None:
        made = t.associate([context(1), context(3, uid, (EXPLICIT, IMPLICIT))])
        if made.accepted.result(3) != 0:
            t.check(not t.cloister, f"result {made.accepted.result(3)}")
            raise NotApplicable("not offered")
        instance = t.uid()
        data = encode(image(instance, t.uid(), sop_class=uid), made.accepted.syntax(3) or EXPLICIT)
        t.match(made.store(data, instance, uid), STORED)
        made.release()


# --- duplicates ----------------------------------------------------------------------------------------


@case("ST-031", "The same object twice on one association", f"{TABLE}; issue 4: acknowledged once, kept once", "the same C-STORE twice", "STATUS 0000 twice; with a control socket: one object")
def _(t: Try) -> None:
    made = t.storing()
    instance, data = new_image(t)
    t.match(made.store(data, instance), STORED)
    t.match(made.store(data, instance), Expect(HANDLED, STORED))
    made.release()
    _one_object(t)


def _one_object(t: Try) -> None:
    if t.target.control is not None:
        rows = t.ask("studies")
        t.check([row["objects"] for row in rows] == [1], f"{[row['objects'] for row in rows]} objects")


@case("ST-032", "The same object twice on two associations", f"{TABLE}; issue 4", "the same C-STORE on two associations", "STATUS 0000 twice; with a control socket: one object")
def _(t: Try) -> None:
    instance, data = new_image(t)
    for _ in range(2):
        made = t.storing()
        t.match(made.store(data, instance), Expect(HANDLED, STORED))
        made.release()
    _one_object(t)


@case("ST-033", "The same UID with other bytes", "issue 4: duplicates with other bytes are kept and flagged", "two objects with one UID and different names", "any status; cloister: STATUS 0000, and the second in quarantine as UID_CONFLICT")
def _(t: Try) -> None:
    made = t.storing()
    instance, study = t.uid(), t.uid()
    parts = image(instance, study)
    t.match(made.store(encode(parts, EXPLICIT), instance), STORED)
    other = with_parts(parts, string(0x10, 0x10, "PN", "Someone^Else"))
    t.match(made.store(encode(other, EXPLICIT), instance), Expect(HANDLED, STORED))
    made.release()
    if t.target.control is not None:
        reasons = [row["reason"] for row in t.ask("quarantine")]
        t.check(reasons == ["UID_CONFLICT"], f"quarantine reasons {reasons}")


@case("ST-034", "The same object on four associations at once", f"{TABLE}; issue 4; dcm4chee-arc-light#31", "the same C-STORE on four associations, the last fragments together", "STATUS 0000 each; with a control socket: one object", generic_severity=SHOULD)
def _(t: Try) -> None:
    instance, data = new_image(t)
    several = [t.storing() for _ in range(4)]
    half = len(data) // 2 & ~1
    for made in several:
        made.send(pdv(3, 3, Store(CR, instance).encode()))
        made.send(pdv(3, 0, data[:half]))
    for made in several:
        made.send(pdv(3, 2, data[half:]))
    for made in several:
        t.match(made.checked(made.answer(), 0x8001, 1, 3), Expect(HANDLED, STORED))
    _one_object(t)


@case("ST-035", "First objects of one study on two associations at once", "dcm4chee-arc-light#31", "two objects of a new study, the last fragments together", "STATUS 0000 each; with a control socket: one study, two objects")
def _(t: Try) -> None:
    study = t.uid()
    objects = [new_image(t, study=study) for _ in range(2)]
    several = [t.storing() for _ in objects]
    for made, (instance, data) in zip(several, objects, strict=True):
        made.send(pdv(3, 3, Store(CR, instance).encode()))
        made.send(pdv(3, 0, data[:100]))
    for made, (_, data) in zip(several, objects, strict=True):
        made.send(pdv(3, 2, data[100:]))
    for made in several:
        t.match(made.checked(made.answer(), 0x8001, 1, 3), STORED)
    if t.target.control is not None:
        rows = t.ask("studies")
        t.check([row["objects"] for row in rows] == [2], f"{[row['objects'] for row in rows]} objects")


# --- what is not stored -------------------------------------------------------------------------------


def _absent(t: Try) -> None:
    if t.target.control is not None:
        t.check(not t.ask("studies"), "an object that was not acknowledged is listed")


@case("ST-036", "The connection is reset in the middle of a data set", "PS3.8 9.2.3: AA-4; issue 4", "C-STORE-RQ, half its data, RST", "others are served; with a control socket: no object")
def _(t: Try) -> None:
    made = t.storing()
    instance, data = new_image(t)
    made.send(pdv(3, 3, Store(CR, instance).encode()))
    made.send(pdv(3, 0, data[:200]))
    made.connection.reset()
    t.alive()
    _absent(t)


@case("ST-037", "The connection is closed before the last fragment", "PS3.8 9.2.3: AA-4; issue 4", "C-STORE-RQ, all its data not marked last, close", "others are served; with a control socket: no object")
def _(t: Try) -> None:
    made = t.storing()
    instance, data = new_image(t)
    made.send(pdv(3, 3, Store(CR, instance).encode()))
    made.send(pdv(3, 0, data))
    made.connection.finish_sending()
    t.match(made.answer(), ENDED)
    t.alive()
    _absent(t)


BROKEN = Expect(HANDLED, ("STATUS C???",))


def refused(number: str, title: str, source: str, build: object, expect: Expect = BROKEN, **more: object) -> None:
    """A data set that cannot be understood: a failure status, and the association goes on."""

    def run(t: Try) -> None:
        made = t.storing()
        instance = t.uid()
        data = build(t, image(instance, t.uid()))  # type: ignore[operator]
        answer = t.match(made.store(data, instance), expect)
        if answer.kind == "STATUS":
            follow = made.store_image()
            if str(answer) != "STATUS 0000":
                _only_one(t)
            t.match(follow, STORED)
            made.release()
        else:
            made.connection.close()
            t.alive()

    case(number, title, source, f"C-STORE: {title.lower()}; then a correct C-STORE", f"{expect}; then STATUS 0000 on the same association", **more)(run)


def _only_one(t: Try) -> None:
    if t.target.control is not None:
        rows = t.ask("studies")
        t.check(sum(int(str(row["objects"])) for row in rows) == 1, "the refused object is listed")


refused("ST-038", "A data set that ends inside a value", f"{TABLE}: Cxxx", lambda t, p: encode(p, EXPLICIT)[:-100])
refused("ST-039", "A data set that ends inside an element header", f"{TABLE}: Cxxx", lambda t, p: encode(without(p, PIXEL_DATA), EXPLICIT) + b"\x28\0\1\1US")
refused("ST-040", "A data set of zero bytes", f"{TABLE}: Cxxx", lambda t, p: b"")
refused("ST-041", "A data set of text", f"{TABLE}: Cxxx", lambda t, p: b"this is no data set at all, but an even number of bytes " * 8)
refused("ST-042", "A data set of random bytes", f"{TABLE}: Cxxx", lambda t, p: t.random.randbytes(2000))
refused("ST-043", "A data set of zeros", f"{TABLE}: Cxxx", lambda t, p: bytes(4096))
refused("ST-044", "An element that passes the end of the data set", f"{TABLE}: Cxxx", lambda t, p: encode(without(p, PIXEL_DATA), EXPLICIT) + header(PIXEL_DATA, "OW", 1 << 30, LITTLE) + bytes(64))
refused("ST-045", "No study instance UID", "PS3.3 C.7.2.1: type 1", lambda t, p: encode(without(p, (0x20, 0xD)), EXPLICIT))
refused("ST-046", "No SOP class UID in the data set", "PS3.3 C.12.1: type 1", lambda t, p: encode(without(p, (8, 0x16)), EXPLICIT), Expect(HANDLED, ("STATUS C???", "STATUS A9??")))
refused("ST-047", "No SOP instance UID in the data set", "PS3.3 C.12.1: type 1", lambda t, p: encode(without(p, (8, 0x18)), EXPLICIT), Expect(HANDLED, ("STATUS C???", "STATUS A9??")))
refused("ST-048", "An empty study instance UID", "PS3.3 C.7.2.1: type 1", lambda t, p: encode(with_parts(p, string(0x20, 0xD, "UI", "")), EXPLICIT))
refused("ST-049", "A whole file with preamble and file meta", "PS3.10 7.1: a message holds the data set only", lambda t, p: bytes(128) + b"DICM" + encode(p, EXPLICIT))
refused("ST-050", "Implicit VR on an explicit VR context", "PS3.5 A.2", lambda t, p: encode(p, IMPLICIT))
refused("ST-051", "Study instance UID with letters", "PS3.5 9.1", lambda t, p: encode(with_parts(p, string(0x20, 0xD, "UI", "1.2.STUDY")), EXPLICIT))
refused("ST-052", "Study instance UID of 200 characters", "PS3.5 9.1: 64 characters", lambda t, p: encode(with_parts(p, string(0x20, 0xD, "UI", "1." * 99 + "12")), EXPLICIT))

# --- UIDs ----------------------------------------------------------------------------------------------

# A receiver that treats a UID as a path would write here.
ESCAPE = "conformance-escape"
for number, what, uid in (
    (53, "../", f"../../{ESCAPE}-1"),
    (54, "an absolute path", f"/tmp/{ESCAPE}-2"),
    (55, "..\\", f"..\\..\\{ESCAPE}-3"),
    (56, "../ behind a UID", f"1.2.3/../../{ESCAPE}-4"),
    (57, "a NUL inside", b"1.2.3\0/../../" + ESCAPE.encode() + b"-5"),
    (58, "..", ".."),
    (59, "200 characters", "1." * 99 + "12"),
    (60, "percent signs and quotes", '%s%n";`id`$(id)'),
    (61, "a newline and an escape sequence", "1.2.3\n\x1b[2J4"),
    (62, "letters", "1.2.abc"),
    (63, "an empty component", "1..2"),
    (64, "no characters", ""),
):

    @case(
        f"ST-{number:03}",
        f"SOP instance UID: {what}",
        "PS3.5 9.1; dicom-rs 2941c54; issue 4: UIDs never touch paths",
        f"C-STORE-RQ and data set with such a UID ({what})",
        "any status, ABORT or CLOSED; no file outside the storage folder; cloister: STATUS 0117, A9xx or Cxxx",
    )
    def _(t: Try, uid: str | bytes = uid) -> None:
        made = t.storing()
        data = encode(image(uid, t.uid()), EXPLICIT)
        # As bytes: what is no UID need not come back unchanged.
        answer = made.store(data, uid.encode() if isinstance(uid, str) and uid else uid or None)
        t.match(answer, Expect(HANDLED, ("STATUS 0117", "STATUS A9??", "STATUS C???")))
        for folder in ("/", "/tmp", "/etc", *(str(one) for path in t.target.scan for one in (path.parent, path.parent.parent))):
            found = [path for path in Path(folder).iterdir() if path.name.startswith(ESCAPE)]
            t.check(not found, f"a file was written to {folder}")
        made.after(answer)


for number, what, build, expect in (
    (65, "64 characters", lambda t: ("2.25." + str(t.random.randrange(10**58, 10**59)))[:64], Expect(STORED)),
    (66, "65 characters", lambda t: ("2.25." + str(t.random.randrange(10**59, 10**60)))[:65], Expect(HANDLED, FAILURE)),
    (67, "one component with leading zeros", lambda t: f"1.2.007.{t.random.randrange(10**20)}", Expect(HANDLED)),
    (68, "of odd length, padded by NUL", lambda t: _odd(t), Expect(STORED)),
):

    @case(f"ST-{number:03}", f"SOP instance UID: {what}", "PS3.5 9.1, 6.2 (UI)", f"a UID: {what}", str(expect))
    def _(t: Try, build: object = build, expect: Expect = expect) -> None:
        made = t.storing()
        instance = build(t)  # type: ignore[operator]
        answer = t.match(made.store(encode(image(instance, t.uid()), EXPLICIT), instance), expect)
        made.after(answer)


def _odd(t: Try) -> str:
    return f"2.25.{t.random.randrange(10**19, 10**20)}"[:25].rstrip(".")


@case("ST-069", "UIDs padded by a space instead of NUL", "PS3.5 6.2 (UI): padded by NUL; seen in the field", "UIDs with a trailing space in command and data set", "any status, ABORT or CLOSED; cloister: STATUS 0000 or a failure status")
def _(t: Try) -> None:
    made = t.storing()
    instance = _odd(t).encode() + b" "
    data = encode(image(instance, t.uid()), EXPLICIT)
    answer = t.match(made.store(data, instance), Expect(HANDLED, (*STORED, *FAILURE)))
    made.after(answer)


@case("ST-070", "The command's UID padded by NUL, the data set's by a space", "PS3.5 6.2 (UI), 9.1: padding is no part of the UID", "the same UID with different padding", "any status, ABORT or CLOSED; cloister: STATUS 0000 or a failure status")
def _(t: Try) -> None:
    made = t.storing()
    instance = _odd(t)
    data = encode(image(instance.encode() + b" ", t.uid()), EXPLICIT)
    answer = t.match(made.store(data, instance), Expect(HANDLED, (*STORED, *FAILURE)))
    made.after(answer)


# --- size ----------------------------------------------------------------------------------------------


def send_pixels(made: Association, instance: str, study: str, pixels: int) -> None:
    """An image with so many bytes of pixel data, never held in memory."""
    parts = without(image(instance, study), PIXEL_DATA)
    made.connection.send(p_data(pdv(3, 3, Store(CR, instance).encode())))
    made.connection.send(p_data(pdv(3, 0, encode(parts, EXPLICIT) + header(PIXEL_DATA, "OW", pixels, LITTLE))))
    chunk = made.chunk()
    block = p_data(pdv(3, 0, bytes(chunk)))
    left = pixels
    while left > chunk:
        if not made.connection.send(block):
            return
        left -= chunk
    made.connection.send(p_data(pdv(3, 2, bytes(left))))


def rss_kb(pid: int) -> int:
    """Memory of a process and its children, in KiB: what children share with it counts once."""
    total = _field(Path(f"/proc/{pid}/status"), "VmRSS:")
    for status in Path("/proc").glob("[0-9]*/status"):
        if _field(status, "PPid:") == pid:
            total += _field(status.parent / "smaps_rollup", "Private_Clean:")
            total += _field(status.parent / "smaps_rollup", "Private_Dirty:")
    return total


def _field(path: Path, name: str) -> int:
    try:
        found = [line.split() for line in path.read_text().splitlines() if line.startswith(name)]
    except OSError:
        return 0
    return int(found[0][1]) if found else 0


for number, size, slow, limit in ((71, 1 << 20, False, 30.0), (72, 16 << 20, False, 60.0), (73, 256 << 20, True, 300.0)):

    @case(
        f"ST-{number:03}",
        f"An object of {size >> 20} MiB",
        "PS3.4 B.2; issue 4: memory does not grow with object size",
        f"C-STORE with {size >> 20} MiB of pixel data",
        "STATUS 0000; with --pid and the cloister profile: RSS grows by less than 32 MiB",
        slow=slow,
        limit=limit,
        when="alone" if slow else "",
    )
    def _(t: Try, size: int = size, limit: float = limit) -> None:
        made = t.storing()
        instance = t.uid()
        before = rss_kb(t.target.pid) if t.target.pid else 0
        peak = [before]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], rss_kb(t.target.pid or 0))

        watcher = threading.Thread(target=watch, daemon=True)
        if t.target.pid and size > 1 << 26:
            watcher.start()
        started = time.monotonic()
        send_pixels(made, instance, t.uid(), size)
        answer = made.answer(limit)
        done.set()
        t.match(made.checked(answer, 0x8001, 1, 3), STORED)
        t.notes["mb_per_s"] = round(size / 1e6 / (time.monotonic() - started))
        if t.target.pid and size > 1 << 26:
            t.notes["rss_growth_mib"] = round((peak[0] - before) / 1024)
            t.check(not t.cloister or peak[0] - before < 32 << 10, f"RSS grew by {(peak[0] - before) >> 10} MiB")
        made.usable()
        made.release()


@case("ST-074", "An object longer than the receiver takes", f"{TABLE}: A7xx; issue 4", "a C-STORE longer than --max-object", "STATUS A7xx, ABORT or CLOSED; cloister: STATUS A7xx, association usable", slow=True, needs=("max-object",), limit=300.0, when="alone")
def _(t: Try) -> None:
    made = t.storing()
    send_pixels(made, t.uid(), t.uid(), (t.target.max_object or 0) + 2048)
    answer = t.match(made.answer(120), Expect(("STATUS A7??", *ENDED), ("STATUS A7??",)))
    made.after(answer)


@case("ST-075", "A full disk", f"{TABLE}: A7xx; issue 4: answered on the same association, before the disk is full", "objects of 1 MiB until one is refused, then C-ECHO", "STATUS A7xx; association usable; the objects before it acknowledged", slow=True, needs=("quota",), limit=300.0, when="last")
def _(t: Try) -> None:
    made = t.storing()
    stored = 0
    for _ in range(4000):
        send_pixels(made, t.uid(), t.uid(), 1 << 20)
        answer = made.answer(30)
        if str(answer) != "STATUS 0000":
            break
        stored += 1
    t.notes["stored_before"] = stored
    t.match(answer, ("STATUS A7??",))
    made.usable()
    send_pixels(made, t.uid(), t.uid(), 1 << 20)
    t.match(made.answer(30), ("STATUS A7??",))
    made.usable()
    made.release()


@case("ST-076", "A thousand objects of one study", "PS3.4 B.2; fo-dicom#1464: each one counted", "1,000 C-STORE on two associations", "STATUS 0000 each; with a control socket: 1,000 objects", slow=True, limit=300.0, when="alone")
def _(t: Try) -> None:
    study, problems = t.uid(), []
    several = [t.storing() for _ in range(2)]
    objects = [[new_image(t, study=study) for _ in range(500)] for _ in several]

    def send(made: Association, mine: list[tuple[str, bytes]]) -> None:
        try:
            for instance, data in mine:
                t.match(made.store(data, instance), STORED)
            made.release()
        except Failed as error:
            problems.append(str(error))

    threads = [threading.Thread(target=send, args=pair) for pair in zip(several, objects, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.check(not problems, "; ".join(problems))
    if t.target.control is not None:
        rows = t.ask("studies")
        t.check([row["objects"] for row in rows] == [1000], f"{[row['objects'] for row in rows]} objects")


@case("ST-077", "A rejected object does not end the association", TABLE, "a broken C-STORE between two correct ones, ten times", "STATUS of a failure, then STATUS 0000, each time; cloister only", generic_severity=SHOULD)
def _(t: Try) -> None:
    made = t.storing()
    for _ in range(10):
        instance = t.uid()
        answer = made.store(encode(image(instance, t.uid()), EXPLICIT)[:-7], instance)
        t.match(answer, Expect((*STORED, *FAILURE), ("STATUS C???",)))
        t.match(made.store_image(), STORED)
    made.release()


@case("ST-078", "A data set with an element of group 0002", "PS3.10 7.1: file meta is no part of a data set", "(0002,0010) at the start of the data set", "any status, ABORT or CLOSED")
def _(t: Try) -> None:
    made = t.storing()
    answer = t.match(made.store_image(EXPLICIT, string(2, 0x10, "UI", EXPLICIT)), Expect(HANDLED))
    made.after(answer)


@case("ST-079", "A data set with command elements", "PS3.5 7.1: group 0000 is for commands", "(0000,0100) at the start of the data set", "any status, ABORT or CLOSED")
def _(t: Try) -> None:
    made = t.storing()
    made_image = image(instance := t.uid(), t.uid())
    data = b"\0\0\0\1US\2\0\1\0" + encode(made_image, EXPLICIT)
    made.after(t.match(made.store(data, instance), Expect(HANDLED)))


@case("ST-080", "The same element twice", "PS3.5 7.1: elements occur once", "two SOP instance UIDs, the second another one", "any status, ABORT or CLOSED; cloister: not STATUS 0000")
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    data = encode(image(instance, t.uid()), EXPLICIT)
    second = padded("2.25.77777777")
    at = data.index(b"\x08\0\x18\0UI")
    end = at + 8 + struct.unpack("<H", data[at + 6 : at + 8])[0]
    data = data[:end] + b"\x08\0\x18\0UI" + struct.pack("<H", len(second)) + second + data[end:]
    made.after(t.match(made.store(data, instance), Expect(HANDLED, NOT_STORED)))
