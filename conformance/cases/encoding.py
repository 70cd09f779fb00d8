"""Encodings: transfer syntaxes, sequences, VRs, character sets, private elements (PS3.5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from ..dataset import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    LITTLE,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    Part,
    Raw,
    deflate,
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
from ..peer import BIG_ENDIAN, CR, DEFLATED, EXPLICIT, IMPLICIT, context
from ..suite import CATALOGUE, FAILURE, HANDLED, STORED, Expect, Try

case = CATALOGUE.case
KEEPS = Expect((*STORED, "STATUS A9??", "STATUS C???", "ABORT *"), STORED)
ALWAYS = Expect(STORED)
# Not what the standard writes, so a receiver may refuse it; Cloister keeps it and decides later.
KEPT = Expect((*STORED, *FAILURE, "ABORT *"), STORED)
BROKEN = Expect(HANDLED, ("STATUS C???",))
ANY = Expect(HANDLED)

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9"
SYNTAXES = (
    ("RLE lossless", "1.2.840.10008.1.2.5", True),
    ("JPEG baseline (process 1)", "1.2.840.10008.1.2.4.50", True),
    ("JPEG extended (process 2 and 4)", "1.2.840.10008.1.2.4.51", False),
    ("JPEG lossless (process 14)", "1.2.840.10008.1.2.4.57", True),
    ("JPEG lossless SV1 (process 14)", "1.2.840.10008.1.2.4.70", True),
    ("JPEG-LS lossless", "1.2.840.10008.1.2.4.80", True),
    ("JPEG-LS near-lossless", "1.2.840.10008.1.2.4.81", True),
    ("JPEG 2000 lossless", "1.2.840.10008.1.2.4.90", True),
    ("JPEG 2000", "1.2.840.10008.1.2.4.91", True),
    ("JPEG 2000 part 2 lossless", "1.2.840.10008.1.2.4.92", False),
    ("JPEG 2000 part 2", "1.2.840.10008.1.2.4.93", False),
    ("JPIP referenced", "1.2.840.10008.1.2.4.94", False),
    ("JPIP referenced deflate", "1.2.840.10008.1.2.4.95", False),
    ("MPEG2 main profile main level", "1.2.840.10008.1.2.4.100", False),
    ("MPEG2 main profile high level", "1.2.840.10008.1.2.4.101", False),
    ("MPEG-4 AVC high profile 4.1", "1.2.840.10008.1.2.4.102", False),
    ("MPEG-4 AVC BD-compatible", "1.2.840.10008.1.2.4.103", False),
    ("HEVC main profile", "1.2.840.10008.1.2.4.107", False),
    ("JPEG XL lossless", "1.2.840.10008.1.2.4.110", False),
    ("HTJ2K lossless", "1.2.840.10008.1.2.4.201", False),
    ("HTJ2K lossless RPCL", "1.2.840.10008.1.2.4.202", False),
    ("HTJ2K", "1.2.840.10008.1.2.4.203", False),
    ("encapsulated uncompressed", "1.2.840.10008.1.2.1.98", False),
    ("deflated image frame", "1.2.840.10008.1.2.8.1", False),
)


def stored(
    number: str,
    title: str,
    source: str,
    build: Callable[[Try, dict[tuple[int, int], Part]], bytes],
    expect: Expect,
    syntax: str = EXPLICIT,
    **more: object,
) -> None:
    """A C-STORE of one data set that `build` encodes from a correct image."""

    def run(t: Try) -> None:
        made = t.storing(syntax)
        instance = t.uid()
        answer = t.match(made.store(build(t, image(instance, t.uid())), instance), expect)
        made.after(answer)

    case(number, title, source, f"C-STORE: {title[0].lower()}{title[1:]}", str(expect), **more)(run)


def adding(*parts: Part, syntax: str = EXPLICIT) -> Callable[[Try, dict[tuple[int, int], Part]], bytes]:
    """Encodes the image with parts added."""
    return lambda t, image_: encode(with_parts(image_, *parts), syntax)


# --- transfer syntaxes ----------------------------------------------------------------------------------

stored("EN-001", "Implicit VR little endian", "PS3.5 A.1: the default, every receiver takes it", lambda t, p: encode(p, IMPLICIT), ALWAYS, IMPLICIT)
stored("EN-002", "Explicit VR little endian", "PS3.5 A.2", lambda t, p: encode(p, EXPLICIT), ALWAYS)
stored("EN-003", "Explicit VR big endian", "PS3.5 A.3 of 2016 (retired 2006)", lambda t, p: encode(p, BIG_ENDIAN), ALWAYS, BIG_ENDIAN)
for level in range(10):
    stored(
        f"EN-{4 + level:03}",
        f"Deflated, level {level}",
        "PS3.5 A.5; pynetdicom#930",
        lambda t, p, level=level: encode(p, DEFLATED, level),
        ALWAYS,
        DEFLATED,
    )


def _deflated(t: Try, p: dict[tuple[int, int], Part]) -> bytes:
    return encode(p, DEFLATED)


stored("EN-014", "Deflated in stored blocks with flush points", "RFC 1951 3.2.4; PS3.5 A.5", lambda t, p: _flushed(encode(p, EXPLICIT)), ALWAYS, DEFLATED)
stored("EN-015", "Deflated with fixed codes only", "RFC 1951 3.2.6", lambda t, p: _fixed(encode(p, EXPLICIT)), ALWAYS, DEFLATED)
stored("EN-016", "Deflated stream that ends early", "PS3.5 A.5", lambda t, p: _deflated(t, p)[:-40], BROKEN, DEFLATED)
stored("EN-017", "Deflated stream with 100 bytes behind its end", "PS3.5 A.5: at most one byte of padding", lambda t, p: _deflated(t, p) + bytes(100), BROKEN, DEFLATED)
stored("EN-018", "Deflated context, data set not deflated", "PS3.5 A.5", lambda t, p: encode(p, EXPLICIT), BROKEN, DEFLATED)
stored("EN-019", "Deflated with a zlib wrapper", "PS3.5 A.5: RFC 1951, not RFC 1950; seen in the field", lambda t, p: zlib.compress(encode(p, EXPLICIT)).ljust(1), Expect(HANDLED, ("STATUS C???", *STORED)), DEFLATED)
stored("EN-020", "64 MiB of zeros deflated", "PS3.5 A.5; bounded memory", lambda t, p: deflate(encode(without(p, PIXEL_DATA), EXPLICIT) + header(PIXEL_DATA, "OW", 64 << 20, LITTLE) + bytes(64 << 20)), ANY, DEFLATED)


def _flushed(plain: bytes) -> bytes:
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    out = b"".join(packer.compress(plain[at : at + 50]) + packer.flush(zlib.Z_FULL_FLUSH) for at in range(0, len(plain), 50))
    out += packer.flush()
    return out + b"\0" * (len(out) % 2)


def _fixed(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_FIXED)
    out = packer.compress(plain) + packer.flush()
    return out + b"\0" * (len(out) % 2)


for offset, (name, uid, decoded) in enumerate(SYNTAXES):

    @case(
        f"EN-{21 + offset:03}",
        f"Transfer syntax: {name}",
        "PS3.5 annex A.4, PS3.6 table A-1; mercure#25",
        f"context with {uid} only, an encapsulated object if it is accepted",
        "result 1 to 4, or STATUS 0000" + ("; cloister: STATUS 0000" if decoded else "; cloister: result 4 or STATUS 0000"),
    )
    def _(t: Try, uid: str = uid, decoded: bool = decoded) -> None:
        made = t.associate([context(1), context(3, CR, (uid,))])
        result = made.accepted.result(3)
        t.got = f"result {result}"
        if result != 0:
            t.check(result in (1, 2, 3, 4), f"result {result}")
            t.check(not t.cloister or (result == 4 and not decoded), f"result {result}")
            made.usable()
            made.release()
            return
        instance = t.uid()
        parts = with_parts(image(instance, t.uid()), fragments(JPEG + b"\0" * (len(JPEG) % 2)))
        data = encode(parts, EXPLICIT)
        if uid.endswith(".95"):
            data = deflate(data)
        t.match(made.store(data, instance), KEEPS)
        made.usable()
        made.release()


@case("EN-045", "The default transfer syntax is accepted for storage", "PS3.5 10.1: every AE supports the default", "CR storage with implicit VR little endian only", "result 0, STATUS 0000")
def _(t: Try) -> None:
    made = t.associate([context(1), context(3, CR, (IMPLICIT,))])
    t.check(made.accepted.result(3) == 0, f"result {made.accepted.result(3)}")
    t.match(made.store_image(IMPLICIT), STORED)
    made.release()


# --- encapsulated pixel data -----------------------------------------------------------------------------

BASELINE = "1.2.840.10008.1.2.4.50"
EVEN = JPEG + b"\0" * (len(JPEG) % 2)


def pixels(number: str, title: str, source: str, part: Part, expect: Expect = KEEPS) -> None:
    """Encapsulated pixel data in one form or another."""
    stored(number, title, source, lambda t, p: encode(with_parts(p, part), EXPLICIT), expect, BASELINE)


A4 = "PS3.5 A.4, table A.4-1"
pixels("EN-046", "Empty basic offset table, one fragment", A4, fragments(EVEN))
pixels("EN-047", "Filled basic offset table, two frames", A4, fragments(EVEN, EVEN, table=struct.pack("<II", 0, len(EVEN) + 8)))
pixels("EN-048", "Basic offset table that points nowhere", A4, fragments(EVEN, table=struct.pack("<II", 0, 0x7FFFFFF0)))
pixels("EN-049", "Basic offset table of three bytes", A4, fragments(EVEN, table=b"\0\0\0"), ANY)
pixels("EN-050", "A frame in ten fragments", A4, fragments(*[EVEN[at : at + 2] for at in range(0, len(EVEN), 2)]))
pixels("EN-051", "A fragment of no bytes", A4, fragments(EVEN, b""))
pixels("EN-052", "A fragment of odd length", f"{A4}: even length", fragments(JPEG[:-1]), ANY)
pixels("EN-053", "A sequence delimiter inside a fragment", f"{A4}; dicognito#96", fragments(EVEN[:4] + tag(SEQUENCE_END, LITTLE) + bytes(4) + EVEN[4:]))
pixels("EN-054", "An item tag inside a fragment", f"{A4}; dicognito#96", fragments(EVEN[:4] + tag(ITEM, LITTLE) + struct.pack("<I", 500) + EVEN[4:]))
pixels("EN-055", "No sequence delimiter at the end", A4, fragments(EVEN, end=False), BROKEN)
pixels("EN-056", "A fragment that passes the end of the data set", A4, Raw(PIXEL_DATA, header(PIXEL_DATA, "OB", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + bytes(4) + tag(ITEM, LITTLE) + struct.pack("<I", 1 << 24) + EVEN), BROKEN)
pixels("EN-057", "A fragment of undefined length", f"{A4}: explicit length", Raw(PIXEL_DATA, header(PIXEL_DATA, "OB", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + struct.pack("<I", UNDEFINED) + EVEN + tag(ITEM_END, LITTLE) + bytes(4) + tag(SEQUENCE_END, LITTLE) + bytes(4)), BROKEN)
pixels("EN-058", "An element where a fragment is due", A4, Raw(PIXEL_DATA, header(PIXEL_DATA, "OB", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + bytes(4) + string(0x10, 0x10, "PN", "A^B").encode(LITTLE)), BROKEN)
pixels("EN-059", "No item at all, not even the offset table", A4, Raw(PIXEL_DATA, header(PIXEL_DATA, "OB", UNDEFINED, LITTLE) + tag(SEQUENCE_END, LITTLE) + bytes(4)), ANY)
pixels("EN-060", "Encapsulated pixel data with VR OW", f"{A4}: OB", fragments(EVEN, vr="OW"), ANY)
pixels("EN-061", "Native pixel data in a compressed syntax", f"{A4}: undefined length", Element(PIXEL_DATA, "OW", bytes(512)), ANY)
stored("EN-062", "Three frames, a fragment each, empty offset table", A4, lambda t, p: encode(with_parts(p, string(0x28, 8, "IS", "3"), fragments(EVEN, EVEN, EVEN)), EXPLICIT), KEEPS, BASELINE)
stored("EN-063", "Extended offset table with lengths", "PS3.3 C.7.6.3.1.8", lambda t, p: encode(with_parts(p, Element((0x7FE0, 1), "OV", bytes(8)), Element((0x7FE0, 2), "OV", struct.pack("<Q", len(EVEN))), fragments(EVEN)), EXPLICIT), KEEPS, BASELINE)
stored("EN-064", "An element behind the pixel data", "PS3.5 7.1: (FFFA,FFFA) and (FFFC,FFFC) follow", adding(sequence(0xFFFA, 0xFFFA)), ALWAYS)
stored("EN-065", "Data set trailing padding", "PS3.10 7.2", adding(Element((0xFFFC, 0xFFFC), "OB", bytes(1000))), ALWAYS)
stored("EN-066", "Encapsulated pixel data in an uncompressed syntax", "PS3.5 A.2: native only", lambda t, p: encode(with_parts(p, fragments(EVEN)), EXPLICIT), ANY)

# --- sequences ---------------------------------------------------------------------------------------------

SEQ = (0x0008, 0x1140)
S7 = "PS3.5 7.5"


def nested(depth: int, **how: bool) -> Element:
    """Sequences in sequences."""
    inner: list[Part] = [string(8, 0x1150, "UI", CR), string(8, 0x1155, "UI", "1.2.3")]
    for _ in range(depth):
        inner = [sequence(*SEQ, inner, **how)]
    return inner[0]  # type: ignore[return-value]


def deep(depth: int) -> Raw:
    """The same of undefined length, without recursion."""
    opened = header(SEQ, "SQ", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + b"\xff\xff\xff\xff"
    closed = tag(ITEM_END, LITTLE) + bytes(4) + tag(SEQUENCE_END, LITTLE) + bytes(4)
    return Raw(SEQ, opened * depth + string(8, 0x1150, "UI", CR).encode(LITTLE) + closed * depth)


UNDEF = {"undefined": True, "items_undefined": True}
stored("EN-067", "A sequence of defined length", S7, adding(nested(1)), ALWAYS)
stored("EN-068", "A sequence and items of undefined length", S7, adding(nested(1, **UNDEF)), ALWAYS)
stored("EN-069", "A sequence of undefined length with items of defined length", S7, adding(nested(1, undefined=True)), ALWAYS)
stored("EN-070", "A sequence of defined length with items of undefined length", S7, adding(nested(1, items_undefined=True)), ALWAYS)
stored("EN-071", "An empty sequence of defined length", S7, adding(sequence(*SEQ)), ALWAYS)
stored("EN-072", "An empty sequence of undefined length", S7, adding(sequence(*SEQ, undefined=True)), ALWAYS)
stored("EN-073", "Empty items", S7, adding(sequence(*SEQ, [], [], **UNDEF)), ALWAYS)
for number, depth in ((74, 8), (75, 32)):
    stored(f"EN-{number:03}", f"Sequences {depth} deep, undefined length", f"{S7}: no limit", adding(nested(depth, **UNDEF)), ALWAYS)
stored("EN-076", "Sequences 32 deep, defined length", f"{S7}: no limit", adding(nested(32)), ALWAYS)
stored("EN-077", "Sequences 64 deep, undefined length", f"{S7}: no limit; orthanc-tests 2026-05-06", adding(nested(64, **UNDEF)), Expect((*STORED, *HANDLED), (*STORED, "STATUS C???")))
stored("EN-078", "Sequences 500 deep, undefined length", f"{S7}; bounded memory", adding(deep(500)), Expect(HANDLED, (*STORED, "STATUS C???")))


@case("EN-079", "Sequences 50,000 deep", f"{S7}; bounded stack", "C-STORE: 50,000 open sequences, no delimiters", "any status, ABORT or CLOSED; others are served; cloister: STATUS Cxxx")
def _(t: Try) -> None:
    made = t.storing()
    instance = t.uid()
    opened = (header(SEQ, "SQ", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + b"\xff\xff\xff\xff") * 50_000
    data = encode(without(image(instance, t.uid()), PIXEL_DATA), EXPLICIT)
    made.after(t.match(made.store(data + opened, instance), BROKEN))


stored("EN-080", "Sequences in implicit VR, undefined length", S7, adding(nested(3, **UNDEF), syntax=IMPLICIT), ALWAYS, IMPLICIT)
stored("EN-081", "Sequences in big endian, undefined length", S7, adding(nested(3, **UNDEF), syntax=BIG_ENDIAN), ALWAYS, BIG_ENDIAN)
stored("EN-082", "A sequence delimiter missing", S7, adding(Raw(SEQ, header(SEQ, "SQ", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + bytes(4))), BROKEN)
stored("EN-083", "An item delimiter outside of items", S7, adding(Raw(SEQ, tag(ITEM_END, LITTLE) + bytes(4))), BROKEN)
stored("EN-084", "An item outside of sequences", S7, adding(Raw(SEQ, tag(ITEM, LITTLE) + bytes(4))), BROKEN)
stored("EN-085", "A sequence longer than the data set", S7, lambda t, p: encode(without(p, PIXEL_DATA), EXPLICIT) + header((0x7001, 0x10), "SQ", 1 << 20, LITTLE) + bytes(16), BROKEN)
stored("EN-086", "An item longer than its sequence", S7, adding(Raw(SEQ, header(SEQ, "SQ", 16, LITTLE) + tag(ITEM, LITTLE) + struct.pack("<I", 400) + string(8, 0x1150, "UI", "1.23").encode(LITTLE)[:8])), ANY)
stored("EN-087", "An element where an item is due", S7, adding(Raw(SEQ, header(SEQ, "SQ", UNDEFINED, LITTLE) + string(0x10, 0x10, "PN", "A^B").encode(LITTLE) + tag(SEQUENCE_END, LITTLE) + bytes(4))), BROKEN)
stored("EN-088", "A delimiter whose length is not 0", S7, adding(Raw(SEQ, header(SEQ, "SQ", UNDEFINED, LITTLE) + tag(SEQUENCE_END, LITTLE) + struct.pack("<I", 4) + bytes(4))), ANY)

# --- unknown VR --------------------------------------------------------------------------------------------

PRIVATE = string(0x0009, 0x0010, "LO", "CLOISTER TEST")
stored("EN-089", "A known element with VR UN", "PS3.5 6.2.2", adding(string(0x10, 0x4000, "UN", "a comment ")), ALWAYS)
stored("EN-090", "A private element with VR UN", "PS3.5 6.2.2", adding(PRIVATE, string(9, 0x1001, "UN", "binary")), ALWAYS)
stored("EN-091", "UN of undefined length holds implicit VR (CP-246)", "PS3.5 6.2.2 note 4; CP-246; dicom-rs#169", adding(PRIVATE, Raw((9, 0x1002), header((9, 0x1002), "UN", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + b"\xff\xff\xff\xff" + string(8, 0x1150, "UI", "1.23").encode(IMPLICIT_LITTLE) + tag(ITEM_END, LITTLE) + bytes(4) + tag(SEQUENCE_END, LITTLE) + bytes(4))), ALWAYS)
stored("EN-092", "UN of undefined length, nested twice", "CP-246", adding(PRIVATE, Raw((9, 0x1003), header((9, 0x1003), "UN", UNDEFINED, LITTLE) + tag(ITEM, LITTLE) + b"\xff\xff\xff\xff" + nested(1, **UNDEF).encode(IMPLICIT_LITTLE) + tag(ITEM_END, LITTLE) + bytes(4) + tag(SEQUENCE_END, LITTLE) + bytes(4))), ALWAYS)
stored("EN-093", "A known sequence with VR UN and defined length", "PS3.5 6.2.2", adding(Raw(SEQ, (body := nested(1).encode(IMPLICIT_LITTLE)[8:]) and header(SEQ, "UN", len(body), LITTLE) + body)), ALWAYS)

# --- VRs ---------------------------------------------------------------------------------------------------

VALUES = {
    "OB": bytes(6),
    "OD": struct.pack("<d", 1.5),
    "OF": struct.pack("<f", 1.5),
    "OL": bytes(8),
    "OV": bytes(16),
    "OW": bytes(6),
    "SV": struct.pack("<q", -1),
    "UC": b"unlimited characters",
    "UN": bytes(6),
    "UR": b"https://example.org/x ",
    "UT": b"unlimited text",
    "UV": struct.pack("<Q", 2**64 - 1),
}
for offset, (vr, value) in enumerate(VALUES.items()):
    stored(
        f"EN-{94 + offset:03}",
        f"A private element with VR {vr}",
        "PS3.5 table 6.2-1, table 7.1-1",
        adding(PRIVATE, Element((9, 0x1010), vr, value)),
        ALWAYS,
    )
stored("EN-106", "The short VRs together", "PS3.5 table 6.2-1, table 7.1-2", adding(PRIVATE, *[Element((9, 0x1020 + at), vr, value) for at, (vr, value) in enumerate((("AE", b"A "), ("AS", b"040Y"), ("AT", bytes(4)), ("DS", b"1.5 "), ("DT", b"20200101"), ("FD", bytes(8)), ("FL", bytes(4)), ("IS", b"12"), ("LT", b"text"), ("SL", bytes(4)), ("SS", bytes(2)), ("ST", b"text"), ("UL", bytes(4))))]), ALWAYS)
stored("EN-107", "UT of 100,000 bytes", "PS3.5 6.2: up to 2^32-2", adding(PRIVATE, Element((9, 0x1040), "UT", b"x" * 100_000)), ALWAYS)
stored("EN-108", "LT of 65,534 bytes", "PS3.5 7.1.2: 16-bit length", adding(PRIVATE, Element((9, 0x1041), "LT", b"x" * 65_534)), KEPT)
stored("EN-109", "An unknown VR in capital letters", "PS3.5 6.2: later editions may define more", adding(PRIVATE, Raw((9, 0x1042), tag((9, 0x1042), LITTLE) + b"ZZ\4\0abcd")), ANY)
stored("EN-110", "A VR that is no letters", "PS3.5 7.1.2", adding(PRIVATE, Raw((9, 0x1043), tag((9, 0x1043), LITTLE) + b"\0\1\4\0abcd")), BROKEN)
stored("EN-111", "A VR in small letters", "PS3.5 7.1.2", adding(PRIVATE, Raw((9, 0x1044), tag((9, 0x1044), LITTLE) + b"lo\4\0abcd")), BROKEN)
stored("EN-112", "VRs other than the dictionary's", "PS3.6; seen in the field", adding(Element((0x10, 0x1010), "LO", b"040Y"), Element((0x28, 0x10), "UL", struct.pack("<I", 16))), KEPT)
stored("EN-113", "A value of odd length", "PS3.5 7.1: even length; seen in the field", adding(Raw((0x10, 0x4000), header((0x10, 0x4000), "LT", 3, LITTLE) + b"odd")), ANY)
stored("EN-114", "Text padded by NUL", "PS3.5 6.2: padded by space; seen in the field", adding(Element((0x10, 0x4000), "LT", b"odd\0")), KEPT)
stored("EN-115", "Reserved bytes behind a long VR set", "PS3.5 7.1.2: set to 0000H, ignored", adding(PRIVATE, Raw((9, 0x1045), tag((9, 0x1045), LITTLE) + b"OB\xff\xff" + struct.pack("<I", 2) + b"ab")), KEEPS)
stored("EN-116", "Elements out of order", "PS3.5 7.1: increasing tags", lambda t, p: encode([p[where] for where in sorted(p, reverse=True)], EXPLICIT), ANY)
stored("EN-117", "A decimal string that is no number", "PS3.5 6.2 (DS)", adding(Element((0x18, 0x60), "DS", b"not a number")), KEPT)
stored("EN-118", "A date that is none", "PS3.5 6.2 (DA)", adding(Element((8, 0x20), "DA", b"99999999")), KEPT)
stored("EN-119", "A person name of 500 characters", "PS3.5 6.2 (PN): 64 per component group", adding(string(0x10, 0x10, "PN", "N" * 500)), KEPT)
stored("EN-120", "Rows and columns that do not fit the pixel data", "PS3.3 C.7.6.3", adding(short(0x28, 0x10, 60000), short(0x28, 0x11, 60000)), KEPT)
stored("EN-121", "No pixel data", "PS3.3 C.7.6.3", lambda t, p: encode(without(p, PIXEL_DATA), EXPLICIT), KEPT)

# --- group lengths and private groups ------------------------------------------------------------------------

stored("EN-122", "Group lengths that are right", "PS3.5 7.2 (retired): may be present", adding(Element((0x10, 0), "UL", struct.pack("<I", 68))), ALWAYS)
stored("EN-123", "Group lengths that are wrong", "PS3.5 7.2 (retired): receivers ignore them", adding(Element((8, 0), "UL", struct.pack("<I", 7)), Element((0x10, 0), "UL", b"\xff\xff\xff\xff")), KEPT)
stored("EN-124", "A private element without creator", "PS3.5 7.8.1; seen in the field", adding(Element((0x11, 0x1001), "LO", b"none")), KEPT)
stored("EN-125", "A private creator without elements", "PS3.5 7.8.1", adding(PRIVATE), ALWAYS)
stored("EN-126", "One private creator in two blocks", "PS3.5 7.8.1", adding(PRIVATE, string(9, 0x11, "LO", "CLOISTER TEST"), Element((9, 0x1001), "LO", b"a "), Element((9, 0x1101), "LO", b"b ")), ALWAYS)
stored("EN-127", "Two creators and elements of a third block", "PS3.5 7.8.1", adding(PRIVATE, string(9, 0x11, "LO", "OTHER"), Element((9, 0x1201), "LO", b"c ")), KEPT)
stored("EN-128", "A private sequence in implicit VR", "PS3.5 7.8, 6.2.2", adding(PRIVATE, sequence(9, 0x1050, [string(9, 0x10, "LO", "INNER"), Element((9, 0x1001), "LO", b"x ")], **UNDEF), syntax=IMPLICIT), ALWAYS, IMPLICIT)
stored("EN-129", "A private group below 0009H", "PS3.5 7.8.1: groups 0001 to 0007 shall not be used", adding(Element((7, 0x1001), "LO", b"x ")), ANY)
stored("EN-130", "Private groups up to FFFDH", "PS3.5 7.8", adding(string(0xFFFD, 0x10, "LO", "LAST"), Element((0xFFFD, 0x1001), "LO", b"x ")), KEPT)
stored("EN-131", "Retired curve and overlay groups", "PS3.3 (retired), C.9.2", adding(short(0x5000, 5, 2), Element((0x5000, 0x3000), "OW", bytes(8)), short(0x6000, 0x10, 16), short(0x6000, 0x11, 16), Element((0x6000, 0x3000), "OW", bytes(32))), ALWAYS)

# --- character sets -----------------------------------------------------------------------------------------

NAME = (0x10, 0x10)
CHARSETS = (
    ("ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
    ("ISO_IR 101", "Kovač^Žofie".encode("iso8859-2")),
    ("ISO_IR 109", "Ġużeppi".encode("iso8859-3")),
    ("ISO_IR 110", "Ģirts".encode("iso8859-4")),
    ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5", "replace")),
    ("ISO_IR 127", "قباني^لنزار".encode("iso8859-6")),
    ("ISO_IR 126", "Διονυσιος".encode("iso8859-7")),
    ("ISO_IR 138", "שרון^דבורה".encode("iso8859-8")),
    ("ISO_IR 148", "Çelik^İğ".encode("iso8859-9")),
    ("ISO_IR 203", "Œuvre^Š".encode("iso8859-15", "replace")),
    ("ISO_IR 166", "นาย^ทดสอบ".encode("tis-620")),
    ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode()),
    ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    ("GBK", "Wang^XiaoDong=王^小东".encode("gbk")),
    ("ISO 2022 IR 6\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"),
    ("\\ISO 2022 IR 159", b"A^B=\x1b$(D0!\x1b(B"),
    ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
    ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", b"M\xfcller^\x1b-L\xbb\xee\xda"),
)
for offset, (charset, name) in enumerate(CHARSETS):
    stored(
        f"EN-{132 + offset:03}",
        f"Character set {charset}",
        "PS3.3 C.12.1.1.2; PS3.5 6.1, annexes H to K",
        adding(string(8, 5, "CS", charset), Element(NAME, "PN", name + b" " * (len(name) % 2))),
        ALWAYS,
    )
for number, title, source, charset, name in (
    (153, "An unknown character set", "PS3.3 C.12.1.1.2", "ISO_IR 999", b"Name^A"),
    (154, "No character set, bytes above 7FH", "PS3.5 6.1; fo-dicom#747", "", b"M\xfcller"),
    (155, "ISO_IR 192 declared, not UTF-8", "PS3.5 6.1", "ISO_IR 192", b"M\xfcller"),
    (156, "Escape sequence not reset at ^", "PS3.5 6.1.2.5.3; dcm4che#1503", "\\ISO 2022 IR 87", b"\x1b$B;3ED^B@O:\x1b(B"),
    (157, "Escape sequence not reset at =", "PS3.5 6.1.2.5.3; dcm4che#1503", "\\ISO 2022 IR 87", b"A^B=\x1b$B;3ED=;3ED"),
    (158, "An escape sequence cut at the end", "PS3.5 6.1.2.5", "\\ISO 2022 IR 87", b"A^B=\x1b$"),
    (159, "An escape sequence that was not declared", "PS3.5 6.1.2.5.1", "ISO_IR 100", b"A^B=\x1b$B;3ED\x1b(B"),
):
    stored(
        f"EN-{number}",
        title,
        source,
        adding(string(8, 5, "CS", charset), Element(NAME, "PN", name + b" " * (len(name) % 2))),
        KEPT,
    )
stored("EN-160", "Big endian data on a little endian context", "PS3.5 A.2", lambda t, p: encode(p, BIG_ENDIAN), BROKEN)
stored("EN-161", "Explicit VR on an implicit VR context", "PS3.5 A.1", lambda t, p: encode(p, EXPLICIT), BROKEN, IMPLICIT)
stored("EN-162", "Little endian data on a big endian context", "PS3.5 A.3", lambda t, p: encode(p, EXPLICIT), BROKEN, BIG_ENDIAN)


@case("EN-163", "Each byte of the first 300 of a data set set to FFH in turn", "PS3.5 7; bounded parsing", "300 C-STORE on one association, one byte changed in each", "any status each time, or ABORT; others are served", limit=90.0)
def _(t: Try) -> None:
    made, changed = None, 0
    study = t.uid()
    for at in range(300):
        if made is None:
            made = t.storing()
        instance = t.uid()
        data = bytearray(encode(image(instance, study), EXPLICIT))
        data[at] = 0xFF
        answer = t.match(made.store(bytes(data), instance), HANDLED)
        changed += 1
        if answer.kind != "STATUS":
            made = None
    t.notes["changed"] = changed
    t.alive()

