"""presidio-image-redactor as a text detector: every word that its OCR reads becomes a box.

    {"id","image"} lines in, {"id","boxes":[{"frame","x","y","w","h"}]} lines out

What presidio would really redact is a part of this: of the words read, those that its analyzer takes for
personal data. That part needs a language model and the patient's header; the words are its upper bound.
Needs presidio-image-redactor, Tesseract and pydicom in the Python that runs it.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageOps
from presidio_image_redactor import ImagePreprocessor, TesseractOCR
from pydicom.pixels import apply_voi_lut

BORDER = 25  # pixels that its DICOM engine lays around a film before it reads


def frames(file: str) -> list[NDArray[np.uint8]]:
    """8-bit greys of a PNG or DICOM file, as they are shown."""
    if file.endswith(".png"):
        with Image.open(file) as image:
            return [np.asarray(image.convert("L"))]
    ds = pydicom.dcmread(file)
    values = ds.pixel_array
    shown = []
    for frame in values if values.ndim == 3 else [values]:
        seen = np.asarray(apply_voi_lut(frame, ds), dtype=np.float64)
        low, high = seen.min(), seen.max()
        grey = ((seen - low) / max(high - low, 1) * 255).astype(np.uint8)
        shown.append(255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey)
    return shown


def words(
    ocr: TesseractOCR, preprocessor: ImagePreprocessor, grey: NDArray[np.uint8]
) -> Iterator[dict[str, int]]:
    """Boxes of everything read on one frame."""
    framed = ImageOps.expand(Image.fromarray(grey), BORDER, fill=int(np.median(grey)))
    ready, facts = preprocessor.preprocess_image(framed)
    read = ocr.perform_ocr(ready)
    scale = (facts or {}).get("scale_factor", 1)
    for at, text in enumerate(read["text"]):
        if str(text).strip():
            left, top, width, height = (
                int(read[key][at] / scale) for key in ("left", "top", "width", "height")
            )
            yield {"x": left - BORDER, "y": top - BORDER, "w": width, "h": height}


def main() -> None:
    """Answers every line."""
    ocr, preprocessor = TesseractOCR(), ImagePreprocessor()
    for line in sys.stdin:
        asked = json.loads(line)
        boxes = [
            {"frame": number, **box}
            for number, grey in enumerate(frames(asked["image"]))
            for box in words(ocr, preprocessor, grey)
        ]
        print(json.dumps({"id": asked["id"], "boxes": boxes}), flush=True)


if __name__ == "__main__":
    main()
