"""The DICOM conformance suite of Cloister; `run.py` is the way in."""
