"""Decodes every file of a list with pydicom's raw decoder and writes the samples for the Rust test.

    decode.py FOLDER OUT [--facts]

FOLDER holds inventory.csv; every file that its `decode` column calls decodable becomes OUT/<n>.raw
(little endian, frames × rows × columns × samples) and a line of OUT/index.tsv:
n, file, family, frames, rows, columns, samples, photometric interpretation, kind (u, i or f), bytes.
With --facts, the lines of src/decode/facts.tsv go to the standard output instead.
Leaves with 3 where pydicom, numpy or a decoder plugin is missing.
"""

import csv
import sys
import zlib
from pathlib import Path

try:
    import numpy as np
    import pydicom
    from pydicom.pixels import get_decoder
    import gdcm, openjpeg, libjpeg, jpeg_ls  # noqa: E401, F401
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

LOSSY = {".4.50", ".4.51", ".4.81", ".4.91", ".4.203"}


def samples(ds):
    decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
    array, facts = decoder.as_array(ds, raw=True)
    return array, facts["photometric_interpretation"]


def main():
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2])
    facts = "--facts" in sys.argv
    index = None if facts else (out / "index.tsv").open("w")
    number = 0
    for row in csv.DictReader((folder / "inventory.csv").open()):
        if not row["decode"].startswith("ok"):
            continue
        name = row["file"]
        try:
            ds = pydicom.dcmread(folder / name, force=True)
            array, photometric = samples(ds)
        except Exception as error:  # the plugins of this machine are not those of the inventory
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
            continue
        frames = int(ds.get("NumberOfFrames", 1) or 1)
        count = int(ds.get("SamplesPerPixel", 1))
        array = array.reshape(frames, ds.Rows, ds.Columns, count)
        tail = str(ds.file_meta.TransferSyntaxUID).removeprefix("1.2.840.10008.1.2")
        family = "lossy" if tail in LOSSY else "exact"
        shape = [frames, ds.Rows, ds.Columns, count, photometric]
        little = array.astype(array.dtype.newbyteorder("<"))
        if facts:
            kind = array.dtype.kind
            if kind == "f":
                continue
            wide = array.astype("<i8")
            crc = zlib.crc32(wide.astype("<i8").tobytes())
            values = [wide.min(), wide.max(), wide.sum(), f"{crc:08x}"]
            print("\t".join(str(v) for v in [name, family, *shape, *values]))
        else:
            (out / f"{number}.raw").write_bytes(little.tobytes())
            fields = [number, name, family, *shape, little.dtype.kind, little.dtype.itemsize]
            index.write("\t".join(str(v) for v in fields) + "\n")
        number += 1


main()
