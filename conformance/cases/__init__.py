"""The cases, one module per group. Importing them fills the catalogue."""

from . import association, dimse, encoding, hostile, phi, storage

__all__ = ["association", "dimse", "encoding", "hostile", "phi", "storage"]
