"""Films as a modality stores them: PNG, or DICOM with 8 to 16 bits, odd windows and several frames.

Before it: `evaluate_presence` has pixels as they are shown. After it: files for a command. The values
are chosen so that the header's window shows the pixels again; uncompressed, explicit little endian.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.uint8]
DX = "1.2.840.10008.5.1.4.1.1.1.1"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"  # multi-frame grayscale word secondary capture
EXPLICIT = "1.2.840.10008.1.2.1"
PICTURES = 0.1  # share of the films that are PNG
LONG = {"OB", "OW", "SQ", "UN", "UT"}


@dataclass(frozen=True)
class Storage:
    """How one film is stored."""

    bits: int  # stored; 8 means PNG's range, more means 16 allocated
    inverse: bool  # MONOCHROME1
    low: int  # stored value that is shown black (white if inverse)
    width: int  # of the window
    dicom: bool


def storage(seed: int) -> Storage:
    """One film in ten is a PNG; the others have some bits and a window somewhere in them."""
    rng = random.Random(seed ^ 0x5EED)
    if rng.random() < PICTURES:
        return Storage(8, False, 0, 255, False)
    bits = rng.choice((8, 10, 12, 12, 14, 16))
    top = (1 << bits) - 1
    width = top if bits == 8 or rng.random() < 0.3 else rng.randint(min(300, top), top)
    return Storage(bits, rng.random() < 0.3, rng.randint(0, top - width), width, True)


def values(pixels: Grey, how: Storage, seed: int) -> NDArray[np.uint16]:
    """Stored values: a level of the 8 bits becomes any of the values that are shown as it."""
    shown = 255 - pixels if how.inverse else pixels
    step = how.width / 255
    room = max(0.0, 0.49 - 0.5 / step)  # rounding must not show another level
    spread = np.random.default_rng(seed).uniform(-room, room, pixels.shape)
    stored = np.round(how.low + (shown + spread) * step)
    return np.clip(stored, how.low, how.low + how.width).astype(np.uint16)


def _element(group: int, number: int, kind: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if kind in ("UI", "OB", "OW") else b" "
    head = struct.pack("<HH", group, number) + kind.encode()
    return (
        head + (struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))) + value
    )


def _short(number: int) -> bytes:
    return struct.pack("<H", number)


def dicom(frames: list[Grey], how: Storage, seed: int) -> bytes:
    """A film's bytes; frames are of one size."""
    rows, columns = frames[0].shape
    allocated = 8 if how.bits == 8 else 16
    kind = "<u1" if allocated == 8 else "<u2"
    pixels = b"".join(values(frame, how, seed).astype(kind).tobytes() for frame in frames)
    sop_class = (DX if len(frames) == 1 else MULTI_FRAME).encode()
    instance = f"2.25.{seed + 1}".encode()
    meta = b"".join(
        (
            _element(2, 1, "OB", b"\0\1"), _element(2, 2, "UI", sop_class), _element(2, 3, "UI", instance),
            _element(2, 0x10, "UI", EXPLICIT.encode()), _element(2, 0x12, "UI", b"2.25.5"),
        )
    )  # fmt: skip
    centre = f"{how.low + how.width / 2:.1f}".encode()
    body = [
        _element(8, 0x16, "UI", sop_class), _element(8, 0x18, "UI", instance),
        _element(8, 0x60, "CS", b"DX" if len(frames) == 1 else b"OT"),
        _element(0x20, 0xD, "UI", instance + b".1"), _element(0x20, 0xE, "UI", instance + b".2"),
        _element(0x28, 2, "US", _short(1)),
        _element(0x28, 4, "CS", b"MONOCHROME1" if how.inverse else b"MONOCHROME2"),
    ]  # fmt: skip
    if len(frames) > 1:
        body.append(_element(0x28, 8, "IS", str(len(frames)).encode()))
    body += [
        _element(0x28, 0x10, "US", _short(rows)), _element(0x28, 0x11, "US", _short(columns)),
        _element(0x28, 0x100, "US", _short(allocated)), _element(0x28, 0x101, "US", _short(how.bits)),
        _element(0x28, 0x102, "US", _short(how.bits - 1)), _element(0x28, 0x103, "US", _short(0)),
        _element(0x28, 0x1050, "DS", centre), _element(0x28, 0x1051, "DS", str(how.width + 1).encode()),
        _element(0x7FE0, 0x10, "OB" if allocated == 8 else "OW", pixels),
    ]  # fmt: skip
    length = _element(2, 0, "UL", struct.pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + length + meta + b"".join(body)


def write(frames: list[Grey], how: Storage, seed: int, folder: Path) -> Path:
    """Writes a film; several frames are always DICOM."""
    if how.dicom or len(frames) > 1:
        file = folder / f"{seed}.dcm"
        file.write_bytes(dicom(frames, how, seed))
    else:
        file = folder / f"{seed}.png"
        Image.fromarray(frames[0]).save(file, "PNG", compress_level=1)
    return file
