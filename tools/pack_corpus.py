#!/usr/bin/env python3
"""Packs the inputs that a fuzz target's corpus was minimized to into one file, the same bytes each time.

    python3 tools/pack_corpus.py FOLDER fuzz/corpus/TARGET.zip

Names are the SHA-256 of the contents. `make fuzz` takes the files out again before it runs.
"""

import hashlib
import sys
import zipfile
from pathlib import Path


def pack(folder: Path, target: Path) -> int:
    """Number of inputs packed."""
    inputs = {hashlib.sha256(data).hexdigest(): data for data in (one.read_bytes() for one in folder.iterdir())}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(inputs.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return len(inputs)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(f"{sys.argv[2]}: {pack(Path(sys.argv[1]), Path(sys.argv[2]))} inputs")
