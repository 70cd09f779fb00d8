"""Data sets built element by element, in any of the encodings of PS3.5, legal or not."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

from .peer import BIG_ENDIAN, CR, DEFLATED, IMPLICIT, padded

LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
UNDEFINED = 0xFFFFFFFF
ITEM = (0xFFFE, 0xE000)
ITEM_END = (0xFFFE, 0xE00D)
SEQUENCE_END = (0xFFFE, 0xE0DD)
PIXEL_DATA = (0x7FE0, 0x0010)


@dataclass(frozen=True)
class Encoding:
    """How elements are written."""

    explicit: bool = True
    big: bool = False

    @property
    def order(self) -> str:
        """For struct."""
        return ">" if self.big else "<"


LITTLE = Encoding()
IMPLICIT_LITTLE = Encoding(explicit=False)
BIG = Encoding(big=True)


def encoding_of(syntax: str) -> Encoding:
    """The element encoding of a transfer syntax."""
    return {IMPLICIT: IMPLICIT_LITTLE, BIG_ENDIAN: BIG}.get(syntax, LITTLE)


def tag(where: tuple[int, int], encoding: Encoding) -> bytes:
    """Four bytes of tag."""
    return struct.pack(encoding.order + "HH", *where)


def header(where: tuple[int, int], vr: str, length: int, encoding: Encoding) -> bytes:
    """Tag, VR where it is written, and length (PS3.5 section 7.1)."""
    head = tag(where, encoding)
    if not encoding.explicit:
        return head + struct.pack(encoding.order + "I", length)
    if vr in LONG_VRS:
        return head + vr.encode() + b"\0\0" + struct.pack(encoding.order + "I", length)
    return head + vr.encode() + struct.pack(encoding.order + "H", length & 0xFFFF)


@dataclass(frozen=True)
class Element:
    """One element. The value is bytes, a list of items (each a list of elements), or `Raw`."""

    where: tuple[int, int]
    vr: str
    value: bytes | list[list[Element | Raw]]
    undefined: bool = False
    items_undefined: bool = False
    length: int | None = None

    def encode(self, encoding: Encoding) -> bytes:
        """As bytes."""
        if isinstance(self.value, list):
            value = b"".join(self._item(one, encoding) for one in self.value)
            if self.undefined:
                value += tag(SEQUENCE_END, encoding) + bytes(4)
        else:
            value = self._numbers(encoding)
        length = UNDEFINED if self.undefined else len(value)
        return header(self.where, self.vr, length if self.length is None else self.length, encoding) + value

    def _numbers(self, encoding: Encoding) -> bytes:
        width = {"US": 2, "SS": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "AT": 2}.get(self.vr)
        width = width or {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}.get(self.vr, 1)
        if not encoding.big or width == 1 or len(self.value) % width:
            return self.value
        return b"".join(self.value[at : at + width][::-1] for at in range(0, len(self.value), width))

    def _item(self, elements: list[Element | Raw], encoding: Encoding) -> bytes:
        body = b"".join(one.encode(encoding) for one in elements)
        length = UNDEFINED if self.items_undefined else len(body)
        end = tag(ITEM_END, encoding) + bytes(4) if self.items_undefined else b""
        return tag(ITEM, encoding) + struct.pack(encoding.order + "I", length) + body + end


@dataclass(frozen=True)
class Raw:
    """Bytes that go in as they are; sorted by `where`."""

    where: tuple[int, int]
    data: bytes

    def encode(self, encoding: Encoding) -> bytes:
        """The bytes."""
        return self.data


Part = Element | Raw


def string(group: int, number: int, vr: str, value: str | bytes) -> Element:
    """A text element, padded as PS3.5 section 6.2 says."""
    return Element((group, number), vr, padded(value, b"\0" if vr in ("UI", "OB", "UN") else b" "))


def short(group: int, number: int, *values: int) -> Element:
    """A US element."""
    return Element((group, number), "US", struct.pack(f"<{len(values)}H", *values))


def sequence(group: int, number: int, *items: list[Part], **how: bool) -> Element:
    """A sequence."""
    return Element((group, number), "SQ", list(items), **how)


def fragments(*parts: bytes, table: bytes = b"", end: bool = True, vr: str = "OB") -> Raw:
    """Encapsulated pixel data (PS3.5 section A.4), in explicit VR little endian."""
    data = header(PIXEL_DATA, vr, UNDEFINED, LITTLE)
    for part in (table, *parts):
        data += tag(ITEM, LITTLE) + struct.pack("<I", len(part)) + part
    return Raw(PIXEL_DATA, data + (tag(SEQUENCE_END, LITTLE) + bytes(4) if end else b""))


def image(instance: str | bytes, study: str, *, sop_class: str = CR, side: int = 16) -> dict[tuple[int, int], Part]:
    """A small computed radiograph of nobody, by tag."""
    parts = [
        string(0x0008, 0x0005, "CS", "ISO_IR 100"),
        string(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY"),
        string(0x0008, 0x0016, "UI", sop_class),
        string(0x0008, 0x0018, "UI", instance),
        string(0x0008, 0x0020, "DA", "20200102"),
        string(0x0008, 0x0030, "TM", "101112"),
        string(0x0008, 0x0050, "SH", "ACC1"),
        string(0x0008, 0x0060, "CS", "CR"),
        string(0x0008, 0x0070, "LO", "Cloister"),
        string(0x0008, 0x0090, "PN", ""),
        string(0x0010, 0x0010, "PN", "Conformance^Case"),
        string(0x0010, 0x0020, "LO", "CONF-1"),
        string(0x0010, 0x0030, "DA", "19700101"),
        string(0x0010, 0x0040, "CS", "O"),
        string(0x0018, 0x0015, "CS", "CHEST"),
        string(0x0018, 0x5101, "CS", "PA"),
        string(0x0020, 0x000D, "UI", study),
        string(0x0020, 0x000E, "UI", study + ".1" if len(study) < 62 else study),
        string(0x0020, 0x0010, "SH", "1"),
        string(0x0020, 0x0011, "IS", "1"),
        string(0x0020, 0x0013, "IS", "1"),
        short(0x0028, 0x0002, 1),
        string(0x0028, 0x0004, "CS", "MONOCHROME2"),
        short(0x0028, 0x0010, side),
        short(0x0028, 0x0011, side),
        short(0x0028, 0x0100, 16),
        short(0x0028, 0x0101, 12),
        short(0x0028, 0x0102, 11),
        short(0x0028, 0x0103, 0),
        Element(PIXEL_DATA, "OW", bytes(2 * side * side)),
    ]
    return {part.where: part for part in parts}


def with_parts(parts: dict[tuple[int, int], Part], *changes: Part) -> dict[tuple[int, int], Part]:
    """A copy with elements added or replaced."""
    changed = dict(parts)
    changed.update({change.where: change for change in changes})
    return changed


def without(parts: dict[tuple[int, int], Part], *tags: tuple[int, int]) -> dict[tuple[int, int], Part]:
    """A copy without some elements."""
    return {where: part for where, part in parts.items() if where not in tags}


def encode(parts: dict[tuple[int, int], Part] | list[Part], syntax: str = IMPLICIT, level: int = 6) -> bytes:
    """A data set in a transfer syntax; a dict is sorted by tag, a list is not."""
    ordered = parts if isinstance(parts, list) else [parts[where] for where in sorted(parts)]
    encoding = encoding_of(syntax)
    plain = b"".join(part.encode(encoding) for part in ordered)
    return deflate(plain, level) if syntax == DEFLATED else plain


def deflate(plain: bytes, level: int = 6) -> bytes:
    """RFC 1951 without a wrapper, padded to even length (PS3.5 section A.5)."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    packed = packer.compress(plain) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)


def resized(part: Element, length: int) -> Element:
    """The element with a length that lies."""
    return replace(part, length=length)

